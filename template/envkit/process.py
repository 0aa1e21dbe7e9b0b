"""Calls of other programs: with a clean environment, without secrets in what is shown."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from envkit.errors import TIMED_OUT, CommandFailedError, UserError
from envkit.paths import TOOLS_BIN, just_command
from envkit.wording import quoted

# k3d lets K3D_* variables override its config file, so a stray K3D_SERVERS would change the cluster.
# These say where k3d's own helper images come from and which fixes it applies; people set them on purpose.
_K3D_KEPT = re.compile(r"K3D_(IMAGE_|HELPER_IMAGE_TAG$|FIX_|LOG_)")

_TOKEN = re.compile(
    r"(?i)((?:token|password|secret|client-key-data)[\"']?\s*[=:]\s*[\"']?|--token\s+|authorization:\s*\w+\s+)[^\s\"',}]+"
)
_CREDENTIALS = re.compile(r"(?i)(https?://)[^\s/@\"']+@")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_PRIVATE_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_PRIVATE_KEY_END = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")

_KEPT_LINES = 20
_LAST_LOOK_SECONDS = 0.2
"""What a tool gets whose time is over before anyone asks for its output: it may have ended long ago."""

_CTRL_C_SECONDS = 10.0
"""What a tool gets to end by itself that Ctrl-C has reached, too."""

_END_SECONDS = 5.0
"""What a tool gets to end by itself that never got its input. It would take half a second."""

_INSTALLED_BY_HAND = {"docker": "Install Docker: https://docs.docker.com/engine/install/"}
"""What `install` does not bring."""


def tool_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a tool: the pinned tools first on PATH, no `K3D_*` settings, no PYTHONPATH of ours.

    Nor does kubectl take defaults from the developer's `kuberc`, which it reads since 1.34: with `interactive` set for
    `delete` there, it would ask a question that nobody answers, delete nothing and call that a success.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("K3D_") or _K3D_KEPT.match(k)}
    env.pop("PYTHONPATH", None)
    env["KUBERC"] = "off"
    env["PATH"] = os.pathsep.join([str(TOOLS_BIN), env.get("PATH", os.defpath)])
    env.update(extra or {})
    return env


def find_tool(name: str) -> str | None:
    """The path of a program as the tools see it, or None."""
    return shutil.which(name, path=tool_environment()["PATH"])


def require_tool(name: str) -> str:
    """The path of a program; UserError that says how to install it where it is missing."""
    if path := find_tool(name):
        return path
    raise UserError(
        f"{name} is not installed.",
        f"It was looked for in {TOOLS_BIN} and on PATH.",
        _INSTALLED_BY_HAND.get(name, f"{just_command()} install"),
    )


def redact(text: str) -> str:
    """The text without cluster tokens, passwords, private keys and what stands before the host of an address."""
    text = _CREDENTIALS.sub(r"\1***@", _PRIVATE_KEY.sub("*** private key ***", text))
    return _TOKEN.sub(r"\1***", text)


def capture(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    next_step: str = "",
) -> str:
    """Runs a tool and returns its standard output.

    Args:
        argv: The program (found as `require_tool` finds it) and its arguments.
        env: Variables added to `tool_environment()`.
        stdin: Text for the standard input; without it the input is empty.
        timeout: Seconds after which the tool is ended.
        next_step: What the person should do if the tool fails.

    Raises:
        CommandFailedError: It ended with a non-zero status, or did not end in time (status 124).
        UserError: It is not installed, or is no program for this machine.
    """
    with running(argv, env=env) as tool:
        return tool.output(stdin or "", timeout=timeout, next_step=next_step)


class RunningTool:
    """A tool that runs beside us and whose standard output may be wanted."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[str]) -> None:
        self._argv = argv
        self._process = process
        self._started = time.monotonic()

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def output(self, stdin: str = "", *, timeout: float | None = None, next_step: str = "") -> str:
        """Waits for its end and returns its standard output.

        Args:
            stdin: Text for its standard input.
            timeout: Seconds after its start at which it is ended.
            next_step: What the person should do if it fails.

        Raises CommandFailedError as `capture` does.
        """
        left = None if timeout is None else max(self._started + timeout - time.monotonic(), _LAST_LOOK_SECONDS)
        try:
            output, errors = self._process.communicate(stdin, left)
        except subprocess.TimeoutExpired as error:
            raise CommandFailedError(
                f"`{_shown(self._argv)}` did not end within {timeout:.0f} s.",
                status=TIMED_OUT,
                output="",
                next_step=next_step,
            ) from error
        if self._process.returncode:
            raise CommandFailedError(
                f"`{_shown(self._argv)}` failed with exit status {self._process.returncode}.",
                status=self._process.returncode,
                output=_tail((errors or output).splitlines()),
                next_step=next_step,
            )
        return output


