"""What is in Git, or would be at the next `git add --all`: text that people read.

Every update of every environment fetches the repository, and what was once committed stays in it.
"""

from __future__ import annotations

from support import ROOT, names_in_working_tree

_MOST_BYTES = 300_000
"""The requirements with their hashes are the largest files, with less than 200 000."""


def test_nothing_is_tracked_that_is_large_or_no_text() -> None:
    paths = [ROOT / name for name in names_in_working_tree()]
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    assert len(files) > 100
    assert [path for path in files if path.stat().st_size > _MOST_BYTES] == []
    assert [path for path in files if not _is_text(path.read_bytes())] == []


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False
