"""bench.plan: the tables of docs/scaling.md are those that it prints."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from bench.plan import main

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_page_has_the_tables_that_are_computed() -> None:
    with redirect_stdout(StringIO()) as printed:
        main()
    page, tables = PAGE.read_text(), printed.getvalue().strip().split("\n\n")
    assert len(tables) == 5
    for table in tables:
        assert f"\n\n{table}\n\n" in page
