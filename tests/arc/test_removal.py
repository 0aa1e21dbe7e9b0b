"""What the end of a cluster means for its runners."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from arc.conftest import write_dotenv
from arc.test_causes import refused
from arc.test_state import runner, scale_set

from envkit.arc import removal as arc_removal
from envkit.arc.commands import runners_page
from envkit.arc.removal import busy_runners, deregister, warn_of_busy_runners
from envkit.arc.settings import read_arc_settings
from envkit.config import read_environment
from envkit.environment import Environment
from envkit.errors import CommandFailedError, UserError
from envkit.paths import just_command
from envkit.progress import Steps


@dataclass
class FakeKube:
    """A cluster with these resources, in which removing a scale set fails where told so."""

    items: tuple[dict[str, Any], ...] = ()
    fails: bool = False
    away: bool = False
    lines: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def get(self, *arguments: str) -> tuple[dict[str, Any], ...]:
        self.asked.append(arguments)
        if self.away:
            raise UserError("The API does not answer.")
        return self.items

    def run(self, *arguments: str, **options: Any) -> str:
        self.asked.append((*arguments, options))
        if self.fails:
            raise CommandFailedError("kubectl failed", status=1, output="timed out")
        self.removed.append(arguments[2])
        return ""

    def log(self, **options: Any) -> list[str]:
        self.asked.append(("log", options))
        return self.lines


@pytest.fixture
def environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setattr(arc_removal, "has_runners", lambda: True)
    return read_environment(root)


def told(kube: FakeKube, environment: Environment, monkeypatch: pytest.MonkeyPatch, *, running: bool = True) -> str:
    monkeypatch.setattr(arc_removal, "kube_of", lambda *_, **__: kube)
    shown = io.StringIO()
    with Steps(shown) as steps:
        deregister(environment, steps, running=running)
    return shown.getvalue()


def test_registered_scale_sets_leave_github(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube((scale_set("a"), scale_set("b", registered=False)))
    assert "Taking the runners off GitHub: a" in told(kube, environment, monkeypatch)
    assert kube.removed == ["a"]
    kinds = "autoscalingrunnersets.actions.github.com"
    assert kube.asked == [
        (kinds, "--all-namespaces"),
        # What kubectl says when GitHub takes too long is better than that kubectl took too long.
        ("delete", kinds, "a", "--namespace=arc-runners", "--wait", "--timeout=45s", {"timeout": 50}),
    ]


def test_cluster_without_runners_says_nothing(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(FakeKube(), environment, monkeypatch) == ""


@pytest.mark.parametrize("running", [True, False])
def test_environment_without_runners_is_not_asked(
    running: bool, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arc_removal, "has_runners", lambda: False)
    kube = FakeKube((scale_set("a"),))
    assert told(kube, environment, monkeypatch, running=running) == ""
    assert kube.removed == []


def test_refusal_is_explained_and_stops_nothing(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    line = refused("https://api.github.com/app/installations/2/access_tokens", "401 Unauthorized")
    kube = FakeKube((scale_set("a"),), fails=True, lines=[line])
    text = told(kube, environment, monkeypatch)
    assert "a stays registered at GitHub" in text
    assert "App's key" in text
    assert "settings/actions/runners" in text
    ((what, options),) = kube.asked[2:]
    assert (what, options["namespace"]) == ("log", "arc-systems")
    assert options["target"] == "--selector=app.kubernetes.io/part-of=gha-rs-controller"
    assert datetime.now(UTC) - datetime.fromisoformat(options["since"]) < timedelta(minutes=1)


def test_silence_of_the_controller_is_said(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    text = told(FakeKube((scale_set("a"), scale_set("b")), fails=True), environment, monkeypatch)
    assert "a, b stays registered at GitHub. The controller did not do it in time." in text


@pytest.mark.parametrize(("kube", "running"), [(FakeKube(away=True), True), (FakeKube(), False)])
def test_cluster_that_cannot_be_asked_may_have_runners(
    kube: FakeKube, running: bool, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "registered at GitHub" in told(kube, environment, monkeypatch, running=running)


def test_busy_runners_are_told_of_before_a_stop(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube((runner("a", jobId="x"), runner("b", ready=True)))
    waited: list[dict[str, Any]] = []

    def kube_of(_: Environment, **options: Any) -> FakeKube:
        waited.append(options)
        return kube

    monkeypatch.setattr(arc_removal, "kube_of", kube_of)
    said: list[str] = []
    warn_of_busy_runners(environment, said.append)
    assert ["with a job: 1" in line for line in said] == [True]
    assert kube.asked == [("ephemeralrunners.actions.github.com", "--all-namespaces")]
    assert waited == [{"seconds": 4}]  # a stop is no matter of a quarter of a minute
    kube.items = kube.items[1:]
    assert busy_runners(environment) == 0
    kube.away = True  # a stop goes on where the cluster cannot tell
    assert busy_runners(environment) == 0
    warn_of_busy_runners(environment, said.append)
    assert len(said) == 1


def test_environment_without_runners_has_no_busy_ones_and_is_not_asked(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube = FakeKube((runner("a", jobId="x"),))
    monkeypatch.setattr(arc_removal, "kube_of", lambda *_, **__: kube)
    monkeypatch.setattr(arc_removal, "has_runners", lambda: False)
    assert busy_runners(environment) == 0
    assert kube.asked == []


def test_stopped_cluster_has_its_runners_removed_after_a_start_or_by_hand(
    environment: Environment, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube, just = FakeKube(), just_command()
    text = told(kube, environment, monkeypatch, running=False)
    assert kube.asked == []
    assert f"{just} start && {just} delete-arc, then {just} delete; or remove it by hand" in text
    assert "https://github.com/organizations/ORGANISATION/settings/actions/runners" in text
    write_dotenv(root, GITHUB_CONFIG_URL="https://github.com/Shop")
    ours = read_arc_settings(environment, root)
    monkeypatch.setattr("envkit.arc.settings.read_arc_settings", lambda _: ours)
    text = told(FakeKube(), environment, monkeypatch, running=False)
    assert "https://github.com/organizations/Shop/settings/actions/runners" in text


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/Shop", "https://github.com/organizations/Shop/settings/actions/runners"),
        ("https://git.example.com/Shop/app/", "https://git.example.com/Shop/app/settings/actions/runners"),
    ],
)
def test_page_of_the_runners(url: str, page: str) -> None:
    assert runners_page(url) == page
