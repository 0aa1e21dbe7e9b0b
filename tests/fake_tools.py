"""Stand-ins for the programs on a developer's machine, and a web server on this one."""

from __future__ import annotations

import http.server
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loopback_server import serving

from envkit import consent, install, localhost_names, mise, paths, process, tool_versions
from envkit.progress import Steps

REGISTRY = "k3d-shop-registry.localhost"

RIGHT = {
    "k3d": "echo 'k3d version v5.9.0'",
    "kubectl": "echo 'Client Version: v1.36.4'",
    "helm": "echo v4.3.0+g1234567",
    "just": "echo just 1.58.0",
    "node": "echo v24.21.0",
    "buildah": "echo 'buildah version 1.33.7 (image-spec 1.1.0)'",
    "python3": "echo Python 3.12.4",
}
"""What each tool prints where it has a right version."""


class Machine:
    """A machine whose PATH holds only stand-ins; each call of one is remembered.

    Attributes:
        bin: The folder on PATH.
        tools_bin: The repository's own folder of tools.
        resolving: Names under localhost that resolve.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.tools_bin = folder / "repo" / ".tools" / "bin"
        self.resolving: set[str] = set()
        self._calls = folder / "calls"
        for path in (self.bin, self.home):
            path.mkdir(parents=True)
        for name in ("sh", "cat", "cp", "chmod", "mkdir", "touch", "env"):
            source = next(p for p in (Path("/usr/bin", name), Path("/bin", name)) if p.exists())
            (self.bin / name).symlink_to(source)

    def add(self, name: str, body: str, *, folder: Path | None = None) -> Path:
        """Adds an executable; `body` is what it does, in sh."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self._calls}\n{body}\n')
        path.chmod(0o755)
        return path

    def add_right_tools(self, *, but: str = "") -> None:
        """Adds every tool in a right version, except those named in `but`, divided by spaces."""
        for name, body in RIGHT.items():
            if name not in but.split():
                self.add(name, body)

    def add_mise(self, installs: dict[str, str], *, version: str = "2026.10.7") -> None:
        """Adds a mise that installs these tools (name: what the tool does) and fails for all others."""
        store = self.folder / "mise"
        for name, body in installs.items():
            self.add(name, body, folder=store / name)
        self.add(
            "mise",
            f"""
[ "$1" = --version ] && {{ echo "{version} linux-x64 (2026-10-09)"; exit; }}
[ "$1" = -C ] && shift 2
case $1 in
  install)
    [ -d {store}/$2 ] || {{ echo "mise ERROR Failed to install $2: 404 Not Found" >&2; exit 1; }}
    touch {store}/$2/.installed
    ;;
  which)
    tool=${{4%%@*}}
    [ -e {store}/$tool/.installed ] || exit 1
    echo {store}/$tool/$2
    ;;
esac""",
        )

    def add_package_manager(self, name: str, packages: dict[str, str]) -> None:
        """Adds apt-get or dnf that installs these packages (name: what the executable does)."""
        store = self.folder / "packages"
        for package, body in packages.items():
            self.add(package, body, folder=store)
        if name == "apt-get":
            self.add("apt-cache", 'echo "  Candidate: 1.0"')
        self.add(
            name,
            f"""
[ "$1" = update ] && exit
[ -e {store}/$3 ] || {{ echo "E: Unable to locate package $3" >&2; exit 100; }}
cp {store}/$3 {self.bin}/$3""",
        )

    def add_sudo(self, *, refuses: bool = False) -> None:
        """Adds sudo, which runs the command, or asks for a password that nobody can give."""
        body = "echo 'sudo: a password is required' >&2; exit 1"
        self.add("sudo", body if refuses else '[ "$1" = -n ] && shift; [ "$1" = -v ] && exit; exec "$@"')

    @property
    def calls(self) -> list[str]:
        """The calls so far, those that only ask for a version left out."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        queries = ("--version", "version", "version --client", "version --short")
        return [line for line in lines if line.partition(" ")[2] not in queries]

    def forget_calls(self) -> None:
        """Makes `calls` empty."""
        self._calls.unlink(missing_ok=True)

    def install(self, **options: object) -> str:
        """Runs `run_install` and returns what it showed; its error goes on up."""
        shown = io.StringIO()
        try:
            with Steps(shown) as steps:
                install.run_install(steps, registry_host=REGISTRY, **options)  # type: ignore[arg-type]
        finally:
            self.shown = shown.getvalue()
        return self.shown


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A bare Linux machine, used by an ordinary user without a terminal."""
    machine = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(machine.bin))
    monkeypatch.setenv("HOME", str(machine.home))
    monkeypatch.setenv("SHELL", "/bin/zsh")
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    for name in (
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "WSL_DISTRO_NAME",
        "XDG_DATA_HOME",
        "PYENV_ROOT",
        "ENVKIT_JUST",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("MISE_OFFLINE", "MISE_TRUSTED_CONFIG_PATHS", "MISE_CEILING_PATHS", "ENVKIT_DOWNLOAD_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    for module in (paths, process, tool_versions, install, mise):
        monkeypatch.setattr(module, "TOOLS_BIN", machine.tools_bin)
    monkeypatch.setattr(tool_versions, "ROOT", tmp_path / "repo")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(install, "_is_root", lambda: False)
    monkeypatch.setattr(consent, "can_ask", lambda: False)
    monkeypatch.setattr(localhost_names, "resolves", lambda name: name in machine.resolving)
    machine.resolving.add(REGISTRY)
    return machine


class WebServer:
    """Serves files over HTTP on a loopback address and remembers what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.promised: dict[str, int] = {}
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def web_server() -> Iterator[WebServer]:
    """A running `WebServer`."""
    served = WebServer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            content = served.files.get(self.path)
            self.send_response(404 if content is None else 200)
            body = content or b""
            self.send_header("Content-Length", str(served.promised.get(self.path, len(body))))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with serving(Handler) as host:
        served.url = f"http://{host}"
        yield served


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A web server for one test."""
    with web_server() as served:
        yield served


def url_replacements(server: WebServer) -> str:
    """The setting of mise that sends every download to the server."""
    return json.dumps({"regex:^https://": f"{server.url}/"})
