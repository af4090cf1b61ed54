"""Generate the tables of values in the chart's README from the comments in its ``values.yaml``.

python helm/values_docs.py helm/zeshel

A comment directly above a key describes the key. If a described key has children without comments, the children are its
default value.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BEGIN = "<!-- From the comments of values.yaml, by `make docs`. -->\n"
END = "<!-- End of values. -->\n"


@dataclass(frozen=True)
class Value:
    """A key of ``values.yaml``.

    Args:
        path: the keys that lead to it from the top level.
        comment: the comment lines above it, joined; empty if there are none.
        default: the value in the file.
        children: its documented keys, and its keys with documented children; empty for a plain value.
    """

    path: tuple[str, ...]
    comment: str
    default: Any
    children: tuple[Value, ...]


def read_values(text: str) -> tuple[Value, ...]:
    """Return the documented keys of a values file.

    Raises:
        ValueError: a key has no description.
        TypeError: the file does not contain a mapping.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError(f"expected a mapping of values, got {text[:50]!r}")
    return tuple(_children(root, yaml.safe_load(text), text.splitlines(), ()))


def values_section(text: str) -> str:
    """Render the README's section: a heading, an introduction and a table for each top-level key."""
    return "\n".join(line for value in read_values(text) for line in _section(value))


def with_values(readme: str, values: str) -> str:
    """Replace the text between the two markers in ``readme`` by the section.

    Raises:
        ValueError: a marker is missing.
    """
    try:
        begin, end = readme.index(BEGIN) + len(BEGIN), readme.index(END)
    except ValueError:
        raise ValueError(f"expected the lines {BEGIN!r} and {END!r} in the README") from None
    return f"{readme[:begin]}\n{values_section(values)}\n{readme[end:]}"


def _children(node: yaml.MappingNode, data: Any, lines: list[str], path: tuple[str, ...]) -> Iterator[Value]:
    for key, value in node.value:
        own_path, default = (*path, key.value), data[key.value]
        comment = _comment_above(lines, key.start_mark.line)
        block = isinstance(value, yaml.MappingNode) and not value.flow_style
        children = tuple(_children(value, default, lines, own_path)) if block and _documented(value, lines) else ()
        if not comment and not children:
            raise ValueError(f"{'.'.join(own_path)}, line {key.start_mark.line + 1}: expected a comment above it")
        yield Value(own_path, comment, default, children)


def _documented(node: yaml.MappingNode, lines: list[str]) -> bool:
    """Return True if any key in this mapping, at any depth, has a comment."""
    return any(
        _comment_above(lines, key.start_mark.line)
        or (isinstance(value, yaml.MappingNode) and _documented(value, lines))
        for key, value in node.value
    )


def _comment_above(lines: list[str], line: int) -> str:
    begin = line
    while begin > 0 and lines[begin - 1].lstrip().startswith("#"):
        begin -= 1
    return " ".join(text.lstrip().removeprefix("#").strip() for text in lines[begin:line])


def _section(value: Value) -> Iterator[str]:
    yield from (f"### {value.path[0]}", "", value.comment, "", "| value | default | |", "|---|---|---|")
    yield from _rows(value)
    yield ""


def _rows(value: Value) -> Iterator[str]:
    for child in value.children:
        if child.children:
            if child.comment:
                yield f"| `{'.'.join(child.path)}` | | {_cell(child.comment)} |"
            yield from _rows(child)
        else:
            yield f"| `{'.'.join(child.path)}` | {_default(child.default)} | {_cell(child.comment)} |"


def _default(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return "see values.yaml"
    text = json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    chart = Path(sys.argv[1])
    page = chart / "README.md"
    page.write_text(with_values(page.read_text("utf-8"), (chart / "values.yaml").read_text("utf-8")), "utf-8")