@contextmanager
def running(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Iterator[RunningTool]:
    """Starts a tool; one that still runs when it is left is killed.

    Args:
        argv: The program (found as `require_tool` finds it) and its arguments.
        env: Variables added to `tool_environment()`.

    Raises UserError where it is not installed, or is no program for this machine.
    """
    command = [require_tool(argv[0]), *argv[1:]]
    try:
        process = subprocess.Popen(
            command,
            env=tool_environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise _not_a_program(command[0], error) from error
    with process:
        try:
            yield RunningTool(argv, process)
        finally:
            process.kill()  # without effect on one that has ended


def stream(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    pass_fds: Sequence[int] = (),
    next_step: str = "",
) -> None:
    """Runs a tool, hands each line of its output (both streams, redacted) to `on_line` as it comes.

    `pass_fds` are kept open in the tool: a lock that it inherits stays held until it ends, even if we are killed.

    Raises:
        CommandFailedError: It ended with a non-zero status; the error carries the last lines.
        UserError: It is not installed, or is no program for this machine.
    """
    with started(argv, env=env, pass_fds=pass_fds) as tool:
        tool.finish(stdin, on_line, next_step=next_step)


class StartedTool:
    """A tool that runs and waits for its standard input."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[str]) -> None:
        self._argv = argv
        self._process = process

    def finish(self, stdin: str, on_line: Callable[[str], None], *, next_step: str = "") -> None:
        """Gives it the input, and hands its lines over as `stream` does; raises CommandFailedError as that does."""
        last: deque[str] = deque(maxlen=_KEPT_LINES)
        _feed(self._process, stdin)
        output = cast("IO[str]", self._process.stdout)  # there is one, because it was asked for
        for line in _redacted(output):
            last.append(line)
            on_line(line)
        if self._process.wait():
            raise CommandFailedError(
                f"`{_shown(self._argv)}` failed with exit status {self._process.returncode}.",
                status=self._process.returncode,
                output=_tail(list(last)),
                next_step=next_step,
            )


@contextmanager
def started(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> Iterator[StartedTool]:
    """Starts a tool whose input is not known yet; it is ended if it is left without `finish`.

    Raises UserError where it is not installed, or is no program for this machine.
    """
    command = [require_tool(argv[0]), *argv[1:]]
    try:
        process = subprocess.Popen(
            command,
            env=tool_environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=pass_fds,
        )
    except OSError as error:
        raise _not_a_program(command[0], error) from error
    pipe = cast("IO[str]", process.stdin)
    with process:
        try:
            yield StartedTool(argv, process)
        except BaseException:
            if pipe.closed:
                # Ctrl-C reaches the tool too (same terminal); it gets a moment to end by itself.
                _kill_after(process, _CTRL_C_SECONDS)
            raise
        finally:
            if not pipe.closed:
                _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a tool that waits for its input, so there is nothing to lose.

    As after Ctrl-C it removes its temporary files. Ansible, though, can be met where it ends its own processes, and
    waits for them for ever then: seen once in a hundred times.
    """
    process.send_signal(signal.SIGINT)
    _feed(process, "")  # the end of the input, for one that ignores the signal
    _kill_after(process, _END_SECONDS)


def _kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()


def _feed(process: subprocess.Popen[str], text: str) -> None:
    pipe = cast("IO[str]", process.stdin)
    # A tool that ends before it has read everything says why itself. Closing flushes, so it can meet the same end.
    with suppress(BrokenPipeError):
        pipe.write(text)
    with suppress(BrokenPipeError):
        pipe.close()


def _redacted(lines: Iterable[str]) -> Iterator[str]:
    """The lines without secrets; a private key, which takes many lines, becomes one."""
    in_key = False
    for raw in lines:
        line = raw.rstrip()
        if not in_key:
            yield redact(line)
        in_key = (in_key or bool(_PRIVATE_KEY_BEGIN.search(line))) and not _PRIVATE_KEY_END.search(line)


def _not_a_program(path: str, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be run.",
        str(error),
        f"file {quoted(Path(path))}"
        f"   (is it for this kind of machine? if not, remove it, then: {just_command()} install)",
    )


def _shown(argv: Sequence[str]) -> str:
    return redact(shlex.join(argv))


def _tail(lines: list[str]) -> str:
    return redact("\n".join(line for line in lines[-_KEPT_LINES:] if line.strip()))
