from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from samples import (
    ADDRESSES,
    AGENTS,
    LOAD_BALANCER,
    REGISTRY,
    SERVER,
    changed,
    healthy,
    sample_container,
    sample_environment,
    without,
    write_repo,
)

from envkit import cluster_kubeconfigs, missing_parts, preflight, reconciler, removal, shared_registry
from envkit.arc import removal as arc_removal
from envkit.engine import Container, Published
from envkit.environment import Environment, PortUse
from envkit.errors import CommandFailedError, UserError
from envkit.observation import HOST_RECORD, ApiFacts, Observation
from envkit.progress import Step, Steps
from envkit.reconciler import Outcome, Reconciler
from envkit.session import Session
from envkit.state import Assessment, assess

NOTHING = Observation((), None)
CREATE = "k3d cluster create --config -"
START = "k3d cluster start shop --wait --timeout=300s"
STOP = "k3d cluster stop shop"
SEEN = ["note the user", "remember"]
COMPLETE = ["note the user", "publish the registry", "mark as complete", "remember"]


class World:
    """A machine with one cluster: what is looked at is scripted, what is done is written down.

    Attributes:
        shop: The configuration.
        now: What is there at the moment.
        effects: What a call makes of it; other calls change nothing.
        calls: What was done, in order.
        marker: Content of the mark of a completed creation.
        refused: What preflight finds wrong.
        kubeconfigs_current: Whether the kubeconfigs need no writing.
        refreshed: Whether k3d was asked for a kubeconfig.
        deaf: How many more calls the Kubernetes API refuses.
        users: Other environments that keep images in the registry's volume.
        published: What tools find of the registry in the cluster.
    """

    def __init__(self, shop: Environment) -> None:
        self.shop = shop
        self.now = NOTHING
        self.effects: dict[str, Observation] = {}
        self.calls: list[str] = []
        self.marker: dict[str, Any] | None = None
        self.refused: list[preflight.Check] = []
        self.kubeconfigs_current = True
        self.refreshed = False
        self.deaf = 0
        self.users: list[Path] = []
        self.published: dict[str, Any] = {}
        self.seconds = 0.0
        self.reconciler = Reconciler(RecordingSession(shop, Steps(io.StringIO()), -1, self))

    def do(self, call: str) -> None:
        self.calls.append(call)
        self.now = self.effects.get(call, self.now)

    def observe(self, _: Environment) -> Observation:
        return self.now

    def sleep(self, seconds: float) -> None:
        # Ten minutes of polling in a blink.
        self.seconds += max(seconds, 10)

    def monotonic(self) -> float:
        return self.seconds

    def mark(self, server: str, configuration: dict[str, Any]) -> None:
        assert server == SERVER
        self.marker = configuration
        self.do("mark as complete")


class RecordingSession(Session):
    """A session whose calls go to a `World`."""

    def __init__(self, environment: Environment, steps: Steps, lock_fd: int, world: World) -> None:
        super().__init__(environment, steps, lock_fd)
        object.__setattr__(self, "world", world)

    world: World

    def containers(self) -> tuple[tuple[Container, ...], Container | None]:
        return self.world.now.nodes, self.world.now.registry

    def k3d(self, _: Step, *arguments: str, stdin: str | None = None) -> None:
        assert (stdin is not None) == ("create" in arguments and "cluster" in arguments)
        self.world.do(f"k3d {' '.join(arguments)}")

    def wait_for_nodes(self, seconds: int) -> None:
        assert 0 < seconds < reconciler._SETTLE

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        if self.world.deaf:
            self.world.deaf -= 1
            raise UserError("the API does not answer yet")
        if arguments[0] == "apply":
            self.world.published = json.loads(stdin or "")
            self.world.do("publish the registry")
        else:
            self.world.do(f"kubectl {' '.join(arguments)}")
        return ""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(sample_environment(tmp_path))

    def docker(*arguments: str, **_: object) -> str:
        world.do(f"docker {' '.join(arguments)}")
        return ""

    def write_kubeconfigs(_: Session, *, text: str = "", switch: bool = False) -> list[str]:
        assert text == ("from k3d" if world.refreshed else "")
        world.do(f"write kubeconfigs{' and switch' if switch else ''}")
        return ["a file"]

    def refresh_host_kubeconfig(_: Session) -> str:
        world.refreshed = True
        return "from k3d"

    def add_missing_parts(_: Session, __: Observation, assessment: Assessment) -> list[str]:
        world.do(f"add {dict(assessment.missing or {})}")
        return ["added parts"]

    def remove_containers(names: Any) -> None:
        if names := list(names):
            world.do(f"remove {' '.join(names)}")

    replacements: dict[tuple[Any, str], Callable[..., Any]] = {
        (reconciler, "observe"): world.observe,
        (reconciler, "docker"): docker,
        (reconciler, "read_marker"): lambda _: world.marker,
        (reconciler, "write_marker"): world.mark,
        (reconciler, "remember_verified"): lambda *_: world.do("remember"),
        (reconciler, "kubeconfigs_are_current"): lambda _: world.kubeconfigs_current,
        (reconciler, "refresh_host_kubeconfig"): refresh_host_kubeconfig,
        (reconciler, "write_kubeconfigs"): write_kubeconfigs,
        (reconciler, "add_missing_parts"): add_missing_parts,
        (reconciler, "remove_containers"): remove_containers,
        (reconciler, "remove_network"): lambda _: [],
        (reconciler, "k3d_containers"): lambda: [part for part in (*world.now.nodes, world.now.registry) if part],
        (reconciler, "note_user"): lambda _: world.do("note the user"),
        (reconciler, "correct_dns_records"): lambda *_: world.do("correct the records"),
        (removal, "remove_containers"): remove_containers,
        (removal, "remove_volume"): lambda _: [],
        (removal, "remove_network"): lambda _: [],
        (removal, "withdraw"): lambda *_: list(world.users),
        (preflight, "own_published_ports"): lambda _: frozenset(),
        (preflight, "check_names"): lambda *_: list(world.refused),
        (preflight, "check_resources"): lambda _: [],
        (preflight, "check_inotify"): list,
        (preflight, "check_ports"): lambda *_: [],
        (preflight, "check_shared_registry"): lambda *_: [],
    }
    for (module, name), replacement in replacements.items():
        monkeypatch.setattr(module, name, replacement)
    monkeypatch.setattr(reconciler, "time", world)
    yield world
    assert len(world.calls) < 100


