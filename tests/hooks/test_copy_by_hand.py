"""`copier copy` and `copier recopy` by hand: what is said at the end, and what a refusal leaves."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from answers import MIRROR_ADDRESSES
from copier import run_copy, run_recopy
from copier.errors import TaskError
from questions import answerable
from support import commit_all, git, read_yaml

WRONG: dict[str, Any] = {"arc": "nein"}
SNIPPET_ANSWERS = ".copier-answers.devcontainer.yml"
SNIPPET: dict[str, Any] = {"scope": "devcontainer", "project": "shop"}
AGAIN: dict[str, Any] = {"defaults": True, "unsafe": True, "overwrite": True}
# An environment of few files.
SMALL: dict[str, Any] = {"defaults": True, "unsafe": True, "exclude": ["/envkit", "/ansible", "/helm", "/runner"]}
ADDRESSES = (
    *MIRROR_ADDRESSES,
    *(question.key for question in answerable() if question.key.endswith(("_image", "_repository"))),
)
INIT = "git init -b main && git add -A ."


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A repository of a service, without files."""
    folder = tmp_path / "service"
    folder.mkdir()
    commit_all(folder, "the service")
    return folder


def refusal(capfd: pytest.CaptureFixture[str], *arguments: Any, **options: Any) -> str:
    capfd.readouterr()
    with pytest.raises(TaskError):
        run_copy(*arguments, **options)
    return capfd.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, "https://u:hunter2@hunter2@m.example.com/x") for key in ADDRESSES),
        *(
            ("image_mirrors", {registry: "m.example.com/x"})
            for registry in ("u:hunter2@docker.io", "https://u:hunter2@d")
        ),
        ("image_mirrors", {"docker.io": "u:hunter2@m.example.com/x"}),
        ("image_mirrors", '{docker.io: "https://u:hunter2/hunter2@m.example.com/x"}'),
        ("image_mirrors_plain_http", ["u:hunter2\nhunter2@m.example.com"]),
    ],
)
def test_login_in_an_address_is_not_shown(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], key: str, value: object
) -> None:
    with pytest.raises(ValueError, match=key) as failure:
        run_copy(str(template), tmp_path / "env", {key: value}, **SMALL)
    assert "hunter2" not in "".join(capfd.readouterr()) + str(failure.value)


