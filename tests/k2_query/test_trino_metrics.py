from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from k2_core.errors import (
    CatalogUnavailableError,
    EngineError,
    EngineUnavailableError,
    QueryError,
    RetryableError,
    StorageUnavailableError,
)
from k2_query.budget import Budget
from k2_query.trino_metrics import Asked, Outcome, Purpose, TrinoMetrics, outcome_of

FIGURES: dict[str, Any] = {
    "state": "FINISHED",
    "queuedTimeMillis": 30,
    "planningTimeMillis": 200,
    "elapsedTimeMillis": 1500,
    "cpuTimeMillis": 2500,
    "processedRows": 1000,
    "processedBytes": 64_000,
    "physicalInputBytes": 9_000,
    "peakMemoryBytes": 5 * 1024**2,
    "totalSplits": 12,
    "rootStage": {"stageId": "0"},
}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (GeneratorExit(), Outcome.CANCELLED),
        (RetryableError("over"), Outcome.OUT_OF_TIME),
        (QueryError("end", "too large"), Outcome.TOO_LARGE),
        (EngineError("refused"), Outcome.REFUSED),
        (CatalogUnavailableError("catalog"), Outcome.CATALOG),
        (StorageUnavailableError("warehouse"), Outcome.STORAGE),
        (EngineUnavailableError("away"), Outcome.UNAVAILABLE),
        (ValueError("a fault"), Outcome.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.value,
)
def test_errors_are_told_apart(error: BaseException, outcome: Outcome) -> None:
    assert outcome_of(error, Budget(60)) is outcome


def test_what_failed_because_it_was_cancelled_is_cancelled() -> None:
    budget = Budget(60)
    budget.cancel("gone")
    assert outcome_of(EngineUnavailableError("away"), budget) is Outcome.CANCELLED


def shown(registry: CollectorRegistry) -> dict[str, float]:
    """Return what is shown, by name and labels, without buckets and moments."""
    return {
        " ".join([sample.name.removeprefix("k2_query_trino_"), *sample.labels.values()]): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def test_a_question_counts_with_what_trino_said_of_it() -> None:
    registry = CollectorRegistry()
    metrics = TrinoMetrics(registry)
    metrics.show_answers(True)
    for _ in range(2):
        metrics.told(Asked(Purpose.ANSWER, Outcome.OK, 1.75, FIGURES))
    assert shown(registry) == {
        "answers": 1,
        "statements_total answer ok": 2,
        "statement_seconds_count answer ok": 2,
        "statement_seconds_sum answer ok": 3.5,
        "stage_seconds_count answer queued": 2,
        "stage_seconds_sum answer queued": 0.06,
        "stage_seconds_count answer planning": 2,
        "stage_seconds_sum answer planning": 0.4,
        "stage_seconds_count answer elapsed": 2,
        "stage_seconds_sum answer elapsed": 3,
        "peak_memory_bytes_count answer": 2,
        "peak_memory_bytes_sum answer": 10 * 1024**2,
        "processed_rows_total answer": 2000,
        "processed_bytes_total answer": 128_000,
        "input_bytes_total answer": 18_000,
        "splits_total answer": 24,
        "cpu_seconds_total answer": 5,
    }


def test_a_question_without_an_answer_has_no_times_of_trinos() -> None:
    registry = CollectorRegistry()
    TrinoMetrics(registry).told(Asked(Purpose.PROBE, Outcome.UNAVAILABLE, 3.0))
    found = shown(registry)
    assert found["statements_total probe unavailable"] == 1
    assert not [name for name in found if name.startswith(("stage_seconds", "peak_memory"))]
    assert found["processed_rows_total probe"] == 0


def test_whether_it_answers_is_not_claimed_before_it_is_known() -> None:
    registry = CollectorRegistry()
    metrics = TrinoMetrics(registry)
    assert math.isnan(shown(registry)["answers"])
    metrics.show_answers(False)
    assert shown(registry)["answers"] == 0
    metrics.show_answers(None)
    assert math.isnan(shown(registry)["answers"])
