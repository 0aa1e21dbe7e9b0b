from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_tools import Machine
from samples import AGENTS, KUBECONFIG, REGISTRY, SERVER, changed, healthy, sample_environment, write_repo

from envkit import cli, cluster, doctor, environment, paths, status
from envkit.environment import Environment
from envkit.errors import CommandFailedError, UserError
from envkit.kubeconfig import kubeconfig_paths
from envkit.observation import ApiFacts, Observation
from envkit.preflight import Check, Verdict
from envkit.reconciler import Outcome, Reconciler
from envkit.registry import RegistryUse

COMMANDS = [
    "setup",
    "images",
    "install",
    "install-lens",
    "create",
    "start",
    "stop",
    "restart",
    "delete",
    "clean",
    "status",
    "ports",
    "kubeconfig",
    "doctor",
    "push",
    "lens",
    "build-runner",
    "test-runner",
    "runner-checksums",
    "runner-outdated",
    "install-arc",
    "delete-arc",
    "arc-status",
    "arc-logs",
    "update",
    "arc-plan",
    "arc-secrets",
]

FOR_PLAYBOOKS = {"arc-plan", "arc-secrets"}
"""What the playbooks call, and no person."""


@pytest.fixture
def shop(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment whose commands find it, on a machine without any tool."""
    repo = write_repo(machine.folder / "shop")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    shop = sample_environment(repo)
    monkeypatch.setattr(cli, "load_environment", lambda: environment.load_environment(repo))
    for module in (cli, doctor):
        monkeypatch.setattr(module, "load_cluster", lambda: cluster.load_cluster(repo))
    return shop


def _fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_create", fail)


# -- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])

    assert caught.value.code == 0
    assert f"usage: envkit {command}" in capsys.readouterr().out


def test_the_help_lists_every_command_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    (subparsers,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))

    assert sorted(subparsers.choices) == sorted(COMMANDS)
    assert all(action.help for action in subparsers._choices_actions)
    assert not capsys.readouterr().out


def test_every_recipe_calls_a_command_and_every_command_has_a_recipe() -> None:
    justfile = (paths.ROOT / "{% if provider == 'k3d' %}justfile{% endif %}").read_text(encoding="utf-8")
    called = re.findall(r"^    (?:[A-Z_]+=.* )?bin/envkit (\S+)", justfile, re.MULTILINE)

    assert sorted(called) == sorted(set(COMMANDS) - FOR_PLAYBOOKS)


@pytest.mark.parametrize("option", ["--save", "--load"])
def test_a_file_is_looked_for_where_the_person_called_just(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "it's a folder"
    below.mkdir()
    monkeypatch.chdir(tmp_path)
    parse = cli._parser().parse_args

    assert vars(parse(["images", option, "all.tar"]))[option.strip("-")] == tmp_path / "all.tar"
    monkeypatch.setenv("ENVKIT_CALLED_FROM", str(below))
    assert vars(parse(["images", option, "all.tar"]))[option.strip("-")] == below / "all.tar"
    assert vars(parse(["images", option, "../all.tar"]))[option.strip("-")] == tmp_path / "all.tar"
    assert vars(parse(["images", option, "/all.tar"]))[option.strip("-")] == Path("/all.tar")


@pytest.mark.parametrize(
    ("provider", "arguments"),
    [("k3d", ["images", "--load", "my all.tar"]), ("k3d", ["update", "--check"]), ("existing", ["update"])],
)
def test_the_recipe_says_where_it_was_called(tmp_path: Path, provider: str, arguments: list[str]) -> None:
    root, below = tmp_path / "shop", tmp_path / "shop" / "it's a folder"
    below.mkdir(parents=True)
    justfile = f"{{% if provider == '{provider}' %}}justfile{{% endif %}}"
    (root / "justfile").write_text((paths.ROOT / justfile).read_text(encoding="utf-8"), encoding="utf-8")
    (root / "bin").mkdir()
    (root / "bin" / "envkit").write_text('#!/bin/sh\nprintf "%s|" "$PWD" "$ENVKIT_CALLED_FROM" "$@"\n')
    (root / "bin" / "envkit").chmod(0o755)

    done = subprocess.run(["just", *arguments], cwd=below, capture_output=True, text=True, check=False)

    assert (done.stderr, done.stdout) == ("", "|".join([str(root), str(below), *arguments, ""]))


@pytest.mark.parametrize("arguments", [[], ["craete"], ["create", "--fast"], ["push"], ["install", "--only", "x"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)

    assert caught.value.code == 2
    assert "usage: envkit" in capsys.readouterr().err


# -- errors -------------------------------------------------------------------------------------------------------


def test_an_error_has_what_why_and_the_next_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fails_with(monkeypatch, UserError("It broke.", "One.\nTwo.", "just doctor\njust create"))

    assert cli.main(["create"]) == 1
    assert capsys.readouterr() == (
        "",
        "error: It broke.\n  One.\n  Two.\n  next: just doctor\n        just create\n",
    )


def test_a_failed_tool_shows_the_end_of_its_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fails_with(monkeypatch, CommandFailedError("`k3d` failed.", status=7, output="no image", next_step="just doctor"))

    assert cli.main(["create"]) == 1
    assert capsys.readouterr().err == "error: `k3d` failed.\n  no image\n  next: just doctor\n"


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _fails_with(monkeypatch, KeyboardInterrupt())

    assert cli.main(["create"]) == 130
    error = capsys.readouterr().err
    assert "Interrupted." in error
    assert "`just create`" in error
    assert "`just status`" in error


@pytest.mark.parametrize(
    ("command", "again", "status"),
    [
        ("start", "create", "status"),
        ("restart", "create", "status"),
        ("setup", "setup", "status"),
        ("build-runner", "build-runner", "status"),
        ("install-arc", "install-arc", "arc-status"),
        ("delete-arc", "delete-arc", "arc-status"),
    ],
)
def test_ctrl_c_names_the_recipe_that_goes_on_with_what_was_interrupted(
    command: str, again: str, status: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "tell_programs", interrupt)
    assert cli.main([command]) == 130
    error = capsys.readouterr().err
    assert f"`just {again}` continues" in error
    assert f"`just {status}` shows it" in error


def test_a_full_disk_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _fails_with(monkeypatch, OSError(28, "No space left on device", "/home/jo/.kube/config"))

    assert cli.main(["create"]) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "/home/jo/.kube/config" in error
    assert "next: df -h && ls -ld ~ ~/.kube ~/.local/state   " in error

    monkeypatch.setattr("sys.platform", "darwin")
    assert cli.main(["create"]) == 1
    assert r"ls -ld ~ ~/.kube ~/Library/Application\ Support   " in capsys.readouterr().err


def test_messages_name_a_just_whose_path_has_a_space_in_it_as_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVKIT_JUST", "/Users/jane doe/env/bin/just")

    assert paths.just_command() == "'/Users/jane doe/env/bin/just'"


def test_messages_name_the_just_that_works_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVKIT_JUST", "bin/just")
    _fails_with(monkeypatch, KeyboardInterrupt())
    cli.main(["create"])

    assert "`bin/just create`" in capsys.readouterr().err


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("doctor", "install", "setup")])
@pytest.mark.usefixtures("shop")
def test_no_command_ends_in_a_traceback_where_docker_is_missing(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = {"push": ["app"], "arc-plan": ["install"]}

    code = cli.main([command, *needed.get(command, [])])

    captured = capsys.readouterr()
    assert code == (0 if command == "status" else 1) or command == "install-lens"
    assert "Traceback" not in captured.err


@pytest.mark.usefixtures("shop")
def test_a_wrong_configuration_stops_every_command(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.folder / "shop" / "k3d.yaml").write_text("agents: two\n", encoding="utf-8")

    for command in ("create", "status", "delete", "push"):
        assert cli.main([command, "app"] if command == "push" else [command]) == 1
        assert "k3d.yaml is not a configuration" in capsys.readouterr().err


def test_the_reader_of_a_pipe_may_go_away() -> None:
    program = "import sys; from envkit import cli\ncli._create = lambda _: print('x' * 200_000) or 0\n"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{program}sys.exit(cli.main(['create']))"],
        env=os.environ | {"PYTHONPATH": str(paths.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        errors = process.stderr.read()

    assert errors == b""
    assert process.returncode != 0


# -- what is said at the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "sentences"),
    [
        (Outcome(()), ["The cluster shop is running; nothing had to be done."]),
        (
            Outcome(("started the cluster", "wrote the kubeconfigs")),
            [
                "The cluster shop is running: started the cluster, wrote the kubeconfigs.",
                "context k3d-shop",
                "just status",
            ],
        ),
        (Outcome((), ("agents: 2 -> 3",)), ["agents: 2 -> 3", "just delete && just create"]),
        (Outcome((), unknown_origin=True), ["created by k3d itself"]),
    ],
)
@pytest.mark.usefixtures("shop")
def test_create_says_what_it_did(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
    sentences: list[str],
) -> None:
    monkeypatch.setattr(Reconciler, "bring_up", lambda *_, **__: outcome)

    assert cli.main(["create"]) == 0
    out = capsys.readouterr().out
    assert all(sentence in out for sentence in sentences)


@pytest.mark.usefixtures("shop")
def test_delete_says_what_it_removed_and_what_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "delete", lambda *_, registry_data: [] if registry_data else ["cluster shop"])
    monkeypatch.setattr(cli, "inspect", lambda *_: [{}])

    assert cli.main(["delete"]) == 0
    assert capsys.readouterr().out == (
        "Removed:\n  cluster shop\n"
        "The registry's images stay in the volume k3d-shop-registry; just delete --all removes them too.\n"
    )
    assert cli.main(["delete", "--all"]) == 0
    assert capsys.readouterr().out == "There was nothing to remove.\n"


# -- status -------------------------------------------------------------------------------------------------------


@pytest.fixture
def found(shop: Environment, monkeypatch: pytest.MonkeyPatch) -> Callable[[Observation], None]:
    def find(observation: Observation) -> None:
        monkeypatch.setattr(status, "observe", lambda *_: observation)

    monkeypatch.setattr(status, "read_marker", lambda _: shop.effective | {"agents": 2, "servers": 1, "image": "old"})
    monkeypatch.setattr(status, "use_of", lambda _: RegistryUse(3, 5 * 2**20))
    return find


KEYS = {
    "cluster",
    "context",
    "state",
    "reasons",
    "kubernetes",
    "image",
    "nodes",
    "ports",
    "registry",
    "kubeconfigs",
    "corporate_network",
    "ingress",
    "drift",
    "next_step",
}


def _status(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert cli.main(["status", "--json"]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    assert set(document) == KEYS
    return document


def test_status_of_a_running_cluster(
    shop: Environment, found: Callable[[Observation], None], capsys: pytest.CaptureFixture[str]
) -> None:
    found(healthy(shop))

    document = _status(capsys)

    assert (document["state"], document["reasons"], document["next_step"]) == ("running", [], "")
    assert document["ingress"] == "http://localhost:8080"
    assert document["kubernetes"] == "v1.36.2"
    assert document["registry"] == {
        "host": "k3d-shop-registry.localhost:5050",
        "container": "running",
        "answers": True,
        "repositories": 3,
        "bytes": 5 * 2**20,
    }
    assert cli.main(["status"]) == 0
    table = capsys.readouterr().out
    assert "shop  running" in table
    assert "answers, 3 repositories, 5.0 MiB" in table
    assert f"{SERVER}  server  running  Ready" in table


@pytest.mark.parametrize(
    ("state", "next_step"), [("absent", "just create"), ("stopped", "just start"), ("partial", "just create")]
)
def test_status_names_state_and_next_step(
    shop: Environment,
    found: Callable[[Observation], None],
    capsys: pytest.CaptureFixture[str],
    state: str,
    next_step: str,
) -> None:
    running = healthy(shop)
    found(
        {
            "absent": Observation((), None),
            "stopped": changed(running, *AGENTS, state="exited"),
            "partial": changed(running, REGISTRY, state="created"),
        }[state]
    )

    document = _status(capsys)

    assert (document["state"], document["next_step"]) == (state, next_step)
    assert cli.main(["status"]) == 0
    assert next_step in capsys.readouterr().out


def test_status_of_a_cluster_whose_api_is_dead(
    shop: Environment, found: Callable[[Observation], None], capsys: pytest.CaptureFixture[str]
) -> None:
    found(replace(healthy(shop), api=ApiFacts(error="refused [x]")))

    document = _status(capsys)

    assert document["state"] == "broken"
    assert document["reasons"] == ["The Kubernetes API does not answer: refused [x]."]
    assert cli.main(["status"]) == 0
    assert "refused [x]" in capsys.readouterr().out


def test_status_shows_drift(
    shop: Environment, found: Callable[[Observation], None], capsys: pytest.CaptureFixture[str]
) -> None:
    found(changed(healthy(shop), SERVER, config_hash="0123456789abcdef"))

    document = _status(capsys)

    assert document["drift"] == ["image: old -> rancher/k3s:v1.36.2-k3s1"]
    assert str(document["next_step"]).startswith("just delete && just create")


@pytest.mark.usefixtures("shop")
def test_status_without_docker_says_so_and_what_else_is_known(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.add("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    document = _status(capsys)

    assert document["state"] == "unknown"
    assert document["reasons"] == ["Docker is not reachable.", "Cannot connect to the Docker daemon"]
    assert document["ports"] == {
        "HTTP": "127.0.0.1:8080",
        "HTTPS": "127.0.0.1:8443",
        "Kubernetes API": "127.0.0.1:6550",
        "image registry": "127.0.0.1:5050",
    }
    assert "docker" in str(document["next_step"])
    assert cli.main(["status"]) == 0
    assert "does not answer" in capsys.readouterr().out


def test_status_tells_which_kubeconfig_is_not_current(
    shop: Environment, found: Callable[[Observation], None], capsys: pytest.CaptureFixture[str]
) -> None:
    found(healthy(shop))
    files = kubeconfig_paths(shop.context)
    files.host.parent.mkdir(parents=True)
    files.host.write_text(KUBECONFIG, encoding="utf-8")
    files.devcontainer.write_text(KUBECONFIG, encoding="utf-8")  # names 127.0.0.1, where no container finds the API

    assert _status(capsys)["kubeconfigs"] == [
        {"path": str(files.host), "present": True, "current": True, "left_alone": ""},
        {"path": str(files.devcontainer), "present": True, "current": False, "left_alone": ""},
        {"path": str(files.merged), "present": False, "current": True, "left_alone": ""},
    ]
    assert cli.main(["status"]) == 0
    table = capsys.readouterr().out
    assert f"{files.devcontainer}  not current (just kubeconfig)" in table
    assert f"{files.merged}  missing" in table


def test_status_says_why_the_developers_own_kubeconfig_is_left_alone(
    shop: Environment,
    found: Callable[[Observation], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found(healthy(shop))
    files = kubeconfig_paths(shop.context)
    files.host.parent.mkdir(parents=True)
    files.host.write_text(KUBECONFIG, encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", "/dev/null")

    why = "it is not a regular file"
    assert _status(capsys)["kubeconfigs"] == [
        {"path": str(files.host), "present": True, "current": True, "left_alone": ""},
        {"path": str(files.devcontainer), "present": False, "current": False, "left_alone": ""},
        {"path": "/dev/null", "present": False, "current": True, "left_alone": why},
    ]
    assert cli.main(["status"]) == 0
    assert f"/dev/null  left alone, because {why}" in capsys.readouterr().out


def test_the_kubeconfigs_are_listed_without_one_that_is_left_alone(
    shop: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = kubeconfig_paths(shop.context)
    monkeypatch.setattr(cli, "write_kubeconfigs", lambda _: [str(files.host)])

    assert cli.main(["kubeconfig"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"written  {files.host}",
        f"current  {files.devcontainer}",
        f"current  {files.merged}",
    ]
    monkeypatch.setenv("KUBECONFIG", "/dev/null")
    assert cli.main(["kubeconfig"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"written  {files.host}", f"current  {files.devcontainer}"]


# -- doctor -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shop")
def test_doctor_goes_on_where_docker_does_not_answer(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "resolves", lambda _: True)
    monkeypatch.setattr(doctor, "tool_statuses", list)
    machine.add("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fail  Docker" in out
    assert "Port 6550" in out
    assert "resolves" in out
    assert "would stop `just create`" in out


@pytest.mark.usefixtures("shop")
def test_doctor_goes_on_where_the_configuration_is_wrong(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "tool_statuses", list)
    (machine.folder / "shop" / "k3d.yaml").write_text("- list\n", encoding="utf-8")

    assert cli.main(["doctor"]) == 1
    assert "fail  Configuration" in capsys.readouterr().out


@pytest.mark.usefixtures("shop")
def test_doctor_goes_on_where_the_pinned_versions_are_not_known(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> list[object]:
        raise UserError("mise.toml cannot be read.", "It is cut off.", "git checkout -- mise.toml")

    monkeypatch.setattr(doctor, "resolves", lambda _: True)
    monkeypatch.setattr(doctor, "tool_statuses", fail)
    machine.add("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "mise.toml cannot be read. It is cut off." in out
    assert "fix: git checkout -- mise.toml" in out
    assert "fail  Docker" in out


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.OK, 0), (Verdict.WARN, 0), (Verdict.FAIL, 1)])
def test_only_what_would_stop_create_fails_doctor(
    verdict: Verdict, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.print_checks([Check("Disk", verdict, "some [x]", "tidy [up]")]) == code
    out = capsys.readouterr().out
    assert "some [x]" in out
    assert ("fix: tidy [up]" in out) is (verdict is not Verdict.OK)
    assert ("Nothing stands in the way" in out) is (code == 0)
