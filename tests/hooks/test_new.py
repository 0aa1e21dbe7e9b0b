"""script/new, from the outside where a process matters and through its main function where it does not."""

from __future__ import annotations

import errno
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import new
import pytest
import template_source
from copier import run_update
from copier.errors import CopierAnswersInterrupt, CopierError, TaskError
from destination import Destination, OccupiedError, free_folder
from support import ROOT, commit_all, git, read_yaml

DEFAULT = ["--defaults"]


@pytest.fixture(scope="session")
def clone(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the template whose virtual environment is there already: the one the tests run in."""
    folder = tmp_path_factory.mktemp("clone") / "template"
    shutil.copytree(template, folder, symlinks=True)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    shutil.copy(folder / "requirements" / "generator.txt", folder / ".venv" / "requirements.installed")
    return folder


@pytest.fixture
def own_clone(clone: Path, tmp_path: Path) -> Path:
    """A clone that this test may change."""
    return Path(shutil.copytree(clone, tmp_path / "own" / "template", symlinks=True))


def script_new(clone: Path, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "script" / "new", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )


class _Generate(Protocol):
    def __call__(self, clone: Path, *arguments: str | Path, expect: int = 0) -> str: ...


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> _Generate:
    """Does what a clone's script/new does, in this process and so in a fifth of the time; returns what it has said."""

    def run(clone: Path, *arguments: str | Path, expect: int = 0) -> str:
        monkeypatch.setattr(new, "ROOT", clone)
        monkeypatch.setattr(template_source, "ROOT", clone)
        status = new.main([*map(str, arguments)])
        said = capsys.readouterr().err
        assert status == expect, said
        return said

    return run


@pytest.fixture
def index_of(own_clone: Path) -> Callable[..., str]:
    """A function that says which index the packages of script/new are taken from, given its arguments."""
    made = own_clone / "template" / "bin" / "python-env"
    made.write_text('#!/bin/sh\nprintf "%s" "$3"\nexit 1\n', encoding="utf-8")
    return lambda *arguments: script_new(own_clone, "dest", *arguments).stdout


def recorded(environment: Path) -> dict[str, Any]:
    answers: dict[str, Any] = read_yaml(environment / ".copier-answers.yml")
    return answers


def test_defaults_make_a_committed_environment_and_name_the_next_command(clone: Path, tmp_path: Path) -> None:
    done = script_new(clone, tmp_path / "env", "--defaults")
    assert done.returncode == 0, done.stderr
    assert f"    cd {tmp_path}/env\n    bin/just setup\n" in done.stderr
    assert git(tmp_path / "env", "log", "--format=%s") == "feat: generate the environment\n"
    assert git(tmp_path / "env", "status", "--porcelain") == ""
    assert recorded(tmp_path / "env")["_src_path"] == str(clone)
    assert os.access(tmp_path / "env" / "bin" / "just", os.X_OK)


def test_answers_come_from_the_data_file_and_the_command_line_goes_before_it(
    clone: Path, tmp_path: Path, generate: _Generate
) -> None:
    file = tmp_path / "answers.yml"
    file.write_text("project: shop\nagents: 1\n", encoding="utf-8")
    generate(clone, tmp_path / "env", "-l", "--data-file", file, "--data=agents=3", "-dhttp_port=8080")
    answers = recorded(tmp_path / "env")
    assert (answers["project"], answers["agents"], answers["http_port"]) == ("shop", 3, 8080)


@pytest.mark.parametrize(
    ("written", "recorded_as"),
    [
        ("project: 0x10", {"project": "0x10"}),
        ("project: 0100", {"project": "0100"}),
        ("project: 08", {"project": "08"}),
        ("project: 12", {"project": "12"}),
        ("http_port: 0100", {"http_port": 100}),
        ("github_app_id: 0123", {"github_app_id": "0123"}),
    ],
)
def test_number_of_a_data_file_is_what_is_written_there(
    written: str, recorded_as: dict[str, Any], clone: Path, tmp_path: Path, generate: _Generate
) -> None:
    (tmp_path / "answers.yml").write_text(f"{written}\n", encoding="utf-8")
    generate(clone, tmp_path / "env", "--defaults", "--ignore-machine", "--data-file", tmp_path / "answers.yml")
    assert recorded_as.items() <= recorded(tmp_path / "env").items()


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("project: 1_0", 'project: "1_0" was given; allowed is 1 to 28 lower-case letters'),
        ("cluster_name: 12:30", 'cluster_name: "12:30" was given'),
        ("http_port: 8:30", 'http_port: "8:30" was given; allowed is a port from 1 to 65535.'),
        ("http_port: 0x50", 'http_port: "0x50" was given'),
        ("project: 2026-01-01", 'project: "2026-01-01" was given; allowed is 1 to 28 lower-case letters, digits and'),
        ("agents: 1\nproject: shop\nagents: 2", "the key agents stands there twice"),
        ("image_mirrors: &a {docker.io: *a}", "image_mirrors: "),
        ("image_mirrors_plain_http: {2026-01-01: x}", "image_mirrors_plain_http: "),
    ],
)
def test_answer_that_yaml_would_take_for_another_one_is_refused(
    written: str, sentence: str, clone: Path, tmp_path: Path, generate: _Generate
) -> None:
    (tmp_path / "answers.yml").write_text(f"{written}\n", encoding="utf-8")
    said = generate(clone, tmp_path / "env", "--defaults", "--data-file", tmp_path / "answers.yml", expect=1)
    assert sentence in said
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--defaults", "-d", "agents=50"],
            "agents: 50 was given; allowed is a whole number from 0 to 10.",
        ),
        (["--defaults", "-d", "agnets=3"], "Did you mean agents?"),
        (["--defaults", "-d", "agents"], "--data wants KEY=VALUE"),
        (["--defaults", "--data-file", "missing.yml"], "missing.yml cannot be read: No such file"),
        (["--defaults", "--data-file", "empty.yml"], "empty.yml is empty"),
        (["--defaults", "--data-file", "list.yml"], "list.yml holds no answers"),
        (["--defaults", "--data-file", "broken.yml"], "broken.yml is not valid YAML"),
        (["--defaults", "--data-file", "latin1.yml"], "latin1.yml is not text in UTF-8"),
        (["--defaults", "--data-file", "date.yml"], "date.yml has a value that YAML takes for a date or a number, and"),
        (["--defaults", "-a", "answers.yml"], "`just update` of an environment reads .copier-answers.yml"),
        (["--defaults", "-x", ".copier-answers.yml"], "--exclude leaves out .copier-answers.yml"),
        (["--defaults", "-x", "/docs", "-x", "*.yml"], "add: --exclude '!.copier-answers.yml'"),
        (
            ["--defaults", "-d", "scope=devcontainer", "-a", "a.yml", "-x", "/*.yml"],
            "--exclude leaves out a.yml, which updates begin with.",
        ),
        (["--defaults", "-r", "v0.0.0-none"], "The template has no version 'v0.0.0-none'"),
        (["-d", "agents=1"], "Add --defaults to take the defaults"),
    ],
)
def test_mistake_is_named_and_nothing_is_left(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", Path(os.devnull).open())  # noqa: SIM115
    (tmp_path / "empty.yml").write_text("", encoding="utf-8")
    (tmp_path / "list.yml").write_text("- a\n", encoding="utf-8")
    (tmp_path / "broken.yml").write_text("a: [\n", encoding="utf-8")
    (tmp_path / "date.yml").write_text("project: 2024-13-45\n", encoding="utf-8")
    (tmp_path / "latin1.yml").write_bytes(b"project: l\xe4den\n")
    assert new.main(["env/deep", *arguments]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "env").exists()
    sys.stdin.close()


def test_only_questions_that_are_asked_and_not_answered_need_a_terminal() -> None:
    unanswered = new._unanswered({"agents": 1})
    assert {"project", "http_port"} <= set(unanswered)
    assert not {"agents", "kube_context"} & set(unanswered)
    assert "kube_context" in new._unanswered({"provider": "existing"})


@pytest.mark.parametrize(
    ("destination", "sentence"),
    [
        ("full", "exists and is not empty"),
        ("generated", "    cd generated && copier update --trust"),
        ("file", "is not a folder"),
        ("my env", "    cd 'my env' && bin/just update"),
        ("gone", "gone is a link to nowhere, which is not there."),
        ("gone/env", "gone is a link to nowhere, which is not there."),
        (str(ROOT / "env"), "lies inside the template's own clone"),
    ],
)
def test_destination_in_use_is_refused(
    destination: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated" / ".copier-answers.yml").touch()
    (tmp_path / "my env").mkdir()
    (tmp_path / "my env" / ".copier-answers.yml").touch()
    (tmp_path / "my env" / "envkit").mkdir()
    (tmp_path / "my env" / "envkit" / "update.py").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "file").touch()
    assert new.main([destination, *DEFAULT]) == 1
    assert sentence in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_mistake_ends_without_traceback_in_a_process(clone: Path, tmp_path: Path) -> None:
    done = script_new(clone, tmp_path / "env", "--defaults", "-d", "lens=lnes", "-d", "agents=x")
    assert done.returncode == 1
    assert done.stderr.startswith("There are 2 problems with the answers:\n  - agents: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "env").exists()


def test_failure_of_copier_is_one_message_and_leaves_nothing(own_clone: Path, tmp_path: Path) -> None:
    (own_clone / "template" / "file.jinja").write_text("{{ no_such_answer }}", encoding="utf-8")
    commit_all(own_clone, "break it")
    done = script_new(own_clone, tmp_path / "a" / "b" / "env", "--defaults")
    assert done.returncode == 1
    assert "'no_such_answer' is undefined" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a").exists()


ASKED_OF_COPIER: dict[str, Any] = {
    "user_defaults": {},
    "answers_file": None,
    "exclude": [],
    "skip_if_exists": [],
    "defaults": True,
    "overwrite": False,
    "pretend": True,
    "quiet": True,
    "unsafe": True,
    "skip_tasks": False,
    "ask": [],
}


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["-l"], {}),
        (["-f"], {"overwrite": True}),
        (["-lw"], {"overwrite": True}),
        (["-lT", "--UNSAFE"], {"skip_tasks": True}),
        (["-l", "-x", "a", "--exclude=b"], {"exclude": ["a", "b"]}),
        (["-l", "-s", "a", "--skip=b"], {"skip_if_exists": ["a", "b"]}),
        (["-l", "--ask", "a*", "--ask=b"], {"ask": ["a*", "b"]}),
        (["-l", "-a", "a.yml", "-d", "scope=devcontainer"], {"answers_file": "a.yml"}),
    ],
)
def test_what_is_wished_is_passed_on_to_copier(
    clone: Path,
    tmp_path: Path,
    generate: _Generate,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    asked: dict[str, Any],
) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr("copier.run_copy", lambda *places, **options: calls.append((places, options)))
    generate(clone, tmp_path / "env", "--pretend", "-d", "project=shop", *arguments)
    ((places, options),) = calls
    assert places[:2] == (str(clone), tmp_path / "env")
    assert places[2]["project"] == "shop"
    assert options == {**ASKED_OF_COPIER, **asked, "vcs_ref": git(clone, "rev-parse", "HEAD").strip()}


