"""From public registries into an archive, from there into an empty mirror, and a cluster that has this mirror alone.

Engine, nodes, k3d, Helm and all registries are real. A registry that is filled with images of this machine under their
published names stands in for the public ones, which the machine may not reach; it is removed before the cluster is
created. Under the names of what no test runs (k3s's own pods, the runner's base) it has a small image. ARC and GitHub
are those of test_arc. In the nodes the names of the public registries lead nowhere. One cluster serves all tests, and
their order counts.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from answers import complete
from e2e.arc_lab import (
    GitHub,
    Key,
    arc_status,
    missing_lab,
    prepare_runners,
    traces,
)
from e2e.conftest import NewEnvironment
from e2e.generated import Finished, Generated
from e2e.machine import docker, inspect
from e2e.mirror_site import Downloads, Mirror, host_alias, new_downloads, new_mirror
from e2e.workload import HELLO_IMAGE, pull

pytestmark = pytest.mark.e2e

RUN = ("nodes", "registry", "load balancer", "k3d's helper", "ARC", "buildkitd")
"""Purposes of the images that have to be what they are called."""

MACHINE_IMAGES = {"nodes": "LAB_K3S_IMAGE", "buildkitd": "LAB_BUILDKIT_IMAGE"}
"""Variables that name this machine's image for a purpose, where that has not the published name."""

RELEASE_LIST = "github.com/k3s-io/k3s/releases/download/{release}/k3s-images.txt"


@dataclass(frozen=True)
class Site:
    """The environment and its only mirror.

    Attributes:
        environment: The environment, created from the mirror.
        mirror: The mirror.
        path: A path of images that nothing else has, on Docker Hub and on GitHub.
        archive: The file through which everything came.
        published: What stood in for the public registries had, by published name: digests.
        pushed: How the mirror was filled.
        downloads: The download mirror, with the index of Python packages.
    """

    environment: Generated
    mirror: Mirror
    path: str
    archive: Path
    published: dict[str, str]
    pushed: Finished
    downloads: Downloads


