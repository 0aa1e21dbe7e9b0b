"""Errors that a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

TIMED_OUT = 124
"""Exit status of a tool that was ended because it took too long, as `timeout` of GNU coreutils has it."""


class UserError(Exception):
    """Something the person at the keyboard can put right.

    Attributes:
        what: What happened, one sentence.
        why: The cause; may be empty where `what` says it all, may have several lines.
        next_step: The exact command or edit that leads on.
    """

    def __init__(self, what: str, why: str = "", next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [f"error: {self.what}"]
        lines += [f"  {line}" for line in self.why.splitlines()]
        lines += [
            f"  next: {line}" if not i else f"        {line}" for i, line in enumerate(self.next_step.splitlines())
        ]
        return "\n".join(lines)


class CommandFailedError(UserError):
    """A tool ended with a non-zero exit status.

    Attributes:
        status: The tool's exit status.
        output: The end of what it printed, with secrets taken out.
    """

    def __init__(self, what: str, *, status: int, output: str, next_step: str = "") -> None:
        super().__init__(what, output, next_step)
        self.status = status
        self.output = output


def validation_problems(error: ValidationError) -> str:
    """What a model found wrong, a line for each place."""
    return "\n".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    )
