"""A cluster right after generation, through the same command that a person types."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.generated import Finished, Generated, answers_for_tests

pytestmark = pytest.mark.e2e

_BROKEN_K3D = """\
#!/bin/sh
[ "$1" = version ] && echo "k3d version v5.9.0" && exit
echo "the engine is on fire" >&2
exit 1
"""


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Generated]:
    """An environment that is not generated yet."""
    home = tmp_path / "home"
    (home / ".kube").mkdir(parents=True)
    environment = Generated(tmp_path / "env", home, answers_for_tests())
    yield environment
    environment.remove()


def _generate(environment: Generated, template: Path, path: str = "") -> Finished:
    """Generates with `create_cluster`; `path` goes before PATH."""
    data = [f"--data={key}={value}" for key, value in environment.answers.items()]
    developer = Generated(template, environment.home, environment.answers)
    variables = {"PATH": f"{path}:{environment.variables()['PATH']}"} if path else {}
    return developer.run(
        template / "script" / "new",
        environment.root,
        "--defaults",
        "--data=create_cluster=true",
        *data,
        variables=variables,
    )


def test_the_hook_creates_the_cluster(environment: Generated, template: Path) -> None:
    done = _generate(environment, template)
    assert f"The cluster {environment.cluster} is running" in done.output
    assert environment.ready_nodes() == {environment.server}
    assert environment.status()["state"] == "running"
    assert "nothing had to be done" in environment.just("create").stdout


def test_a_failing_hook_keeps_the_repository_and_says_how_to_go_on(
    environment: Generated, template: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken" / "k3d"
    broken.parent.mkdir()
    broken.write_text(_BROKEN_K3D, encoding="utf-8")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    done = _generate(environment, template, str(broken.parent))
    assert "the engine is on fire" in done.output
    assert "just create" in done.output
    assert (environment.root / "k3d.yaml").exists()
    environment.assert_nothing_is_left()
