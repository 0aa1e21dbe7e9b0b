"""The developer's own settings: the lines of a `.env`, read by one rule."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from envkit.errors import UserError
from envkit.wording import quoted

RUNNER_KEYS = (
    "GITHUB_APP_ID",
    "GITHUB_APP_INSTALLATION_ID",
    "GITHUB_APP_PRIVATE_KEY_PATH",
    "GITHUB_CA_FILE",
    "GITHUB_CONFIG_URL",
    "GITHUB_TOKEN",
    "RUNNER_NAME",
)
"""The lines that concern runners."""


def read_dotenv(path: Path) -> dict[str, str]:
    """The lines that set something, as they stand: no variable of the process is put into them.

    Of several lines of a name the last counts; where that is empty, nothing is set. A missing file sets nothing.

    Raises UserError where the file cannot be read, or where a line sets nothing and is no comment.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read.", str(error), f"ls -l {quoted(path)}") from error
    values = {}
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original
        if binding.error:
            line = original.line + len(original.string) - len(original.string.lstrip("\n"))
            raise UserError(f"{path} has a line that is not NAME=value.", f"It is line {line}.", f"Correct {path}.")
        if binding.key:
            values[binding.key] = (binding.value or "").strip()
    return {key: value for key, value in values.items() if value}


def refuse_mistyped(values: Mapping[str, str], known: Iterable[str], path: Path) -> None:
    """Raises UserError where a name is nearly one that is read; other tools may have lines of their own there."""
    known = list(known)
    for key in values:
        if key in known:
            continue
        import difflib  # only for a name that is not ours

        if nearest := difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.8):
            raise UserError(
                f"{path} sets {key}, which nothing reads.",
                f"Did you mean {nearest[0]}?",
                f"Correct the line in {path}.",
            )
