"""Whose is what, and what therefore stands in the way, is made, marked and removed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from arc.test_state import CONTROLLER, scale_set

from envkit.arc.corporate import authorities_manifest, secret_manifests
from envkit.arc.credentials import token_manifests
from envkit.arc.kube import Kube, Resources
from envkit.arc.settings import ArcSettings, read_arc_settings
from envkit.corporate_network import CorporateNetwork, Proxies
from envkit.existing import ownership
from envkit.existing.cluster import ExistingCluster
from envkit.existing.ownership import Claims
from envkit.existing.permissions import CONTROLLER as CONTROLLER_RIGHTS
from envkit.existing.permissions import RUNNERS, missing_rights

OWNER = "shop-dev"
OURS = {"envkit.cluster": OWNER}
THEIRS = {"envkit.cluster": "others"}
KUBE = Kube(Path("/nowhere"), "team")


def controller(
    labels: dict[str, str], namespace: str = "arc-systems", arguments: tuple[str, ...] = ()
) -> dict[str, Any]:
    spec = {"serviceAccountName": "their-account", "containers": [{"name": "manager", "args": list(arguments)}]}
    metadata = {**CONTROLLER["metadata"], "namespace": namespace}
    metadata["labels"] = {**metadata["labels"], **labels}
    return {**CONTROLLER, "metadata": metadata, "spec": {"template": {"spec": spec}}}


def set_of(labels: dict[str, str], name: str = "shop-runners", namespace: str = "arc-runners") -> dict[str, Any]:
    found = scale_set(name, owned=False)
    metadata = {**found["metadata"], "namespace": namespace, "labels": {**found["metadata"]["labels"], **labels}}
    return {**found, "metadata": metadata}


def claims(**parts: dict[str, dict[str, str]]) -> Claims:
    return Claims(OWNER, parts.get("namespaces", {}), parts.get("definitions", {}), parts.get("objects", {}))


@pytest.fixture
def settings(cluster: ExistingCluster, root: Path) -> ArcSettings:
    return read_arc_settings(cluster, root)


def told(settings: ArcSettings, found: Claims, resources: Resources, *, adopt: bool = False) -> str:
    return "\n".join(f"{what} {fix}" for what, fix in ownership.problems(found, resources, settings, KUBE, adopt=adopt))


def test_nothing_is_in_the_way_of_the_first_and_of_the_second_installation(settings: ArcSettings) -> None:
    assert told(settings, claims(), Resources()) == ""
    ours = claims(
        namespaces={"arc-runners": OURS, "arc-systems": OURS},
        objects={"Secret arc-github": OURS},
        definitions={"a": OURS},
    )
    assert told(settings, ours, Resources(deployments=(controller(OURS),), scale_sets=(set_of(OURS),))) == ""


@pytest.mark.parametrize("labels", [{}, THEIRS], ids=["by-hand", "by-another-environment"])
def test_controller_of_others_is_refused_also_in_the_usual_namespace(
    labels: dict[str, str], settings: ArcSettings
) -> None:
    theirs = Resources(deployments=(controller(labels),))
    assert "--adopt" in told(settings, claims(), theirs)
    assert told(settings, claims(), theirs, adopt=True) == ""


def test_controller_that_was_adopted_needs_no_word_again(settings: ArcSettings) -> None:
    resources = Resources(deployments=(controller({}, "ci"),), scale_sets=(set_of(OURS),))
    assert told(settings, claims(), resources) == ""


def test_controller_that_does_not_watch_our_namespace_cannot_be_used(settings: ArcSettings) -> None:
    watching = controller({}, "ci", ("--watch-single-namespace=ci",))
    assert "watches over the namespace ci alone" in told(
        settings, claims(), Resources(deployments=(watching,)), adopt=True
    )


def test_second_controller_is_never_used(settings: ArcSettings) -> None:
    both = Resources(deployments=(controller({}, "ci"), controller(OURS)))
    assert "several controllers" in told(settings, claims(), both, adopt=True)


def test_namesakes_of_another_environment_are_not_overwritten(settings: ArcSettings) -> None:
    assert "Secret arc-github" in told(settings, claims(objects={"Secret arc-github": THEIRS}), Resources())
    assert "did not install" in told(settings, claims(), Resources(scale_sets=(set_of(THEIRS),)))


def test_namespace_of_others_keeps_its_level_of_security(settings: ArcSettings) -> None:
    level = {"pod-security.kubernetes.io/enforce": "baseline"}
    assert "baseline" in told(settings, claims(namespaces={"arc-runners": level}), Resources())
    assert told(settings, claims(namespaces={"arc-runners": {}}), Resources()) == ""


@pytest.mark.parametrize(
    ("found", "where", "adopted"),
    [
        ((), "arc-systems", False),
        ((controller(OURS),), "arc-systems", False),
        ((controller(THEIRS, "ci"),), "ci", True),
        ((controller(OURS), controller(THEIRS, "ci")), "arc-systems", False),
        ((controller(THEIRS, "ci"), controller({}, "qa")), "arc-systems", False),
    ],
    ids=["none", "ours", "theirs", "both", "two-of-others"],
)
def test_controller_of_others_watches_over_our_runners_only_where_it_is_the_only_one(
    found: tuple[dict[str, Any], ...], where: str, adopted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kube, "get", lambda *_: found)
    kube, foreign = ownership.kube_with_controller(KUBE, OWNER)
    assert kube.controllers == where
    assert foreign == (found[0] if adopted else None)


def test_whatever_an_installation_makes_is_found_again(
    settings: ArcSettings, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".env").write_text("GITHUB_TOKEN=ghp_x\n", encoding="utf-8")
    (root / "github.pem").write_text("PEM", encoding="utf-8")
    login = "http://me:secret@proxy.example.com:3128"
    network = CorporateNetwork(http_proxy=login, https_proxy=login)
    made = [
        *settings.manifests,
        *token_manifests("arc-runners", root),
        *secret_manifests(Proxies(login, login), network, "arc-runners"),
        *authorities_manifest(root / "github.pem", "arc-runners", root),
    ]
    things = {f"{item['kind']} {item['metadata']['name']}" for item in made}
    assert len(things) == len(made) == 6

    def run(_: Kube, *arguments: str) -> str:
        return "".join(f"{thing} {OWNER} <none>\n" for thing in things) if "secrets,configmaps" in arguments else ""

    monkeypatch.setattr(Kube, "run", run)
    found = ownership.read_claims(KUBE, OWNER).objects
    assert found == dict.fromkeys(things, OURS)


def test_release_is_ours_where_its_scale_set_is() -> None:
    resources = Resources(scale_sets=(set_of(OURS), set_of(THEIRS, "theirs")))
    assert ownership.has_own(claims(), resources, "arc-runners", "shop-runners")
    assert not ownership.has_own(claims(), resources, "arc-runners", "theirs")
    assert not ownership.has_own(claims(), resources, "ci", "shop-runners")


def test_adopted_controller_gives_version_and_account(settings: ArcSettings) -> None:
    adopted = ownership.adopted(settings, controller({"app.kubernetes.io/version": "0.14.2"}, "ci"))
    assert adopted.version == "0.14.2"
    assert adopted.runner_values["controllerServiceAccount"] == {"namespace": "ci", "name": "their-account"}


def test_only_what_was_not_there_gets_our_label() -> None:
    names = {item["metadata"]["name"] for item in ownership.namespaces_to_make(claims(), with_controller=True)}
    assert names == {"arc-runners", "arc-systems"}
    (made,) = ownership.namespaces_to_make(claims(namespaces={"arc-systems": {}}), with_controller=True)
    assert made["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "privileged", "envkit.cluster": OWNER}
    assert ownership.namespaces_to_make(claims(namespaces={"arc-runners": THEIRS}), with_controller=False) == []
    assert len(ownership.definitions_to_mark(claims())) == 4
    assert ownership.definitions_to_mark(claims(definitions={"autoscalingrunnersets.actions.github.com": {}})) == []


def test_removal_takes_what_is_ours() -> None:
    definitions = {item["metadata"]["name"]: OURS for item in ownership.all_definitions()}
    found = claims(
        namespaces={"arc-runners": OURS, "arc-systems": {}},
        definitions=definitions,
        objects={"Secret arc-github": OURS, "ConfigMap arc-registries": THEIRS},
    )
    resources = Resources(deployments=(controller(OURS),), scale_sets=(set_of(OURS),))
    removal = ownership.removal(found, resources, ["shop-runners"])
    assert removal["controller"]
    assert len(removal["definitions"]) == 4
    assert removal["namespaces"] == ["arc-runners"]
    assert [item["metadata"]["name"] for item in removal["objects"]] == ["arc-github"]


@pytest.mark.parametrize(
    ("deployment", "scale_sets"),
    [(controller(OURS), (set_of(OURS), set_of({}, "theirs", "ci"))), (controller({}, "ci"), (set_of(OURS),))],
    ids=["others-need-it", "it-is-not-ours"],
)
def test_removal_leaves_the_controller(deployment: dict[str, Any], scale_sets: tuple[dict[str, Any], ...]) -> None:
    removal = ownership.removal(claims(), Resources(deployments=(deployment,), scale_sets=scale_sets), ["shop-runners"])
    assert not removal["controller"]
    assert removal["definitions"] == []


def selects(selectors: list[str], labels: dict[str, str]) -> bool:
    """Whether label selectors, each `KEY`, `KEY=VALUE` or `KEY in (VALUES)`, select something with these labels."""

    def one(selector: str) -> bool:
        match = re.fullmatch(r"([\w./-]+)(?:=([\w.-]+)| in \(([\w.,-]+)\))?", selector)
        assert match, selector
        key, value, values = match.groups()
        return key in labels and (not (value or values) or labels[key] in (value or values).split(","))

    return all(map(one, selectors))


def of_scale_set(name: str, namespace: str) -> dict[str, str]:
    """What the four kinds of ARC have of a scale set; its listener too, wherever the controller is."""
    return {"actions.github.com/scale-set-name": name, "actions.github.com/scale-set-namespace": namespace}


@pytest.mark.parametrize(
    ("labels", "is_freed"),
    [
        (of_scale_set("shop-runners", "arc-runners"), True),
        (of_scale_set("mine", "arc-runners"), True),
        (of_scale_set("shop-runners", "ci"), False),
        (of_scale_set("theirs", "arc-runners"), False),
        (of_scale_set("shop-runners2", "arc-runners"), False),
        ({}, False),
    ],
    ids=["ours", "ours-by-its-earlier-name", "namesake-elsewhere", "beside-ours", "name-begins-alike", "unknown"],
)
def test_removal_by_force_frees_our_scale_sets_in_our_namespace_alone(labels: dict[str, str], is_freed: bool) -> None:
    removal = ownership.removal(claims(), Resources(), ["mine", "shop-runners"])
    assert selects(removal["selector"], labels) is is_freed


def test_removal_by_force_frees_nothing_where_nothing_is_ours() -> None:
    selector = ownership.removal(claims(), Resources(), [])["selector"]
    assert selector
    assert not selects(selector, of_scale_set("shop-runners", "arc-runners"))


@dataclass
class FakeKube:
    """A kubectl that answers with these texts, one after the other."""

    texts: list[str]
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, *arguments: str, **options: Any) -> str:
        self.asked.append((*arguments, options.get("stdin", "")))
        return self.texts.pop(0)


def test_labels_are_read_without_what_is_in_a_secret() -> None:
    kube = FakeKube(
        [
            "Namespace   arc-runners   shop-dev   privileged\nNamespace   default   <none>   <none>\n",
            "CustomResourceDefinition   autoscalingrunnersets.actions.github.com   <none>   <none>\n",
            "Secret   arc-github   others   <none>\nSecret   else   <none>   <none>\n",
        ]
    )
    found = ownership.read_claims(kube, OWNER)  # type: ignore[arg-type]
    assert found.own_namespaces() == ["arc-runners"]
    assert found.definitions == {"autoscalingrunnersets.actions.github.com": {}}
    assert found.objects == {"Secret arc-github": THEIRS}
    assert not any("json" in argument for call in kube.asked for argument in call)


def test_missing_rights_are_told_in_words() -> None:
    rights = (CONTROLLER_RIGHTS[1], RUNNERS[0])
    kube = FakeKube(
        [json.dumps({"status": {"allowed": False}}, indent=2) + "\n" + json.dumps({"status": {"allowed": True}})]
    )
    missing = missing_rights(kube, rights)  # type: ignore[arg-type]
    assert list(map(str, missing)) == ["create customresourcedefinitions.apiextensions.k8s.io"]
    assert len(json.loads(kube.asked[0][-1])["items"]) == 2