def _broken(world: World, **changes: Any) -> Observation:
    return replace(healthy(world.shop), **changes)


def _api(**changes: Any) -> ApiFacts:
    ready = dict.fromkeys((SERVER, *AGENTS), True)
    return replace(ApiFacts(ready=ready, dns_records=ADDRESSES), **changes)


# -- nothing to do ------------------------------------------------------------------------------------------------


def test_a_verified_cluster_is_left_alone(world: World) -> None:
    world.now = replace(healthy(world.shop), verified=True)

    assert world.reconciler.bring_up() == Outcome(())
    assert world.calls == []


def test_a_complete_cluster_is_only_remembered(world: World) -> None:
    world.now, world.marker = healthy(world.shop), world.shop.effective

    assert world.reconciler.bring_up() == Outcome(())
    assert world.calls == [*SEEN]


def test_a_running_cluster_that_was_never_marked_is_completed_and_not_made_anew(world: World) -> None:
    world.now = healthy(world.shop)

    assert world.reconciler.bring_up() == Outcome(())
    assert world.calls == COMPLETE
    assert world.marker == world.shop.effective


def test_missing_kubeconfigs_are_written_without_switching(world: World) -> None:
    world.now, world.kubeconfigs_current = replace(healthy(world.shop), verified=True), False

    assert world.reconciler.bring_up().actions == ("wrote the kubeconfigs",)
    assert world.calls == ["write kubeconfigs"]


def test_drift_is_told_and_nothing_is_done_about_it(world: World) -> None:
    world.now = changed(healthy(world.shop), SERVER, config_hash="0123456789abcdef")
    world.marker = world.shop.effective | {"servers": 3, "agents": 2}

    # What the marker says of servers holds: two are missing, and no repair gives a server back.
    world.marker |= {"servers": 1, "image": "rancher/k3s:v1.30.0-k3s1"}
    outcome = world.reconciler.bring_up()

    assert outcome.actions == ()
    assert outcome.drift == ("image: rancher/k3s:v1.30.0-k3s1 -> rancher/k3s:v1.36.2-k3s1",)
    assert world.calls == [*SEEN]


def test_a_drifted_cluster_without_a_mark_is_marked_as_of_unknown_origin(world: World) -> None:
    world.now = changed(healthy(world.shop), SERVER, config_hash="0123456789abcdef")

    assert world.reconciler.bring_up().drift == ("(what exactly is not known)",)
    assert world.marker == {}


def test_a_cluster_of_k3d_itself_is_taken_as_it_is(world: World) -> None:
    world.now = changed(healthy(world.shop), SERVER, config_hash="")

    assert world.reconciler.bring_up() == Outcome((), unknown_origin=True)
    assert world.calls == [*SEEN]


def test_k3ds_helper_is_removed_from_a_running_cluster(world: World) -> None:
    running = healthy(world.shop)
    world.now = replace(running, nodes=(*running.nodes, sample_container("k3d-shop-tools", "noRole")), verified=True)

    assert world.reconciler.bring_up() == Outcome(())
    assert world.calls == ["remove k3d-shop-tools"]


# -- creating -----------------------------------------------------------------------------------------------------


def test_an_absent_cluster_is_created_completed_and_switched_to(world: World) -> None:
    world.effects[CREATE] = healthy(world.shop)

    assert world.reconciler.bring_up().actions == ("created the cluster", "wrote the kubeconfigs")
    assert world.calls[0] == CREATE
    assert sorted(world.calls[1:]) == sorted([*COMPLETE, "write kubeconfigs and switch"])


def test_tools_find_the_registry_under_names_that_lead_there(world: World) -> None:
    world.effects[CREATE] = healthy(world.shop)

    world.reconciler.bring_up()

    assert (world.published["apiVersion"], world.published["kind"]) == ("v1", "ConfigMap")
    assert world.published["metadata"] == {"name": "local-registry-hosting", "namespace": "kube-public"}
    hosting = yaml.safe_load(world.published["data"]["localRegistryHosting.v1"])
    assert hosting.pop("help").startswith("https://")
    assert hosting == {
        "host": "localhost:5050",
        "hostFromClusterNetwork": f"{REGISTRY}:5000",
        "hostFromContainerRuntime": f"{REGISTRY}:5000",
    }


