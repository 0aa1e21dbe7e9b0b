"""An environment behind a proxy that asks for a password, with registries whose authority only the company knows.

The registries and all that talks to them are real: nodes, BuildKit. The proxy is a small one in this process, and knows
names that nothing else knows. BuildKit runs beside a container as the values of the runners' chart say, without GitHub
and ARC. One cluster serves all tests.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from certificates import new_authority
from e2e.conftest import NewEnvironment
from e2e.corporate_site import ForwardProxy, TlsRegistry, forward_proxy, tls_registry
from e2e.generated import Finished, Generated
from e2e.machine import docker, inspect, push, skip_without, wait_until
from e2e.workload import HELLO_IMAGE, image_name, pull, push_hello
from jsonc import parse

from envkit.arc.settings import read_arc_settings
from envkit.config import read_environment

pytestmark = pytest.mark.e2e

COMPANY, STRANGER = "images.corp.example", "images.stranger.example"

_BUILD = """\
mkdir /tmp/context && cd /tmp/context && echo 'FROM {base}' >Dockerfile
buildctl build --frontend=dockerfile.v0 --local=context=. --local=dockerfile=. \
  --output=type=image,name=$REGISTRY/on-company:1,push=true
"""


@dataclass
class Site:
    """The environment and what is around it.

    Attributes:
        environment: The environment, created.
        proxy: The company's proxy.
        stranger: A registry of an authority that the company does not know.
        hello: The path of an image that both registries have.
        printed: Everything that was printed.
    """

    environment: Generated
    proxy: ForwardProxy
    stranger: TlsRegistry
    hello: str
    printed: list[str] = field(default_factory=list)

    def envkit(self, *arguments: str) -> Finished:
        """Runs a recipe's program and keeps what it prints."""
        done = self.environment.envkit(*arguments)
        self.printed.append(done.output)
        return done


