"""`k2 level` on a real Kafka: what it shows, what it overrides, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_cli.kafka_site import kafka_site
from k2_cli.level import parse_span
from k2_core.config import ServiceSettings
from k2_core.control import Command
from k2_core.control_topic import ControlFollower, ControlWriter
from k2_core.controller.shown import document
from k2_core.controller.stall import Stall
from k2_core.errors import SpecError
from k2_core.policy.decision import PolicyState, step
from k2_core.policy.memory import to_dict
from k2_core.policy.observation import Observation
from k2_core.policy.thresholds import DegradationConfig, Mode, PolicyConfig, ScalingConfig
from k2_core.spec import Pipeline
from k2_core.types import Level
from support.cli import k2
from support.recovery import Recovered
from support.waiting import wait_until

CONFIG = PolicyConfig(DegradationConfig(mode=Mode.AUTO), ScalingConfig(mode=Mode.AUTO))
LOOK = Observation(
    offered_per_s=100.0,
    accepted_per_s=0.0,
    shed_per_s=0.0,
    unread_records=1_234_567,
    oldest_unread_age_s=12.5,
    memory_ratio=0.25,
    downstream_failing=False,
)


def site(work: Recovered) -> tuple[Pipeline, ServiceSettings]:
    return kafka_site(work.folder, work.folder / "pipeline.yaml")


def decide(work: Recovered, stall: Stall | None = None) -> None:
    """Write what a controller writes."""
    pipeline, settings = site(work)
    writer = ControlWriter(settings, pipeline.control_name)
    state, decision = step(CONFIG, PolicyState(), LOOK, 1_000.0)
    level = decision.level
    writer.command(Command(level.applied, level.why, datetime.now(UTC)))
    writer.memory({"policy": to_dict(state), "decision": document(decision, stall)})


@pytest.mark.kafka
class TestLevel:
    def test_nobody_has_decided_anything(self, work: Recovered) -> None:
        found = work.command("level")
        assert found.code == 0
        assert found.out.startswith("level 0 NORMAL\nno controller has decided anything yet")

    def test_what_the_controller_decided_and_why(self, work: Recovered) -> None:
        decide(work)
        text = work.command("level").out
        assert "the controller says 3 since" in text
        assert "level: 3, recommended 3, FirstCrossing" in text
        assert "unread_records 1,234,567" in text
        assert "not known, which holds what needs it: deferred_records, replicas" in text
        assert "stalled" not in text
        found = work.command("level", "--json").document
        assert (found["level"], found["name"], found["override"]) == (3, "AGGRESSIVE", None)
        assert found["command"]["why"] == "FirstCrossing"
        assert found["decision"]["seen"]["oldest_unread_age_s"] == 12.5

    def test_a_sink_that_hangs_is_named_with_what_to_do(self, work: Recovered) -> None:
        decide(work, Stall(45.0, 1_234_567, ("pod/1/ab",)))
        text = " ".join(work.command("level").out.split())
        assert "stalled: for 45 s no sink has read any of 1,234,567 unread records or said anything" in text
        assert "the last to speak was pod/1/ab. See its log; if nothing goes on there, end its process" in text
        assert work.command("level", "--json").document["decision"]["stalled"]["sinks"] == ["pod/1/ab"]

    def test_an_override_reaches_services_and_is_kept_with_its_reason(self, work: Recovered) -> None:
        decide(work)
        found = work.command("level", "--set", 1, "--for", "2h", "--reason", "a drill", "--json").document
        assert (found["level"], found["override"]["reason"]) == (1, "a drill")
        pipeline, settings = site(work)
        follower = ControlFollower(settings, pipeline.control_name)
        follower.__enter__()
        wait_until(lambda: follower.level() is Level.SOFT, "the override")
        shown = work.command("level").out
        assert shown.startswith("level 1 SOFT\noverridden by ")
        assert ": a drill\n" in shown
        cleared = work.command("level", "--clear", "--reason", "over", "--json").document
        assert (cleared["level"], cleared["override"]) == (3, None)
        assert [(one["level"], one["reason"]) for one in cleared["overrides"]] == [(1, "a drill"), (None, "over")]
        wait_until(lambda: follower.level() is Level.AGGRESSIVE, "the end of the override")
        follower.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "2"], "--reason: found none"),
        (["--set", "2", "--reason", " "], "--reason: found none"),
        (["--set", "5", "--reason", "x"], "--set: found 5, expected a level from 0 to 4"),
        (["--set", "2", "--clear", "--reason", "x"], "--clear: found --set too"),
        (["--set", "2", "--reason", "x", "--for", "soon"], "--for: found 'soon'"),
        (["--set", "two"], "--set"),
    ],
    ids=["no-reason", "empty-reason", "no-such-level", "both", "no-time", "no-number"],
)
def test_what_makes_no_sense_is_refused_by_name(arguments: list[str], named: str) -> None:
    found = k2("level", *arguments)
    assert found.code == 2
    assert named in found.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800)], ids=["s", "m", "h", "d"]
)
def test_spans(text: str, seconds: int) -> None:
    assert parse_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0s", "8d", "15", "m", "-5m", "1.5h", "999999d"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(SpecError, match="at most 7d"):
        parse_span(text)