@pytest.mark.parametrize("dotenv", ["", "HTTPS_PROXY=http://proxy.example.com:3128\n"])
def test_the_registry_is_made_once_more_where_it_needs_what_k3d_has_no_setting_for(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch, dotenv: str
) -> None:
    shop = sample_environment(tmp_path / "corporate", dotenv=dotenv)
    monkeypatch.setattr(reconciler, "replace_new_registry", lambda _: world.do("replace the registry"))
    monkeypatch.setattr(preflight, "check_corporate_network", lambda _: [])
    world.effects[CREATE] = healthy(shop)

    Reconciler(RecordingSession(shop, Steps(io.StringIO()), -1, world)).bring_up()

    assert world.calls[0] == CREATE
    assert ("replace the registry" in world.calls) is bool(dotenv)


def test_a_registry_that_could_not_be_published_at_first_is_published_before_the_mark(world: World) -> None:
    world.effects[CREATE], world.deaf = healthy(world.shop), 1

    world.reconciler.bring_up()
    assert world.calls[:3] == [CREATE, *COMPLETE[:2]]


def test_a_cluster_whose_registry_cannot_be_published_is_not_marked(world: World) -> None:
    world.effects[CREATE], world.deaf = healthy(world.shop), 2

    with pytest.raises(UserError, match="does not answer"):
        world.reconciler.bring_up()
    assert world.marker is None


def test_a_broken_kubeconfig_of_the_developer_does_not_leave_the_cluster_unfinished(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> list[str]:
        raise UserError("config is not a valid kubeconfig")

    world.effects[CREATE] = healthy(world.shop)
    monkeypatch.setattr(reconciler, "write_kubeconfigs", refuse)

    with pytest.raises(UserError, match="not a valid kubeconfig"):
        world.reconciler.bring_up()

    assert world.marker == world.shop.effective


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(lambda o: without(o, LOAD_BALANCER, *AGENTS), id="server and registry"),
        pytest.param(lambda o: without(o, SERVER, LOAD_BALANCER, *AGENTS), id="registry alone"),
        pytest.param(lambda o: without(o, SERVER), id="server was removed"),
        pytest.param(lambda o: changed(o, *AGENTS, LOAD_BALANCER, state="created"), id="never started"),
    ],
)
def test_an_unfinished_creation_is_removed_and_made_anew(
    world: World, rest: Callable[[Observation], Observation]
) -> None:
    world.now = rest(healthy(world.shop))
    names = [part.name for part in (*world.now.nodes, world.now.registry) if part]
    world.effects = {CREATE: healthy(world.shop), f"remove {' '.join(names)}": NOTHING}

    assert world.reconciler.bring_up().actions[:2] == ("removed an unfinished creation", "created the cluster")
    assert world.calls[:2] == [f"remove {' '.join(names)}", CREATE]


@pytest.mark.parametrize("unfinished", [False, True])
def test_start_does_not_create(world: World, unfinished: bool) -> None:
    world.now = without(healthy(world.shop), *AGENTS) if unfinished else NOTHING

    with pytest.raises(UserError, match="no cluster shop to start") as caught:
        world.reconciler.bring_up(may_create=False)

    assert caught.value.next_step == "just create"
    assert world.calls == []


def test_nothing_is_made_or_removed_where_the_machine_is_not_ready(world: World) -> None:
    world.now = without(healthy(world.shop), *AGENTS)
    world.refused = [preflight.Check("Registry name", preflight.Verdict.FAIL, "belongs to another", "change it")]

    with pytest.raises(UserError, match="cannot be created"):
        world.reconciler.bring_up()

    assert world.calls == []


_BEFORE_CREATION = {
    "check_names",
    "check_config",
    "check_resources",
    "check_corporate_network",
    "check_inotify",
    "check_shared_registry",
    "check_ports",
}


@pytest.mark.parametrize(
    ("lost", "state", "asked"),
    [
        pytest.param((), "absent", _BEFORE_CREATION, id="created"),
        pytest.param((AGENTS[0],), "running", {"check_names", "check_shared_registry", "check_ports"}, id="repaired"),
        pytest.param((), "exited", {"check_names", "check_ports"}, id="started"),
    ],
)
def test_the_machine_is_looked_at_before_anything_is_made_or_started(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: tuple[str, ...], state: str, asked: set[str]
) -> None:
    if state != "absent":
        world.now = changed(without(healthy(world.shop), *lost), LOAD_BALANCER, state=state)
        world.marker = world.shop.effective

    def refused(name: str) -> preflight.Check:
        return preflight.Check(name, preflight.Verdict.FAIL, "is wrong", "mend it")

    for name in _BEFORE_CREATION - {"check_config"}:
        monkeypatch.setattr(preflight, name, lambda *_, name=name: [refused(name)])
    monkeypatch.setattr(preflight, "check_config", lambda _: refused("check_config"))

    with pytest.raises(UserError) as caught:
        world.reconciler.bring_up()

    assert {line.partition(":")[0] for line in caught.value.why.splitlines()[::2]} == asked
    assert world.calls == []


def test_a_start_needs_those_ports_that_stopped_containers_have(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    port = Published("127.0.0.1", 8080, 80, "tcp")
    other = Published("127.0.0.1", 8443, 443, "udp")
    stopped = changed(healthy(world.shop), LOAD_BALANCER, state="exited", published=(port, other))
    world.now = changed(stopped, REGISTRY, published=(Published("127.0.0.1", 5050, 5000, "tcp"),))
    world.marker = world.shop.effective
    looked_at: list[int] = []

    def check_ports(uses: list[PortUse], *_: object) -> list[preflight.Check]:
        looked_at.extend(use.number for use in uses)
        return []

    monkeypatch.setattr(preflight, "check_ports", check_ports)
    world.effects[START] = healthy(world.shop)

    world.reconciler.bring_up()

    assert looked_at == [8080]


def test_a_creation_that_k3d_refuses_is_not_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: RecordingSession, __: Step, *arguments: str, **___: object) -> None:
        world.calls.append(f"k3d {' '.join(arguments)}")
        raise CommandFailedError("k3d failed", status=1, output="no such image")

    monkeypatch.setattr(RecordingSession, "k3d", fail)

    with pytest.raises(CommandFailedError):
        world.reconciler.bring_up()

    assert world.calls == [CREATE]


