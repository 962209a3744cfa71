from __future__ import annotations

from k2_operator.names import CHILD_KINDS
from k2_operator.permissions import RULES


def test_nothing_is_a_wildcard_and_secrets_are_left_to_the_chart() -> None:
    for rule in RULES:
        found = rule.as_manifest()
        assert "*" not in found["apiGroups"] + found["resources"] + found["verbs"]
        assert "secrets" not in found["resources"]
        assert rule.why


def test_every_kind_of_child_may_be_written() -> None:
    for kind in CHILD_KINDS:
        [verbs] = [rule.verbs for rule in RULES if rule.group == kind.group and kind.plural in rule.resources]
        assert {"get", "list", "watch", "create", "patch", "delete"} <= set(verbs)
