"""Installations that were cut off or removed by hand: what is put right, and what is only told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from arc.conftest import Settings
from arc.test_state import CONTROLLER, whole

from envkit.arc import install as arc_install
from envkit.arc.kube import DEFINITIONS, Resource, Resources
from envkit.arc.leftovers import Memory, Release, false_memory, left_definitions
from envkit.config import read_environment
from envkit.errors import CommandFailedError, UserError
from envkit.existing.ownership import Claims, has_own

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
OWNER = "shop-dev"
OURS, THEIRS = {"envkit.cluster": OWNER}, {"envkit.cluster": "others"}
RUNNERS = Release("arc-runners", "shop-runners", is_there=True)
CONTROLLER_RELEASE = Release("arc-systems", "arc", is_there=True)


def begun(release: str, seconds: float = 0, revision: int = 1, status: str = "pending-upgrade") -> Resource:
    """What Helm remembers of a release that it began with so many seconds ago, as Kubernetes lists it."""
    time = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = f"sh.helm.release.v1.{release}.v{revision}"
    return {"metadata": {"name": name, "labels": {"name": release, "status": status}, "creationTimestamp": time}}


@dataclass
class FakeKube:
    """A cluster: what Helm has begun, by namespace, which definitions are there, and which resources of theirs."""

    begun: dict[str, tuple[Resource, ...]] = field(default_factory=dict)
    definitions_: tuple[str, ...] = ()
    resources_: str = ""
    refuses: bool = False
    kubeconfig: Path = Path("/kubeconfig")
    context: str = "team"
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def release_secrets(self, namespace: str) -> tuple[Resource, ...]:
        self.asked.append(("releases", namespace))
        if self.refuses:
            raise CommandFailedError("kubectl failed", status=1, output="forbidden")
        return self.begun.get(namespace, ())

    def definitions(self) -> list[str]:
        self.asked.append(("definitions",))
        return list(self.definitions_)

    def run(self, *arguments: str, **_: Any) -> str:
        self.asked.append(arguments)
        return self.resources_


def remembered(kube: FakeKube, *releases: Release, alone: bool = True) -> Memory:
    return false_memory(kube, releases, alone=alone, now=NOW)  # type: ignore[arg-type]


def taken_back(kube: FakeKube, *releases: Release, alone: bool = True) -> list[str]:
    found = remembered(kube, *releases, alone=alone).secrets
    assert all(item["kind"] == "Secret" for item in found)
    return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in found]


def test_what_helm_has_begun_is_taken_back_at_once_where_nobody_else_can_be_at_it() -> None:
    kube = FakeKube(
        {"arc-runners": (begun("shop-runners", revision=3), begun("theirs")), "arc-systems": (begun("arc", 1),)}
    )
    assert taken_back(kube, CONTROLLER_RELEASE, RUNNERS) == [
        "arc-systems/sh.helm.release.v1.arc.v1",
        "arc-runners/sh.helm.release.v1.shop-runners.v3",
    ]
    gone = Release("arc-runners", "shop-runners", is_there=False)
    for runners in (RUNNERS, gone):  # of a first installation nothing may be there yet
        (note,) = remembered(kube, CONTROLLER_RELEASE, runners).notes
        assert note == "Helm was cut off (arc, shop-runners): what it remembers of that is taken back."
    assert taken_back(FakeKube(), CONTROLLER_RELEASE, RUNNERS) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_removal_that_was_cut_off_is_forgotten_with_all_revisions_because_none_would_count_again(
    is_there: bool,
) -> None:
    known = (begun("shop-runners", status="superseded"), begun("shop-runners", revision=2, status="uninstalling"))
    release = Release("arc-runners", "shop-runners", is_there=is_there)
    assert len(taken_back(FakeKube({"arc-runners": known}), release)) == 2


def test_removal_is_as_old_as_the_last_change_of_its_revision() -> None:
    removal = begun("shop-runners", 9000, status="uninstalling")
    removal["metadata"]["labels"]["modifiedAt"] = str(int(NOW.timestamp()) - 60)
    with pytest.raises(UserError, match="shop-runners in arc-runners 60 s ago"):
        taken_back(FakeKube({"arc-runners": (removal,)}), RUNNERS, alone=False)


def test_what_somebody_may_be_at_is_left_until_it_is_old() -> None:
    young = FakeKube({"arc-runners": (begun("shop-runners", 60),)})
    with pytest.raises(UserError, match="shop-runners in arc-runners 60 s ago") as error:
        taken_back(young, RUNNERS, alone=False)
    assert "in 240 s" in error.value.next_step
    assert "delete-arc" in error.value.next_step
    old = FakeKube({"arc-runners": (begun("shop-runners", 301),)})
    assert len(taken_back(old, RUNNERS, alone=False)) == 1


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback"])
def test_what_is_not_ours_is_refused_however_old(status: str) -> None:
    kube = FakeKube({"arc-systems": (begun("arc", 9000, status=status),)})
    with pytest.raises(UserError, match="arc in arc-systems, and has not ended") as error:
        taken_back(kube, Release("arc-systems", "arc", is_there=True, is_ours=False), alone=False)
    assert "helm --kube-context 'team' uninstall arc --namespace arc-systems" in error.value.next_step


@pytest.mark.parametrize("alone", [True, False])
def test_what_somebody_has_removed_is_forgotten_with_all_its_revisions(alone: bool) -> None:
    kube = FakeKube(
        {
            "arc-runners": (
                begun("shop-runners", revision=1, status="superseded"),
                begun("shop-runners", revision=2, status="deployed"),
                begun("theirs", status="deployed"),
            )
        }
    )
    assert remembered(kube, RUNNERS, alone=alone) == Memory()
    gone = Release("arc-runners", "shop-runners", is_there=False)
    assert taken_back(kube, gone, alone=alone) == [
        f"arc-runners/sh.helm.release.v1.shop-runners.v{revision}" for revision in (1, 2)
    ]
    (note,) = remembered(kube, gone, alone=alone).notes
    assert "Somebody has removed what Helm has installed (shop-runners)" in note
    assert remembered(kube, Release("arc-runners", "shop-runners", is_there=False, is_ours=False)) == Memory()


def test_cluster_that_does_not_show_secrets_is_left_to_helm() -> None:
    assert taken_back(FakeKube(refuses=True), RUNNERS) == []


@pytest.mark.parametrize(
    ("namespaces", "resources", "is_ours"),
    [
        ({"arc-systems": OURS}, Resources(), True),
        ({"arc-systems": THEIRS}, Resources(), False),
        ({"arc-systems": {}}, Resources(), False),
        ({"arc-runners": OURS}, Resources(), False),
        ({"arc-systems": {}}, "own-controller", True),
    ],
    ids=["own-namespace", "theirs", "nobodys", "other-namespace", "own-controller"],
)
def test_release_is_ours_by_its_namespace_or_by_what_is_there_of_it(
    namespaces: dict[str, dict[str, str]], resources: Resources | str, is_ours: bool
) -> None:
    if isinstance(resources, str):
        metadata = {**CONTROLLER["metadata"], "labels": {**CONTROLLER["metadata"]["labels"], **OURS}}
        resources = Resources(deployments=({**CONTROLLER, "metadata": metadata},))
    claims = Claims(OWNER, namespaces, {}, {})
    assert has_own(claims, resources, "arc-systems", "arc") is is_ours


def claims_of(labels: dict[str, str]) -> Claims:
    return Claims(OWNER, {}, dict.fromkeys(DEFINITIONS, labels), {})


def test_definitions_without_a_controller_are_replaced_where_nothing_is_of_their_kinds(settings: Settings) -> None:
    kube = FakeKube(definitions_=DEFINITIONS)
    for claims in (None, claims_of(OURS)):
        found = left_definitions(kube, settings(), Resources(), claims)  # type: ignore[arg-type]
        assert [item["metadata"]["name"] for item in found.remove] == list(DEFINITIONS)
        assert found.note == ""
    assert ("get", ",".join(DEFINITIONS), "--all-namespaces", "--output=name") in kube.asked


def test_definitions_in_use_stay_and_that_is_told(settings: Settings) -> None:
    kube = FakeKube(definitions_=DEFINITIONS, resources_="autoscalingrunnerset.actions.github.com/shop-runners\n")
    found = left_definitions(kube, settings(), Resources(), None)  # type: ignore[arg-type]
    assert found.remove == ()
    assert "resources of their kinds are there" in found.note
    assert "delete-arc && just install-arc" in found.note.replace("bin/just", "just")


@pytest.mark.parametrize(
    "claims",
    [claims_of({}), claims_of(THEIRS), Claims(OWNER, {}, {**claims_of(OURS).definitions, DEFINITIONS[1]: THEIRS}, {})],
    ids=["nobodys", "others", "one-of-others"],
)
def test_definitions_of_others_stay_and_the_command_is_told(claims: Claims, settings: Settings) -> None:
    found = left_definitions(FakeKube(), settings(), Resources(), claims)  # type: ignore[arg-type]
    version = settings().version
    assert found.remove == ()
    assert f"because this environment did not bring them, and may be older than ARC {version}" in found.note
    assert (
        "helm show crds oci://ghcr.io/actions/actions-runner-controller-charts/gha-runner-scale-set-controller"
        f" --version {version} | kubectl --context 'team' apply --server-side --force-conflicts -f -\n" in found.note
    )


def test_where_a_controller_is_or_no_definition_nothing_is_said_and_little_asked(settings: Settings) -> None:
    kube = FakeKube(definitions_=DEFINITIONS)
    for claims in (None, claims_of({})):
        assert left_definitions(kube, settings(), whole(), claims).note == ""  # type: ignore[arg-type]
    assert kube.asked == []
    empty = FakeKube()
    assert left_definitions(empty, settings(), Resources(), None).remove == ()  # type: ignore[arg-type]
    assert empty.asked == [("definitions",)]


def plan(
    kube: FakeKube, resources: Resources, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setattr(arc_install, "find_problems", lambda *_, **__: ([], resources))
    options = {"verify": False, "adopt": False, "is_ours": True}
    return arc_install._plan_install(read_environment(root), settings(), kube, **options)[0]  # type: ignore[arg-type]


def test_plan_of_an_ordinary_installation_has_nothing_of_this(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(FakeKube(definitions_=DEFINITIONS), whole(), root, settings, monkeypatch)
    assert (made["forget"], made["notes"], made["remove"]) == ([], [], False)


def test_plan_after_a_helm_that_was_killed(root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube(
        {"arc-systems": (begun("arc"),), "arc-runners": (begun(settings().name),)}, definitions_=DEFINITIONS
    )
    made = plan(kube, Resources(), root, settings, monkeypatch)
    assert [item["metadata"]["namespace"] for item in made["forget"]] == ["arc-systems", "arc-runners"]
    assert f"(arc, {settings().name})" in made["notes"][0]
    assert made["remove"]
    assert made["delete"] == {
        "releases": [],
        "controller": False,
        "definitions": [
            {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": each}}
            for each in DEFINITIONS
        ],
    }
    assert not made["runners"]["present"]


def test_plan_leaves_to_helm_what_is_uninstalled_before(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arc_install, "plan_removal", lambda *_: {"delete": {"controller": True}})
    metadata = {**CONTROLLER["metadata"], "labels": {"app.kubernetes.io/version": "0.13.1"}}
    older = whole(deployments=({**CONTROLLER, "metadata": metadata},))
    kube = FakeKube({"arc-systems": (begun("arc"),), "arc-runners": (begun(settings().name),)})
    assert plan(kube, older, root, settings, monkeypatch)["forget"] == []
