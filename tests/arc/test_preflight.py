"""What can stand in an installation's way, one defect each, on a machine and a cluster that stand in."""

from __future__ import annotations

import io
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from arc.conftest import Settings
from arc.test_state import CONTROLLER, scale_set, whole

from envkit.arc import credentials as arc_credentials
from envkit.arc import install as arc_install
from envkit.arc import preflight as arc_preflight
from envkit.arc.kube import Resources
from envkit.arc.preflight import find_problems
from envkit.config import read_environment
from envkit.errors import CommandFailedError, UserError
from envkit.progress import Steps


@dataclass
class Place:
    """A machine and a cluster; a test makes one thing about them wrong.

    Attributes:
        kubernetes: Version of the API; empty where it does not answer.
        helm: What Helm prints; empty where it is not installed.
        image: Whether the registry has the image; None where it does not answer.
        kernel: Contents of files below /proc/sys.
        resources: What is in the cluster.
    """

    kubernetes: str = "v1.36.4+k3s1"
    helm: str = "v4.2.4+g1"
    image: bool | None = True
    kernel: dict[str, str] = field(
        default_factory=lambda: {
            "user/max_user_namespaces": "95000",
            "kernel/apparmor_restrict_unprivileged_userns": "0",
        }
    )
    resources_: Resources = field(default_factory=Resources)
    context: str = "k3d-mathtrail-dev"

    def server_version(self) -> str:
        if not self.kubernetes:
            raise CommandFailedError("kubectl failed", status=1, output="connection refused")
        return self.kubernetes

    def resources(self) -> Resources:
        self.server_version()
        return self.resources_


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place()

    def helm(*_: Any, **__: Any) -> str:
        if not place.helm:
            raise UserError("helm is not installed.")
        return place.helm

    def has_image(*_: Any) -> bool:
        if place.image is None:
            raise UserError("The registry does not answer.", "", "just create")
        return place.image

    monkeypatch.setattr(arc_preflight, "capture", helm)
    monkeypatch.setattr("envkit.images.has_image", has_image)
    monkeypatch.setattr(
        arc_preflight,
        "docker",
        lambda *_: "".join(f"/proc/sys/{name} {value}\n" for name, value in place.kernel.items()),
    )
    return place


@pytest.fixture(autouse=True)
def _no_built_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envkit.runner.image.read_built_image", lambda: None)


def found(place: Place, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made = settings()
    monkeypatch.setattr(arc_credentials, "problems", lambda _: [])
    problems, _ = find_problems(read_environment(root), made, place)  # type: ignore[arg-type]
    return [f"{what} {fix}" for what, fix in problems]


def test_nothing_stands_in_the_way(
    place: Place, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.resources_ = whole()
    assert found(place, root, settings, monkeypatch) == []


FOREIGN = {**CONTROLLER, "metadata": {**CONTROLLER["metadata"], "namespace": "ci"}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kubernetes": "v1.28.9+k3s1"}, ["Kubernetes 1.28.9 is too old", "k3d.yaml"]),
        ({"kubernetes": ""}, ["does not answer", "create"]),
        ({"helm": "v3.21.4"}, ["Helm 3.21.4 is too old", "install"]),
        ({"helm": ""}, ["helm is not installed", "install"]),
        ({"image": False}, ["not in the registry", "build-runner"]),
        ({"image": None}, ["registry does not answer", "create"]),
        ({"kernel": {"user/max_user_namespaces": "0"}}, ["user.max_user_namespaces = 0", "sysctl"]),
        (
            {"kernel": {"kernel/unprivileged_userns_clone": "0"}},
            ["unprivileged_userns_clone=1", "buildkit_mode=privileged"],
        ),
        ({"kernel": {"kernel/apparmor_restrict_unprivileged_userns": "1"}}, ["restrict_unprivileged_userns=0"]),
        ({"resources_": whole(deployments=(CONTROLLER, FOREIGN))}, ["Another controller", "namespace ci"]),
        (
            {"resources_": whole(scale_sets=(scale_set("mathtrail-runners", owned=False),))},
            ["did not install", "RUNNER_NAME"],
        ),
    ],
    ids=[
        "kubernetes-too-old",
        "cluster-down",
        "helm-too-old",
        "helm-missing",
        "image-missing",
        "registry-down",
        "no-user-namespaces",
        "user-namespaces-for-root-only",
        "user-namespaces-forbidden-by-apparmor",
        "another-controller",
        "name-taken",
    ],
)
def test_defect_is_named_with_its_remedy(
    change: dict[str, Any],
    told: list[str],
    place: Place,
    root: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in change.items():
        setattr(place, name, value)
    problems = found(place, root, settings, monkeypatch)
    assert len(problems) == 1, problems
    for part in told:
        assert part in problems[0]


def test_kernel_of_the_engine_s_machine_is_put_right_through_a_node_on_macos(
    place: Place, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    place.kernel = {"kernel/apparmor_restrict_unprivileged_userns": "1"}
    (problem,) = found(place, root, settings, monkeypatch)
    assert "sudo" not in problem
    file = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
    assert f"docker exec k3d-mathtrail-dev-server-0 sh -c 'echo 0 >{file}'" in problem


def test_all_defects_come_at_once(
    place: Place, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.kubernetes, place.helm, place.image = "v1.20.0", "v3.1.0", False
    path = root / "helm" / "arc-runners.yaml"
    path.write_text(path.read_text().replace("minRunners: 1", "minRunners: '1'"))
    assert len(found(place, root, settings, monkeypatch)) == 4


def test_privileged_buildkit_needs_no_user_namespaces(
    place: Place, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "helm" / "arc-runners.yaml"
    path.write_text(path.read_text().replace("runAsUser: 1000", "privileged: true\n          runAsUser: 1000"))
    place.kernel = {"user/max_user_namespaces": "0"}
    assert found(place, root, settings, monkeypatch) == []


def test_image_from_elsewhere_is_not_looked_for(
    place: Place, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "helm" / "arc-runners.yaml"
    path.write_text(path.read_text().replace("k3d-mathtrail-registry.localhost:5050/", "ghcr.io/team/"))
    place.image = False
    assert found(place, root, settings, monkeypatch) == []


def test_a_person_with_something_to_mend_does_not_wait_for_ansibles_packages(
    place: Place, root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(_: str) -> None:
        pytest.fail("the packages are installed first")

    place.image = False
    made = settings()
    monkeypatch.setattr(arc_credentials, "problems", lambda _: [])
    monkeypatch.setattr(arc_install, "read_arc_settings", lambda _: made)
    monkeypatch.setattr(arc_install, "find_controller", lambda _: (place, None))
    monkeypatch.setattr(arc_install, "proxied", nullcontext)
    monkeypatch.setattr(arc_install, "is_prepared", lambda: False)
    monkeypatch.setattr(arc_install, "prepare_ansible", prepare)

    with pytest.raises(UserError, match="1 thing stands in the way"):
        arc_install.install(read_environment(root), Steps(io.StringIO()), verify=False, assume_yes=False)
