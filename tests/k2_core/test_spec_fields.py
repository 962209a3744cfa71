"""What all parts of a spec share: strict types, absent nulls, contradictions that name their field, resources."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from k2_core.spec_fields import (
    CONTRADICTION,
    Model,
    PriceStep,
    QuantityStep,
    ResourcesSpec,
    SecretKeyRef,
    contradiction,
    keyed_by_name,
    rule,
    rules,
    unchanging,
)


class Counted(Model):
    count: int = 1
    share: float = 0.5
    wanted: bool = False


class Stepped(Model):
    tick: PriceStep = "1"
    step: QuantityStep = "1"


class TestModel:
    @pytest.mark.parametrize(
        "document",
        [{"count": "1"}, {"count": 1.0}, {"count": True}, {"share": "1"}, {"wanted": 1}, {"x": 1}, {"x": None}],
        ids=str,
    )
    def test_nothing_is_converted_or_ignored(self, document: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            Counted.model_validate(document)

    def test_a_null_is_an_absent_field(self) -> None:
        assert Counted.model_validate({"count": None, "share": 1}) == Counted(count=1, share=1.0)

    def test_what_is_no_mapping_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="valid dictionary"):
            Counted.model_validate([])


class TestContradiction:
    def test_it_tells_field_found_and_expected(self) -> None:
        error = contradiction("limits.cpu", "2", "at most 1")
        assert (error.type, error.message()) == (CONTRADICTION, "found 2, expected at most 1")
        assert error.context == {"field": "limits.cpu", "found": "2", "expected": "at most 1"}


class TestRules:
    def test_the_least(self) -> None:
        assert rules(rule("true", "always")) == {"x-kubernetes-validations": [{"rule": "true", "message": "always"}]}

    def test_all_parts(self) -> None:
        made = rule("self", "m", field=".a", shown="'m'")
        assert made == {"rule": "self", "message": "m", "messageExpression": "'m'", "fieldPath": ".a"}

    def test_what_never_changes_says_why(self) -> None:
        (made,) = unchanging("it is a name")["x-kubernetes-validations"]
        assert made["rule"] == "self == oldSelf"
        assert "it is a name" in made["message"]
        assert "it is a name" in made["messageExpression"]

    def test_lists_by_name(self) -> None:
        assert keyed_by_name() == {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class TestSecrets:
    @pytest.mark.parametrize("name", ["a", "team.secret-1"])
    def test_names_as_kubernetes_has_them(self, name: str) -> None:
        assert SecretKeyRef(name=name, key="tls.CRT_1").name == name

    @pytest.mark.parametrize(("name", "key"), [("A", "k"), ("a..b", "k"), ("", "k"), ("a" * 254, "k"), ("a", "k/")])
    def test_others(self, name: str, key: str) -> None:
        with pytest.raises(ValidationError):
            SecretKeyRef(name=name, key=key)


class TestResources:
    @pytest.mark.parametrize(
        "document",
        [
            pytest.param({}, id="nothing"),
            pytest.param({"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}, id="different-kinds"),
            pytest.param({"requests": {"cpu": "1000m"}, "limits": {"cpu": 1}}, id="equal-amounts"),
            pytest.param({"requests": {"memory": "1G"}, "limits": {"memory": "1Gi"}}, id="decimal-below-binary"),
        ],
    )
    def test_requests_up_to_the_limits(self, document: dict[str, Any]) -> None:
        assert ResourcesSpec.model_validate(document)

    def test_whole_numbers_become_text(self) -> None:
        resources = ResourcesSpec.model_validate({"limits": {"cpu": 2, "memory": 1024}})
        assert resources.limits is not None
        assert (resources.limits.cpu, resources.limits.memory) == ("2", "1024")

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            pytest.param(
                {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}},
                "found 2Gi, expected at most limits.memory, 1Gi",
                id="above-the-limit",
            ),
            pytest.param({"limits": {"cpu": 0.5}}, "the same in quotes", id="fraction"),
            pytest.param({"limits": {"cpu": "lots"}}, "should match pattern", id="words"),
            pytest.param({"limits": {"cpu": -1}}, "valid string", id="negative"),
            pytest.param({"limits": {"cpu": True}}, "valid string", id="boolean"),
            pytest.param({"limits": {"gpu": "1"}}, "Extra inputs", id="unknown-kind"),
        ],
    )
    def test_what_is_refused(self, document: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            ResourcesSpec.model_validate(document)


class TestSteps:
    @pytest.mark.parametrize("text", ["0.01", "0.01000000", "0.00000001", "1", "10.5", "9999999999.99999999"])
    def test_they_stay_as_they_are_written(self, text: str) -> None:
        stepped = Stepped.model_validate({"tick": text, "step": text})
        assert (stepped.tick, stepped.step) == (text, text)

    def test_quantities_may_be_larger(self) -> None:
        most = f"{'9' * 20}.{'9' * 8}"
        assert Stepped.model_validate({"step": most}).step == most
        with pytest.raises(ValidationError, match="at most 19 characters"):
            Stepped.model_validate({"tick": most})
        with pytest.raises(ValidationError, match="should match pattern"):
            Stepped.model_validate({"tick": "12345678901"})

    @pytest.mark.parametrize("field", ["tick", "step"])
    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("0", "more than 0"),
            ("0.00000000", "more than 0"),
            (0.01, "the same in quotes: exact numbers are text"),
            (1, "the same in quotes: exact numbers are text"),
            (True, "valid string"),
            ("0.000000001", "should match pattern"),
            ("-1", "should match pattern"),
            ("1e-2", "should match pattern"),
            ("1\n", "should match pattern"),
            ("\u0661", "should match pattern"),
        ],
    )
    def test_what_is_refused(self, field: str, value: object, message: str) -> None:
        with pytest.raises(ValidationError, match=message):
            Stepped.model_validate({field: value})
