"""What doctor and status say of a cluster that is there already, and what a removal takes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from arc.test_state import scale_set
from existing.conftest import CONTEXT
from existing.test_ownership import OURS, controller, set_of

from envkit import cli, doctor, mirrors
from envkit.arc import install as arc_install
from envkit.arc.install import plan_removal
from envkit.arc.kube import SCALE_SET_NAME, Resource, Resources, labels
from envkit.errors import CommandFailedError, UserError
from envkit.existing import checks, ownership, status
from envkit.existing.checks import check_cluster
from envkit.existing.cluster import ExistingCluster
from envkit.existing.kubeconfig import Written
from envkit.existing.settings import read_existing_cluster
from envkit.preflight import Check, Verdict

REACHED = Written((), "https://team.example.com", ())


@dataclass
class FakeKube:
    """A cluster: its version (empty where it does not answer), the rights of its user, and what is in it."""

    version: str = "v1.31.2-eks-7f9249a"
    allowed: bool = True
    deployments: tuple[Resource, ...] = ()
    releases_: tuple[str, ...] = ()
    protected_: tuple[Resource, ...] = ()
    nodes: tuple[Resource, ...] = ()
    kubeconfig: Path = Path("/nowhere")
    context: str = CONTEXT
    controllers: str = "arc-systems"
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, *arguments: str, stdin: str = "", **_: Any) -> str:
        self.asked.append(arguments)
        if not self.version:
            raise CommandFailedError("kubectl failed", status=1, output="first\ndial tcp: no such host")
        if arguments[0] == "create":
            return "\n".join(json.dumps({"status": {"allowed": self.allowed}}) for _ in json.loads(stdin)["items"])
        return ""

    def server_version(self) -> str:
        self.run("version")
        return self.version

    def get(self, kinds: str, *_: str) -> tuple[Resource, ...]:
        self.run("get", kinds)
        return self.nodes if kinds == "nodes" else self.deployments

    def releases(self, _: str) -> list[str]:
        return list(self.releases_)

    def protected(self, _: str, names: Sequence[str] | None = None) -> list[Resource]:
        return [item for item in self.protected_ if names is None or labels(item)[SCALE_SET_NAME] in names]


Found = Callable[[FakeKube], dict[str, tuple[Verdict, str]]]


@pytest.fixture
def found(cluster: ExistingCluster, monkeypatch: pytest.MonkeyPatch) -> Found:
    """What is found of a cluster, by subject."""

    def run(kube: FakeKube) -> dict[str, tuple[Verdict, str]]:
        monkeypatch.setattr(checks, "write_kubeconfigs", lambda _: REACHED)
        monkeypatch.setattr(checks, "kube_of", lambda _: kube)
        monkeypatch.setattr(checks, "has_runners", lambda: True)
        return {check.subject: (check.verdict, f"{check.detail} {check.fix}") for check in check_cluster(cluster)}

    return run


def test_all_is_well(found: Found) -> None:
    result = found(FakeKube())
    assert {verdict for verdict, _ in result.values()} == {Verdict.OK} or result["Images"][0] is Verdict.WARN
    assert result["Context"][1].startswith(f"{CONTEXT}  https://team.example.com")
    assert result["Kubernetes"][1].startswith("1.31.2")


@pytest.mark.parametrize(
    ("kube", "subject", "told"),
    [
        (FakeKube(version=""), "Cluster", "no such host"),
        (FakeKube(version="v1.28.9"), "Kubernetes", "1.28.9 is too old"),
        (FakeKube(allowed=False), "Permissions", "create secrets in arc-runners"),
    ],
    ids=["unreachable", "too-old", "no-rights"],
)
def test_defect_is_named_with_what_helps(kube: FakeKube, subject: str, told: str, found: Found) -> None:
    verdict, text = found(kube)[subject]
    assert verdict is Verdict.FAIL
    assert told in text


def test_version_that_cannot_be_compared_is_only_told(found: Found) -> None:
    verdict, text = found(FakeKube(version="next"))["Kubernetes"]
    assert (verdict, "next" in text) == (Verdict.WARN, True)


@pytest.mark.parametrize(
    ("tools", "verdict", "told"),
    [
        ({"buildah", "docker"}, Verdict.OK, "buildah"),
        ({"docker"}, Verdict.OK, "docker"),
        (set(), Verdict.WARN, "just install"),
    ],
)
def test_what_builds_images_is_told(
    tools: set[str], verdict: Verdict, told: str, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "find_tool", lambda name: name if name in tools else None)
    assert (found(FakeKube())["Images"][0], told in found(FakeKube())["Images"][1]) == (verdict, True)


def test_cluster_without_runners_needs_neither_their_version_nor_their_rights(
    cluster: ExistingCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = replace(REACHED, hints=("They do not reach it.",))
    monkeypatch.setattr(checks, "write_kubeconfigs", lambda _: written)
    monkeypatch.setattr(checks, "kube_of", lambda _: FakeKube(version="v1.28.9", allowed=False))
    monkeypatch.setattr(checks, "has_runners", lambda: False)
    result = {check.subject: check for check in check_cluster(cluster)}
    assert result["Kubernetes"].verdict is Verdict.OK
    assert "Permissions" not in result
    assert (result["Dev container"].verdict, result["Dev container"].detail) == (Verdict.WARN, written.hints[0])


def test_controller_of_others_is_told_beforehand(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube(deployments=(controller({}, "ci"),))
    monkeypatch.setattr(ownership, "has_own_scale_set", lambda *_: False)
    monkeypatch.setattr(ownership, "kube_with_controller", lambda *_: (kube, controller({}, "ci")))
    monkeypatch.setattr(FakeKube, "resources", lambda _: Resources(), raising=False)
    assert "--adopt" in found(kube)["Controller"][1]


def test_unknown_context_ends_the_checks(cluster: ExistingCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> Written:
        raise UserError("There is no context.", "It has: a.", "kubectl config get-contexts")

    for module in (checks, status):
        monkeypatch.setattr(module, "write_kubeconfigs", refuse)
    (check,) = check_cluster(cluster)
    assert check.verdict is Verdict.FAIL
    assert status.gather(cluster).state == "unknown"


def test_status_says_why_the_cluster_is_not_reached(cluster: ExistingCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "write_kubeconfigs", lambda _: REACHED)
    monkeypatch.setattr(status, "kube_of", lambda _: FakeKube(version=""))
    result = status.gather(cluster)
    assert (result.state, result.reason) == ("unreachable", "dial tcp: no such host")
    assert CONTEXT in result.next_step


@pytest.mark.usefixtures("cluster")  # for its home folder
def test_company_network_is_checked_and_shown_and_stops_no_recipe(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / ".env").write_text("HTTPS_PROXY=http://jo:secret@localhost:3128\n", encoding="utf-8")
    (root / ".env").chmod(0o600)
    behind_proxy = read_existing_cluster(root)
    monkeypatch.setattr(doctor, "tool_statuses", tuple)
    monkeypatch.setattr(doctor, "load_cluster", lambda: behind_proxy)
    monkeypatch.setattr(doctor, "has_runners", lambda: True)
    (proxy,) = (check for check in doctor.diagnose() if check.subject == "Proxy")
    assert proxy.verdict is Verdict.WARN
    assert "the cluster's nodes" in proxy.fix
    status.print_table(status.gather(behind_proxy))
    assert "Network  proxy http://***@localhost:3128" in capsys.readouterr().out
    status.print_json(status.gather(behind_proxy))
    assert json.loads(capsys.readouterr().out)["corporate_network"]["proxy_has_credentials"]
    monkeypatch.setattr(doctor, "has_runners", lambda: False)
    assert "Proxy" not in {check.subject for check in doctor.diagnose()}


@pytest.mark.parametrize("arguments", [["install-arc"], ["delete-arc"], ["arc-status"], ["arc-logs"]], ids=" ".join)
def test_without_runners_nobody_has_to_reach_or_confirm_the_cluster(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever names another context, or has none, is told what the recipe is about."""
    monkeypatch.setattr("envkit.arc.settings.has_runners", lambda _: False)
    monkeypatch.setattr("envkit.arc.commands.load_cluster", lambda: pytest.fail("the cluster was asked for"))
    assert cli.main(arguments) == 1
    told = capsys.readouterr().err
    assert "This environment has no runners." in told
    assert "just update -d arc=true" in told


