"""What an environment needs, and how its digests are found."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_tools import Machine, WebServer
from image_registry import ImageRegistry
from support import CopyProject

from envkit import doctor, image_list, image_report, mirrors
from envkit.config import read_environment
from envkit.errors import UserError
from envkit.image_list import Found, Needed, Needs, k3s_images, k3s_release, needs_of, resolve
from envkit.registry_api import Registries

K3S = ["docker.io/rancher/mirrored-pause:3.10.2", "docker.io/rancher/mirrored-coredns-coredns:1.14.6"]
CURL = shutil.which("curl") or ""
LIST = "/github.com/k3s-io/k3s/releases/download/v1.36.4%2Bk3s1/k3s-images.txt"


@pytest.fixture
def needs(
    machine: Machine, web: WebServer, tmp_path: Path, copy_project: CopyProject, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A function that generates an environment and lists what it needs; k3s's list comes from a download mirror."""
    machine.add_right_tools()
    web.files[LIST] = "".join(f"{name}\n" for name in K3S).encode()
    monkeypatch.setenv(mirrors.DOWNLOAD_VARIABLE, web.url)
    monkeypatch.setattr(image_list, "_K3S_LISTS", tmp_path / "lists")

    def list_needs(**answers: Any) -> Needs:
        root = copy_project(tmp_path / "env", project="shop", **answers)
        monkeypatch.setattr(mirrors, "ROOT", root)
        return needs_of(read_environment(root), root)

    return list_needs


def test_all_that_an_environment_pulls_is_listed(needs: Any) -> None:
    found: Needs = needs()
    assert found.problem is None
    assert [(entry.kind, entry.purpose, entry.name.partition("@")[0]) for entry in found.entries] == [
        ("image", "nodes", "docker.io/rancher/k3s:v1.36.4-k3s1"),
        ("image", "registry", "docker.io/library/registry:3"),
        ("image", "load balancer", "ghcr.io/k3d-io/k3d-proxy:5.9.0"),
        ("image", "k3d's helper", "ghcr.io/k3d-io/k3d-tools:5.9.0"),
        *(("image", "k3s", name) for name in K3S),
        ("image", "ARC", "ghcr.io/actions/gha-runner-scale-set-controller:0.15.0"),
        ("image", "buildkitd", "docker.io/moby/buildkit:v0.33.0-rootless"),
        ("image", "runner's base", "ghcr.io/actions/actions-runner:2.338.0"),
        ("chart", "ARC", "ghcr.io/actions/actions-runner-controller-charts/gha-runner-scale-set-controller:0.15.0"),
        ("chart", "ARC", "ghcr.io/actions/actions-runner-controller-charts/gha-runner-scale-set:0.15.0"),
    ]
    assert all(entry.name == entry.published for entry in found.entries)


def test_behind_mirrors_everything_is_pulled_from_them(needs: Any) -> None:
    published = {entry.published for entry in needs().entries}
    sites = {"docker.io": "mirror.example.com/hub", "ghcr.io": "mirror.example.com:5000"}
    found: Needs = needs(image_mirrors=sites)
    assert {entry.published for entry in found.entries} == published
    assert {entry.name.partition("/")[0] for entry in found.entries} == {
        "mirror.example.com",
        "mirror.example.com:5000",
    }
    assert "mirror.example.com/hub/rancher/mirrored-pause:3.10.2" in {entry.name for entry in found.entries}


def test_without_runners_only_the_cluster_needs_images(needs: Any) -> None:
    found: Needs = needs(arc=False)
    assert {entry.purpose for entry in found.entries} == {"nodes", "registry", "load balancer", "k3d's helper", "k3s"}


def test_a_list_of_k3s_is_fetched_once(needs: Any, web: WebServer) -> None:
    needs()
    needs()
    assert web.asked == [LIST]


