"""The words of status and Events."""

from __future__ import annotations

import re

from k2_core.policy.reasons import Reason


def test_they_are_what_kubernetes_takes_as_reasons() -> None:
    assert all(re.fullmatch(r"[A-Z][A-Za-z]{1,126}", reason) for reason in Reason)
