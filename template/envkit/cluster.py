"""What runners and images need to know of a cluster, whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from envkit.corporate_network import CorporateNetwork
from envkit.environment import Environment, load_environment
from envkit.images import Images
from envkit.paths import ROOT
from envkit.provider import is_existing

if TYPE_CHECKING:
    from envkit.existing.cluster import ExistingCluster


class Cluster(Protocol):
    """A cluster that this environment uses."""

    @property
    def name(self) -> str:
        """What this environment calls it; also the value of the label by which its own scale sets are known."""

    @property
    def context(self) -> str:
        """Name of its context in `kubeconfig`."""

    @property
    def kubeconfig(self) -> Path:
        """The file by which tools on this machine reach it; whatever the current context is, it is named besides."""

    @property
    def images(self) -> Images:
        """Where its images are kept."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Names and ranges of addresses inside it, which no proxy reaches."""

    @property
    def corporate(self) -> CorporateNetwork:
        """Authorities and proxies that hold for it."""

    @property
    def node_container(self) -> str:
        """A node that is a container of this machine's Docker; empty where nodes are elsewhere."""

    @property
    def how_to_reach(self) -> str:
        """What to run where its API does not answer."""

    @property
    def how_to_upgrade(self) -> str:
        """What to do where its Kubernetes is too old."""


def load_cluster(root: Path = ROOT) -> Environment | ExistingCluster:
    """The cluster of a repository, whoever makes it.

    Raises:
        UserError: A file is missing or wrong; names the file, the key and what is allowed.
    """
    if not is_existing(root):
        return load_environment(root)
    from envkit.existing.settings import read_existing_cluster

    return read_existing_cluster(root)
