"""What is said after an update, in real updates between two versions of the template."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import after_update
import pytest
from copier import run_copy, run_update
from copier.errors import TaskError
from plumbum import local
from support import commit_all, git
from update_files import UpdatedFiles

Update = Callable[..., str]
NEWER_K3S = "k3s:v1.99.0-k3s1"


@pytest.fixture(scope="module")
def two_versions(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template in two versions that differ in k3d.yaml and in the pinned node image.

    Without its programs, of which no sentence speaks, and which are most of the files that an update renders.
    """
    folder = tmp_path_factory.mktemp("versions") / "template"
    shutil.copytree(template, folder)
    questions = folder / "copier.yml"
    text = questions.read_text(encoding="utf-8")
    assert text.count("\n_exclude:\n") == 1
    questions.write_text(
        text.replace("\n_exclude:\n", "\n_exclude:\n  - /envkit\n  - /ansible/roles\n"), encoding="utf-8"
    )
    commit_all(folder, "first", "v10001.0.0")
    file = folder / "template" / "k3d.yaml.jinja"
    text = file.read_text(encoding="utf-8")
    assert "timeout: 300s" in text
    file.write_text(text.replace("timeout: 300s", "timeout: 400s"), encoding="utf-8")
    pinned = questions.read_text(encoding="utf-8")
    assert pinned.count("rancher/k3s:v1.36.4-k3s1") == 1
    questions.write_text(pinned.replace("k3s:v1.36.4-k3s1", NEWER_K3S), encoding="utf-8")
    commit_all(folder, "second", "v10002.0.0")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Git repository with one commit and no files."""
    commit_all(tmp_path, "start")
    return tmp_path


@pytest.fixture(scope="module")
def generated(two_versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed environment of the first version, to be copied."""
    folder = tmp_path_factory.mktemp("generated") / "env"
    run_copy(str(two_versions), folder, defaults=True, quiet=True, unsafe=True, skip_tasks=True, vcs_ref="v10001.0.0")
    commit_all(folder, "generated")
    return folder


@pytest.fixture
def environment(generated: Path, tmp_path: Path) -> Path:
    """An environment of the first version."""
    return Path(shutil.copytree(generated, tmp_path / "env", symlinks=True))


@pytest.fixture
def update(environment: Path, capfd: pytest.CaptureFixture[str]) -> Update:
    """A function that updates the environment and returns what was printed."""

    def run(**options: Any) -> str:
        commit_all(environment, "edited by the team")
        capfd.readouterr()
        # Without the tasks, which check the answers three times; migrations, and so the report, are made all the same.
        with local.env(PWD=str(environment)):  # where the person's shell is
            run_update(environment, defaults=True, quiet=True, unsafe=True, overwrite=True, skip_tasks=True, **options)
        return capfd.readouterr().err

    return run


def test_changed_cluster_configuration_says_that_the_cluster_has_to_be_made_again(
    environment: Path, update: Update
) -> None:
    printed = update()
    assert not list((environment / ".git").glob("envkit-update*"))
    assert f'image: "docker.io/rancher/{NEWER_K3S}"' in (environment / "k3d.yaml").read_text(encoding="utf-8")
    assert printed.count("The update from v10001.0.0 to v10002.0.0 changed 2 files: 2 changed.") == 1
    assert "  changed: .copier-answers.yml, k3d.yaml\n" in printed
    assert f"  image: docker.io/rancher/k3s:v1.36.4-k3s1 -> docker.io/rancher/{NEWER_K3S}\n" in printed
    assert "  options.k3d.timeout: 300s -> 400s\n    bin/just delete && bin/just create\n" in printed
    assert "CONFLICT" not in printed
    assert printed.rstrip().endswith("git reset -q . && git checkout . && git clean -d -i .")


