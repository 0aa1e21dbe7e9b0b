"""`runner/tools.toml`, the Dockerfile and `environment.toml`: they fit together, and mistakes are told."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from stand_in_releases import write_pin
from support import ROOT, CopyProject

from envkit.errors import UserError
from envkit.runner.image import describe
from envkit.runner.tools import (
    ARCHITECTURES,
    Pins,
    base_image,
    base_version,
    read_pins,
    read_settings,
    require_known_sums,
)

DOCKERFILE = (ROOT / "runner" / "Dockerfile").read_text(encoding="utf-8")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def problems(repository: Path) -> str:
    with pytest.raises(UserError) as error:
        read_pins(repository)
    return error.value.why


# -- the files fit together ---------------------------------------------------------------------------------------


def test_every_tool_has_a_stage_of_its_own_and_is_copied_from_it() -> None:
    tools = set(read_pins(ROOT).tools)

    assert set(re.findall(r"(?m)^FROM (?:fetch|npm) AS (\S+)$", DOCKERFILE)) == {*tools, "added", "npm"}
    assert set(re.findall(r"(?m)^COPY --from=pins /pins/(\S+)\.toml \./$", DOCKERFILE)) == tools
    assert set(re.findall(r"(?m)^RUN sh fetch-tool (\S+)$", DOCKERFILE)) == tools
    assert set(re.findall(r"(?m)^COPY --from=(\S+) /out/ /usr/local/$", DOCKERFILE)) == {*tools, "added"}


def test_the_tools_that_jobs_are_promised_are_there() -> None:
    expected = {"go", "kubectl", "helm", "skaffold", "buildkit", "esbuild", "golangci-lint", "just"}

    assert expected <= set(read_pins(ROOT).tools)
    assert "install-packages buildah" in DOCKERFILE


def test_the_dockerfile_names_the_base_that_the_generator_takes_for_the_usual_one() -> None:
    pins = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))["pins"]["default"]

    assert f"runner_base_image: {base_image_of_the_dockerfile()}\n" in pins


def test_what_is_known_of_the_base_is_of_the_release_that_the_dockerfile_names() -> None:
    image = base_image_of_the_dockerfile()

    assert read_pins(ROOT).base.checked == base_version(image)
    assert re.search(r"@sha256:[0-9a-f]{64}$", image)


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    assert re.findall(r"(?m)^USER (.+)$", DOCKERFILE)[-1] == "1001"


def test_no_sum_is_given_twice() -> None:
    sums = [tool.sha256[arch] for tool in read_pins(ROOT).tools.values() for arch in ARCHITECTURES]
    known = [value for value in sums if value != "unknown"]

    assert len(set(known)) == len(known)


def test_only_https_addresses_are_pinned() -> None:
    for tool in read_pins(ROOT).tools.values():
        assert all(address.startswith("https://") for address in (tool.url, tool.sums) if address)


OWN = """\
# ours
[tools.go]
version = "1.26.9"

