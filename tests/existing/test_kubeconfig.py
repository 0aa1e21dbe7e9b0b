"""The kubeconfig with one context, cut out of a developer's own by the real kubectl, and the consent to use it."""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from existing.conftest import CONTEXT

from envkit.errors import UserError
from envkit.existing import consent, kubeconfig
from envkit.existing.cluster import ExistingCluster
from envkit.existing.consent import confirm_context
from envkit.existing.kubeconfig import write_kubeconfigs

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH")

SERVER = "https://team.example.com"


@pytest.fixture
def own(cluster: ExistingCluster) -> Path:
    """A developer's kubeconfig with the context and another one, which is the current."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "company",
        "clusters": [{"name": n, "cluster": {"server": s}} for n, s in (("team", SERVER), ("other", "https://other"))],
        "users": [
            {"name": "me", "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws"}}},
            {"name": "you", "user": {"token": "foreign-token"}},
        ],
        "contexts": [
            {"name": CONTEXT, "context": {"cluster": "team", "user": "me"}},
            {"name": "company", "context": {"cluster": "other", "user": "you"}},
        ],
    }
    path = cluster.kubeconfig.parent / "config"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.mark.usefixtures("own")
def test_file_has_that_one_context_and_nothing_of_others(cluster: ExistingCluster) -> None:
    written = write_kubeconfigs(cluster)
    assert written.server == SERVER
    for path in (cluster.kubeconfigs.host, cluster.kubeconfigs.devcontainer):
        assert path.stat().st_mode & 0o777 == 0o600
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        assert document["current-context"] == CONTEXT
        assert [entry["name"] for entry in document["contexts"]] == [CONTEXT]
        assert "foreign-token" not in text
    assert write_kubeconfigs(cluster).changed == ()


def test_changed_credentials_reach_the_file(cluster: ExistingCluster, own: Path) -> None:
    write_kubeconfigs(cluster)
    own.write_text(own.read_text(encoding="utf-8").replace("command: aws", "command: kubelogin"), encoding="utf-8")
    assert str(cluster.kubeconfig) in write_kubeconfigs(cluster).changed
    assert "kubelogin" in cluster.kubeconfig.read_text(encoding="utf-8")


@pytest.mark.usefixtures("own")
def test_unknown_context_is_told_with_those_that_are_like_it(cluster: ExistingCluster) -> None:
    with pytest.raises(UserError) as caught:
        write_kubeconfigs(replace(cluster, context=CONTEXT.replace("team", "taem")))
    assert CONTEXT in caught.value.why
    assert "KUBE_CONTEXT" in caught.value.next_step
    assert not cluster.kubeconfig.exists()


@pytest.mark.parametrize(
    ("wanted", "told"), [("team-prd", "It has: team-prod."), ("xyz", "It has: a, b, c."), ("", "It has none.")]
)
def test_of_many_contexts_those_that_are_like_it_are_told(
    wanted: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c", "d", "team-prod"] if wanted else []
    monkeypatch.setattr(kubeconfig, "contexts", lambda: names)
    with pytest.raises(UserError) as caught:
        kubeconfig.one_context(wanted)
    assert caught.value.why == told


@pytest.mark.usefixtures("own")
def test_program_that_a_dev_container_lacks_is_named(cluster: ExistingCluster) -> None:
    assert any("program aws" in hint for hint in write_kubeconfigs(cluster).hints)


@pytest.mark.parametrize("server", ["https://127.0.0.1:6443", "https://localhost:6443", "https://0.0.0.0:6443"])
def test_api_on_this_machine_is_no_use_in_a_container(server: str, cluster: ExistingCluster, own: Path) -> None:
    own.write_text(own.read_text(encoding="utf-8").replace(SERVER, server), encoding="utf-8")
    assert any("CONTAINER_API_SERVER" in hint for hint in write_kubeconfigs(cluster).hints)
    named = replace(cluster, container_server="https://kind-control-plane:6443")
    assert not any("CONTAINER_API_SERVER" in hint for hint in write_kubeconfigs(named).hints)
    assert "kind-control-plane" in cluster.kubeconfigs.devcontainer.read_text(encoding="utf-8")
    assert server in cluster.kubeconfig.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "confirmed", "typed", "is_there", "accepted"),
    [
        (CONTEXT, "", "", False, True),
        ("company", CONTEXT, CONTEXT, True, False),
        ("", CONTEXT, "", False, True),
        ("", "company", CONTEXT, True, False),
        ("", "", CONTEXT, True, True),
        ("", "", "y", True, False),
        ("", "", "", True, False),
        ("", "", CONTEXT, False, False),
    ],
    ids=[
        "named-by-option",
        "wrong-option-wins",
        "named-by-variable",
        "wrong-variable-wins",
        "typed",
        "a-yes-is-not-the-name",
        "nothing-typed",
        "nobody-there",
    ],
)
def test_only_the_name_of_the_context_is_consent(
    given: str,
    confirmed: str,
    typed: str,
    is_there: bool,
    accepted: bool,
    cluster: ExistingCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(consent, "can_ask", lambda: is_there)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{typed}\n" if typed else ""))
    wanted = replace(cluster, confirmed=confirmed)
    if accepted:
        confirm_context(wanted, SERVER, recipe="install-arc", given=given)
    else:
        with pytest.raises(UserError) as caught:
            confirm_context(wanted, SERVER, recipe="install-arc", given=given)
        assert "Nothing was changed" in caught.value.what
        assert f"install-arc --context '{CONTEXT}'" in caught.value.next_step
    shown = capsys.readouterr().err
    assert CONTEXT in shown
    assert SERVER in shown