def test_change_of_a_file_that_the_team_has_moved_is_not_passed_over(
    two_versions: Path, environment: Path, update: Update, tmp_path: Path
) -> None:
    template = Path(shutil.copytree(two_versions, tmp_path / "template"))
    file = template / "template" / "renovate.json"
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    commit_all(template, "third", "v10003.0.0")
    answers = environment / ".copier-answers.yml"
    answers.write_text(answers.read_text(encoding="utf-8").replace(str(two_versions), str(template)), encoding="utf-8")
    (environment / ".github").mkdir()
    (environment / "renovate.json").rename(environment / ".github" / "renovate.json")
    printed = update()
    assert "from v10001.0.0 to v10003.0.0 changed 2 files" in printed
    assert "the changes are not in your files:\n    renovate.json, which is .github/renovate.json now\n" in printed
    assert f"    git -C {template} diff v10001.0.0 v10003.0.0 -- template/renovate.json\n" in printed


def test_what_the_team_has_set_otherwise_makes_nothing_due(environment: Path, update: Update) -> None:
    own = f"image: docker.io/rancher/{NEWER_K3S}\noptions: {{k3d: {{timeout: 500s}}}}\n"
    (environment / "k3d.local.yaml").write_text(own, encoding="utf-8")
    printed = update()
    assert "changed 2 files" in printed
    assert "bin/just" not in printed


def test_changed_answer_is_named_with_what_it_means(update: Update) -> None:
    printed = update(data={"agents": 3, "registry_port": 7001, "k3s_image": "mirror.example/k3s:1"})
    assert (
        "Other answers than before:\n  agents: 2 -> 3\n  k3s_image: the template's -> mirror.example/k3s:1\n" in printed
    )
    assert "  registry_port: 5050 -> 7001\n\n" in printed
    assert "  agents: 2 -> 3\n  image: " in printed
    assert "Manifests that name the registry's port 5050 have to name 7001." in printed
    assert "bin/just build-runner" not in printed
    assert "(helm/arc-runners.yaml, helm/arc-registries.yaml). Where runners are installed:\n" in printed


def test_answer_to_a_new_question_is_no_change_unless_it_was_chosen(repository: Path) -> None:
    answers = repository / ".copier-answers.yml"
    answers.write_text("agents: 2\n", encoding="utf-8")
    commit_all(repository, "before")
    new = "agents: 2\nregistry: own\ndevcontainer_file: ''\n"
    answers.write_text(new, encoding="utf-8")
    assert "Other answers" not in after_update.report(repository)
    answers.write_text(f"{new}docker_in_docker: false\n", encoding="utf-8")
    assert "Other answers" not in after_update.report(repository)
    answers.write_text(f"{new}docker_in_docker: true\n", encoding="utf-8")
    assert "Other answers than before:\n  docker_in_docker: False -> True\n" in after_update.report(repository)
    answers.write_text(f"{new}download_mirror: https://mirror.example\n", encoding="utf-8")
    assert "Other answers than before:\n  download_mirror: the template's -> https://" in after_update.report(
        repository
    )


def test_new_name_says_how_to_delete_the_old_cluster(update: Update) -> None:
    printed = update(data={"project": "shop", "cluster_name": "shop-dev"})
    assert "The cluster is called shop-dev now. That is another cluster:\n    bin/just create\n" in printed
    assert "    git stash push -u . && { bin/just delete; git stash pop; }\n" in printed
    assert "    k3d cluster delete mathtrail-dev\n    rm -f ~/.kube/k3d-mathtrail-dev.yaml " in printed
    assert (
        "    docker volume rm k3d-mathtrail-registry   (its images, unless another environment uses them)\n" in printed
    )
    assert "bin/just delete && bin/just create" not in printed
    assert "Names that were made of mathtrail stay: runner_name mathtrail-runners.\n" in printed


def test_new_project_says_which_names_stay_and_where_the_images_are(update: Update) -> None:
    printed = update(data={"project": "shop"})
    assert (
        "Names that were made of mathtrail stay: cluster_name mathtrail-dev, runner_name mathtrail-runners.\n"
        in printed
    )
    assert "    bin/just update -d cluster_name=shop-dev -d runner_name=shop-runners\n" in printed
    assert "The registry is called k3d-shop-registry then, and has no images yet." in printed
    assert "    docker volume rm k3d-mathtrail-registry   (unless another environment uses them)\n" in printed
    assert "Images in the registry stay" not in printed


