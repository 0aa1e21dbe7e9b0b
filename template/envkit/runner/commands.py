"""The subcommands about the image of the runners."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from envkit.cluster import load_cluster
from envkit.paths import just_command
from envkit.progress import Steps

_Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_runner_commands(add: _Add) -> None:
    """Adds them by `add(name, function, text)`."""
    build = add("build-runner", _build, "build the image of the runners and put it into the registry")
    build.add_argument("--builder", choices=["buildah", "docker"], help="default: Buildah, or Docker without it")
    add("test-runner", _test, "run every tool of the image and compare its version with runner/tools.toml")
    checksums = add(
        "runner-checksums", _checksums, "fetch the published sums of changed versions into runner/tools.toml"
    )
    checksums.add_argument("--all", action="store_true", help="compare those of unchanged versions too")
    add("runner-outdated", _outdated, "say how old the runner in the image is; exit status 1 where it is too old")


def _build(arguments: argparse.Namespace) -> int:
    from envkit.runner.image import build_and_push

    cluster = load_cluster()
    with Steps() as steps:
        reference, built = build_and_push(cluster, steps, builder=arguments.builder)
    print(f"{'Built and pushed' if built else 'The registry has it already'}: {reference}")
    print(f"Next: {just_command()} test-runner, {just_command()} install-arc")
    return 0


def _test(_: argparse.Namespace) -> int:
    from envkit.report import new_table, plain, print_report
    from envkit.runner.versions import check_versions

    cluster = load_cluster()
    with Steps() as steps, steps.step("Running every tool of the image"):
        results = check_versions(cluster)
    table = new_table(columns=4)
    for finding in results:
        mark = "[green]ok[/]" if finding.ok else "[red]fail[/]"
        first = (finding.printed.splitlines() or ["(nothing)"])[0]
        table.add_row(mark, finding.name, finding.expected, plain(first))
    print_report(table)
    failed = [finding.name for finding in results if not finding.ok]
    print(f"\nNot as pinned: {', '.join(failed)}." if failed else "\nEvery tool runs and has the pinned version.")
    return 1 if failed else 0


def _checksums(arguments: argparse.Namespace) -> int:
    from envkit.runner.checksums import refresh

    with Steps() as steps:
        changed = refresh(steps, every=arguments.all)
    if not changed:
        print("The published sums of every version are known already.")
        return 0
    print("\n".join(["Written to the tools of runner/:", *(f"  {line}" for line in changed)]))
    print(f"Next: git diff runner/, {just_command()} build-runner")
    return 0


def _outdated(_: argparse.Namespace) -> int:
    from envkit.preflight import Verdict
    from envkit.runner.age import check_age

    check = check_age()
    print(check.detail)
    if check.verdict is Verdict.OK:
        return 0
    print(f"Next: {check.fix}")
    return 1
