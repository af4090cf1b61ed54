"""The README's tables of values, and the script that generates them."""

import importlib
from types import ModuleType

import pytest
import yaml

from tests.helm.chart import CHART, HELM

VALUES = """\
# First.
a:
  # Inner, on
  # two lines | with a bar.
  b: [1]
  # Without comments inside.
  c:
    d: {e: "1"}
  f:
    # Deep.
    g: ""
# Last.
z: |
  long
  text
"""


@pytest.fixture
def docs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module helm/values_docs.py, which belongs to no package."""
    monkeypatch.syspath_prepend(HELM)
    return importlib.import_module("values_docs")


def test_readme_matches_the_comments(docs: ModuleType) -> None:
    readme, values = (CHART / "README.md").read_text(), (CHART / "values.yaml").read_text()
    assert docs.with_values(readme, values) == readme, "run `make docs`"


def test_every_value_has_a_row(docs: ModuleType) -> None:
    section = docs.values_section((CHART / "values.yaml").read_text())

    def covered(path: str, value: object) -> bool:
        if f"| `{path}` |" in section:
            return True
        return isinstance(value, dict) and all(covered(f"{path}.{key}", inner) for key, inner in value.items())

    for name, value in yaml.safe_load((CHART / "values.yaml").read_text()).items():
        assert covered(name, value), name


def test_row_has_path_default_and_comment(docs: ModuleType) -> None:
    assert docs.values_section(VALUES).splitlines() == [
        "### a",
        "",
        "First.",
        "",
        "| value | default | |",
        "|---|---|---|",
        "| `a.b` | `[1]` | Inner, on two lines \\| with a bar. |",
        '| `a.c` | `{"d": {"e": "1"}}` | Without comments inside. |',
        "| `a.f.g` |  | Deep. |",
        "",
        "### z",
        "",
        "Last.",
        "",
        "| value | default | |",
        "|---|---|---|",
    ]


def test_key_without_comment_is_rejected_by_name(docs: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"a\.c, line 5: expected a comment above it"):
        docs.read_values("# First.\na:\n  # Inner.\n  b: 1\n  c: 2\n")


def test_readme_without_markers_is_rejected(docs: ModuleType) -> None:
    with pytest.raises(ValueError, match="expected the lines"):
        docs.with_values("nothing", VALUES)


def test_file_without_values_is_rejected(docs: ModuleType) -> None:
    with pytest.raises(TypeError, match="expected a mapping of values, got '- a'"):
        docs.read_values("- a")
