"""The model of the answers: what it lets through, what it says, and that Copier agrees with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answers import Answers, complete, json_schema, listed, main, problems
from copier import run_copy
from copier.errors import CopierError
from jsonschema import Draft202012Validator
from questions import all_questions, answerable
from support import ROOT, CopyProject, commit_all, fixture_files, read_yaml

# What only the model finds, because Copier has no rule for it: it drops unknown keys, cuts fractions off,
# counts yes as 1, reads Python's own spellings of numbers, and takes every other word and number for yes. The prefix
# may be in the recorded answers of an environment, which Copier would replace in silence.
ONLY_THE_MODEL = {
    "agents-as-yes",
    "agents-with-a-fraction",
    "agents-with-a-point",
    "agents-with-underscore",
    "arc-as-two",
    "arc-neither-yes-nor-no",
    "github-org-as-yes",
    "registry-name-with-the-prefix",
    "servers-as-yes",
    "unknown-key",
}

ONLY_ASKED_AFTER_ANOTHER_ANSWER = {"registry_name", "kube_context", "image_repository", "image_pull_secret"}

LIMITS = {
    "agents": (0, 10),
    "http_port": (1, 65535),
    "https_port": (1, 65535),
    "api_port": (1024, 65535),
    "registry_port": (1024, 65535),
    "runners_min": (0, 1000),
    "runners_max": (1, 1000),
}


def sentences(**answers: Any) -> list[str]:
    return [problem.sentence for problem in problems(answers)]


@pytest.mark.parametrize("path", fixture_files("valid"))
def test_model_accepts(path: Path) -> None:
    assert problems(read_yaml(path)) == []


@pytest.mark.parametrize("path", fixture_files("invalid"))
def test_model_refuses_and_says_what_is_allowed(path: Path) -> None:
    found = problems(read_yaml(path))
    assert len(found) == 1
    assert found[0].keys[0] in {*read_yaml(path)}
    assert "llowed" in found[0].sentence or "have to differ" in found[0].sentence


def _let_copier_judge(path: Path, tmp_path: Path, plain_template: Path) -> None:
    """Asks Copier's own validators alone: no file is written and no task runs."""
    run_copy(
        str(plain_template),
        tmp_path / "env",
        read_yaml(path),
        defaults=True,
        quiet=True,
        pretend=True,
        skip_tasks=True,
        unsafe=True,
    )


@pytest.mark.parametrize("path", fixture_files("valid"))
def test_copier_accepts_what_the_model_accepts(path: Path, tmp_path: Path, plain_template: Path) -> None:
    _let_copier_judge(path, tmp_path, plain_template)


@pytest.mark.parametrize("path", fixture_files("invalid"))
def test_copier_refuses_what_the_model_refuses_unless_it_has_no_rule_for_it(
    path: Path, tmp_path: Path, plain_template: Path
) -> None:
    try:
        _let_copier_judge(path, tmp_path, plain_template)
    except (CopierError, ValueError):
        refused = True
    else:
        refused = False
    assert refused == (path.stem not in ONLY_THE_MODEL)


PRESETS = [pytest.param(path, id=path.stem) for path in sorted((ROOT / "presets").glob("*.yml"))]


@pytest.mark.parametrize("path", PRESETS)
def test_a_preset_holds_allowed_answers_and_says_how_to_use_it(path: Path) -> None:
    preset = read_yaml(path)
    assert problems(preset) == []
    assert Draft202012Validator(json_schema()).is_valid(preset)
    assert all(complete({})[key] != value for key, value in preset.items() if key != "registry_name")
    assert f"# script/new DEST --data-file presets/{path.name}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("key", "limits"), LIMITS.items())
def test_limits_are_exact(key: str, limits: tuple[int, int]) -> None:
    others = {"https_port": 444, "http_port": 81, "api_port": 6551, "registry_port": 5051}
    room = {"runners_min": 0, "runners_max": 1000, **others}
    for value, allowed in [
        (limits[0] - 1, False),
        (limits[0], True),
        (limits[1], True),
        (limits[1] + 1, False),
    ]:
        assert (problems({**room, key: value}) == []) is allowed, value


def test_every_problem_is_reported_at_once() -> None:
    keys = ", ".join(Answers.model_fields)
    found = sentences(agents=50, lens="openlense", http_port=443, https_port=443, arc="maybe", agnets=1)
    assert found == [
        "agents: 50 was given; allowed is a whole number from 0 to 10.",
        "https_port: 443 is also the answer to http_port; ports have to differ.",
        'lens: "openlense" was given. Did you mean openlens? Allowed: openlens, freelens, none.',
        'arc: "maybe" was given; allowed is yes or no.',
        f"agnets: there is no such question. Did you mean agents? Allowed: {keys}.",
    ]


