"""Merges the dev container snippet into a service repository: copier.yml's task and migration for it.

    python hooks/dev_container.py copy ANSWERS_FILE      the first time, or again: refuses what it cannot do
    python hooks/dev_container.py update ANSWERS_FILE    after an update: reports what it could not do
    python hooks/dev_container.py remove ANSWERS_FILE    takes out what was merged, and the answers file

Works on the repository in the current folder. Nothing is written before all is known to fit. Runs in
Copier's own Python, which has pydantic, PyYAML and Jinja2 and nothing more.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compose_file import UnusableServiceError, compose_text, is_unchanged, joining, joins
from git_output import git_output
from jinja2 import TemplateError
from jsonc import JsoncError, parse
from questions import render
from refused_copy import what_is_left_of_snippet
from snippet import COMPOSE_FILE, UnmergeableError, env_files, merge, mount_parts, take_out
from update_files import ABORT, committed
from yaml_text import YAML_ERRORS, fault, mapping, mapping_if_readable

TEMPLATE = Path(__file__).resolve().parent.parent
SNIPPET = "template/.devcontainer/devcontainer.json.jinja"
USUAL_FILE = Path(".devcontainer/devcontainer.json")
# Where a snippet's answers were before they had a file of their own.
FORMER_ANSWERS_FILE = ".copier-answers.yml"


class RefusalError(Exception):
    """The snippet cannot be merged; the text says why and what to do."""


class UnreadableAnswersError(RefusalError):
    """The answers file is not as Copier writes it."""


@dataclass
class Change:
    """What is to be written.

    Attributes:
        files: The new content of each file; None removes it.
        notes: What the person has to know besides.
    """

    files: dict[Path, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self) -> list[Path]:
        """Writes what differs; returns the files that changed."""
        changed = [path for path, text in self.files.items() if text != (_text(path) if path.is_file() else None)]
        for path in changed:
            _write(path, self.files[path])
        return changed


def main(arguments: list[str] | None = None) -> int:
    """Run the command line that the module's docstring shows; returns the exit status."""
    parser = argparse.ArgumentParser(description="Merges the dev container snippet into a repository.")
    parser.add_argument("operation", choices=["copy", "update", "remove"])
    parser.add_argument("answers_file", type=Path, help="the answers file of the snippet")
    options = parser.parse_args(arguments)
    is_update = options.operation == "update"
    try:
        answers = _answers(options.answers_file)
        base = _merged_before(options.answers_file)
        if options.operation == "remove":
            change = removal(answers, base or _rendered(answers), options.answers_file)
        else:
            change = merging(answers, base, is_update=is_update)
        changed = change.write()
    except UnreadableAnswersError as refusal:
        # Somebody else has written that, so it stays also where a copy is refused.
        way_back = _way_back("update" if is_update else "remove", options.answers_file)
        print(f"\n{refusal}{way_back}\n", file=sys.stderr)
        return 1
    except RefusalError as refusal:
        print(f"\n{refusal}{_way_back(options.operation, options.answers_file)}\n", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\n{error.filename}: {error.strerror}.{_way_back('update', options.answers_file)}\n", file=sys.stderr)
        return 1
    _report(changed, change.notes, options.operation)
    return 0


def merging(answers: Mapping[str, Any], base: str | None, *, is_update: bool) -> Change:
    """What a merge changes in the repository of the current folder.

    Args:
        answers: The answers, of which `cluster_name` and `devcontainer_file` matter here.
        base: The snippet that was merged before; None where none was.
        is_update: Whether contradictions are reported instead of refused, because the files are updated by then.

    Raises:
        RefusalError: The snippet and the repository contradict each other, or a file is not readable.
    """
    new, network = _rendered(answers), f"k3d-{answers['cluster_name']}"
    path = configuration(str(answers.get("devcontainer_file") or ""), base or new)
    if not path.exists():
        if is_update and base is not None:
            return Change(notes=[f"{path} is gone, so there is nothing to update. {_how_to_add(network)}"])
        return Change({path: new})
    text = _text(path)
    if text == base:  # nobody has touched it: comments and order are the new snippet's, too
        return Change({path: new})
    try:
        root = parse(text)
        is_compose = isinstance(root.value, dict) and "dockerComposeFile" in root.value
        change = Change()
        if is_compose:
            change = _compose_change(path, root.value, new, network, is_update=is_update)
        elif (leftover := path.parent / COMPOSE_FILE).is_file() and is_unchanged(_text(leftover)):
            change.files[leftover] = None
        merged = merge(text, base=base, new=new, compose=is_compose, refuse=not is_update)
    except (UnmergeableError, UnusableServiceError, JsoncError) as error:
        sentence = f"It is not JSON with comments: {error}." if isinstance(error, JsoncError) else str(error)
        raise RefusalError(_contradiction(path, sentence, network)) from error
    change.files[path] = merged.text
    change.notes += [f"{path}: {sentence} It stays as it is." for sentence in merged.kept]
    return change


def removal(answers: Mapping[str, Any], base: str, answers_file: Path) -> Change:
    """What has to change so that nothing of the snippet is left; entries that the team changed stay.

    Raises:
        RefusalError: The dev container configuration is not readable.
    """
    path = configuration(str(answers.get("devcontainer_file") or ""), base)
    change = Change({answers_file: None})
    compose = path.parent / COMPOSE_FILE
    if compose.is_file() and is_unchanged(_text(compose)):
        change.files[compose] = None
    if path.exists():
        try:
            merged = take_out(_text(path), base=base)
        except UnmergeableError as error:
            raise RefusalError(f"The snippet cannot be taken out of {path}: {error}") from error
        change.files[path] = merged.text or None
        change.notes += [f"{path}: {sentence} It stays as it is." for sentence in merged.kept]
        if merged.needed:
            needed = ", ".join(merged.needed)
            change.notes.append(f"{path}: {needed} stay as the template has them, because what is yours needs them.")
    return change


def configuration(chosen: str, known: str) -> Path:
    """The dev container configuration that the snippet belongs to, which may not exist yet.

    Args:
        chosen: What was answered; empty for the only one.
        known: A snippet: of several configurations the one that has its kubeconfig is meant.

    Raises:
        RefusalError: There are several, and nothing tells which one is meant.
    """
    if chosen:
        return _inside(Path(chosen))
    found = [path for path in (USUAL_FILE, Path(".devcontainer.json")) if path.is_file()]
    found += sorted(Path(".devcontainer").glob("*/devcontainer.json"))
    if len(found) > 1:
        kubeconfig = str(parse(known).value["containerEnv"]["KUBECONFIG"])
        found = [path for path in found if kubeconfig in path.read_text(encoding="utf-8", errors="replace")] or found
    if len(found) > 1:
        choices = "\n".join(f"    -d devcontainer_file={path}" for path in found)
        raise RefusalError(
            f"This repository has {len(found)} dev container configurations. Repeat the command with one of these:\n\n"
            f"{choices}\n\n"
        )
    return _inside(found[0] if found else USUAL_FILE)


def _inside(path: Path) -> Path:
    """The path, unless it leads out of the repository."""
    if not path.resolve().is_relative_to(Path.cwd().resolve()):
        raise RefusalError(f"{path} leads out of this repository, to {path.resolve()}. Name another file there.")
    return path


def _compose_change(path: Path, settings: Mapping[str, Any], new: str, network: str, *, is_update: bool) -> Change:
    """The Compose file beside the configuration."""
    compose = path.parent / COMPOSE_FILE
    listed = settings["dockerComposeFile"]
    if not isinstance(listed, str | list | None):
        raise UnusableServiceError(f"dockerComposeFile is {json.dumps(listed)}; it has to be a list of names.")
    names = [name for name in ([listed] if isinstance(listed, str) else listed or []) if name != COMPOSE_FILE]
    if not names or "service" not in settings:
        raise UnusableServiceError(
            "It uses Docker Compose, but names no Compose file (dockerComposeFile) or no service."
        )
    files = [path.parent / str(name) for name in names]
    if missing := [file for file in files if not file.is_file()]:
        raise UnusableServiceError(f"Its Compose file {missing[0]} is not there.")
    how = joining([_text(file) for file in files], str(settings["service"]))
    snippet = parse(new).value
    volumes = [_volume(mount) for mount in snippet["mounts"]]
    wanted = compose_text(how, network, volumes, [_on_host(path) for path in env_files(snippet["runArgs"])])
    if not compose.exists() or is_unchanged(_text(compose)):
        return Change({compose: wanted})
    if joins(_text(compose), network):
        return Change()
    if is_update:
        return Change(notes=[f"{compose} was changed and stays as it is, but does not name the network {network}."])
    raise UnusableServiceError(f"{compose} is there already, and the snippet needs a file of this name. Rename it.")


def _volume(mount: str) -> str:
    """A mount of devcontainer.json as Compose spells it."""
    parts = mount_parts(mount)
    return f"{_on_host(parts['source'])}:{parts['target']}{':ro' if 'readonly' in parts else ''}"


def _on_host(path: str) -> str:
    """A path of devcontainer.json as Compose spells it, with the host's variables."""
    return path.replace("${localEnv:", "${")


def _merged_before(answers_file: Path) -> str | None:
    """The snippet as the last commit's answers had it; None where none was merged, or where it is not known.

    It is rendered from the template's version of that time, which the template's clone still has: Copier
    could not make the update otherwise.
    """
    for name in (answers_file.as_posix(), FORMER_ANSWERS_FILE):
        answers = mapping_if_readable(committed(Path.cwd(), name))
        if answers.get("scope") == "devcontainer":
            source = _decoded(git_output(TEMPLATE, "show", f"{answers.get('_commit')}:{SNIPPET}"))
            try:
                return str(render(source, answers)) if source else None
            except TemplateError:
                return None
    return None


def _decoded(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", errors="replace")


def _rendered(answers: Mapping[str, Any]) -> str:
    return str(render(_text(TEMPLATE / SNIPPET), answers))


def _answers(path: Path) -> dict[str, Any]:
    """The answers of a snippet. Raises UnreadableAnswersError where the file does not have them."""
    content, file = path.read_bytes(), shlex.quote(path.as_posix())
    others = f"then repeat the command. The answers of the last commit: git checkout HEAD -- {file}"
    try:
        answers = mapping(content.decode("utf-8"))
    except YAML_ERRORS as error:
        if not isinstance(error, UnicodeDecodeError) and re.search(rb"(?m)^<{7} ", content):
            raise UnreadableAnswersError(
                f"{path} is in conflict: two sides that were merged have changed the same answers.\n"
                "Take those of one side, then repeat the command. Those of the branch that was merged into:\n"
                f"    git checkout --ours -- {file}   (or edit what stands between <<<<<<< and >>>>>>>)"
            ) from error
        raise UnreadableAnswersError(f"{path} {fault(error)}, {others}") from error
    if not answers.get("cluster_name"):
        raise UnreadableAnswersError(
            f"{path} does not name the cluster that the snippet is for: it has no cluster_name, which Copier writes.\n"
            f"Bring that back, {others}"
        )
    return answers


def _text(path: Path) -> str:
    """The content of a file, its line ends as they are."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusalError(f"{path} is not text in UTF-8. Save it as UTF-8 and commit it, then repeat.") from error


def _write(path: Path, text: str | None) -> None:
    """Replace a file as a whole, so that no reader sees half of it; None removes it."""
    target = path.resolve()
    if text is None:
        target.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.new")
    try:
        draft.write_bytes(text.encode())
        if target.exists():
            shutil.copymode(target, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _contradiction(path: Path, sentences: str, network: str) -> str:
    lines = "\n".join(f"  - {sentence}" for sentence in sentences.splitlines())
    return (
        f"The dev container snippet does not fit {path}:\n{lines}\n"
        f"Change that there and commit it, then repeat the command. Or leave that file as it is, and get a\n"
        f"configuration of its own beside it: {_how_to_add(network)}"
    )


def _how_to_add(network: str) -> str:
    return f"repeat with -d devcontainer_file=.devcontainer/{network}/devcontainer.json"


def _way_back(operation: str, answers_file: Path) -> str:
    """How to get back to the state before; on `copy` only Copier's answers file is there by then."""
    if operation == "update":
        return f"\nTo undo the update: {ABORT}"
    return f"\n{what_is_left_of_snippet(answers_file) if operation == 'copy' else 'Nothing was changed.'}"


def _report(changed: list[Path], notes: list[str], operation: str) -> None:
    lines = [f"{'Removed' if not path.exists() else 'Wrote'} {path}" for path in changed]
    if not changed and operation != "update":
        lines.append("The dev container has all that it needs already.")
    if changed and operation != "remove":
        lines.append("A dev container that runs already has to be built anew (Dev Containers: Rebuild Container).")
    if lines or notes:
        print("\n".join(["", *lines, *notes, ""]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
