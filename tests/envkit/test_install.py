from __future__ import annotations

import io

import pytest
from fake_tools import REGISTRY, RIGHT, Machine

from envkit import consent, install
from envkit.errors import UserError


def test_nothing_is_done_where_everything_is_right(machine: Machine) -> None:
    machine.add_right_tools()

    shown = machine.install()

    assert "Nothing to install: k3d 5.9.0, kubectl 1.36.4, helm 4.3.0" in shown
    assert machine.calls == []
    assert not machine.tools_bin.exists()


def test_a_missing_tool_comes_through_mise_and_is_linked(machine: Machine) -> None:
    machine.add_right_tools(but="k3d")
    machine.add_mise({"k3d": RIGHT["k3d"]})

    shown = machine.install()

    assert "k3d 5.9.0: mise (missing)" in shown
    assert 'eval "$(mise activate zsh)"' in shown
    assert (machine.tools_bin / "k3d").resolve() == machine.folder / "mise" / "k3d" / "k3d"


def test_a_second_run_does_nothing(machine: Machine) -> None:
    machine.add_right_tools(but="k3d buildah")
    machine.add_mise({"k3d": RIGHT["k3d"]})
    machine.add_package_manager("apt-get", {"buildah": RIGHT["buildah"]})
    machine.add_sudo()
    machine.install()
    machine.forget_calls()

    assert "Nothing to install" in machine.install()
    assert machine.calls == []


def test_a_tool_of_the_wrong_version_is_replaced_through_mise(machine: Machine) -> None:
    machine.add_right_tools()
    machine.add("helm", "echo v3.20.0")
    machine.add_mise({"helm": RIGHT["helm"]})

    shown = machine.install()

    assert f"helm 4.3.0: mise ({machine.bin}/helm is 3.20.0; >=4.0,<5 is needed" in shown
    assert [link.name for link in machine.tools_bin.iterdir()] == ["helm"]


def test_a_link_is_renewed_when_the_pin_has_moved(machine: Machine) -> None:
    machine.add_right_tools(but="k3d")
    old = machine.add("k3d", "echo 'k3d version v5.9.9'", folder=machine.folder / "old")
    machine.tools_bin.mkdir(parents=True)
    (machine.tools_bin / "k3d").symlink_to(old)
    machine.add_mise({"k3d": RIGHT["k3d"]})

    shown = machine.install()

    assert "the pin has moved" in shown
    assert (machine.tools_bin / "k3d").resolve() != old


def test_a_link_that_leads_nowhere_is_removed(machine: Machine) -> None:
    machine.add_right_tools()
    machine.tools_bin.mkdir(parents=True)
    (machine.tools_bin / "k3d").symlink_to(machine.folder / "gone")

    assert "Nothing to install" in machine.install()
    assert list(machine.tools_bin.iterdir()) == []


def test_an_outdated_link_gives_way_to_a_right_tool_on_path(machine: Machine) -> None:
    machine.add_right_tools()
    old = machine.add("k3d", "echo 'k3d version v5.8.0'", folder=machine.folder / "old")
    machine.tools_bin.mkdir(parents=True)
    (machine.tools_bin / "k3d").symlink_to(old)

    machine.install()

    assert list(machine.tools_bin.iterdir()) == []
    assert machine.calls == []


def test_node_brings_npm_and_npx_with_it(machine: Machine) -> None:
    machine.add_right_tools(but="node")
    machine.add_mise({"node": RIGHT["node"]})
    for name in ("npm", "npx"):
        machine.add(name, "", folder=machine.folder / "mise" / "node")

    machine.install()

    assert sorted(link.name for link in machine.tools_bin.iterdir()) == ["node", "npm", "npx"]


def test_apt_is_shown_with_sudo_before_it_runs(machine: Machine) -> None:
    machine.add_right_tools(but="buildah")
    machine.add_package_manager("apt-get", {"buildah": RIGHT["buildah"]})
    machine.add_sudo()

    shown = machine.install()

    plan = "To do:\n  buildah: sudo apt-get install --yes buildah\n"
    assert plan in shown
    assert shown.index(plan) < shown.index("✓ buildah")
    assert "sudo -n apt-get install --yes buildah" in machine.calls


