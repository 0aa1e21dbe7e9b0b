"""`just update`: is there a newer template, what is said where an update cannot be made, and the update itself."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from copier import run_copy
from fake_tools import Machine, machine
from support import ROOT, commit_all, git
from updates.matrix import generate
from updates.releases import releases

from envkit import copier_command as copier_module
from envkit import update as update_module
from envkit import update_mark
from envkit.cli import main
from envkit.copier_command import copier_command, pinned_version
from envkit.copier_run import Ended, explain, run_in_terminal
from envkit.errors import UserError
from envkit.paths import ROOT as ENVIRONMENT
from envkit.paths import just_command
from envkit.template_source import Origin, Published, newer_version, published_versions, read_origin
from envkit.update import Status, Wishes, update
from envkit.wording import quoted

__all__ = ["machine"]

CHECK = Wishes(check=True, to="", data=())
UPDATE = Wishes(check=False, to="", data=())
Calls = list[tuple[str, ...]]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A template with two releases, a pre-release, a tag that is no version, and a commit without a tag."""
    folder = tmp_path / "template-of-all"
    folder.mkdir()
    for tag in ("v0.9.0", "v0.10.0", "v0.11.0rc1", "nightly", None):
        commit_all(folder, str(tag), tag)
    git(folder, "tag", "--annotate", "--message", "words", "v0.10.1", "v0.10.0")
    return folder


