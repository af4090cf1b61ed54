"""bench.quality: its arithmetic, and the script with sizes that take seconds."""

from pathlib import Path

import pytest

from bench.quality.__main__ import main
from bench.quality.results import Figures, table
from bench.quality.rows import BIENCODER, CROSSENCODER, RETRIEVER, Row
from bench.quality.training import Pace
from zeshel_tasks.recipe import build_recipe


@pytest.mark.parametrize(
    ("pace", "mentions"),
    [
        (Pace(10.0, 0.0), 576),  # whole batches of 32 within 60 s
        (Pace(10.0, 30.0), 288),
        (Pace(10.0, 90.0), 128),  # at least four steps
        (Pace(100.0, 0.0), 1000),  # all available mentions
    ],
)
def test_training_gets_mentions_that_fit_its_time(pace: Pace, mentions: int) -> None:
    assert pace.mentions_in(60, 32, 1000) == mentions


def test_cell_shows_mean_and_range_over_seeds_in_percent() -> None:
    found = Figures(Row("a row", {}), 1234, seconds=[59.0, 61.0])
    for share in (0.5, 0.75):
        found.add({"valid R@8": share})
    assert list(table([found], ["valid R@8", "test R@8"]))[-1] == "| a row | 1,234 | 60 | 62.5 (50.0 to 75.0) |  |"


@pytest.mark.parametrize("row", [*BIENCODER, *CROSSENCODER], ids=lambda row: row.name)
def test_row_has_only_existing_settings(row: Row) -> None:
    stage = "train_biencoder" if row in BIENCODER else "train_crossencoder"
    build_recipe("blink", {f"{stage}.{name}": value for name, value in row.settings.items()})


def test_script_measures_requested_rows(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [RETRIEVER.name, "base + 2 hard negatives", CROSSENCODER[-1].name]
    sizes = [
        "--seconds=0.2",
        "--crossencoder_seconds=0.2",
        "--seeds=2",
        "--length=32",
        "--recall_mentions=4",
        "--accuracy_mentions=3",
    ]
    main([
        f"--data={golden / 'raw'}", f"--model={golden / 'bert'}", *sizes, "--crossencoder_mentions=60",
        f"--out={tmp_path / 'out.md'}", *(f"--row={name}" for name in names),
    ])  # fmt: skip
    written = (tmp_path / "out.md").read_text()
    assert written.split("\n\n")[0] in capsys.readouterr().out
    rows = [line.split("|")[1:-1] for line in written.splitlines() if line.startswith("| ") and "row" not in line[:6]]
    assert [row[0].strip() for row in rows] == names
    for row in rows:
        assert 0 < int(row[1].replace(",", "")) <= 120
        figures = [cell for cell in row[3:] if cell.strip()]
        assert figures
        assert all(0 <= float(cell.split()[0]) <= 100 for cell in figures)