def test_nothing_is_made_where_copier_only_pretends(clone: Path, tmp_path: Path, generate: _Generate) -> None:
    said = generate(clone, tmp_path / "env", *DEFAULT, "--pretend")
    assert said == f"Generating an environment in {tmp_path / 'env'} ...\n"
    assert list(tmp_path.iterdir()) == []


def test_quiet_generation_says_nothing(own_clone: Path, tmp_path: Path, generate: _Generate) -> None:
    (own_clone / "template" / "draft.txt").touch()
    assert generate(own_clone, tmp_path / "env", *DEFAULT, "--quiet") == ""
    assert recorded(tmp_path / "env")["_src_path"] == str(own_clone)


def test_files_may_be_left_out_beside_the_answers(clone: Path, tmp_path: Path, generate: _Generate) -> None:
    generate(clone, tmp_path / "env", *DEFAULT, "-x", "*.yml", "-x", "!.copier-answers.yml")
    assert (tmp_path / "env" / ".copier-answers.yml").exists()
    assert not (tmp_path / "env" / "ansible" / "install-arc.yml").exists()


def test_failure_in_an_empty_folder_leaves_it_empty(own_clone: Path, tmp_path: Path, generate: _Generate) -> None:
    (own_clone / "template" / "file.jinja").write_text("{{ no_such_answer }}", encoding="utf-8")
    commit_all(own_clone, "break it")
    destination = tmp_path / "env"
    git(tmp_path, "init", "--quiet", "env")
    assert "'no_such_answer' is undefined" in generate(own_clone, destination, "--defaults", expect=1)
    assert [path.name for path in destination.iterdir()] == [".git"]