def test_next_commands_name_a_folder_with_spaces(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_copy(str(template), tmp_path / "my env", **SMALL)
    said = capfd.readouterr().err
    assert f"Next:\n\n    cd '{tmp_path}/my env'\n    {INIT}" in said
    assert "    bin/just setup\n" in said


@pytest.mark.parametrize("destination", [".", "env"])
def test_repository_that_is_there_is_not_made_again(
    template: Path,
    destination: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    repository = tmp_path / "[of all] *"
    repository.mkdir()
    git(repository, "init", "--quiet")
    monkeypatch.chdir(repository)
    run_copy(str(template), destination, **SMALL)
    said = capfd.readouterr().err
    folder = "" if destination == "." else f"    cd {destination}\n"
    commit = 'git add -A . && git commit -m "feat: generate the environment"'
    assert f"Next:\n\n{folder}    git status\n    {commit}\n    bin/just setup\n" in said
    (repository / "others").touch()
    subprocess.run(commit, cwd=repository / destination, shell=True, check=True, capture_output=True)
    assert ("others" in git(repository, "ls-files").split()) == (destination == ".")


def test_further_work_tree_is_a_repository_too(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main = tmp_path / "main"
    main.mkdir()
    commit_all(main, "start")
    git(main, "worktree", "add", "--quiet", str(tmp_path / "further"))
    run_copy(str(template), tmp_path / "further" / "env", **SMALL)
    assert INIT not in capfd.readouterr().err


def test_recopy_does_not_offer_to_make_the_repository(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_copy(str(template), tmp_path / "env", **SMALL, quiet=True)
    commit_all(tmp_path / "env", "generated")
    monkeypatch.chdir(tmp_path / "env")
    run_recopy(".", **SMALL, overwrite=True)
    said = capfd.readouterr().err
    assert "The environment is in this folder. Next:\n\n    git status\n" in said
    assert INIT not in said


def test_refused_copy_into_a_folder_that_was_there_says_what_stays(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "env"
    repository.mkdir()
    git(repository, "init", "--quiet")
    said = refusal(capfd, str(template), repository, WRONG, **SMALL)
    assert "Nothing was" not in said
    assert "has files in it now: the command asks for each that differs." in said
    assert "With --overwrite it replaces files of the same name without asking (Git has those" in said
    assert said.endswith("To remove the new ones first, which asks for each: git clean -d -i\n")
    assert (repository / "k3d.yaml").exists()
    assert not (repository / ".copier-answers.yml").exists()
    run_copy(str(template), repository, **SMALL, overwrite=True)
    assert (repository / ".copier-answers.yml").exists()


def test_refused_copy_where_git_is_not_says_what_stays_too(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capfd, str(template), tmp_path, WRONG, **SMALL)
    assert said.endswith("has files in it now: the command asks for each that differs.\n")
    assert "--overwrite" not in said  # files of the person's own have no other copy there
    assert (tmp_path / "k3d.yaml").exists()


def test_answers_that_are_left_out_are_told(template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = {**SMALL, "exclude": [*SMALL["exclude"], "*.yml"]}
    said = refusal(capfd, str(template), tmp_path / "env", **options)
    assert ".copier-answers.yml was left out, and updates begin with it." in said
    assert "Traceback" not in said


def test_refused_snippet_may_be_tried_again(template: Path, service: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refusal(capfd, str(template), service, {**SNIPPET, "arcc": "no"}, defaults=True, unsafe=True)
    assert "Nothing was changed. Correct the answers, then repeat the command." in said
    assert git(service, "status", "--porcelain") == ""


def test_refused_snippet_without_git_leaves_nothing_in_a_folder_without_a_dev_container(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capfd, str(template), tmp_path, {**SNIPPET, "foo": "1"}, **AGAIN)
    assert "Nothing was changed." in said
    assert not list(tmp_path.iterdir())
    run_copy(str(template), tmp_path, SNIPPET, **AGAIN)
    assert f"So {SNIPPET_ANSWERS} stays" in refusal(capfd, str(template), tmp_path, {**SNIPPET, "foo": "1"}, **AGAIN)
    assert (tmp_path / SNIPPET_ANSWERS).exists()


def test_refused_second_snippet_keeps_the_answers_of_the_first_one(
    template: Path, service: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_copy(str(template), service, SNIPPET, **AGAIN)
    first = (service / SNIPPET_ANSWERS).read_bytes()
    said = refusal(capfd, str(template), service, {**SNIPPET, "foo": "1"}, **AGAIN)
    assert "Nothing was changed" not in said
    assert f"So {SNIPPET_ANSWERS} stays, written with these answers; the next copy replaces it" in said
    assert "Correct the answers, then repeat the command." in said
    assert (service / SNIPPET_ANSWERS).read_bytes() == first
    run_copy(str(template), service, SNIPPET, **AGAIN)
    commit_all(service, "the snippet")
    said = refusal(capfd, str(template), service, {**SNIPPET, "foo": "1"}, **AGAIN)
    assert f"those of before: git checkout -- {SNIPPET_ANSWERS}" in said


def test_second_snippet_that_does_not_fit_the_first_one_keeps_its_answers(
    template: Path, service: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_copy(str(template), service, SNIPPET, **AGAIN)
    said = refusal(capfd, str(template), service, {**SNIPPET, "cluster_name": "other"}, **AGAIN)
    assert "The dev container snippet does not fit" in said
    assert "Nothing was changed" not in said
    assert (service / SNIPPET_ANSWERS).exists()


def test_refused_recopy_keeps_the_answers_that_git_has(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = tmp_path / "env"
    run_copy(str(template), environment, **SMALL, quiet=True)
    commit_all(environment, "generated")
    said = refusal(capfd, str(template), environment, WRONG, **SMALL, overwrite=True)
    assert "The answers of before: git checkout -- .copier-answers.yml" in said
    git(environment, "checkout", "--", ".copier-answers.yml")
    assert git(environment, "status", "--porcelain") == ""


def test_prefix_of_a_registry_s_name_is_refused_at_the_prompt_of_a_copy_and_kept_by_a_recopy(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = tmp_path / "env"
    # Answers that are typed are not among the given ones, just as defaults of the person's own.
    typed = {"registry": "shared", "registry_name": "k3d-images"}
    said = refusal(capfd, str(template), environment, user_defaults=typed, **SMALL)
    assert 'registry_name: "k3d-images" was given; k3d- is put before it' in said
    run_copy(str(template), environment, user_defaults=typed, skip_tasks=True, **SMALL)
    commit_all(environment, "as an earlier version took it")
    run_recopy(environment, **SMALL, overwrite=True)
    assert read_yaml(environment / ".copier-answers.yml")["registry_name"] == "k3d-images"
    run_recopy(environment, typed, **SMALL, overwrite=True)
    with pytest.raises(TaskError):
        run_recopy(environment, {"registry_name": "k3d-others"}, **SMALL, overwrite=True)
    assert 'registry_name: "k3d-others" was given' in capfd.readouterr().err
