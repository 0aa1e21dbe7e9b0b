"""Where this environment comes from: the template's place and version, and the versions that are there now."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.version import InvalidVersion, Version

from envkit.errors import CommandFailedError, UserError
from envkit.go_yaml import YAML_ERRORS
from envkit.paths import ROOT, file_named, just_command
from envkit.process import capture
from envkit.wording import quoted

ANSWERS_FILE = ".copier-answers.yml"
_SECONDS = 60
_SHORTCUTS = {"gh": "https://github.com/", "gl": "https://gitlab.com/"}
"""Copier's own short forms of addresses."""

_CREDENTIALS = re.compile(r"\A((?:git\+)?https?://)[^/?#]*@", re.IGNORECASE)
"""What stands before the host, also in an address that is none otherwise, as without an end of its brackets."""


@dataclass(frozen=True)
class Origin:
    """What the answers file says of the template.

    Attributes:
        source: Its place, as it stands there: a URL, or a folder of this machine.
        commit: The version that this environment is of, as `git describe` names it.
    """

    source: str
    commit: str

    @property
    def version(self) -> Version | None:
        """The release that the version is of or comes after; None where it is a commit without one."""
        # A hash may read like a version: 241737c would be the candidate of a release 241737.
        is_hash = self.commit_hash == self.commit
        return None if is_hash else _version(re.sub(r"-\d+-g[0-9a-f]+$", "", self.commit))

    @property
    def commit_hash(self) -> str:
        """The beginning of the commit's hash; empty where the version is a tag itself."""
        match = re.search(r"(?:^|-g)([0-9a-f]{7,40})$", self.commit)
        return match[1] if match else ""

    def address(self, root: Path) -> str:
        """The place in a form that Git understands from any folder. Raises UserError where it can be none."""
        source = self.source.removeprefix("git+")
        shortcut, colon, rest = source.partition(":")
        if colon and shortcut in _SHORTCUTS:
            return f"{_SHORTCUTS[shortcut]}{rest.removesuffix('.git')}.git"
        folder = root / file_named(source, f"_src_path of {root / ANSWERS_FILE}")
        return str(folder) if source.startswith(("~", ".")) or folder.exists() else source


@dataclass(frozen=True)
class Published:
    """The versions that the template has.

    Attributes:
        tags: Every tag with its commit.
        branches: Every branch with its commit.
        head: The commit of its default branch; empty where it has none.
    """

    tags: dict[str, str]
    branches: dict[str, str]
    head: str

    @property
    def newest(self) -> str:
        """The tag of the newest release, as Copier chooses it; empty where there is none."""
        released = [(version, tag) for tag in self.tags if (version := _version(tag)) and not version.is_prerelease]
        return max(released)[1] if released else ""


def read_origin(root: Path = ROOT) -> Origin:
    """What the answers file says.

    Raises:
        UserError: It is lost, or no longer says where the template is; names what brings it back.
    """
    path = root / ANSWERS_FILE
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        source, commit = str(document["_src_path"]), document["_commit"]
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing.", "It says which template this environment is of, and its answers.", _way_back(root)
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read.", str(error.strerror or error), f"ls -l {quoted(path)}") from error
    except (*YAML_ERRORS, KeyError, TypeError) as error:
        if re.search(r"(?m)^<{7} ", text):
            raise UserError(
                f"{path} is in conflict.",
                "Two sides that were merged have updated to different versions, or have changed the same answer.",
                f"cd {quoted(root)} && git merge --abort   (git status says whether it is a merge)\n"
                f"{bring_to_one_version('merge')}",
            ) from error
        raise _no_origin(path, root) from error
    if commit is None:
        raise _no_origin(path, root)
    if not isinstance(commit, str):
        raise UserError(
            f"_commit in {path} is read as {commit!r}, which is no text.",
            "A version or commit that could be a number has to be in quotes there, as Copier itself writes it.",
            f"Put it in quotes there, exactly as it is in the template, and commit that; then {just_command()} update",
        )
    return Origin(source, commit)


def _no_origin(path: Path, root: Path) -> UserError:
    return UserError(
        f"{path} does not say which version of which template this environment is of.",
        "Copier writes _src_path and _commit there, and nothing else should change them.",
        f"git -C {quoted(root)} log --patch -- {ANSWERS_FILE}   (shows the last change; take it back)",
    )


