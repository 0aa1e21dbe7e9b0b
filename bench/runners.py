"""Measures `install-arc` against the commands by which a person installs the same charts."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from pairs import call

_NAMESPACE = "arc-runners"
_SECONDS = 180


@dataclass(frozen=True)
class Runners:
    """An environment whose runners belong to a GitHub that stands in.

    Attributes:
        root: The repository.
        env: The environment of every command.
        kubeconfig: Of its cluster.
        plan: What `install-arc` decided: charts, values, config maps.
    """

    root: Path
    env: dict[str, str]
    kubeconfig: Path
    plan: dict[str, dict[str, object]]

    def by_envkit(self) -> None:
        """The recipe, which waits for the first idle runner."""
        call(["just", "install-arc"], env=self.env, cwd=self.root)

    def by_hand(self) -> None:
        """Helm and kubectl with the same charts and values, then a look every third of a second for the runner."""
        controller, runners = self.plan["controller"], self.plan["runners"]
        self._helm("arc", "arc-systems", str(controller["chart"]), controller["values"], "--wait")
        self._kubectl("create", "namespace", _NAMESPACE)
        manifests = {"apiVersion": "v1", "kind": "List", "items": runners["manifests"]}
        self._kubectl("apply", "--filename=-", stdin=json.dumps(manifests))
        credentials = self.plan["credentials"]
        self._kubectl(
            *("create", "secret", "generic", "arc-github", f"--namespace={_NAMESPACE}"),
            f"--from-literal=github_app_id={credentials['app_id']}",
            f"--from-literal=github_app_installation_id={credentials['installation_id']}",
            f"--from-file=github_app_private_key={credentials['private_key_file']}",
        )
        self._helm(str(runners["name"]), _NAMESPACE, str(runners["chart"]), runners["values"])
        deadline = time.monotonic() + _SECONDS
        while "true" not in self._kubectl(
            *("get", "ephemeralrunners", f"--namespace={_NAMESPACE}", "--output=jsonpath={.items[*].status.ready}")
        ):
            if time.monotonic() > deadline:
                raise TimeoutError("no runner became idle")
            time.sleep(0.3)

    def keep_to_one_node(self) -> None:
        """Has all pods run on the server: a first runner on another node would wait for its images there."""
        self._kubectl("cordon", "--selector=!node-role.kubernetes.io/control-plane")

    def remove(self) -> None:
        """Takes everything away again."""
        call(["just", "--yes", "delete-arc"], env=self.env, cwd=self.root)

    def _helm(self, name: str, namespace: str, chart: str, values: object, *more: str) -> None:
        call(
            [
                *("helm", "upgrade", "--install", name, chart, f"--namespace={namespace}", "--create-namespace"),
                *(f"--kubeconfig={self.kubeconfig}", "--values=-", *more),
            ],
            env=self.env,
            stdin=json.dumps(values),
        )

    def _kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return call(["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments], env=self.env, stdin=stdin)


def has_github() -> bool:
    """Whether a GitHub stands in on this machine; the variables LAB_ARC_* tell of it."""
    return "LAB_ARC_VERSION" in os.environ


def arc_answers() -> dict[str, str]:
    """Answers that take ARC from what stands in on this machine; none where nothing does."""
    if not has_github():
        return {}
    return {
        "arc_version": os.environ["LAB_ARC_VERSION"],
        "arc_chart_repository": str(Path(os.environ["LAB_ARC_CONTROLLER_CHART"]).parent),
        "buildkit_image": os.environ["LAB_BUILDKIT_IMAGE"],
    }


def prepare_runners(root: Path, env: dict[str, str], kubeconfig: Path) -> Runners:
    """Fills in credentials, pushes an image of the lab's runner and prepares Ansible; the cluster runs already."""
    key = root / ".github-app-private-key.pem"
    key.touch(mode=0o600)
    key.write_text(call(["openssl", "genrsa", "-traditional", "2048"], env=env), encoding="utf-8")
    (root / ".env").write_text(
        "GITHUB_APP_ID=1\nGITHUB_APP_INSTALLATION_ID=2\nGITHUB_APP_PRIVATE_KEY_PATH=.github-app-private-key.pem\n"
        f"GITHUB_CONFIG_URL={os.environ['LAB_GITHUB_URL']}\n",
        encoding="utf-8",
    )
    subprocess.run(["curl", "-fsS", "-d", "{}", f"{os.environ['LAB_GITHUB_CONTROL']}/reset"], check=True)
    image = "bench-runners:1"
    call(["docker", "tag", os.environ["LAB_RUNNER_IMAGE"], image], env=env)
    pushed = call(["just", "push", image], env=env, cwd=root)
    note = root / ".tools" / "runner-image"
    note.parent.mkdir(exist_ok=True)
    note.write_text(pushed.rpartition("image: ")[2].strip() + "\n", encoding="utf-8")
    plan = json.loads(call(["bin/envkit", "arc-plan", "install"], env=env, cwd=root))
    return Runners(root, env, kubeconfig, plan)
