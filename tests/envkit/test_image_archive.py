"""Images in a file: fetched from one registry, put into another."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from image_registry import CHART_LAYER, ImageRegistry, digest_of
from samples import sample_environment

from envkit import image_moves
from envkit.errors import UserError
from envkit.image_archive import Writer, open_archive
from envkit.image_list import Needed, Needs
from envkit.mirrors import Mirrors
from envkit.registry_api import Registries, RegistryError, parse


def ignore(_: str) -> None:
    """Takes no note."""


def content_of(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file
    return file.read()


def needed(registry: ImageRegistry, path: str, *, by_engine: bool = False) -> Needed:
    return Needed("image", "test", f"docker.io/{path}", f"{registry.host}/{path}", by_engine)


@pytest.fixture
def saved(registry: ImageRegistry, tmp_path: Path) -> Path:
    """An archive with an image for two architectures and a chart."""
    amd, arm = (registry.put_image("team/app", name, name.encode()) for name in ("amd64", "arm64"))
    registry.put_index("team/app", "1", amd64=amd, arm64=arm)
    registry.put_image("charts/app", "0.1.0", b"packed chart", layer_kind=CHART_LAYER)
    path = tmp_path / "all.tar"
    with Writer(path, Registries()) as writer:
        writer.add(needed(registry, "team/app:1", by_engine=True), ignore)
        chart = f"{registry.host}/charts/app:0.1.0"
        writer.add(Needed("chart", "test", "ghcr.io/charts/app:0.1.0", chart), ignore)
        writer.finish({"v1.36.4+k3s1": ["docker.io/a:1"]})
    return path


def test_what_is_saved_reaches_another_registry_byte_for_byte(
    saved: Path, registry: ImageRegistry, other_registry: ImageRegistry
) -> None:
    with open_archive(saved) as archive:
        assert archive.verify(ignore) > 0
        image, chart = archive.items
        assert archive.k3s_lists == {"v1.36.4+k3s1": ["docker.io/a:1"]}
        assert archive.chart(chart) == b"packed chart"
        archive.push(image, parse(f"{other_registry.host}/hub/team/app:1"), Registries(), ignore)
    assert other_registry.manifests["hub/team/app:1"] == registry.manifests["team/app:1"]
    assert Registries().digest(parse(f"{other_registry.host}/hub/team/app:1")) == image.digest
    contents = {key.partition("@")[2]: blob for key, blob in other_registry.blobs.items()}
    assert contents.items() <= {key.partition("@")[2]: blob for key, blob in registry.blobs.items()}.items()
    assert {b"amd64", b"arm64"} <= set(contents.values())


def test_what_a_mirror_has_is_not_sent_again(saved: Path, other_registry: ImageRegistry) -> None:
    for _ in range(2):
        other_registry.requests.clear()
        with open_archive(saved) as archive:
            archive.push(archive.items[0], parse(f"{other_registry.host}/app:1"), Registries(), ignore)
    assert [method for method, path, _ in other_registry.requests if "/uploads/" in path] == []


def test_docker_gets_the_image_of_its_architecture_under_the_names_it_is_asked_for(saved: Path, tmp_path: Path) -> None:
    with open_archive(saved) as archive:
        archive.write_for_engine(archive.items[0], ["a:1", "b.c/a:1"], "arm64", tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as tar:
        (entry,) = json.loads(content_of(tar, "manifest.json"))
        assert entry["RepoTags"] == ["a:1", "b.c/a:1"]
        assert content_of(tar, entry["Config"]) == b"{}"
        assert [content_of(tar, name) for name in entry["Layers"]] == [b"arm64"]


def test_an_architecture_that_is_missing_is_named(saved: Path, tmp_path: Path) -> None:
    with open_archive(saved) as archive, pytest.raises(UserError, match="not there for linux/riscv64"):
        archive.write_for_engine(archive.items[0], ["a:1"], "riscv64", tmp_path / "image.tar")


def test_the_file_is_an_oci_layout(saved: Path) -> None:
    with tarfile.open(saved) as tar:
        names = tar.getnames()
        index = json.loads(content_of(tar, "index.json"))
    assert "oci-layout" in names
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [
        "docker.io/team/app:1",
        "ghcr.io/charts/app:0.1.0",
    ]
    assert len(names) == len(set(names))


def test_a_changed_byte_is_found(saved: Path) -> None:
    content = saved.read_bytes()
    assert content.count(b"amd64") > 1
    place = content.index(b"amd64")
    saved.write_bytes(content[:place] + b"AMD64" + content[place + 5 :])
    with open_archive(saved) as archive, pytest.raises(UserError, match="is damaged"):
        archive.verify(ignore)


@pytest.mark.parametrize("content", [b"", b"no archive", b"x" * 5000])
def test_another_file_is_told_from_an_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tar"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not an archive of images"), open_archive(path):
        pass


def test_a_file_that_ends_early_is_told_from_an_archive(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-12000])
    with pytest.raises(UserError, match="is not an archive of images"), open_archive(saved):
        pass


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("contents.json"), io.BytesIO())
    with pytest.raises(UserError, match="is not an archive of images"), open_archive(path):
        pass


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error, open_archive(tmp_path / "all.tar"):
        pass
    assert f"images --save {tmp_path / 'all.tar'}" in error.value.next_step
    with pytest.raises(UserError) as error, open_archive(tmp_path / "my all.tar"):
        pass
    assert f"images --save '{tmp_path / 'my all.tar'}'" in error.value.next_step


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    partial = tmp_path / ".all.tar.partial"
    partial.symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left"), Writer(tmp_path / "all.tar", Registries()):
        pass

    assert not partial.is_symlink()


@pytest.mark.parametrize("sent", [b"wrong", b"lay"])
def test_a_registry_that_sends_something_else_leaves_no_file(
    registry: ImageRegistry, tmp_path: Path, sent: bytes
) -> None:
    registry.put_image("app", "1", b"layer")
    registry.blobs[f"app@{digest_of(b'layer')}"] = sent
    refusal = pytest.raises(RegistryError, match=r"sent something else|stopped sending")
    with refusal, Writer(tmp_path / "all.tar", Registries()) as writer:
        writer.add(needed(registry, "app:1"), ignore)
    assert list(tmp_path.iterdir()) == []


# -- where its content goes ---------------------------------------------------------------------------------------


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What is remembered of k3s, where this environment names no mirrors."""
    found: dict[str, list[str]] = {}
    monkeypatch.setattr(image_moves, "keep_k3s_list", found.__setitem__)
    monkeypatch.setattr(image_moves, "read_mirrors", Mirrors)
    return found


