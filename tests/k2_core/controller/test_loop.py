"""The controller on a real Kafka: what it tells services, what it remembers, and that its absence changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer

from k2_core import control_log, control_topic
from k2_core.control import Command, Override, command_key
from k2_core.control_topic import ControlWriter
from k2_core.controller import stall
from k2_core.controller.look import Look, Looker
from k2_core.controller.loop import Controller
from k2_core.controller.sight import Executor
from k2_core.errors import KafkaUnavailableError, SetupError
from k2_core.policy.memory import FORMAT
from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import PolicyConfig
from k2_core.sink_report import SinkReport
from k2_core.types import Level
from support.controlled import CONFIG, ONE_SINK, World, delete_control, said, tell
from support.waiting import wait_until

pytestmark = pytest.mark.kafka


def test_a_backlog_becomes_a_level_at_the_second_look(world: World, controllers: Callable[[], Controller]) -> None:
    controller = controllers()
    tell(world, 0)
    first = controller.tick(ONE_SINK)
    assert "offered_per_s" in first.decision.missing
    assert (first.decision.level.applied, first.told) == (Level.NORMAL, True)
    world.produce(15_000)
    tell(world, 0)
    second = controller.tick(ONE_SINK)
    assert second.look is not None
    assert second.decision.observation.unread_records == 15_000
    assert second.decision.level.applied >= Level.SOFT
    assert second.told
    command = said(world).command
    assert command is not None
    assert command.level is second.decision.level.applied
    assert command.reason == "FirstCrossing"


def test_what_is_the_same_is_not_told_again(world: World, controllers: Callable[[], Controller]) -> None:
    controller = controllers()
    tell(world, 0)
    assert [controller.tick(ONE_SINK).told for _ in range(3)] == [True, False, False]


def test_another_one_goes_on_from_what_was_decided(world: World, controllers: Callable[[], Controller]) -> None:
    first = controllers()
    tell(world, 0)
    first.tick(ONE_SINK)
    world.produce(1_500)
    tell(world, 0)
    first.tick(ONE_SINK)  # a rate over a moment: what came since the sinks told it may all be on paper
    level = first.tick(ONE_SINK).decision.level.applied
    assert level > Level.NORMAL
    second = controllers()
    tell(world, 0)
    tick = second.tick(ONE_SINK)
    assert (tick.decision.level.applied, tick.told) == (level, False)  # its first look has no rates yet


def test_a_memory_that_cannot_be_read_leaves_the_level_at_work(
    world: World, controllers: Callable[[], Controller]
) -> None:
    writer = ControlWriter(world.settings, world.pipeline.control_name, world.control)
    writer.memory({"policy": {"format": 99}})
    writer.command(Command(Level.AGGRESSIVE, "FirstCrossing", datetime.now(UTC)))
    tell(world, 0)
    assert controllers().tick(ONE_SINK).decision.level.applied is Level.AGGRESSIVE


def test_a_memory_that_is_missing_leaves_the_level_at_work(world: World, controllers: Callable[[], Controller]) -> None:
    writer = ControlWriter(world.settings, world.pipeline.control_name, world.control)
    writer.command(Command(Level.AGGRESSIVE, "FirstCrossing", datetime.now(UTC)))
    tell(world, 0)
    assert controllers().tick(ONE_SINK).decision.level.applied is Level.AGGRESSIVE


@pytest.mark.parametrize("memory", [{"policy": {"format": 99}}, {}], ids=["newer", "empty"])
def test_a_memory_that_cannot_be_read_begins_anew(
    world: World, controllers: Callable[[], Controller], memory: dict[str, object]
) -> None:
    ControlWriter(world.settings, world.pipeline.control_name, world.control).memory(memory)
    tell(world, 0)
    assert controllers().tick(ONE_SINK).decision.level.applied is Level.NORMAL
    remembered = said(world).memory
    assert remembered is not None
    assert remembered["policy"]["format"] == FORMAT
    assert remembered["decision"]["level"]["applied"] == 0


def test_a_pipeline_that_stops_is_told_to_take_all_in(world: World, controllers: Callable[[], Controller]) -> None:
    controller = controllers()
    tell(world, 0)
    controller.tick(ONE_SINK)
    tell(world, 0, failing=True)
    assert controller.tick(ONE_SINK).decision.level.applied is Level.CIRCUIT_BREAK
    tick = controller.tick(replace(ONE_SINK, stopping=True))
    assert (tick.decision.level.applied, tick.told) == (Level.SOFT, True)
    command = said(world).command
    assert command is not None
    assert (command.level, command.reason) == (Level.SOFT, "Stopping")


def test_a_lone_sink_that_hangs_raises_the_level_and_is_named(
    world: World, controllers: Callable[[], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in its group, as heartbeats come from a thread of its own, and has taken nothing in since it spoke."""
    monkeypatch.setattr(stall, "STALLED_AFTER_S", 1.0)
    controller, sink = controllers(), world.join()
    spoke_at = datetime.now(UTC) - timedelta(minutes=1)
    world.position(sink, {0: 0, 1: 0, 2: 0}, SinkReport("pod/1/ab", spoke_at, memory_ratio=0.1, commit_s=0.1))
    world.produce(15_000)
    for _ in range(2):
        tick = controller.tick(ONE_SINK)
        assert tick.look is not None
        assert (tick.look.members, tick.stall) == (1, None)
        assert tick.decision.level.held_by == (Reason.METRICS_MISSING,)
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while (tick := controller.tick(ONE_SINK)).stall is None:
        assert tick.decision.level.applied is Level.NORMAL
        assert datetime.now(UTC) < deadline
    assert tick.stall.sinks == ("pod/1/ab",)
    assert tick.stall.unread_records == 15_000
    assert tick.decision.level.applied >= Level.GRACEFUL
    assert tick.decision.replicas.applied == 1
    command, memory = said(world).command, said(world).memory
    assert command is not None
    assert memory is not None
    assert command.level is tick.decision.level.applied
    assert memory["decision"]["stalled"]["sinks"] == ["pod/1/ab"]
    world.position(sink, {0: 15_000, 1: 0, 2: 0}, SinkReport("pod/1/ab", datetime.now(UTC), memory_ratio=0.1))
    assert controller.tick(ONE_SINK).stall is None


