"""Installing and removing Actions Runner Controller: what is to be done is decided here, Ansible does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from envkit.arc.ansible import is_prepared, prepare_ansible, started_playbook
from envkit.arc.api_proxy import proxied
from envkit.arc.causes import error_lines, find_cause
from envkit.arc.kube import CONTROLLER_SELECTOR, Kube, Resource, Resources, kube_of, labels, name, namespace, rfc3339
from envkit.arc.leftovers import Release, false_memory, left_definitions
from envkit.arc.preflight import find_problems, refusal
from envkit.arc.settings import (
    CONTROLLER_NAMESPACE,
    CONTROLLER_RELEASE,
    OWNER_LABEL,
    RUNNERS_NAMESPACE,
    ArcSettings,
    LocalSettings,
    read_arc_settings,
)
from envkit.arc.state import ArcState, ScaleSet, assess, foreign_scale_sets
from envkit.arc.wait import ScaleSetLostError, outdated, wait_until_ready
from envkit.cluster import Cluster
from envkit.consent import agrees, can_ask
from envkit.errors import CommandFailedError, UserError
from envkit.existing import ownership
from envkit.existing.cluster import ExistingCluster
from envkit.existing.emptiness import empty_namespaces, why_namespaces_stay
from envkit.paths import just_command
from envkit.progress import Steps

_RESTART_TASK = "Have the controller try again at once"
"""The task of the role arc_runners that lets the controller start again, so that it reads new credentials."""

_NAMESPACES = [
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        # Rootless BuildKit needs the Unconfined seccomp profile, which the other levels refuse.
        "metadata": {"name": RUNNERS_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
    }
]
_WHOLE_REMOVAL: dict[str, Any] = {
    "controller": True,
    "definitions": ownership.all_definitions(),
    "objects": [],
    "namespaces": [RUNNERS_NAMESPACE, CONTROLLER_NAMESPACE],
    "only_empty": False,
    "selector": [],
}

_CHECKING = "Checking credentials, settings, cluster and image"

_SETTLE_SECONDS = 6.0
"""How long all has to be well after a restart of the controller, which signs in within a second of its start."""


@dataclass(frozen=True)
class Installed:
    """The result of an installation.

    Attributes:
        state: How everything is at the end.
        changed: How many of Ansible's tasks changed something.
    """

    state: ArcState
    changed: int


def install(cluster: Cluster, steps: Steps, *, verify: bool, assume_yes: bool, adopt: bool = False) -> Installed:
    """Brings controller and runners to what the files say, and waits until jobs would be run.

    Args:
        cluster: The cluster.
        steps: Where progress is shown.
        verify: Ask GitHub beforehand whether the credentials are good.
        assume_yes: Replace another minor version without asking.
        adopt: Use the controller that another team has installed.

    Raises:
        UserError: Something stands in the way, or the runners do not come up; says what helps.
    """
    if not is_prepared():  # that takes a while, for which a person with something to mend need not wait
        with steps.step(_CHECKING), _checked(cluster, verify=verify, adopt=adopt):
            pass
        prepare_ansible("install-arc")
    with suppress(ScaleSetLostError):
        return _install(cluster, steps, verify=verify, assume_yes=assume_yes, adopt=adopt)
    steps.say("GitHub no longer has the scale set; it is made anew.")
    return _install(cluster, steps, verify=verify, assume_yes=assume_yes, adopt=adopt, is_lost=True)


def _install(
    cluster: Cluster,
    steps: Steps,
    *,
    verify: bool,
    assume_yes: bool,
    adopt: bool,
    is_lost: bool = False,
) -> Installed:
    """As `install`; `is_lost` says that GitHub no longer has the scale set. Raises ScaleSetLostError if that shows."""
    with started_playbook("install-arc") as playbook, ExitStack() as held:
        with steps.step(_CHECKING):
            checked = _checked(cluster, verify=verify, adopt=adopt, is_lost=is_lost)
            kube, settings, plan, before = held.enter_context(checked)
        if plan["replace"]:
            _confirm_replacement(plan, before, assume_yes=assume_yes)
        elif plan["remove"] and before.scale_set:
            busy = f" Runners with a job, which is waited for: {count}." if (count := before.count("busy")) else ""
            steps.say(f"The runners leave {before.scale_set.config_url} and move to {settings.config_url}.{busy}")
        elif plan["runners"]["leaving"]:
            steps.say("The runners are still being removed. They are installed anew once GitHub has let them go.")
        for note in plan["notes"]:
            steps.say(note)
        since = datetime.now(UTC)
        with steps.step("Installing the controller and the runners") as step:
            try:
                recap = playbook.finish(plan, step.note, next_step=f"{just_command()} install-arc")
            except CommandFailedError as error:
                if _is_going(kube, settings.name):
                    raise _not_removed(kube, error, since) from error
                raise
        with steps.step("Waiting for GitHub, the listener and the first runner") as step:
            # The old listener may run on with the old credentials for a while.
            settle = _SETTLE_SECONDS if _RESTART_TASK in recap.changed_tasks else 0
            state = wait_until_ready(
                kube,
                settings.name,
                since=since,
                on_state=step.note,
                settle=settle,
                nodes_may_come=isinstance(cluster, ExistingCluster),
            )
    return Installed(state, recap.changed)


@dataclass(frozen=True)
class Removed:
    """The result of a removal.

    Attributes:
        scale_sets: Names of the scale sets that are gone.
        others: What went with them, in words.
        config_url: Where they were on GitHub.
        changed: Whether anything was there at all.
    """

    scale_sets: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    config_url: str = ""
    changed: bool = False


def remove(cluster: Cluster, steps: Steps, *, force: bool) -> Removed:
    """Takes the runners off GitHub and out of the cluster, then removes controller, definitions and namespaces.

    In a cluster that was there already only what is this environment's goes.

    Args:
        cluster: The cluster.
        steps: Where progress is shown.
        force: Do not wait for controller and GitHub: take away what keeps resources from going.

    Raises:
        UserError: It could not be removed; says why, and what `--force` would do.
    """
    prepare_ansible("delete-arc")
    with started_playbook("delete-arc", force=force) as playbook, ExitStack() as held:
        with steps.step("Looking at what is there"):
            kube, _ = find_controller(cluster)
            kube = held.enter_context(proxied(kube))
            if not kube.has_traces():
                return Removed()
            resources = kube.resources()
            plan = plan_removal(cluster, resources, kube)
            settings = read_arc_settings(cluster)
            state = assess(resources, settings.name)
        if not force and not isinstance(cluster, ExistingCluster):
            _refuse_foreign(kube, resources)
        if not force and plan["delete"]["has_scale_sets"]:
            _require_controller(resources)
        if busy := state.count("busy"):
            steps.say(f"Runners with a job: {busy}. GitHub lets them go when it is done.")
        since = datetime.now(UTC)
        words = _removed_parts(plan["delete"])
        with steps.step(f"Removing {', '.join(['runners', *words])}") as step:
            try:
                again = f"{just_command()} delete-arc --force   (goes on where this has ended)"
                recap = playbook.finish(plan, step.note, next_step=again)
            except CommandFailedError as error:
                if force:
                    raise
                raise _not_removed(kube, error, since) from error
        if plan["delete"]["only_empty"]:
            for sentence in why_namespaces_stay(kube, plan["delete"]["namespaces"], cluster.name):
                steps.say(sentence)
    config_url = state.scale_set.config_url if state.scale_set else settings.config_url
    return Removed(tuple(plan["delete"]["releases"]), tuple(words), config_url, recap.changed > 0)


def plan_for_ansible(cluster: Cluster, purpose: Literal["install", "delete", "empty-namespaces"]) -> Mapping[str, Any]:
    """The playbooks' variable `arc_preflight_facts`, for those who run them without envkit. Raises as `install`."""
    kube, controller = find_controller(cluster)
    if purpose == "empty-namespaces":
        claims = ownership.read_claims(kube, cluster.name)
        return {"namespaces": empty_namespaces(kube, claims.own_namespaces(), cluster.name)}
    if purpose == "delete":
        return {**plan_removal(cluster, kube.resources(), kube), "called_by_envkit": False}
    settings = read_arc_settings(cluster)
    if controller:
        settings = ownership.adopted(settings, controller)
    plan, _ = _plan_install(
        cluster, settings, kube, verify=False, adopt=False, is_ours=controller is None, holds_lock=False
    )
    return {**plan, "called_by_envkit": False}


