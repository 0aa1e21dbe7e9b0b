"""Nothing is changed in a cluster that is there already before somebody has named its context."""

from __future__ import annotations

import sys

from envkit.consent import can_ask
from envkit.errors import UserError
from envkit.existing.cluster import CONSENT_VARIABLE, ExistingCluster
from envkit.paths import just_command


def confirm_context(cluster: ExistingCluster, server: str, *, recipe: str, given: str = "") -> None:
    """Shows which cluster will be changed, and goes on only if its context is named.

    Args:
        cluster: The cluster.
        server: Address of its API.
        recipe: What is about to change it.
        given: The name from the command line; without it, that of `ARC_CONTEXT`, else the person is asked.

    Raises:
        UserError: Another name was given, or none where nobody can be asked.
    """
    print(f"{recipe} changes this cluster:\n  context     {cluster.context}\n  API server  {server}", file=sys.stderr)
    named, source = (given, "--context") if given else (cluster.confirmed, CONSENT_VARIABLE)
    if not named:
        if not can_ask():
            raise UserError(
                "Nothing was changed: nobody is here to confirm the cluster.",
                "The name of its context says that it is the right one.",
                _again(cluster, recipe),
            )
        print("Type the name of the context to go on: ", end="", file=sys.stderr, flush=True)
        named, source = sys.stdin.readline().strip(), "the terminal"
    if named != cluster.context:
        raise UserError(
            f"Nothing was changed: {source} says {named or 'nothing'}, and the cluster's context is {cluster.context}.",
            f"The context is that of environment.toml, or of KUBE_CONTEXT in .env. Its API is {server}.",
            f"If that is the right cluster: {_again(cluster, recipe)}",
        )


def _again(cluster: ExistingCluster, recipe: str) -> str:
    return f"{just_command()} {recipe} --context '{cluster.context}'"
