from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_tools import Machine
from support import wait_for

from envkit import process
from envkit.errors import TIMED_OUT, CommandFailedError, UserError
from envkit.process import capture, find_tool, redact, require_tool, started, stream, tool_environment

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"


# -- the environment of tools -------------------------------------------------------------------------------------


def test_settings_of_k3d_do_not_leak_and_its_images_do(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"K3D_IMAGE_LOADBALANCER": "a", "K3D_HELPER_IMAGE_TAG": "b", "K3D_FIX_DNS": "1", "K3D_LOG_LEVEL": "debug"}
    for name in (*kept, "K3D_SERVERS", "K3D_AGENTS", "K3D_CONFIG", "K3D_HELPER_IMAGE_TAG_OLD"):
        monkeypatch.setenv(name, kept.get(name, "3"))

    environment = tool_environment()

    assert {name: value for name, value in environment.items() if name.startswith("K3D_")} == kept


def test_a_tool_gets_no_pythonpath_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/repo")

    assert "PYTHONPATH" not in tool_environment()


def test_kubectl_does_not_take_its_defaults_from_the_developers_kuberc(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERC", "/home/jo/.kube/kuberc")
    machine.add("kubectl", 'echo "$KUBERC"')

    assert capture(["kubectl", "delete", "node", "lost"]) == "off\n"


def test_what_is_asked_for_is_added() -> None:
    assert tool_environment({"MISE_YES": "1"})["MISE_YES"] == "1"


def test_the_repositorys_own_tools_come_first(machine: Machine) -> None:
    other = machine.add("k3d", "echo other")
    assert find_tool("k3d") == str(other)

    pinned = machine.add("k3d", "echo pinned", folder=machine.tools_bin)

    assert find_tool("k3d") == str(pinned)
    assert capture(["k3d"]) == "pinned\n"


def test_tools_are_found_without_a_path(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")

    assert tool_environment()["PATH"] == f"{machine.tools_bin}:{os.defpath}"


@pytest.mark.parametrize("run", [require_tool, lambda name: capture([name]), lambda name: stream([name], print)])
def test_a_missing_tool_is_named_with_the_command_that_installs_it(machine: Machine, run: object) -> None:
    assert callable(run)

    with pytest.raises(UserError, match="helm is not installed") as caught:
        run("helm")

    assert str(machine.tools_bin) in caught.value.why
    assert caught.value.next_step == "just install"


@pytest.mark.parametrize("run", [lambda: capture(["k3d"]), lambda: stream(["k3d"], print)])
def test_a_tool_of_another_machine_is_named(machine: Machine, run: object) -> None:
    path = machine.bin / "k3d"
    path.write_bytes(b"\x7fELF\0 for another processor")
    path.chmod(0o755)
    assert callable(run)

    with pytest.raises(UserError, match=re.escape(f"{path} cannot be run")) as caught:
        run()

    assert caught.value.next_step


# -- secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("K3S_TOKEN=abc123", "K3S_TOKEN=***"),
        ("token: abc123", "token: ***"),
        ('{"token": "abc123", "name": "shop"}', '{"token": "***", "name": "shop"}'),
        ("--token=abc123 --name shop", "--token=*** --name shop"),
        ("--token abc123 --name shop", "--token *** --name shop"),
        ("Password = abc123", "Password = ***"),
        ("client-key-data: abc123", "client-key-data: ***"),
        ("Authorization: Bearer abc123", "Authorization: Bearer ***"),
        (f"before\n{KEY}\nafter", "before\n*** private key ***\nafter"),
        (KEY.partition("\n-----END")[0], "*** private key ***"),
        ("no secrets in here: tokens of another kind", "no secrets in here: tokens of another kind"),
        ("the token is invalid", "the token is invalid"),
    ],
)
def test_secrets_are_taken_out(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_private_key_that_comes_line_by_line_is_taken_out(machine: Machine) -> None:
    machine.add("k3d", f"cat <<END\nbefore\n{KEY}\nafter\nEND\nexit 1")
    lines: list[str] = []

    with pytest.raises(CommandFailedError) as caught:
        stream(["k3d"], lines.append)

    assert lines == ["before", "*** private key ***", "after"]
    assert caught.value.output == "before\n*** private key ***\nafter"


# -- capture ------------------------------------------------------------------------------------------------------


def test_only_the_standard_output_is_returned(machine: Machine) -> None:
    machine.add("kubectl", "echo out; echo err >&2")

    assert capture(["kubectl", "get"]) == "out\n"


def test_a_tool_reads_what_it_is_given_and_nothing_else(machine: Machine) -> None:
    machine.add("kubectl", "cat")

    assert capture(["kubectl"], stdin="text") == "text"
    assert capture(["kubectl"], timeout=5) == ""


def test_bytes_that_are_no_text_do_not_matter(machine: Machine) -> None:
    machine.add("kubectl", r"printf '\377\n'")

    assert capture(["kubectl"]) == "�\n"


def test_a_failure_carries_status_the_end_of_the_errors_and_the_next_step(machine: Machine) -> None:
    machine.add("k3d", "i=0; while [ $i -lt 30 ]; do echo line $i token=x >&2; i=$((i+1)); done; echo out; exit 3")

    with pytest.raises(CommandFailedError) as caught:
        capture(["k3d", "create", "--token=abc"], next_step="just doctor")

    assert caught.value.status == 3
    assert caught.value.what == "`k3d create --token=***` failed with exit status 3."
    assert caught.value.output.splitlines() == [f"line {i} token=***" for i in range(10, 30)]
    assert caught.value.next_step == "just doctor"


def test_command_that_failed_is_shown_as_a_shell_takes_it(machine: Machine) -> None:
    machine.add("docker", "exit 1")

    with pytest.raises(CommandFailedError, match=r"`docker info --format '\{\{json \.\}\}' '/a b/\$c'` failed"):
        capture(["docker", "info", "--format", "{{json .}}", "/a b/$c"])


def test_a_failure_without_errors_carries_the_output(machine: Machine) -> None:
    machine.add("k3d", "echo why; exit 1")

    with pytest.raises(CommandFailedError) as caught:
        capture(["k3d"])

    assert caught.value.output == "why"


def test_a_tool_that_hangs_is_ended(machine: Machine) -> None:
    machine.add("docker", "exec /bin/sleep 30")
    started = time.monotonic()

    with pytest.raises(CommandFailedError, match="did not end within 0 s") as caught:
        capture(["docker"], timeout=0.2)

    assert caught.value.status == TIMED_OUT
    assert time.monotonic() - started < 5


# -- stream -------------------------------------------------------------------------------------------------------


def test_lines_of_both_streams_come_as_they_are_written(machine: Machine) -> None:
    machine.add("k3d", "echo one; echo two >&2; echo token=abc; printf three")
    lines: list[str] = []

    stream(["k3d"], lines.append)

    assert lines == ["one", "two", "token=***", "three"]


def test_lines_come_before_the_tool_ends(machine: Machine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    machine.add("k3d", f"echo first; while [ ! -e {go} ]; do /bin/sleep 0.01; done; echo last")
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        go.touch()

    stream(["k3d"], on_line)

    assert lines == ["first", "last"]


def test_the_end_of_the_output_is_carried_by_the_failure(machine: Machine) -> None:
    machine.add("k3d", "cat; echo why; exit 4")

    with pytest.raises(CommandFailedError) as caught:
        stream(["k3d"], lambda _: None, stdin="config\n", next_step="just doctor")

    assert (caught.value.status, caught.value.output, caught.value.next_step) == (4, "config\nwhy", "just doctor")


def test_a_tool_that_ends_before_it_has_read_its_input_says_why(machine: Machine) -> None:
    machine.add("k3d", "exec <&-; echo 'unknown flag'; exit 1")

    with pytest.raises(CommandFailedError, match="exit status 1") as caught:
        stream(["k3d"], lambda _: None, stdin="x" * 1_000_000)

    assert caught.value.output == "unknown flag"


def test_a_descriptor_is_handed_on(machine: Machine, tmp_path: Path) -> None:
    machine.add("k3d", "echo inherited >/dev/fd/$1")
    with (tmp_path / "file").open("w") as file:
        stream(["k3d", str(file.fileno())], lambda _: None, pass_fds=[file.fileno()])

    assert (tmp_path / "file").read_text(encoding="utf-8") == "inherited\n"


def test_a_tool_works_before_its_input_is_known(machine: Machine, tmp_path: Path) -> None:
    machine.add("k3d", f"touch {tmp_path}/works; echo warm; cat")
    lines: list[str] = []

    with started(["k3d"]) as tool:
        wait_for(tmp_path / "works")
        tool.finish("input\n", lines.append)

    assert lines == ["warm", "input"]


@pytest.mark.parametrize("heeds", ["exit 0", ""], ids=["heeds-it", "ignores-it"])
def test_a_tool_that_never_got_its_input_is_ended(heeds: str, machine: Machine, tmp_path: Path) -> None:
    machine.add("k3d", f"trap '{heeds}' INT; : >{tmp_path}/got; touch {tmp_path}/waits; cat >>{tmp_path}/got; :")

    with started(["k3d"]):
        wait_for(tmp_path / "waits")

    assert (tmp_path / "got").read_bytes() == b""


def test_a_tool_that_will_not_end_is_killed(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_END_SECONDS", 0.1)
    machine.add("k3d", f"trap '' INT; touch {tmp_path}/waits; exec /bin/sleep 60")
    begin = time.monotonic()

    with started(["k3d"]):
        wait_for(tmp_path / "waits")

    assert time.monotonic() - begin < 30


def test_ctrl_c_waits_for_the_tool_to_end(machine: Machine, tmp_path: Path) -> None:
    machine.add("k3d", f"trap 'touch {tmp_path}/tidied; exit 0' INT; echo ready; while :; do /bin/sleep 0.02; done")
    program = "from envkit.process import stream; stream(['k3d'], lambda line: print(line, flush=True))"
    template = Path(tool_environment.__code__.co_filename).parent.parent
    started = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(template)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with started:
        assert started.stdout
        assert started.stdout.readline() == "ready\n"
        watchdog = threading.Timer(10, started.kill)
        watchdog.start()
        os.killpg(started.pid, signal.SIGINT)
        _, errors = started.communicate()
        watchdog.cancel()

    assert "KeyboardInterrupt" in errors
    assert (tmp_path / "tidied").exists()