@pytest.fixture(scope="module")
def site(new_environment: NewEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, with the cluster created there."""
    folder, path = tmp_path_factory.mktemp("site"), f"e2e{secrets.token_hex(3)}/hello"
    archive = folder / "all.tar"
    write_release_list(folder / "downloads", path)
    with new_downloads(folder / "downloads") as downloads, new_mirror() as mirror:
        with new_mirror() as public:
            connected = new_environment(**answers(public, "", downloads))
            fill(public, connected)
            connected.envkit("images", "--save", str(archive))
            published = {entry["published"]: entry["digest"] for entry in listed(connected)}
            pushed = connected.envkit("images", "--load", str(archive), "--to", f"{mirror.host}/site", "--plain-http")
        environment = new_environment(**answers(mirror, "site/", downloads))
        aliases = [
            host_alias(),
            {"ip": "127.0.0.1", "hostnames": ["registry-1.docker.io", "auth.docker.io", "ghcr.io"]},
        ]
        (environment.root / "k3d.local.yaml").write_text(yaml.safe_dump({"hostAliases": aliases}), encoding="utf-8")
        environment.envkit("create")
        yield Site(environment, mirror, path, archive, published, pushed, downloads)


def answers(mirror: Mirror, prefix: str, downloads: Downloads) -> dict[str, Any]:
    """Answers that lead everything to a mirror."""
    hosts = ("docker.io", "ghcr.io")
    led: dict[str, Any] = {
        "image_mirrors": {host: f"{mirror.host}/{prefix}{host}" for host in hosts},
        "image_mirrors_plain_http": [mirror.host],
        "download_mirror": downloads.address,
        "python_index": downloads.python_index,
        "arc": not missing_lab(),
    }
    if led["arc"]:  # by tags, because what stands in for them has other digests than those that are pinned
        led["arc_version"] = os.environ["LAB_ARC_VERSION"]
        led["runner_base_image"] = f"{mirror.host}/{prefix}ghcr.io/actions/actions-runner:1"
        led["buildkit_image"] = f"{mirror.host}/{prefix}docker.io/moby/buildkit:1"
    # The machine's node image lies under the pinned name, which the tests' own answers would replace.
    return led | {"k3s_image": complete(led)["k3s_image"]}


def write_release_list(folder: Path, path: str) -> None:
    """Writes what the pinned release of k3s publishes, with images that nothing else has."""
    release = complete({})["k3s_image"].partition(":")[2].replace("-k3s", "+k3s")
    file = folder / RELEASE_LIST.format(release=release)
    file.parent.mkdir(parents=True)
    file.write_text(f"docker.io/rancher/mirrored-pause:3.6\ndocker.io/{path}:1\nghcr.io/{path}:1\n", encoding="utf-8")


def fill(public: Mirror, connected: Generated) -> None:
    """Puts all that the environment needs into the mirror, as the machine has it."""
    for entry in listed(connected):
        path = entry["name"].removeprefix(f"{public.host}/")
        if entry["kind"] == "chart":
            key = "LAB_ARC_CONTROLLER_CHART" if "controller:" in path else "LAB_ARC_SCALE_SET_CHART"
            target = f"oci://{public.host}/{path.rpartition('/')[0]}"
            command = ["helm", "push", os.environ[key], target, "--plain-http"]
            subprocess.run(command, check=True, capture_output=True)
            continue
        variable = MACHINE_IMAGES.get(entry["purpose"])
        image = os.environ.get(variable, "") if variable else entry["published"]
        is_run = entry["purpose"] in RUN and inspect("image", image)
        public.push(image if is_run else HELLO_IMAGE, path)


def listed(environment: Generated) -> list[dict[str, Any]]:
    """What `images --json` lists; nothing may be missing from it."""
    document = json.loads(environment.envkit("images", "--json").stdout)
    assert document["incomplete"] == ""
    entries: list[dict[str, Any]] = document["images"]
    return entries


def test_all_that_is_needed_came_into_the_mirror_with_its_digests(site: Site) -> None:
    entries = listed(site.environment)
    assert {entry["published"]: entry["digest"] for entry in entries} == site.published
    assert None not in site.published.values()
    for entry in entries:
        assert entry["source"] == site.mirror.host
        assert site.mirror.digest(entry["name"]) == entry["digest"], entry
    assert {"nodes", "registry", "load balancer", "k3d's helper", "k3s"} <= {entry["purpose"] for entry in entries}


def test_the_printed_answers_are_those_that_lead_there(site: Site) -> None:
    printed = yaml.safe_load(site.pushed.stdout.partition("\n\n")[2])
    assert printed == {key: site.environment.answers[key] for key in ("image_mirrors", "image_mirrors_plain_http")}


def test_every_container_of_the_cluster_runs_an_image_of_the_mirror(site: Site) -> None:
    found = {name: entry["Config"]["Image"] for name, entry in site.environment.containers().items()}
    assert len(found) == 3
    assert {image.partition("/")[0] for image in found.values()} == {site.mirror.host}, found
    log = site.mirror.log()
    for name in ("rancher/k3s", "library/registry", "k3d-io/k3d-proxy", "k3d-io/k3d-tools"):
        assert any(f"GET /v2/site/{host}/{name}/manifests/" in log for host in ("docker.io", "ghcr.io")), name


@pytest.mark.parametrize(
    "name", ["docker.io/{path}:1", "{path}:1", "ghcr.io/{path}:1", "{mirror}/site/ghcr.io/{path}:1"]
)
def test_a_pod_runs_an_image_by_its_published_name(site: Site, name: str) -> None:
    pull(site.environment, name.format(path=site.path, mirror=site.mirror.host))
    host = "ghcr.io" if "ghcr.io" in name else "docker.io"
    requests = [line for line in site.mirror.log().splitlines() if f"/v2/site/{host}/{site.path}/manifests/1" in line]
    assert any("containerd/" in line for line in requests), requests


def test_an_image_that_the_mirror_lacks_is_not_found_elsewhere(site: Site) -> None:
    with pytest.raises(AssertionError, match=r"ErrImagePull|ImagePullBackOff"):
        pull(site.environment, f"docker.io/{site.path}:absent", seconds=5)


def test_doctor_says_that_the_mirror_answers(site: Site) -> None:
    shown = site.environment.envkit("doctor", expect=None).stdout
    assert f"{site.mirror.host} answers" in shown
    assert f"{site.downloads.address} answers" in shown
    assert f"{site.downloads.python_index} answers" in shown


def test_python_packages_come_from_the_site_s_index_alone(site: Site, tmp_path: Path) -> None:
    """One package stands for all."""
    root = site.environment.root
    (pinned,) = re.findall(r"(?m)^packaging==(?:.*\\\n)+.*\n", (root / "requirements.txt").read_text(encoding="utf-8"))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(pinned, encoding="utf-8")
    site.downloads.add_python_packages(requirements)
    site.downloads.asked.clear()
    of_the_machine = {name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))}

    variables = {**of_the_machine, "PIP_CONFIG_FILE": os.devnull}
    site.environment.run(root / "bin" / "python-env", tmp_path / "venv", requirements, variables=variables)

    assert "/python/simple/packaging/" in site.downloads.asked
    subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", "import packaging"], check=True)


def test_the_engine_gets_its_images_from_the_archive_where_there_is_no_mirror(site: Site) -> None:
    names = {e["purpose"]: e for e in listed(site.environment)}
    helper = names["k3d's helper"]["name"]
    docker("rmi", helper)
    new = [e["published"] for e in names.values() if not inspect("image", e["published"])]
    done = site.environment.envkit("images", "--load", str(site.archive))
    try:
        assert inspect("image", helper)
        assert "nothing had to be done" in site.environment.envkit("create").stdout
    finally:
        docker("rmi", *new, check=False)
    if site.environment.answers["arc"]:
        (folder,) = (line.split()[-1] for line in done.stdout.splitlines() if "arc_chart_repository:" in line)
        chart = Path(folder) / f"gha-runner-scale-set-{os.environ['LAB_ARC_VERSION']}.tgz"
        assert chart.read_bytes() == Path(os.environ["LAB_ARC_SCALE_SET_CHART"]).read_bytes()


@pytest.mark.usefixtures("arc_lab")
def test_runners_come_up_from_the_mirror_alone(site: Site, github: GitHub, ansible: Path, image: str, key: Key) -> None:
    environment = site.environment
    prepare_runners(environment, github, ansible=ansible, image=image, key=key)
    environment.envkit("install-arc")

    assert arc_status(environment)["ready"]
    assert "PLATFORMS" in github.run_job("buildctl debug workers")
    requests = site.mirror.log().splitlines()
    for client, path in (
        ("Helm/", "ghcr.io/actions/actions-runner-controller-charts/gha-runner-scale-set-controller/manifests"),
        ("Helm/", "ghcr.io/actions/actions-runner-controller-charts/gha-runner-scale-set/manifests"),
        ("containerd/", "ghcr.io/actions/gha-runner-scale-set-controller/manifests"),
        ("containerd/", "docker.io/moby/buildkit/manifests"),
    ):
        assert any(client in line and f"/v2/site/{path}/" in line for line in requests), path

    environment.just("--yes", "delete-arc")
    assert traces(environment) == []
    assert github.is_empty()
