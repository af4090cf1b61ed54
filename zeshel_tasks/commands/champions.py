"""``zeshel champions`` and ``zeshel rollback``: list the champions, and return to the previous one."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table

from zeshel_tasks.champion.champions import KEY, Champion, read_champions
from zeshel_tasks.commands.table_console import TableConsole
from zeshel_tasks.errors import ConfigError, TryAgain
from zeshel_tasks.store import open_store
from zeshel_tasks.store.artifacts import read_manifest
from zeshel_tasks.text.safe_text import one_line


def show_champions(store_address: str) -> None:
    """Print the champion, the earlier champions, and those that were rolled back.

    Raises:
        ConfigError: there has been no champion.
    """
    store = open_store(store_address)
    champions = read_champions(store)
    if champions.champion is None:
        raise ConfigError(f"--store: expected a store with a champion, got none at {store.address}/{KEY}")
    table = Table(box=SIMPLE)
    for column in ("", "run", "promoted", "accuracy", "why"):
        table.add_column(column, no_wrap=column != "why")
    table.add_row("champion", *_cells(champions.champion))
    for champion in champions.earlier:
        table.add_row("before", *_cells(champion))
    for taken_back in champions.all_rolled_back:
        run, promoted, accuracy, _ = _cells(taken_back.champion)
        table.add_row("rolled back", run, promoted, accuracy, one_line(f"{taken_back.at}: {taken_back.reason}"))
    TableConsole(piped_width=160).print(table)


def roll_back(store_address: str, reason: str) -> None:
    """Make the previous champion the champion again.

    Raises:
        ConfigError: there is no previous champion, or its model is no longer in the store.
        TryAgain: a run promoted a model at the same time.
    """
    store = open_store(store_address)
    champions = read_champions(store)
    for folder in champions.earlier[0].folders if champions.earlier else ():
        if read_manifest(store, folder) is None:
            raise ConfigError(
                f"{store.address}/{KEY}: expected the model of the previous champion, but {folder} was deleted"
            )
    if not champions.roll_back(reason):
        raise TryAgain(f"{KEY}: changed at the same time; check it with `zeshel champions`, then try again")
    assert champions.champion is not None  # otherwise roll_back would have failed
    earlier = champions.earlier[0]
    print(one_line(f"run {earlier.run} is the champion again, instead of run {champions.champion.run}"))


def _cells(champion: Champion) -> tuple[str, str, str, str]:
    accuracy = champion.decision.get("unnormalized_accuracy")
    shown = "" if accuracy is None else f"{accuracy:.2%}"
    why = [str(champion.decision.get("reason", "")), *([str(champion.approval)] if champion.approval else [])]
    return one_line(champion.run), champion.promoted_at, shown, one_line("; ".join(why))