def test_uncommitted_changes_are_left_out_and_the_commit_can_be_updated_from(
    own_clone: Path, tmp_path: Path, generate: _Generate
) -> None:
    (own_clone / "template" / "draft.txt").write_text("", encoding="utf-8")
    git(own_clone, "tag", "--delete", "v9999.0.0")
    assert "changes that are not committed" in generate(own_clone, tmp_path / "env", "--defaults")
    assert not (tmp_path / "env" / "draft.txt").exists()
    commit_all(own_clone, "the draft")
    run_update(tmp_path / "env", defaults=True, quiet=True, unsafe=True, overwrite=True)
    assert (tmp_path / "env" / "draft.txt").exists()


def test_older_version_can_be_named(own_clone: Path, tmp_path: Path, generate: _Generate) -> None:
    (own_clone / "template" / "later.txt").write_text("", encoding="utf-8")
    commit_all(own_clone, "later")
    generate(own_clone, tmp_path / "env", "--defaults", "-r", "v9999.0.0")
    assert not (tmp_path / "env" / "later.txt").exists()
    assert recorded(tmp_path / "env")["_commit"] == "v9999.0.0"


def test_updates_come_from_origin_when_it_has_the_commit_and_no_password_is_kept(
    own_clone: Path, tmp_path: Path, generate: _Generate
) -> None:
    git(own_clone, "remote", "add", "origin", "https://me:hunter2@example.com/template.git")
    git(own_clone, "update-ref", "refs/remotes/origin/main", "HEAD")
    generate(own_clone, tmp_path / "env", "--defaults")
    assert recorded(tmp_path / "env")["_src_path"] == "https://example.com/template.git"
    assert "hunter2" not in git(tmp_path / "env", "show", "HEAD")


