"""Answers that are given to an update: wrong ones stop it before anything is changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import answers as answers_module
import pytest
from copier import VcsRef, run_copy, run_update
from copier.errors import TaskError
from given_answers import problems_of_change
from questions import answerable
from support import commit_all, git, read_yaml

ANSWERS = ".copier-answers.yml"
SNIPPET_ANSWERS = ".copier-answers.devcontainer.yml"
ADDRESSES = (
    *answers_module.MIRROR_ADDRESSES,
    *(question.key for question in answerable() if question.key.startswith("image_mirrors")),
    *(question.key for question in answerable() if question.key.endswith(("_image", "_repository"))),
)


def generate(template: Path, destination: Path, **answers: Any) -> Path:
    run_copy(str(template), destination, answers, defaults=True, quiet=True, unsafe=True)
    commit_all(destination, "generated")
    return destination


@pytest.fixture(scope="module")
def generated(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed environment, to be copied."""
    return generate(template, tmp_path_factory.mktemp("generated") / "env")


@pytest.fixture
def environment(generated: Path, tmp_path: Path) -> Path:
    """A committed environment with a secret in a file that Git ignores."""
    folder = Path(shutil.copytree(generated, tmp_path / "env", symlinks=True))
    (folder / ".env").write_text("SECRET=1\n", encoding="utf-8")
    return folder


def update(repository: Path, answers: dict[str, Any], **options: Any) -> None:
    run_update(repository, answers, vcs_ref=VcsRef.CURRENT, defaults=True, unsafe=True, overwrite=True, **options)


def refused(repository: Path, answers: dict[str, Any], capfd: pytest.CaptureFixture[str], **options: Any) -> str:
    """What is said of these answers, which have to leave the repository as it was."""
    capfd.readouterr()
    with pytest.raises(TaskError) as failure:
        update(repository, answers, **options)
    said = capfd.readouterr().err
    assert "hunter2" not in said + str(failure.value)
    assert "Nothing was changed." in said
    assert git(repository, "status", "--porcelain") == ""
    return said


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"arcc": "no"}, "arcc: there is no such question. Did you mean arc?"),
        ({"agnets": "hunter2"}, "agnets: there is no such question. Did you mean agents?"),
        ({"arc": "nein"}, 'arc: "nein" was given; allowed is yes or no.'),
        ({"lens": "lenss"}, 'lens: "lenss" was given. Did you mean'),
        ({"agents": "2.7"}, 'agents: "2.7" was given; allowed is a whole number from 0 to 10.'),
        ({"image_mirrors": "{docker.io"}, "image_mirrors: "),
        ({"provider": "existing"}, "kube_context: nothing was given; with provider existing"),
        ({"http_port": 6550}, "api_port: 6550 is also the answer to http_port"),
    ],
)
def test_wrong_answer_stops_an_update_before_anything_is_changed(
    environment: Path, capfd: pytest.CaptureFixture[str], answers: dict[str, Any], sentence: str
) -> None:
    assert sentence in refused(environment, answers, capfd)