EXISTING = {"provider": "existing", "kube_context": "kind-a", "image_repository": "registry.example.com/team/runner"}


def test_other_provider_says_what_is_left_behind(environment: Path, update: Update) -> None:
    printed = update(data=EXISTING)
    assert "The cluster is that of the context kind-a now. The one of k3d stays on every machine" in printed
    assert "git stash push -u . && { bin/just delete; git stash pop; }" in printed
    assert "bin/just delete && bin/just create" not in printed
    assert not (environment / "k3d.yaml").exists()
    assert "bin/envkit create" not in (environment / "justfile").read_text(encoding="utf-8")

    printed = update(data={"kube_context": "kind-b"})
    assert "The context is kind-b now. That is another cluster, unless only its name changed." in printed
    assert "in that of kind-a stay there" in printed

    printed = update(data={"provider": "k3d"})
    assert "The cluster is made by k3d now. What this environment has in that of kind-b stays there." in printed
    assert "bin/just create" in printed
    assert (environment / "k3d.yaml").exists()


def test_runners_are_spoken_of_where_there_are_some(update: Update) -> None:
    assert "no runners any more" in update(data={"arc": False})
    without = [
        update(data={"registry_port": 7001}),
        update(data={"cluster_name": "other"}),
        update(data={"project": "shop", "cluster_name": "other"}),
        update(data={"provider": "existing", "kube_context": "kind-a"}),
        update(data={"kube_context": "kind-b"}),
        update(data={"provider": "k3d"}),
    ]
    due = ["Images in the registry stay.", "To delete it, before", "The registry is called", "with its registry. To"]
    due += ["unless only its name changed.\n    bin/just doctor\n", "made by k3d now.\n    bin/just create\n"]
    for printed, words in zip(without, due, strict=True):
        assert words in printed
        assert "-arc" not in printed
        assert "runner" not in printed.lower()


def test_runners_that_are_no_longer_wanted_are_still_in_the_cluster(update: Update) -> None:
    printed = update(data={"arc": False})
    assert "no runners any more" in printed
    assert "git stash push -u . && { bin/just delete-arc; git stash pop; }" in printed
    assert "  removed: helm/arc-runners.yaml (it was: git show HEAD:./helm/arc-runners.yaml)\n" in printed


def test_pinned_image_that_was_chosen_does_not_follow_the_template(environment: Path, update: Update) -> None:
    update(data={"k3s_image": "mirror.example/k3s:1"})
    update()
    assert 'image: "mirror.example/k3s:1"' in (environment / "k3d.yaml").read_text(encoding="utf-8")


def test_update_without_changes_says_so(repository: Path) -> None:
    assert after_update.report(repository) == "The update changed nothing."


def test_changed_example_of_local_settings_says_what_to_compare(repository: Path) -> None:
    (repository / ".env.example").write_text("#API_PORT=7000\n", encoding="utf-8")
    report = after_update.report(repository)
    assert report.startswith("The update changed 1 file: 1 new.\n")
    assert "diff .env.example .env" not in report
    (repository / ".env").touch()
    (repository / ".gitignore").write_text(".env\n", encoding="utf-8")
    assert "Compare it with your .env:\n    diff .env.example .env\n" in after_update.report(repository)


