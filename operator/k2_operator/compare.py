"""Whether what stands in the cluster is what was rendered, so that a steady state writes nothing.

The API server adds defaults and other managers add fields; both are none of the operator's business. So the question is
whether everything that was rendered stands there with the same meaning, list items found by their key. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from k2_core.quantity import quantity_value

LIST_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
}
"""By which key the API server merges these lists; all others are compared item by item, as they are replaced whole."""
QUANTITIES: Final = frozenset({"cpu", "memory", "ephemeral-storage", "sizeLimit"})
"""Fields that the API server writes in its canonical form: 1000m comes back as 1."""


def differences(rendered: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    """Return the paths of what was rendered and does not stand there; empty when nothing has to be written.

    Args:
        rendered: A manifest.
        live: The object as the API server has it.
    """
    return _mapping("", rendered, live)


def _mapping(path: str, rendered: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    found = []
    for key, value in rendered.items():
        found += _value(f"{path}.{key}", key, value, live.get(key))
    return found


def _value(path: str, key: str, rendered: object, live: object) -> list[str]:
    if isinstance(rendered, Mapping):
        return _mapping(path, rendered, live) if isinstance(live, Mapping) else [path]
    if isinstance(rendered, list):
        if not rendered and live is None:  # the API server leaves an empty list out
            return []
        return _list(path, key, rendered, live) if isinstance(live, list) else [path]
    if key in QUANTITIES and isinstance(rendered, str) and isinstance(live, str):
        return [] if quantity_value(rendered) == quantity_value(live) else [path]
    return [] if rendered == live else [path]


def _list(path: str, key: str, rendered: Sequence[Any], live: Sequence[Any]) -> list[str]:
    if (by := LIST_KEYS.get(key)) is not None:
        standing = {item.get(by): item for item in live}
        return [
            difference
            for item in rendered
            for difference in _mapping(f"{path}[{item[by]}]", item, standing.get(item[by], {}))
        ]
    if len(rendered) != len(live):
        return [path]
    return [
        difference
        for place, (item, standing) in enumerate(zip(rendered, live, strict=True))
        for difference in _value(f"{path}[{place}]", "", item, standing)
    ]