# -- starting and repairing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SERVER, LOAD_BALANCER, REGISTRY])
def test_a_stopped_cluster_is_started(world: World, name: str) -> None:
    world.now, world.marker = changed(healthy(world.shop), name, state="exited"), world.shop.effective
    world.effects[START] = healthy(world.shop)

    assert world.reconciler.bring_up(may_create=False).actions == ("started the cluster",)
    assert world.calls == [START, *SEEN]


def test_a_cluster_that_lost_its_records_is_restarted_at_once(world: World) -> None:
    world.now, world.marker = _broken(world, hosts_lost=(SERVER,)), world.shop.effective
    world.effects[START] = healthy(world.shop)

    assert world.reconciler.bring_up().actions == ("restarted the cluster",)
    assert world.calls == [STOP, START, *SEEN]
    assert world.seconds == 0


@pytest.mark.parametrize("lost", [REGISTRY, HOST_RECORD])
def test_a_record_that_the_dns_has_missed_is_written_without_a_restart(world: World, lost: str) -> None:
    records = {name: address for name, address in ADDRESSES.items() if name != lost}
    world.now, world.marker = _broken(world, api=_api(dns_records=records)), world.shop.effective
    world.effects["correct the records"] = healthy(world.shop)

    assert "corrected the cluster's DNS" in world.reconciler.bring_up().actions
    assert world.calls == ["correct the records", *SEEN]


def test_a_record_that_stays_wrong_is_left_to_a_restart(world: World) -> None:
    moved = ADDRESSES | {AGENTS[0]: "10.0.0.4"}
    world.now, world.marker = _broken(world, api=_api(dns_records=moved)), world.shop.effective
    world.effects[START] = healthy(world.shop)

    actions = world.reconciler.bring_up().actions
    assert actions.count("corrected the cluster's DNS") == 1
    assert world.calls[-2 - len(SEEN) :] == [STOP, START, *SEEN]


def test_the_dns_learns_the_addresses_of_containers_and_machine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    known = f"10.0.0.99 {REGISTRY}\n10.0.0.8 k3d-shop-agent-7\n{ADDRESSES[AGENTS[0]]} {AGENTS[0]}\n"
    present = f"10.9.9.9 somebody-elses-host\n{known}"
    patches: list[str] = []

    def docker(*arguments: str, **_: object) -> str:
        patches.extend(each.removeprefix("--patch=") for each in arguments if each.startswith("--patch="))
        return present

    monkeypatch.setattr(missing_parts, "docker", docker)
    hosts = f"127.0.0.1 localhost\n10.0.0.1 {HOST_RECORD}\n".encode()
    monkeypatch.setattr(missing_parts, "read_file", lambda *_: hosts)
    # A node that is stopped has no address, and gets its old one in most cases.
    world.now = changed(healthy(world.shop), AGENTS[0], state="exited", addresses={})
    assert world.now.server

    missing_parts.correct_dns_records(world.reconciler._session, world.now.server)

    (patch,) = patches
    records = dict(reversed(line.split()) for line in json.loads(patch)["data"]["NodeHosts"].splitlines())
    assert records == ADDRESSES | {"somebody-elses-host": "10.9.9.9"}


def test_a_cluster_that_is_still_starting_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.now, world.marker = _broken(world, api=_api(ready={SERVER: False})), world.shop.effective

    poll = world.sleep

    def settle(seconds: float) -> None:
        poll(seconds)
        if world.seconds > 50:
            world.now = healthy(world.shop)

    monkeypatch.setattr(world, "sleep", settle)

    assert world.reconciler.bring_up().actions == ("waited until it worked",)
    assert world.calls == [*SEEN]


def test_a_cluster_that_does_not_settle_is_restarted(world: World) -> None:
    world.now, world.marker = _broken(world, registry_answers=False), world.shop.effective
    world.effects[START] = healthy(world.shop)

    assert "restarted the cluster" in world.reconciler.bring_up().actions
    assert world.calls == [STOP, START, *SEEN]
    assert world.seconds > reconciler._SETTLE


def test_missing_parts_of_a_finished_cluster_are_added_and_nothing_is_removed(world: World) -> None:
    world.now, world.marker = without(healthy(world.shop), AGENTS[0]), world.shop.effective
    world.effects["add {'agent': 1}"] = healthy(world.shop)

    assert world.reconciler.bring_up().actions == ("added parts",)
    assert world.calls == ["add {'agent': 1}", *SEEN]


def test_nodes_without_a_container_are_forgotten_while_waiting(world: World) -> None:
    stale = _broken(world, api=_api(ready=dict.fromkeys((SERVER, *AGENTS, "gone"), True)))
    world.now, world.marker = stale, world.shop.effective
    world.effects["kubectl delete node gone --ignore-not-found"] = healthy(world.shop)

    world.reconciler.bring_up()

    assert world.calls == ["kubectl delete node gone --ignore-not-found", *SEEN]


# -- ending -------------------------------------------------------------------------------------------------------


def _dead_api(world: World) -> Observation:
    return _broken(world, api=ApiFacts(error="connection refused"))