@pytest.mark.parametrize(
    ("path", "old", "new", "command"),
    [
        ("helm/arc-runners.yaml", "maxRunners: 5\n", "maxRunners: 6\n", "bin/just install-arc"),
        ("helm/arc-runners.yaml", "maxRunners: 5\n", "# words\nmaxRunners: 5\n", ""),
        ("helm/arc-controller.yaml", "a: 1\n", "a: 2\n", "bin/just install-arc"),
        ("ansible/group_vars/all.yml", "a: 1\n", "a: 2\n", "bin/just install-arc"),
        ("runner/tools.toml", "", "# words\n", "bin/just build-runner && bin/just install-arc"),
        ("runner/README.md", "", "words\n", ""),
        ("environment.toml", "", "[runner]\nbase_image = 'x'\n", "bin/just build-runner && bin/just install-arc"),
        ("environment.toml", "", "[ide]\nlens = 'none'\n", ""),
        ("mise.toml", "[tools]\njust = '1'\n", "[tools]\njust = '2'\n", "bin/just install"),
        ("mise.toml", "[tools]\njust = '1'\n", "# words\n[tools]\njust = '1'\n", ""),
        ("envkit/cli.py", "", "pass\n", ""),
    ],
)
def test_what_is_due_follows_from_what_changed(path: str, old: str, new: str, command: str, repository: Path) -> None:
    (repository / "helm").mkdir()
    (repository / "helm" / "arc-runners.yaml").write_text("maxRunners: 5\n", encoding="utf-8")
    file = repository / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(old, encoding="utf-8")
    commit_all(repository, "before")
    file.write_text(new, encoding="utf-8")
    found = [line.strip() for line in after_update.report(repository).splitlines() if line.startswith("    bin/just")]
    assert found == [command] * bool(command)


def test_dev_container_is_rebuilt_for_more_than_a_comment(repository: Path) -> None:
    (repository / ".devcontainer").mkdir()
    file = repository / ".devcontainer" / "devcontainer.json"
    file.write_text('{\n  // words\n  "name": "a"\n}\n', encoding="utf-8")
    commit_all(repository, "before")
    file.write_text('{\n  // other words\n  "name": "a"\n}\n', encoding="utf-8")
    assert "rebuild it" not in after_update.report(repository)
    file.write_text('{\n  "name": "b"\n}\n', encoding="utf-8")
    assert "The dev container changed: rebuild it" in after_update.report(repository)


def test_version_of_a_moved_file_is_compared_with_that_of_the_old_one(repository: Path) -> None:
    (repository / ".mise.toml").write_text("[tools]\njust = '1'\n", encoding="utf-8")
    (repository / "an old one").touch()
    commit_all(repository, "before")
    (repository / "an old one").unlink()
    (repository / ".mise.toml").rename(repository / "mise.toml")
    report = after_update.report(repository)
    assert "  removed: .mise.toml, it is mise.toml now\n" in report
    assert "  removed: an old one (it was: git show HEAD:./'an old one')\n" in report
    assert "bin/just install" not in report


def test_many_files_are_counted_by_folder(repository: Path) -> None:
    (repository / "envkit").mkdir()
    for number in range(13):
        (repository / "envkit" / f"{number}.py").touch()
    (repository / "justfile").touch()
    assert "  new: envkit/ (13), justfile\n" in after_update.report(repository)


def test_own_recipe_that_the_menu_has_too_is_named(repository: Path) -> None:
    (repository / "local.just").write_text(
        "load *options:\n    x\n\n@update to='' *more: load\n    x\n", encoding="utf-8"
    )
    (repository / "justfile").write_text("set quiet\nx := '1'\nupdate *options:\n    y\n", encoding="utf-8")
    assert "those of the justfile are run: update. Give" in after_update.report(repository)


def test_conflict_is_named_with_the_commands_that_finish_or_abort(environment: Path, update: Update) -> None:
    file = environment / "k3d.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("timeout: 300s", "timeout: 500s"), encoding="utf-8")
    printed = update()
    assert "CONFLICTS in 1 file, where you and the template changed the same:\n    k3d.yaml\n" in printed
    assert '    git add -A . && git commit -m "chore: update the environment" .\n' in printed
    assert "    git reset -q . && git checkout . && git clean -d -i .\n" in printed
    assert "k3d.yaml is not readable before its conflict is resolved" in printed
    # The way back leads back.
    git(environment, "reset", "--quiet")
    git(environment, "checkout", ".")
    assert not git(environment, "status", "--porcelain")
    assert "timeout: 500s" in file.read_text(encoding="utf-8")


