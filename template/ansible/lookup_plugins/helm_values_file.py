"""Lookup: a file that Helm reads these values from, as what they are."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from ansible.constants import DEFAULT_LOCAL_TMP
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: helm_values_file
short_description: Writes a chart's values into a file, for C(values_files) of M(kubernetes.core.helm)
description:
  - With C(release_values) the module writes YAML 1.1. Helm takes some text in it for a number, as C(12e4), or for a
    truth value, as C(y). In JSON, which is YAML as well, all text is in quotes.
  - The file goes with the folder of this run of Ansible. It belongs to the user alone.
options:
  _terms:
    description: One mapping of values for each file.
    required: true
"""


_NOT_IN_YAML = re.compile("[\\x7f-\\x9f\\u2028\\u2029\\ufeff\\ufffe\\uffff]")


class LookupModule(LookupBase):  # type: ignore[misc]
    """Called by Ansible for `lookup('helm_values_file', values)`."""

    def run(self, terms: list[dict[str, Any]], **_: object) -> list[str]:
        """The names of the files, in the order of the values."""
        return [str(_written(_text(values))) for values in terms]


def _text(values: dict[str, Any]) -> str:
    """JSON that is YAML as well: control characters are none there, and in quotes line breaks become spaces.

    Others stay as they are, because YAML does not know the two escapes by which JSON writes an emoji.
    """
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(values, ensure_ascii=False))


def _written(text: str) -> Path:
    folder = str(DEFAULT_LOCAL_TMP)
    if any(character in folder for character in " \t,'\""):
        folder = tempfile.mkdtemp()  # the module puts names on Helm's command line as they are
    path = Path(folder, f"values-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json")
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path