def test_a_finished_cluster_that_cannot_be_repaired_is_restarted_once_and_never_deleted(world: World) -> None:
    world.now, world.marker = _dead_api(world), world.shop.effective

    with pytest.raises(UserError, match="is broken and could not be repaired") as caught:
        world.reconciler.bring_up()

    assert "connection refused" in caught.value.why
    assert "just delete && just create" in caught.value.next_step
    assert world.calls == [STOP, START]


def test_an_unfinished_cluster_that_does_not_work_is_made_anew_once(world: World) -> None:
    world.now, world.deaf = _dead_api(world), 1

    with pytest.raises(UserError, match="could not be repaired"):
        world.reconciler.bring_up()

    removal = f"remove {SERVER} {' '.join(AGENTS)} {LOAD_BALANCER} {REGISTRY}"
    assert world.calls == [removal, CREATE, "note the user"]


def test_start_restarts_an_unfinished_cluster_and_does_not_make_it_anew(world: World) -> None:
    world.now = _dead_api(world)

    with pytest.raises(UserError, match="could not be repaired"):
        world.reconciler.bring_up(may_create=False)

    assert world.calls == [STOP, START]


def test_a_start_without_effect_ends(world: World) -> None:
    world.now, world.marker = changed(healthy(world.shop), SERVER, state="exited"), world.shop.effective

    with pytest.raises(UserError, match="is stopped and could not be repaired"):
        world.reconciler.bring_up()

    assert world.calls == [START] * reconciler._ROUNDS


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "fault",
    [
        lambda o: without(o, AGENTS[0]),
        lambda o: without(o, SERVER),
        lambda o: changed(o, LOAD_BALANCER, state="exited"),
        lambda o: replace(o, hosts_lost=(SERVER,)),
        lambda o: replace(o, registry_answers=False),
        lambda o: replace(o, api=None),
    ],
)
def test_a_fault_that_nothing_mends_ends_in_an_error_and_a_finished_cluster_survives(
    world: World, fault: Callable[[Observation], Observation], finished: bool
) -> None:
    world.now, world.marker = fault(healthy(world.shop)), world.shop.effective if finished else None
    holds_work = finished and world.now.server is not None

    with pytest.raises(UserError) as caught:
        world.reconciler.bring_up()

    assert caught.value.next_step
    assert not any("delete" in call for call in world.calls)
    assert not (holds_work and any(call.startswith("remove") or call == CREATE for call in world.calls))


@pytest.mark.parametrize("fault", [lambda o: without(o, AGENTS[0]), lambda o: replace(o, hosts_lost=(SERVER,))])
def test_a_cluster_that_k3d_itself_made_is_repaired_and_never_made_anew(
    world: World, fault: Callable[[Observation], Observation]
) -> None:
    world.now = changed(fault(healthy(world.shop)), SERVER, config_hash="")
    assert world.marker is None

    with pytest.raises(UserError):
        world.reconciler.bring_up()

    assert world.calls
    assert set(world.calls) <= {"add {'agent': 1}", STOP, START}


# -- stop and restart ---------------------------------------------------------------------------------------------


def test_stop_stops_the_nodes_and_a_registry_that_k3d_left(world: World) -> None:
    world.now = healthy(world.shop)

    assert world.reconciler.stop()
    assert world.calls == [STOP, f"docker stop {REGISTRY}"]


def test_stop_leaves_a_registry_alone_that_k3d_has_stopped(world: World) -> None:
    world.now = healthy(world.shop)
    world.effects[STOP] = changed(world.now, SERVER, LOAD_BALANCER, *AGENTS, REGISTRY, state="exited")

    assert world.reconciler.stop()
    assert world.calls == [STOP]


@pytest.mark.parametrize("action", ["bring_up", "stop", "restart"])
def test_nothing_is_done_to_a_registry_of_another_cluster(world: World, action: str) -> None:
    world.now = changed(healthy(world.shop), REGISTRY, cluster="other")

    with pytest.raises(UserError, match="belongs to the cluster other"):
        getattr(world.reconciler, action)()

    assert world.calls == []


@pytest.mark.parametrize("action", ["bring_up", "stop", "restart"])
def test_nothing_is_done_to_the_cluster_of_another_repository(world: World, tmp_path: Path, action: str) -> None:
    other = write_repo(tmp_path / "other place")
    world.now = changed(healthy(world.shop), SERVER, root=quote(str(other)))

    with pytest.raises(UserError, match=r"belongs to the environment in .*/other place"):
        getattr(world.reconciler, action)()

    assert world.calls == []


def test_a_cluster_of_this_repository_before_it_was_moved_is_its_own(world: World, tmp_path: Path) -> None:
    world.now = changed(healthy(world.shop), SERVER, root=quote(str(tmp_path / "where it was")))

    assert world.reconciler.bring_up() == Outcome(())


def test_a_stopped_cluster_is_not_stopped_again(world: World) -> None:
    world.now = changed(healthy(world.shop), SERVER, LOAD_BALANCER, *AGENTS, REGISTRY, state="exited")

    assert not world.reconciler.stop()
    assert world.calls == []


@pytest.mark.parametrize("action", ["stop", "restart"])
def test_there_must_be_a_cluster_to_stop(world: World, action: str) -> None:
    with pytest.raises(UserError, match="no cluster shop to stop") as caught:
        getattr(world.reconciler, action)()

    assert caught.value.next_step == "just create"


def test_restart_stops_and_starts(world: World) -> None:
    world.now, world.marker = healthy(world.shop), world.shop.effective
    world.effects = {
        STOP: changed(world.now, SERVER, LOAD_BALANCER, *AGENTS, REGISTRY, state="exited"),
        START: healthy(world.shop),
    }

    assert world.reconciler.restart().actions == ("started the cluster",)
    assert world.calls == [STOP, START, *SEEN]