def test_a_list_of_which_the_half_was_written_is_not_kept(
    needs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        needs()

    assert list((tmp_path / "lists").iterdir()) == []


@pytest.mark.skipif(not CURL, reason="curl is not on PATH")
def test_a_list_that_cannot_be_had_is_said_with_the_command_that_brings_it_and_the_rest_is_there(
    needs: Any, web: WebServer, tmp_path: Path
) -> None:
    web.files.clear()
    found: Needs = needs(arc=False)
    assert len(found.entries) == 4
    assert found.problem
    assert "404" in found.problem.why
    curl, *options, _ = shlex.split(found.problem.next_step.partition("   (")[0])
    assert curl == "curl"
    source = tmp_path / "published.txt"
    source.write_text("docker.io/a:1\n", encoding="utf-8")
    subprocess.run([CURL, *options, source.as_uri()], check=True, capture_output=True)
    assert k3s_images("docker.io/rancher/k3s:v1.36.4-k3s1") == ["docker.io/a:1"]


def test_a_page_in_place_of_a_list_is_not_kept(needs: Any, web: WebServer) -> None:
    web.files[LIST] = b"<html>Please log in</html>\n"
    found: Needs = needs(arc=False)
    assert found.problem
    assert "is not the name of an image" in found.problem.what


@pytest.mark.parametrize(
    ("image", "release"),
    [
        ("docker.io/rancher/k3s:v1.36.4-k3s1", "v1.36.4+k3s1"),
        ("m.example:5000/k3s:v1.36.4-rc1-k3s2@sha256:" + 64 * "0", "v1.36.4-rc1+k3s2"),
        ("rancher/k3s:latest", ""),
    ],
)
def test_the_release_of_k3s_is_in_the_tag(image: str, release: str) -> None:
    assert k3s_release(image) == release


def test_an_image_that_is_no_release_has_no_list() -> None:
    with pytest.raises(UserError, match="are not known"):
        k3s_images("rancher/k3s:latest")


@pytest.fixture
def engine(machine: Machine) -> Machine:
    """A Docker that has one image, `app:1`, from Docker Hub."""
    digests = '[{"RepoDigests": ["app@sha256:here"]}]'
    machine.add(
        "docker", f"[ \"$3\" = docker.io/library/app:1 ] && echo '{digests}' && exit; echo 'no such' >&2; exit 1"
    )
    return machine


@pytest.mark.usefixtures("engine")
def test_a_digest_comes_from_the_registry_or_else_from_docker_or_the_pin(
    registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registry.put_image("app", "1", b"layer")
    pin = f"sha256:{64 * 'a'}"
    names = [f"{registry.host}/app:1", "docker.io/library/app:1", f"ghcr.io/app:1@{pin}", "ghcr.io/app:1", "a.b/App:1"]

    real = Registries._base
    monkeypatch.setattr(
        Registries, "_base", lambda self, host: real(self, host if host == registry.host else "127.0.0.1:1")
    )
    entries = [Needed("image", "test", name, name) for name in names]
    found = resolve(entries, Registries())
    assert [(entry.digest, entry.source) for entry in found] == [
        (digest, registry.host),
        ("sha256:here", "Docker"),
        (pin, "pinned"),
        ("", ""),
        ("", ""),
    ]
    assert [bool(entry.problem) for entry in found] == [False, True, True, True, True]


def test_people_and_machines_are_told_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    entries = [
        Found(Needed("image", "nodes", "docker.io/a:1", "m.b/a:1"), "sha256:1", "m.b"),
        Found(Needed("chart", "ARC", "ghcr.io/c:1", "m.b/c:1"), "", "", "m.b does not answer. no route"),
    ]
    needs = Needs(tuple(entry.needed for entry in entries), UserError("No list.", "404", "curl"))
    image_report._print_table(entries, needs)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "nodes        m.b/a:1",
        "             sha256:1  from m.b",
        "ARC (chart)  m.b/c:1",
        "             digest unknown",
        "",
        "m.b does not answer. no route",
        "",
        "Not in this list: No list. 404",
        "  next: curl",
    ]
    image_report._print_json(entries, needs)
    document = json.loads(capsys.readouterr().out)
    assert document["incomplete"] == "No list. 404"
    assert [(entry["published"], entry["digest"]) for entry in document["images"]] == [
        ("docker.io/a:1", "sha256:1"),
        ("ghcr.io/c:1", None),
    ]


def test_doctor_says_which_mirror_answers(
    registry: ImageRegistry, web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "ROOT", tmp_path)
    monkeypatch.delenv(mirrors.DOWNLOAD_VARIABLE, raising=False)
    assert doctor._check_mirrors() == []
    table = f'[mirrors]\nimages = {{ "a.b" = "{registry.host}/x", "c.d" = "127.0.0.1:1" }}\ndownloads = "{web.url}"\n'
    (tmp_path / "environment.toml").write_text(table, encoding="utf-8")
    found = [(check.verdict, check.detail.partition(" ")[0]) for check in doctor._check_mirrors()]
    assert found == [("warn", "127.0.0.1:1"), ("ok", registry.host), ("ok", web.url)]
    table = f'[mirrors]\ndownloads = "http://127.0.0.1:1"\npython_index = "{web.url}/simple"\napt = "ftp://a"\n'
    (tmp_path / "environment.toml").write_text(table, encoding="utf-8")
    assert [check.verdict for check in doctor._check_mirrors()] == ["warn", "ok", "warn"]
