"""Which level sinks keep: the highest that one which says so now was commanded, and unknown while one is silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_core.control_topic import ControlWriter
from k2_core.controller.kept import WAIT_FOR_S, kept_level
from k2_core.controller.look import Look
from k2_core.controller.loop import Controller
from k2_core.errors import KafkaUnavailableError
from k2_core.policy.reasons import Reason
from k2_core.policy.thresholds import Mode, PolicyConfig
from k2_core.sink_report import FRESH_S, SinkReport
from k2_core.types import Level
from support.controlled import CONFIG, ONE_SINK, World, delete_control, said, tell
from support.waiting import wait_until

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def report(level: Level, age_s: float = 0.5, own_level: Level = Level.NORMAL) -> SinkReport:
    return SinkReport(f"sink-0/{int(level)}", AT - timedelta(seconds=age_s), level, own_level)


def look(*reports: SinkReport, members: int = 1) -> Look:
    return Look(AT, reports={one.sink: one for one in reports}, members=members)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(look(members=0), Level.NORMAL, id="no sink ever"),
        pytest.param(look(), Level.NORMAL, id="a sink that has never spoken"),
        pytest.param(look(report(Level.NORMAL)), Level.NORMAL, id="level 0"),
        pytest.param(look(report(Level.GRACEFUL)), Level.GRACEFUL, id="level 2"),
        pytest.param(look(report(Level.SOFT), report(Level.AGGRESSIVE), members=2), Level.AGGRESSIVE, id="highest"),
        pytest.param(look(report(Level.NORMAL, own_level=Level.AGGRESSIVE)), Level.NORMAL, id="raised by itself"),
        pytest.param(look(report(Level.SOFT, own_level=Level.AGGRESSIVE)), Level.SOFT, id="both"),
        pytest.param(look(report(Level.GRACEFUL, FRESH_S), members=0), Level.NORMAL, id="gone"),
        pytest.param(look(report(Level.SOFT), report(Level.AGGRESSIVE, FRESH_S)), Level.SOFT, id="one of them gone"),
        pytest.param(look(report(Level.GRACEFUL, WAIT_FOR_S)), Level.NORMAL, id="hangs"),
        pytest.param(look(report(Level.NORMAL, FRESH_S)), Level.NORMAL, id="silent, at level 0"),
        pytest.param(
            look(report(Level.SOFT, FRESH_S), report(Level.GRACEFUL), members=2), Level.GRACEFUL, id="no higher"
        ),
    ],
)
def test_what_sinks_keep(seen: Look, expected: Level) -> None:
    assert kept_level(seen) is expected


@pytest.mark.parametrize("age_s", [FRESH_S, WAIT_FOR_S - 0.1])
@pytest.mark.parametrize("others", [0, 1])
def test_a_member_that_spoke_a_moment_ago_is_waited_for(age_s: float, others: int) -> None:
    seen = look(report(Level.GRACEFUL, age_s), *[report(Level.SOFT)] * others, members=1 + others)
    with pytest.raises(KafkaUnavailableError, match=rf"found {age_s:.0f} s of silence of one, expected its word"):
        kept_level(seen)


@pytest.mark.kafka
class TestNothingSaid:
    """The control topic is there and holds nothing of the pipeline: it is new, or what was said is gone."""

    def test_the_level_that_sinks_keep_is_taken_over_and_left_one_at_a_time(
        self, world: World, controllers: Callable[..., Controller], caplog: pytest.LogCaptureFixture
    ) -> None:
        tell(world, 0, 60, level=Level.GRACEFUL)
        controller = controllers()
        assert "control topic: holds no level, what sinks keep is taken over" in caplog.messages
        tick = controller.tick(ONE_SINK)
        level = tick.decision.level
        assert (level.applied, level.why, tick.told) == (Level.GRACEFUL, Reason.TAKEN_OVER, True)
        assert level.held_by == (Reason.METRICS_MISSING,)
        view = said(world)
        assert view.command is not None
        assert (view.command.level, view.command.reason) == (Level.GRACEFUL, "TakenOver")
        assert view.memory is not None
        assert view.memory["decision"]["level"]["why"] == "TakenOver"
        tick = controller.tick(ONE_SINK)  # calm by now, and for less than the dwell
        level = tick.decision.level
        assert (level.applied, level.why, level.held_by) == (Level.GRACEFUL, Reason.TAKEN_OVER, (Reason.DWELL_DOWN,))
        path = []

        def recovered() -> bool:
            tell(world, 0, level=Level.GRACEFUL)
            found = controller.tick(ONE_SINK).decision.level
            path.append((found.applied, found.why))
            return found.applied is Level.NORMAL

        wait_until(recovered, "level 0")
        assert (Level.GRACEFUL, Reason.STEADY) not in path
        assert [one for one in path if one[1] is Reason.RECOVERED] == [
            (Level.SOFT, Reason.RECOVERED),
            (Level.NORMAL, Reason.RECOVERED),
        ]

    def test_another_one_goes_on_from_what_was_taken_over(
        self, world: World, controllers: Callable[..., Controller]
    ) -> None:
        tell(world, 0, 60, level=Level.GRACEFUL)
        controllers().tick(ONE_SINK)
        tell(world, 0)
        assert controllers().tick(ONE_SINK).decision.level.applied is Level.GRACEFUL

    def test_a_reason_of_its_own_goes_before_it(self, world: World, controllers: Callable[..., Controller]) -> None:
        tell(world, 0, 60, level=Level.SOFT)
        level = controllers().tick(replace(ONE_SINK, stopping=True)).decision.level
        assert (level.applied, level.why) == (Level.SOFT, Reason.STOPPING)

    def test_a_topic_that_was_deleted_while_no_controller_ran(
        self, world: World, controllers: Callable[..., Controller]
    ) -> None:
        first = controllers()
        tell(world, 0)
        first.tick(ONE_SINK)
        tell(world, 0, failing=True)
        level = first.tick(ONE_SINK).decision.level.applied
        assert level is Level.CIRCUIT_BREAK
        delete_control(world)
        tell(world, 0, 60, level=level)
        assert controllers().tick(ONE_SINK).decision.level.applied is level
        command = said(world).command
        assert command is not None
        assert (command.level, command.reason) == (level, "TakenOver")

    def test_a_memory_that_cannot_be_read_does_as_if_there_were_none(
        self, world: World, controllers: Callable[..., Controller]
    ) -> None:
        ControlWriter(world.settings, world.pipeline.control_name, world.control).memory({"policy": {"format": 99}})
        tell(world, 0, 60, level=Level.GRACEFUL)
        assert controllers().tick(ONE_SINK).decision.level.applied is Level.GRACEFUL

    def test_a_pipeline_without_sinks_begins_at_0(self, controllers: Callable[..., Controller]) -> None:
        level = controllers().tick(ONE_SINK).decision.level
        assert (level.applied, level.why) == (Level.NORMAL, Reason.METRICS_MISSING)

    def test_what_a_sink_raised_by_itself_is_not_taken_over(
        self, world: World, controllers: Callable[..., Controller]
    ) -> None:
        tell(world, 0, own_level=Level.AGGRESSIVE)
        assert controllers().tick(ONE_SINK).decision.level.applied is Level.NORMAL

    def test_what_a_sink_said_that_is_gone_is_not_taken_over(
        self, world: World, controllers: Callable[..., Controller]
    ) -> None:
        gone = SinkReport("sink-0/1", datetime.now(UTC) - timedelta(seconds=6), Level.GRACEFUL)
        world.read({0: 0}, gone)
        assert controllers().tick(ONE_SINK).decision.level.applied is Level.NORMAL

    def test_it_does_not_begin_while_a_sink_is_silent(
        self, world: World, controllers: Callable[..., Controller]
    ) -> None:
        sink = world.join()
        for age_s in (10, 0):
            spoke_at = datetime.now(UTC) - timedelta(seconds=age_s)
            world.position(sink, {0: 0, 1: 0, 2: 0}, SinkReport("pod/1/ab", spoke_at, Level.GRACEFUL, memory_ratio=0.1))
            if age_s:
                with pytest.raises(KafkaUnavailableError, match="of silence"):
                    controllers()
                assert said(world).command is None
        assert controllers().tick(ONE_SINK).decision.level.applied is Level.GRACEFUL

    @pytest.mark.parametrize("mode", [Mode.RECOMMEND, Mode.OFF])
    def test_where_no_level_is_told_none_is_taken_over(
        self, world: World, controllers: Callable[..., Controller], mode: Mode
    ) -> None:
        tell(world, 0, level=Level.GRACEFUL)
        level = controllers(PolicyConfig(replace(CONFIG.degradation, mode=mode))).tick(ONE_SINK).decision.level
        assert (level.applied, level.recommended) == (Level.NORMAL, Level.NORMAL)
