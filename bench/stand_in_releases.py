"""A web server on this machine that publishes small stand-ins for the tools of the runner image, with their true sums.

They lie where `runner/tools.toml` says, below the folder of their host: what RUNNER_MIRROR and ENVKIT_DOWNLOAD_MIRROR
point at. npm finds its packages here too. A stand-in is a shell script that prints its version.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import io
import json
import random
import re
import tarfile
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

ARCHITECTURES = ("amd64", "arm64")


class Releases:
    """The server; use as a context manager.

    Attributes:
        files: Path to content.
        asked: The paths that were asked for, in order.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._sizes: dict[str, int] = {}
        releases = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                releases.asked.append(self.path)
                content = releases.files.get(self.path.replace("%2f", "/"))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                """Keeps quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def variables(self) -> dict[str, str]:
        """What makes the recipes and npm come here."""
        return {"ENVKIT_DOWNLOAD_MIRROR": self.url, "npm_config_registry": self.url}

    def publish(self, repository: Path, *, sizes: Mapping[str, int] | None = None) -> None:
        """Publishes every version that a repository's tools.toml and tools.local.toml name, and writes the sums there.

        Args:
            repository: A generated environment.
            sizes: How many bytes a tool has besides its program; none where it is not named.
        """
        self._sizes = dict(sizes or {})
        for path in sorted((repository / "runner").glob("tools*.toml")):
            for name, tool in tomllib.loads(path.read_text(encoding="utf-8"))["tools"].items():
                for arch in ARCHITECTURES:
                    self._publish_tool(path, name, tool, arch)

    def bump(self, repository: Path, name: str, version: str) -> None:
        """Publishes another version of one tool and pins it."""
        path = repository / "runner" / "tools.toml"
        tool = tomllib.loads(path.read_text(encoding="utf-8"))["tools"][name]
        write_pin(path, name, "version", version)
        for arch in ARCHITECTURES:
            self._publish_tool(path, name, tool | {"version": version}, arch)

    def _publish_tool(self, path: Path, name: str, tool: dict[str, Any], arch: str) -> None:
        def expand(text: str) -> str:
            return text.replace("{version}", tool["version"]).replace("{arch}", tool.get("arch", {}).get(arch, arch))

        content = stand_in(name, tool["version"], expand(tool.get("unpack", "")), self._sizes.get(name, 0))
        if "npm" in tool:
            self._publish_package(expand(tool["npm"]), tool["version"], content)
        else:
            self.files["/" + expand(tool["url"]).partition("://")[2]] = content
        write_pin(path, name, "checked", tool["version"])
        write_pin(path, name, f"sha256.{arch}", hashlib.sha256(content).hexdigest())

    def _publish_package(self, package: str, version: str, content: bytes) -> None:
        archive = f"/{package}/-/{version}.tgz"
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        manifest = {
            "name": package,
            "version": version,
            "dist": {"tarball": self.url + archive, "integrity": integrity},
        }
        document = {"name": package, "dist-tags": {"latest": version}, "versions": {version: manifest}}
        self.files[f"/{package}"] = json.dumps(document).encode()
        self.files[archive] = content


def stand_in(name: str, version: str, unpack: str, size: int = 0) -> bytes:
    """A program that prints its version, packed as the tool is: alone, in an archive, or in a folder `go/bin`."""
    program = f"#!/bin/sh\necho '{name} version {version}'\nexit\n".encode()
    program += random.Random(f"{name} {version}").randbytes(size)  # incompressible, as programs nearly are
    if not unpack:
        return program
    members = {"go/bin/go": program} if unpack == "go" else {unpack: program}
    if unpack.startswith("package/"):
        members["package/package.json"] = json.dumps({"name": name, "version": version}).encode()
    packed = io.BytesIO()
    # Without the time, which would give it another sum in the next second.
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for path, content in members.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def write_pin(path: Path, tool: str, key: str, value: str) -> None:
    """Changes one value of a tool in tools.toml."""
    pattern = re.compile(rf'(\[tools\.{re.escape(tool)}\]\n(?:[^\[].*\n)*?{re.escape(key)} = )"[^"]*"')
    text, number = pattern.subn(rf'\g<1>"{value}"', path.read_text(encoding="utf-8"))
    if number != 1:
        raise ValueError(f"{path} has no {key} of {tool}")
    path.write_text(text, encoding="utf-8")
