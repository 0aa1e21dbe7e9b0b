"""The API of a cluster that is slow to delete: what a client then sees between its look and its deletion."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from e2e.generated import Generated
from loopback_server import serving


@contextmanager
def late_api(environment: Generated, kind: str, name: str) -> Iterator[str]:
    """The cluster's API as HOST:PORT, for reading and for one deletion that nothing else has a part in.

    The first request to delete is accepted, and nothing happens yet. When the second one comes, the object goes, and
    the answer is that there is none. What these do not ask is passed on.
    """
    with _proxy(environment) as api:
        requests: list[str] = []

        class Front(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    with urllib.request.urlopen(f"{api}{self.path}", timeout=30) as response:
                        self._send(response.status, response.read())
                except urllib.error.HTTPError as error:
                    self._send(error.code, error.read())

            def do_DELETE(self) -> None:
                requests.append(self.path)
                if len(requests) == 1:
                    self._send(200, _status("Success"))
                    return
                environment.kubectl("delete", kind, name, "--wait")
                self._send(404, _status("Failure", reason="NotFound", code=404))

            def log_message(self, *_: Any) -> None:
                pass

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        with serving(Front) as address:
            yield address
    assert [path.rpartition("/")[2] for path in requests] == [name, name]


@contextmanager
def _proxy(environment: Generated) -> Iterator[str]:
    """The API without its encryption, by kubectl."""
    argv = ["kubectl", f"--kubeconfig={environment.kubeconfig}", "proxy", "--port=0"]
    proxy = subprocess.Popen(argv, env=environment.variables(), stdout=subprocess.PIPE, text=True)
    try:
        assert proxy.stdout is not None
        # It prints where it listens as its only line.
        yield f"http://{proxy.stdout.readline().split()[-1]}"
    finally:
        proxy.kill()
        proxy.communicate()


def _status(status: str, **more: Any) -> bytes:
    return json.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status, **more}).encode()