def find_controller(cluster: Cluster) -> tuple[Kube, Resource | None]:
    """The calls for a cluster, and the controller if it is another team's; the checks say if the API is silent."""
    kube = kube_of(cluster)
    if isinstance(cluster, ExistingCluster):
        with suppress(CommandFailedError):
            return ownership.kube_with_controller(kube, cluster.name)
    return kube, None


def plan_removal(cluster: Cluster, resources: Resources, kube: Kube) -> dict[str, Any]:
    """What a removal has to know."""
    is_existing = isinstance(cluster, ExistingCluster)
    in_namespace = [item for item in resources.scale_sets if namespace(item) == RUNNERS_NAMESPACE]
    own = [item for item in in_namespace if not is_existing or labels(item).get(OWNER_LABEL) == cluster.name]
    names = {name(item) for item in own}
    # A release without its scale set, as after one that the API refused, is known by its name alone.
    left = set(kube.releases(RUNNERS_NAMESPACE)) - {name(item) for item in in_namespace}
    names |= left & {read_arc_settings(cluster).name} if is_existing else left
    releases = sorted(names)
    # Without a scale set nobody frees these.
    protected = kube.protected(RUNNERS_NAMESPACE, releases if is_existing else None)
    return {
        **_place(kube),
        "delete": {
            "releases": releases,
            "protected": protected,
            "has_scale_sets": bool(own),
            **(
                ownership.removal(ownership.read_claims(kube, cluster.name), resources, releases)
                if is_existing
                else _WHOLE_REMOVAL
            ),
        },
    }


