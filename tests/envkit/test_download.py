from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest
from fake_tools import WebServer

from envkit import download
from envkit.errors import UserError

CONTENT = b"a tool" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_a_file_with_the_right_sum_arrives_whole_and_executable(web: WebServer, tmp_path: Path) -> None:
    web.files["/tool"] = CONTENT
    notes: list[str] = []

    download.fetch(f"{web.url}/tool", SHA256, tmp_path / "new" / "tool", note=notes.append, executable=True)

    assert (tmp_path / "new" / "tool").read_bytes() == CONTENT
    assert (tmp_path / "new" / "tool").stat().st_mode & 0o777 == 0o755
    assert notes[-1] == "0.6 MB of 0.6 MB"


def test_a_file_with_a_wrong_sum_is_removed_and_both_sums_are_named(web: WebServer, tmp_path: Path) -> None:
    web.files["/tool"] = b"<html>please log in</html>"

    with pytest.raises(UserError, match="not the file that is pinned") as error:
        download.fetch(f"{web.url}/tool", SHA256, tmp_path / "tool")

    assert SHA256 in error.value.why
    assert hashlib.sha256(web.files["/tool"]).hexdigest() in error.value.why
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_sum_leaves_the_file_that_was_there(web: WebServer, tmp_path: Path) -> None:
    web.files["/tool"] = b"something else"
    (tmp_path / "tool").write_bytes(b"the earlier release")

    with pytest.raises(UserError):
        download.fetch(f"{web.url}/tool", SHA256, tmp_path / "tool")

    assert (tmp_path / "tool").read_bytes() == b"the earlier release"


def test_a_right_file_that_is_there_is_not_fetched_again(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(CONTENT)

    download.fetch(f"{web.url}/tool", SHA256, tmp_path / "tool")

    assert web.asked == []


def test_a_missing_file_says_what_was_asked_for_and_what_to_check(web: WebServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{web.url}/tool could not be downloaded") as error:
        download.fetch(f"{web.url}/tool", SHA256, tmp_path / "tool")

    assert "Not Found" in error.value.why
    assert "is published" in error.value.next_step
    assert "ENVKIT_DOWNLOAD_MIRROR" in error.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_told_with_what_leads_to_it(tmp_path: Path) -> None:
    with socket.socket() as nobody:  # holds the port and does not listen
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="could not be downloaded") as error:
            download.fetch(f"http://127.0.0.1:{nobody.getsockname()[1]}/tool", SHA256, tmp_path / "tool")

    assert "refused" in error.value.why
    assert "HTTPS_PROXY" in error.value.next_step


def test_a_connection_that_ends_early_is_told_from_a_wrong_file(web: WebServer, tmp_path: Path) -> None:
    web.files["/tool"] = CONTENT[:1000]
    web.promised["/tool"] = len(CONTENT)

    with pytest.raises(UserError, match="could not be downloaded"):
        download.fetch(f"{web.url}/tool", SHA256, tmp_path / "tool")

    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written_is_no_traceback(web: WebServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UserError, match="could not be written"):
        download.fetch(f"{web.url}/tool", SHA256, tmp_path / "file" / "tool")


def test_a_server_that_is_down_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be downloaded"):
        download.fetch("http://127.0.0.1:1/tool", SHA256, tmp_path / "tool")


def test_the_mirror_stands_in_for_scheme_and_host(
    web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/mirror/github.com/owner/tool"] = CONTENT
    monkeypatch.setenv("ENVKIT_DOWNLOAD_MIRROR", f"{web.url}/mirror/")

    download.fetch("https://github.com/owner/tool", SHA256, tmp_path / "tool")

    assert web.asked == ["/mirror/github.com/owner/tool"]


def test_a_mirror_without_a_scheme_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVKIT_DOWNLOAD_MIRROR", "mirror.example")

    with pytest.raises(UserError, match="not an address") as error:
        download.fetch("https://github.com/owner/tool", SHA256, tmp_path / "tool")

    assert "ENVKIT_DOWNLOAD_MIRROR" in error.value.next_step


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "linux-amd64"),
        ("linux", "aarch64", "linux-arm64"),
        ("darwin", "x86_64", "darwin-amd64"),
        ("darwin", "arm64", "darwin-arm64"),
    ],
)
def test_platforms_are_named_as_on_release_pages(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, name: str
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(
        "platform.version", lambda: "Darwin Kernel Version 25.1.0: root:xnu-12377.41.6~2/RELEASE_X86_64"
    )

    assert download.platform_name() == name


def test_a_mac_with_apple_silicon_is_one_for_a_python_for_intel_processors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(
        "platform.version", lambda: "Darwin Kernel Version 25.1.0: root:xnu-12377.41.6~2/RELEASE_ARM64_T6000"
    )

    assert download.platform_name() == "darwin-arm64"


def test_a_platform_without_downloads_says_which_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(UserError, match="riscv64") as error:
        download.platform_name()

    assert "Linux and macOS" in error.value.why
