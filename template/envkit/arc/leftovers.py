"""What an installation that was cut off, or removed by hand, has left behind, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from envkit.arc.kube import Kube, Resource, Resources, labels, name
from envkit.arc.settings import ArcSettings
from envkit.errors import CommandFailedError, UserError
from envkit.existing.ownership import Claims, definitions_of
from envkit.paths import just_command

_HELM_SECONDS = 300
"""What is older has been cut off: Helm itself waits no longer than this for anything, unless it is told to."""


_UNINSTALLING = "uninstalling"
_UNDERWAY = ("pending-install", "pending-upgrade", "pending-rollback", _UNINSTALLING)
"""States of a release that Helm believes to be at work on: it installs nothing over one that is in such a state."""


@dataclass(frozen=True)
class Release:
    """A release of Helm's that is to be installed.

    Attributes:
        namespace: Where.
        name: Its name.
        is_there: Whether what it is about is in the cluster: the controller, or the scale set.
        is_ours: Whether what is there of it is this environment's.
    """

    namespace: str
    name: str
    is_there: bool
    is_ours: bool = True


@dataclass(frozen=True)
class Memory:
    """What Helm remembers and is no longer so.

    Attributes:
        secrets: Those by which it does. Without them the revision before counts again, or the release is installed once
            more over what is there of it, which Helm knows for its own.
        notes: What the person should know.
    """

    secrets: tuple[Resource, ...] = ()
    notes: tuple[str, ...] = ()


def false_memory(kube: Kube, releases: Sequence[Release], *, alone: bool, now: datetime | None = None) -> Memory:
    """What keeps Helm from installing: a release that it has begun with, or one whose objects somebody has removed.

    Helm compares with what it has installed, not with what is in the cluster, and changes nothing where those values
    are the same.

    Args:
        kube: The cluster.
        releases: What is to be installed.
        alone: Nobody else can be at it, because the cluster is of this machine, and its lock is held.
        now: The time.

    Raises:
        UserError: It is not ours, or somebody may be at it; says what helps.
    """
    found: list[Resource] = []
    begun, gone = [], []
    for release in releases:
        secrets = _secrets(kube, release)
        pending = [secret for secret in secrets if _state(secret) in _UNDERWAY]
        if pending and not release.is_ours:
            raise _not_ours(kube, release)
        for secret in pending:
            seconds = ((now or datetime.now(UTC)) - _time(secret)).total_seconds()
            if not alone and seconds < _HELM_SECONDS:
                raise _at_it(release, seconds)
        is_gone = release.is_ours and not release.is_there
        if pending:
            begun.append(release.name)
        elif secrets and is_gone:
            gone.append(release.name)
        # Of a removal that was cut off no revision before would count again.
        forgets_all = is_gone or any(_state(secret) == _UNINSTALLING for secret in pending)
        found += [_named(secret, release) for secret in (secrets if forgets_all else pending)]
    notes = (
        begun and f"Helm was cut off ({', '.join(begun)}): what it remembers of that is taken back.",
        gone and f"Somebody has removed what Helm has installed ({', '.join(gone)}): it is installed anew.",
    )
    return Memory(tuple(found), tuple(note for note in notes if note))


def _secrets(kube: Kube, release: Release) -> list[Resource]:
    try:
        secrets = kube.release_secrets(release.namespace)
    except CommandFailedError:  # Helm will say so too, and better why
        return []
    return [secret for secret in secrets if labels(secret).get("name") == release.name]


def _named(secret: Resource, release: Release) -> Resource:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name(secret), "namespace": release.namespace}}


def _not_ours(kube: Kube, release: Release) -> UserError:
    return UserError(
        f"Helm has begun with {release.name} in {release.namespace}, and has not ended.",
        "It is not known to be this environment's. As long as it is so, nobody can install it.",
        f"helm --kube-context '{kube.context}' uninstall {release.name} --namespace {release.namespace}"
        f"   (ask its owners first), then: {just_command()} install-arc",
    )


def _at_it(release: Release, seconds: float) -> UserError:
    just, age = just_command(), max(int(seconds), 0)
    return UserError(
        f"Helm has begun with {release.name} in {release.namespace} {age} s ago, and has not ended.",
        "Somebody else may be at it, or it was cut off.",
        f"{just} install-arc   (in {_HELM_SECONDS - age} s: then it counts as cut off, and is put right)\n"
        f"or, if you know that nobody is: {just} delete-arc && {just} install-arc",
    )


def _state(secret: Resource) -> str:
    return labels(secret).get("status", "")


def _time(secret: Resource) -> datetime:
    """When Helm has begun: with a new revision, or with one that was there already."""
    if modified := labels(secret).get("modifiedAt"):
        return datetime.fromtimestamp(int(modified), UTC)
    return datetime.fromisoformat(secret["metadata"]["creationTimestamp"])


@dataclass(frozen=True)
class Definitions:
    """What becomes of resource definitions that are there without a controller.

    Attributes:
        remove: Those that go, because the controller's chart then brings its own.
        note: What the person should know of those that stay; empty where there are none.
    """

    remove: tuple[dict[str, Any], ...] = ()
    note: str = ""


def left_definitions(kube: Kube, settings: ArcSettings, resources: Resources, claims: Claims | None) -> Definitions:
    """Helm leaves definitions when it uninstalls a chart, and as they are when it installs one: they may be older.

    Args:
        kube: The cluster.
        settings: What is to be installed.
        resources: What is in the cluster.
        claims: Who has what; None where the cluster is this environment's.

    Raises:
        CommandFailedError: The API does not answer.
    """
    if resources.deployments:
        return Definitions()
    names = kube.definitions() if claims is None else list(claims.definitions)
    if not names:
        return Definitions()
    are_ours = claims is None or all(map(claims.is_ours, claims.definitions.values()))
    if are_ours and not kube.run("get", ",".join(names), "--all-namespaces", "--output=name").strip():
        return Definitions(remove=tuple(definitions_of(names)))
    why = "resources of their kinds are there" if are_ours else "this environment did not bring them"
    again = f"{just_command()} delete-arc && {just_command()} install-arc"
    remedy = f"When this has ended: {again}   (makes them anew)"
    if claims is not None:  # in which others may need them, so that they would stay again
        plain = " --plain-http" if settings.plain_http else ""
        remedy = (
            f"helm show crds {settings.chart('controller')} --version {settings.version}{plain}"
            f" | kubectl --context '{kube.context}' apply --server-side --force-conflicts -f -\nthen: {again}"
        )
    return Definitions(
        note=(
            "Resource definitions of Actions Runner Controller are there without a controller. They stay, because"
            f" {why}, and may be older than ARC {settings.version}: what they do not know is lost.\n{remedy}"
        )
    )
