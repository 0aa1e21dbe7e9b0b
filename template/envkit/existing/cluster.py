"""What this environment knows of a cluster that is there already."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from envkit.corporate_network import CorporateNetwork
from envkit.environment import Lens
from envkit.errors import UserError
from envkit.existing.repository import Repository
from envkit.kubeconfig import KubeconfigPaths, kubeconfig_paths
from envkit.paths import just_command

CONSENT_VARIABLE = "ARC_CONTEXT"
"""Names the context that may be changed without a question, in the environment or in `.env`."""

# Where companies and clouds put services and pods; what is really used, nobody outside a cluster is told.
OWN_ADDRESSES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", ".svc", ".cluster.local")
"""Names and ranges in which a cluster's own addresses lie."""


@dataclass(frozen=True)
class ExistingCluster:
    """A cluster that is there already.

    Attributes:
        name: What files and labels of this environment are named after.
        context: Its context, as the developer's kubeconfig calls it.
        images: Where images are pushed to and pulled from.
        lens: Which Kubernetes IDE the developer wants.
        confirmed: The context that may be changed without a question; empty where none was named.
        container_server: The API's address as containers reach it; empty where it is the same.
        corporate: Proxies and authorities of a company's network.
    """

    name: str
    context: str
    images: Repository
    lens: Lens = "none"
    confirmed: str = ""
    container_server: str = ""
    corporate: CorporateNetwork = field(default_factory=CorporateNetwork)

    @property
    def kubeconfigs(self) -> KubeconfigPaths:
        """Where its files lie."""
        return kubeconfig_paths(self.name)

    @property
    def kubeconfig(self) -> Path:
        """The file with the one context, by which every tool reaches it."""
        return self.kubeconfigs.host

    @property
    def addresses(self) -> tuple[str, ...]:
        """Ranges in which the cluster's own addresses lie, which no proxy reaches."""
        return OWN_ADDRESSES

    @property
    def node_container(self) -> str:
        """Its nodes are elsewhere."""
        return ""

    @property
    def how_to_reach(self) -> str:
        """What to run where the API does not answer."""
        return f"kubectl --context '{self.context}' get nodes   (is the VPN connected, are you signed in?)"

    @property
    def how_to_upgrade(self) -> str:
        """What to do where Kubernetes is too old."""
        return "Ask those who look after the cluster for a newer version."


def no_cluster_of_k3d() -> UserError:
    """The error of a recipe that only makes sense where k3d makes the cluster."""
    return UserError(
        "This environment's cluster is there already: nothing here makes, starts, stops or deletes it.",
        "environment.toml names it in the table [cluster].",
        f"{just_command()} status",
    )
