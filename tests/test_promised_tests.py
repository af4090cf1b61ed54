"""Every test that docs/reliability.md and docs/security.md name exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("reliability", "security")


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def named_tests(page: str) -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", (ROOT / "docs" / f"{page}.md").read_text())


@pytest.mark.parametrize("name", sorted({name for page in PAGES for name in named_tests(page)}))
def test_every_promised_test_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert function in functions_of(path)


@pytest.mark.parametrize("page", PAGES)
def test_page_names_more_than_20_tests(page: str) -> None:
    assert len(named_tests(page)) > 20