@pytest.fixture(scope="module")
def site(new_environment: NewEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The company's site, with the cluster created there."""
    folder = tmp_path_factory.mktemp("site")
    answers = {"buildkit_image": os.environ["LAB_BUILDKIT_IMAGE"]} if "LAB_BUILDKIT_IMAGE" in os.environ else {}
    environment = new_environment(**answers)
    config = yaml.safe_load((environment.root / "k3d.yaml").read_text(encoding="utf-8"))
    registry_image = config["registries"]["create"]["image"]
    authority, stranger = new_authority(), new_authority("Stranger")
    hello = f"hello:{secrets.token_hex(4)}"
    with (
        forward_proxy() as proxy,
        tls_registry(authority, COMPANY, registry_image, folder / "company") as company,
        tls_registry(stranger, STRANGER, registry_image, folder / "stranger") as foreign,
    ):
        proxy.routes = {COMPANY: company.port, STRANGER: foreign.port}
        for registry in (company, foreign):
            push(HELLO_IMAGE, f"127.0.0.1:{registry.port}/{hello}")  # whose certificate Docker does not check there
        mirrors = {"mirrors": {host: {"endpoint": [f"https://{host}"]} for host in (COMPANY, STRANGER)}}
        local = {"registries": {"config": yaml.safe_dump(mirrors)}}
        (environment.root / "k3d.local.yaml").write_text(yaml.safe_dump(local), encoding="utf-8")
        (environment.root / "ca-bundle.pem").write_text(authority.pem, encoding="ascii")
        (environment.root / ".env").write_text(f"HTTPS_PROXY={proxy.url}\n", encoding="utf-8")
        site = Site(environment, proxy, foreign, hello)
        site.envkit("create")
        yield site


def test_nodes_pull_through_the_proxy_from_a_registry_of_the_companys_authority(site: Site) -> None:
    site.proxy.passed.clear()

    pull(site.environment, f"{COMPANY}/{site.hello}")

    assert set(site.proxy.passed) == {f"{COMPANY}:443"}


def test_a_registry_of_another_authority_stays_untrusted(site: Site) -> None:
    environment, pod = site.environment, "stranger"
    environment.kubectl("run", pod, f"--image={STRANGER}/{site.hello}", "--restart=Never")
    try:
        wait_until("the pull fails", lambda: "ErrImagePull" in environment.kubectl("get", "pod", pod))
    finally:
        environment.kubectl("delete", "pod", pod, "--now", "--wait=false")
    # The message that Kubernetes shows is that of the last place where k3s looks; the other end tells the cause.
    assert f"{STRANGER}:443" in site.proxy.passed
    assert "TLS handshake error" in site.stranger.log()
    assert "bad certificate" in site.stranger.log()


def test_the_environments_own_registry_is_reached_without_the_proxy(site: Site) -> None:
    name = push_hello(site.environment)
    passed, refused = list(site.proxy.passed), list(site.proxy.refused)

    for host in ("{registry}.localhost:{port}", "{registry}:5000"):
        pull(site.environment, image_name(site.environment, name, host))

    assert (site.proxy.passed, site.proxy.refused) == (passed, refused)
    # Nor did anything else of the cluster ever ask it: nodes, API and pods find each other.
    assert {target.partition(":")[0] for target in site.proxy.passed} <= {COMPANY, STRANGER}
    assert site.proxy.refused == []


def test_buildkit_builds_on_an_image_of_the_companys_registry_and_pushes_into_the_environments(site: Site) -> None:
    if "LAB_BUILDKIT_IMAGE" not in os.environ:
        skip_without("LAB_BUILDKIT_IMAGE names no image of BuildKit that nodes can pull without the proxy")
    environment = site.environment
    settings = read_arc_settings(read_environment(environment.root), environment.root)
    spec = copy.deepcopy(settings.runner_values["template"]["spec"])
    (runner,) = spec["containers"]
    runner["image"] = os.environ["LAB_BUILDKIT_IMAGE"]
    runner["command"] = ["sh", "-ec", _BUILD.format(base=f"{COMPANY}/{site.hello}")]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "build"}, "spec": spec | {"restartPolicy": "Never"}}
    pod["metadata"]["namespace"] = "arc-runners"
    objects = [*settings.manifests, *json.loads(environment.envkit("arc-secrets").stdout), pod]
    environment.kubectl("create", "namespace", "arc-runners")
    environment.kubectl(
        "apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )
    site.proxy.passed.clear()

    wait_until("the build ends", lambda: _phase(environment, "build") in ("Succeeded", "Failed"))

    log = environment.kubectl("logs", "build", "--container=runner", "--namespace=arc-runners")
    assert _phase(environment, "build") == "Succeeded", log
    assert set(site.proxy.passed) == {f"{COMPANY}:443"}
    pull(environment, image_name(environment, "on-company:1"))


def test_a_dev_container_asks_the_companys_registry_through_the_proxy(site: Site) -> None:
    environment = site.environment
    text = (environment.root / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    settings = parse(text.replace("${localEnv:HOME}", str(environment.home))).value
    if not inspect("image", settings["image"]):
        skip_without(f"Docker has no image {settings['image']}")
    site.proxy.passed.clear()

    listed = docker(
        *("run", "--rm", *settings["runArgs"], *(f"--mount={mount}" for mount in settings["mounts"])),
        # The proxy of this test has a name in the cluster alone.
        "--add-host=host.k3d.internal:host-gateway",
        *(settings["image"], "curl", "--silent", "--show-error", f"https://{COMPANY}/v2/_catalog"),
    )

    assert json.loads(listed)["repositories"] == [site.hello.partition(":")[0]]
    assert site.proxy.passed == [f"{COMPANY}:443"]


def test_a_changed_authority_is_drift(site: Site) -> None:
    bundle = site.environment.root / "ca-bundle.pem"
    before = bundle.read_text(encoding="ascii")
    assert json.loads(site.envkit("status", "--json").stdout)["drift"] == []
    bundle.write_text(before + new_authority("Second").pem, encoding="ascii")
    try:
        drift = json.loads(site.envkit("status", "--json").stdout)["drift"]
        assert [line.partition(":")[0] for line in drift] == ["corporateNetwork.caBundle"]
    finally:
        bundle.write_text(before, encoding="ascii")


def test_the_password_is_in_no_output_label_or_file_of_others(site: Site) -> None:
    environment, password = site.environment, site.proxy.password
    site.envkit("status")
    site.printed.append(environment.envkit("doctor", expect=None).output)

    assert "Example Corp Root" in "".join(site.printed)
    assert f"http://***@host.k3d.internal:{site.proxy.port}" in "".join(site.printed)
    assert password not in "".join(site.printed)
    labels = docker("inspect", "--format", "{{json .Config.Labels}}", *environment.containers())
    assert environment.project in labels
    assert password not in labels
    holders = [path for path in _files(environment.root.parent) if password.encode() in path.read_bytes()]
    variables = environment.home / ".kube" / f"{environment.context}.devcontainer.env"
    assert set(holders) == {environment.root / ".env", variables}
    assert stat.S_IMODE(variables.stat().st_mode) == 0o600
    leftovers = Path(os.environ.get("TMPDIR", "/tmp")).glob("*k3d-*")
    assert not [path for path in leftovers for file in _files(path) if password.encode() in file.read_bytes()]


def _phase(environment: Generated, pod: str) -> str:
    return environment.kubectl("get", "pod", pod, "--namespace=arc-runners", "--output=jsonpath={.status.phase}")


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".venv", ".git")]
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path
