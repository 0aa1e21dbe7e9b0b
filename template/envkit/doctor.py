"""All checks of this machine in one table. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from envkit import preflight
from envkit.arc.settings import has_runners
from envkit.cluster import load_cluster
from envkit.engine import k3d_containers
from envkit.environment import PortKey
from envkit.errors import UserError
from envkit.existing.cluster import ExistingCluster
from envkit.localhost_names import hosts_command, resolves
from envkit.neighbours import Neighbour, neighbours
from envkit.observation import observe
from envkit.paths import ROOT, just_command
from envkit.port_list import others_ports
from envkit.preflight import Check, Verdict
from envkit.provider import is_existing
from envkit.report import new_table, plain, print_report
from envkit.tool_versions import tool_statuses


def diagnose() -> list[Check]:
    """Runs every check; one that cannot run says so instead of stopping the others."""
    try:
        checks = _check_tools()
    except UserError as error:
        checks = [Check("Tools", Verdict.FAIL, f"{error.what} {error.why}", error.next_step)]
    try:
        environment = load_cluster()
        if isinstance(environment, ExistingCluster):
            from envkit.existing.checks import check_cluster

            checks += check_cluster(environment)
            return [*checks, *_check_network_of_runners(environment), *_check_mirrors(), *_check_runner()]
    except UserError as error:
        return [*checks, Check("Configuration", Verdict.FAIL, f"{error.what} {error.why}", error.next_step)]
    checks.append(preflight.check_config(environment))
    docker = preflight.check_docker()
    checks.append(docker)
    own: frozenset[PortKey] = frozenset()
    others: dict[PortKey, Neighbour] = {}
    if docker.verdict is Verdict.OK:
        try:
            observation = observe(environment)
            checks += preflight.check_resources(environment)
            checks += preflight.check_names(environment, observation)
            checks += preflight.check_shared_registry(environment, observation)
            checks += preflight.check_leftovers(environment, observation)
            others = others_ports(environment, neighbours(k3d_containers()))
            own = preflight.own_published_ports(observation)
        except UserError as error:  # the engine went away, or refuses to describe one of its objects
            checks.append(preflight.failed_docker(error))
    checks += preflight.check_corporate_network(environment)
    checks += preflight.check_inotify()
    checks += preflight.check_ports(environment.ports, own, others)
    checks.append(_check_registry_name(f"{environment.registry.name}.localhost"))
    checks += _check_mirrors()
    checks += _check_runner()
    return checks


def print_checks(checks: list[Check]) -> int:
    """Prints the table; returns 1 if something fails."""
    colours = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
    table = new_table(columns=3)
    for check in checks:
        table.add_row(f"[{colours[check.verdict]}]{check.verdict}[/]", check.subject, plain(check.detail))
        if check.fix and check.verdict is not Verdict.OK:
            table.add_row("", "", f"[dim]fix:[/] {plain(check.fix)}")
    print_report(table)
    failed = sum(check.verdict is Verdict.FAIL for check in checks)
    print(f"\n{failed} would stop {_what_fails()}." if failed else "\nNothing stands in the way.")
    return 1 if failed else 0


def _what_fails() -> str:
    if not is_existing():
        return f"`{just_command()} create`"
    return f"`{just_command()} install-arc`" if has_runners() else "those who use the cluster"


def _check_tools() -> list[Check]:
    checks = []
    for status in tool_statuses():
        fix = "" if status.ok else f"{just_command()} install"
        found = f"{status.version} ({status.path})" if status.path else "not installed"
        if status.ok:
            verdict, detail = Verdict.OK, found if status.path else status.note
        else:
            verdict = Verdict.FAIL if status.tool.needed_by_create else Verdict.WARN
            wrong = f"{found} is not {status.accepted}" if status.path else found
            detail = f"{wrong}; pinned: {status.pinned}" if status.pinned else wrong
        checks.append(Check(status.name, verdict, detail, fix))
    return checks


def _check_runner() -> list[Check]:
    if not (ROOT / "runner").is_dir():
        return []
    from envkit.runner.age import check_age

    try:
        return [check_age(ROOT)]
    except UserError as error:
        return [Check("Runner", Verdict.WARN, f"{error.what} {error.why}", error.next_step)]


def _check_network_of_runners(cluster: ExistingCluster) -> list[Check]:
    """What runners get of a company's network. It stands in the way of their jobs, and of no recipe: nothing fails."""
    if not has_runners():
        return []
    checks = preflight.check_corporate_network(cluster)
    return [replace(check, verdict=Verdict.WARN) if check.verdict is Verdict.FAIL else check for check in checks]


def _check_mirrors() -> list[Check]:
    from envkit.mirrors import read_mirrors

    try:
        mirrors = read_mirrors()
    except UserError as error:
        return [Check("Mirrors", Verdict.FAIL, f"{error.what} {error.why}", error.next_step)]
    addresses = [mirrors.downloads, mirrors.python_index, mirrors.npm_registry, mirrors.apt]
    if not mirrors.hosts and not any(addresses):
        return []
    from envkit.download import check_answer
    from envkit.registry_api import Registries

    registries = Registries(mirrors.plain_http)
    wanted: list[tuple[str, Callable[[], None]]] = [(host, partial(registries.check, host)) for host in mirrors.hosts]
    wanted += [(address, partial(check_answer, address)) for address in addresses if address]
    checks = []
    for name, ask in wanted:
        try:
            ask()
        except UserError as error:
            # What it should bring may be here already.
            checks.append(Check("Mirror", Verdict.WARN, f"{error.what} {error.why}".strip(), error.next_step))
        else:
            checks.append(Check("Mirror", Verdict.OK, f"{name} answers"))
    return checks


def _check_registry_name(name: str) -> Check:
    if resolves(name):
        return Check("Host name", Verdict.OK, f"{name} resolves")
    return Check(
        "Host name",
        Verdict.WARN,
        f"{name} does not resolve here; localhost with the registry's port works everywhere",
        f"{just_command()} install   (or: {hosts_command(name)})",
    )
