"""Brings a cluster from whatever state it is in to the one that is wanted, by the shortest way.

Each round looks, names the state, takes one action and looks again. Nothing is remembered between rounds or runs but
what the engine itself holds, so a run that was interrupted, or killed, is simply continued by the next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from envkit.creation_marker import read_marker, write_marker
from envkit.engine import Container, docker, inspect, k3d_containers, published_ports, remove_containers
from envkit.environment import Environment
from envkit.errors import CommandFailedError, UserError
from envkit.files import write_private
from envkit.kubeconfig import (
    KubeconfigPaths,
    devcontainer_kubeconfig,
    has_current_entries,
    kubeconfig_paths,
    merge,
    unmerge,
)
from envkit.load_balancer import run_load_balancer_container, update_targets
from envkit.observation import Observation, ask_api, observe, split
from envkit.paths import just_command
from envkit.process import capture, stream
from envkit.progress import Step, Steps
from envkit.registry import run_registry_container, wait_until_it_answers
from envkit.state import Assessment, State, assess, drift_between, is_drifted
from envkit.verified import remember_verified

_SETTLE = 90.0
"""Seconds that a running cluster gets to become Ready by itself before it is restarted."""

_READY = 180.0
"""Seconds that a new or restarted cluster gets to become Ready."""

_ROUNDS = 6


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
    """Acts on one cluster. The caller holds the cluster's lock.

    Args:
        environment: What should be there.
        steps: Where progress is shown.
        lock_fd: The lock's descriptor, handed on to k3d so that the lock lives as long as k3d does.
    """

    def __init__(self, environment: Environment, steps: Steps, lock_fd: int) -> None:
        self.environment = self._env = environment
        self._steps = steps
        self._lock_fd = lock_fd
        self._paths: KubeconfigPaths = kubeconfig_paths(environment.context)

    def bring_up(self, *, may_create: bool = True) -> Outcome:
        """Ends with every node Ready, the registry answering, both kubeconfigs written and DNS records in place.

        Raises:
            UserError: That cannot be reached; names the cause and the next command.
        """
        actions: list[str] = []
        settled = restarted = False
        observation = observe(self._env)
        for _ in range(_ROUNDS):
            assessment = self._assess(observation)
            match assessment.state:
                case State.RUNNING:
                    actions += self._finish(observation, new="created the cluster" in actions)
                    return self._outcome(observation, assessment, actions)
                case State.ABSENT:
                    if not may_create:
                        raise _nothing_to_start(self._env)
                    self._check_before(observation, "created")
                    self._create()
                    actions.append("created the cluster")
                case State.PARTIAL if not self._is_finished(observation):
                    if not may_create:
                        raise _nothing_to_start(self._env)
                    self._check_before(observation, "created")
                    self._remove_unfinished(observation)
                    self._create()
                    actions += ["removed an unfinished creation", "created the cluster"]
                case State.PARTIAL:
                    actions += self._add_missing(observation, assessment)
                case State.STOPPED:
                    self._check_before(observation, "started")
                    with self._steps.step("Starting the cluster") as step:
                        self._k3d(step, "cluster", "start", self._env.cluster, "--wait", "--timeout=300s")
                    actions.append("started the cluster")
                case State.BROKEN if not assessment.restart and not settled:
                    observation = self._wait_until_it_settles(assessment)
                    settled = True
                    actions.append("waited for the cluster to settle")
                    continue
                case State.BROKEN if not restarted:
                    if not self._is_finished(observation) and may_create:
                        self._remove_unfinished(observation)
                        actions.append("removed an unfinished creation")
                    else:
                        self._restart(assessment)
                        actions.append("restarted the cluster")
                    restarted, settled = True, False
                case _:
                    raise self._cannot_repair(assessment)
            observation = self._observe_after_action()
        raise self._cannot_repair(self._assess(observation))

    def stop(self) -> bool:
        """Stops every container of the cluster, keeps everything; returns whether any ran."""
        nodes, registry = self._look()
        running = [c for c in (*nodes, *([registry] if registry else [])) if c.running]
        if not nodes and not registry:
            raise UserError(
                f"There is no cluster {self._env.cluster} to stop.", "", f"{just_command()} create"
            )
        if not running:
            return False
        with self._steps.step("Stopping the cluster") as step:
            if nodes:
                self._k3d(step, "cluster", "stop", self._env.cluster)
            if registry and registry.running:
                docker("stop", registry.name, timeout=60)
        return True

    def restart(self) -> Outcome:
        """Stops and brings up again, whatever the state was."""
        self.stop()
        return self.bring_up(may_create=False)

    def delete(self, *, registry_data: bool) -> list[str]:
        """Removes cluster, registry, network and kubeconfigs; returns what was removed.

        Args:
            registry_data: Remove the registry's volume too, and with it every image in it.

        Raises UserError where something is left.
        """
        removed: list[str] = []
        nodes, registry = self._look()
        with self._steps.step("Deleting the cluster") as step:
            if nodes:
                self._k3d(step, "cluster", "delete", self._env.cluster)
                removed.append(f"cluster {self._env.cluster} ({len(nodes)} containers)")
            nodes, still = self._look()
            remove_containers(c.name for c in (*nodes, *([still] if still else [])))
            if registry:
                removed.append(f"registry container {registry.name}")
            removed += self._remove_volume(self._env.image_volume)
            if registry_data and self._env.registry.volume:
                removed += self._remove_volume(self._env.registry.volume)
            removed += self._remove_network()
        with self._steps.step("Removing the kubeconfigs"):
            removed += self.remove_kubeconfigs()
        return removed

    def remove_kubeconfigs(self) -> list[str]:
        """Removes this environment's files and its entries in the developer's own; returns what was removed."""
        removed = []
        for path in (self._paths.host, self._paths.devcontainer):
            if path.exists():
                path.unlink()
                removed.append(str(path))
        if unmerge(self._paths.merged, self._env.context):
            removed.append(f"context {self._env.context} in {self._paths.merged}")
        return removed

    def write_kubeconfigs(self, *, switch: bool = False) -> list[str]:
        """Writes both files from what k3d knows and merges the entries; returns the files that changed."""
        text = capture(["k3d", "kubeconfig", "get", self._env.cluster], timeout=30).removeprefix("---\n")
        changed = []
        if write_private(self._paths.host, text):
            changed.append(str(self._paths.host))
        if write_private(self._paths.devcontainer, devcontainer_kubeconfig(text, self._env.load_balancer)):
            changed.append(str(self._paths.devcontainer))
        if self._paths.merged not in (self._paths.host, self._paths.devcontainer) and merge(
            self._paths.merged, text, self._env.context, switch=switch
        ):
            changed.append(str(self._paths.merged))
        return changed

    # -- looking ------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[tuple[Container, ...], Container | None]:
        return split(k3d_containers(), self._env)

    def _assess(self, observation: Observation) -> Assessment:
        drifted = is_drifted(observation, self._env)
        return assess(observation, self._env, self._created_from(observation) if drifted else None)

    def _created_from(self, observation: Observation) -> dict[str, Any] | None:
        return read_marker(observation.server.name) if observation.server else None

    def _observe_after_action(self) -> Observation:
        """Looks again once the API has had its time; the kubeconfig is renewed first, the cluster may be a new one."""
        with self._steps.step("Waiting for the nodes") as step:
            self._refresh_host_kubeconfig()
            return self._wait(_READY, step, lambda a: a.state is not State.BROKEN or a.restart)

    def _wait_until_it_settles(self, assessment: Assessment) -> Observation:
        with self._steps.step("Waiting for the cluster to settle") as step:
            step.note(" ".join(assessment.reasons))
            self._refresh_host_kubeconfig()
            return self._wait(_SETTLE, step, lambda a: a.state is not State.BROKEN or a.restart)

    def _wait(self, seconds: float, step: Step, done: Callable[[Assessment], bool]) -> Observation:
        deadline = time.monotonic() + seconds
        while True:
            observation = observe(self._env)
            assessment = self._assess(observation)
            if done(assessment) or time.monotonic() > deadline:
                return observation
            for name in assessment.stale_nodes:
                self._kubectl("delete", "node", name, "--ignore-not-found")
            step.note(" ".join(assessment.reasons))
            time.sleep(0.2)

    def _refresh_host_kubeconfig(self) -> None:
        """Renews the file that we ask the API with; k3d reads it from the server's container."""
        try:
            text = capture(["k3d", "kubeconfig", "get", self._env.cluster], timeout=30).removeprefix("---\n")
        except CommandFailedError:  # the server does not run; the state says so better
            return
        write_private(self._paths.host, text)

    def _is_finished(self, observation: Observation) -> bool:
        """Whether the cluster may hold somebody's work.

        What envkit made carries its label, and its marker once the creation was complete. A cluster without the label
        was made by k3d itself; it is treated as somebody's.
        """
        server = observation.server
        if server is None:
            return False  # what a cluster holds is in its server
        return not server.config_hash or self._created_from(observation) is not None

    # -- acting -------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        from envkit.config import k3d_input

        with self._steps.step("Creating the cluster") as step:
            self._remove_network()
            stream(
                ["k3d", "cluster", "create", "--config", "-"],
                lambda line: step.note(_k3d_message(line)),
                stdin=k3d_input(self._env),
                pass_fds=[self._lock_fd],
                next_step=f"{just_command()} doctor   (then: {just_command()} create)",
            )

    def _remove_unfinished(self, observation: Observation) -> None:
        with self._steps.step("Removing an unfinished creation"):
            parts = [*observation.nodes, *([observation.registry] if observation.registry else [])]
            remove_containers(part.name for part in parts)
            self._remove_volume(self._env.image_volume)
            self._remove_network()

    def _add_missing(self, observation: Observation, assessment: Assessment) -> list[str]:
        """Makes the missing parts of a cluster that holds somebody's work; touches no other part."""
        missing = dict(assessment.missing or {})
        if "server" in missing:
            raise UserError(
                f"The cluster {self._env.cluster} has lost a server node.",
                "What ran in it cannot be repaired; images in the registry stay.",
                f"{just_command()} delete && {just_command()} create",
            )
        actions = []
        if not all(node.running for node in observation.role("server")):
            # New nodes join a running server.
            with self._steps.step("Starting the server") as step:
                docker("start", *(node.name for node in observation.role("server")), timeout=60)
                step.note("")
        if "registry" in missing:
            with self._steps.step("Making the registry anew"):
                if observation.registry:
                    remove_containers([observation.registry.name])
                run_registry_container(self._env)
                wait_until_it_answers(self._env.registry, 30)
            actions.append("made the registry anew")
        if "loadbalancer" in missing:
            with self._steps.step("Making the load balancer anew"):
                remove_containers([self._env.load_balancer])
                nodes, _ = self._look()
                server = observation.server
                assert server is not None, "a missing server was refused above"
                run_load_balancer_container(self._env, server, nodes)
            actions.append("made the load balancer anew")
        if number := missing.get("agent", 0):
            with self._steps.step(f"Adding {number} agent{'s' if number > 1 else ''}") as step:
                remove_containers(node.name for node in observation.role("agent") if node.state == "created")
                self._add_agents(step, number)
            actions.append(f"added {number} agent{'s' if number > 1 else ''}")
        return actions

    def _add_agents(self, step: Step, number: int) -> None:
        for _ in range(number):
            nodes, _registry = self._look()
            taken = {node.name for node in nodes}
            for node in set(ask_api(self._paths.host).ready or {}) - taken:
                # A node of the same name joins with a new password; Kubernetes would refuse it.
                self._kubectl("delete", "node", node, "--ignore-not-found")
            # k3d appends -0 to the name that it is given, so only the first agent can get its old name back.
            prefix = f"{self._env.cluster}-agent"
            index = next(i for i in range(1000) if not {f"k3d-{prefix}-{i}", f"k3d-{prefix}-{i}-0"} & taken)
            name = prefix if index == 0 else f"{prefix}-{index}"
            self._k3d(step, "node", "create", name, "--cluster", self._env.cluster, "--role", "agent", "--wait")
        nodes, _registry = self._look()
        update_targets(self._env, nodes)

    def _restart(self, assessment: Assessment) -> None:
        with self._steps.step("Restarting the cluster") as step:
            step.note(" ".join(assessment.reasons))
            self._k3d(step, "cluster", "stop", self._env.cluster)
            self._k3d(step, "cluster", "start", self._env.cluster, "--wait", "--timeout=300s")

    def _finish(self, observation: Observation, *, new: bool) -> list[str]:
        """What a running cluster still lacks outside itself: kubeconfigs, the registry hint, our marker."""
        actions = []
        if new or not self._kubeconfigs_are_current():
            with self._steps.step("Writing the kubeconfigs"):
                if self.write_kubeconfigs(switch=new):
                    actions.append("wrote the kubeconfigs")
        if not observation.verified:
            self._complete(observation, new=new)
        leftover = [node.name for node in observation.nodes if node.role == "noRole"]
        if leftover:  # k3d's helper, left by a k3d that was killed
            remove_containers(leftover)
        return actions

    def _complete(self, observation: Observation, *, new: bool) -> None:
        """Marks a creation of ours as complete, once; from then on the cluster is somebody's."""
        server = observation.server
        if server and server.config_hash and (new or read_marker(server.name) is None):
            with self._steps.step("Publishing the registry"):
                self._publish_registry()
                known = server.config_hash == self._env.config_hash
                write_marker(server.name, self._env.effective if known else {})
        remember_verified(self._env.cluster, observation.nodes)

    def _publish_registry(self) -> None:
        """Writes the config map by which Tilt, Skaffold and others find the registry (KEP-1755).

        k3d writes one that says 127.0.0.1; images of that name cannot be pulled in the cluster.
        """
        hosting = {
            "host": self._env.registry.host_names[1],
            "hostFromClusterNetwork": self._env.registry.cluster_names[0],
            "hostFromContainerRuntime": self._env.registry.cluster_names[0],
            "help": "https://k3d.io/stable/usage/registries/",
        }
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "local-registry-hosting", "namespace": "kube-public"},
            "data": {"localRegistryHosting.v1": "".join(f'{key}: "{value}"\n' for key, value in hosting.items())},
        }
        self._kubectl("apply", "--filename=-", stdin=json.dumps(manifest))

    def _kubeconfigs_are_current(self) -> bool:
        """Whether all files are there and agree; that the cluster accepts the first was seen when it was asked."""
        try:
            text = self._paths.host.read_text(encoding="utf-8")
            container = self._paths.devcontainer.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False
        private = all(path.stat().st_mode & 0o077 == 0 for path in (self._paths.host, self._paths.devcontainer))
        return (
            private
            and container == devcontainer_kubeconfig(text, self._env.load_balancer)
            and has_current_entries(self._paths.merged, text, self._env.context)
        )

    def _check_before(self, observation: Observation, action: str) -> None:
        from envkit import preflight

        with self._steps.step("Checking this machine"):
            own = preflight.own_published_ports(observation)
            checks = preflight.check_names(self._env, observation)
            if action == "created":
                checks += [preflight.check_config(self._env), *preflight.check_resources(self._env)]
                checks += preflight.check_inotify() + preflight.check_ports(self._env, own)
            else:
                stopped = [node.name for node in observation.nodes if not node.running]
                if observation.registry and not observation.registry.running:
                    stopped.append(observation.registry.name)
                wanted = {port for ports in published_ports(stopped).values() for _, port in ports}
                checks += [
                    check
                    for check in preflight.check_ports(self._env, own)
                    if any(check.subject == f"Port {port}" for port in wanted)
                ]
            preflight.require(checks, action, self._steps.say)

    def _remove_volume(self, name: str) -> list[str]:
        if not inspect("volume", name):
            return []
        docker("volume", "rm", name, timeout=60)
        return [f"volume {name}"]

    def _remove_network(self) -> list[str]:
        """Removes the cluster's network unless something else still uses it, such as a dev container."""
        network = inspect("network", self._env.network)
        if not network:
            return []
        if attached := [c["Name"] for c in (network[0].get("Containers") or {}).values()]:
            self._steps.say(f"The network {self._env.network} stays: in use by {', '.join(sorted(attached))}.")
            return []
        docker("network", "rm", self._env.network, timeout=60)
        return [f"network {self._env.network}"]

    def _k3d(self, step: Step, *arguments: str) -> None:
        stream(
            ["k3d", *arguments],
            lambda line: step.note(_k3d_message(line)),
            pass_fds=[self._lock_fd],
            next_step=f"{just_command()} doctor",
        )

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return capture(
            ["kubectl", f"--kubeconfig={self._paths.host}", "--request-timeout=20s", *arguments],
            stdin=stdin,
            timeout=30,
            next_step=f"{just_command()} status",
        )

    # -- ending -------------------------------------------------------------------------------------------------

    def _outcome(self, observation: Observation, assessment: Assessment, actions: list[str]) -> Outcome:
        server = observation.server
        drift: list[str] = []
        if assessment.drifted:
            created_from = self._created_from(observation)
            drift = drift_between(created_from, self._env.effective) if created_from else ["(details are not known)"]
        return Outcome(tuple(actions), tuple(drift), unknown_origin=bool(server and not server.config_hash))

    def _cannot_repair(self, assessment: Assessment) -> UserError:
        return UserError(
            f"The cluster {self._env.cluster} is {assessment.state} and could not be repaired.",
            "\n".join(assessment.reasons),
            f"docker logs --tail 50 k3d-{self._env.cluster}-server-0   (the cause)\n"
            f"{just_command()} delete && {just_command()} create   (a new cluster; images in the registry stay)",
        )


def _nothing_to_start(environment: Environment) -> UserError:
    return UserError(f"There is no cluster {environment.cluster} to start.", "", f"{just_command()} create")


def _k3d_message(line: str) -> str:
    """The message of a k3d log line, without colour, level and counter."""
    import re

    plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
    return re.sub(r"^[A-Z]{4}\[\d+\]\s*", "", plain).strip()
