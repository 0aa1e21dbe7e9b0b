"""`runner/fetch-tool`, run as the Dockerfile runs it, on a machine of either architecture."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from stand_in_releases import Releases, stand_in, write_pin
from support import ROOT


class Stage:
    """A build stage: a folder with the script, the pins and the files of npm."""

    def __init__(self, repository: Path, folder: Path, releases: Releases) -> None:
        self.repository, self.folder, self.releases = repository, folder, releases
        self.out = folder / "out"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.arch = "amd64"
        self.mirror = releases.url

    @property
    def pins(self) -> Path:
        return self.repository / "runner" / "tools.toml"

    def fetch(self, tool: str, *, ok: bool = True) -> str:
        dpkg = self.bin / "dpkg"
        dpkg.write_text(f"#!/bin/sh\necho {self.arch}\n", encoding="utf-8")
        dpkg.chmod(0o755)
        environment = os.environ | {"PATH": f"{self.bin}:{os.environ['PATH']}", "RUNNER_MIRROR": self.mirror}
        split = ["sh", str(ROOT / "runner" / "split-pins"), str(self.pins)]
        subprocess.run(split, cwd=self.folder, env=environment, check=True)
        done = subprocess.run(
            ["sh", ROOT / "runner" / "fetch-tool", tool, self.out],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == ok, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def stage(repository: Path, tmp_path: Path, releases: Releases) -> Stage:
    releases.publish(repository)
    return Stage(repository, tmp_path / "stage", releases)


def printed_by(program: Path) -> str:
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
@pytest.mark.parametrize(
    ("tool", "program"),
    [
        ("kubectl", "bin/kubectl"),
        ("helm", "bin/helm"),
        ("skaffold", "bin/skaffold"),
        ("buildkit", "bin/buildctl"),
        ("golangci-lint", "bin/golangci-lint"),
        ("just", "bin/just"),
        ("go", "go/bin/go"),
    ],
)
def test_each_tool_comes_from_where_it_is_published(stage: Stage, arch: str, tool: str, program: str) -> None:
    stage.arch = arch

    stage.fetch(tool)

    assert printed_by(stage.out / program).startswith(f"{tool} version ")
    assert (stage.out / program).stat().st_mode & 0o777 == 0o755
    (asked,) = stage.releases.asked
    assert any(word in asked for word in (arch, {"amd64": "x86_64", "arm64": "aarch64"}[arch]))


def test_nothing_but_the_tool_is_put_into_the_image(stage: Stage) -> None:
    stage.fetch("helm")

    assert [path for path in stage.out.rglob("*") if path.is_file()] == [stage.out / "bin" / "helm"]


def test_a_wrong_sum_is_told_with_both_sums_and_nothing_is_kept(stage: Stage) -> None:
    write_pin(stage.pins, "helm", "sha256.amd64", "0" * 64)

    said = stage.fetch("helm", ok=False)

    assert "error: helm: " in said
    assert "not the file that is pinned" in said
    assert "0" * 64 in said
    assert not stage.out.exists()


def test_a_changed_byte_is_a_wrong_sum(stage: Stage) -> None:
    path = next(path for path in stage.releases.files if path.endswith("amd64/kubectl"))
    stage.releases.files[path] += b"\n"

    assert "not the file that is pinned" in stage.fetch("kubectl", ok=False)
    assert not stage.out.exists()


def test_the_sum_of_one_architecture_is_not_taken_for_the_other(stage: Stage) -> None:
    write_pin(stage.pins, "kubectl", "sha256.arm64", "0" * 64)

    stage.fetch("kubectl")
    stage.arch = "arm64"
    stage.fetch("kubectl", ok=False)


def test_a_sum_that_nobody_has_fetched_stops_before_the_download(stage: Stage) -> None:
    write_pin(stage.pins, "skaffold", "sha256.amd64", "unknown")

    assert "just runner-checksums" in stage.fetch("skaffold", ok=False)
    assert stage.releases.asked == []


def test_sums_of_another_version_stop_before_the_download(stage: Stage) -> None:
    write_pin(stage.pins, "helm", "version", "4.4.0")

    said = stage.fetch("helm", ok=False)

    assert "the SHA-256 sum of version 4.4.0 for amd64 is not known" in said
    assert stage.releases.asked == []


def test_a_missing_download_names_the_address_and_what_to_set(stage: Stage) -> None:
    stage.releases.files.clear()

    said = stage.fetch("helm", ok=False)

    assert f"{stage.releases.url}/get.helm.sh/helm-v4.3.0-linux-amd64.tar.gz could not be downloaded" in said
    assert "RUNNER_MIRROR" in said


def test_a_slash_at_the_end_of_the_mirror_is_no_second_one(stage: Stage) -> None:
    stage.mirror += "/"

    stage.fetch("kubectl")

    assert stage.releases.asked == ["/dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubectl"]


def test_a_package_of_npm_is_taken_from_the_folder_and_verified(stage: Stage) -> None:
    content = stand_in("esbuild", "0.28.2", "package/bin/esbuild")
    (stage.folder / "npm").mkdir()
    (stage.folder / "npm" / "esbuild-amd64.tgz").write_bytes(content)

    stage.fetch("esbuild")
    assert printed_by(stage.out / "bin" / "esbuild") == "esbuild version 0.28.2"

    (stage.folder / "npm" / "esbuild-amd64.tgz").write_bytes(content + b"x")
    assert "not the file that is pinned" in stage.fetch("esbuild", ok=False)


def test_a_missing_package_of_npm_says_how_it_is_fetched(stage: Stage) -> None:
    said = stage.fetch("esbuild", ok=False)

    assert "npm/esbuild-amd64.tgz is missing" in said
    assert "npm pack @esbuild/linux-x64@0.28.2" in said


def test_an_archive_without_the_program_says_so(stage: Stage) -> None:
    path = next(path for path in stage.releases.files if "helm-v4.3.0-linux-amd64" in path)
    write_pin(stage.pins, "helm", "unpack", "other/helm")

    assert "holds no other/helm" in stage.fetch("helm", ok=False)
    assert path in stage.releases.asked


def test_an_architecture_without_downloads_is_named(stage: Stage) -> None:
    stage.arch = "riscv64"

    assert "riscv64" in stage.fetch("helm", ok=False)