def test_updates_come_from_the_clone_while_origin_lacks_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_all(tmp_path, "pushed")
    git(tmp_path, "remote", "add", "origin", "https://example.com/template.git")
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    monkeypatch.setattr(template_source, "ROOT", tmp_path)
    pushed = template_source.commit_of("HEAD")
    assert template_source.update_source(pushed) == "https://example.com/template.git"
    git(tmp_path, "remote", "set-url", "origin", "../template.git")
    assert template_source.update_source(pushed) == str(tmp_path)
    git(tmp_path, "remote", "set-url", "origin", "https://example.com/template.git")
    commit_all(tmp_path, "not pushed")
    assert template_source.update_source(template_source.commit_of("HEAD")) == str(tmp_path)


@pytest.mark.parametrize("name", ["the team's long name", "a: long name", "der L\u00e4den langer Name"])
def test_long_path_of_the_clone_is_kept_whole(clone: Path, tmp_path: Path, generate: _Generate, name: str) -> None:
    own = Path(shutil.copytree(clone, tmp_path / ("x" * 80) / name / "template of it", symlinks=True))
    generate(own, tmp_path / "env", "--defaults")
    assert recorded(tmp_path / "env")["_src_path"] == str(own)
    assert "\\x" not in (tmp_path / "env" / ".copier-answers.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://example.com/a/b.git", True),
        ("ssh://git@example.com/a/b.git", True),
        ("http://example.com/a/b.git", True),
        ("git://example.com/a/b.git", True),
        ("https://[example.com/a/b.git", True),
        ("git@example.com:a/b.git", True),
        ("example.com:a/b.git", False),
        ("me@example.com", False),
        ("/srv/git/b.git", False),
        ("../b", False),
        ("file:///srv/git/b.git", False),
        ("./me@host:b", False),
    ],
)
def test_remote_that_others_can_reach_is_a_url(location: str, expected: bool) -> None:
    assert template_source.is_url(location) is expected


