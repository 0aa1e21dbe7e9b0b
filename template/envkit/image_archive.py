"""Images and charts in one file, byte for byte as their registries have them, so that every digest stays what it is.

The file is a tar archive with an OCI image layout, which other tools can read as well, and with `contents.json`, which
says what each image is for: https://github.com/opencontainers/image-spec/blob/main/image-layout.md. Images are kept for
all their platforms: a registry takes an index only together with all that it names, and a pin is the index's digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Self

from envkit.download import sha256_of
from envkit.errors import UserError
from envkit.image_list import Kind, Needed
from envkit.paths import just_command
from envkit.registry_api import Manifest, Reference, Registries, RegistryError, parse
from envkit.wording import counted, quoted

_FORMAT = 1
_CHUNK = 1 << 20
_MEGABYTE = 1_000_000
_REF_NAME = "org.opencontainers.image.ref.name"
_CHART_CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

Note = Callable[[str], None]


@dataclass(frozen=True)
class Item:
    """An image or chart in an archive; the fields that `Needed` has, too, mean the same.

    Attributes:
        digest: Digest of its manifest or index.
        media_type: What kind of manifest that is.
    """

    kind: Kind
    purpose: str
    published: str
    by_engine: bool
    own: bool
    digest: str
    media_type: str


class Writer:
    """Writes an archive. It is there under its name only once it is complete."""

    def __init__(self, path: Path, registries: Registries) -> None:
        """`path`: the archive; `registries`: where images are fetched from."""
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._registries = registries
        self._written: set[str] = set()
        self._manifest_sizes: dict[str, int] = {}
        self._items: list[Item] = []

    def __enter__(self) -> Self:
        self._tar = tarfile.open(self._partial, "w")
        self._put_text("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._tar.close()  # which writes, and fails on a full disk
        finally:
            self._partial.unlink(missing_ok=True)

    def add(self, entry: Needed, note: Note) -> Item:
        """Fetches an image or chart with all that it consists of; returns what it is in the archive.

        Raises RegistryError where the registry does not have it, or sends something else than it says.
        """
        reference = parse(entry.name)
        manifest = self._registries.manifest(reference)
        self._fetch(reference, manifest, note)
        item = Item(
            kind=entry.kind,
            purpose=entry.purpose,
            published=entry.published,
            by_engine=entry.by_engine,
            own=entry.own,
            digest=manifest.digest,
            media_type=manifest.kind,
        )
        self._items.append(item)
        return item

    def finish(self, k3s_lists: dict[str, list[str]]) -> str:
        """Writes the list of contents and gives the file its name; returns its SHA-256 sum, in hexadecimal.

        Args:
            k3s_lists: For each release of k3s the images that it consists of.
        """
        descriptors = [
            {
                "mediaType": item.media_type,
                "digest": item.digest,
                "size": self._manifest_sizes[item.digest],
                "annotations": {_REF_NAME: item.published, "io.containerd.image.name": item.published},
            }
            for item in self._items
        ]
        self._put_text("index.json", json.dumps({"schemaVersion": 2, "manifests": descriptors}, indent=2))
        contents = {"format": _FORMAT, "k3s": k3s_lists, "items": [asdict(item) for item in self._items]}
        self._put_text("contents.json", json.dumps(contents, indent=2))
        self._tar.close()
        total = sha256_of(self._partial)
        self._partial.replace(self._path)
        return total

    def _fetch(self, reference: Reference, manifest: Manifest, note: Note) -> None:
        for descriptor in manifest.manifests:
            child = Reference(reference.host, reference.repository, "", descriptor["digest"])
            if child.digest not in self._written:
                self._fetch(child, self._registries.manifest(child), note)
        for descriptor in manifest.blobs:
            digest, size = descriptor["digest"], int(descriptor["size"])
            if digest not in self._written:
                note(f"{size / _MEGABYTE:.1f} MB")
                with self._registries.blob(reference, digest) as content:
                    self._put(_blob_name(digest), size, _Checked(content, digest, size, reference.host))
                self._written.add(digest)
        self._put_manifest(manifest)

    def _put_manifest(self, manifest: Manifest) -> None:
        self._manifest_sizes[manifest.digest] = len(manifest.body)
        if manifest.digest not in self._written:
            self._put(_blob_name(manifest.digest), len(manifest.body), io.BytesIO(manifest.body))
            self._written.add(manifest.digest)

    def _put_text(self, name: str, text: str) -> None:
        content = text.encode()
        self._put(name, len(content), io.BytesIO(content))

    def _put(self, name: str, size: int, content: Any) -> None:
        member = tarfile.TarInfo(name)
        member.size = size
        self._tar.addfile(member, content)


class Archive:
    """Reads an archive."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        """See `open_archive`."""
        self._path, self._tar = path, tar
        self._members = {member.name: member for member in tar.getmembers()}
        document = json.loads(self._read("contents.json"))
        if document.get("format") != _FORMAT:
            raise KeyError("format")
        self.items = [Item(**entry) for entry in document["items"]]
        self.k3s_lists: dict[str, list[str]] = document["k3s"]

    def verify(self, note: Note) -> int:
        """Compares the sum of everything with its name; returns how many bytes there are. UserError if one differs."""
        total = 0
        for name, member in self._members.items():
            if not name.startswith("blobs/sha256/"):
                continue
            note(f"{total / _MEGABYTE:.0f} MB")
            digest = hashlib.sha256()
            with self._open(name) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            if digest.hexdigest() != name.rpartition("/")[2]:
                raise self._damaged(f"{name} has the SHA-256 sum {digest.hexdigest()}.")
            total += member.size
        for item in self.items:
            self._require(self.manifest(item.digest, item.media_type))
        return total

    def manifest(self, digest: str, kind: str) -> Manifest:
        """A manifest or index of the archive."""
        return Manifest(kind, self._read(_blob_name(digest)))

    def manifest_for(self, item: Item, architecture: str) -> Manifest:
        """The manifest of an image for Linux on this architecture. UserError where it has none."""
        manifest = self.manifest(item.digest, item.media_type)
        if not manifest.manifests:
            return manifest
        for descriptor in manifest.manifests:
            platform = descriptor.get("platform") or {}
            if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
                return self.manifest(descriptor["digest"], descriptor["mediaType"])
        raise UserError(
            f"{item.published} is not there for linux/{architecture}.",
            f"{self._path} has it for other machines alone.",
            "Name an image for this machine in its place.",
        )

    def push(self, item: Item, target: Reference, registries: Registries, note: Note) -> None:
        """Puts an image or chart into a registry. RegistryError where that refuses it."""
        self._push(self.manifest(item.digest, item.media_type), target, target.target, registries, note)

    def write_for_engine(self, item: Item, names: Sequence[str], architecture: str, path: Path) -> None:
        """Writes an image in the form that `docker load` takes, under these names."""
        manifest = self.manifest_for(item, architecture)
        config, *layers = [_blob_name(descriptor["digest"]) for descriptor in manifest.blobs]
        entry = {"Config": config, "RepoTags": list(names), "Layers": layers}
        with tarfile.open(path, "w") as tar:
            text = json.dumps([entry]).encode()
            member = tarfile.TarInfo("manifest.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
            for name in dict.fromkeys([config, *layers]):
                member = tarfile.TarInfo(name)
                member.size = self._members[name].size
                with self._open(name) as file:
                    tar.addfile(member, file)

    def chart(self, item: Item) -> bytes:
        """The packed chart, as Helm reads it. UserError where it is none."""
        for descriptor in self.manifest(item.digest, item.media_type).blobs:
            if descriptor.get("mediaType") == _CHART_CONTENT:
                return self._read(_blob_name(descriptor["digest"]))
        raise self._damaged(f"{item.published} is not a chart.")

    def _push(self, manifest: Manifest, target: Reference, tag: str, registries: Registries, note: Note) -> None:
        for descriptor in manifest.manifests:
            child = self.manifest(descriptor["digest"], descriptor["mediaType"])
            self._push(child, target, child.digest, registries, note)
        for descriptor in manifest.blobs:
            digest, size = descriptor["digest"], int(descriptor["size"])
            if not registries.has_blob(target, digest):
                note(f"{size / _MEGABYTE:.1f} MB")
                with self._open(_blob_name(digest)) as content:
                    registries.put_blob(target, digest, size, content)
        registries.put_manifest(target, manifest, tag)

    def _require(self, manifest: Manifest) -> None:
        for descriptor in [*manifest.manifests, *manifest.blobs]:
            if _blob_name(descriptor["digest"]) not in self._members:
                raise self._damaged(f"{descriptor['digest']} is missing.")
        for descriptor in manifest.manifests:
            self._require(self.manifest(descriptor["digest"], descriptor["mediaType"]))

    def _read(self, name: str) -> bytes:
        with self._open(name) as file:
            return file.read()

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        file = self._tar.extractfile(self._members[name])
        if file is None:
            raise KeyError(name)
        with file:
            yield file

    def _damaged(self, why: str) -> UserError:
        return UserError(
            f"{self._path} is damaged.", why, "Copy it anew from where it was saved, then repeat the command."
        )


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens an archive. UserError where the file is missing, or is none."""
    try:
        tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        next_step = f"{command_for('--save', path)}   (where registries are reached; then bring it here)"
        raise UserError(f"{path} is missing.", "", next_step) from None
    except tarfile.TarError as error:
        raise _no_archive(path, str(error)) from error
    with tar:
        try:
            archive = Archive(path, tar)
        except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
            raise _no_archive(path, f"It has no list of contents that can be read ({error}).") from error
        yield archive


