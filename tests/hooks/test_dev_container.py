"""The dev container snippet in service repositories: through Copier, and through the hook's main function."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dev_container
import pytest
import yaml
from compose_file import compose_text, is_unchanged, joining
from copier import run_copy, run_update
from copier.errors import TaskError
from jsonc import parse
from jsonschema import Draft201909Validator
from support import ROOT, SCHEMAS, commit_all, git, read_yaml

ANSWERS = ".copier-answers.devcontainer.yml"
USUAL = ".devcontainer/devcontainer.json"
COMPOSE = ".devcontainer/compose.k3d.yaml"
NETWORK = "k3d-shop-dev"
ARGUMENTS = [f"--network={NETWORK}", f"--env-file=${{localEnv:HOME}}/.kube/{NETWORK}.devcontainer.env"]
TEAM = '{\n    // The team\'s.\n    "image": "debian",\n    "runArgs": ["--init"],\n}\n'

Hook = Callable[..., int]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A service repository without a dev container; the current folder."""
    folder = tmp_path / "service"
    folder.mkdir()
    (folder / "main.go").write_text("package main\n", encoding="utf-8")
    # Made by another template, whose answers are in the usual file.
    (folder / ".copier-answers.yml").write_text("_src_path: gh:other/template\nproject: orders\n", encoding="utf-8")
    commit_all(folder, "the service")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def hook(service: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Hook:
    """Runs the hook as Copier's task, after Copier has written the answers."""
    monkeypatch.setattr(dev_container, "TEMPLATE", template)

    def run(operation: str = "copy", **answers: str) -> int:
        given = {"_commit": "v9999.0.0", "scope": "devcontainer", "cluster_name": "shop-dev", **answers}
        (service / ANSWERS).write_text(yaml.safe_dump(given), encoding="utf-8")
        return dev_container.main([operation, ANSWERS])

    return run


def write(service: Path, **files: str) -> None:
    """Writes and commits the files that `PATHS` names."""
    for name, text in files.items():
        path = service / PATHS[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    commit_all(service, "the team's files")


PATHS = {
    "usual": USUAL,
    "root": ".devcontainer.json",
    "api": ".devcontainer/api/devcontainer.json",
    "web": ".devcontainer/web/devcontainer.json",
    "compose": "compose.yml",
    "override": ".devcontainer/override.yml",
    "own_compose": COMPOSE,
}


def value(path: Path) -> Any:
    return parse(path.read_text(encoding="utf-8")).value


def changed(service: Path) -> set[str]:
    return {line[3:] for line in git(service, "status", "--porcelain", "--untracked-files=all").splitlines()}


# -- through Copier -------------------------------------------------------------------------------------------------


def copy(template: Path, service: Path, **answers: Any) -> None:
    given = {"scope": "devcontainer", "project": "shop", **answers}
    run_copy(str(template), service, given, defaults=True, quiet=True, unsafe=True)


def update(service: Path, answers_file: str | None = ANSWERS, **answers: Any) -> None:
    run_update(service, answers, answers_file=answers_file, defaults=True, quiet=True, unsafe=True, overwrite=True)


def test_existing_repository_gets_the_snippet_and_nothing_else_changes(template: Path, service: Path) -> None:
    write(service, usual=TEAM)
    copy(template, service)
    assert changed(service) == {USUAL, ANSWERS}
    assert read_yaml(service / ".copier-answers.yml")["project"] == "orders"
    assert value(service / USUAL)["runArgs"] == ["--init", *ARGUMENTS]
    assert "// The team's." in (service / USUAL).read_text(encoding="utf-8")
    commit_all(service, "the snippet")
    update(service)
    assert changed(service) == set()


def test_image_that_has_the_tools_gets_no_feature(template: Path, service: Path) -> None:
    write(service, usual=TEAM)
    copy(template, service, devcontainer_image="mirror.example.com/team/dev:1")
    assert "features" not in value(service / USUAL)
    assert value(service / USUAL)["image"] == "debian"
    assert value(service / USUAL)["runArgs"] == ["--init", *ARGUMENTS]
    commit_all(service, "the snippet")
    update(service, devcontainer_image="")
    assert value(service / USUAL)["features"]
    assert "devcontainer_image" not in read_yaml(service / ANSWERS)


def test_update_brings_what_the_template_changed_and_keeps_what_the_team_did(
    template: Path, service: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(template, tmp_path / "template", symlinks=True))
    write(service, usual=TEAM)
    copy(own, service)
    path = service / USUAL
    path.write_text(
        path.read_text(encoding="utf-8").replace('"--init"', '"--init", "--cap-add=SYS_PTRACE"'), encoding="utf-8"
    )
    commit_all(service, "the snippet, and an edit")
    snippet = own / dev_container.SNIPPET
    source = snippet.read_text(encoding="utf-8")
    newer = source.replace(":1.3.1", ":1.9.0").replace('"/tmp/kube-cache"', '"/tmp/cache"')
    snippet.write_text(newer, encoding="utf-8")
    commit_all(own, "newer", "v9999.1.0")
    update(service)
    assert changed(service) == {USUAL, ANSWERS}
    document = value(path)
    assert [name for name in document["features"] if name.endswith(":1.9.0")] == list(document["features"])
    assert document["containerEnv"]["KUBECACHEDIR"] == "/tmp/cache"
    assert document["runArgs"] == ["--init", "--cap-add=SYS_PTRACE", *ARGUMENTS]
    assert "// The team's." in path.read_text(encoding="utf-8")


def test_another_cluster_is_an_answer_of_an_update(template: Path, service: Path) -> None:
    write(service, usual=TEAM)
    copy(template, service)
    commit_all(service, "the snippet")
    before = (service / USUAL).read_text(encoding="utf-8")
    update(service, cluster_name="cart-dev")
    assert (service / USUAL).read_text(encoding="utf-8") == before.replace("shop-dev", "cart-dev")


@pytest.fixture(scope="session")
def history(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with its first release, and the working tree as the newest version."""
    release = git(ROOT, "log", "--format=%H", "--grep=^release: v0.1.0$", "-1").strip()
    if not release:
        pytest.skip("this clone has no history (git fetch --unshallow)")
    folder = tmp_path_factory.mktemp("history") / "template"
    git(ROOT, "clone", "--quiet", "--no-tags", str(ROOT), str(folder))
    git(folder, "checkout", "--quiet", "-B", "main", release)
    git(folder, "tag", "v0.1.0")
    git(folder, "fetch", "--quiet", str(template), "HEAD")
    git(folder, "read-tree", "-u", "--reset", "FETCH_HEAD")
    commit_all(folder, "the working tree", "v9999.0.0")
    return folder


def test_snippet_of_the_first_release_becomes_one_of_this_version_with_the_teams_edits(
    history: Path, service: Path, tmp_path: Path
) -> None:
    (service / ".copier-answers.yml").unlink()
    commit_all(service, "made by no template")
    given = {"scope": "devcontainer", "project": "shop"}
    run_copy(str(history), service, given, vcs_ref="v0.1.0", defaults=True, quiet=True, unsafe=True)
    path = service / USUAL
    text = path.read_text(encoding="utf-8").replace('"name": "k3d-shop-dev"', '"name": "orders"')
    path.write_text(text.replace("  // On the cluster's", "  // Ours.\n  // On the cluster's"), encoding="utf-8")
    commit_all(service, "the old snippet, and an edit")
    update(service, answers_file=None)
    assert changed(service) == {USUAL, ".copier-answers.yml", ANSWERS}
    assert not (service / ".copier-answers.yml").exists()
    fresh = tmp_path / "fresh"
    copy(history, fresh)
    assert value(path) == {**value(fresh / USUAL), "name": "orders"}
    assert "// Ours." in path.read_text(encoding="utf-8")
    commit_all(service, "updated")
    update(service)
    assert changed(service) == set()


def test_refused_copy_leaves_the_repository_as_it_was(
    template: Path, service: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(service, usual='{"image": "debian", "runArgs": ["--network=host"]}\n')
    with pytest.raises(TaskError):
        copy(template, service)
    assert changed(service) == set()
    message = capfd.readouterr().err
    assert f'  - runArgs has "--network=host"; the cluster needs "--network={NETWORK}".' in message
    assert f"-d devcontainer_file=.devcontainer/{NETWORK}/devcontainer.json" in message
    assert "Nothing was changed." in message
    copy(template, service, devcontainer_file=f".devcontainer/{NETWORK}/devcontainer.json")
    assert changed(service) == {f".devcontainer/{NETWORK}/devcontainer.json", ANSWERS}


# -- which file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["usual", "root", "api"])
def test_the_only_configuration_is_the_one_that_is_meant(name: str, service: Path, hook: Hook) -> None:
    write(service, **{name: TEAM})
    assert hook() == 0
    assert changed(service) == {PATHS[name], ANSWERS}


def test_repository_without_a_configuration_gets_one(service: Path, hook: Hook) -> None:
    assert hook() == 0
    assert changed(service) == {USUAL, ANSWERS}
    assert value(service / USUAL)["remoteUser"] == "vscode"


def test_of_several_configurations_one_has_to_be_named_once(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    write(service, usual=TEAM, api=TEAM, web=TEAM)
    assert hook() == 1
    message = capsys.readouterr().err
    for name in ("usual", "api", "web"):
        assert f"    -d devcontainer_file={PATHS[name]}\n" in message
    assert changed(service) == set()
    assert hook(devcontainer_file=PATHS["web"]) == 0
    assert changed(service) == {PATHS["web"], ANSWERS}
    # Without the answer the one that has the kubeconfig is taken.
    assert hook() == 0
    assert changed(service) == {PATHS["web"], ANSWERS}


def test_configuration_outside_the_repository_is_left_alone(
    service: Path, hook: Hook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared.json"
    shared.write_text(TEAM, encoding="utf-8")
    (service / ".devcontainer.json").symlink_to(shared)
    commit_all(service, "a link")
    assert hook() == 1
    assert f".devcontainer.json leads out of this repository, to {shared}" in capsys.readouterr().err
    assert shared.read_text(encoding="utf-8") == TEAM


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{\n  "image": "debian"\n  "name": "x"\n}\n', "It is not JSON with comments: line 3, column 3: a comma or }"),
        (b"[]", "It holds no object"),
        (b'{"image": "l\xe4den"}', f"{USUAL} is not text in UTF-8."),
    ],
)
def test_file_that_cannot_be_read_is_named_and_stays(
    content: bytes, sentence: str, service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    write(service, usual="")
    (service / USUAL).write_bytes(content)
    commit_all(service, "broken")
    assert hook() == 1
    assert sentence in capsys.readouterr().err
    assert changed(service) == set()


def test_line_ends_and_mode_of_the_file_stay(service: Path, hook: Hook) -> None:
    write(service, usual="")
    (service / USUAL).write_bytes(TEAM.replace("\n", "\r\n").encode())
    (service / USUAL).chmod(0o640)
    commit_all(service, "from Windows")
    assert hook() == 0
    content = (service / USUAL).read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n") > 10
    assert (service / USUAL).stat().st_mode & 0o777 == 0o640


def test_folder_that_cannot_be_written_is_named(
    hook: Hook, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, _: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert hook() == 1
    assert "No space left on device." in capsys.readouterr().err


# -- updates, without Copier ----------------------------------------------------------------------------------------


def test_second_run_changes_nothing_and_says_so(service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    write(service, usual=TEAM)
    hook()
    before = (service / USUAL).read_bytes()
    capsys.readouterr()
    assert hook() == 0
    assert "has all that it needs already" in capsys.readouterr().err
    assert (service / USUAL).read_bytes() == before


def test_update_reports_what_both_changed_and_keeps_it(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    write(service, usual='{"runArgs": ["--network=mine"]}')
    assert hook("update") == 0
    assert f'runArgs has "--network=mine"; the cluster needs "--network={NETWORK}". It stays' in capsys.readouterr().err
    assert value(service / USUAL)["runArgs"] == ["--network=mine", ARGUMENTS[1]]


def test_update_without_the_old_version_at_hand_still_adds_and_reports(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    write(service, usual=TEAM)
    hook(_commit="v9.9.9-gone")
    commit_all(service, "the snippet")
    assert hook("update", cluster_name="cart-dev") == 0
    assert 'the cluster needs "--network=k3d-cart-dev". It stays as it is.' in capsys.readouterr().err
    assert value(service / USUAL)["runArgs"] == ["--init", *ARGUMENTS, ARGUMENTS[1].replace("shop", "cart")]


def test_broken_file_stops_an_update_with_the_way_back(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    write(service, usual="{")
    assert hook("update") == 1
    assert "To undo the update: git reset -q ." in capsys.readouterr().err
    assert (service / ANSWERS).exists()


CONFLICT = "<<<<<<< HEAD\n_commit: v1\n=======\n_commit: v2\n>>>>>>> other\n"
BROKEN = [
    (CONFLICT.encode(), "is in conflict"),
    (b"a: [\n", "is not valid YAML"),
    (b"project: 2026-02-31\n", "has a value that YAML takes for a date or a number, and that is none: day is out of"),
    (b"project: \xff\n", "is not text in UTF-8"),
    (b"", "does not name the cluster"),
    (b"- a\n", "does not name the cluster"),
]


@pytest.mark.parametrize("operation", ["copy", "update", "remove"])
@pytest.mark.parametrize(("content", "why"), BROKEN)
def test_answers_that_cannot_be_read_are_refused_and_stay(
    service: Path, capsys: pytest.CaptureFixture[str], operation: str, content: bytes, why: str
) -> None:
    (service / ANSWERS).write_bytes(content)
    assert dev_container.main([operation, ANSWERS]) == 1
    said = capsys.readouterr().err
    assert f"{ANSWERS} {why}" in said
    assert "then repeat the command" in said
    assert ("To undo the update" if operation == "update" else "Nothing was changed.") in said
    assert (service / ANSWERS).read_bytes() == content
    assert changed(service) == {ANSWERS}


def test_side_of_a_conflict_in_the_answers_is_taken_by_the_command_that_is_named(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    hook()
    commit_all(service, "the snippet")
    git(service, "checkout", "--quiet", "-b", "other")
    hook(_commit="v2")
    commit_all(service, "theirs")
    git(service, "checkout", "--quiet", "-")
    hook(_commit="v3")
    commit_all(service, "ours")
    subprocess.run(["git", "merge", "other"], cwd=service, check=False, capture_output=True)
    assert f"UU {ANSWERS}\n" in git(service, "status", "--porcelain")
    assert dev_container.main(["remove", ANSWERS]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "git checkout --ours" in line]
    subprocess.run(["sh", "-c", line.partition("   (")[0]], cwd=service, check=True, capture_output=True)
    assert read_yaml(service / ANSWERS)["_commit"] == "v3"
    assert dev_container.main(["remove", ANSWERS]) == 0


@pytest.mark.parametrize("content", [CONFLICT, "since: 2026-02-31\n"])
@pytest.mark.parametrize("name", [ANSWERS, ".copier-answers.yml"])
def test_committed_answers_that_cannot_be_read_keep_no_snippet_from_a_service(
    service: Path, hook: Hook, name: str, content: str
) -> None:
    (service / name).write_text(content, encoding="utf-8")
    commit_all(service, "broken")
    assert hook() == 0
    assert value(service / USUAL)["name"] == NETWORK


def test_removal_leaves_the_teams_file_and_nothing_of_the_snippet(service: Path, hook: Hook) -> None:
    write(service, usual=TEAM)
    hook()
    commit_all(service, "the snippet")
    assert hook("remove") == 0
    assert value(service / USUAL) == parse(TEAM).value
    assert not (service / ANSWERS).exists()


def test_removal_takes_a_configuration_that_the_snippet_made(service: Path, hook: Hook) -> None:
    hook()
    commit_all(service, "the snippet")
    assert hook("remove") == 0
    assert not (service / USUAL).exists()


def with_entry_of_the_team(service: Path, text: str, comment: str = "") -> None:
    """Adds to the file that the snippet made, and commits it."""
    file = service / USUAL
    content = file.read_text(encoding="utf-8")
    assert content.count('  "remoteUser"') == 1
    file.write_text(comment + content.replace('  "remoteUser"', f'{text}  "remoteUser"'), encoding="utf-8")
    commit_all(service, "the team's entry")


def test_removal_leaves_a_configuration_that_is_valid_where_the_team_has_added_to_it(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    hook()
    made = value(service / USUAL)
    with_entry_of_the_team(service, '  // Our port.\n  "forwardPorts": [8080],\n')
    capsys.readouterr()
    assert hook("remove") == 0
    left = value(service / USUAL)
    whole = {key: made[key] for key in ("name", "image", "remoteUser", "updateRemoteUserUID")}
    assert left == {**whole, "forwardPorts": [8080]}
    text = (service / USUAL).read_text(encoding="utf-8")
    assert "  // Our port.\n" in text
    assert "reach the cluster" not in text
    note = (
        "name, image, remoteUser, updateRemoteUserUID stay as the template has them, because what is yours needs them."
    )
    assert f"{USUAL}: {note}\n" in capsys.readouterr().err
    schema = SCHEMAS / "devContainer.base.schema.json"
    if schema.exists():
        validator = Draft201909Validator(parse(schema.read_text(encoding="utf-8")).value)
        assert [error.message for error in validator.iter_errors(left)] == []
        assert [*validator.iter_errors({"forwardPorts": [8080]})], "the schema checks nothing"


@pytest.mark.parametrize(
    ("entry", "comment"),
    [("  // Ours: do not use.\n", ""), ("  /* Ours. */\n", ""), ("", "// Ours.\n"), ("", "/* Ours. */ ")],
)
def test_removal_keeps_a_file_with_a_comment_of_the_teams(entry: str, comment: str, service: Path, hook: Hook) -> None:
    hook()
    with_entry_of_the_team(service, entry, comment)
    assert hook("remove") == 0
    assert "Ours" in (service / USUAL).read_text(encoding="utf-8")
    assert {*value(service / USUAL)} == {"name", "image", "remoteUser", "updateRemoteUserUID"}


def test_removal_keeps_a_user_of_the_teams_that_is_the_templates_too(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    own = '{"image": "debian", "remoteUser": "vscode"}\n'
    write(service, usual=own)
    hook()
    commit_all(service, "the snippet")
    capsys.readouterr()
    assert hook("remove") == 0
    assert (service / USUAL).read_text(encoding="utf-8") == own
    assert "because what is yours" not in capsys.readouterr().err


# -- Docker Compose -------------------------------------------------------------------------------------------------

IN_COMPOSE = '{"dockerComposeFile": "../compose.yml", "service": "app"}\n'
VOLUME = "${HOME}/.kube:/home/vscode/.kube:ro"
VARIABLES = f"${{HOME}}/.kube/{NETWORK}.devcontainer.env"
APP = "services:\n  app:\n    image: debian\n"


def test_compose_container_joins_the_network_by_a_file_of_its_own(service: Path, hook: Hook) -> None:
    write(service, usual=IN_COMPOSE, compose=APP)
    assert hook() == 0
    assert changed(service) == {USUAL, COMPOSE, ANSWERS}
    assert value(service / USUAL)["dockerComposeFile"] == ["../compose.yml", "compose.k3d.yaml"]
    assert read_yaml(service / COMPOSE) == {
        "services": {"app": {"networks": ["default", NETWORK], "volumes": [VOLUME], "env_file": [VARIABLES]}},
        "networks": {NETWORK: {"name": NETWORK, "external": True}},
    }
    commit_all(service, "the snippet")
    assert hook("update") == 0
    assert changed(service) == set()


def test_removal_takes_the_compose_file_too(service: Path, hook: Hook) -> None:
    write(service, usual=IN_COMPOSE, compose=APP)
    hook()
    commit_all(service, "the snippet")
    assert hook("remove") == 0
    assert not (service / COMPOSE).exists()
    assert value(service / USUAL)["dockerComposeFile"] == ["../compose.yml"]


def test_compose_file_follows_another_cluster_unless_it_was_edited(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    write(service, usual=IN_COMPOSE, compose=APP)
    hook()
    commit_all(service, "the snippet")
    assert hook("update", cluster_name="cart-dev") == 0
    assert "k3d-cart-dev" in read_yaml(service / COMPOSE)["networks"]
    assert "shop-dev" not in (service / USUAL).read_text(encoding="utf-8")
    text = (service / COMPOSE).read_text(encoding="utf-8")
    (service / COMPOSE).write_text(text + "# ours\n", encoding="utf-8")
    capsys.readouterr()
    assert hook("update") == 0
    assert f"{COMPOSE} was changed and stays as it is, but does not name the network" in capsys.readouterr().err
    assert (service / COMPOSE).read_text(encoding="utf-8") == text + "# ours\n"


def test_compose_file_goes_when_the_container_leaves_compose(service: Path, hook: Hook) -> None:
    write(service, usual=IN_COMPOSE, compose=APP)
    hook()
    write(service, usual=TEAM)
    assert hook() == 0
    assert not (service / COMPOSE).exists()


def test_foreign_file_of_the_same_name_is_not_replaced(
    service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    write(service, usual=IN_COMPOSE, compose=APP, own_compose="services: {}\n")
    assert hook() == 1
    assert f"{COMPOSE} is there already" in capsys.readouterr().err
    assert changed(service) == set()


@pytest.mark.parametrize(
    ("settings", "compose", "sentence"),
    [
        ('{"dockerComposeFile": "../compose.yml"}', APP, "no service."),
        ('{"dockerComposeFile": [], "service": "app"}', APP, "names no Compose file"),
        (
            '{"dockerComposeFile": "no.yml", "service": "app"}',
            APP,
            "Its Compose file .devcontainer/no.yml is not there.",
        ),
        (IN_COMPOSE, "services: {web: {}}", "Its Compose files have no service 'app'."),
        ('{"dockerComposeFile": 5, "service": "app"}', APP, "dockerComposeFile is 5; it has to be a list of names."),
        ('{"dockerComposeFile": {"a": 1}, "service": "app"}', APP, 'dockerComposeFile is {"a": 1}; it has to be'),
        (IN_COMPOSE, "services: [", "is not valid YAML"),
        (IN_COMPOSE, "services: !!int x", "is not valid YAML"),
        (IN_COMPOSE, "services: {app: {network_mode: host}}", "has network_mode 'host', and so can join no other"),
        (IN_COMPOSE, "services: {app: {network_mode: 'service:app'}}", "has network_mode 'service:app'"),
    ],
)
def test_compose_container_that_cannot_join_is_refused(
    settings: str, compose: str, sentence: str, service: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    write(service, usual=settings, compose=compose)
    assert hook() == 1
    assert sentence in capsys.readouterr().err
    assert changed(service) == set()


@pytest.mark.parametrize(
    ("documents", "service", "names_none", "version"),
    [
        ([APP], "app", True, None),
        (["version: '3.8'\n" + APP], "app", True, "3.8"),
        (["services: {app: {networks: [back]}}"], "app", False, None),
        ([APP, "services: {app: {networks: {back: {}}}}"], "app", False, None),
        # The container shares the network of another service, as containers beside a database often do.
        (["services: {app: {network_mode: 'service:db'}, db: {networks: [back]}}"], "db", False, None),
        (["services: {app: {extends: base}, base: {networks: [back]}}"], "app", False, None),
        (["services: {app: {extends: {service: base}}, base: {network_mode: 'service:db'}, db: {}}"], "db", True, None),
        (["services: {app: {image: x, ports: !override [], x: !reset null}}"], "app", True, None),
        (["include: [other.yml]\n"], "app", True, None),
        # Compose knows no dates.
        (["version: 2024-13-45\nservices: {app: {image: x}}"], "app", True, "2024-13-45"),
    ],
)
def test_network_is_joined_by_the_service_that_has_one(
    documents: list[str], service: str, names_none: bool, version: str | None
) -> None:
    how = joining(documents, "app")
    assert (how.service, how.names_none, how.version) == (service, names_none, version)
    text = compose_text(how, NETWORK, [VOLUME], [VARIABLES])
    services = yaml.safe_load(text)["services"]
    networks = services[service]["networks"]
    assert services["app"]["volumes"] == [VOLUME]
    assert services["app"]["env_file"] == [VARIABLES]
    assert networks == (["default", NETWORK] if names_none else [NETWORK])
    assert is_unchanged(text)
    assert is_unchanged(text.replace("\n", "\r\n"))
    assert not is_unchanged(text + "x")
