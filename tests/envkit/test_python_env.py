"""Where `bin/python-env` takes Python packages from."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy2, rmtree

import pytest
from support import ROOT, wait_for

LED = ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_TRUSTED_HOST", "UV_PYTHON_INSTALL_MIRROR")


@dataclass(frozen=True)
class Repository:
    """An environment's repository, as far as `python-env` sees it, and a person's machine.

    Attributes:
        root: The repository.
        variables: The person's environment variables.
    """

    root: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *index: str, expect: int = 0) -> str:
        """Makes the virtual environment; returns what is said."""
        with self.started(*index) as process:
            status = process.wait(timeout=60)
        assert status == expect, self.said.read_text(encoding="utf-8")
        return self.said.read_text(encoding="utf-8")

    @property
    def said(self) -> Path:
        """The file with what is said."""
        return self.root / "said"

    @contextmanager
    def started(self, *index: str) -> Iterator[subprocess.Popen[bytes]]:
        """Begins to make it."""
        command = [str(self.root / name) for name in ("bin/python-env", ".venv", "requirements.txt")]
        with (
            self.said.open("wb") as said,
            subprocess.Popen([*command, *index], env=self.variables, stderr=said) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def name_mirrors(self, text: str) -> None:
        """Writes the table of mirrors."""
        (self.root / "environment.toml").write_text(f'project = "shop"\n\n[mirrors]\n{text}\n', encoding="utf-8")

    def add_uv(self) -> None:
        """Puts a uv on PATH that writes down where it is led to."""
        shown = "\n".join(f'echo "{name}=${{{name}:-}}"' for name in LED)
        uv = self.root / "path" / "uv"
        uv.parent.mkdir()
        python = self.root / ".venv" / "bin" / "python"
        made = f'mkdir -p "{python.parent}" && : >"{python}" && chmod +x "{python}"'
        uv.write_text(f'#!/bin/sh\n{made}\n{{\n{shown}\n}} >"{self.root}/led"\n', encoding="utf-8")
        uv.chmod(0o755)
        self.variables["PATH"] = f"{uv.parent}:{self.variables['PATH']}"

    def led(self) -> dict[str, str]:
        """Where that uv was led to."""
        lines = (line.partition("=") for line in (self.root / "led").read_text(encoding="utf-8").splitlines())
        return {name: value for name, _, value in lines if value}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    root = tmp_path / "env"
    (root / "bin").mkdir(parents=True)
    copy2(ROOT / "template" / "bin" / "python-env", root / "bin")
    (root / "requirements.txt").write_text("demo==1.0\n", encoding="utf-8")
    return Repository(root, {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHON": sys.executable})


@pytest.fixture
def holder(repository: Repository) -> Iterator[Callable[[str], int]]:
    """Has a program of this name hold the lock; returns its number."""
    running: list[subprocess.Popen[bytes]] = []

    def hold(name: str) -> int:
        program = repository.root / name
        program.write_text("#!/bin/sh\nsleep 60\n", encoding="utf-8")
        program.chmod(0o755)
        running.append(subprocess.Popen([program], start_new_session=True))
        lock = repository.root / ".venv.lock"
        lock.mkdir()
        (lock / "pid").write_text(f"{running[0].pid}\n", encoding="utf-8")
        return running[0].pid

    yield hold
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_one_that_waits_for_another_says_once_for_whom_and_where_the_lock_is(
    repository: Repository, holder: Callable[[str], int]
) -> None:
    repository.add_uv()
    number = holder("python-env")
    lock = repository.root / ".venv.lock"

    deadline = time.monotonic() + 10
    with repository.started() as process:
        while not repository.said.read_text(encoding="utf-8").endswith("\n"):
            assert time.monotonic() < deadline, "nothing was said"
            time.sleep(0.01)
        time.sleep(0.5)  # for what would be said again
        rmtree(lock)
        assert process.wait(30) == 0

    lines = repository.said.read_text(encoding="utf-8").splitlines()
    waiting = f"Waiting for process {number}, which prepares the Python packages (lock: {lock}) ..."
    assert [line for line in lines if "Waiting" in line] == [waiting]


def test_a_number_that_is_another_programs_by_now_holds_no_lock(
    repository: Repository, holder: Callable[[str], int]
) -> None:
    repository.add_uv()
    holder("editor")

    assert "Waiting" not in repository.run()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the time of the start is read as Linux tells it")
def test_a_lock_that_is_older_than_the_start_of_the_machine_is_taken(
    repository: Repository, holder: Callable[[str], int]
) -> None:
    repository.add_uv()
    holder("python-env")
    started = next(
        int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime ")
    )
    os.utime(repository.root / ".venv.lock", (started - 300, started - 300))

    assert "Waiting" not in repository.run()


def test_a_lock_that_cannot_be_made_is_an_error(repository: Repository) -> None:
    said = subprocess.run(
        [
            repository.root / "bin" / "python-env",
            repository.root / "none" / ".venv",
            repository.root / "requirements.txt",
        ],
        env=repository.variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert said.returncode == 1
    assert f"cannot be made. Look at: ls -ld '{repository.root / 'none'}'" in said.stderr


def test_ctrl_c_leaves_nothing_that_goes_on_writing_packages(repository: Repository) -> None:
    repository.add_uv()
    number = repository.root / "number"
    (repository.root / "path" / "uv").write_text(f'#!/bin/sh\necho $$ >"{number}"\nexec sleep 30\n', encoding="utf-8")
    terminal, end = pty.openpty()
    command = [str(repository.root / name) for name in ("bin/python-env", ".venv", "requirements.txt")]

    with subprocess.Popen(
        command,
        env=repository.variables,
        stdin=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - there are no threads
    ) as process:
        wait_for(number)
        while not number.read_text(encoding="utf-8"):
            time.sleep(0.01)
        os.write(terminal, b"\x03")
        assert process.wait(10) == 130
    os.close(terminal)
    os.close(end)

    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text(encoding="utf-8")), 0)
    assert not (repository.root / ".venv.lock").exists()


def test_on_a_terminal_the_seconds_are_counted_and_taken_away_again(repository: Repository) -> None:
    repository.add_uv()
    terminal, end = pty.openpty()
    command = [str(repository.root / name) for name in ("bin/python-env", ".venv", "requirements.txt")]

    assert subprocess.run(command, env=repository.variables, stderr=end, check=False, timeout=30).returncode == 0
    os.close(end)

    said = os.read(terminal, 4096).decode()
    os.close(terminal)
    assert said.startswith("\rPreparing Python packages ... 0 s ")
    assert said.endswith("\r\x1b[K")


def test_the_index_that_did_not_serve_is_named(repository: Repository) -> None:
    python = repository.root / "path" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\n[ "$1" != -m ] || { echo "no such package"; exit 1; }\n', encoding="utf-8")
    python.chmod(0o755)
    repository.variables["PYTHON"] = str(python)

    said = repository.run("https://mirror.example/simple", expect=1)

    assert "    no such package\n" in said
    assert "They were looked for at https://mirror.example/simple, as the answer python_index says." in said
    assert not (repository.root / ".venv" / "requirements.installed").exists()


def test_nothing_is_led_elsewhere_without_mirrors(repository: Repository) -> None:
    repository.add_uv()
    repository.run()
    assert repository.led() == {}


@pytest.mark.parametrize("line", ['python_index = "{}"', "python_index='{}'  # ours", '  python_index   =   "{}"'])
def test_the_index_is_read_however_the_line_is_written(repository: Repository, line: str) -> None:
    repository.add_uv()
    repository.name_mirrors(line.format("https://mirror.example/simple"))
    repository.run()
    assert repository.led() == dict.fromkeys(("PIP_INDEX_URL", "UV_INDEX_URL"), "https://mirror.example/simple")


def test_a_host_of_plain_http_is_named_to_pip(repository: Repository) -> None:
    repository.add_uv()
    repository.name_mirrors('python_index = "http://mirror.example:8081/simple"')
    repository.run()
    assert repository.led()["PIP_TRUSTED_HOST"] == "mirror.example:8081"


def test_an_index_that_is_given_goes_before_the_environment_s(repository: Repository) -> None:
    repository.add_uv()
    repository.name_mirrors('python_index = "https://mirror.example/simple"')
    repository.run("https://given.example/simple")
    assert repository.led()["UV_INDEX_URL"] == "https://given.example/simple"


@pytest.mark.parametrize("variable", ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_the_person_s_own_index_goes_before_all(repository: Repository, variable: str) -> None:
    repository.add_uv()
    repository.variables[variable] = "https://own.example/simple"
    repository.name_mirrors('python_index = "https://mirror.example/simple"')
    repository.run("https://given.example/simple")
    assert repository.led() == {variable: "https://own.example/simple"}


def test_a_python_that_uv_brings_comes_from_the_download_mirror(repository: Repository) -> None:
    repository.add_uv()
    repository.name_mirrors('downloads = "https://mirror.example/downloads/"')
    repository.run()
    assert repository.led() == {
        "UV_PYTHON_INSTALL_MIRROR": "https://mirror.example/downloads"
        "/github.com/astral-sh/python-build-standalone/releases/download"
    }