[tools.jq]
version = "1.8.1"
checked = "1.8.1"
url = "https://example.com/jq-{version}-{arch}"
sums = "https://example.com/sums"
sha256.amd64 = "unknown" # not yet
sha256.arm64 = "unknown"
shows = "jq --version"
"""


def split_files(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.toml")}


def write_own(repository: Path, text: str = OWN) -> Path:
    path = repository / "runner" / "tools.local.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_own_versions_take_the_place_of_the_templates_and_own_tools_come_last(repository: Path, tmp_path: Path) -> None:
    own = write_own(repository)
    folder = tmp_path / "stage"
    folder.mkdir()
    subprocess.run(["sh", ROOT / "runner" / "split-pins", own.with_name("tools.toml"), own], cwd=folder, check=True)

    pins = read_pins(repository).tools
    assert (pins["go"].version, pins["jq"].version) == ("1.26.9", "1.8.1")
    assert pins["go"].url == read_pins(ROOT).tools["go"].url
    assert pins["go"].known_sum("amd64") is None  # the template's sums are those of its own version
    written, added = split_files(folder), split_files(folder / "added")
    assert written["go"] == tomllib.loads(own.with_name("tools.toml").read_text())["tools"]["go"] | {
        "version": "1.26.9"
    }
    assert added == {"jq": tomllib.loads(OWN)["tools"]["jq"]}
    assert set(written) == {"base", *read_pins(ROOT).tools}


def test_line_ends_of_windows_make_no_difference(repository: Path, tmp_path: Path) -> None:
    own = write_own(repository)
    for file in (own, own.with_name("tools.toml")):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    subprocess.run(["sh", ROOT / "runner" / "split-pins", own.with_name("tools.toml"), own], cwd=tmp_path, check=True)

    assert read_pins(repository).tools["go"].version == "1.26.9"
    assert split_files(tmp_path / "added") == {"jq": tomllib.loads(OWN)["tools"]["jq"]}


def test_image_has_another_tag_with_own_tools(repository: Path) -> None:
    before = describe(repository).tag
    write_own(repository)
    assert describe(repository).tag != before


@pytest.mark.parametrize(
    ("text", "file", "problem"),
    [
        (OWN.replace('version = "1.26.9"', "version = 1"), "tools.local.toml", "tools.go.version: "),
        (OWN.replace('shows = "jq --version"\n', ""), "tools.local.toml", "tools.jq.shows: Field required"),
        (OWN.replace("url =", "link ="), "tools.local.toml", "tools.jq.link: Extra inputs"),
        (OWN.replace("sums =", "sumsy ="), "tools.local.toml", "tools.jq"),
        (OWN.replace("[tools.jq]", "[tools.Jq]"), "tools.local.toml", "tools.Jq: a name has lower-case"),
        (OWN.replace("[tools.jq]", "[tool.jq]"), "tools.local.toml", "tool: this file has sections"),
        ("tools = 1\n", "tools.local.toml", "sections [tools.NAME] only"),
        ("[tools.go\n", "tools.local.toml", "line 1"),
        (OWN.replace('"1.26.9"', "'1.26.9'"), "tools.local.toml", "line 3: it is no comment"),
        (OWN.replace('"1.26.9"', r'"\u0031.26.9"'), "tools.local.toml", "line 3: it is no comment"),
        (OWN.replace("version = ", "version="), "tools.local.toml", "line 3: it is no comment"),
        (OWN.replace("sha256.amd64 =", "sha256.'amd64' ="), "tools.local.toml", "line 10: it is no comment"),
        (OWN.replace("[tools.go]", "[tools.'go']"), "tools.local.toml", "line 2: it is no comment"),
        (OWN.replace("[tools.go]", "[ tools.go ]"), "tools.local.toml", "line 2: it is no comment"),
        (OWN + '[tools.jq.arch]\namd64 = "x"\n', "tools.local.toml", "line 13: it is no comment"),
    ],
)
def test_mistake_in_the_teams_own_file_is_named(repository: Path, text: str, file: str, problem: str) -> None:
    write_own(repository, text)
    with pytest.raises(UserError) as error:
        read_pins(repository)
    assert error.value.what.endswith(f"{file} is not right.")
    assert problem in error.value.why


def test_mistake_in_the_templates_file_is_named_where_there_is_an_own_one_too(repository: Path) -> None:
    path = write_own(repository).with_name("tools.toml")
    replace(path, 'version = "4.3.0"', 'version = "four"')
    with pytest.raises(UserError, match=r"runner/tools\.toml is not right"):
        read_pins(repository)


def test_the_dockerfile_reads_what_a_toml_parser_reads(tmp_path: Path) -> None:
    subprocess.run(["sh", ROOT / "runner" / "split-pins", ROOT / "runner" / "tools.toml"], cwd=tmp_path, check=True)

    written = split_files(tmp_path)
    document = tomllib.loads((ROOT / "runner" / "tools.toml").read_text(encoding="utf-8"))
    assert written == {"base": document["base"], **document["tools"]}


def test_comments_and_other_sections_do_not_change_the_file_of_a_section(repository: Path, tmp_path: Path) -> None:
    def section(name: str) -> tuple[bytes, float]:
        folder = tmp_path / name
        folder.mkdir()
        runner = repository / "runner"
        subprocess.run(["sh", runner / "split-pins", runner / "tools.toml"], cwd=folder, check=True)
        return (folder / "helm.toml").read_bytes(), (folder / "helm.toml").stat().st_mtime

    before = section("before")
    write_pin(repository / "runner" / "tools.toml", "just", "version", "9.9.9")
    replace(repository / "runner" / "tools.toml", "[tools.helm]\n", "# more\n\n[tools.helm]\n# words\n")

    assert section("after") == before


def test_a_line_that_the_dockerfile_could_not_read_is_named(repository: Path, tmp_path: Path) -> None:
    path = repository / "runner" / "tools.toml"
    replace(path, 'version = "4.3.0"', "version = '4.3.0'")

    done = subprocess.run(
        ["sh", repository / "runner" / "split-pins", path], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    line = path.read_text(encoding="utf-8").splitlines().index("version = '4.3.0'") + 1
    assert done.returncode != 0
    assert f"tools.toml, line {line}: version = '4.3.0'" in done.stderr


# -- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('version = "4.3.0"', 'version = "v4.3.0"', "tools.helm.version"),
        ('version = "4.3.0"', 'version = ""', "tools.helm.version"),
        ('shows = "helm version --short"', 'show = "helm version"', "tools.helm.show"),
        ('sha256.amd64 = "86584a5', 'sha256.amd64 = "X6584a5', "tools.helm.sha256.amd64"),
        ('url = "https://get.helm.sh', 'npm = "helm"\nurl = "https://get.helm.sh', "either url or npm"),
        ('sums = "https://get.helm.sh', '#sums = "https://get.helm.sh', "needs sums"),
        ('sha256.arm64 = "31c5794', '#sha256.arm64 = "31c5794', "no sha256.arm64"),
        ('released = "2026-10-06"', 'released = "October"', "base.released"),
    ],
)
def test_a_mistake_in_tools_toml_is_named(repository: Path, old: str, new: str, problem: str) -> None:
    replace(repository / "runner" / "tools.toml", old, new)

    assert problem in problems(repository)


@pytest.mark.parametrize("text", ["tools = 1\n", "[tools]\nhelm = 1\n"])
@pytest.mark.parametrize("name", ["tools.toml", "tools.local.toml"])
def test_file_without_sections_is_named(repository: Path, name: str, text: str) -> None:
    (repository / "runner" / "tools.local.toml").write_text('[tools.helm]\nversion = "4.3.1"\n', encoding="utf-8")
    (repository / "runner" / name).write_text(text, encoding="utf-8")

    with pytest.raises(UserError, match=rf"/{re.escape(name)} ") as error:
        read_pins(repository)
    assert error.value.why == "tools: under it there are sections [tools.NAME] only"


def test_tools_toml_that_is_no_toml_is_named(repository: Path) -> None:
    (repository / "runner" / "tools.toml").write_text("[base\n", encoding="utf-8")

    with pytest.raises(UserError, match=r"tools\.toml is not right") as error:
        read_pins(repository)

    assert "git -C" in error.value.next_step


def test_an_environment_without_runners_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runners") as error:
        read_pins(tmp_path)

    assert "arc=true" in error.value.next_step


def test_a_dockerfile_without_its_base_says_so(repository: Path) -> None:
    replace(repository / "runner" / "Dockerfile", "ARG BASE_IMAGE=", "ARG IMAGE=")

    with pytest.raises(UserError, match="no line `ARG BASE_IMAGE"):
        base_image(repository)


# -- sums that are not known --------------------------------------------------------------------------------------


def test_every_download_without_a_known_sum_is_in_one_list(repository: Path) -> None:
    path = repository / "runner" / "tools.toml"
    write_pin(path, "helm", "version", "4.4.0")
    write_pin(path, "just", "sha256.arm64", "unknown")

    with pytest.raises(UserError) as error:
        require_known_sums(read_pins(repository), "arm64")

    assert "helm 4.4.0: the sums are those of 4.3.0" in error.value.why
    assert "just 1.58.0: the sum for arm64 has never been fetched" in error.value.why
    assert "runner-checksums" in error.value.next_step
    assert "kubectl" not in error.value.why


def test_an_unknown_sum_of_another_architecture_is_no_obstacle(repository: Path) -> None:
    path = repository / "runner" / "tools.toml"
    pins = read_pins(repository)
    known = {name: tool for name, tool in pins.tools.items() if tool.known_sum("amd64") and tool.known_sum("arm64")}
    write_pin(path, "just", "sha256.arm64", "unknown")

    require_known_sums(Pins(base=pins.base, tools=known | {"just": read_pins(repository).tools["just"]}), "amd64")


# -- names and bases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("ghcr.io/actions/actions-runner:2.338.0", "2.338.0"),
        (f"ghcr.io/actions/actions-runner:2.338.0@sha256:{'0' * 64}", "2.338.0"),
        ("mirror:5000/actions-runner:2.338.0", "2.338.0"),
        ("mirror:5000/actions-runner", ""),
        (f"ghcr.io/actions/actions-runner@sha256:{'0' * 64}", ""),
    ],
)
def test_the_version_of_a_base_is_its_tag(image: str, version: str) -> None:
    assert base_version(image) == version


def test_a_generated_repository_holds_the_folder_and_names_the_image(copy_project: CopyProject, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "env", project="shop", runner_name="builders")

    assert (project / "runner" / "Dockerfile").read_text(encoding="utf-8") == DOCKERFILE
    assert not (project / "runner").is_symlink()
    assert (project / "runner" / "npm").is_dir()
    assert (project / "runner" / "ca").is_dir()
    assert read_settings(project).image == "builders"
    assert base_image(project) == base_image_of_the_dockerfile()


def test_another_base_is_an_answer(copy_project: CopyProject, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "env", runner_base_image="mirror.example/actions-runner:2.338.0")

    assert base_image(project) == "mirror.example/actions-runner:2.338.0"


def test_an_environment_without_runners_has_nothing_of_them(copy_project: CopyProject, tmp_path: Path) -> None:
    project = copy_project(tmp_path / "env", arc=False)

    assert not (project / "runner").exists()
    assert "runner" not in tomllib.loads((project / "environment.toml").read_text(encoding="utf-8"))


def base_image_of_the_dockerfile() -> str:
    match = re.search(r"(?m)^ARG BASE_IMAGE=(\S+)$", DOCKERFILE)
    assert match
    return match[1]