def test_user_name_of_ssh_stays() -> None:
    assert template_source.without_credentials("ssh://git@example.com/a") == "ssh://git@example.com/a"
    assert template_source.without_credentials("http://me:a%40b@example.com/a@b") == "http://example.com/a@b"
    assert template_source.without_credentials("https://me:x@[example.com/a") == "https://[example.com/a"


def test_folder_without_git_history_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_source, "ROOT", tmp_path)
    with pytest.raises(template_source.UnusableSourceError, match="Get the template with `git clone`") as refusal:
        template_source.commit_of("HEAD")
    assert f"{tmp_path} is not a Git clone" in str(refusal.value)
    assert "Git says: fatal: not a git repository" in str(refusal.value)
    assert str(refusal.value) == str(refusal.value).strip()


def test_missing_git_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(template_source.UnusableSourceError, match="Git was not found"):
        template_source.commit_of("HEAD")


def test_without_an_identity_the_commit_is_left_to_the_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tuseConfigOnly = true\n", encoding="utf-8")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    (tmp_path / "env").mkdir()
    assert free_folder(tmp_path / "env", template=ROOT, scope="environment").first_commit() == [
        'git config user.name "YOUR NAME" && git config user.email "YOUR ADDRESS"',
        'git add -A . && git commit -m "feat: generate the environment"',
    ]
    assert (tmp_path / "env" / ".git").exists()


def test_folder_that_was_looked_at_in_finder_is_empty(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / ".DS_Store").touch()
    destination = free_folder(tmp_path / "env", template=ROOT, scope="environment")
    (tmp_path / "env" / "half").touch()
    destination.remove_leftovers()
    assert [path.name for path in (tmp_path / "env").iterdir()] == [".DS_Store"]


def test_folder_inside_a_repository_gets_none_of_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "mono")
    folder = tmp_path / "mono" / "env"
    folder.mkdir()
    assert free_folder(folder, template=ROOT, scope="environment").first_commit() == [
        'git add -A . && git commit -m "feat: generate the environment"'
    ]
    assert not (folder / ".git").exists()


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ("*", ['git init && git add -A . && git commit -m "words"']),
        ("rev-parse*|commit*", ['git add -A . && git commit -m "words"']),
        ("rev-parse*|add*", ['git add -A . && git commit -m "words"']),
        (
            "rev-parse*|*GIT_COMMITTER_IDENT",
            [
                'git config user.name "YOUR NAME" && git config user.email "YOUR ADDRESS"',
                'git add -A . && git commit -m "words"',
            ],
        ),
        ("rev-parse*", []),
    ],
)
def test_what_git_refuses_is_left_to_the_person(
    refused: str, left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase "$*" in {refused}) exit 1 ;; esac\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert Destination(tmp_path, tmp_path, frozenset()).first_commit("words") == left


