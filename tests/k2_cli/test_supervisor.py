"""k2_cli.supervisor with real processes, and its policy alone."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k2_cli.stack.process import ManagedProcess
from k2_cli.supervisor import Child, RestartPolicy, Supervisor, last_word
from k2_cli.units import ProcessUnit
from k2_core.errors import SetupError, StateError

POLICY = RestartPolicy()


@pytest.mark.parametrize(
    ("died_at", "wait_s"),
    [
        pytest.param([100.0], 0.5, id="first"),
        pytest.param([99.0, 100.0], 1.0, id="second"),
        pytest.param([97.0, 98.0, 99.0, 100.0], 4.0, id="fourth"),
        pytest.param([96.0, 97.0, 98.0, 99.0, 100.0], None, id="a crash loop"),
        pytest.param([-90.0, -80.0, -70.0, -60.0, 100.0], 0.5, id="long ago does not count"),
    ],
)
def test_waits_double_and_end(died_at: list[float], wait_s: float | None) -> None:
    assert POLICY.backoff_s(died_at, 100.0, 3) == wait_s


def test_waits_are_bounded() -> None:
    patient = RestartPolicy(deaths=1000)
    assert patient.backoff_s([0.0] * 500, 0.0, 1) == patient.longest_backoff_s


def test_wrong_settings_are_not_tried_again() -> None:
    assert POLICY.backoff_s([0.0], 0.0, 2) is None
    assert POLICY.backoff_s([0.0], 0.0, 5) is None
    assert POLICY.backoff_s([0.0], 0.0, -9) == 0.5


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Make = Callable[..., Child]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def supervisor(said: list[str], clock: Clock) -> Iterator[Supervisor]:
    supervisor = Supervisor(said.append, clock=clock)
    yield supervisor
    supervisor.kill()


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make_child(name: str, code: str, stage: int = 0, *, may_end: bool = False, stopping: str = "stopping") -> Child:
        log = tmp_path / f"{name}.log"
        process = ManagedProcess(name=name, command=[sys.executable, "-u", "-c", code], log=log, stop_timeout_s=60)
        return Child(name, ProcessUnit(process), stage, may_end=may_end, stopping=stopping)

    return make_child


SLEEP = "import time; print('up', flush=True); time.sleep(60)"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_dies_is_said_and_started_again_after_its_wait(
    supervisor: Supervisor, make: Make, said: list[str], clock: Clock
) -> None:
    child = make("sink-0", SLEEP)
    supervisor.start(child)
    assert not supervisor.check()
    child.unit.kill()
    assert not supervisor.check()
    assert said == ["sink-0 ended by signal 9; starting it again in 0.5 s"]
    assert not supervisor.check()  # its time has not come
    assert not child.unit.running
    clock.now += 0.5
    assert supervisor.check()
    assert child.unit.running
    assert child.starts == 2


def test_a_crash_loop_ends_with_the_log(supervisor: Supervisor, make: Make, clock: Clock) -> None:
    child = make("sink-0", "import sys; print('no such table'); sys.exit(3)")
    supervisor.start(child)

    def loop() -> None:
        for _ in range(POLICY.deaths):
            until(lambda: not child.unit.running)
            supervisor.check()
            clock.now += POLICY.longest_backoff_s
            supervisor.check()

    with pytest.raises(SetupError, match=r"sink-0 ended 5 times, at last with exit status 3; .*:\nno such table"):
        loop()
    assert child.starts == POLICY.deaths


def test_wrong_settings_end_at_once(supervisor: Supervisor, make: Make) -> None:
    child = make("query", "import sys; print('K2_PORT: found x'); sys.exit(2)")
    supervisor.start(child)
    until(lambda: not child.unit.running)
    with pytest.raises(SetupError, match=r"query ended, at last with exit status 2; its log ends with:\nK2_PORT"):
        supervisor.check()


def test_a_refusal_ends_at_once_with_its_own_line(supervisor: Supervisor, make: Make) -> None:
    line = '{"level":"CRITICAL","message":"topic t: found id b, expected a. To go on: `k2 adopt-topic t`"}'
    child = make("sink-0", f"import sys; print('{line}'); print('{{}}'); sys.exit(5)")
    supervisor.start(child)
    until(lambda: not child.unit.running)
    with pytest.raises(StateError, match=r"^sink-0 refuses to go on: topic t: .* `k2 adopt-topic t`$"):
        supervisor.check()
    assert child.starts == 1


@pytest.mark.parametrize(
    ("tail", "word"),
    [
        pytest.param("", "it did not say why", id="nothing"),
        pytest.param("Traceback\nValueError: x", "ValueError: x", id="plain"),
        pytest.param('{"level":"INFO","message":"a"}', '{"level":"INFO","message":"a"}', id="not critical"),
    ],
)
def test_the_last_word_of_a_service(tail: str, word: str) -> None:
    assert last_word(tail) == word


def test_what_may_end_has_done_its_work_only_with_0(supervisor: Supervisor, make: Make, said: list[str]) -> None:
    done, failed = make("ingest-a", "pass", may_end=True), make("ingest-b", "raise SystemExit(4)", may_end=True)
    assert not done.ended
    for child in (done, failed):
        supervisor.start(child)
        until(lambda child=child: not child.unit.running)  # type: ignore[misc]
    supervisor.check()
    assert done.ended
    assert not failed.ended
    assert said == ["ingest-b ended with exit status 4; starting it again in 0.5 s"]


def test_what_must_not_end_is_started_again_even_after_0(supervisor: Supervisor, make: Make, said: list[str]) -> None:
    child = make("sink-0", "pass")
    supervisor.start(child)
    until(lambda: not child.unit.running)
    supervisor.check()
    assert "starting it again" in said[0]


ON_TERM = (
    "import signal,sys,time; signal.signal(15, lambda *_: sys.exit({status})); print('up', flush=True); time.sleep(60)"
)


def test_stages_are_stopped_in_order_and_told(supervisor: Supervisor, make: Make, said: list[str]) -> None:
    kafka = make("kafka", ON_TERM.format(status=0), 3)
    sink = make("sink-0", ON_TERM.format(status=7), 1, stopping="committing")
    ingest = make("ingest-a", ON_TERM.format(status=0), 0, stopping="flushing")
    for child in (kafka, sink, ingest):
        supervisor.start(child)
        until(lambda child=child: "up" in child.unit.log_tail())  # type: ignore[misc]
    assert supervisor.stop() == {"ingest-a": 0, "sink-0": 7, "kafka": 0}
    assert said == ["ingest-a: flushing", "sink-0: committing", "kafka: stopping"]
    assert supervisor.stop() == {"ingest-a": 0, "sink-0": 7, "kafka": 0}  # again: nothing happens
    assert len(said) == 3


def test_one_stage_alone(supervisor: Supervisor, make: Make) -> None:
    first, second = make("a", SLEEP, 0), make("b", SLEEP, 1)
    supervisor.start(first)
    supervisor.start(second)
    until(lambda: "up" in first.unit.log_tail())
    assert supervisor.stop(0) == {"a": -signal.SIGTERM}
    assert second.unit.running


def test_what_the_signal_meets_before_its_first_word_has_stopped_well(supervisor: Supervisor, make: Make) -> None:
    supervisor.start(make("sink-0", "import time; time.sleep(60)"))
    assert supervisor.stop() == {"sink-0": 0}


def test_an_adopted_child_is_watched_too(supervisor: Supervisor, make: Make, said: list[str]) -> None:
    child = make("kafka", SLEEP)
    child.unit.start()
    supervisor.adopt(child)
    assert not supervisor.check()
    child.unit.kill()
    supervisor.check()
    assert said == ["kafka ended by signal 9; starting it again in 0.5 s"]


def test_killing_leaves_nothing(supervisor: Supervisor, make: Make) -> None:
    never_started = make("c", SLEEP)
    supervisor.children.append(never_started)
    running = make("a", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)")
    supervisor.start(running)
    supervisor.kill()
    assert running.unit.returncode == -signal.SIGKILL


class TestRetired:
    def test_it_is_asked_to_stop_and_forgotten_once_it_has_ended(
        self, supervisor: Supervisor, make: Make, said: list[str], clock: Clock
    ) -> None:
        one, two = make("sink-0", SLEEP), make("sink-1", SLEEP, stopping="committing")
        supervisor.start(one)
        supervisor.start(two)
        supervisor.retire("sink-1", 30)
        supervisor.retire("sink-1", 30)
        assert two.retiring
        until(lambda: not two.unit.running)
        clock.now += POLICY.longest_backoff_s
        assert not supervisor.check()
        assert supervisor.children == [one]
        assert said == ["sink-1: committing"]

    def test_it_is_killed_when_its_time_is_over(
        self, supervisor: Supervisor, make: Make, said: list[str], clock: Clock
    ) -> None:
        child = make("sink-1", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}")
        supervisor.start(child)
        until(lambda: child.unit.log_tail() == "up")
        supervisor.retire("sink-1", 30)
        supervisor.check()
        assert child.unit.running
        clock.now += 30
        supervisor.check()
        assert (child.unit.running, supervisor.children) == (False, [])
        assert said[-1] == "sink-1 did not stop in its time: killed"

    def test_it_is_waited_for_when_everything_stops(self, supervisor: Supervisor, make: Make, said: list[str]) -> None:
        child = make("sink-1", SLEEP)
        supervisor.start(child)
        until(lambda: "up" in child.unit.log_tail())
        supervisor.retire("sink-1", 30)
        assert supervisor.stop() == {"sink-1": -signal.SIGTERM}
        assert said == ["sink-1: stopping"]
