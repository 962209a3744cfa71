"""From pydantic's JSON schema to the structural schema that Kubernetes wants; pure.

Called by definition.py. It adds nothing of its own: types, bounds, defaults, descriptions and rules are the model's,
though a bound may have to be said as a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]

_DROPPED: Final = frozenset({"title", "$defs", "const", "anyOf", "$ref", "additionalProperties"})
"""Pydantic's words that a structural schema has no use for, or says otherwise."""
_ORDER: Final = ("description", "type", "default", "enum", "required", "properties", "items")


def structural(schema: Mapping[str, Any]) -> Schema:
    """Return the structural form of a whole JSON schema.

    Args:
        schema: What `model_json_schema(by_alias=True)` gives: references into `$defs`, `anyOf` with null for what may
            be left out. A null needs no word here, as the API server takes it for an absent field.
    """
    return _converted(schema, schema.get("$defs", {}))


def _converted(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    merged = _resolved(schema, definitions)
    converted = {key: value for key, value in merged.items() if key not in _DROPPED}
    if merged.get("x-kubernetes-int-or-string"):
        converted["anyOf"] = merged["anyOf"]
    if "const" in merged:
        converted["enum"] = [merged["const"]]
    if "properties" in merged:
        converted["properties"] = {name: _converted(value, definitions) for name, value in merged["properties"].items()}
    if "items" in merged:
        converted["items"] = _converted(merged["items"], definitions)
    _set_minimum(converted)
    _set_default(converted)
    _flatten_description(converted)
    return {key: converted[key] for key in sorted(converted, key=_rank)}


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Follow references and drop the null from a choice; what stands beside them wins."""
    beside = {key: value for key, value in schema.items() if key not in {"$ref", "anyOf"}}
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions) | beside
    if "anyOf" not in schema or schema.get("x-kubernetes-int-or-string"):
        return dict(schema)
    (choice,) = [option for option in schema["anyOf"] if option != {"type": "null"}]
    return _resolved(choice, definitions) | beside


def _set_minimum(schema: Schema) -> None:
    """Say an exclusive minimum as Kubernetes does, and one with a fraction twice.

    The API server cuts the fraction of a minimum off before it compares a whole number with it, so that 0 would do
    for at least 0.5. Rules are exact.
    """
    if "exclusiveMinimum" in schema:
        schema |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
    least = schema.get("minimum", 0)
    if least != int(least):
        exact = {"rule": f"self >= {least}", "message": f"expected at least {least}"}
        schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", ()), exact]


def _set_default(schema: Schema) -> None:
    """Leave out what is absent by default; an object's default is empty, as its fields have theirs.

    But where it has rules: the API server judges a default by them before it fills in those of the fields.
    """
    default = schema.get("default", ...)
    if default is None:
        del schema["default"]
    elif isinstance(default, dict):
        schema["default"] = _without_nulls(default) if "x-kubernetes-validations" in schema else {}


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


def _flatten_description(schema: Schema) -> None:
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())


def _rank(key: str) -> tuple[int, str]:
    return (_ORDER.index(key), "") if key in _ORDER else (len(_ORDER), key)