def _place(kube: Kube) -> dict[str, Any]:
    """Where a playbook works, and for whom."""
    return {"called_by_envkit": True, "kubeconfig": str(kube.kubeconfig), "context": kube.context}


def _removed_parts(delete: Mapping[str, Any]) -> list[str]:
    parts = {
        "the controller": delete["controller"],
        "its resource definitions": delete["definitions"],
        "the namespaces that are empty": delete["only_empty"] and delete["namespaces"],
        "both namespaces": not delete["only_empty"],
    }
    return [words for words, is_removed in parts.items() if is_removed]


@contextmanager
def _checked(
    cluster: Cluster, *, verify: bool, adopt: bool, is_lost: bool = False
) -> Iterator[tuple[Kube, ArcSettings, dict[str, Any], ArcState]]:
    """The calls for the cluster, the settings as they fit its controller, the plan, and what is there before."""
    settings = read_arc_settings(cluster)
    kube, controller = find_controller(cluster)
    if controller:
        settings = ownership.adopted(settings, controller)
    with proxied(kube) as kube:
        plan, before = _plan_install(
            cluster, settings, kube, verify=verify, adopt=adopt, is_ours=controller is None, is_lost=is_lost
        )
        yield kube, settings, plan, before


@dataclass(frozen=True)
class _Course:
    """What becomes of what is there before the installation.

    Attributes:
        replace: All of it is removed: the controller is of another minor version.
        moves: The scale set leaves an organisation or repository that it no longer belongs to.
        anew: The scale set is made anew, under the same name.
        leaving: It is being removed already.
        kept: The scale set that is upgraded; None where none is.
    """

    replace: bool
    moves: bool
    anew: bool
    leaving: bool
    kept: ScaleSet | None

    @property
    def removes_first(self) -> bool:
        """Whether the runners are removed before anything is installed."""
        return self.replace or self.moves


def _course(before: ArcState, settings: ArcSettings, *, is_lost: bool) -> _Course:
    """Raises UserError for a scale set that GitHub has refused, and would refuse again."""
    present = before.scale_set
    replace = needs_replacement(before.controller.version, settings.version)
    moves = bool(present and present.registered and not present.belongs_to(settings.config_url))
    parked = present if present and present.phase == "Outdated" else None
    if parked and parked.image == settings.image:
        raise outdated(before)
    leaving = bool(present and present.deleting and not (replace or moves))
    # 0.14 never takes up a parked set again, whatever changes.
    anew = bool(parked or leaving or is_lost)
    return _Course(replace, moves, anew, leaving, None if replace or moves or anew else present)


