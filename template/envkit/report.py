"""Tables for people: coloured on a terminal, plain and unwrapped elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH_IN_A_PIPE = 500
"""Columns; wide enough that no line is ever broken for a program that reads them."""


def new_table(*, columns: int) -> Table:
    """A table without lines; its last column takes what space there is."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for _ in range(columns - 1):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def print_report(table: Table) -> None:
    """Prints a table on standard output, without trailing blanks."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def plain(text: str) -> str:
    """Text in which nothing is taken for a style."""
    from rich.markup import escape

    return escape(text)
