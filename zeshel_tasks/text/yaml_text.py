"""Reads YAML of unknown origin in bounded time and memory, and refuses duplicate names."""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_CHARACTERS = 2**16
"""A file with all settings of all stages has 4,000. PyYAML reads a file of this size in less than a second."""
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# 010 would be 8, and 1:30 would be 90. No flag and no form takes 0x10 for 16.
_OTHER_BASES = {
    2: re.compile(r"[-+]?0b[01_]+"),
    8: re.compile(r"[-+]?0[0-7_]+"),
    16: re.compile(r"[-+]?0x[0-9a-fA-F_]+"),
    60: re.compile(r"[-+]?[0-9_]+(:[0-9]+)+(\.[0-9_]*)?"),
}
_MAX_PAIRS = 256  # per mapping; a few lines of merged mappings can describe 10^9


def read_yaml(text: str) -> Any:
    """Read the text's only document; None if the text is empty.

    Raises:
        ValueError: the text is not YAML, contains a name twice or a number that is not decimal, is too long or is
            nested too deeply. The message is one line.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text):,} characters, at most {MAX_CHARACTERS:,} are read")
    try:
        return _Loader(text).get_single_data()
    except RecursionError:
        raise ValueError("lists or mappings that are nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(_in_one_line(error)) from error


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._flat: set[int] = set()  # ids of mappings whose merges are resolved

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Raise one kind of error, with a line; PyYAML raises many kinds for ``2026-99-99`` or ``!!int x``."""
        if node.tag in _NUMBERS:
            for base, form in _OTHER_BASES.items():
                if form.fullmatch(node.value):
                    problem = f"expected a decimal number, got {node.value[:20]}, which YAML reads in base {base}"
                    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(None, None, f"no {node.tag}: {error}", node.start_mark) from error

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolve ``<<``, but refuse duplicate keys first; PyYAML would keep the last one."""
        if id(node) in self._flat:
            return
        self._flat.add(id(node))
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} twice", key.start_mark)
                seen.add((key.tag, key.value))
        super().flatten_mapping(node)
        if len(node.value) > _MAX_PAIRS:
            raise yaml.constructor.ConstructorError(None, None, "too many names", node.start_mark)


def _in_one_line(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"in line {mark.line + 1}, column {mark.column + 1}: {problem}"
