"""Makes missing parts of a cluster that holds somebody's work anew, and touches no other part."""

from __future__ import annotations

from envkit.engine import docker, remove_containers
from envkit.errors import UserError
from envkit.load_balancer import run_load_balancer_container, update_targets
from envkit.observation import Observation, ask_api
from envkit.paths import just_command
from envkit.progress import Step
from envkit.registry import run_registry_container, wait_until_it_answers
from envkit.session import Session
from envkit.state import Assessment

_REGISTRY_SECONDS = 30
_MOST_AGENTS = 1000


def add_missing_parts(session: Session, observation: Observation, assessment: Assessment) -> list[str]:
    """Makes what is missing; returns what was done.

    Raises UserError where a server is missing: what ran in it is lost, and only a person may decide to go on.
    """
    missing = dict(assessment.missing or {})
    server = observation.server
    if "server" in missing or server is None:
        raise UserError(
            f"The cluster {session.environment.cluster} has lost a server node.",
            "What ran in it cannot be repaired; images in the registry stay.",
            f"{just_command()} delete && {just_command()} create",
        )
    actions = []
    if stopped := [node.name for node in observation.role("server") if not node.running]:
        with session.steps.step("Starting the server"):  # new nodes join a running server only
            docker("start", *stopped, timeout=60)
    if "registry" in missing:
        with session.steps.step("Making the registry anew"):
            remove_containers([observation.registry.name] if observation.registry else [])
            run_registry_container(session.environment)
            wait_until_it_answers(session.environment.registry, _REGISTRY_SECONDS)
        actions.append("made the registry anew")
    if "loadbalancer" in missing:
        with session.steps.step("Making the load balancer anew"):
            remove_containers([session.environment.load_balancer])
            run_load_balancer_container(session.environment, server, session.containers()[0])
        actions.append("made the load balancer anew")
    if number := missing.get("agent", 0):
        agents = "an agent" if number == 1 else f"{number} agents"
        with session.steps.step(f"Adding {agents}") as step:
            # Made by a k3d that was killed before it could give them their files.
            remove_containers(node.name for node in observation.role("agent") if node.state == "created")
            for _ in range(number):
                _add_agent(session, step)
            update_targets(session.environment, session.containers()[0])
        actions.append(f"added {agents}")
    return actions


def _add_agent(session: Session, step: Step) -> None:
    present = {node.name for node in session.containers()[0]}
    for name in set(ask_api(session.kubeconfigs.host).ready or {}) - present:
        # A new node of this name comes with a new password; Kubernetes would refuse it.
        session.kubectl("delete", "node", name, "--ignore-not-found")
    # k3d appends -0 to the name that it is given, so only the first agent can get its old name back.
    prefix = f"{session.environment.cluster}-agent"
    names = (prefix if i == 0 else f"{prefix}-{i}" for i in range(_MOST_AGENTS))
    name = next(name for name in names if not {f"k3d-{name}", f"k3d-{name}-0"} & present)
    session.k3d(step, "node", "create", name, "--cluster", session.environment.cluster, "--role", "agent", "--wait")