@pytest.mark.parametrize(
    "given",
    [
        dict.fromkeys(ADDRESSES, "https://u:hunter2@m.example.com/apt"),
        {
            "image_mirrors": "u:hunter2@m.example.com/apt",
            "python_index": "https://u:hunter2@hunter2@m.example.com",
            "npm_registry": "https://u:hunter2/hunter2@m.example.com",
            "apt_mirror": 'u:hunter2"hunter2\\@m.example.com',
        },
    ],
)
def test_login_in_an_address_is_refused_and_not_shown(
    environment: Path, capfd: pytest.CaptureFixture[str], given: dict[str, str]
) -> None:
    said = refused(environment, given, capfd)
    assert [key for key in given if f"  - {key}: " not in said] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_mirrors", '{docker.io: "u:hunter2@m.example.com/x"}'),
        ("image_mirrors", "{docker.io: 'https://u:hunter2@m.example.com/x', ghcr.io: m.example.com/y}"),
        ("image_mirrors", {"docker.io": "u:hunter2@m.example.com/x", "ghcr.io": "m.example.com/y"}),
        ("image_mirrors", {"u:hunter2@docker.io": "m.example.com/x"}),
        ("image_mirrors", {"docker.io": ["u:hunter2@m.example.com/x"]}),
        ("image_mirrors_plain_http", ["u:hunter2@m.example.com"]),
        ("image_mirrors_plain_http", "[u:hunter2@m.example.com]"),
    ],
)
def test_login_in_a_mapping_or_a_list_is_refused_and_not_shown(
    environment: Path, capfd: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    assert f"{key}: " in refused(environment, {key: value}, capfd)


def test_digest_and_context_with_an_at_sign_are_taken(environment: Path) -> None:
    image = f"docker.io/library/docker@sha256:{64 * 'a'}"
    given = {"kube_context": "me@team.eksctl.io", "provider": "existing", "arc": "no", "create_cluster": "no"}
    update(environment, {"dind_image": image, **given})
    recorded = read_yaml(environment / ANSWERS)
    assert (recorded["dind_image"], recorded["kube_context"]) == (image, "me@team.eksctl.io")


def test_all_that_is_wrong_is_listed_at_once(environment: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(environment, {"arcc": "no", "agents": "50"}, capfd)
    assert "There are 2 problems with the answers:" in said


def test_right_answer_is_taken(environment: Path) -> None:
    update(environment, {"agents": "3", "arc": "no"})
    assert read_yaml(environment / ANSWERS)["agents"] == 3
    assert not (environment / "helm").exists()


def test_environment_does_not_become_a_snippet(environment: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(environment, {"scope": "devcontainer"}, capfd)
    assert "script/new ../service -d scope=devcontainer" in said
    assert git(environment, "check-ignore", ".env") == ".env\n"


def test_snippet_does_not_become_an_environment(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    service = tmp_path / "service"
    service.mkdir()
    (service / "main.go").touch()
    commit_all(service, "the service")
    generate(template, service, scope="devcontainer")
    said = refused(service, {"scope": "environment"}, capfd, answers_file=SNIPPET_ANSWERS)
    assert "script/new ../env" in said


def test_scope_that_was_changed_at_the_prompt_stops_the_update_with_the_way_back(
    environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As Copier leaves it when it runs the tasks in the repository: nothing of the environment is removed yet.
    (environment / SNIPPET_ANSWERS).write_text("scope: devcontainer\nproject: shop\n", encoding="utf-8")
    monkeypatch.chdir(environment)
    monkeypatch.setenv("COPIER_OPERATION", "update")
    assert answers_module.main(["check", SNIPPET_ANSWERS]) == 1
    said = capsys.readouterr().err
    assert "script/new ../service -d scope=devcontainer" in said
    assert "To undo it: git reset -q . && git checkout . && git clean -d -i ." in said
    assert answers_module.main(["check", ANSWERS]) == 0


def test_answer_of_before_that_no_longer_applies_is_no_problem() -> None:
    recorded = {"_commit": "v1", "scope": "environment", "create_cluster": True, "old_question": 1}
    given = {"provider": "existing", "kube_context": "kind", "arc": "no"}
    assert problems_of_change(recorded, given, asks=False) == []


def test_fault_of_before_is_not_put_on_the_given_answer() -> None:
    assert problems_of_change({"agents": 50}, {"lens": "none"}, asks=False) == []


def test_name_with_a_prefix_may_be_repeated_and_no_other_one_given() -> None:
    recorded = {"registry": "shared", "registry_name": "k3d-images"}
    assert problems_of_change(recorded, recorded, asks=False) == []
    (problem,) = problems_of_change(recorded, {"registry_name": "k3d-others"}, asks=False)
    assert 'registry_name: "k3d-others" was given; k3d- is put before it' in problem.sentence


def test_environment_whose_registry_has_a_prefix_is_updated_with_the_data_file_it_was_made_with(
    environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = environment / ANSWERS
    text = answers.read_text(encoding="utf-8").replace("registry: own", "registry: shared\nregistry_name: k3d-images")
    answers.write_text(text, encoding="utf-8")
    commit_all(environment, "as an earlier version took it")
    update(environment, {"registry": "shared", "registry_name": "k3d-images", "agents": "3"})
    recorded = read_yaml(answers)
    assert (recorded["registry_name"], recorded["agents"]) == ("k3d-images", 3)
    commit_all(environment, "updated")
    assert "so allowed is what stands behind" in refused(environment, {"registry_name": "k3d-others"}, capfd)


def test_answer_that_is_still_asked_for_may_come_at_the_prompt() -> None:
    given = {"provider": "existing", "arc": "no"}
    assert problems_of_change({}, given, asks=True) == []
    assert [problem.keys for problem in problems_of_change({}, given, asks=False)] == [("kube_context", "provider")]
    assert problems_of_change({}, {"provider": "exists"}, asks=True)
