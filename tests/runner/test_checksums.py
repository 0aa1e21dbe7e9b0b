"""`just runner-checksums`: published sums of every form get into tools.toml, and nothing else changes there."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
from pathlib import Path

import pytest
from fake_tools import Machine
from stand_in_releases import Releases, write_pin

from envkit.errors import UserError
from envkit.progress import Steps
from envkit.runner.checksums import refresh
from envkit.runner.tools import read_pins

A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()


class File:
    """tools.toml in a repository where every sum is known."""

    def __init__(self, repository: Path, releases: Releases) -> None:
        self.repository, self.releases = repository, releases
        self.path = repository / "runner" / "tools.toml"
        releases.publish(repository)
        self.before = self.text

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def pin(self, tool: str, key: str, value: str) -> None:
        write_pin(self.path, tool, key, value)
        self.before = self.text

    def serve(self, address: str, text: str) -> None:
        self.releases.files[f"/{address}"] = text.encode()

    def refresh(self, *, every: bool = False) -> list[str]:
        with Steps(io.StringIO()) as steps:
            return refresh(steps, every=every, root=self.repository)

    @property
    def added(self) -> list[str]:
        """The lines that are new since the last `pin`."""
        lines = difflib.ndiff(self.before.splitlines(), self.text.splitlines())
        return [line[2:] for line in lines if line.startswith("+ ")]


@pytest.fixture
def file(repository: Path, releases: Releases) -> File:
    return File(repository, releases)


def test_where_all_sums_are_known_nothing_is_fetched(file: File) -> None:
    assert file.refresh() == []
    assert file.releases.asked == []


def test_a_sum_alone_in_a_file(file: File) -> None:
    file.pin("kubectl", "version", "1.36.5")
    for arch, value in (("amd64", A), ("arm64", B)):
        file.serve(f"dl.k8s.io/release/v1.36.5/bin/linux/{arch}/kubectl.sha256", value)

    assert file.refresh() == ["kubectl 1.36.5"]
    assert file.added == ['checked = "1.36.5"', f'sha256.amd64 = "{A}"', f'sha256.arm64 = "{B}"']


def test_a_sum_with_the_name_of_its_file(file: File) -> None:
    file.pin("helm", "version", "4.3.1")
    for arch, value in (("amd64", A), ("arm64", B)):
        name = f"helm-v4.3.1-linux-{arch}.tar.gz"
        file.serve(f"get.helm.sh/{name}.sha256sum", f"{value}  {name}\n")

    file.refresh()

    assert read_pins(file.repository).tools["helm"].sha256 == {"amd64": A, "arm64": B}


def test_a_list_of_many_files(file: File) -> None:
    file.pin("just", "version", "1.59.0")
    lines = [
        f"{'0' * 64}  just-1.59.0-x86_64-unknown-linux-musl.tar.gz.sig",
        f"{A} *just-1.59.0-x86_64-unknown-linux-musl.tar.gz",
        f"{B}  ./just-1.59.0-aarch64-unknown-linux-musl.tar.gz",
    ]
    file.serve("github.com/casey/just/releases/download/1.59.0/SHA256SUMS", "\n".join(lines))

    file.refresh()

    assert read_pins(file.repository).tools["just"].sha256 == {"amd64": A, "arm64": B}


def test_a_release_in_github_s_api(file: File) -> None:
    file.pin("buildkit", "version", "0.34.2")
    assets = [
        {"name": "buildkit-v0.34.2.linux-amd64.tar.gz", "digest": f"sha256:{A}"},
        {"name": "buildkit-v0.34.2.linux-arm64.tar.gz", "digest": f"sha256:{B}"},
        {"name": "buildkit-v0.34.2.linux-amd64.sbom.json", "digest": None},
    ]
    file.serve("api.github.com/repos/moby/buildkit/releases/tags/v0.34.2", json.dumps({"assets": assets}))

    file.refresh()

    assert read_pins(file.repository).tools["buildkit"].sha256 == {"amd64": A, "arm64": B}


def test_a_package_of_npm(file: File, machine: Machine) -> None:
    file.pin("esbuild", "version", "0.29.0")
    machine.add("npm", 'for a; do case $a in --pack-destination=*) echo "$2" >"${a#*=}/x.tgz";; esac; done')

    assert file.refresh() == ["esbuild 0.29.0"]
    assert read_pins(file.repository).tools["esbuild"].sha256 == {
        "amd64": hashlib.sha256(b"@esbuild/linux-x64@0.29.0\n").hexdigest(),
        "arm64": hashlib.sha256(b"@esbuild/linux-arm64@0.29.0\n").hexdigest(),
    }


def test_a_sum_that_nobody_had_fetched(file: File) -> None:
    file.pin("skaffold", "sha256.amd64", "unknown")
    for arch, value in (("amd64", A), ("arm64", read_pins(file.repository).tools["skaffold"].sha256["arm64"])):
        file.serve(f"storage.googleapis.com/skaffold/releases/v2.25.0/skaffold-linux-{arch}.sha256", value)

    assert file.refresh() == ["skaffold 2.25.0"]
    assert file.added == [f'sha256.amd64 = "{A}"']


@pytest.mark.parametrize(
    "text",
    ["<html>please log in</html>", f"{A}  another-file.tar.gz", "", '{"message": "Not Found"}', '{"assets": [1]}', "{"],
)
def test_a_text_without_the_sum_is_named_and_nothing_is_written(file: File, text: str) -> None:
    file.pin("helm", "version", "4.3.1")
    for arch in ("amd64", "arm64"):
        file.serve(f"get.helm.sh/helm-v4.3.1-linux-{arch}.tar.gz.sha256sum", text)

    with pytest.raises(UserError, match=r"has no SHA-256 sum of helm-v4\.3\.1-linux-amd64\.tar\.gz"):
        file.refresh()

    assert file.added == []


def test_a_version_that_does_not_exist_is_told_by_its_address(file: File) -> None:
    file.pin("helm", "version", "99.0.0")

    with pytest.raises(UserError, match=r"helm-v99\.0\.0-linux-amd64\.tar\.gz\.sha256sum could not be downloaded"):
        file.refresh()


def test_what_was_fetched_before_a_failure_is_kept(file: File) -> None:
    file.pin("kubectl", "version", "1.36.5")
    file.pin("helm", "version", "99.0.0")
    for arch in ("amd64", "arm64"):
        file.serve(f"dl.k8s.io/release/v1.36.5/bin/linux/{arch}/kubectl.sha256", A)

    with pytest.raises(UserError):
        file.refresh()

    assert read_pins(file.repository).tools["kubectl"].checked == "1.36.5"


def test_a_published_sum_that_has_changed_is_refused(file: File) -> None:
    known = read_pins(file.repository).tools["kubectl"].sha256["arm64"]
    file.pin("kubectl", "sha256.amd64", "unknown")
    for arch in ("amd64", "arm64"):
        file.serve(f"dl.k8s.io/release/v1.36.4/bin/linux/{arch}/kubectl.sha256", A)

    with pytest.raises(UserError, match=r"kubectl 1\.36\.4 for arm64 is another one than before") as error:
        file.refresh()

    assert known in error.value.why
    assert file.added == []


def test_all_compares_the_known_sums_too(file: File) -> None:
    for arch in ("amd64", "arm64"):
        file.serve(f"dl.google.com/go/go1.27.2.linux-{arch}.tar.gz.sha256", A)

    with pytest.raises(UserError, match=r"go 1\.27\.2 for amd64 is another one"):
        file.refresh(every=True)


def test_the_day_of_a_new_base_is_fetched(file: File) -> None:
    dockerfile = file.repository / "runner" / "Dockerfile"
    text = dockerfile.read_text(encoding="utf-8")
    dockerfile.write_text(text.replace("actions-runner:2.338.0", "actions-runner:2.340.0"), encoding="utf-8")
    file.serve(
        "api.github.com/repos/actions/runner/releases/tags/v2.340.0",
        json.dumps({"published_at": "2026-11-20T08:00:00Z"}),
    )

    assert file.refresh() == ["runner 2.340.0 (released 2026-11-20)"]
    assert file.added == ['checked = "2.340.0"', 'released = "2026-11-20"', 'packages = "2026-11-20"']


def test_a_release_without_a_day_says_what_to_write(file: File) -> None:
    (file.repository / "environment.toml").write_text('[runner]\nimage = "x"\nbase_image = "mirror/runner:2.340.0"\n')
    file.serve("api.github.com/repos/actions/runner/releases/tags/v2.340.0", "{}")

    with pytest.raises(UserError, match="does not say when") as error:
        file.refresh()

    assert "released" in error.value.next_step


def test_sums_of_an_own_version_go_into_the_teams_own_file(file: File) -> None:
    own = file.path.with_name("tools.local.toml")
    own.write_text('# ours\n[tools.kubectl]\nversion = "1.35.0"\n\n# more\n', encoding="utf-8")
    for arch, value in (("amd64", A), ("arm64", B)):
        file.serve(f"dl.k8s.io/release/v1.35.0/bin/linux/{arch}/kubectl.sha256", value)

    assert file.refresh() == ["kubectl 1.35.0"]

    assert own.read_text(encoding="utf-8") == (
        '# ours\n[tools.kubectl]\nversion = "1.35.0"\nchecked = "1.35.0"\n'
        f'sha256.amd64 = "{A}"\nsha256.arm64 = "{B}"\n\n# more\n'
    )
    assert file.text == file.before
    assert read_pins(file.repository).tools["kubectl"].known_sum("arm64") == B
    assert file.refresh() == []
