"""By which names images and downloads are had at a site with mirrors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_tools import Machine

from envkit import download, mirrors, mise, tool_versions
from envkit.errors import UserError
from envkit.mirrors import Mirrors, helper_images, read_mirrors, split_host
from envkit.tool_versions import pins

SITE = """\
[mirrors]
images = { "docker.io" = "mirror.example.com/hub", "ghcr.io" = "mirror.example.com/hub/ghcr" }
plain_http = ["mirror.example.com"]
downloads = "https://mirror.example.com/downloads/"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirrors:
    """An environment with mirrors."""
    monkeypatch.delenv(mirrors.DOWNLOAD_VARIABLE, raising=False)
    monkeypatch.setattr(mirrors, "ROOT", tmp_path)
    (tmp_path / "environment.toml").write_text(SITE, encoding="utf-8")
    return read_mirrors()


@pytest.mark.parametrize(
    ("name", "host", "path"),
    [
        ("registry:3", "docker.io", "library/registry:3"),
        ("rancher/k3s:v1", "docker.io", "rancher/k3s:v1"),
        ("docker.io/registry", "docker.io", "library/registry"),
        ("index.docker.io/a/b", "docker.io", "a/b"),
        ("localhost/a", "localhost", "a"),
        ("mirror:5000/a", "mirror:5000", "a"),
        ("ghcr.io/a/b:1@sha256:0", "ghcr.io", "a/b:1@sha256:0"),
    ],
)
def test_a_name_has_its_host_and_the_rest(name: str, host: str, path: str) -> None:
    assert split_host(name) == (host, path)


@pytest.mark.parametrize(
    ("published", "mirrored"),
    [
        ("docker.io/library/registry:3", "mirror.example.com/hub/library/registry:3"),
        ("ghcr.io/a/b:1", "mirror.example.com/hub/ghcr/a/b:1"),
        ("quay.io/a/b:1", "quay.io/a/b:1"),
    ],
)
def test_a_mirrored_name_leads_back_to_the_published_one(site: Mirrors, published: str, mirrored: str) -> None:
    assert site.image(published) == mirrored
    assert site.upstream(mirrored) == published


def test_a_short_name_is_mirrored_like_its_long_one(site: Mirrors) -> None:
    assert site.image("registry:3") == "mirror.example.com/hub/library/registry:3"
    assert site.upstream("registry:3") == "docker.io/library/registry:3"


@pytest.mark.usefixtures("site")
def test_downloads_come_from_below_the_mirror() -> None:
    assert download.mirrored("https://github.com/a/b") == "https://mirror.example.com/downloads/github.com/a/b"


@pytest.mark.usefixtures("site")
def test_this_machine_s_own_download_mirror_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mirrors.DOWNLOAD_VARIABLE, "http://other.example")
    assert download.mirrored("https://github.com/a/b") == "http://other.example/github.com/a/b"


def test_without_mirrors_every_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mirrors.DOWNLOAD_VARIABLE, raising=False)
    none = read_mirrors(tmp_path)
    assert (none.image("registry:3"), none.download("https://a/b")) == ("registry:3", "https://a/b")
    assert none.hosts == []


@pytest.mark.parametrize(
    "text",
    ['[mirrors]\nimages = "x"\n', "[mirrors]\napt = 1\n", "[mirrors]\nimage = {}\n", "[mirrors\n", "mirrors = 1\n"],
)
def test_a_wrong_table_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "environment.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_mirrors(tmp_path)
    assert f"{tmp_path / 'environment.toml'} is not right." == error.value.what
    assert error.value.why


@pytest.mark.usefixtures("site")
def test_k3d_is_told_where_its_own_images_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K3D_HELPER_IMAGE_TAG", raising=False)
    monkeypatch.delenv("K3D_IMAGE_TOOLS", raising=False)
    monkeypatch.setenv("K3D_IMAGE_LOADBALANCER", "own/proxy:1")
    assert helper_images("5.9.0") == {
        "K3D_IMAGE_LOADBALANCER": "own/proxy:1",
        "K3D_IMAGE_TOOLS": "mirror.example.com/hub/ghcr/k3d-io/k3d-tools:5.9.0",
    }


@pytest.mark.usefixtures("site")
def test_the_tag_that_k3d_is_told_holds_for_the_mirror_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K3D_HELPER_IMAGE_TAG", "5.8.0")
    assert helper_images("5.9.0")["K3D_IMAGE_TOOLS"].endswith("/k3d-tools:5.8.0")


def test_k3d_is_asked_for_its_version_where_its_images_are_mirrored(site: Mirrors, machine: Machine) -> None:
    machine.add_right_tools()
    told = mirrors.k3d_variables()
    assert told["K3D_IMAGE_TOOLS"] == site.image(f"ghcr.io/k3d-io/k3d-tools:{pins()['k3d']}")


def test_k3d_is_told_nothing_where_they_are_not(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "ROOT", tmp_path)
    assert mirrors.k3d_variables() == {}
    assert machine.calls == []


@pytest.mark.usefixtures("site")
def test_mise_is_told_of_the_download_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISE_URL_REPLACEMENTS", raising=False)
    replacements = json.loads(mise._environment()["MISE_URL_REPLACEMENTS"])
    assert replacements["https://github.com"] == "https://mirror.example.com/downloads/github.com"
    assert set(replacements) >= {"https://get.helm.sh", "https://nodejs.org"}


@pytest.mark.usefixtures("site")
def test_a_lock_file_with_conflicts_is_told_with_what_brings_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MISE_URL_REPLACEMENTS", raising=False)
    monkeypatch.setattr(tool_versions, "MISE_TOML", tmp_path / "mise.toml")
    (tmp_path / "mise.lock").write_text("<<<<<<< before updating\n", encoding="utf-8")

    with pytest.raises(UserError, match=r"mise\.lock cannot be read") as caught:
        mise._environment()

    assert caught.value.next_step.endswith("checkout -- mise.lock")


@pytest.fixture
def _without_own_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_without_own_indexes")
def test_pip_uv_and_npm_are_led_to_the_mirrors() -> None:
    assert Mirrors().package_variables() == {}
    assert Mirrors(python_index="https://a.example/simple", npm_registry="https://b.example").package_variables() == {
        "PIP_INDEX_URL": "https://a.example/simple",
        "UV_INDEX_URL": "https://a.example/simple",
        "npm_config_registry": "https://b.example",
    }
    assert Mirrors(python_index="http://a.example:81/x").package_variables()["PIP_TRUSTED_HOST"] == "a.example:81"


@pytest.mark.usefixtures("_without_own_indexes")
@pytest.mark.parametrize(
    ("variable", "led"),
    [
        ("PIP_INDEX_URL", {"npm_config_registry"}),
        ("UV_DEFAULT_INDEX", {"npm_config_registry"}),
        ("NPM_CONFIG_REGISTRY", {"PIP_INDEX_URL", "UV_INDEX_URL"}),
    ],
)
def test_the_person_s_own_indexes_stay(monkeypatch: pytest.MonkeyPatch, variable: str, led: set[str]) -> None:
    monkeypatch.setenv(variable, "https://own.example")
    mirrors = Mirrors(python_index="https://a.example/simple", npm_registry="https://b.example")
    assert set(mirrors.package_variables()) == led


@pytest.mark.usefixtures("site")
def test_what_a_person_has_told_mise_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISE_URL_REPLACEMENTS", "{}")
    assert "MISE_URL_REPLACEMENTS" not in mise._environment()