def command_for(option: str, path: Path) -> str:
    """The recipe's call with a file, as it is typed in a shell."""
    return f"{just_command()} images {option} {quoted(path)}"


def names_of(items: Iterable[Item]) -> str:
    """How many images and charts there are, in words."""
    kinds = [item.kind for item in items]
    images, charts = kinds.count("image"), kinds.count("chart")
    return counted(images, "image") + (f" and {counted(charts, 'chart')}" if charts else "")


class _Checked:
    """What a registry sends, compared with what it should be at the end."""

    def __init__(self, content: IO[bytes], digest: str, size: int, host: str) -> None:
        self._content, self._expected, self._left, self._host = content, digest, size, host
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, as `tarfile` wants them."""
        try:
            chunk = self._content.read(size)
        except (HTTPException, OSError) as error:
            raise RegistryError(f"{self._host} stopped sending {self._expected}.", str(error)) from error
        self._digest.update(chunk)
        self._left -= len(chunk)
        if len(chunk) < size:
            raise RegistryError(f"{self._host} stopped sending {self._expected}.", f"{self._left} bytes are missing.")
        if self._left == 0 and f"sha256:{self._digest.hexdigest()}" != self._expected:
            raise RegistryError(f"{self._host} sent something else than {self._expected}.", "Its sum is another.")
        return chunk


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _no_archive(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not an archive of images.", why, "A file that `just images --save FILE` has written.")
