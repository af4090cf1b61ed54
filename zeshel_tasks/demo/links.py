"""Links three mentions of a world that no model has seen, against a knowledge base of its entities."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from zeshel_tasks.commands.link import print_links
from zeshel_tasks.data.blink_format import read_blink_mentions
from zeshel_tasks.data.context_window import first_words, last_words
from zeshel_tasks.data.json_lines import read_json_lines, write_json_lines
from zeshel_tasks.store import Run, open_run

ZESHEL = [sys.executable, "-m", "zeshel_tasks"]
MENTIONS = 3
_SHOWN_WORDS = 6


def show_links(run_address: str, folder: Path, console: Console) -> None:
    """Builds the knowledge base, links with the models of the run, and prints the links.

    Args:
        run_address: a finished run.
        folder: existing folder for the texts and the links.
        console: where to print.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    run = open_run(run_address)
    world, lines = unseen_mentions(run, folder)
    documents = run.artifact("download", folder / "cache").path(f"documents/{world}.json")
    given, linked = write_json_lines(folder / "texts.jsonl", lines), folder / "links.jsonl"
    store = ["--store", run.store.address]
    subprocess.run([*ZESHEL, "kb", "build", *store, "--name", world, "--run", run_address, str(documents)], check=True)
    command = ["link", *store, "--kb", world, "--run", run_address, "--in", str(given), "--out", str(linked)]
    subprocess.run([*ZESHEL, *command], check=True)
    found = list(read_json_lines(linked))
    console.print(f"three links of {world}, which no model has seen", markup=False)
    for line in found:
        left, right = last_words(line["context_left"], _SHOWN_WORDS), first_words(line["context_right"], _SHOWN_WORDS)
        console.print(f"  … {left} [[{line['mention']}]] {right} …", markup=False, highlight=False, soft_wrap=True)
    print_links([link for line in found for link in line["links"]])


def unseen_mentions(run: Run, cache: Path) -> tuple[str, list[dict[str, Any]]]:
    """Returns a test world, and some of its mentions in BLINK's form; ``cache`` is a local folder for files."""
    converted = run.artifact("convert", cache / "cache")
    converted.path("test.mentions.jsonl")
    mentions = read_blink_mentions(converted.path("test.jsonl"))
    world = sorted(converted.manifest.metrics["worlds"]["test"])[0]
    of_world = [mention for mention in mentions if mention.world == world]
    chosen = of_world[:: max(1, len(of_world) // MENTIONS)][:MENTIONS]
    fields = ("context_left", "mention", "context_right", "context_document_id")
    return world, [{name: getattr(mention, name) for name in fields} for mention in chosen]