# -- missing parts ------------------------------------------------------------------------------------------------


def test_a_lost_server_is_not_replaced(world: World) -> None:
    session = world.reconciler._session
    observation = without(healthy(world.shop), SERVER)

    with pytest.raises(UserError, match="lost a server node") as caught:
        missing_parts.add_missing_parts(session, observation, assess(observation, world.shop, None))

    assert caught.value.next_step == "just delete && just create"
    assert world.calls == []


@pytest.mark.parametrize(("lost", "made"), [((AGENTS[0],), ["shop-agent"]), (AGENTS, ["shop-agent", "shop-agent-1"])])
@pytest.mark.parametrize("authorities", [None, b"PEM"])
def test_agents_are_added_under_free_names_and_trust_what_the_server_does(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    lost: tuple[str, ...],
    made: list[str],
    authorities: bytes | None,
) -> None:
    world.now = without(healthy(world.shop), *lost)
    for index, name in enumerate(made):
        present = world.now if not index else world.effects[_node_create(made[index - 1])]
        node = sample_container(f"k3d-{name}-0", "agent")
        world.effects[_node_create(name)] = replace(present, nodes=(*present.nodes, node))
    balanced: list[tuple[str, list[str]]] = []

    def docker(*arguments: str, stdin: str = "", **_: object) -> str:
        world.do(f"docker {' '.join(arguments)}{' <' if stdin else ''}{stdin.strip()}")
        return " ".join((SERVER, *AGENTS)) if "get" in arguments else ""

    # What Kubernetes says of its nodes: those that were lost are still listed.
    monkeypatch.setattr(missing_parts, "docker", docker)
    monkeypatch.setattr(missing_parts, "remove_containers", lambda _: None)
    hosts = f"127.0.0.1 localhost\n10.0.0.1 {HOST_RECORD}\n".encode()
    monkeypatch.setattr(missing_parts, "read_file", lambda _, path: hosts if path == "/etc/hosts" else authorities)
    monkeypatch.setattr(missing_parts, "write_file", lambda name, *_, **__: world.do(f"write {name}"))
    for call in ("update_targets", "run_load_balancer_container"):
        monkeypatch.setattr(
            missing_parts, call, lambda *given, call=call: balanced.append((call, [node.name for node in given[-1]]))
        )

    assessment = assess(world.now, world.shop, None)
    actions = missing_parts.add_missing_parts(world.reconciler._session, world.now, assessment)

    assert actions[0] == ("added an agent" if len(made) == 1 else f"added {len(made)} agents")
    assert [call for call in world.calls if call.startswith("k3d")] == [_node_create(name) for name in made]
    (forgotten,) = (call for call in world.calls if "delete node" in call)
    assert f"delete node {' '.join(lost)} --ignore-not-found" in forgotten
    assert world.calls.index(forgotten) < world.calls.index(_node_create(made[0]))
    # Only where no agent is left the load balancer is made anew, which ends every connection through it.
    (how, nodes_behind), *more = balanced
    assert (how, more) == ("run_load_balancer_container" if lost == AGENTS else "update_targets", [])
    assert set(nodes_behind) >= {f"k3d-{name}-0" for name in made}
    # k3d does not copy files to a new node, which has read the others by the time that it runs.
    # Its start anew takes the record of this machine, which is brought back.
    nodes = [f"k3d-{name}-0" for name in made if authorities]
    restart = "docker restart {0}", f"docker exec --interactive {{0}} sh -c cat >>/etc/hosts <10.0.0.1 {HOST_RECORD}"
    told = [call.format(node) for node in nodes for call in ("write {0}", *restart)]
    verbs = ("write", "docker restart", "docker exec --interactive")
    assert [call for call in world.calls if call.startswith(verbs)] == told