def _plan_install(
    cluster: Cluster,
    settings: ArcSettings,
    kube: Kube,
    *,
    verify: bool,
    adopt: bool,
    is_ours: bool,
    is_lost: bool = False,
    holds_lock: bool = True,
) -> tuple[dict[str, Any], ArcState]:
    """What the playbook has to do, and what is there before. Raises UserError where something stands in the way."""
    problems, resources = find_problems(cluster, settings, kube, verify=verify, adopt=adopt)
    if problems:
        raise refusal(problems)
    before = assess(resources, settings.name)
    course = _course(before, settings, is_lost=is_lost)
    place = plan_removal(cluster, resources, kube) if course.replace else _place(kube)
    if course.replace and not place["delete"]["controller"]:
        raise _cannot_replace(before.controller.version, settings.version)
    if course.moves and not course.replace:
        place["delete"] = {"releases": [settings.name], "controller": False, "definitions": []}
    claims = ownership.read_claims(kube, cluster.name) if isinstance(cluster, ExistingCluster) else None
    releases = _upgraded(settings, resources, course, claims, is_ours=is_ours)
    memory = false_memory(kube, releases, alone=holds_lock and claims is None)
    definitions = left_definitions(kube, settings, resources, claims)
    if definitions.remove:
        place["delete"] = {"releases": [], "controller": False, "definitions": list(definitions.remove)}
    owned = _owned_parts(cluster, settings, claims, is_ours=is_ours)
    own = {name(item) for item in resources.scale_sets if labels(item).get(OWNER_LABEL) == cluster.name}
    others = [each for each in before.others if each in own or not isinstance(cluster, ExistingCluster)]
    return {
        **place,
        "version": settings.version,
        "installed": before.controller.version,
        "replace": course.replace,
        # A scale set keeps the number that its first organisation or repository has given it, and would go by it at the
        # next one. It leaves with the credentials that it came with, so before others take their place.
        "remove": course.removes_first or bool(definitions.remove),
        "forget": list(memory.secrets),
        "lost": settings.name if is_lost else "",
        "notes": [*memory.notes, *filter(None, [definitions.note])],
        "protected": kube.protected(RUNNERS_NAMESPACE, [settings.name]) if is_lost else [],
        "plain_http": settings.plain_http,
        "controller": {"chart": settings.chart("controller"), **owned["controller"]},
        "runners": {
            "name": settings.name,
            "chart": settings.chart("runners"),
            "values": settings.runner_values,
            **owned["runners"],
            "has_secrets": settings.corporate.has_proxy or settings.local.has_token,
            "present": course.kept is not None,
            "retry": course.kept is not None and not course.kept.registered,
            "stale": [] if course.replace else [*others, *([settings.name] if course.anew else [])],
            # What keeps it may be credentials that are right by now.
            "leaving": course.leaving and not is_lost,
        },
        "credentials": _credentials(settings.local),
    }, before


def _upgraded(
    settings: ArcSettings, resources: Resources, course: _Course, claims: ownership.Claims | None, *, is_ours: bool
) -> list[Release]:
    """The releases that Helm may know already; what is removed first, it takes back by itself."""
    has_controller = any(namespace(item) == CONTROLLER_NAMESPACE for item in resources.deployments)
    upgraded = []
    if is_ours and not course.replace:
        upgraded.append((CONTROLLER_NAMESPACE, CONTROLLER_RELEASE, has_controller))
    if not course.removes_first and not course.anew:
        upgraded.append((RUNNERS_NAMESPACE, settings.name, course.kept is not None))
    return [
        Release(
            where, release, is_there, is_ours=claims is None or ownership.has_own(claims, resources, where, release)
        )
        for where, release, is_there in upgraded
    ]


def _credentials(local: LocalSettings) -> dict[str, str]:
    """Those of the App, whose key the playbook reads itself; empty where a token takes their place."""
    if local.has_token:
        return {"app_id": "", "installation_id": "", "private_key_file": ""}
    return {
        "app_id": local.app_id,
        "installation_id": local.installation_id,
        "private_key_file": str(local.private_key_file),
    }


def _is_going(kube: Kube, wanted: str) -> bool:
    try:
        scale_set = assess(kube.own_resources(), wanted).scale_set
    except CommandFailedError:
        return False
    return scale_set is not None and scale_set.deleting