def bring_to_one_version(command: str) -> str:
    """How two branches of different versions are joined without conflicts in files that nobody has edited."""
    return (
        f"On the branch with the older version: {just_command()} update --to TAG   (that of the other branch);"
        f" commit that, then {command} again."
    )


def published_versions(origin: Origin, root: Path = ROOT) -> Published:
    """Asks the template's repository for its versions; fetches nothing. Raises UserError where it cannot be reached."""
    address = origin.address(root)
    _refuse_own_folder(address, origin, root)
    try:
        listed = capture(["git", "ls-remote", "--", address], timeout=_SECONDS)
    except CommandFailedError as error:
        shown = without_credentials(origin.source)
        gone = address.startswith("/") and not Path(address).exists()
        raise UserError(
            f"The template cannot be reached: {shown}",
            "There is no such folder on this machine."
            if gone
            else error.output.replace(address, without_credentials(address)),
            f"Where it has moved: write its new address into _src_path of {root / ANSWERS_FILE}, and commit that.\n"
            f"Else find out why this fails: git ls-remote {shlex.quote(without_credentials(address))}",
        ) from error
    lines = (line.partition("\t") for line in listed.splitlines())
    refs = {name: commit for commit, _, name in lines}
    # An annotated tag has a line for itself and one, with ^{}, for its commit, which comes second.
    tags = {name.removesuffix("^{}"): commit for name, commit in refs.items() if name.startswith("refs/tags/")}
    return Published(
        tags={name.removeprefix("refs/tags/"): commit for name, commit in tags.items()},
        branches={
            name.removeprefix("refs/heads/"): commit for name, commit in refs.items() if name.startswith("refs/heads/")
        },
        head=refs.get("HEAD", ""),
    )


def _refuse_own_folder(address: str, origin: Origin, root: Path) -> None:
    """Raises UserError where this repository itself would be the template, as after `copier copy . ../env`."""
    if Path(address).resolve() != root.resolve():
        return
    raise UserError(
        "The template's place is not known.",
        f"_src_path says {origin.source!r}, as Copier was told. Such a path counts from where it is read: from here.",
        f"Write the template's address into _src_path of {root / ANSWERS_FILE}, and commit that.",
    )


def newer_version(origin: Origin, published: Published) -> str:
    """The version that an update would bring: a tag, or a commit where the template has no releases; empty for none."""
    if tag := published.newest:
        version = _version(tag)
        if origin.version is None:
            # The newest commit is of the release, or comes after it.
            known = {published.tags[tag], published.head} if origin.commit_hash else set()
            return "" if any(commit.startswith(origin.commit_hash) for commit in known) else tag
        return tag if version and version > origin.version else ""
    same = origin.commit_hash and published.head.startswith(origin.commit_hash)
    return "" if same or not published.head else published.head[:12]


def is_downgrade(origin: Origin, ref: str) -> bool:
    """Whether this tag is an older release than the environment's."""
    version = _version(ref)
    return version is not None and origin.version is not None and version < origin.version


def without_credentials(address: str) -> str:
    """The address without user name and password where it is HTTP's, with or without Copier's `git+` before it."""
    return _CREDENTIALS.sub(r"\1", address)


def _version(tag: str) -> Version | None:
    try:
        return Version(tag)
    except InvalidVersion:
        return None


def _way_back(root: Path) -> str:
    """The command that brings the answers file back from Git's history."""
    log = ["git", "-C", str(root), "log", "-1", "--format=%h", "--diff-filter=D", "--", ANSWERS_FILE]
    try:
        if capture(["git", "-C", str(root), "ls-tree", "HEAD", "--", ANSWERS_FILE], timeout=_SECONDS).strip():
            return f"git -C {quoted(root)} checkout HEAD -- {ANSWERS_FILE}"
        if commit := capture(log, timeout=_SECONDS).strip():
            return (
                f"git -C {quoted(root)} checkout {commit}^ -- {ANSWERS_FILE}"
                f" && git -C {quoted(root)} commit -m 'fix: bring the answers back'"
            )
    except CommandFailedError:
        pass
    return (
        "Generate the environment anew in another folder, from the same version and with the same answers,"
        f" and copy its {ANSWERS_FILE} to {root}"
    )