def no_answer(_: Looker) -> Look:
    """A look at a Kafka that answers writers alone; no time-out is so short that a quick broker never meets it."""
    raise KafkaUnavailableError("found no answer, expected one")


def test_a_pipeline_that_stops_is_told_so_by_a_controller_that_sees_nothing(
    world: World, controllers: Callable[[], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = controllers()
    tell(world, 0)
    controller.tick(ONE_SINK)
    tell(world, 0, failing=True)
    controller.tick(ONE_SINK)
    monkeypatch.setattr(Looker, "look", no_answer)
    tick = controller.tick(replace(ONE_SINK, stopping=True))
    assert (tick.look, tick.decision.level.applied, tick.told) == (None, Level.SOFT, True)


def test_a_kafka_that_is_away_holds_everything(
    world: World, controllers: Callable[[], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = controllers()
    tell(world, 0)
    controller.tick(ONE_SINK)
    world.produce(15_000)
    tell(world, 0)
    level = controller.tick(ONE_SINK).decision.level.applied
    monkeypatch.setattr(Looker, "look", no_answer)
    monkeypatch.setattr(control_topic, "FLUSH_TIMEOUT_S", 0.0)
    tick = controller.tick(ONE_SINK)
    assert tick.look is None
    assert "unread_records" in tick.decision.missing
    assert tick.decision.level.applied is level
    assert not tick.told


def test_what_was_not_acknowledged_is_told_again(
    world: World, controllers: Callable[[], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = controllers()
    tell(world, 0)
    with monkeypatch.context() as patched:
        patched.setattr(control_topic, "FLUSH_TIMEOUT_S", 0.0)
        assert not controller.tick(ONE_SINK).told
        assert controller.untold
    assert controller.tick(ONE_SINK).told
    assert not controller.untold


def test_an_override_is_shown(world: World, controllers: Callable[[], Controller]) -> None:
    controller = controllers()
    tell(world, 0)
    assert controller.tick(ONE_SINK).override is None
    now = datetime.now(UTC)
    override = Override(Level.AGGRESSIVE, "drill", "anna", now, now + timedelta(hours=1))
    ControlWriter(world.settings, world.pipeline.control_name, world.control).override(override)
    deadline = now + timedelta(seconds=20)
    while (found := controller.tick(ONE_SINK).override) is None:
        assert datetime.now(UTC) < deadline
    assert found == override


def test_what_was_deleted_with_the_topic_is_said_again_at_the_level_that_was(
    world: World, controllers: Callable[..., Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services keep their level by themselves; one that starts now is to find it, and with it what people decided."""
    monkeypatch.setattr(control_log, "CHECK_AFTER_S", 0.0)
    monkeypatch.setattr(control_log, "RETRY_S", 0.0)
    config = PolicyConfig(replace(CONFIG.degradation, dwell_down_s=600))  # else a trial may come before the end of this
    controller, now = controllers(config), datetime.now(UTC)
    tell(world, 0)
    controller.tick(ONE_SINK)
    tell(world, 0, failing=True)
    assert controller.tick(ONE_SINK).decision.level.applied is Level.CIRCUIT_BREAK
    override = Override(Level.AGGRESSIVE, "drill", "anna", now, now + timedelta(hours=1))
    ControlWriter(world.settings, world.pipeline.control_name, world.control).override(override)
    wait_until(lambda: controller.tick(ONE_SINK).override == override, "the override")
    before = said(world).command
    assert before is not None
    assert before.level is Level.CIRCUIT_BREAK
    delete_control(world)
    wait_until(lambda: controller.tick(ONE_SINK).told, "a controller that tells again")
    view = said(world)
    assert view.command == before  # as of when and for why it was decided
    assert view.overrides == (override,)
    assert view.memory is not None
    assert view.memory["decision"]["level"]["applied"] == 4
    wait_until(lambda: controller.tick(ONE_SINK).told is False and controller.trouble is None, "calm")


def test_what_was_deleted_with_the_topic_is_said_again_once(
    world: World,
    controllers: Callable[[], Controller],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(control_log, "CHECK_AFTER_S", 0.0)
    monkeypatch.setattr(control_log, "RETRY_S", 5.0)  # longer than a turn
    controller = controllers()
    tell(world, 0)
    controller.tick(ONE_SINK)
    delete_control(world)
    wait_until(lambda: controller.tick(ONE_SINK).told, "a controller that tells again")
    wait_until(lambda: controller.tick(ONE_SINK).told is False and controller.trouble is None, "calm")
    assert caplog.messages.count("control topic: restored") == 1


def test_a_topic_that_may_not_be_made_again_is_said_and_the_controller_goes_on(
    world: World, controllers: Callable[[], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_log, "CHECK_AFTER_S", 0.0)
    monkeypatch.setattr(control_log, "RETRY_S", 0.0)
    controller = controllers()
    tell(world, 0)
    controller.tick(ONE_SINK)
    with monkeypatch.context() as patched:
        patched.setattr(ControlWriter, "make_again", refused)
        delete_control(world)
        wait_until(lambda: controller.tick(ONE_SINK).look is not None and controller.trouble is not None, "trouble")
        for _ in range(3):
            controller._remembered_at = None
            tick = controller.tick(ONE_SINK)
            assert tick.look is not None
            assert "expected one" in (controller.refused or "")
            assert controller.untold
    wait_until(lambda: controller.tick(ONE_SINK).told, "a controller that tells again")
    wait_until(lambda: controller.tick(ONE_SINK).told is False and controller.refused is None, "calm")


def refused(_: ControlWriter) -> None:
    raise SetupError("topic: found no right to create it, expected one")


def test_garbage_in_place_of_the_command_is_written_over(world: World, controllers: Callable[[], Controller]) -> None:
    controller = controllers()
    tell(world, 0)
    assert controller.tick(ONE_SINK).told
    wait_until(lambda: not controller.tick(ONE_SINK).told and controller._reader.at_end, "what was told")
    producer = Producer({"bootstrap.servers": world.settings.kafka_bootstrap_servers})
    producer.produce(world.control, b"garbage", command_key(world.pipeline.control_name))
    assert producer.flush(20) == 0
    wait_until(lambda: controller.tick(ONE_SINK).told, "a controller that tells again")
    command = said(world).command
    assert command is not None
    assert command.level is Level.NORMAL
    wait_until(lambda: not controller.tick(ONE_SINK).told and controller.trouble is None, "calm")


def test_a_number_of_sinks_is_remembered_before_anybody_acts_on_it(
    world: World, controllers: Callable[[], Controller]
) -> None:
    controller = controllers()
    tell(world, 0)
    controller.tick(ONE_SINK)
    assert controller.tick(Executor(replicas=4)).told is False  # the level is the same
    assert controllers().asked_for == 4


def test_other_settings_count_from_the_next_turn_on(world: World, controllers: Callable[[], Controller]) -> None:
    controller = controllers()
    tell(world, 0)
    controller.tick(ONE_SINK)
    world.produce(15_000)
    tell(world, 0)
    level = controller.tick(ONE_SINK).decision.level.applied
    assert level > Level.NORMAL
    controller.configure(PolicyConfig(replace(CONFIG.degradation, dwell_down_s=500)))
    assert controller.tick(ONE_SINK).decision.level.applied is level  # nothing is forgotten
    controller.configure(PolicyConfig())
    tick = controller.tick(ONE_SINK)
    assert (tick.decision.level.applied, tick.told) == (Level.NORMAL, True)
