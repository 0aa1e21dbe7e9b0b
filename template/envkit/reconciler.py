"""Brings a cluster from whatever state it is in to the one that is wanted, by the shortest way.

Each round looks, names the state, takes one action and looks again. Nothing is remembered between rounds or runs but
what the engine itself holds, so a run that was interrupted, or killed, is simply continued by the next.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from envkit.cluster_kubeconfigs import kubeconfigs_are_current, refresh_host_kubeconfig, write_kubeconfigs
from envkit.creation_marker import read_marker, write_marker
from envkit.engine import CHANGE_TIMEOUT, docker, k3d_containers, remove_containers
from envkit.errors import UserError
from envkit.missing_parts import add_missing_parts, correct_dns_records, replace_new_registry
from envkit.observation import Observation, observe
from envkit.ownership import refuse_clashes
from envkit.paths import just_command
from envkit.progress import Step
from envkit.registry import registry_name
from envkit.removal import remove_network, remove_unfinished
from envkit.session import Session
from envkit.shared_registry import ensure_shared_registry, registry_lock, stop_shared_registry
from envkit.state import Assessment, State, assess, drift_between, is_drifted
from envkit.verified import remember_verified
from envkit.volume_users import note_user

_SETTLE = 90.0
"""Seconds that a running cluster gets to become Ready by itself before it is restarted."""

_READY = 180.0
"""Seconds that a new or restarted cluster gets to become Ready."""

_POLL = 0.2
"""Seconds between two looks, at least."""

_PAUSE = 2
"""Seconds between two looks, at most, while nodes are not Ready."""

_CORRECTED = "corrected the cluster's DNS"
"""What is told of it, once however often it was necessary."""

_ROUNDS = 6
"""More than any repair needs; ends a repair that goes in circles."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        actions: What was done, in order; empty where nothing had to be.
        drift: What has changed in the configuration since the cluster was made, a line each.
        unknown_origin: The cluster was not made by envkit, so drift cannot be told.
    """

    actions: tuple[str, ...]
    drift: tuple[str, ...] = ()
    unknown_origin: bool = False


class Reconciler:
    """Acts on one cluster. Used for one call of one of its public methods."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._environment = session.environment
        self._actions: list[str] = []
        self._created = self._waited = self._restarted = False
        self._kubeconfig = ""
        self._publishing: Future[None] | None = None
        self._noting: Future[None] | None = None

    def bring_up(self, *, may_create: bool = True) -> Outcome:
        """Ends with every node Ready, the registry answering, the kubeconfigs written and DNS records in place.

        Args:
            may_create: Make the cluster where there is none; otherwise that is an error.

        Raises UserError where that cannot be reached; names the cause and the next command.
        """
        observation = observe(self._environment)
        refuse_clashes(self._environment, observation.nodes, observation.registry)
        for _ in range(_ROUNDS):
            assessment = self._assess(observation)
            self._refuse_another_registry(observation, assessment)
            if assessment.state is State.RUNNING:
                self._finish(observation)
                return self._outcome(observation, assessment)
            observation = self._advance(observation, assessment, may_create=may_create)
        raise self._cannot_repair(self._assess(observation))

    def stop(self) -> bool:
        """Stops every container of the cluster, keeps everything; returns whether any ran."""
        nodes, registry = self._session.containers()
        refuse_clashes(self._environment, nodes, registry)
        shared = registry if registry and registry.shared else None
        parts = [container for container in (*nodes, None if shared else registry) if container]
        if not parts:
            raise UserError(f"There is no cluster {self._environment.cluster} to stop.", "", f"{just_command()} create")
        if not any(part.running for part in parts):
            return bool(shared and stop_shared_registry(self._session, shared))
        with self._session.steps.step("Stopping the cluster") as step:
            if nodes:
                self._session.k3d(step, "cluster", "stop", self._environment.cluster)
            if registry and not registry.shared and self._session.containers()[1] == registry and registry.running:
                docker("stop", registry.name, timeout=CHANGE_TIMEOUT)  # one that k3d does not count to the cluster
            if shared:
                stop_shared_registry(self._session, shared)
        return True

    def restart(self) -> Outcome:
        """Stops and brings up again, whatever the state was."""
        self.stop()
        return self.bring_up(may_create=False)

    def _advance(self, observation: Observation, assessment: Assessment, *, may_create: bool) -> Observation:
        """Takes the one action that the state asks for, and looks again."""
        state = assessment.state
        unfinished = state in (State.PARTIAL, State.BROKEN) and not self._is_finished(observation)
        if state is State.BROKEN and not assessment.restart and not self._waited:
            self._waited = True
            self._actions.append("waited until it worked")
            return self._wait("Waiting for the cluster to settle", _SETTLE)
        if state is State.ABSENT or (unfinished and state is State.PARTIAL):
            if not may_create:
                raise UserError(
                    f"There is no cluster {self._environment.cluster} to start.", "", f"{just_command()} create"
                )
            self._create(observation)
        elif state is State.PARTIAL:
            self._check_machine(observation, "repaired")
            self._actions += add_missing_parts(self._session, observation, assessment)
        elif state is State.STOPPED:
            self._start(observation)
        elif self._restarted:
            raise self._cannot_repair(assessment)
        elif unfinished and may_create:
            self._create(observation)
            self._restarted = True
        else:
            self._restart(observation, assessment)
        return self._wait("Waiting for the nodes", _READY)

    # -- looking ------------------------------------------------------------------------------------------------

    def _assess(self, observation: Observation) -> Assessment:
        drifted = is_drifted(observation, self._environment)
        return assess(observation, self._environment, _created_from(observation) if drifted else None)

    def _wait(self, title: str, seconds: float) -> Observation:
        """Looks until all works, or something is found that waiting cannot mend, or the time is over."""
        with self._session.steps.step(title) as step, ThreadPoolExecutor(max_workers=1) as pool:
            self._kubeconfig = refresh_host_kubeconfig(self._session)
            if self._created:
                self._noting = pool.submit(note_user, self._environment)
                self._publishing = pool.submit(self._publish_registry)
            deadline = time.monotonic() + seconds
            while True:
                observation = observe(self._environment)
                assessment = self._assess(observation)
                if assessment.state is not State.BROKEN or assessment.restart or time.monotonic() > deadline:
                    return observation
                self._forget_nodes(assessment)
                self._correct_records(observation, assessment)
                step.note(" ".join(assessment.reasons))
                self._pause()

    def _pause(self) -> None:
        """Lets time pass until the next look, which costs a starting cluster some of the processor that it needs."""
        end = time.monotonic() + _POLL
        self._session.wait_for_nodes(_PAUSE)
        time.sleep(max(0.0, end - time.monotonic()))

    def _forget_nodes(self, assessment: Assessment) -> None:
        for name in assessment.stale_nodes:
            self._session.kubectl("delete", "node", name, "--ignore-not-found")

    def _correct_records(self, observation: Observation, assessment: Assessment) -> None:
        """Writes what the cluster's DNS has missed, as the record of a registry whose container was made anew.

        A restart would have k3d write it, and interrupt what runs in the cluster.
        """
        if assessment.wrong_records and observation.server:
            correct_dns_records(self._session, observation.server)
            if _CORRECTED not in self._actions:
                self._actions.append(_CORRECTED)

    def _is_finished(self, observation: Observation) -> bool:
        """Whether the cluster may hold somebody's work.

        What envkit made carries its label, and its marker once the creation was complete. A cluster without the label
        was made by k3d itself; it is treated as somebody's.
        """
        server = observation.server
        if server is None:
            return False  # what a cluster holds is in its server
        return not server.config_hash or read_marker(server.name) is not None

    def _refuse_another_registry(self, observation: Observation, assessment: Assessment) -> None:
        """A cluster knows the registry that it was made with; there is no repair that gives it another one."""
        made_with = registry_name(_created_from(observation) or {}) if assessment.drifted else ""
        if made_with not in ("", self._environment.registry.name):
            raise UserError(
                f"The cluster {self._environment.cluster} was created with another registry, {made_with}.",
                f"The configuration names {self._environment.registry.name} since then.",
                f"{just_command()} delete && {just_command()} create   (the images in {made_with} stay in its volume)",
            )

    # -- acting -------------------------------------------------------------------------------------------------

    def _create(self, observation: Observation) -> None:
        from envkit.config import k3d_input

        self._check_machine(observation, "created")
        if observation.nodes or (observation.registry and not self._environment.registry.shared):
            remove_unfinished(self._session, observation)
            self._actions.append("removed an unfinished creation")
        with registry_lock(self._session, "create"), self._session.steps.step("Creating the cluster") as step:
            remove_network(self._session)
            if self._environment.registry.shared:
                ensure_shared_registry(self._session)
            stdin = k3d_input(self._environment)
            self._session.k3d(step, "cluster", "create", "--config", "-", stdin=stdin)
            if self._environment.corporate.described() and not self._environment.registry.shared:
                replace_new_registry(self._session)
        self._created = True
        self._actions.append("created the cluster")

    def _start(self, observation: Observation) -> None:
        self._check_machine(observation, "started")
        with self._session.steps.step("Starting the cluster") as step:
            anew = False
            if self._environment.registry.shared:
                with registry_lock(self._session, "start"):
                    anew = ensure_shared_registry(self._session)
            shared = observation.registry if self._environment.registry.shared else None
            parts = [part for part in observation.containers if part is not shared]
            if paused := [part.name for part in parts if part.state == "paused"]:
                docker("unpause", *paused)  # k3d cannot start what is paused
            if any(part.state not in ("running", "paused") for part in parts):
                self._k3d_start(step)
            elif anew and observation.server:
                correct_dns_records(self._session, observation.server)
        self._actions.append("started the cluster")

    def _restart(self, observation: Observation, assessment: Assessment) -> None:
        with self._session.steps.step("Restarting the cluster") as step:
            step.note(" ".join(assessment.reasons))
            self._session.k3d(step, "cluster", "stop", self._environment.cluster)
            if self._environment.registry.shared and not observation.registry_answers:
                # k3d does not count it to the cluster.
                docker("restart", self._environment.registry.name, timeout=CHANGE_TIMEOUT)
            self._k3d_start(step)
        self._restarted = True
        self._actions.append("restarted the cluster")

    def _k3d_start(self, step: Step) -> None:
        self._session.k3d(step, "cluster", "start", self._environment.cluster, "--wait", "--timeout=300s")

    def _check_machine(self, observation: Observation, action: str) -> None:
        """Refuses before anything is made or started; raises UserError with every problem in one list.

        Args:
            observation: What is there.
            action: `created`, `repaired` or `started`.
        """
        from envkit import preflight
        from envkit.neighbours import neighbours
        from envkit.port_list import others_ports

        with self._session.steps.step("Checking this machine"):
            own = preflight.own_published_ports(observation)
            others = others_ports(self._environment, neighbours(k3d_containers()))
            checks = preflight.check_names(self._environment, observation)
            if action == "created":
                checks.append(preflight.check_config(self._environment))
                checks += preflight.check_resources(self._environment)
                checks += preflight.check_corporate_network(self._environment)
                checks += preflight.check_inotify()
            if action != "started":
                checks += preflight.check_shared_registry(self._environment, observation)
                checks += preflight.check_ports(self._environment.ports, own, others)
            else:
                # A drifted cluster starts with the ports that it was made with.
                stopped = [part for part in observation.containers if not part.running]
                wanted = {(port.address, port.number, port.protocol) for part in stopped for port in part.published}
                uses = [use for use in self._environment.ports if (use.address, *use.key) in wanted]
                checks += preflight.check_ports(uses, own)
            preflight.require(checks, action, self._session.steps.say)

    def _finish(self, observation: Observation) -> None:
        """Sees to what a running cluster still lacks outside itself: registry hint, our marker, kubeconfigs.

        The marker before the kubeconfigs: a developer's own file that cannot be changed must not leave a cluster behind
        that works and counts as unfinished, because the next repair of such a cluster makes it anew.
        """
        if not observation.verified:
            self._complete(observation)
        if self._created or not kubeconfigs_are_current(self._session):
            with self._session.steps.step("Writing the kubeconfigs"):
                if write_kubeconfigs(self._session, text=self._kubeconfig, switch=self._created):
                    self._actions.append("wrote the kubeconfigs")
        # k3d's helper, left by a k3d that was killed
        remove_containers(node.name for node in observation.nodes if node.role == "noRole")

    def _complete(self, observation: Observation) -> None:
        """Marks a creation of ours as complete, once; from then on the cluster is somebody's."""
        if not _is_done(self._noting):
            note_user(self._environment)
        server = observation.server
        if server and server.config_hash and (self._created or read_marker(server.name) is None):
            with self._session.steps.step("Publishing the registry"):
                if not _is_done(self._publishing):
                    self._publish_registry()
                known = server.config_hash == self._environment.config_hash
                write_marker(server.name, self._environment.described if known else {})
        remember_verified(self._environment.cluster, observation.nodes)

    def _publish_registry(self) -> None:
        """Writes the config map by which Tilt, Skaffold and others find the registry (KEP-1755).

        k3d writes one that says 127.0.0.1; images of that name cannot be pulled in the cluster.
        """
        registry = self._environment.registry
        hosting = {
            "host": registry.host_names[1],
            "hostFromClusterNetwork": registry.cluster_names[0],
            "hostFromContainerRuntime": registry.cluster_names[0],
            "help": "https://k3d.io/stable/usage/registries/",
        }
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
            "data": {"localRegistryHosting.v1": "".join(f'{key}: "{value}"\n' for key, value in hosting.items())},
        }
        self._session.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=json.dumps(manifest))

    # -- ending -------------------------------------------------------------------------------------------------

    def _outcome(self, observation: Observation, assessment: Assessment) -> Outcome:
        server = observation.server
        drift = drift_between(_created_from(observation), self._environment.described) if assessment.drifted else []
        return Outcome(tuple(self._actions), tuple(drift), unknown_origin=bool(server and not server.config_hash))

    def _cannot_repair(self, assessment: Assessment) -> UserError:
        return UserError(
            f"The cluster {self._environment.cluster} is {assessment.state} and could not be repaired.",
            "\n".join(assessment.reasons),
            f"docker logs --tail 50 {self._environment.node_container}   (the cause)\n"
            f"{just_command()} delete && {just_command()} create   (a new cluster; images in the registry stay)",
        )


def _is_done(work: Future[None] | None) -> bool:
    return work is not None and work.exception() is None


def _created_from(observation: Observation) -> dict[str, Any] | None:
    return read_marker(observation.server.name) if observation.server else None
