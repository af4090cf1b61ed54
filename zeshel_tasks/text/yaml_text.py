"""YAML of unknown origin: read in bounded time and memory, and nothing of it is guessed or passed over."""

from __future__ import annotations

from typing import Any

import yaml

MAX_CHARACTERS = 2**16
"""A file with every setting of every stage has 4,000; for as many as this PyYAML takes less than a second."""
_MAX_PAIRS = 256  # of one mapping: merged into one another, a few lines make 10^9


def read_yaml(text: str) -> Any:
    """The text's only document; None where it has none.

    Raises:
        ValueError: not YAML, a name that is given twice, too long, or too deep. The message is one line.
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
        self._flat: set[int] = set()  # ids of the mappings whose merges are resolved

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """As in PyYAML, whose own errors about ``2026-99-99`` or ``!!int x`` are of many kinds and without a line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(None, None, f"no {node.tag}: {error}", node.start_mark) from error

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Resolves ``<<``; before that, refuses a key that is there twice, of which PyYAML would keep the last."""
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
