"""One YAML document of a file, with what is wrong with it in a line: where, what was found, what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from k2_core.errors import SpecError


def read_document(path: Path) -> object:
    """Read a YAML file, unchecked.

    Raises:
        SpecError: The file is missing or no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("", f"{path} ({error})", "a readable UTF-8 file") from error
    try:
        return yaml.load(text, _UniqueKeyLoader)  # noqa: S506  # a SafeLoader that refuses repeated keys
    except yaml.YAMLError as error:
        raise SpecError("", f"{path}{_yaml_fault(error)}", "one YAML document with each key once") from error


def _yaml_fault(error: yaml.YAMLError) -> str:
    """Say where the parser stopped and at what; its own text has a line for each, and quotes the file between them."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return f": {' '.join(str(error).split())}"
    problem = re.sub(r"^(but )?found ", "", error.problem or "no YAML")
    return f", line {mark.line + 1}, column {mark.column + 1}: {problem}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is a mistake and not a silent choice of the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):  # the loader itself refuses lists and mappings as keys
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} a second time", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)