def test_leftovers_go_and_what_was_there_or_lies_behind_a_link_stays(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "env", tmp_path / "elsewhere"
    for place in (folder / "ours", folder / "made", elsewhere):
        place.mkdir(parents=True)
        (place / "file").touch()
    (folder / "link").symlink_to(elsewhere)
    (folder / "file").touch()
    Destination(folder, folder, frozenset({"ours"})).remove_leftovers()
    assert [path.name for path in folder.iterdir()] == ["ours"]
    assert (folder / "ours" / "file").exists()
    assert (elsewhere / "file").exists()


@pytest.mark.parametrize("start", ["", "{}/"])
@pytest.mark.parametrize("made", ["a/b/env", "a", ""])
def test_folders_that_were_made_on_the_way_go_too(
    tmp_path: Path, made: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    destination = free_folder(Path(f"{start.format(tmp_path)}a/b/env"), template=ROOT, scope="environment")
    (tmp_path / made).mkdir(parents=True, exist_ok=True)
    destination.remove_leftovers()
    assert list(tmp_path.iterdir()) == []


def test_folder_of_the_templates_clone_is_known_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(ROOT)
    with pytest.raises(OccupiedError, match="lies inside the template's own clone") as refusal:
        free_folder(tmp_path / "link" / "env", template=ROOT, scope="environment")
    assert f"{ROOT.parent}/env" in str(refusal.value)


def test_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(OccupiedError, match=rf"^{tmp_path} cannot be read: Permission denied\.$"):
        free_folder(tmp_path, template=ROOT, scope="environment")


def test_service_repository_without_files_is_ready(tmp_path: Path) -> None:
    assert free_folder(tmp_path, template=ROOT, scope="devcontainer").kept == set()
    git(tmp_path, "init", "--quiet")
    assert free_folder(tmp_path, template=ROOT, scope="devcontainer").kept == {".git"}


def test_second_snippet_has_a_name_of_its_own(clone: Path, tmp_path: Path, generate: _Generate) -> None:
    service = service_repository(tmp_path / "service")
    (service / ".copier-answers.devcontainer.yml").touch()
    commit_all(service, "the snippet")
    name = ".copier-answers.my second.yml"
    assert free_folder(service, template=ROOT, scope="devcontainer", answers_file=name).path == service
    (service / name).touch()
    with pytest.raises(OccupiedError) as refusal:
        free_folder(service, template=ROOT, scope="devcontainer", answers_file=name)
    assert f"copier update --trust --answers-file '{name}'\n" in str(refusal.value)
    assert generate(clone, service, *SNIPPET, "-a", name, expect=1) == f"{refusal.value}\n"


def service_repository(folder: Path) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.go").write_text("package main\n", encoding="utf-8")
    (folder / ".devcontainer").mkdir()
    (folder / ".devcontainer" / "devcontainer.json").write_text('{"image": "debian"} // ours\n', encoding="utf-8")
    commit_all(folder, "the service")
    return folder


SNIPPET = ["--defaults", "-d", "scope=devcontainer", "-d", "project=shop"]


def test_service_repository_gets_the_snippet_and_its_commit_is_left_to_the_person(
    clone: Path, tmp_path: Path, generate: _Generate
) -> None:
    service = service_repository(tmp_path / "service")
    said = generate(clone, service, *SNIPPET)
    assert 'git add -A . && git commit -m "feat: reach the cluster from the dev container"\n' in said
    assert said.startswith(f"Merging the dev container snippet into {service} ...\n")
    assert "bin/just" not in said
    assert git(service, "log", "--format=%s") == "the service\n"
    assert git(service, "status", "--porcelain").splitlines() == [
        " M .devcontainer/devcontainer.json",
        "?? .copier-answers.devcontainer.yml",
    ]
    assert read_yaml(service / ".copier-answers.devcontainer.yml")["_src_path"] == str(clone)


def test_service_without_a_folder_yet_becomes_a_committed_repository(
    clone: Path, tmp_path: Path, generate: _Generate
) -> None:
    generate(clone, tmp_path / "service", *SNIPPET)
    assert git(tmp_path / "service", "log", "--format=%s") == "feat: reach the cluster from the dev container\n"
    assert git(tmp_path / "service", "status", "--porcelain") == ""


def test_refused_snippet_leaves_the_service_as_it_was(clone: Path, tmp_path: Path) -> None:
    service = service_repository(tmp_path / "service")
    (service / ".devcontainer" / "devcontainer.json").write_text('{"runArgs": ["--net=host"]}', encoding="utf-8")
    commit_all(service, "another network")
    done = script_new(clone, service, *SNIPPET)
    assert done.returncode == 1
    assert "the cluster needs" in done.stderr
    assert "Traceback" not in done.stderr
    assert git(service, "status", "--porcelain") == ""


def test_snippet_is_taken_out_by_a_command(clone: Path, tmp_path: Path, generate: _Generate) -> None:
    service = service_repository(tmp_path / "service")
    generate(clone, service, *SNIPPET)
    commit_all(service, "the snippet")
    command = [clone / "script" / "remove-dev-container", service]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Removed .copier-answers.devcontainer.yml" in done.stderr
    content = (service / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    assert content == '{"image": "debian"} // ours\n'
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.count("nothing to take out")) == (1, 1)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("snippet", "copier update --trust --answers-file .copier-answers.devcontainer.yml"),
        ("no repository", "is no Git repository, so a change of its dev container could not be undone"),
        ("dirty", "has changes that are not committed. Commit them, or put them aside:"),
    ],
)
def test_service_that_git_could_not_restore_is_refused(state: str, sentence: str, tmp_path: Path) -> None:
    service = service_repository(tmp_path / "the service")
    if state == "snippet":
        (service / ".copier-answers.devcontainer.yml").touch()
    elif state == "dirty":
        (service / "draft").touch()
    else:
        shutil.rmtree(service / ".git")
    with pytest.raises(OccupiedError, match=sentence) as refusal:
        free_folder(service, template=ROOT, scope="devcontainer")
    assert f"    cd '{service}' && " in str(refusal.value)