def test_root_needs_no_sudo(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_is_root", lambda: True)
    machine.add_right_tools(but="buildah")
    machine.add_package_manager("apt-get", {"buildah": RIGHT["buildah"]})

    assert "  buildah: apt-get install --yes buildah\n" in machine.install()


def test_apts_lists_are_fetched_where_it_does_not_know_the_package(machine: Machine) -> None:
    machine.add_right_tools(but="buildah")
    machine.add_package_manager("apt-get", {"buildah": RIGHT["buildah"]})
    machine.add("apt-cache", "")
    machine.add_sudo()

    shown = machine.install()

    assert shown.index("sudo apt-get update") < shown.index("sudo apt-get install --yes buildah")
    assert [c for c in machine.calls if c.startswith("apt-get")] == [
        "apt-get update",
        "apt-get install --yes buildah",
    ]


def test_dnf_is_used_where_there_is_no_apt(machine: Machine) -> None:
    machine.add_right_tools(but="buildah")
    machine.add_package_manager("dnf", {"buildah": RIGHT["buildah"]})
    machine.add_sudo()

    assert "  buildah: sudo dnf install --yes buildah\n" in machine.install()
    assert "dnf install --yes buildah" in machine.calls


def test_another_distribution_is_told_what_to_install(machine: Machine) -> None:
    machine.add_right_tools(but="buildah")

    with pytest.raises(UserError, match="neither apt nor dnf") as error:
        machine.install()

    assert "Install the package buildah" in error.value.next_step


def test_macos_is_told_that_buildah_does_not_exist_there(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    machine.add_right_tools(but="buildah")
    machine.add("brew", "")

    assert "buildah does not exist for macOS" in machine.install()
    assert machine.calls == []


def test_a_sudo_that_refuses_names_the_command_and_the_rest_goes_on(machine: Machine) -> None:
    machine.add_right_tools(but="buildah k3d")
    machine.add_mise({"k3d": RIGHT["k3d"]})
    machine.add_package_manager("apt-get", {"buildah": RIGHT["buildah"]})
    machine.add_sudo(refuses=True)

    with pytest.raises(UserError, match="sudo refused") as error:
        machine.install()

    assert error.value.next_step == "sudo apt-get install --yes buildah"
    assert (machine.tools_bin / "k3d").exists()


def test_a_machine_without_sudo_names_the_command_for_root(machine: Machine) -> None:
    machine.add_right_tools(but="buildah")
    machine.add_package_manager("apt-get", {"buildah": RIGHT["buildah"]})

    with pytest.raises(UserError, match="there is no sudo") as error:
        machine.install()

    assert error.value.next_step == "As root: apt-get install --yes buildah"


def test_all_failures_are_listed_at_the_end(machine: Machine) -> None:
    machine.add_right_tools(but="buildah k3d helm node")
    machine.add_mise({"k3d": RIGHT["k3d"]})
    machine.add_package_manager("apt-get", {})
    machine.add_sudo()

    with pytest.raises(UserError, match="3 things could not be installed") as error:
        machine.install()

    assert "Failed to install helm: 404" in error.value.why
    assert "Failed to install node: 404" in error.value.why
    assert "Unable to locate package buildah" in error.value.why
    assert "sudo apt-get install --yes buildah" in error.value.next_step
    assert "just install" in error.value.next_step
    assert (machine.tools_bin / "k3d").exists()


def test_a_folder_that_cannot_be_written_is_no_traceback(machine: Machine) -> None:
    machine.add_right_tools(but="k3d")
    machine.add_mise({"k3d": RIGHT["k3d"]})
    machine.tools_bin.parent.mkdir(parents=True)
    machine.tools_bin.touch()

    with pytest.raises(UserError, match=r"k3d 5\.9\.0 could not be installed"):
        machine.install()


def test_a_package_that_is_too_old_is_not_called_a_success(machine: Machine) -> None:
    machine.add_right_tools(but="buildah")
    machine.add_package_manager("apt-get", {"buildah": "echo buildah version 1.19.6"})
    machine.add_sudo()

    with pytest.raises(UserError, match="buildah is still not right") as error:
        machine.install()

    assert "1.19.6; >=1.23 is needed" in error.value.what


def test_for_create_only_its_tools_are_looked_at(machine: Machine) -> None:
    machine.resolving.clear()
    machine.add("k3d", RIGHT["k3d"])
    machine.add_mise({"kubectl": RIGHT["kubectl"]})

    shown = machine.install(only="create")

    assert "kubectl 1.36.4: mise" in shown
    for name in ("helm", "node", "buildah", "libnss-myhostname", "does not resolve"):
        assert name not in shown


def test_python_comes_by_uv_from_mise_where_there_is_none(machine: Machine) -> None:
    machine.add_right_tools(but="python3")
    store = machine.folder / "pythons"
    uv = f"""
[ "$2" = install ] && {{ mkdir -p {store}; cp {machine.bin}/just {store}/python3.13
  echo '#!/bin/sh' >{store}/python3.13; echo 'echo Python 3.13.5' >>{store}/python3.13; exit; }}
case "$*" in *--managed-python*) echo {store}/python3.13;; *) exit 2;; esac"""
    machine.add_mise({"uv": uv})
    machine.add("uvx", "", folder=machine.folder / "mise" / "uv")

    shown = machine.install()

    assert "uv 0.13.0: mise (to fetch Python with)" in shown
    assert "Python 3.13 for Ansible: uv (missing)" in shown
    assert "uv python install --no-bin 3.13" in machine.calls
    assert (machine.tools_bin / "python3.13").resolve() == store / "python3.13"


def test_a_name_that_does_not_resolve_is_put_right_by_apt(machine: Machine) -> None:
    machine.resolving.clear()
    machine.add_right_tools()
    machine.add_package_manager("apt-get", {"libnss-myhostname": "true"})
    machine.add_sudo()

    with pytest.raises(UserError, match=f"{REGISTRY} still does not resolve") as error:
        machine.install()

    assert "libnss-myhostname: sudo apt-get install --yes libnss-myhostname" in machine.shown
    assert "/etc/hosts" in error.value.next_step


def test_without_apt_the_line_for_the_hosts_file_is_shown(machine: Machine) -> None:
    machine.resolving.clear()
    machine.add_right_tools()
    machine.add_package_manager("dnf", {})

    shown = machine.install()

    assert f"echo '127.0.0.1 {REGISTRY}' | sudo tee -a /etc/hosts" in shown
    assert machine.calls == []


@pytest.mark.parametrize("answer", ["n\n", "no\n", "what?\n", ""], ids=["n", "no", "what", "Ctrl-D"])
def test_a_person_can_say_no(machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    machine.add_right_tools(but="k3d")
    machine.add_mise({"k3d": RIGHT["k3d"]})
    _type(monkeypatch, answer)

    with pytest.raises(UserError, match="Nothing was installed"):
        machine.install()

    assert machine.calls == []


@pytest.mark.parametrize("answer", ["\n", "y\n", "Yes\n"], ids=["Enter", "y", "Yes"])
def test_a_person_can_say_yes(machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    machine.add_right_tools(but="buildah")
    machine.add_package_manager("apt-get", {"buildah": RIGHT["buildah"]})
    machine.add_sudo()
    _type(monkeypatch, answer)

    machine.install()

    sudo = [call for call in machine.calls if call.startswith("sudo")]
    assert sudo == ["sudo -v", "sudo apt-get install --yes buildah"]


def test_nobody_is_asked_who_said_yes_beforehand(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.add_right_tools(but="k3d")
    machine.add_mise({"k3d": RIGHT["k3d"]})
    _type(monkeypatch, "n\n")

    machine.install(assume_yes=True)

    assert (machine.tools_bin / "k3d").exists()


def _type(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Puts a person at a terminal who types this."""
    monkeypatch.setattr(consent, "can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
