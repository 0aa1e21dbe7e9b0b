"""What runs in the clusters of the tests: a small HTTP server whose image lies in the environment's registry."""

from __future__ import annotations

import http.client
import json
import os
import secrets
from typing import Any

from e2e.generated import Generated
from e2e.machine import docker, wait_until

HELLO_IMAGE = os.environ.get("E2E_HELLO_IMAGE", "lab/hello:1")
"""An image whose program `/hello` listens for HTTP on port 8080, and with `get URL` or `lookup NAME` is a client."""

_HTTP_TIMEOUT = 3


def push_hello(environment: Generated) -> str:
    """Puts the image into the registry under a new tag, as a developer does; returns its name without the host."""
    name = f"hello:{secrets.token_hex(4)}"
    docker("tag", HELLO_IMAGE, name)
    try:
        environment.just("push", name)
    finally:
        docker("rmi", name)
    return name


def image_name(environment: Generated, name: str, host: str = "{registry}.localhost:{port}") -> str:
    """The name of an image in the registry by one of the registry's host names."""
    port = environment.answers["registry_port"]
    return f"{host.format(registry=environment.registry, port=port)}/{name}"


def pull(environment: Generated, image: str, seconds: float = 60) -> None:
    """Has a node pull this image and run it; the test fails where it cannot within that time."""
    name = f"pull-{secrets.token_hex(4)}"
    _apply(environment, _pod(name, image))
    try:
        wait_until(f"a pod of {image} runs", lambda: _phase(environment, name) == "Running", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{environment.kubectl('describe', 'pod', name)}") from None
    finally:
        environment.kubectl("delete", "pod", name, "--now", "--wait=false")


def deploy(environment: Generated, image: str) -> str:
    """Runs the HTTP server on every node, on port 80 of the node; returns a text that a config map keeps."""
    text = secrets.token_hex(8)
    keepsake = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"text": text}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": _pod("web", image, host_port=80)["spec"]}
    web = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template},
    }
    _apply(environment, {"apiVersion": "v1", "kind": "List", "items": [keepsake, web]})
    assert_it_works(environment, text)
    return text


def assert_it_works(environment: Generated, text: str) -> None:
    """The config map still has this text, and the HTTP server of every node answers through the load balancer."""
    assert environment.kubectl("get", "configmap", "kept", "--output=jsonpath={.data.text}") == text
    environment.kubectl("rollout", "status", "daemonset/web", "--timeout=90s")
    nodes = environment.ready_nodes()
    pods = environment.objects("pods", "--selector=app=web")
    wanted = {pod["metadata"]["name"] for pod in pods if pod["spec"]["nodeName"] in nodes}
    assert len(wanted) == len(nodes)
    port = environment.answers["http_port"]
    answered: set[str] = set()

    def every_node_has_answered() -> bool:
        body = get(port)
        answered.update(pod for pod in wanted if pod in body)
        return answered == wanted

    try:
        wait_until("the web server of every node answers", every_node_has_answered, 60)
    except AssertionError as error:
        raise AssertionError(f"{error}; of {wanted} only {answered} answered") from None


def in_pod(environment: Generated, *arguments: str) -> str:
    """What the image's client prints when it runs in a pod."""
    pod = environment.objects("pods", "--selector=app=web")[0]["metadata"]["name"]
    return environment.kubectl("exec", pod, "--", "/hello", *arguments)


def get(port: int) -> str:
    """What answers HTTP on a port of this machine; empty where nothing does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_HTTP_TIMEOUT)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _pod(name: str, image: str, host_port: int | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "hello", "image": image, "imagePullPolicy": "Always"}
    if host_port:
        container["ports"] = [{"containerPort": 8080, "hostPort": host_port}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def _apply(environment: Generated, manifest: dict[str, Any]) -> None:
    environment.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))


def _phase(environment: Generated, pod: str) -> str:
    return environment.kubectl("get", "pod", pod, "--output=jsonpath={.status.phase}")