@pytest.mark.parametrize("key", ["download_mirror", "python_index", "npm_registry", "apt_mirror"])
def test_password_in_a_mirror_s_address_is_refused_and_not_shown(
    key: str, plain_template: Path, tmp_path: Path
) -> None:
    answers = {key: "https://me:hunter2@mirror.example.com/x"}
    (sentence,) = sentences(**answers)
    assert "~/.netrc" in sentence
    assert "hunter2" not in sentence
    with pytest.raises(ValueError, match=r"~/\.netrc"):
        run_copy(str(plain_template), tmp_path / "env", answers, defaults=True, quiet=True, pretend=True, unsafe=True)
    assert "~/.netrc" not in sentences(**{key: "mirror.example.com"})[0]


@pytest.mark.parametrize(
    ("answers", "shown"),
    [
        ({"apt_mirror": "u:hunter2@m/x"}, '"***@m/x"'),
        ({"apt_mirror": "https://u:hunter2@hunter2@m"}, '"https://***@m"'),
        ({"apt_mirror": 'https://u:hunter2/"hunter2\\@m'}, '"https://***@m"'),
        ({"image_mirrors": {"docker.io": "u:hunter2@m/x"}}, '"***@m/x"'),
        ({"image_mirrors": {"u:hunter2@docker.io": "m.example.com"}}, '"***@docker.io"'),
        ({"image_mirrors": ["u:hunter2@m", "n"]}, '["***@m", "n"]'),
        ({"image_mirrors": "{docker.io: 'u:hunter2@m"}, '"***@m"'),
        ({"image_mirrors_plain_http": ["u:hunter2@m"]}, '"***@m"'),
        ({"k3s_image": "u:hunter2@m/k3s@sha256:0"}, '"***@m/k3s@sha256:0"'),
        ({"k3s_image": "m/k3s@sha256:0"}, '"m/k3s@sha256:0"'),
    ],
)
def test_what_stands_before_a_host_is_not_shown(answers: dict[str, Any], shown: str) -> None:
    (key,) = answers
    assert sentences(**answers)[0].startswith(f"{key}: {shown} was given; ")


def test_a_bad_name_is_not_reported_again_for_the_names_made_from_it() -> None:
    assert [problem.keys for problem in problems({"project": "Bad Name"})] == [("project",)]


def test_a_key_written_with_hyphens_finds_its_question() -> None:
    assert "Did you mean http_port?" in sentences(**{"http-port": 80})[0]


def test_a_default_port_makes_way_for_a_given_one() -> None:
    answers = complete({"http_port": 443, "https_port": 6550, "api_port": 5050})
    assert answers["registry_port"] == 5051


def test_unquoted_yes_for_text_says_that_quotes_help() -> None:
    assert sentences(github_org=True)[0].endswith("Put it in quotes to have it read as text.")


def test_list_counts_its_problems() -> None:
    assert listed(problems({"agents": 11})).startswith("There is 1 problem with the answers:\n  - agents: 11")
    two = problems({"agents": 11, "http_port": 0})
    assert listed(two).startswith("There are 2 problems with the answers:\n  - ")


def test_model_and_copier_have_the_same_questions_in_the_same_order() -> None:
    assert [question.key for question in answerable()] == list(Answers.model_fields)


def test_model_and_copier_have_the_same_choices() -> None:
    schema = Answers.model_json_schema()["properties"]
    for question in answerable():
        assert schema[question.key].get("enum") == (list(question.choices.values()) if question.choices else None)


def test_model_and_copier_have_the_same_types() -> None:
    kinds = {"str": "string", "int": "integer", "bool": "boolean"}
    of_yaml: dict[type, str] = {dict: "object", list: "array"}
    schema = Answers.model_json_schema()["properties"]
    for question in answerable():
        kind = of_yaml[type(question.default)] if question.type == "yaml" else kinds[question.type]
        assert kind in schema[question.key]["type"]


def test_model_and_copier_fill_in_the_same_defaults(tmp_path: Path, copy_project: CopyProject) -> None:
    recorded = read_yaml(copy_project(tmp_path / "env") / ".copier-answers.yml")
    not_asked = {question.key for question in answerable() if not question.ask} | ONLY_ASKED_AFTER_ANOTHER_ANSWER
    assert {key: value for key, value in recorded.items() if not key.startswith("_")} == {
        key: value for key, value in complete({}).items() if key not in not_asked
    }