@pytest.fixture
def environment(tmp_path: Path, template: Path) -> Path:
    """An environment of the first release, committed."""
    folder = tmp_path / "env"
    folder.mkdir()
    write_origin(folder, str(template), "v0.9.0")
    commit_all(folder, "generated")
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What Copier was called with; it does nothing."""
    made: Calls = []
    monkeypatch.setattr(update_module, "copier_command", lambda *_: ["copier"])
    return made


def recorder(calls: Calls, status: int = 0) -> Callable[[Sequence[str], Path], Ended]:
    def run(command: Sequence[str], _: Path) -> Ended:
        calls.append(tuple(command))
        return Ended(status)

    return run


def write_origin(folder: Path, source: str, commit: str) -> None:
    (folder / ".copier-answers.yml").write_text(
        # In quotes as Copier writes it: one short hash in thirty has no letter, and would be a number.
        f"_commit: '{commit}'\n_src_path: {source}\nagents: 2\n",
        encoding="utf-8",
    )


def refused(environment: Path, wishes: Wishes = UPDATE) -> UserError:
    with pytest.raises(UserError) as error:
        update(wishes, environment, recorder([]))
    assert error.value.next_step
    return error.value


# -- is there a newer one? ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commit", "newer"),
    [
        ("v0.9.0", "v0.10.1"),
        ("v0.9.0-3-gabcdef1", "v0.10.1"),
        ("v0.10.1", ""),
        ("v0.10.1-1-gabcdef1", ""),
        ("v0.12.0", ""),
        ("abcdef1", "v0.10.1"),
        # Hashes that read like versions.
        ("241737c1", "v0.10.1"),
        ("1234567", "v0.10.1"),
    ],
)
def test_newest_release_is_compared_with_that_of_the_environment(template: Path, commit: str, newer: str) -> None:
    origin = Origin(str(template), commit)
    assert newer_version(origin, published_versions(origin)) == newer


def test_commit_of_the_newest_release_is_recognised_without_its_tag(template: Path) -> None:
    origin = Origin(str(template), git(template, "rev-parse", "--short", "v0.10.0").strip())
    assert newer_version(origin, published_versions(origin)) == ""


def test_newest_commit_is_not_behind_the_release_that_came_before_it(template: Path) -> None:
    origin = Origin(str(template), git(template, "rev-parse", "--short", "HEAD").strip())
    assert newer_version(origin, published_versions(origin)) == ""


@pytest.mark.parametrize("commit", ["241737c1", "241737c" + 33 * "0", "abcdef1", "1234567"])
def test_hash_is_no_version(commit: str) -> None:
    assert Origin("template", commit).version is None


def test_versions_of_a_template_are_its_tags_and_branches_by_their_commits(template: Path, tmp_path: Path) -> None:
    git(template, "branch", "next", "v0.9.0")
    names = ("HEAD", *git(template, "tag").split())
    commits = {name: git(template, "rev-parse", f"{name}^{{commit}}").strip() for name in names}
    published = published_versions(Origin(str(template), "v0.9.0"))
    assert (published.head, published.newest) == (commits.pop("HEAD"), "v0.10.1")
    assert published.tags == commits
    assert published.branches == {"main": published.head, "next": commits["v0.9.0"]}
    git(tmp_path, "init", "--quiet", "empty")
    origin = Origin(str(tmp_path / "empty"), "v0.9.0")
    assert published_versions(origin) == Published({}, {}, "")
    assert newer_version(origin, published_versions(origin)) == ""


def test_without_releases_the_newest_commit_counts(template: Path) -> None:
    git(template, "tag", "--delete", *git(template, "tag").split())
    head = git(template, "rev-parse", "HEAD").strip()
    old = Origin(str(template), git(template, "rev-parse", "--short", "HEAD^").strip())
    assert newer_version(old, published_versions(old)) == head[:12]
    assert newer_version(Origin(str(template), head[:7]), published_versions(old)) == ""


def test_check_says_by_its_exit_status_whether_there_is_one(
    environment: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (environment / "not-committed").touch()
    assert update(CHECK, environment).value == 3
    assert "A newer template is there: v0.10.1. This environment is of v0.9.0." in capsys.readouterr().out
    write_origin(environment, str(template), "v0.10.1")
    assert update(CHECK, environment).value == 0
    assert "There is no newer version" in capsys.readouterr().out
    write_origin(environment, str(template), "v1.0.0")
    assert update(CHECK, environment).value == 0
    assert "the template's newest version is the older v0.10.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("gh:shop/template", "https://github.com/shop/template.git"),
        ("gl:shop/template.git", "https://gitlab.com/shop/template.git"),
        ("git+https://example.com/t.git", "https://example.com/t.git"),
        ("git@example.com:t.git", "git@example.com:t.git"),
        ("../template", "/team/env/../template"),
        ("git+../template", "/team/env/../template"),
        ("/srv/template", "/srv/template"),
        ("~/template", "/home/me/template"),
    ],
)
def test_place_of_the_template_is_understood_as_copier_does(
    source: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert Origin(source, "v1.0.0").address(Path("/team/env")) == address


@pytest.mark.parametrize("source", ["~nobody-of-this-name/template", "git+~nobody-of-this-name/template", "a\0b"])
def test_place_of_the_template_that_can_be_none_is_told(environment: Path, source: str) -> None:
    with pytest.raises(UserError) as error:
        published_versions(Origin(source, "v1.0.0"), environment)
    assert error.value.what.startswith(f"_src_path of {environment / '.copier-answers.yml'} is the name of no file: ")
    assert error.value.next_step == f"Correct _src_path of {environment / '.copier-answers.yml'}."


# -- what cannot be updated -----------------------------------------------------------------------------------------


def test_lost_answers_come_back_from_git(environment: Path) -> None:
    answers = environment / ".copier-answers.yml"
    text = answers.read_text(encoding="utf-8")
    answers.unlink()
    error = refused(environment)
    assert error.what == f"{answers} is missing."
    assert error.next_step == f"git -C {environment} checkout HEAD -- .copier-answers.yml"
    git(environment, "rm", "--quiet", ".copier-answers.yml")
    assert refused(environment).next_step == error.next_step
    commit_all(environment, "tidy up")
    commit_all(environment, "more")
    git(environment, *refused(environment).next_step.split(" && ")[0].split()[3:])
    assert answers.read_text(encoding="utf-8") == text


def test_answers_that_git_never_had_are_generated_anew(environment: Path) -> None:
    shutil.rmtree(environment / ".git")
    (environment / ".copier-answers.yml").unlink()
    assert refused(environment).next_step.startswith("Generate the environment anew in another folder")


def test_answers_that_cannot_be_read_are_told(environment: Path) -> None:
    answers = environment / ".copier-answers.yml"
    answers.unlink()
    answers.mkdir()
    error = refused(environment, CHECK)
    assert (error.what, error.why) == (f"{answers} cannot be read.", "Is a directory")
    assert error.next_step == f"ls -l {answers}"


@pytest.mark.parametrize("text", ["agents: 2\n", "- 1\n", "", "a: [\n", "_src_path: x\n", "_src_path: x\n_commit:\n"])
def test_answers_without_the_templates_place_are_told(environment: Path, text: str) -> None:
    (environment / ".copier-answers.yml").write_text(text, encoding="utf-8")
    error = refused(environment, CHECK)
    assert "does not say which version of which template" in error.what
    assert "log --patch" in error.next_step


@pytest.mark.parametrize(("written", "read"), [("3997465", "3997465"), ("0123456", "42798"), ("1.10", "1.1")])
def test_commit_that_somebody_wrote_as_a_number_is_told(environment: Path, written: str, read: str) -> None:
    answers = environment / ".copier-answers.yml"
    answers.write_text(f"_commit: {written}\n_src_path: {environment.parent}\nagents: 2\n", encoding="utf-8")
    error = refused(environment, CHECK)
    assert error.what == f"_commit in {answers} is read as {read}, which is no text."
    assert error.next_step.startswith("Put it in quotes there")


def test_changes_that_are_not_committed_are_listed(environment: Path) -> None:
    (environment / "notes.md").touch()
    error = refused(environment)
    assert error.what == "There are changes that are not committed."
    assert "?? notes.md" in error.why
    assert "git stash push -u ." in error.next_step


def typed(command: str, folder: Path) -> None:
    """Types a command that was advised; what asks a question there is answered with yes."""
    subprocess.run(["sh", "-ec", command.replace("-d -i", "-d -f")], cwd=folder, check=True, capture_output=True)


def test_unfinished_update_is_told_from_other_changes_and_the_way_back_leads_back(environment: Path) -> None:
    (environment / ".gitignore").write_text("*.rej\n", encoding="utf-8")
    commit_all(environment, "ignore")
    (environment / "k3d.yaml.rej").touch()
    error = refused(environment)
    assert error.what == "An update is not finished."
    assert "k3d.yaml.rej" in error.why
    assert "git add -A . && git commit" in error.next_step
    typed(error.next_step.rpartition("or go back: ")[2], environment.parent)
    assert not (environment / "k3d.yaml.rej").exists()


def test_interrupted_update_is_not_to_be_committed(environment: Path) -> None:
    update_mark.begin(environment)
    (environment / "k3d.yaml").touch()
    error = refused(environment)
    assert error.what == "The last update was interrupted."
    assert "may lack your own edits" in error.why
    back, again, own = error.next_step.splitlines()
    assert again == f"then: {just_command()} update"
    assert "git commit" in own
    typed(back, environment.parent)
    assert not git(environment, "status", "--porcelain")


def test_update_that_is_not_committed_is_told_from_edits(environment: Path, template: Path) -> None:
    write_origin(environment, str(template), "v0.10.0")
    error = refused(environment)
    assert error.what == "The last update is not committed."
    commit, back = error.next_step.splitlines()
    typed(back.removeprefix("or, where it was interrupted: "), environment.parent)
    write_origin(environment, f"{template}/../{template.name}", "v0.9.0")
    assert refused(environment).what == "There are changes that are not committed."
    typed(commit.partition(": ")[2], environment.parent)
    assert not git(environment, "status", "--porcelain")


@pytest.mark.parametrize("wishes", [UPDATE, CHECK])
def test_answers_of_two_sides_that_were_merged_are_brought_to_one_version(environment: Path, wishes: Wishes) -> None:
    sides = "<<<<<<< HEAD\n_commit: v0.9.0\n=======\n_commit: v0.10.0\n>>>>>>> theirs\n"
    (environment / ".copier-answers.yml").write_text(f"{sides}_src_path: t\n", encoding="utf-8")
    error = refused(environment, wishes)
    assert error.what == f"{environment}/.copier-answers.yml is in conflict."
    assert "updated to different versions" in error.why
    assert "git merge --abort" in error.next_step
    assert f"{just_command()} update --to TAG" in error.next_step


@pytest.mark.parametrize(("text", "status"), [("def main():\n    return 7\n", 7), ("<<<<<<< HEAD\nx = 1\n", 1)])
def test_envkit_itself_in_conflict_is_told_without_a_traceback(tmp_path: Path, text: str, status: int) -> None:
    package = tmp_path / "envkit"
    package.mkdir()
    shutil.copy(ROOT / "template" / "envkit" / "__main__.py", package)
    (package / "cli.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "envkit", "update"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert (f"error: {package}/cli.py is in conflict" in done.stderr) == (status == 1)


@pytest.mark.parametrize("command", ["merge", "rebase"])
def test_merge_that_has_stopped_is_given_up_by_its_own_command(environment: Path, command: str) -> None:
    for side, start in (("theirs", "HEAD"), ("ours", "HEAD^")):
        git(environment, "checkout", "--quiet", "-b", side, start)
        (environment / "k3d.yaml").write_text(f"{side}: 1\n", encoding="utf-8")
        commit_all(environment, side)
    with pytest.raises(AssertionError, match=command):
        git(environment, command, "theirs")
    error = refused(environment)
    assert error.what == f"A git {command} is not finished."
    assert error.why == "These have conflicts:\nk3d.yaml"
    typed(f"git {command} --abort", environment)
    assert error.next_step.splitlines()[0].endswith(f"or give it up: git {command} --abort")
    assert "git reset" not in error.next_step


def test_folder_without_a_commit_says_how_to_make_one(environment: Path) -> None:
    shutil.rmtree(environment / ".git")
    error = refused(environment)
    assert "has no commit in Git" in error.what
    assert "git init && git add -A ." in error.next_step


def test_template_that_is_gone_is_named_without_its_password(environment: Path, template: Path) -> None:
    shutil.rmtree(template)
    error = refused(environment, CHECK)
    assert error.what == f"The template cannot be reached: {template}"
    assert error.why == "There is no such folder on this machine."
    assert "write its new address into _src_path" in error.next_step
    template.mkdir()
    error = refused(environment, CHECK)
    assert f"'{template}' does not appear to be a git repository" in error.why
    for prefix, place in (("", "127.0.0.1:9/t.git"), ("git+", "127.0.0.1:9/t@1.git"), ("", "[::1/t.git")):
        command = shlex.join(["git", "ls-remote", f"http://{place}"])
        write_origin(environment, f"{prefix}http://me:secret@{place}", "v0.9.0")
        error = refused(environment, CHECK)
        assert error.what == f"The template cannot be reached: {prefix}http://{place}"
        assert error.next_step.endswith(command)
        assert "secret" not in str(error)


def test_command_for_a_template_in_a_folder_with_a_space_can_be_pasted(environment: Path) -> None:
    write_origin(environment, "/no where/template", "v0.9.0")
    assert refused(environment, CHECK).next_step.endswith("git ls-remote '/no where/template'")


@pytest.mark.parametrize("check", [True, False])
def test_repository_is_not_taken_for_its_own_template(check: bool, environment: Path) -> None:
    write_origin(environment, ".", "v0.9.0")
    commit_all(environment, "as `copier copy . ../env` writes it")
    error = refused(environment, Wishes(check=check, to="", data=()))
    assert error.what == "The template's place is not known."
    assert "_src_path says '.'" in error.why
    assert "Write the template's address into _src_path" in error.next_step


def test_downgrade_is_refused(environment: Path, template: Path) -> None:
    write_origin(environment, str(template), "v0.10.1")
    commit_all(environment, "updated")
    error = refused(environment, Wishes(check=False, to="v0.9.0", data=()))
    assert error.what == "v0.9.0 is older than v0.10.1, which this environment is of."
    assert "revert the commit of the update" in error.next_step
    write_origin(environment, str(template), "v1.0.0")
    commit_all(environment, "updated from elsewhere")
    assert f"the newest version at {template}" in refused(environment).why


def test_version_that_is_not_there_is_refused_with_those_that_are(environment: Path) -> None:
    error = refused(environment, Wishes(check=False, to="v3", data=()))
    assert error.what == "The template has no version 'v3'."
    assert "v0.9.0" in error.why


def test_failure_of_copier_says_how_to_go_back(environment: Path, calls: Calls) -> None:
    with pytest.raises(UserError, match="did not finish") as error:
        update(UPDATE, environment, recorder(calls, 1))
    assert f"cd {environment} && git reset -q . && git checkout ." in error.value.next_step


@pytest.fixture
def real_template(tmp_path: Path) -> Path:
    """A template of three questions, of which one takes small numbers."""
    folder = tmp_path / "real-template"
    folder.mkdir()
    (folder / "copier.yml").write_text(
        "lens: {type: str, default: none, choices: [openlens, none]}\n"
        "mirrors: {type: yaml, default: {}}\n"
        "agents: {type: int, default: 2, validator: '{% if agents > 10 %}Use a whole number from 0 to 10.{% endif %}'}"
    )
    (folder / "{{ _copier_conf.answers_file }}.jinja").write_text("{{ _copier_answers | to_nice_yaml }}")
    (folder / "text.jinja").write_text("{{ agents }} agents")
    commit_all(folder, "first", "v1.0.0")
    return folder


@pytest.fixture
def real_environment(real_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its first release, updated by the real Copier."""
    folder = tmp_path / "real-env"
    run_copy(str(real_template), folder, defaults=True, quiet=True)
    commit_all(folder, "generated")
    monkeypatch.setattr(update_module, "copier_command", lambda *_: [sys.executable, "-m", "copier"])
    return folder


