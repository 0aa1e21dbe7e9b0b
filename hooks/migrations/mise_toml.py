"""The pinned tools of the machine: `.mise.toml` has become `mise.toml`, as mise's own manual calls it."""

from __future__ import annotations

from migrations.moved_file import Update, move_file

OLD, NEW = ".mise.toml", "mise.toml"


def migrate(update: Update) -> str:
    """From `.mise.toml` to `mise.toml`, which stands beside its `mise.lock`."""
    return move_file(update, OLD, NEW)