def test_doctor_names_no_recipe_about_runners_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "is_existing", lambda: True)
    for runners in (True, False):
        monkeypatch.setattr(doctor, "has_runners", lambda value=runners: value)
        doctor.print_checks([Check("Cluster", Verdict.FAIL, "it does not answer")])
        assert ("install-arc" in capsys.readouterr().out) == runners


def test_mirrors_are_asked_whoever_makes_the_cluster(
    cluster: ExistingCluster, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (root / "environment.toml").open("a", encoding="utf-8") as file:
        file.write('[mirrors]\ndownloads = "http://127.0.0.1:1"\n')
    monkeypatch.setattr(mirrors, "ROOT", root)
    monkeypatch.delenv(mirrors.DOWNLOAD_VARIABLE, raising=False)
    monkeypatch.setattr(doctor, "tool_statuses", tuple)
    monkeypatch.setattr(doctor, "load_cluster", lambda: cluster)
    assert [check.verdict for check in doctor.diagnose() if check.subject == "Mirror"] == ["warn"]


def test_removal_never_takes_releases_and_protection_of_others(
    cluster: ExistingCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arc_install, "read_arc_settings", lambda _: type("Settings", (), {"name": "shop-runners"}))
    theirs, ours = (
        {"kind": "Role", "metadata": {"name": "shop-runners2-role", "labels": {SCALE_SET_NAME: name}}}
        for name in ("shop-runners2", "shop-runners")
    )
    kube = FakeKube(releases_=("shop-runners", "theirs", "grafana"), protected_=(theirs, ours))
    resources = Resources(deployments=(controller(OURS),), scale_sets=(set_of(OURS), scale_set("theirs", owned=False)))
    delete = plan_removal(cluster, resources, kube)["delete"]  # type: ignore[arg-type]
    assert delete["releases"] == ["shop-runners"]
    assert delete["protected"] == [ours]
    assert not delete["controller"]
    left = plan_removal(cluster, Resources(), kube)["delete"]  # type: ignore[arg-type]
    assert left["releases"] == ["shop-runners"], "a release that the API refused has no scale set"
