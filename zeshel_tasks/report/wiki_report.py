"""The report of an import of a wiki, as JSON and as a page: what was kept and dropped, and why."""

from __future__ import annotations

from pathlib import Path

from zeshel_tasks.importing.wiki.summary import Summary
from zeshel_tasks.report.render import render_page
from zeshel_tasks.text.json_text import to_json


def write_wiki_report(summary: Summary, folder: Path) -> None:
    """Writes ``import.json`` and ``index.html`` into a folder; equal summaries give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = summary.fields()
    (folder / "import.json").write_text(f"{to_json(fields, indent=1, ensure_ascii=False)}\n", encoding="utf-8")
    (folder / "index.html").write_text(render_page("wiki.html", r=fields), encoding="utf-8")