def test_answer_that_the_template_does_not_take_is_told_in_a_sentence(
    real_environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as error:
        update(Wishes(check=False, to="", data=("agents=77",)), real_environment)
    assert error.value.what == "The template does not take the answer to agents."
    assert error.value.why == "Use a whole number from 0 to 10."
    assert "update -d agents=" in error.value.next_step
    shown = "".join(capfd.readouterr())
    assert "Keeping template version" in shown
    assert "Traceback" not in shown
    assert not git(real_environment, "status", "--porcelain")


@pytest.mark.parametrize(
    ("answer", "what", "why"),
    [
        ("lens=lenss", "The template does not take the answer to lens.", "'lenss' is not in ['openlens', 'none']"),
        ("agents=2.7", "The template may not take this answer: agents.", "'2.7'"),
        ("mirrors={a", "The template may not take this answer: mirrors.", "while parsing a flow mapping"),
    ],
)
def test_answer_of_another_type_is_told_in_a_sentence(
    real_environment: Path, capfd: pytest.CaptureFixture[str], answer: str, what: str, why: str
) -> None:
    with pytest.raises(UserError) as error:
        update(Wishes(check=False, to="", data=(answer,)), real_environment)
    assert error.value.what == what
    assert why in error.value.why
    step, unchanged, *newest = error.value.next_step.splitlines()
    assert (step, unchanged) == (f"{just_command()} update -d {answer.partition('=')[0]}=...", "Nothing was changed.")
    is_certain = "does not take" in what
    assert newest == ([] if is_certain else ["With the newest Copier: uvx copier update --trust --vcs-ref :current:"])
    assert ("It may want a newer Copier" in error.value.why) is not is_certain
    assert "Traceback" not in "".join(capfd.readouterr())


def test_answers_that_cannot_be_told_apart_are_told_together(real_environment: Path) -> None:
    with pytest.raises(UserError) as error:
        update(Wishes(check=False, to="", data=("lens=none", "agents=2.7")), real_environment)
    assert error.value.what == "The template may not take one of these answers: lens, agents."


def test_answer_of_no_type_is_told_with_its_question() -> None:
    words = """Invalid answer "None" of type "<class 'NoneType'>" to question "agents" of type "int\""""
    ended = Ended(1, f"copier.errors.InvalidTypeError: {words}")
    error = explain(ended, Origin("t", "v1.0.0"), "v1.0.0", {}, changed=True)
    assert error.what == "The template does not take the answer to agents."
    back = f"cd {quoted(ENVIRONMENT)} && git reset -q . && git checkout . && git clean -d -i ."
    assert error.next_step.endswith(f"To go back first: {back}")


@pytest.mark.parametrize("item", ["arc", "=no", ""])
def test_answer_without_a_value_is_refused_before_copier_starts(environment: Path, calls: Calls, item: str) -> None:
    with pytest.raises(UserError, match="-d wants KEY=VALUE") as error:
        update(Wishes(check=False, to="", data=(item,)), environment, recorder(calls))
    assert "update -d agents=3" in error.value.next_step
    assert calls == []


def test_update_that_the_template_stops_is_not_put_down_to_copier(
    real_template: Path, real_environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    questions = real_template / "copier.yml"
    stopping = "{command: 'echo not so >&2; exit 1', when: \"{{ _stage == 'before' }}\"}"
    questions.write_text(questions.read_text() + f"\n_migrations: [{stopping}]\n")
    commit_all(real_template, "second", "v2.0.0")
    with pytest.raises(UserError) as error:
        update(UPDATE, real_environment)
    assert error.value.what == "The template stopped the update."
    assert error.value.next_step == f"Put it right, then: {just_command()} update   (nothing was changed)"
    said = capfd.readouterr().err
    assert "not so" in said
    assert "returned non-zero" not in said


def test_stopped_update_is_repeated_with_its_answers_without_their_values(
    real_template: Path, real_environment: Path
) -> None:
    questions = real_template / "copier.yml"
    questions.write_text(
        questions.read_text() + "\n_migrations: [{command: 'exit 1', when: \"{{ _stage == 'before' }}\"}]\n"
    )
    commit_all(real_template, "second", "v2.0.0")
    with pytest.raises(UserError) as error:
        update(Wishes(check=False, to="", data=("agents=3", "lens=none")), real_environment)
    again = f"{just_command()} update -d agents=... -d lens=..."
    assert error.value.next_step == f"Put it right, then: {again}   (nothing was changed)"


def test_error_of_copier_is_not_put_on_an_answer_for_certain() -> None:
    ended = Ended(1, "ValueError: something else")
    error = explain(ended, Origin("t", "v1.0.0"), "v2.0.0", {"agents": "3"}, changed=False)
    assert error.what == "The template may not take this answer: agents."
    assert error.why == "something else\nIt may want a newer Copier than this environment's."
    assert error.next_step.endswith("With the newest Copier: uvx copier update --trust --vcs-ref v2.0.0")


def test_environment_that_is_ahead_of_the_newest_release_is_told_what_to_do(
    real_template: Path, real_environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    commit_all(real_template, "after the release")
    ahead = git(real_template, "rev-parse", "--short", "HEAD").strip()
    commit_all(real_template, "still later")
    write_origin(real_environment, str(real_template), ahead)
    commit_all(real_environment, "made of a clone without tags")
    with pytest.raises(UserError, match=f"ahead of v1.0.0: it is of {ahead}") as error:
        update(Wishes(check=False, to="", data=("agents=3",)), real_environment)
    assert "Downgrades" not in capfd.readouterr().err
    first, second = error.value.next_step.splitlines()
    assert first.startswith(f"{just_command()} update --to {ahead} -d agents=3   ")
    assert second.startswith(f"{just_command()} update --to BRANCH   ")
    assert update(Wishes(check=False, to=ahead, data=("agents=3",)), real_environment) == Status.DONE
    assert (real_environment / "text").read_text() == "3 agents"


def test_last_sentence_of_copier_is_known_in_colour_too(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    sentence = "You are downgrading from 2 to 1. Downgrades are not supported."
    machine.add("copier", f"printf '\\033[31m{sentence}\\033[39m\\n' >&2; exit 1")
    assert run_in_terminal(["copier"], machine.folder) == Ended(1, sentence)
    assert capfd.readouterr().err == ""


def test_version_of_the_environment_that_the_template_has_lost_is_told(
    real_template: Path, real_environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    commit_all(real_template, "second", "v2.0.0")
    git(real_template, "tag", "--delete", "v1.0.0")
    with pytest.raises(UserError, match=r"no longer has v1\.0\.0") as error:
        update(UPDATE, real_environment)
    assert str(real_template) in error.value.why
    assert "_commit" in error.value.next_step
    assert "Traceback" not in "".join(capfd.readouterr())


def test_shallow_clone_of_the_template_is_told_from_one_that_has_lost_a_version(template: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow clone"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{template}", shallow.name)
    ended = Ended(1, "ValueError: Unknown revision: 'v0.9.0'")
    error = explain(ended, Origin(str(shallow), "v0.9.0"), "v0.10.1", {}, changed=False)
    assert "It is a shallow clone" in error.why
    fetch, then = error.next_step.split(" && ")
    assert then == f"{just_command()} update"
    typed(fetch, tmp_path)
    assert "v0.9.0" in git(shallow, "tag")
    error = explain(ended, Origin(str(shallow), "v0.9.0"), "v0.10.1", {}, changed=False)
    assert "no longer has v0.9.0" in error.what


def test_password_in_what_copier_says_is_not_shown(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    address = "https://me:secret@git.example.com/template"
    machine.add(
        "copier",
        f"""printf '%s\\n' 'Cloning {address}' 'Traceback (most recent call last):' >&2
        printf '  File "x.py", line 1, in f\\n    f()\\nGitError: no {address}\\n  Stderr: gone\\n' >&2; exit 1""",
    )

    ended = run_in_terminal(["copier"], machine.folder)

    assert ended == Ended(1, "GitError: no https://***@git.example.com/template\n  Stderr: gone")
    assert capfd.readouterr().err == "Cloning https://***@git.example.com/template\n"


@pytest.mark.parametrize(
    "words",
    [
        "Task 'x' returned non-zero exit status 1",
        """FileNotFoundError: [Errno 2] No such file or directory: '/top/"f\\\\303\\\\274r alle/k3d.yaml"'""",
        "Validation error for question 'agents': too many",
        "ValueError: something else",
        "OSError: something else",
    ],
)
def test_way_back_after_a_failure_names_the_folder_it_is_for(words: str) -> None:
    root = Path("/team/env of all")
    error = explain(Ended(1, words), Origin("t", "v1.0.0"), "v2.0.0", {"agents": "3"}, changed=True, root=root)
    assert "o back" in error.next_step
    assert error.next_step.count("git reset") == 1
    assert "cd '/team/env of all' && git reset -q . && git checkout . && git clean -d -i ." in error.next_step


def test_file_of_a_name_that_is_new_in_the_template_is_named_where_copier_fails_at_it() -> None:
    words = """FileNotFoundError: [Errno 2] No such file or directory: '/top/"f\\\\303\\\\274r alle/k3d.yaml"'"""
    error = explain(Ended(1, words), Origin("t", "v1.0.0"), "v2.0.0", {}, changed=True)
    assert error.what.endswith("new in the template: für alle/k3d.yaml")
    assert f"give your file another name, commit that, and {just_command()} update" in error.next_step


@pytest.mark.parametrize("count", [0, 1])
def test_copier_gets_names_from_git_in_quotes_as_it_expects_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], count: int
) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(count))
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "someone")
    (tmp_path / "größe.txt").touch()
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "core.quotePath", "false")
    commit_all(tmp_path, "a name that Git quotes")
    run_in_terminal(["sh", "-c", "git ls-files >&2; git config user.name >&2"], tmp_path)
    said = capfd.readouterr().err
    assert '"gr\\303\\266\\303\\237e.txt"\n' in said
    assert ("someone" in said) == bool(count)


def test_other_exception_of_copier_is_told_by_its_last_words(
    real_template: Path, real_environment: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (real_template / "text.jinja").write_text("{{ agents | nonsense }}")
    commit_all(real_template, "second", "v2.0.0")
    with pytest.raises(UserError, match="did not finish") as error:
        update(UPDATE, real_environment)
    assert "No filter named 'nonsense'" in error.value.why
    assert "Traceback" not in "".join(capfd.readouterr())


# -- the update -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commit", "wishes", "expected"),
    [
        ("v0.9.0", UPDATE, ["--vcs-ref=v0.10.1", "--defaults"]),
        ("v0.9.0", Wishes(check=False, to="v0.10.0", data=()), ["--vcs-ref=v0.10.0", "--defaults"]),
        (
            "v0.10.1",
            Wishes(check=False, to="", data=("agents=3", "lens=none")),
            ["--vcs-ref=:current:", "--defaults", "--data=agents=3", "--data=lens=none"],
        ),
        ("v0.10.1", UPDATE, None),
    ],
)
def test_copier_is_asked_for_the_newest_version(
    environment: Path, template: Path, calls: Calls, commit: str, wishes: Wishes, expected: list[str] | None
) -> None:
    write_origin(environment, str(template), commit)
    commit_all(environment, "of this version")
    assert update(wishes, environment, recorder(calls)) == Status.DONE
    assert calls == ([("copier", "update", "--trust", *expected)] if expected else [])


def test_real_update_changes_files_and_answers_and_says_when_there_are_conflicts(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_module, "copier_command", lambda *_: [sys.executable, "-m", "copier"])
    environment = generate(history, tmp_path / "env", releases()[0].tag)
    readme = environment / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").replace("just update", "x").replace("A Kubernetes", "Our"))
    (environment / "helm").mkdir(exist_ok=True)
    (environment / "helm" / "arc-runners.yaml").write_text("ours: true\n", encoding="utf-8")
    commit_all(environment, "ours")
    wishes = Wishes(check=False, to="", data=("agents=3",))
    assert update(wishes, environment).value == 4
    assert "\nagents: 3\n" in (environment / "k3d.yaml").read_text(encoding="utf-8")
    assert read_origin(environment).commit == "v9999.0.0"
    assert update(CHECK, environment) == Status.DONE


def test_command_line_passes_its_wishes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Wishes] = []

    def take(wishes: Wishes) -> Status:
        asked.append(wishes)
        return Status.NEWER

    monkeypatch.setattr(update_module, "update", take)
    assert main(["update", "--check"]) == 3
    assert main(["update", "--to", "v1.0.0", "-d", "a=1", "--data", "b=2"]) == 3
    assert asked == [CHECK, Wishes(check=False, to="v1.0.0", data=("a=1", "b=2"))]


