from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fake_tools import Machine, WebServer, web_server
from loopback_server import serving
from samples import sample_environment

from envkit import registry
from envkit.environment import Environment, Registry
from envkit.errors import CommandFailedError, UserError
from envkit.images import OwnImages
from envkit.registry import RegistryUse, answers, push, target_name, use_of


@pytest.fixture
def served() -> Iterator[WebServer]:
    with web_server() as served:
        served.files["/v2/"] = b"{}"
        yield served


@pytest.fixture
def shop(served: WebServer) -> Registry:
    return Registry("k3d-shop-registry", int(served.url.rpartition(":")[2]), "registry:2", "k3d-shop-registry")


@pytest.fixture
def dead() -> Iterator[Registry]:
    """A registry on a port that is taken and on which nothing listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield Registry("k3d-shop-registry", holder.getsockname()[1], "registry:2", "k3d-shop-registry")


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "target"),
    [
        ("app", "app:latest"),
        ("app:1.0", "app:1.0"),
        ("team/app", "team/app:latest"),
        ("team/app:1.0", "team/app:1.0"),
        ("docker.io/library/app:1.0", "library/app:1.0"),
        ("localhost/app:1.0", "app:1.0"),
        ("localhost:5050/app", "app:latest"),
        ("k3d-shop-registry.localhost:5050/team/app:1.0", "team/app:1.0"),
        ("registry:5000/app:1.0", "app:1.0"),
        (f"app@sha256:{'0' * 64}", "app:latest"),
        (f"ghcr.io/a/app:1.0@sha256:{'0' * 64}", "a/app:1.0"),
        ("a_b/c-d.e:V1_x.y-z", "a_b/c-d.e:V1_x.y-z"),
    ],
)
def test_an_image_keeps_its_name_without_the_host(image: str, target: str) -> None:
    assert target_name(image) == target


@pytest.mark.parametrize(
    "image",
    [
        "",
        "App",
        "app:",
        ":1.0",
        "app name",
        "-app",
        "app/",
        "/app",
        "app:ü",
        "a:b:c",
        "app;ls",
        "--all",
        f"a:{'x' * 129}",
    ],
)
def test_what_is_no_name_of_an_image_is_refused(image: str) -> None:
    with pytest.raises(UserError, match="is not the name of an image") as caught:
        target_name(image)

    assert caught.value.next_step == "just push myapp:latest"


# -- asking -------------------------------------------------------------------------------------------------------


def test_a_registry_answers(shop: Registry, dead: Registry) -> None:
    assert answers(shop)
    assert not answers(dead)


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("127.0.0.1", "127.0.0.1:5050"),
        ("192.168.1.5", "192.168.1.5:5050"),
        ("0.0.0.0", "127.0.0.1:5050"),
        ("::", "[::1]:5050"),
        ("::1", "[::1]:5050"),
    ],
)
def test_a_registry_is_asked_where_it_listens(dead: Registry, address: str, endpoint: str) -> None:
    registry = replace(dead, address=address, port=5050)

    assert registry.endpoint == endpoint


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have 127.0.0.1 alone")
def test_a_registry_that_listens_on_another_address_alone_answers(machine: Machine) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    machine.add("docker", "exit 0")
    with serving(Handler, "127.0.0.2") as host:
        there = Registry("k3d-shop-registry", int(host.rpartition(":")[2]), "registry:2", "", address="127.0.0.2")

        assert answers(there)
        registry.require_answer(there)
        registry.wait_until_it_answers(there, 0)
        assert not answers(replace(there, address="127.0.0.1"))
    with pytest.raises(UserError, match=r"does not answer on http://127\.0\.0\.2:"):
        registry.require_answer(there)


def test_a_server_that_is_no_registry_does_not_answer(served: WebServer, shop: Registry) -> None:
    del served.files["/v2/"]

    assert not answers(shop)


def test_a_server_that_speaks_another_protocol_does_not_answer() -> None:
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        assert not answers(Registry("r", listener.getsockname()[1], "registry:2", ""))
        thread.join()


def test_a_server_that_says_nothing_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_TIMEOUT", 0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not answers(Registry("r", listener.getsockname()[1], "registry:2", ""))


def test_a_registry_that_never_answers_shows_its_log(machine: Machine, dead: Registry) -> None:
    machine.add("docker", "echo 'configuration error: open config.yml' >&2; echo access")

    with pytest.raises(UserError, match="does not answer") as caught:
        registry.wait_until_it_answers(dead, 0)

    assert "configuration error" in caught.value.why
    assert caught.value.next_step == "docker logs k3d-shop-registry"


def _catalog(served: WebServer, *pages: list[str]) -> None:
    last = ""
    for page in pages:
        served.files["/v2/_catalog?n=2" + (f"&last={last}" if last else "")] = json.dumps(
            {"repositories": page}
        ).encode()
        last = page[-1] if page else ""


@pytest.mark.parametrize(
    ("pages", "number"),
    [([["a"]], 1), ([["a", "b"], ["c/d", "e"], ["f"]], 5), ([["a", "b"], []], 2), ([[]], 0)],
)
def test_all_pages_of_the_catalog_are_counted(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    served: WebServer,
    shop: Registry,
    pages: list[list[str]],
    number: int,
) -> None:
    monkeypatch.setattr(registry, "_CATALOG_PAGE", 2)
    machine.add("docker", "echo '12 /var/lib/registry'")
    _catalog(served, *pages)

    assert use_of(shop) == RegistryUse(number, 12 * 1024)
    assert len(served.asked) == len(pages)


def test_a_size_that_cannot_be_asked_is_unknown(machine: Machine, served: WebServer, shop: Registry) -> None:
    served.files["/v2/_catalog?n=1000"] = b'{"repositories": null}'
    machine.add("docker", "echo 'du: not found' >&2; exit 1")

    assert use_of(shop) == RegistryUse(0, None)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"repositories": 3}', b"\xff"])
def test_an_answer_that_is_no_catalog_tells_nothing(served: WebServer, shop: Registry, body: bytes) -> None:
    served.files["/v2/_catalog?n=1000"] = body

    assert use_of(shop) is None


def test_a_dead_registry_tells_nothing(dead: Registry) -> None:
    assert use_of(dead) is None


# -- push ---------------------------------------------------------------------------------------------------------


def _add_docker(machine: Machine, *images: str, push: str = "echo pushed") -> None:
    known = " ".join(f"image:inspect:{image})" for image in images).replace(") image", "|image")
    machine.add(
        "docker",
        f"""case $1:$2:$3 in
{known} echo '[{{}}]'; exit;;
image:inspect:*) echo "No such image: $3" >&2; exit 1;;
push:*) {push};;
esac"""
        if known
        else f'case $1 in image) echo "No such image: $3" >&2; exit 1;; push) {push};; esac',
    )


def test_an_image_of_docker_is_tagged_pushed_and_untagged(machine: Machine, shop: Registry) -> None:
    _add_docker(machine, "team/app:1.0", push="echo one; echo two >&2")
    lines: list[str] = []

    name = push("team/app:1.0", OwnImages(shop), lines.append)

    reference = f"localhost:{shop.port}/team/app:1.0"
    assert name == f"k3d-shop-registry.localhost:{shop.port}/team/app:1.0"
    assert [call for call in machine.calls if "inspect" not in call] == [
        f"docker tag team/app:1.0 {reference}",
        f"docker push {reference}",
        f"docker rmi {reference}",
    ]
    assert lines == ["one", "two"]


def test_the_temporary_tag_goes_also_where_the_push_fails(machine: Machine, shop: Registry) -> None:
    _add_docker(machine, "app", push="echo denied >&2; exit 1")

    with pytest.raises(CommandFailedError, match="docker push") as caught:
        push("app", OwnImages(shop), print)

    assert caught.value.output == "denied"
    assert machine.calls[-1] == f"docker rmi localhost:{shop.port}/app:latest"


def test_a_tag_that_cannot_be_taken_away_does_not_hide_the_failure(machine: Machine, shop: Registry) -> None:
    _add_docker(machine, "app", push="echo denied >&2; exit 1")
    path = machine.bin / "docker"
    path.write_text(path.read_text(encoding="utf-8") + '\n[ "$1" != rmi ] || { echo conflict >&2; exit 1; }\n')

    with pytest.raises(CommandFailedError, match="docker push"):
        push("app", OwnImages(shop), print)


@pytest.mark.parametrize("tag", ["", ":latest"])
def test_a_name_that_the_developer_gave_stays(machine: Machine, shop: Registry, tag: str) -> None:
    reference = f"localhost:{shop.port}/app"
    _add_docker(machine, reference, f"{reference}:latest")

    push(f"{reference}{tag}", OwnImages(shop), print)

    assert f"docker push {reference}:latest" in machine.calls
    assert not any("rmi" in call for call in machine.calls)


def test_an_image_of_buildah_alone_is_pushed_by_buildah(machine: Machine, shop: Registry) -> None:
    _add_docker(machine)
    machine.add("buildah", "exit 0")

    name = push("app:1.0", OwnImages(shop), print)

    assert name.endswith("/app:1.0")
    assert machine.calls[-1] == (f"buildah push --tls-verify=false app:1.0 docker://localhost:{shop.port}/app:1.0")


@pytest.mark.parametrize("buildah", [True, False])
def test_an_image_that_nobody_has_is_named(machine: Machine, shop: Registry, buildah: bool) -> None:
    _add_docker(machine)
    if buildah:
        machine.add("buildah", "echo 'no such image' >&2; exit 125")

    with pytest.raises(UserError, match=r"no local image app:1\.0") as caught:
        push("app:1.0", OwnImages(shop), print)

    assert ("nor Buildah" in caught.value.why) is buildah
    assert "docker images" in caught.value.next_step


def test_a_dead_registry_is_named_before_anything_is_tagged(machine: Machine, dead: Registry) -> None:
    _add_docker(machine, "app")

    with pytest.raises(UserError, match="does not answer") as caught:
        push("app", OwnImages(dead), print)

    assert caught.value.next_step == "just create"
    assert machine.calls == []


# -- its container ------------------------------------------------------------------------------------------------


def test_the_container_is_made_as_k3d_would(machine: Machine, tmp_path: Path) -> None:
    machine.add("docker", "exit 0")
    environment: Environment = sample_environment(tmp_path / "shop", dotenv="REGISTRY_PORT=6050\n")

    registry.run_registry_container(environment)

    (call,) = machine.calls
    words = call.split()
    assert words[:3] == ["docker", "run", "--detach"]
    assert words[-1] == environment.registry.image
    for word in (
        "--name=k3d-shop-registry",
        "--network=k3d-shop",
        "--publish=127.0.0.1:6050:5000",
        "--volume=k3d-shop-registry:/var/lib/registry",
        "--label=k3d.cluster=shop",
        "--label=k3d.role=registry",
    ):
        assert word in words


def test_names_hold_the_effective_port(shop: Registry) -> None:
    assert replace(shop, port=6050).host_names == ("k3d-shop-registry.localhost:6050", "localhost:6050")