def _owned_parts(
    cluster: Cluster, settings: ArcSettings, claims: ownership.Claims | None, *, is_ours: bool
) -> dict[str, Any]:
    """What bears our label in a cluster that others use, too; everything is ours in one that we made.

    `is_ours` says whether no other team's controller watches over the runners.
    """
    manifests = list(settings.manifests)
    if claims is None:
        return {
            "controller": {"values": settings.controller_values, "install": True, "definitions": []},
            "runners": {"manifests": manifests, "namespaces": _NAMESPACES, "labels": {}, "restart": True},
        }
    return {
        "controller": {
            "values": ownership.marked(dict(settings.controller_values), cluster.name),
            "install": is_ours,
            "definitions": ownership.definitions_to_mark(claims) if is_ours else [],
        },
        "runners": {
            "manifests": [ownership.marked(dict(item), cluster.name) for item in manifests],
            "namespaces": ownership.namespaces_to_make(claims, with_controller=is_ours),
            "labels": {OWNER_LABEL: cluster.name},
            # Another team's runners need it, too.
            "restart": is_ours,
        },
    }


def _cannot_replace(installed: str, wanted: str) -> UserError:
    return UserError(
        f"ARC {installed} is installed, and {wanted} cannot take it over.",
        "It would have to be removed first, and scale sets that this environment did not install need it.",
        f"{just_command()} update -d arc_version={installed}   (or agree on a version with their owners)",
    )


def needs_replacement(installed: str, wanted: str) -> bool:
    """Whether a version has to be removed first: a controller deletes scale sets of another major or minor version."""
    return bool(installed) and installed.split(".")[:2] != wanted.split(".")[:2]


def _confirm_replacement(plan: Mapping[str, Any], before: ArcState, *, assume_yes: bool) -> None:
    busy = before.count("busy")
    why = (
        f"ARC {plan['installed']} is installed, and {plan['version']} cannot take it over: runners and controller"
        f" have to be removed and installed anew.{f' Runners with a job, which is waited for: {busy}.' if busy else ''}"
    )
    if assume_yes or (can_ask() and agrees(f"{why}\nDo that now?")):
        return
    raise UserError("Nothing was changed.", why, f"{just_command()} install-arc --yes")


def _refuse_foreign(kube: Kube, resources: Resources) -> None:
    just = just_command()
    if names := foreign_scale_sets(resources):
        raise UserError(
            "The controller watches over scale sets that this environment did not install.",
            f"Without it they could never be removed: {', '.join(names)}.",
            "\n".join(
                f"helm --kube-context {kube.context} uninstall {n.split('/')[1]} --namespace {n.split('/')[0]}"
                for n in names
            )
            + f"\nthen: {just} delete-arc   (or, leaving them on GitHub: {just} delete-arc --force)",
        )


def _require_controller(resources: Resources) -> None:
    """Raises UserError where no controller will ever come; one that is about to start is waited for."""
    deployment = resources.controller
    if deployment is None or deployment.get("spec", {}).get("replicas") == 0:
        why = "is not there" if deployment is None else f"is scaled to 0 in {resources.controllers}"
        raise _stays(f"The controller {why}, and only it can take runners off GitHub.")


def _not_removed(kube: Kube, error: CommandFailedError, started: datetime) -> UserError:
    since = rfc3339(started)
    lines = kube.log(namespace=kube.controllers, target=f"--selector={CONTROLLER_SELECTOR}", since=since)
    cause = find_cause(lines)
    if cause and cause.lost:
        step = f"{just_command()} delete-arc --force   (GitHub has nothing that would be left there)"
        return ScaleSetLostError("The runners could not be removed.", f"{cause.what}\n{cause.line}", step)
    if cause:
        why = f"{cause.what}\n{cause.line}"
    elif not lines:
        why = f"The controller does not run, and only it can take runners off GitHub.\n{error.output}"
    else:
        why = "\n".join([error.what, *error_lines(lines)]) if error_lines(lines) else f"{error.what}\n{error.output}"
    return _stays(why)


def _stays(why: str) -> UserError:
    just = just_command()
    return UserError(
        "The runners could not be removed.",
        why,
        f"{just} install-arc, which repairs controller and credentials, then: {just} delete-arc\n"
        f"or, without GitHub: {just} delete-arc --force",
    )