@pytest.fixture
def one_of_many(tmp_path: Path) -> Path:
    """An environment in a folder of a larger repository, in whose other folder somebody is at work."""
    environment, others = tmp_path / "Umgebung für alle", tmp_path / "service"
    for folder in (environment, others):
        folder.mkdir()
        (folder / "file").write_text("before\n", encoding="utf-8")
    commit_all(tmp_path, "before")
    for name in ("file", "staged", "new"):
        (others / name).write_text("not committed yet\n", encoding="utf-8")
    git(tmp_path, "add", "service/staged")
    for name in ("file", "new"):
        (environment / name).write_text("updated\n", encoding="utf-8")
    return environment


@pytest.mark.parametrize(("variable", "place"), [("PWD", "env"), ("PWD", "."), ("ENVKIT_CALLED_FROM", "env/helm")])
def test_folder_of_the_commands_is_named_where_the_person_is_elsewhere(
    repository: Path, monkeypatch: pytest.MonkeyPatch, variable: str, place: str
) -> None:
    environment = repository / "env"
    environment.mkdir()
    (environment / "new").touch()
    monkeypatch.setenv("PWD", str(environment))
    monkeypatch.setenv(variable, str(repository / place))
    assert (f"\n    cd {environment}\n" in after_update.report(environment)) == (place != "env")


OTHERS = " M service/file\nA  service/staged\n?? service/new\n"


def test_commands_that_finish_and_undo_keep_to_the_folder_of_the_environment(one_of_many: Path) -> None:
    commit, undo = [line for line in after_update.report(one_of_many).splitlines() if line.startswith("    git ")]
    git(one_of_many, "add", "file")
    subprocess.run(["sh", "-c", undo.replace("-i", "-f")], cwd=one_of_many, check=True, capture_output=True)
    assert git(one_of_many.parent, "status", "--porcelain") == OTHERS
    (one_of_many / "new").write_text("updated\n", encoding="utf-8")
    subprocess.run(["sh", "-c", commit], cwd=one_of_many, check=True, capture_output=True)
    assert git(one_of_many.parent, "status", "--porcelain") == OTHERS
    assert git(one_of_many, "show", "--format=", "--name-only", "-z") == "Umgebung für alle/new\0"


def test_command_that_deletes_the_old_cluster_puts_nobody_elses_work_aside(one_of_many: Path) -> None:
    (one_of_many / "helm").mkdir()
    (one_of_many / "helm" / "arc-runners.yaml").write_text("a: 1\n", encoding="utf-8")
    git(one_of_many, "add", ".")
    git(one_of_many, "commit", "--quiet", "--message", "runners", ".")
    (one_of_many / "helm" / "arc-runners.yaml").unlink()
    (command,) = [line for line in after_update.report(one_of_many).splitlines() if "git stash" in line]
    look = "git -C .. status --porcelain >../.git/seen; test -e helm/arc-runners.yaml"
    run = command.replace("bin/just delete-arc", look)
    subprocess.run(["sh", "-ec", run], cwd=one_of_many, check=True, capture_output=True)
    assert (one_of_many.parent / ".git" / "seen").read_text(encoding="utf-8") == OTHERS
    assert OTHERS in git(one_of_many.parent, "status", "--porcelain")
    assert not (one_of_many / "helm" / "arc-runners.yaml").exists()


def test_update_stops_before_it_treats_the_rejected_hunks_of_others_as_its_own(
    environment: Path, update: Update, capfd: pytest.CaptureFixture[str]
) -> None:
    (environment / "README.md.rej").touch()
    with pytest.raises(TaskError):
        update()
    assert "    README.md.rej\nCopier takes each for its own" in capfd.readouterr().err
    assert (environment / "README.md.rej").exists()
    assert not git(environment, "status", "--porcelain")


