"""`k2 level` on a real Kafka: what it shows, what it overrides, and what it refuses."""

from __future__ import annotations

import getpass
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from k2_cli import level
from k2_cli.kafka_site import kafka_site
from k2_cli.level import parse_span
from k2_core.config import ServiceSettings
from k2_core.control import CONTROL_TOPIC, Command, command_key
from k2_core.control_topic import ControlFollower, ControlWriter
from k2_core.controller import loop
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


def decides(work: Recovered) -> None:
    """Have the pipeline's file ask for a controller."""
    path = work.folder / "pipeline.yaml"
    document = yaml.safe_load(path.read_text())
    document["spec"]["degradation"] = {"mode": "Auto"}
    path.write_text(yaml.safe_dump(document))


def decide(work: Recovered, stall: Stall | None = None, at: datetime | None = None, look: Observation = LOOK) -> None:
    """Write what a controller writes; without a time as one of before did."""
    pipeline, settings = site(work)
    writer = ControlWriter(settings, pipeline.control_name)
    state, decision = step(CONFIG, PolicyState(), look, 1_000.0)
    level = decision.level
    writer.command(Command(level.applied, level.why, datetime.now(UTC)))
    said = document(decision, stall) | ({} if at is None else {"at": at.isoformat()})
    writer.memory({"policy": to_dict(state), "decision": said})


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
        flat = " ".join(text.split())
        assert "memory_ratio 0.25," in flat  # one digit behind the point would round it
        assert "signals: draining yes, forecast_records 1,234,387.0, slope_per_s 0.0" in flat
        assert "sinks: -, recommended -, MetricsMissing" in flat
        assert "reckoned: commit_interval_s " in flat
        assert "the log removes what is owed" not in flat  # no retention is known
        found = work.command("level", "--json").document
        assert (found["level"], found["name"], found["override"]) == (3, "AGGRESSIVE", None)
        assert found["command"]["why"] == "FirstCrossing"
        assert found["decision"]["seen"]["oldest_unread_age_s"] == 12.5

    def test_what_is_left_of_the_retention(self, work: Recovered) -> None:
        look = replace(
            LOOK, deferred_records=0, retention_s=86_400.0, oldest_uncommitted_age_s=80_000.0, oldest_deferred_age_s=0.0
        )
        decide(work, look=look)
        text = " ".join(work.command("level").out.split())
        assert "the log removes what is owed to the table in 6,400 s at the earliest: less than a fifth" in text

    def test_a_sink_that_hangs_is_named_with_what_to_do(self, work: Recovered) -> None:
        decide(work, Stall(45.0, 1_234_567, ("pod/1/ab",)))
        text = " ".join(work.command("level").out.split())
        assert "stalled: for 45 s no sink has read any of 1,234,567 unread records or said anything" in text
        assert "the last to speak was pod/1/ab. See its log; if nothing goes on there, end its process" in text
        assert work.command("level", "--json").document["decision"]["stalled"]["sinks"] == ["pod/1/ab"]

    def test_an_override_reaches_services_and_is_kept_with_its_reason(self, work: Recovered) -> None:
        decide(work)
        found = work.command(
            "level", "--set", 1, "--for", "2h", "--reason", "a drill", "--by", "anna", "--json"
        ).document
        assert (found["level"], found["override"]["reason"], found["override"]["by"]) == (1, "a drill", "anna")
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


@pytest.mark.kafka
class TestTrouble:
    def test_a_topic_that_is_missing_is_said_and_not_made_by_a_look(self, work: Recovered) -> None:
        decides(work)
        decide(work)
        _, settings = site(work)
        client = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
        client.delete_topics([CONTROL_TOPIC])[CONTROL_TOPIC].result(20)
        wait_until(lambda: CONTROL_TOPIC not in client.list_topics(timeout=20).topics, "the topic's end")
        found = work.command("level")
        assert found.code == 0
        text = " ".join(found.out.split())
        assert text.startswith("level not known: control topic k2.control: found ")
        assert "services keep the level that they have" in text
        shown = work.command("level", "--json").document
        assert (shown["level"], shown["name"]) == (None, None)
        assert "expected its records" in shown["trouble"]
        assert CONTROL_TOPIC not in client.list_topics(timeout=20).topics
        assert work.command("level", "--set", 1, "--reason", "a drill", "--json").document["level"] == 1

    def test_garbage_is_said(self, work: Recovered) -> None:
        decides(work)
        decide(work)
        pipeline, settings = site(work)
        producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
        producer.produce(CONTROL_TOPIC, b"rubbish", command_key(pipeline.control_name))
        assert producer.flush(20) == 0
        text = " ".join(work.command("level").out.split())
        assert text.startswith("level 3 AGGRESSIVE control topic: found b'rubbish', expected JSON with a format")
        assert "services keep the level that they had" in text
        assert "rubbish" in work.command("level", "--json").document["trouble"]
        decide(work)
        assert work.command("level", "--json").document["trouble"] is None

    def test_a_controller_that_is_silent_is_told_from_one_that_is_content(self, work: Recovered) -> None:
        decide(work, at=datetime.now(UTC))
        assert "has said nothing" not in work.command("level").out
        decide(work, at=datetime.now(UTC) - timedelta(hours=2))
        text = " ".join(work.command("level").out.split())
        assert "the controller has said nothing for 7,20" in text
        assert "expected something every 10 s" in text
        assert level.REMEMBER_EVERY_S == loop.REMEMBER_EVERY_S


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "2"], "--reason: found none"),
        (["--set", "2", "--reason", " "], "--reason: found none"),
        (["--set", "5", "--reason", "x"], "--set: found 5, expected a level from 0 to 4"),
        (["--set", "2", "--clear", "--reason", "x"], "--clear: found --set too"),
        (["--set", "2", "--reason", "x", "--for", "soon"], "--for: found 'soon'"),
        (["--set", "two"], "--set"),
        (["--for", "5m"], "--for, --reason or --by: found one without --set or --clear"),
        (["--by", "anna"], "--for, --reason or --by: found one without --set or --clear"),
        (["--reason", "x"], "--for, --reason or --by: found one without --set or --clear"),
    ],
    ids=[
        "no-reason",
        "empty-reason",
        "no-such-level",
        "both",
        "no-time",
        "no-number",
        "time-alone",
        "name-alone",
        "reason-alone",
    ],
)
def test_what_makes_no_sense_is_refused_by_name(arguments: list[str], named: str) -> None:
    found = k2("level", *arguments)
    assert found.code == 2
    assert named in found.err


def test_without_a_name_of_the_user_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a pod whose user is in no file."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", nobody)
    found = k2("level", "--set", "2", "--reason", "x")
    assert found.code == 2
    assert "--by: found none, and no name of user" in found.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800)], ids=["s", "m", "h", "d"]
)
def test_spans(text: str, seconds: int) -> None:
    assert parse_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0s", "8d", "15", "m", "-5m", "1.5h", "999999d"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(SpecError, match="at most 7d"):
        parse_span(text)
