"""What a decision was made from, why it is as it is, and what held it back, as figures: the same names everywhere.

Exported by the controller of a laptop (`k2_controller_…`) and by the operator (`k2_operator_pipeline_…`). What is not
known is None. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from k2_core.policy.decision import Decision

LOAD: Final[Mapping[str, str]] = {
    "offered_records_per_second": "Growth of the log",
    "accepted_records_per_second": "What sinks read and did not put off",
    "shed_records_per_second": "What sinks read and put off",
    "unread_age_seconds": "Age of the oldest record that no sink has read, 0 without any",
    "uncommitted_age_seconds": "Age of the oldest record that the table has not passed, 0 without any",
    "memory_ratio": "Of the sink that uses most, the share of its memory",
    "sink_records_per_second": "What one sink takes in, as the last decision reckoned",
    "utilization_ratio": "Share of its throughput that the offered load takes of the fullest ready sink",
}
"""Figures that a decision is made from, with what they are."""
WORDS: Final[Mapping[str, str]] = {
    "why": "1 for the reason why the level, or the number of sinks, is what it is",
    "held": "1 for each reason that holds the level, or the number of sinks, back",
    "missing": "1 for each figure that is not known, which holds what needs it",
}
"""Sets of words that a decision comes with, each a series with the labels `of` and `word`, and what the set is."""


def load(decision: Decision) -> dict[str, float | None]:
    """Return what a decision was made from, by the names of `LOAD`."""
    seen, terms = decision.observation, decision.replicas.step.terms
    return {
        "offered_records_per_second": seen.offered_per_s,
        "accepted_records_per_second": seen.accepted_per_s,
        "shed_records_per_second": seen.shed_per_s,
        "unread_age_seconds": seen.oldest_unread_age_s,
        "uncommitted_age_seconds": seen.oldest_uncommitted_age_s,
        "memory_ratio": seen.memory_ratio,
        "sink_records_per_second": None if terms is None else terms.throughput_per_s,
        "utilization_ratio": None if terms is None else terms.utilization,
    }


def words(decision: Decision) -> dict[str, set[tuple[str, ...]]]:
    """Return what a decision comes with, by the names of `WORDS`: of what, and the word."""
    level, sinks = decision.level, decision.replicas.step
    return {
        "why": {("level", str(level.why)), ("sinks", str(sinks.why))},
        "held": {("level", str(one)) for one in level.held_by} | {("sinks", str(one)) for one in sinks.held_by},
        "missing": {("figures", name) for name in decision.missing},
    }
