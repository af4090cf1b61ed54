"""Prints tables to the terminal or a pipe."""

from __future__ import annotations

import sys

from rich.console import Console


class TableConsole(Console):
    """Prints text as it is: addresses may look like rich's markup.

    Args:
        piped_width: columns if the output is a pipe or a pod's log, which have no width.
    """

    def __init__(self, piped_width: int) -> None:
        width = None if sys.stdout.isatty() else piped_width
        super().__init__(highlight=False, markup=False, emoji=False, width=width)

    def on_broken_pipe(self) -> None:
        """Leaves it to ``cli.py`` that ``zeshel show | head`` succeeds; rich would exit with code 1."""
        raise BrokenPipeError
