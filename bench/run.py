"""Measures generation, `create` and the CI image against the raw tools."""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from pairs import Result, Side, call, compare
from report import Row, joined, page, plot, row_of, rows_of, table
from runners import arc_answers, has_github, prepare_runners
from stand_in_releases import Releases

ROOT = Path(__file__).resolve().parent.parent
_PAGE = ROOT / "bench" / "results.md"
_CLUSTER = "bench-dev"
_RAW = "bench-raw"
_REGISTRY = "bench-image-registry"
_COLD_REGISTRY = "bench-cold-registry"
_MEGABYTES = {"go": 70, "skaffold": 110, "kubectl": 58, "buildkit": 40, "helm": 55, "golangci-lint": 40, "esbuild": 10}
_SIZES = {name: megabytes * 1_000_000 for name, megabytes in _MEGABYTES.items()}
"""Bytes of the tools, about; the smaller ones hardly count."""


@dataclass(frozen=True)
class Workplace:
    """Where everything happens: a folder of its own, which is also HOME.

    Attributes:
        folder: The folder.
        env: The environment of every command.
        template: A copy of the template as it is in the working tree.
    """

    folder: Path
    env: dict[str, str]
    template: Path


def main() -> int:
    """Runs the comparisons; exit status 1 where a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which comparisons; all without: {', '.join(COMPARISONS)}")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each side (default: 5)")
    parser.add_argument(
        "--save",
        action="store_true",
        help="write what was measured into bench/results.md and .svg; its other rows stay",
    )
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - COMPARISONS.keys())
    if unknown:
        parser.error(f"no such comparison: {', '.join(unknown)} (there are: {', '.join(COMPARISONS)})")
    kept = rows_of(_PAGE.read_text(encoding="utf-8")) if arguments.save and _PAGE.exists() else []
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        workplace = prepare(Path(folder))
        results = [COMPARISONS[name](workplace, arguments.runs) for name in arguments.names or possible()]
    rows = [row_of(result, now) for result in results]
    print(f"\n{table(rows)}")
    if arguments.save:
        save(joined(kept, rows))
    exceeded = [result.name for result in results if result.ratio > result.limit]
    if exceeded:
        print(f"\nOver the limit: {', '.join(exceeded)}", file=sys.stderr)
    return 1 if exceeded else 0


def save(rows: Sequence[Row]) -> None:
    """Writes the page and its plot."""
    _PAGE.write_text(page(rows), encoding="utf-8")
    plot(rows, _PAGE.with_suffix(".svg"))


def possible() -> list[str]:
    """The comparisons that this machine has the means for."""
    if has_github():
        return list(COMPARISONS)
    print("  install-arc: left out, no GitHub stands in here (LAB_ARC_VERSION is not set)")
    return [name for name in COMPARISONS if name != "install-arc"]


def prepare(folder: Path) -> Workplace:
    """Copies the template and makes an environment of variables in which nothing of the person's own is touched."""
    home = folder / "home"
    home.mkdir()
    env = os.environ | {"HOME": str(home), "ENVKIT_STATE_DIR": str(folder / "state")}
    env.pop("KUBECONFIG", None)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # set in containers for tests, and on no developer's machine
    template = folder / "template"
    listed = call(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], env=dict(os.environ), cwd=ROOT
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (template / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, template / name, follow_symlinks=False)
    return Workplace(folder, env, template)


def generation(workplace: Workplace, runs: int) -> Result:
    """The whole template against a template of one file, both by `copier copy` from a folder."""
    tiny = workplace.folder / "tiny"
    (tiny / "template").mkdir(parents=True)
    (tiny / "copier.yml").write_text("name: {type: str, default: x}\n_subdirectory: template\n", encoding="utf-8")
    (tiny / "template" / "file.txt.jinja").write_text("{{ name }}\n", encoding="utf-8")
    return compare(
        "generation",
        _copying("this template", workplace, workplace.template),
        _copying("a template of one file", workplace, tiny),
        runs=runs,
        limit=1.5,
    )


def generation_same_files(workplace: Workplace, runs: int) -> Result:
    """The whole template against its own result as a template: the same files, no question, check or variable."""
    plain = workplace.folder / "plain"
    plain.mkdir()
    (plain / "copier.yml").write_text("_subdirectory: template\n", encoding="utf-8")
    call(
        ["copier", "copy", "--quiet", "--defaults", "--trust", workplace.template, plain / "template"],
        env=workplace.env,
    )
    return compare(
        "generation, same files",
        _copying("this template", workplace, workplace.template),
        _copying("its files, nothing asked or rendered", workplace, plain),
        runs=runs,
        limit=1.5,
    )