def test_committed_json_schema_is_the_models() -> None:
    committed = json.loads((ROOT / "answers.schema.json").read_text(encoding="utf-8"))
    assert committed == json_schema(), "update it: python hooks/answers.py schema > answers.schema.json"


@pytest.mark.parametrize("answers", [{}, {"project": "shop", "agents": 0}, {"github_app_id": 123}])
def test_json_schema_accepts_plain_data_files(answers: dict[str, Any]) -> None:
    Draft202012Validator(json_schema()).validate(answers)


@pytest.mark.parametrize(
    "answers", [{"agnets": 1}, {"agents": 11}, {"lens": "lens"}, {"project": "A"}, {"registry_name": "k3d-a"}]
)
def test_json_schema_refuses_what_an_editor_can_mark(answers: dict[str, Any]) -> None:
    assert not Draft202012Validator(json_schema()).is_valid(answers)


def test_every_question_starts_with_a_question() -> None:
    for question in answerable():
        assert question.help.splitlines()[0].endswith("?"), question.key


def test_only_the_pinned_versions_and_what_follows_from_other_answers_is_computed() -> None:
    computed = [question.key for question in all_questions() if question.is_computed]
    assert computed == ["answers_file", "pins", "mirrored_pins", "node_mirrors", "registry_host"]


def test_the_pins_are_the_defaults_by_their_mirrors_names() -> None:
    mirrors = {"docker.io": "mirror.example.com/hub", "ghcr.io": "mirror.example.com:5000"}
    published, mirrored = complete({}), complete({"image_mirrors": mirrors})
    changed = {key for key, value in published.items() if mirrored[key] != value}
    assert changed == {
        "image_mirrors",
        "k3s_image",
        "registry_image",
        "arc_chart_repository",
        "runner_base_image",
        "buildkit_image",
        "dind_image",
    }
    assert mirrored["k3s_image"] == published["k3s_image"].replace("docker.io/", "mirror.example.com/hub/")
    base = published["runner_base_image"]
    assert mirrored["runner_base_image"] == base.replace("ghcr.io/", "mirror.example.com:5000/")
    charts = "oci://mirror.example.com:5000/actions/actions-runner-controller-charts"
    assert mirrored["arc_chart_repository"] == charts


def test_a_mirror_of_plain_http_that_is_none_names_those_there_are() -> None:
    mirrors = {"docker.io": "mirror.example.com/hub"}
    (found,) = sentences(image_mirrors=mirrors, image_mirrors_plain_http=["mirror.example.org"])
    assert found.startswith('image_mirrors_plain_http: "mirror.example.org" was given; allowed are the hosts')
    assert found.endswith("image_mirrors: mirror.example.com.")


def test_a_registry_that_is_there_keeps_its_name_with_the_prefix(tmp_path: Path) -> None:
    file = tmp_path / "answers.yml"
    file.write_text("registry: shared\nregistry_name: k3d-images\n", encoding="utf-8")
    assert main(["check", str(file)]) == 0
    assert main(["check", str(file), '--given={"registry_name": "k3d-images"}']) == 1


def test_a_prefix_is_told_with_the_name_to_take() -> None:
    assert sentences(registry_name="k3d-images") == [
        'registry_name: "k3d-images" was given; k3d- is put before it, so allowed is what stands behind that: images.'
    ]


def test_check_reads_an_answers_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "answers.yml"
    file.write_text("_commit: v1\n_src_path: gh:x/y\nagents: 3\n", encoding="utf-8")
    assert main(["check", str(file)]) == 0
    assert main(["check", str(file), '--given={"agents": "3", "agnets": null}']) == 1
    assert "Did you mean agents?" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "- a\n", "a: [\n", "\0"])
def test_check_of_what_holds_no_answers_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    file = tmp_path / "answers.yml"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as caught:
        main(["check", str(file)])
    assert caught.value.code == 2
    assert f"{file} holds no answers that can be read: " in capsys.readouterr().err


@pytest.mark.parametrize("content", ["a: [\n", "since: 2026-02-31\n"])
def test_committed_answers_of_another_template_that_cannot_be_read_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / ".copier-answers.yml").write_text(content, encoding="utf-8")
    commit_all(tmp_path, "before")
    (tmp_path / "answers.yml").write_text("agents: 3\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COPIER_OPERATION", "update")
    assert main(["check", "answers.yml"]) == 0