@pytest.fixture
def repairing(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """What repairs containers is written down, each call of Docker's by its first words."""

    def docker(*arguments: str, **_: object) -> str:
        world.do(f"docker {' '.join(arguments[:2])}")
        return ""

    def remove_containers(names: Any) -> None:
        world.do(f"remove {' '.join(names)}".strip())

    monkeypatch.setattr(missing_parts, "docker", docker)
    monkeypatch.setattr(missing_parts, "remove_containers", remove_containers)
    monkeypatch.setattr(missing_parts, "read_file", lambda *_: None)
    for name in ("update_targets", "run_load_balancer_container", "run_registry_container", "wait_until_it_answers"):
        monkeypatch.setattr(missing_parts, name, lambda *_, name=name: world.do(name))
    return world


def _repair(world: World, observation: Observation) -> list[str]:
    world.now = observation
    assessment = assess(observation, world.shop, None)
    return missing_parts.add_missing_parts(world.reconciler._session, observation, assessment)


def test_agents_that_never_started_give_way_and_others_stay(repairing: World) -> None:
    actions = _repair(repairing, changed(healthy(repairing.shop), AGENTS[1], state="created"))

    assert actions == ["added an agent"]
    assert [call for call in repairing.calls if call.startswith("remove")] == [f"remove {AGENTS[1]}"]


def test_new_agents_join_a_server_that_was_started_before(repairing: World) -> None:
    observation = changed(without(healthy(repairing.shop), AGENTS[0]), SERVER, state="exited")

    assert _repair(repairing, observation) == ["added an agent"]
    assert repairing.calls[0] == f"docker start {SERVER}"
    assert repairing.calls[-1] == "update_targets"  # k3d starts the rest, and writes the records


@pytest.mark.parametrize("registry", [None, "created"])
def test_a_registry_is_made_anew_and_the_dns_learns_of_it(repairing: World, registry: str | None) -> None:
    whole = healthy(repairing.shop)
    observation = changed(whole, REGISTRY, state=registry) if registry else without(whole, REGISTRY)

    assert _repair(repairing, observation) == ["made the registry anew"]
    removal = f"remove {REGISTRY}" if registry else "remove"
    assert repairing.calls[:3] == [removal, "run_registry_container", "wait_until_it_answers"]
    assert repairing.calls[-1] == f"docker exec {SERVER}"


def test_a_load_balancer_is_made_anew_by_itself(repairing: World) -> None:
    assert _repair(repairing, without(healthy(repairing.shop), LOAD_BALANCER)) == ["made the load balancer anew"]
    assert repairing.calls[:2] == [f"remove {LOAD_BALANCER}", "run_load_balancer_container"]


def test_a_registry_with_what_k3d_has_no_setting_for_takes_the_place_of_its_own(repairing: World) -> None:
    repairing.now = healthy(repairing.shop)

    missing_parts.replace_new_registry(repairing.reconciler._session)

    assert repairing.calls[:3] == [f"remove {REGISTRY}", "run_registry_container", "wait_until_it_answers"]
    assert repairing.calls[-1] == f"docker exec {SERVER}"


def _node_create(name: str) -> str:
    return f"k3d node create {name} --cluster shop --role agent --wait --timeout 300s"


@pytest.mark.parametrize(
    ("output", "what"),
    [
        (
            "Failed to add nodes: Context Deadline Exceeded",
            "The new agent k3d-shop-agent-0 did not join .* within 300 s",
        ),
        ("no such image", "`k3d node create` failed"),
    ],
)
def test_an_agent_that_does_not_join_is_named_with_its_log(
    world: World, monkeypatch: pytest.MonkeyPatch, output: str, what: str
) -> None:
    world.now = without(healthy(world.shop), AGENTS[0])

    def fail(*_: object) -> None:
        raise CommandFailedError("`k3d node create` failed", status=1, output=output, next_step="just doctor")

    monkeypatch.setattr(RecordingSession, "k3d", fail)
    monkeypatch.setattr(missing_parts, "docker", lambda *_, **__: "")

    with pytest.raises(UserError, match=what) as caught:
        missing_parts.add_missing_parts(world.reconciler._session, world.now, assess(world.now, world.shop, None))

    assert caught.value.why == output
    assert ("docker logs --tail 50 k3d-shop-agent-0" in caught.value.next_step) is ("300 s" in what)


# -- removal ------------------------------------------------------------------------------------------------------


@pytest.fixture
def removing(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    def remove_volume(name: str) -> list[str]:
        world.do(f"remove volume {name}")
        return [f"volume {name}"]

    monkeypatch.setattr(removal, "remove_volume", remove_volume)
    monkeypatch.setattr(removal, "remove_kubeconfigs", lambda _: ["context k3d-shop"])
    monkeypatch.setattr(removal, "forget_verified", lambda _: None)
    return world


@pytest.mark.parametrize("all_data", [False, True])
def test_delete_removes_the_cluster_and_its_registry_and_the_data_only_if_asked(
    removing: World, all_data: bool
) -> None:
    removing.now = healthy(removing.shop)

    removed = removal.delete(removing.reconciler._session, registry_data=all_data)

    assert removed[:2] == ["cluster shop (4 containers)", f"registry container {REGISTRY}"]
    assert removed[-1] == "context k3d-shop"
    assert removing.calls == [
        f"remove {SERVER} {' '.join(AGENTS)} {LOAD_BALANCER} {REGISTRY}",
        "remove volume k3d-shop-images",
        *(["remove volume k3d-shop-registry"] if all_data else []),
    ]


def test_delete_where_nothing_is_left_says_nothing_of_a_cluster(removing: World) -> None:
    removed = removal.delete(removing.reconciler._session, registry_data=False)

    assert removed == ["volume k3d-shop-images", "context k3d-shop"]
    assert removing.calls == ["remove volume k3d-shop-images"]


def test_delete_of_a_registry_alone_says_nothing_of_a_cluster(removing: World) -> None:
    removing.now = without(healthy(removing.shop), SERVER, LOAD_BALANCER, *AGENTS)

    removed = removal.delete(removing.reconciler._session, registry_data=False)

    assert removed == [f"registry container {REGISTRY}", "volume k3d-shop-images", "context k3d-shop"]


@pytest.mark.parametrize(
    ("stopped", "running"), [((), [True]), ((SERVER,), [False]), ((LOAD_BALANCER, *AGENTS), [True]), (None, [])]
)
def test_runners_leave_github_before_their_cluster_goes(
    removing: World, monkeypatch: pytest.MonkeyPatch, stopped: tuple[str, ...] | None, running: list[bool]
) -> None:
    asked: list[bool] = []

    def deregister(_: Environment, __: Steps, *, running: bool) -> None:
        assert removing.calls == []
        asked.append(running)

    monkeypatch.setattr(arc_removal, "deregister", deregister)
    if stopped is not None:
        removing.now = changed(healthy(removing.shop), *stopped, state="exited")

    removal.delete(removing.reconciler._session, registry_data=False)

    assert asked == running


@pytest.mark.parametrize("own_cluster", [False, True])
def test_delete_never_touches_the_registry_of_another_cluster(removing: World, own_cluster: bool) -> None:
    others = changed(healthy(removing.shop), REGISTRY, cluster="other")
    removing.now = others if own_cluster else without(others, SERVER, LOAD_BALANCER, *AGENTS)

    with pytest.raises(UserError, match="belongs to the cluster other"):
        removal.delete(removing.reconciler._session, registry_data=True)

    assert removing.calls == []


# -- a shared registry --------------------------------------------------------------------------------------------


OTHER = sample_container("k3d-other-server-0", "server", cluster="other", addresses={"k3d-other": ""}, root="/b%20c")


@pytest.fixture
def sharing(removing: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A cluster whose registry is on the network of another environment's cluster too."""
    shared = sample_environment(tmp_path / "shared", shared=True)
    removing.shop = shared
    removing.reconciler = Reconciler(RecordingSession(shared, Steps(io.StringIO()), -1, removing))
    removing.now = changed(healthy(shared), REGISTRY, addresses={"k3d-shop": ADDRESSES[REGISTRY], "k3d-other": ""})
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(shared_registry, "k3d_containers", lambda: [*removing.now.nodes, OTHER])

    def ensure(_: Session) -> bool:
        removing.do("ensure the registry")
        return True

    for module in (reconciler, missing_parts):
        monkeypatch.setattr(module, "ensure_shared_registry", ensure)
    return removing


def test_a_shared_registry_is_there_before_the_cluster(sharing: World) -> None:
    whole, sharing.now = sharing.now, NOTHING
    sharing.effects[CREATE] = whole

    sharing.reconciler.bring_up()

    assert sharing.calls[:2] == ["ensure the registry", CREATE]


def test_an_unfinished_creation_is_removed_without_the_shared_registry(sharing: World) -> None:
    whole = sharing.now
    sharing.now = without(whole, LOAD_BALANCER)
    sharing.effects[CREATE] = whole

    sharing.reconciler.bring_up()

    assert sharing.calls[:2] == [f"remove {SERVER} {' '.join(AGENTS)}", "remove volume k3d-shop-images"]
    assert not any(call.startswith("remove") and REGISTRY in call for call in sharing.calls)


def test_a_shared_registry_that_was_stopped_is_started_without_restarting_the_cluster(sharing: World) -> None:
    sharing.marker, whole = sharing.shop.effective, sharing.now
    sharing.now = changed(whole, REGISTRY, state="exited")
    sharing.effects["ensure the registry"] = whole

    sharing.reconciler.bring_up()

    assert sharing.calls == ["ensure the registry", "correct the records", *SEEN]


def test_stop_leaves_a_shared_registry_to_those_that_run(sharing: World) -> None:
    sharing.effects[STOP] = changed(sharing.now, SERVER, LOAD_BALANCER, *AGENTS, state="exited")

    assert sharing.reconciler.stop()
    assert sharing.calls == [STOP]
    assert not sharing.reconciler.stop()


@pytest.mark.parametrize(("root", "user"), [("/b%20c", "/b c"), ("", "the cluster other")])
@pytest.mark.parametrize("all_data", [False, True])
def test_delete_leaves_a_shared_registry_and_its_images_to_the_others(
    sharing: World, monkeypatch: pytest.MonkeyPatch, all_data: bool, root: str, user: str
) -> None:
    monkeypatch.setattr(shared_registry, "k3d_containers", lambda: [*sharing.now.nodes, replace(OTHER, root=root)])
    steps = Steps(io.StringIO())

    removal.delete(RecordingSession(sharing.shop, steps, -1, sharing), registry_data=all_data)

    assert isinstance(steps._stream, io.StringIO)
    assert (f"images of {user} are in it" in steps._stream.getvalue()) is all_data
    assert sharing.calls == [f"remove {SERVER} {' '.join(AGENTS)} {LOAD_BALANCER}", "remove volume k3d-shop-images"]


@pytest.mark.parametrize("noted", [False, True])
def test_the_last_cluster_takes_the_shared_registry_and_images_that_nobody_else_keeps(
    sharing: World, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    monkeypatch.setattr(shared_registry, "k3d_containers", lambda: list(sharing.now.nodes))
    sharing.users = [Path("/b c")] if noted else []

    removed = removal.delete(sharing.reconciler._session, registry_data=True)

    assert f"registry container {REGISTRY}" in removed
    assert ("remove volume k3d-shop-registry" in sharing.calls) is not noted


def test_images_of_another_environment_of_the_same_project_stay(removing: World) -> None:
    removing.now, removing.users = healthy(removing.shop), [Path("/other")]

    removal.delete(removing.reconciler._session, registry_data=True)

    assert "remove volume k3d-shop-registry" not in removing.calls


def test_a_cluster_that_was_made_with_another_registry_is_not_given_this_one(world: World) -> None:
    made_from = {**world.shop.effective, "registries": {"use": ["k3d-common:5000"]}}
    world.now = without(changed(healthy(world.shop), SERVER, config_hash="0" * 16), REGISTRY)
    world.marker = made_from

    with pytest.raises(UserError, match="was created with another registry, k3d-common") as caught:
        world.reconciler.bring_up()

    assert caught.value.next_step.startswith("just delete && just create")
    assert world.calls == []


# -- kubeconfigs --------------------------------------------------------------------------------------------------


def test_the_host_kubeconfig_is_kept_where_k3d_has_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise CommandFailedError("k3d failed", status=1, output="no server")

    monkeypatch.setattr(cluster_kubeconfigs, "capture", fail)

    cluster_kubeconfigs.refresh_host_kubeconfig(world.reconciler._session)