def _copying(name: str, workplace: Workplace, template: Path) -> Side:
    destination = workplace.folder / f"generated-{template.name}"

    def run() -> None:
        call(["copier", "copy", "--quiet", "--defaults", "--trust", template, destination], env=workplace.env)

    return Side(name, run, lambda: shutil.rmtree(destination, ignore_errors=True))


def no_op_create(workplace: Workplace, runs: int) -> Result:
    """`just create` on a running cluster against the two commands by which a person would look."""
    repository = environment(workplace)
    kubeconfig = workplace.folder / "home" / ".kube" / f"k3d-{_CLUSTER}.yaml"
    try:
        call(["just", "create"], env=workplace.env, cwd=repository)

        def look() -> None:
            call(["k3d", "cluster", "list"], env=workplace.env)
            call(["kubectl", f"--kubeconfig={kubeconfig}", "get", "nodes"], env=workplace.env)

        return compare(
            "no-op create",
            Side("just create", lambda: _quietly(["just", "create"], workplace, repository)),
            Side("k3d cluster list + kubectl get nodes", look),
            runs=max(runs, 9),
            limit=3,
        )
    finally:
        call(["just", "--yes", "clean"], env=workplace.env, cwd=repository)


def cold_create(workplace: Workplace, runs: int) -> Result:
    """`just create` from nothing against k3d with the same configuration and a wait for Ready nodes."""
    repository = environment(workplace)
    raw_config = workplace.folder / "raw.yaml"
    text = (repository / "k3d.yaml").read_text(encoding="utf-8")
    raw_config.write_text(text.replace(_CLUSTER, _RAW).replace("k3d-bench-registry", "k3d-bench-raw-registry"))
    raw_kubeconfig = workplace.folder / "raw.kubeconfig"

    def raw_create() -> None:
        call(["k3d", "cluster", "create", "--config", raw_config, "--wait"], env=workplace.env)
        raw_kubeconfig.write_text(call(["k3d", "kubeconfig", "get", _RAW], env=workplace.env), encoding="utf-8")
        call(
            [
                *("kubectl", f"--kubeconfig={raw_kubeconfig}", "wait", "--for=condition=Ready"),
                *("nodes", "--all", "--timeout=180s"),
            ],
            env=workplace.env,
        )

    def remove_both() -> None:
        call(["just", "--yes", "clean"], env=workplace.env, cwd=repository)
        call(["k3d", "cluster", "delete", _RAW], env=workplace.env)
        subprocess.run(["docker", "volume", "rm", "k3d-bench-raw-registry"], capture_output=True, check=False)

    try:
        return compare(
            "cold create",
            Side("just create", lambda: _quietly(["just", "create"], workplace, repository), remove_both),
            Side("k3d cluster create --wait + kubectl wait", raw_create, remove_both),
            runs=runs,
            limit=1.05,
        )
    finally:
        remove_both()


def one_tool_bumped(workplace: Workplace, runs: int) -> Result:
    """`just build-runner` after one tool was bumped against the first build on a machine, both with the push.

    The first build finds nothing: neither the base image, nor a layer of its own, nor one in the registry. The tools
    are stand-ins of the real ones' sizes on a server of this machine: downloading takes hardly any time on either side.
    """
    repository = environment(workplace)
    port = yaml.safe_load((repository / "k3d.yaml").read_text(encoding="utf-8"))["registries"]["create"]["hostPort"]
    (cold_port,) = free_ports(1)
    cold = f"localhost:{cold_port}/cold:1"
    versions = itertools.count(100)
    warm_env = workplace.env | {"CONTAINERS_STORAGE_CONF": str(_storage(workplace.folder / "warm"))}
    cold_env = workplace.env | {"CONTAINERS_STORAGE_CONF": str(_storage(workplace.folder / "cold"))}
    try:
        with Releases() as releases:
            warm_env |= releases.variables
            releases.publish(repository, sizes=_SIZES)
            _run_registry(_REGISTRY, port)
            call(["just", "build-runner"], env=warm_env, cwd=repository)  # fetches what npm has, for both
            arguments = [f"--build-arg=RUNNER_MIRROR={releases.url}", "--network=host", f"--tag={cold}"]
            if base := os.environ.get("LAB_RUNNER_IMAGE"):
                arguments.append(f"--build-arg=BASE_IMAGE={base}")

            def forget_everything() -> None:
                _remove_storage(cold_env)
                _run_registry(_COLD_REGISTRY, cold_port)

            def build_all() -> None:
                call(["buildah", "build", "--layers", *arguments, repository / "runner"], env=cold_env)
                call(["buildah", "push", "--tls-verify=false", cold], env=cold_env)

            def build_bumped() -> None:
                call(["just", "build-runner"], env=warm_env, cwd=repository)

            return compare(
                "one tool of the image",
                Side(
                    "just build-runner, Helm bumped",
                    build_bumped,
                    lambda: releases.bump(repository, "helm", f"4.3.{next(versions)}"),
                ),
                Side("first buildah build + push", build_all, forget_everything),
                runs=min(runs, 3),
                limit=0.2,
            )
    finally:
        subprocess.run(
            ["docker", "rm", "--force", "--volumes", _REGISTRY, _COLD_REGISTRY], capture_output=True, check=False
        )
        _remove_storage(warm_env)
        _remove_storage(cold_env)


