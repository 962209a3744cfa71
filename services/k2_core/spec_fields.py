"""What all parts of a K2Pipeline are made of: the strict base model, rules, checked strings, references, resources.

A rule stands beside the validator that it mirrors, in the words of the API server (CEL): `hack/crd` copies it into the
custom resource definition, and the tests hold both to one table of cases. Pure; used by the `spec*` modules only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from k2_core.quantity import QUANTITY_MAX_LENGTH, QUANTITY_PATTERN, quantity_value

CONTRADICTION: Final = "k2_contradiction"
"""The type of the validation errors that `contradiction` makes."""
RULES_KEY: Final = "x-kubernetes-validations"
RESOURCES_DESCRIPTION: Final = "Of each pod; what is left out is the operator's default. Without effect on a laptop."


class Model(BaseModel):
    """Unknown keys and coerced types are refused, as by the API server; a null is an absent key, as there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel, validate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        known = {field.alias for field in cls.model_fields.values()}
        return {key: item for key, item in value.items() if item is not None or key not in known}


def contradiction(field: str, found: str, expected: str) -> PydanticCustomError:
    """Return the error of a validator that looks at several fields.

    Args:
        field: The one to blame, below the model, as it is written in YAML (`limits.cpu`).
        found: What stands there.
        expected: What should.
    """
    return PydanticCustomError(
        CONTRADICTION, "found {found}, expected {expected}", {"field": field, "found": found, "expected": expected}
    )


def rule(cel: str, message: str, *, field: str | None = None, shown: str | None = None) -> dict[str, Any]:
    """Return one validation rule of the API server.

    Args:
        cel: True for what is accepted. With `oldSelf` in it, it is judged at changes only.
        message: Holds what was expected; shown where `shown` cannot be evaluated.
        field: The field to blame, below the one that carries the rule (`.uri`).
        shown: CEL for the message, where it can hold what was found.
    """
    made: dict[str, Any] = {"rule": cel, "message": message}
    if shown is not None:
        made["messageExpression"] = shown
    if field is not None:
        made["fieldPath"] = field
    return made


def rules(*declared: dict[str, Any]) -> dict[str, Any]:
    """Return the extra of a JSON schema that carries rules."""
    return {RULES_KEY: list(declared)}


def unchanging(why: str) -> dict[str, Any]:
    """Return the extra of a field that keeps its first value for as long as the resource lives."""
    return rules(
        rule(
            "self == oldSelf",
            f"it cannot change: {why}",
            shown=f'"found \'" + self + "\', expected \'" + oldSelf + "\' as before: {why}"',
        )
    )


def keyed_by_name() -> dict[str, Any]:
    """Return the extra of a list whose items are told apart by `name`: merged by name, and no name twice."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


def _quoted(value: object) -> object:
    """Say what to do where YAML read a number with a fraction: the API server takes whole numbers and text only."""
    if isinstance(value, float):
        raise PydanticCustomError("quantity", "the same in quotes: a quantity is text or a whole number")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else value


def _as_text(value: object) -> object:
    """Say what to do where YAML read a number: 0.1 as a float is not 0.1, and the API server takes text only."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise PydanticCustomError("decimal", "the same in quotes: exact numbers are text")
    return value


def _above_zero(value: str) -> str:
    if not any(digit in value for digit in "123456789"):
        raise PydanticCustomError("above_zero", "more than 0")
    return value


_ABOVE_ZERO: Final = rules(rule("self.matches('[1-9]')", "expected more than 0"))

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", max_length=63)]
"""A DNS label, as Kubernetes wants for names."""
SecretName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$", max_length=253)
]
SecretKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=253)]
SymbolName = Annotated[str, Field(pattern=r"^[A-Z0-9][A-Z0-9._-]{0,31}$", max_length=32)]
WebSocketUrl = Annotated[str, Field(pattern=r"^wss?://[A-Za-z0-9._:\[\]-]+$", max_length=255)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9._:\[\]-]+$", max_length=255)]
"""Without a path."""
HttpUrlWithPath = Annotated[
    str, Field(pattern=r"^https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._~/-]*)?$", max_length=1024)
]
"""Without a user: what a URL must keep secret stands in a secret."""
FilePath = Annotated[
    str,
    Field(
        pattern=r"^(s3://[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9._~+=@-]+)+|/?[A-Za-z0-9._~+=@ -]+(/[A-Za-z0-9._~+=@ -]+)*)$",
        max_length=1024,
    ),
]
"""An object's URL, or the path of a file."""
Quantity = Annotated[
    str,
    Field(pattern=QUANTITY_PATTERN, max_length=QUANTITY_MAX_LENGTH),
    BeforeValidator(_quoted),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY_PATTERN,
            "maxLength": QUANTITY_MAX_LENGTH,
            "minimum": 0,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A Kubernetes quantity; whole numbers may stand without quotes."""
PriceStep = Annotated[
    str,
    Field(pattern=r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,8})?$", max_length=19, json_schema_extra=_ABOVE_ZERO),
    BeforeValidator(_as_text),
    AfterValidator(_above_zero),
]
"""A decimal number above zero that a price can be, DECIMAL(18,8)."""
QuantityStep = Annotated[
    str,
    Field(pattern=r"^(0|[1-9][0-9]{0,19})(\.[0-9]{1,8})?$", max_length=29, json_schema_extra=_ABOVE_ZERO),
    BeforeValidator(_as_text),
    AfterValidator(_above_zero),
]
"""The same of a quantity, DECIMAL(28,8)."""


class SecretKeyRef(Model):
    """Where a secret value is; never the value."""

    name: SecretName = Field(description="Name of a Secret in the pipeline's namespace.")
    key: SecretKey = Field(description="Key in the Secret's data.")


class ResourceAmounts(Model):
    """Amounts of what a pod takes from its node."""

    cpu: Quantity | None = Field(default=None, description="Cores, such as 500m or 2.")
    memory: Quantity | None = Field(default=None, description="Bytes, such as 512Mi or 2Gi.")


class ResourcesSpec(Model):
    """What each pod of a service asks of its node, and what it may take at most."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *(
                rule(
                    f"!has(self.requests) || !has(self.limits) || !has(self.requests.{kind}) || "
                    f"!has(self.limits.{kind}) || quantity(string(self.requests.{kind})).compareTo("
                    f"quantity(string(self.limits.{kind}))) <= 0",
                    f"expected at most limits.{kind}",
                    field=f".requests.{kind}",
                    shown=f"'found ' + string(self.requests.{kind}) + ', expected at most limits.{kind}, ' + "
                    f"string(self.limits.{kind})",
                )
                for kind in ("cpu", "memory")
            )
        )
    )

    requests: ResourceAmounts | None = Field(default=None, description="What the scheduler sets aside for the pod.")
    limits: ResourceAmounts | None = Field(default=None, description="What the pod may take at most.")

    @model_validator(mode="after")
    def _requests_within_limits(self) -> Self:
        for kind in ("cpu", "memory"):
            asked, limit = getattr(self.requests, kind, None), getattr(self.limits, kind, None)
            if asked is not None and limit is not None and quantity_value(asked) > quantity_value(limit):
                raise contradiction(f"requests.{kind}", asked, f"at most limits.{kind}, {limit}")
        return self
