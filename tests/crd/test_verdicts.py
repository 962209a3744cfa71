"""The model and the API server say the same of each case, and both name the field that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from crds.definition import definition
from k2_core.errors import SpecError
from k2_core.spec import parse_pipeline
from support.crd_api import PipelineApi, patched
from support.crd_cases import CASES, CHANGES, Case, Change


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
class TestCases:
    def test_the_model(self, case: Case) -> None:
        if case.field is None:
            assert parse_pipeline(case.document)
            return
        with pytest.raises(SpecError) as caught:
            parse_pipeline(case.document)
        assert caught.value.path.endswith(case.field)

    def test_the_api_server(self, case: Case, api: PipelineApi) -> None:
        answer = api.judge(case.document)
        assert answer.accepted == (case.field is None), answer.message
        assert (case.field or "") in answer.message


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.id)
def test_changes(change: Change, api: PipelineApi) -> None:
    old, new = change.documents
    stored = api.create(old)
    assert stored.accepted, stored.message
    try:
        version = stored.document["metadata"]["resourceVersion"]
        answer = api.judge_change(patched(new, {"metadata": {"resourceVersion": version}}))
    finally:
        api.delete(old["metadata"]["name"])
    assert answer.accepted == (change.field is None), answer.message
    assert (change.field or "") in answer.message
    assert parse_pipeline(new)


def declared_rules(schema: dict[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield rule["rule"]
    for child in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else ())):
        yield from declared_rules(child)


EVERY: list[Case | Change] = [*CASES, *CHANGES]
RULES = sorted(set(declared_rules(definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])))


@pytest.mark.parametrize("refused", [False, True], ids=["accepted", "refused"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[:40])
def test_each_rule_has_cases(rule: str, refused: bool) -> None:
    assert any(case.rule and case.rule in rule for case in EVERY if (case.field is not None) == refused)


@pytest.mark.parametrize("case", [case for case in EVERY if case.rule], ids=lambda case: case.id)
def test_each_case_is_about_a_rule_that_exists(case: Case | Change) -> None:
    assert any(str(case.rule) in rule for rule in RULES)