def _storage(folder: Path) -> Path:
    """The settings of a store for Buildah that holds nothing yet."""
    folder.mkdir()
    settings = folder / "storage.conf"
    settings.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n', encoding="utf-8"
    )
    return settings


def _remove_storage(env: dict[str, str]) -> None:
    subprocess.run(["buildah", "rmi", "--all", "--force"], env=env, capture_output=True, check=False)
    shutil.rmtree(Path(env["CONTAINERS_STORAGE_CONF"]).parent / "store", ignore_errors=True)


def _run_registry(name: str, port: int | str) -> None:
    subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
    call(
        ["docker", "run", "--detach", f"--name={name}", f"--publish=127.0.0.1:{port}:5000", "registry:2"],
        env=dict(os.environ),
    )
    address = f"http://127.0.0.1:{port}/v2/"
    call(
        ["curl", "--silent", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", address], env=dict(os.environ)
    )


def environment(workplace: Workplace) -> Path:
    """A generated environment with its virtual environment ready, on free ports."""
    repository = workplace.folder / "env"
    if repository.exists():
        return repository
    names = ("http_port", "https_port", "api_port", "registry_port")
    answers = {"project": "bench", "lens": "none", **dict(zip(names, map(str, free_ports(len(names))), strict=True))}
    if image := os.environ.get("LAB_K3S_IMAGE"):
        answers["k3s_image"] = image
    if image := os.environ.get("LAB_RUNNER_IMAGE"):
        answers["runner_base_image"] = image
    answers |= arc_answers()
    data = [part for key, value in answers.items() for part in ("--data", f"{key}={value}")]
    call(
        ["copier", "copy", "--quiet", "--defaults", "--trust", *data, workplace.template, repository],
        env=workplace.env,
    )
    call(["bin/envkit", "--help"], env=workplace.env, cwd=repository)
    return repository


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nothing listens on."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def install_arc(workplace: Workplace, runs: int) -> Result:
    """`just install-arc` to the first idle runner against the same charts by Helm and kubectl, on a running cluster."""
    repository = environment(workplace)
    try:
        call(["just", "create"], env=workplace.env, cwd=repository)
        runners = prepare_runners(
            repository, workplace.env, workplace.folder / "home" / ".kube" / f"k3d-{_CLUSTER}.yaml"
        )
        runners.keep_to_one_node()
        return compare(
            "install-arc",
            Side("just install-arc", runners.by_envkit, runners.remove),
            Side("helm and kubectl by hand", runners.by_hand, runners.remove),
            runs=runs,
            limit=1.3,
        )
    finally:
        call(["just", "--yes", "clean"], env=workplace.env, cwd=repository)


def _quietly(argv: list[str], workplace: Workplace, cwd: Path) -> None:
    call(argv, env=workplace.env, cwd=cwd)


COMPARISONS: dict[str, Callable[[Workplace, int], Result]] = {
    "generation": generation,
    "generation-same-files": generation_same_files,
    "no-op-create": no_op_create,
    "cold-create": cold_create,
    "one-tool-bumped": one_tool_bumped,
    "install-arc": install_arc,
}

if __name__ == "__main__":
    sys.exit(main())
