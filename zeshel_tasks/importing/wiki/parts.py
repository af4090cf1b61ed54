"""The parts of a dump, such as ``enwiki-20261101-pages-articles2.xml-p41243p151573.bz2``: their order and wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.wiki.dump import Dump
from zeshel_tasks.importing.wiki.page import Site

_NUMBER = re.compile("([0-9]+)")
_RANGE = re.compile("[-_.](p[0-9]+p[0-9]+)(?=[-_.]|$)")
_DATE = re.compile("[-_]([0-9]{8})(?=[-_.])")


def in_order(files: Iterable[Input]) -> list[Input]:
    """Returns the parts in the order of the numbers in their names, 2 before 10.

    Raises:
        DataError: the names have different dates, so the parts are of several dumps, or the same range of pages.
    """
    ordered = sorted(files, key=lambda file: (_pieces(_base(file)), file.name))
    dates = {found[1]: file.name for file in ordered if (found := _DATE.search(_base(file)))}
    if len(dates) > 1:
        date, other, *_ = sorted(dates)
        raise DataError("parts of several dumps", file=dates[other], expected=f"the date {date}", got=other)
    ranges = dict[str, str]()
    for file in ordered:
        pages = _RANGE.search(_base(file))
        if pages is not None and (first := ranges.setdefault(pages[1], file.name)) != file.name:
            raise DataError("a part with the pages of another", file=file.name, expected="other pages", got=first)
    return ordered


def common_site(files: Sequence[Input], max_bytes: int | None = None) -> Site:
    """Returns what the head of the first part says about the wiki.

    Raises:
        DataError: that of another part says something else, or a part is damaged.
    """
    site = Dump(files[0], max_bytes).site()
    for file in files[1:]:
        if Dump(file, max_bytes).site() != site:
            raise DataError("a part of another wiki", file=file.name, expected=f"the namespaces of {files[0].name}")
    return site


def _pieces(name: str) -> list[str | int]:
    """The texts of a name and the numbers between them."""
    return [int(piece) if place % 2 else piece for place, piece in enumerate(_NUMBER.split(name))]


def _base(file: Input) -> str:
    return file.name.rpartition("/")[2]
