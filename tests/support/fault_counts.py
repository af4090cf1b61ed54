"""Writes the numbers of injected and survived faults of a test run into docs/reliability.md, by area.

make test-all | tee test.log && .venv/bin/python tests/support/fault_counts.py test.log
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- written by tests/support/fault_counts.py -->\n", "<!-- end -->\n"
_LINE = re.compile(r"\s*([\d,]+) of\s+([\d,]+)  (\w[\w ]*): ")


def table(lines: Iterable[str]) -> str:
    """Returns a Markdown table of the fault counts that ``tests/support/faults.py`` printed.

    Raises:
        ValueError: the lines contain no fault counts.
    """
    kinds, survived, injected = Counter[str](), Counter[str](), Counter[str]()
    seen = set[str]()
    for line in lines:
        # The tests of S3 run twice, against two servers.
        if (found := _LINE.match(line)) and (kind := line[found.start(3) :]) not in seen:
            seen.add(kind)
            area = found[3]
            kinds[area] += 1
            survived[area] += int(found[1].replace(",", ""))
            injected[area] += int(found[2].replace(",", ""))
    if not kinds:
        raise ValueError("expected the output of the tests, got no line like '  3 of  3  store: 503 burst'")
    rows = [f"| {area} | {kinds[area]} | {injected[area]:,} | {survived[area]:,} |" for area in sorted(kinds)]
    total = f"| all | {kinds.total()} | {injected.total():,} | {survived.total():,} |"
    return "\n".join(["| area | kinds of fault | injected | survived |", "|---|---:|---:|---:|", *rows, total, ""])


def with_table(page: str, counts: str) -> str:
    """Returns the page with ``counts`` in its place."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected {BEGIN.strip()} and {END.strip()} in the page")
    return before + begin + counts + end + after


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(), table(Path(sys.argv[1]).read_text().splitlines())))
