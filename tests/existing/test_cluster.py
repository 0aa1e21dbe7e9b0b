"""What an environment knows of a cluster that is there already, and how its images are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from existing.conftest import CONTEXT

from envkit.arc.settings import read_arc_settings
from envkit.cluster import load_cluster
from envkit.environment import load_environment
from envkit.errors import CommandFailedError, UserError
from envkit.existing import repository
from envkit.existing.cluster import ExistingCluster
from envkit.existing.repository import Repository
from envkit.existing.settings import read_existing_cluster
from envkit.images import push_command
from envkit.runner.image import describe
from envkit.tool_versions import host_tools


def test_the_files_say_which_cluster_it_is(cluster: ExistingCluster) -> None:
    assert (cluster.name, cluster.context, cluster.lens) == ("shop-dev", CONTEXT, "freelens")
    assert cluster.images == Repository("registry.example.com/shop")
    assert cluster.kubeconfig.name == "shop-dev.yaml"
    assert cluster.confirmed == ""


def test_each_developer_may_call_the_context_otherwise(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARC_CONTEXT", raising=False)
    (root / ".env").write_text("KUBE_CONTEXT=mine\nARC_CONTEXT=mine\nLENS=none\n", encoding="utf-8")
    cluster = read_existing_cluster(root)
    assert (cluster.context, cluster.confirmed, cluster.lens) == ("mine", "mine", "none")
    monkeypatch.setenv("ARC_CONTEXT", "other")
    assert read_existing_cluster(root).confirmed == "other"


@pytest.mark.parametrize(
    ("line", "told"),
    [("KUBE_CONTEXT=a b", "KUBE_CONTEXT"), ("LENS=lens", "LENS"), ("CONTAINER_API_SERVER=x:1", "CONTAINER_API_SERVER")],
)
def test_wrong_line_of_the_developers_is_named(line: str, told: str, root: Path) -> None:
    (root / ".env").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_existing_cluster(root)
    assert told in caught.value.why


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("KUBE_CONTXT=mine", "KUBE_CONTEXT"),
        ("arc_context=mine", "ARC_CONTEXT"),
        ("HTTPS_PROXI=http://proxy.example.com:3128", "HTTPS_PROXY"),
        ("RUNER_NAME=mine", "RUNNER_NAME"),
    ],
)
def test_mistyped_line_of_the_developers_is_named_with_the_right_one(line: str, meant: str, root: Path) -> None:
    (root / ".env").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match="which nothing reads") as caught:
        read_existing_cluster(root)
    assert caught.value.what.startswith(f"{root / '.env'} sets {line.partition('=')[0]},")
    assert caught.value.why == f"Did you mean {meant}?"


def test_lines_that_others_read_may_stand_there(cluster: ExistingCluster, root: Path) -> None:
    (root / ".env").write_text("RUNNER_NAME=mine\nGITHUB_TOKEN=x\nDATABASE_URL=x\n", encoding="utf-8")
    assert read_existing_cluster(root) == cluster


def test_cluster_is_found_whoever_makes_it(root: Path, tmp_path: Path) -> None:
    assert isinstance(load_cluster(root), ExistingCluster)
    with pytest.raises(UserError, match="is there already"):
        load_environment(root)
    with pytest.raises(UserError, match=r"k3d\.yaml is missing"):
        load_cluster(tmp_path)


def test_k3d_is_not_installed_where_it_makes_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_existing in (False, True):
        monkeypatch.setattr("envkit.tool_versions.is_existing", lambda value=is_existing: value)
        host_tools.cache_clear()
        assert ("k3d" in host_tools()) != is_existing
    host_tools.cache_clear()


def test_runners_take_the_image_that_the_files_describe_whoever_has_pushed_it(
    cluster: ExistingCluster, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envkit.runner.image.read_built_image", lambda: "registry.example.com/shop/runner:old")
    settings = read_arc_settings(cluster, root)
    assert settings.image == f"registry.example.com/shop/runner:{describe(root).tag}"
    assert settings.runner_values["template"]["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert settings.runner_values["labels"] == {"envkit.cluster": "shop-dev"}


def test_image_of_another_place_stays_as_it_is(cluster: ExistingCluster, root: Path) -> None:
    elsewhere = replace(cluster, images=Repository("registry.example.com/other"))
    assert read_arc_settings(elsewhere, root).image == "registry.example.com/shop/runner:latest"


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("", True),
        ("no such manifest: x", False),
        ("manifest unknown", False),
        ("response status code 404: Not Found", False),
        ("unauthorized: log in", None),
        ('error getting credentials - err: exec: "docker-credential-x": executable file not found in $PATH', None),
    ],
)
@pytest.mark.parametrize("tool", ["docker", "buildah"])
def test_registry_is_asked_for_an_image_with_the_persons_login(
    tool: str, output: str, found: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def capture(command: list[str], **_: Any) -> str:
        asked.append(command)
        if output:
            raise CommandFailedError("it failed", status=1, output=output)
        return "{}"

    monkeypatch.setattr(repository, "find_tool", lambda name: name if name == tool else "")
    monkeypatch.setattr(repository, "capture", capture)
    images = Repository("localhost:5001/team", plain_http=True)
    if found is None:
        with pytest.raises(UserError) as caught:
            images.has("runner", "1")
        assert f"{tool} login localhost:5001" in caught.value.next_step
    else:
        assert images.has("runner", "1") is found
    assert images.inside("localhost:5001/team/runner:1") == "runner:1"
    option, name = {
        "docker": ("--insecure", "localhost:5001/team/runner:1"),
        "buildah": ("--tls-verify=false", "docker://localhost:5001/team/runner:1"),
    }[tool]
    assert asked == [[tool, "manifest", "inspect", option, name]]


def test_without_a_place_for_images_the_answer_is_named() -> None:
    with pytest.raises(UserError) as caught:
        Repository("").require_answer()
    assert "image_repository" in caught.value.next_step
    assert not Repository("").owns("app:1")


def test_tls_is_verified_unless_the_registry_has_none() -> None:
    assert "--tls-verify=false" not in push_command("buildah", "r/a:1", plain_http=False)
    assert "--tls-verify=false" in push_command("buildah", "r/a:1", plain_http=True)