def test_name_that_is_no_text_is_a_change_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_repository(tmp_path)
    monkeypatch.setattr(template_source, "ROOT", service)
    assert not template_source.has_uncommitted_changes()
    git(service, "config", "core.quotePath", "false")
    (service / os.fsdecode(b"l\xe4den")).touch()
    assert template_source.has_uncommitted_changes()
    with pytest.raises(OccupiedError, match="has changes that are not committed"):
        free_folder(service, template=ROOT, scope="devcontainer")


def test_service_in_a_folder_of_a_repository_needs_only_that_folder_clean(tmp_path: Path) -> None:
    service = service_repository(tmp_path / "mono")
    (service / "draft").touch()
    assert free_folder(service / "src", template=ROOT, scope="devcontainer").kept == {"main.go"}


def test_interrupted_creation_keeps_the_committed_repository(own_clone: Path, tmp_path: Path) -> None:
    envkit = own_clone / "template" / "bin" / "envkit"
    envkit.write_text("#!/bin/sh\necho started\nexec sleep 60\n", encoding="utf-8")
    commit_all(own_clone, "a creation that takes long")
    process = subprocess.Popen(
        [own_clone / "script" / "new", tmp_path / "env", "--defaults", "-d", "create_cluster=yes"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert f"    cd {tmp_path}/env\n    bin/just create\n" in errors
    assert git(tmp_path / "env", "status", "--porcelain") == ""


def test_terminal_is_asked_and_enter_takes_the_defaults(clone: Path, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [clone / "script" / "new", tmp_path / "env", "-d", "project=shop"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(slave)
    output, deadline = b"", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([master], [], [], 0.05)[0]:
            try:
                output += os.read(master, 65536)
            except OSError:
                break
        else:
            os.write(master, b"\r")
    assert process.wait(10) == 0, output.decode()
    os.close(master)
    assert b"How many agent nodes does the cluster have" in output
    assert b"What is the project called" not in output
    assert recorded(tmp_path / "env")["cluster_name"] == "shop-dev"


# -- where its own packages come from ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "index"),
    [
        ([], ""),
        (["-d", "python_index=https://a.example/simple"], "https://a.example/simple"),
        (["--data", "python_index=https://a.example/simple"], "https://a.example/simple"),
        (["-dpython_index=https://a.example/simple"], "https://a.example/simple"),
        (["--data=python_index=https://a.example/simple"], "https://a.example/simple"),
        (["-d", "project=python_index=x"], ""),
        (["python_index=x"], ""),
        (["--data-file", "missing.yml"], ""),
    ],
)
def test_packages_come_from_the_index_that_is_answered(
    index_of: Callable[..., str], arguments: list[str], index: str
) -> None:
    assert index_of(*arguments) == index


@pytest.mark.parametrize("line", ["{}", "'{}'", '"{}"  # ours', "   {}"])
def test_packages_come_from_the_index_of_the_data_file(index_of: Callable[..., str], tmp_path: Path, line: str) -> None:
    data = tmp_path / "site.yml"
    text = "project: shop\npython_index: {}\nagents: 1\n".format(line.format("https://a.example/simple"))
    data.write_text(text, encoding="utf-8")
    assert index_of("--data-file", data) == "https://a.example/simple"
    assert index_of(f"--data-file={data}") == "https://a.example/simple"
    assert index_of("--data-file", data, "-d", "python_index=https://b.example") == "https://b.example"
    data.write_text(text, encoding="utf-8", newline="\r\n")  # as an editor on Windows does
    assert index_of("--data-file", data) == "https://a.example/simple"


@pytest.mark.parametrize("content", [None, "a: [\n", "since: 2026-02-31\n"])
def test_ctrl_c_before_the_answers_can_be_read_removes_what_was_generated(
    clone: Path, tmp_path: Path, generate: _Generate, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    destination = tmp_path / "env"

    def interrupted(*_: object, **__: object) -> None:
        destination.mkdir(exist_ok=True)
        if content:
            (destination / ".copier-answers.yml").write_text(content, encoding="utf-8")
        raise KeyboardInterrupt

    monkeypatch.setattr("copier.run_copy", interrupted)
    said = generate(clone, destination, *DEFAULT, "--ignore-machine", expect=130)
    assert "Nothing was generated." in said
    assert not list(tmp_path.glob("env/*"))


@pytest.mark.parametrize(
    ("scope", "said"), [("environment", "What was generated in {} is removed again.\n"), ("devcontainer", "")]
)
def test_task_that_fails_has_said_why_and_nothing_is_left(
    clone: Path, tmp_path: Path, generate: _Generate, monkeypatch: pytest.MonkeyPatch, scope: str, said: str
) -> None:
    destination = tmp_path / "env"

    def fail(*_: object, **__: object) -> None:
        destination.mkdir()
        (destination / "file").touch()
        raise TaskError("task", 3, None, None)

    monkeypatch.setattr("copier.run_copy", fail)
    arguments = (*DEFAULT, "-q", "--ignore-machine", "-d", f"scope={scope}", "-d", "project=shop")
    assert generate(clone, destination, *arguments, expect=1) == said.format(destination)
    assert not destination.exists()


@pytest.mark.parametrize("error", [CopierError, ValueError, OSError])
def test_what_copier_cannot_do_is_a_sentence_and_nothing_is_left(
    clone: Path, tmp_path: Path, generate: _Generate, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    destination = tmp_path / "env"

    def fail(*_: object, **__: object) -> None:
        destination.mkdir()
        raise error("no room")

    monkeypatch.setattr("copier.run_copy", fail)
    said = generate(clone, destination, *DEFAULT, "-q", "--ignore-machine", expect=1)
    assert said == "Copier could not generate the environment: no room\nNothing was generated.\n"
    assert not destination.exists()


def test_questions_that_are_left_with_ctrl_c_leave_nothing(
    clone: Path, tmp_path: Path, generate: _Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*_: object, **__: object) -> None:
        nothing: Any = None
        raise CopierAnswersInterrupt(nothing, nothing, nothing)

    monkeypatch.setattr("copier.run_copy", leave)
    said = generate(clone, tmp_path / "env", *DEFAULT, "-q", "--ignore-machine", expect=130)
    assert said == "\nInterrupted. Nothing was generated.\n"