@pytest.mark.parametrize("ignored", ["*.rej\n", ""])
def test_rejected_hunks_are_conflicts_also_where_git_ignores_them(ignored: str, repository: Path) -> None:
    (repository / ".gitignore").write_text(ignored, encoding="utf-8")
    (repository / "k3d.yaml.rej").write_text("", encoding="utf-8")
    assert UpdatedFiles(repository).conflicts() == ["k3d.yaml.rej"]


def test_markers_in_files_the_update_left_alone_are_no_conflicts(repository: Path) -> None:
    (repository / "notes.md").write_text("<<<<<<< before updating\n", encoding="utf-8")
    commit_all(repository, "notes")
    assert UpdatedFiles(repository).conflicts() == []


def test_names_with_spaces_and_umlauts_are_printed_as_they_are(repository: Path) -> None:
    file = repository / "größe 1.txt"
    file.write_text("<<<<<<< before updating\na\n>>>>>>> after updating\n", encoding="utf-8")
    git(repository, "add", "--all")
    assert UpdatedFiles(repository).conflicts() == ["größe 1.txt"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take names in UTF-8 only")
def test_name_that_is_not_utf_8_does_not_keep_the_report_back(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, file = (repository / os.fsdecode(name) for name in (b"gone \xe9", b"caf\xe9.txt"))
    for path in (gone, file):
        path.write_text("before\n", encoding="utf-8")
    commit_all(repository, "before")
    gone.unlink()
    file.write_text("<<<<<<< before updating\na\n>>>>>>> after updating\n", encoding="utf-8")
    monkeypatch.chdir(repository)
    assert after_update.main([".copier-answers.yml"]) == 0
    printed = capsys.readouterr().err
    assert "  changed: caf\\xe9.txt\n" in printed
    assert "CONFLICTS in 1 file, where you and the template changed the same:\n    caf\\xe9.txt\n" in printed
    assert "  removed: gone \\xe9 (" in printed
    assert UpdatedFiles(repository).before(gone.name) == b"before\n"


@pytest.mark.parametrize("content", ["a: [\n", "since: 2026-02-31\n", "since: 0b_\n", "<<<<<<< before updating\n"])
def test_answers_that_cannot_be_read_do_not_keep_the_report_back(repository: Path, content: str) -> None:
    answers = repository / ".copier-answers.yml"
    answers.write_text(content, encoding="utf-8")
    commit_all(repository, "before")
    answers.write_text("agents: 2\n", encoding="utf-8")
    assert after_update.report(repository).startswith("The update changed 1 file: 1 changed.\n")
    answers.write_text(f"{content}# words\n", encoding="utf-8")
    assert after_update.report(repository).startswith("The update changed 1 file: 1 changed.\n")


def test_service_repository_is_no_environment(repository: Path) -> None:
    answers = repository / ".copier-answers.devcontainer.yml"
    (repository / ".devcontainer.json").write_text("{}", encoding="utf-8")
    answers.write_text("scope: devcontainer\nproject: shop\n", encoding="utf-8")
    for name in ("justfile", "local.just"):
        (repository / name).write_text("ours:\n", encoding="utf-8")
    commit_all(repository, "before")
    answers.write_text("scope: devcontainer\nproject: cart\n", encoding="utf-8")
    (repository / ".devcontainer.json").write_text('{"name": "a"}', encoding="utf-8")
    report = after_update.report(repository, answers.name)
    assert 'git commit -m "chore: update the dev container"' in report
    assert "environment" not in report
    assert "bring .devcontainer" not in report
    assert "local.just" not in report


def test_folder_that_is_no_repository_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert after_update.main([".copier-answers.yml"]) == 0
    assert "What changed could not be listed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [([], "the following arguments are required: answers_file"), (["a.yml", "b.yml"], "unrecognized arguments: b.yml")],
)
def test_report_by_hand_says_what_it_wants(
    arguments: list[str], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        after_update.main(arguments)
    assert caught.value.code == 2
    assert f"error: {wrong}\n" in capsys.readouterr().err
