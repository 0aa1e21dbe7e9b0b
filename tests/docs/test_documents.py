"""The documents of the project and of an environment say what the code does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest
import question_table
from support import ROOT, CopyProject, git

from envkit import cli

from .conftest import Generated
from .markdown import broken_links, recipes_named, table_column

JUSTFILE = ROOT / "template" / "{% if provider == 'k3d' %}justfile{% endif %}"
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "runner" / "README.md",
]
VARIANTS: dict[str, dict[str, str]] = {
    "k3d": {},
    "existing": {"provider": "existing", "kube_context": "c", "image_repository": "registry.example.com/shop/runner"},
}
RELEASE = re.compile(r"^release: v(\d+\.\d+\.\d+)$", re.MULTILINE)


def recipes(justfile: Path = JUSTFILE) -> set[str]:
    just = shutil.which("just")
    assert just, "just is not on PATH; script/test brings it"
    dump = subprocess.run(
        [just, "--justfile", str(justfile), "--dump", "--dump-format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name, recipe in json.loads(dump.stdout)["recipes"].items() if not recipe["private"]}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_the_projects_documents_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_recipes_that_the_projects_documents_name_exist(document: Path) -> None:
    assert recipes_named(document.read_text(encoding="utf-8")) <= recipes()


def test_recipes_that_are_absent_where_the_cluster_is_there_already_are_named() -> None:
    text = (ROOT / "docs" / "existing-cluster.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"^Recipes that make no sense are absent: (.+?)\.", text, re.MULTILINE)
    absent = recipes() - recipes(ROOT / "template" / "{% if provider == 'existing' %}justfile{% endif %}")
    assert set(re.findall(r"`(.+?)`", sentence)) == absent


@pytest.mark.parametrize("answers", VARIANTS.values(), ids=VARIANTS)
def test_copier_is_named_with_the_option_that_this_template_needs(
    answers: dict[str, str], tmp_path: Path, copy_project: CopyProject
) -> None:
    project = copy_project(tmp_path / "env", **answers, image_mirrors={"docker.io": "mirror.example.com/hub"})
    written = [path for path in project.rglob("*") if path.is_file() and path.suffix != ".py"]
    options = {
        (path.name, option)
        for path in [*DOCUMENTS, *written]
        for option in re.findall(r"copier update (-[\w-]+)", path.read_text(encoding="utf-8"))
    }
    assert {option for _, option in options} == {"--trust"}, options


def test_links_of_an_environments_readme_lead_somewhere(generated: Generated) -> None:
    assert broken_links(generated.folder / "README.md") == []


def test_command_table_of_an_environment_lists_exactly_its_recipes(generated: Generated) -> None:
    listed = [cell.strip("`").removeprefix("just ") for cell in table_column(generated.readme, "Command")]
    assert len(listed) == len(set(listed))
    assert set(listed) == recipes()


def test_recipes_that_an_environments_readme_names_exist(generated: Generated) -> None:
    named = recipes_named(generated.readme)
    assert named
    assert named <= recipes()


@pytest.mark.parametrize("answers", VARIANTS.values(), ids=VARIANTS)
def test_options_of_an_environments_recipes_are_in_its_documents(
    answers: dict[str, str], tmp_path: Path, copy_project: CopyProject
) -> None:
    project = copy_project(tmp_path / "env", **answers)
    paths = [project / "README.md", project / "runner" / "README.md", *(ROOT / "docs").glob("*.md")]
    places = [place for path in paths for place in re.split(r"\n\n|\n(?=[-|])", path.read_text(encoding="utf-8"))]
    (choices,) = (action.choices for action in cli._parser()._actions if isinstance(action.choices, dict))
    missing = [
        (recipe, action.option_strings)
        for recipe in recipes(project / "justfile")
        for action in choices[recipe]._actions
        if action.option_strings and action.option_strings[0] not in ("-h", "--only")  # the hooks use that one
        if not any(recipe in place and option in place for place in places for option in action.option_strings)
    ]
    assert missing == []


def builds_without_sums(text: str) -> list[str]:
    """The blocks of commands that build the image from the beginning, and stop at a sum that is unknown."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    first = [block for block in blocks if "just build-runner  " in block]
    assert first
    return [block for block in first if "just runner-checksums" not in block.partition("just build-runner")[0]]


