"""What the chart grants: what the operator's code asks for, to the verb, no wildcard, secrets by name only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, Final

import pytest

from k2_operator.permissions import RULES
from support.chart import VALUE_SETS, Manifest, of_kind, rendered, value_set

Right = tuple[str, str, str]
"""API group, resource, verb."""
NEEDED: Final[set[Right]] = {
    right for rule in RULES for right in product([rule.group], rule.resources, rule.verbs)
}  # fmt: skip


def roles(manifests: Sequence[Manifest]) -> list[Manifest]:
    return of_kind(manifests, "Role", "ClusterRole")


def rights(rules: Iterable[Any]) -> set[Right]:
    return {
        right
        for rule in rules
        if "resourceNames" not in rule
        for right in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


@pytest.mark.parametrize("values", VALUE_SETS)
def test_it_grants_what_the_operator_asks_for_and_no_more(values: str) -> None:
    found = roles(value_set(values))
    assert found
    for role in found:
        assert rights(role["rules"]) == NEEDED


@pytest.mark.parametrize("values", VALUE_SETS)
def test_nothing_is_granted_by_wildcard(values: str) -> None:
    for role in roles(value_set(values)):
        for rule in role["rules"]:
            assert not any("*" in item for part in rule.values() for item in part), rule


@pytest.mark.parametrize("values", VALUE_SETS)
def test_secrets_are_got_by_name_or_not_at_all(values: str) -> None:
    for role in roles(value_set(values)):
        for rule in role["rules"]:
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["get"]
                assert rule["resources"] == ["secrets"]
                assert rule["resourceNames"]


def test_without_names_there_is_no_rule_on_secrets() -> None:
    (role,) = roles(rendered())
    assert [rule for rule in role["rules"] if "secrets" in rule["resources"]] == []


def test_the_named_secrets_are_those_of_the_value() -> None:
    (role,) = roles(rendered("--set", "operator.secretNames={lake,kafka}"))
    (rule,) = [rule for rule in role["rules"] if "secrets" in rule["resources"]]
    assert rule["resourceNames"] == ["lake", "kafka"]


def test_for_some_namespaces_there_is_a_role_in_each_and_none_for_the_cluster() -> None:
    manifests = value_set("namespaced")
    assert of_kind(manifests, "ClusterRole", "ClusterRoleBinding") == []
    assert [role["metadata"]["namespace"] for role in of_kind(manifests, "Role")] == ["team-a", "team-b"]
    for binding in of_kind(manifests, "RoleBinding"):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "k2-by-hand", "namespace": "k2-system"}]
        assert binding["roleRef"]["kind"] == "Role"


def test_roles_can_be_left_to_others() -> None:
    manifests = rendered("--set", "rbac.create=false")
    assert of_kind(manifests, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") == []