# -- where Copier comes from ----------------------------------------------------------------------------------------


def test_copier_is_that_of_the_generator() -> None:
    assert f"copier=={pinned_version()} " in (ROOT / "requirements" / "generator.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("works", "fails", "expected"),
    [
        ("uvx pipx", "", ["uvx", "--from", "copier==9.9.9", "copier"]),
        ("pipx", "", ["pipx", "run", "--spec", "copier==9.9.9", "copier"]),
        ("pipx", "uvx", ["pipx", "run", "--spec", "copier==9.9.9", "copier"]),
        ("", "uvx pipx", None),
        ("", "", None),
    ],
)
def test_first_way_that_works_is_taken(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, works: str, fails: str, expected: list[str] | None
) -> None:
    monkeypatch.setattr(copier_module, "pinned_version", lambda: "9.9.9")
    for name in works.split():
        machine.add(name, "echo 9.9.9")
    for name in fails.split():
        machine.add(name, "echo 'no index' >&2; exit 1")
    root = machine.folder / "repo"
    machine.add("python-env", 'mkdir -p "$1/bin"', folder=root / "bin")
    said: list[str] = []
    assert copier_command(said.append, root) == (expected or [str(root / ".venv-copier" / "bin" / "copier")])
    assert said[-1].endswith("of its own" if expected is None else f"by {expected[0]}")


@pytest.mark.parametrize("launcher", ["uvx", "pipx"])
def test_copier_comes_from_the_environment_s_index(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    root, seen = machine.folder / "repo", machine.folder / "seen"
    root.mkdir(exist_ok=True)
    (root / "environment.toml").write_text('[mirrors]\npython_index = "https://mirror.example/simple"\n')
    machine.add(launcher, f'echo "$UV_INDEX_URL $PIP_INDEX_URL" >>{seen}')

    run_in_terminal(copier_command(lambda _: None, root), root)

    assert seen.read_text() == "https://mirror.example/simple https://mirror.example/simple\n" * 2


def test_copier_that_cannot_be_had_is_told_with_its_cause(machine: Machine) -> None:
    root = machine.folder / "repo"
    machine.add("python-env", "echo 'the index does not answer'; exit 1", folder=root / "bin")
    with pytest.raises(UserError, match="could not be installed") as error:
        copier_command(lambda _: None, root)
    assert "the index does not answer" in error.value.why
    assert "update" in error.value.next_step
