"""A decision as people see it: all that it rests on, in words that JSON has, unknown figures left out."""

from __future__ import annotations

import json
from dataclasses import replace

from k2_core.controller.shown import document
from k2_core.controller.stall import Stall
from k2_core.policy.decision import Decision, PolicyState, step
from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from support.policy import QUIET

CONFIG = PolicyConfig(DegradationConfig(mode=Mode.AUTO), ScalingConfig(mode=Mode.AUTO, assumed_per_s=1_000))
BUSY = replace(
    QUIET,
    offered_per_s=3_000.0,
    accepted_per_s=900.0,
    unread_records=20_000,
    oldest_unread_age_s=8.0,
    replicas=1,
    ready_replicas=1,
    active_partitions=4,
    oldest_uncommitted_age_s=9.0,
    retention_s=3_600.0,
)


def decided(observation: Observation) -> Decision:
    return step(CONFIG, PolicyState(), observation, 1_000.0)[1]


def test_everything_that_it_rests_on() -> None:
    found = document(decided(BUSY))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["level"]["applied"] == 2
    assert found["level"]["why"] == "FirstCrossing"
    assert found["sinks"]["applied"] == 4
    assert found["sinks"]["terms"]["offered_per_s"] == 3_000
    assert found["seen"]["unread_records"] == 20_000
    assert found["seen"]["service_level"] == 0
    assert (found["missing"], found["outage_budget_s"]) == ([], 3_591)


def test_what_is_not_known_is_named_and_left_out() -> None:
    found = document(decided(Observation(replicas=1)))
    assert found["seen"] == {"replicas": 1, "stopping": False}
    assert "unread_records" in found["missing"]
    assert found["sinks"]["terms"] is None
    assert found["stalled"] is None


def test_who_hangs_is_said() -> None:
    found = document(decided(replace(BUSY, commit_duration_s=None, stalled_s=31.0)), Stall(31.0, 7, ("pod/1/ab",)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["sinks"]["held_by"] == ["MetricsMissing", "SinksStalled"]
    assert found["sinks"]["applied"] == 1
    assert found["level"]["applied"] == 2
    stalled = found["stalled"]
    assert (stalled["seconds"], stalled["unread_records"], stalled["sinks"]) == (31.0, 7, ["pod/1/ab"])
    assert stalled["text"].startswith("for 31 s no sink has read any of 7 unread records")