@pytest.mark.parametrize("answers", VARIANTS.values(), ids=VARIANTS)
def test_first_build_of_the_image_has_the_sums_that_it_asks_for(
    answers: dict[str, str], tmp_path: Path, copy_project: CopyProject
) -> None:
    project = copy_project(tmp_path / "env", **answers)
    for name in ("README.md", "runner/README.md"):
        assert builds_without_sums((project / name).read_text(encoding="utf-8")) == [], name


@pytest.mark.parametrize("answers", VARIANTS.values(), ids=VARIANTS)
def test_commands_that_bring_the_settings_of_a_machine_keep_those_that_are_there(
    answers: dict[str, str], tmp_path: Path, copy_project: CopyProject
) -> None:
    project = copy_project(tmp_path / "env", **answers)
    readme = (project / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if "cp .env.example" in line]
    assert commands
    for command in commands:
        (project / ".env").write_text("GITHUB_APP_ID=1\n", encoding="utf-8")
        subprocess.run(["/bin/sh", "-ec", command], cwd=project, check=True)
        assert (project / ".env").read_text(encoding="utf-8") == "GITHUB_APP_ID=1\n"
        (project / ".env").unlink()
        subprocess.run(["/bin/sh", "-ec", command], cwd=project, check=True)
        assert (project / ".env").read_bytes() == (project / ".env.example").read_bytes()


def test_decision_about_rendered_files_names_all_of_them() -> None:
    """By their folder, where that holds several."""
    text = (ROOT / "docs" / "decisions" / "0001-answers-live-in-few-rendered-files.md").read_text(encoding="utf-8")
    template = ROOT / "template"
    rendered = [path.relative_to(template).with_suffix("") for path in template.rglob("*.jinja")]
    assert len(rendered) > 5
    missing = [path for path in rendered if not any(name in text for name in (path.name, f"`{path.parent}/`"))]
    assert [str(path) for path in missing] == ["{{ _copier_conf.answers_file }}"], "the answers file has no fixed name"


def test_environments_readme_has_a_diagram(generated: Generated) -> None:
    diagram = re.search(r"^```mermaid\n(flowchart .*?)^```$", generated.readme, re.MULTILINE | re.DOTALL)
    assert diagram
    assert diagram[1].count("subgraph") == len(re.findall(r"^ *end$", diagram[1], re.MULTILINE))


def test_environments_readme_has_its_own_names_and_ports(generated: Generated) -> None:
    if generated.answers:
        expected = (
            "`shop-local`: 1 server, 1 agent; context `k3d-shop-local`",
            "http://localhost:8080, https://localhost:8443",
            "https://127.0.0.1:6560",
            "`k3d-shop-registry.localhost:5060`",
            "`k3d-shop-registry:5000`",
            "`~/.kube/k3d-shop-local.devcontainer.yaml`",
        )
    else:
        expected = (
            "`mathtrail-dev`: 1 server, 2 agents; context `k3d-mathtrail-dev`",
            "http://localhost, https://localhost |",
            "https://127.0.0.1:6550",
            "`k3d-mathtrail-registry.localhost:5050`",
            "`k3d-mathtrail-registry:5000`",
            "`~/.kube/k3d-mathtrail-dev.devcontainer.yaml`",
        )
    missing = [text for text in expected if text not in generated.readme]
    assert missing == []


def test_environments_readme_speaks_of_no_other_environment(generated: Generated) -> None:
    foreign = ("mathtrail", "5050", "6550") if generated.answers else ("shop", "5060", "6560")
    assert [word for word in foreign if word in generated.readme.lower()] == []


def test_environments_readme_speaks_of_an_ide_only_where_there_is_one(generated: Generated) -> None:
    assert ("## Kubernetes IDE" in generated.readme) == (generated.answers.get("lens") != "none")
    assert ("OpenLens" in generated.readme) == (generated.answers.get("lens") != "none")


def test_environments_readme_speaks_of_traefik_only_where_it_runs(generated: Generated) -> None:
    assert ("Traefik" in generated.readme) == (generated.answers.get("ingress") != "none")


def test_question_table_of_the_readme_is_current() -> None:
    assert question_table.START in question_table.README.read_text(encoding="utf-8")
    assert question_table.main(["--check"]) == 0


def test_newest_release_has_its_entry_in_the_changelog() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("the project is not a Git clone here")
    released = RELEASE.findall(git(ROOT, "log", "--format=%s"))
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^## (?!\[Unreleased\]$)", text, re.MULTILINE))
    versions = [tuple(map(int, version.split("."))) for version, _ in entries]
    assert versions == sorted(versions, reverse=True)
    for _, day in entries:
        date.fromisoformat(day)
    if released:
        assert released[0] in [version for version, _ in entries]
