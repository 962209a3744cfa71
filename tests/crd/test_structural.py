"""The definition's schema and the model, compared without a server: not through the generator, but field by field."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import annotated_types
import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from crds.definition import FILE
from crds.structural import structural
from k2_core.spec import PipelineSpec

Field = tuple[str, FieldInfo, dict[str, Any]]
VERSION = yaml.safe_load(FILE.read_text())["spec"]["versions"][0]
SPEC: dict[str, Any] = VERSION["schema"]["openAPIV3Schema"]["properties"]["spec"]
TYPES = {int: "integer", float: "number", bool: "boolean", str: "string", tuple: "array"}


def bare(annotation: Any) -> Any:
    """The type without None and without what annotates it."""
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        (annotation,) = [part for part in typing.get_args(annotation) if part is not type(None)]
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def extras(annotation: Any) -> Iterator[Any]:
    """What annotates a type, at any depth."""
    if typing.get_origin(annotation) is typing.Annotated:
        for extra in typing.get_args(annotation)[1:]:
            yield from extra.metadata if isinstance(extra, FieldInfo) else [extra]
    elif typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        for part in typing.get_args(annotation):
            yield from extras(part)


def submodel(annotation: Any) -> type[BaseModel] | None:
    plain = bare(annotation)
    plain = typing.get_args(plain)[0] if typing.get_origin(plain) is tuple else plain
    return plain if isinstance(plain, type) and issubclass(plain, BaseModel) else None


def fields(model: type[BaseModel], schema: dict[str, Any], path: str = "spec") -> Iterator[Field]:
    for name, field in model.model_fields.items():
        at = f"{path}.{field.alias or name}"
        part = schema["properties"][field.alias or name]
        yield at, field, part
        if (inner := submodel(field.annotation)) is not None:
            yield from fields(inner, part.get("items", part), at)


def models(model: type[BaseModel], schema: dict[str, Any], path: str = "spec") -> Iterator[Any]:
    yield path, model, schema
    for at, field, part in fields(model, schema, path):
        if (inner := submodel(field.annotation)) is not None:
            yield at, inner, part.get("items", part)


FIELDS = list(fields(PipelineSpec, SPEC))
MODELS = list(models(PipelineSpec, SPEC))


@pytest.mark.parametrize(("field", "schema"), [case[1:] for case in FIELDS], ids=[path for path, *_ in FIELDS])
class TestFields:
    def test_type(self, field: FieldInfo, schema: dict[str, Any]) -> None:
        plain = bare(field.annotation)
        if typing.get_origin(plain) is Literal:
            assert (schema["type"], tuple(schema["enum"])) == ("string", typing.get_args(plain))
        elif submodel(field.annotation) is not None and typing.get_origin(plain) is not tuple:
            assert schema["type"] == "object"
        elif schema.get("x-kubernetes-int-or-string"):
            assert plain is str
            assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}]
        else:
            assert schema["type"] == TYPES[typing.get_origin(plain) or plain]

    def test_bounds(self, field: FieldInfo, schema: dict[str, Any]) -> None:
        ends = "Items" if schema.get("type") == "array" else "Length"
        expected: dict[str, Any] = {}
        for extra in (*field.metadata, *extras(field.annotation)):
            match extra:
                case annotated_types.Ge(ge=least):
                    expected["minimum"] = least
                case annotated_types.Gt(gt=bound):
                    expected |= {"minimum": bound, "exclusiveMinimum": True}
                case annotated_types.Le(le=most):
                    expected["maximum"] = most
                case annotated_types.MinLen(min_length=least):
                    expected[f"min{ends}"] = least
                case annotated_types.MaxLen(max_length=most):
                    expected[f"max{ends}"] = most
                case _ if getattr(extra, "pattern", None) is not None:
                    expected["pattern"] = extra.pattern
        bounds = {"minimum", "exclusiveMinimum", "maximum", "pattern", "minLength", "maxLength", "minItems", "maxItems"}
        found = {key: value for key, value in schema.items() if key in bounds}
        if schema.get("x-kubernetes-int-or-string"):
            del found["minimum"]  # of whole numbers, which the model makes text of
        assert found == expected

    def test_default(self, field: FieldInfo, schema: dict[str, Any]) -> None:
        if field.default is None or field.default is PydanticUndefined:
            assert "default" not in schema
        elif isinstance(field.default, BaseModel):
            assert field.default == type(field.default)()
            whole = field.default.model_dump(by_alias=True, exclude_none=True, mode="json")
            assert schema["default"] == (whole if "x-kubernetes-validations" in schema else {})
        else:
            assert schema["default"] == field.default

    def test_it_is_described(self, field: FieldInfo, schema: dict[str, Any]) -> None:
        assert schema["description"] == field.description


@pytest.mark.parametrize("schema", [schema for *_, schema in FIELDS], ids=[path for path, *_ in FIELDS])
def test_texts_and_lists_are_bounded(schema: dict[str, Any]) -> None:
    """So that the API server can bound the cost of rules."""
    if schema.get("type") == "array":
        assert "maxItems" in schema
    elif schema.get("type") == "string":
        assert "enum" in schema or "maxLength" in schema


@pytest.mark.parametrize("schema", [schema for *_, schema in FIELDS], ids=[path for path, *_ in FIELDS])
def test_a_minimum_with_a_fraction_is_a_rule_too(schema: dict[str, Any]) -> None:
    """The API server judges whole numbers by the whole part of it."""
    least = schema.get("minimum", 0)
    said = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
    assert (f"self >= {least}" in said) == (least != int(least))


@pytest.mark.parametrize(("model", "schema"), [case[1:] for case in MODELS], ids=[path for path, *_ in MODELS])
class TestObjects:
    def test_no_field_more_or_less(self, model: type[BaseModel], schema: dict[str, Any]) -> None:
        assert list(schema["properties"]) == [field.alias or name for name, field in model.model_fields.items()]

    def test_required(self, model: type[BaseModel], schema: dict[str, Any]) -> None:
        required = [field.alias or name for name, field in model.model_fields.items() if field.is_required()]
        assert schema.get("required", []) == required


class TestConversion:
    def test_what_pydantic_writes_and_kubernetes_does_not_know_is_gone(self) -> None:
        text = FILE.read_text()
        for word in ("$ref", "$defs", "const:", "title:", "additionalProperties", "nullable"):
            assert word not in text

    def test_a_reference_keeps_what_stands_beside_it(self) -> None:
        made = structural(
            {
                "properties": {"a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}], "description": "of a"}},
                "$defs": {"A": {"type": "object", "description": "of  A", "properties": {}}},
            }
        )
        assert made["properties"]["a"] == {"description": "of a", "type": "object", "properties": {}}