def test_a_mirror_gets_everything_and_the_answers_that_lead_there_are_told(
    saved: Path, other_registry: ImageRegistry, kept: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    host = other_registry.host
    assert image_moves.push(saved, f"{host}/all", plain_http=True) == 0
    assert {"all/docker.io/team/app:1", "all/ghcr.io/charts/app:0.1.0"} <= other_registry.manifests.keys()
    assert yaml.safe_load(capsys.readouterr().out.partition("\n\n")[2]) == {
        "image_mirrors": {name: f"{host}/all/{name}" for name in ("docker.io", "ghcr.io")},
        "image_mirrors_plain_http": [host],
    }
    assert kept == {"v1.36.4+k3s1": ["docker.io/a:1"]}


@pytest.mark.usefixtures("kept")
def test_mirrors_that_the_environment_names_get_what_is_theirs(
    saved: Path, other_registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"names no mirror for docker\.io, ghcr\.io"):
        image_moves.push(saved, "", plain_http=False)
    host = other_registry.host
    mirrors = Mirrors({"docker.io": f"{host}/hub", "ghcr.io": f"{host}/github"}, frozenset({host}))
    monkeypatch.setattr(image_moves, "read_mirrors", lambda: mirrors)
    assert image_moves.push(saved, "", plain_http=False) == 0
    assert {"hub/team/app:1", "github/charts/app:0.1.0"} <= other_registry.manifests.keys()
    assert "image_mirrors" not in capsys.readouterr().out


@pytest.mark.usefixtures("kept")
def test_docker_and_a_folder_get_what_is_theirs(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[list[str]] = []

    def docker(*arguments: str, **_: object) -> str:
        if arguments[0] == "load":
            with tarfile.open(arguments[-1]) as tar:
                loaded.extend(entry["RepoTags"] for entry in json.loads(content_of(tar, "manifest.json")))
        return "arm64\n"

    mirrored = Needed("image", "test", "docker.io/team/app:1", "mirror.example.com/hub/team/app:1")
    monkeypatch.setattr(image_moves, "docker", docker)
    monkeypatch.setattr(image_moves, "needs_of", lambda _: Needs((mirrored,), None))
    monkeypatch.setattr(image_moves, "CHARTS", tmp_path / "tools" / "charts")
    for _ in range(2):
        assert image_moves.load(saved, sample_environment(tmp_path / "shop")) == 0
    assert loaded == [["docker.io/team/app:1", "mirror.example.com/hub/team/app:1"]] * 2
    assert [(file.name, file.read_bytes()) for file in image_moves.CHARTS.iterdir()] == [
        ("app-0.1.0.tgz", b"packed chart")
    ]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.usefixtures("kept")
def test_only_what_the_environments_own_registry_lacks_may_be_left_out(
    registry: ImageRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    registry.put_image("team/app", "1", b"layer")
    there, missing = needed(registry, "team/app:1"), replace(needed(registry, "team/runner:1"), own=own)
    monkeypatch.setattr(image_moves, "needs_of", lambda _: Needs((there, missing), None))
    monkeypatch.setattr(image_moves, "k3s_images", lambda _: ["docker.io/a:1"])
    path, shop = tmp_path / "all.tar", sample_environment(tmp_path / "shop")
    if own:
        assert image_moves.save(path, shop) == 0
        with open_archive(path) as archive:
            assert [item.published for item in archive.items] == ["docker.io/team/app:1"]
            assert list(archive.k3s_lists.values()) == [["docker.io/a:1"]]
    else:
        with pytest.raises(UserError, match="1 of 2 cannot be fetched") as caught:
            image_moves.save(path, shop)
        assert missing.name in caught.value.why
        assert not path.exists()
