"""Controllers of several pipelines beside a real Kafka, without an API server."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from k2_cli.stack.kafka import LocalKafka
from k2_core import control_log
from k2_core.control import CONTROL_TOPIC, ControlView
from k2_core.control_topic import ControlReader, ControlWriter
from k2_core.controller.loop import Controller, Tick
from k2_core.controller.sight import Executor
from k2_core.errors import SetupError
from k2_core.spec import KafkaSpec, Pipeline, parse_pipeline
from k2_operator import controllers as module
from k2_operator.controllers import Charge, Controllers
from k2_operator.decided import Decided
from k2_operator.kafkas import Kafka, Kafkas
from k2_operator.store import Key
from support.api_server import until

pytestmark = pytest.mark.kafka

KEY = Key("ns", "p")
OTHER = Key("ns", "r")
EXECUTOR = Executor(1)
SENTINEL = Executor(2)
"""Of a pipeline whose turns tell how far others could have come meanwhile."""


def pipeline(name: str = "p", prefix: str | None = None, **spec: object) -> Pipeline:
    """A pipeline whose topics were never made."""
    source = {"name": "s", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}
    prefix = prefix or f"t{uuid.uuid4().hex[:12]}"
    more = {"namespace": prefix, "ingestion": [source], "degradation": {"mode": "Auto"}, **spec}
    return parse_pipeline(
        {"apiVersion": "k2.dev/v1alpha1", "kind": "K2Pipeline", "metadata": {"name": name}, "spec": more}
    )


class Told(list[tuple[Key, Decided | None, bool]]):
    """What controllers told."""

    def take(self, key: Key, decided: Decided | None, differs: bool) -> None:
        self.append((key, decided, differs))

    def of(self, key: Key) -> int:
        """How often something was told of a pipeline."""
        return sum(one == key for one, _, _ in self)

    @property
    def turns(self) -> list[Decided]:
        return [decided for _, decided, _ in self if decided is not None and decided.decision is not None]


def controlled(scenario: Callable[[Controllers, Told, Kafka], Awaitable[None]], servers: str) -> None:
    """Run a scenario beside controllers."""

    async def run() -> None:
        told, kafkas = Told(), Kafkas()
        controllers = Controllers(told.take)
        task = asyncio.get_running_loop().create_task(controllers.run())
        try:
            async with asyncio.timeout(60):
                await scenario(
                    controllers, told, kafkas.of(KafkaSpec(bootstrap_servers=servers, replication_factor=1), {})
                )
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            kafkas.close()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_EVERY_S", 0.1)


def test_turns_follow_one_another_and_wake_for_news_only(kafka: LocalKafka) -> None:
    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        controllers.look_after(KEY, Charge(one, pipeline(), EXECUTOR))
        await until(lambda: len(told.turns) >= 4)
        assert [key for key, _, _ in told] == [KEY] * len(told)
        assert told[0][2]
        assert not told[-1][2]
        found = controllers.of(KEY)
        assert found is not None
        assert (found.level, found.sinks) == (0, 1)

    controlled(scenario, kafka.bootstrap_servers)


def test_there_are_never_two_turns_at_once_for_a_pipeline(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    turns: list[int] = []
    most: list[int] = []
    lock, go_on = threading.Lock(), threading.Event()
    tick = Controller.tick

    def held(self: Controller, executor: Executor) -> Tick:
        if executor is SENTINEL:
            turns.append(1)
            return tick(self, executor)
        with lock:
            running.append(1)
            most.append(len(running))
        try:
            go_on.wait(60)
            return tick(self, executor)
        finally:
            with lock:
                running.pop()

    monkeypatch.setattr(Controller, "tick", held)

    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        charge = Charge(one, pipeline(), EXECUTOR)
        controllers.look_after(KEY, charge)
        controllers.look_after(OTHER, Charge(one, pipeline("r"), SENTINEL))
        try:
            for _ in range(10):
                go_on.clear()
                await until(lambda: running)
                controllers.pause(KEY)
                controllers.look_after(KEY, charge)
                count = len(turns)
                await until(lambda: len(turns) >= count + 3)  # noqa: B023  # here a second turn would have begun
                go_on.set()
                await until(lambda: not running)
            assert max(most) == 1
            go_on.clear()
            controllers.look_after(Key("ns", "q"), Charge(one, pipeline("q"), EXECUTOR))
            await until(lambda: len(running) == 2)
        finally:
            go_on.set()

    controlled(scenario, kafka.bootstrap_servers)


def test_a_pause_keeps_what_was_decided_and_a_farewell_does_not(kafka: LocalKafka) -> None:
    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        charge = Charge(one, pipeline(), EXECUTOR)
        controllers.look_after(KEY, charge)
        await until(lambda: told.turns)
        controllers.pause(KEY)
        assert told[-1] == (KEY, None, False)
        found = controllers.of(KEY)
        assert found is not None
        assert found.sinks == 1
        count = told.of(KEY)
        controllers.look_after(OTHER, Charge(one, pipeline("r"), SENTINEL))
        await until(lambda: told.of(OTHER) >= 3)
        assert told.of(KEY) == count
        controllers.look_after(KEY, charge)
        await until(lambda: told.of(KEY) > count)
        controllers.forget(OTHER)
        controllers.forget(KEY)
        assert controllers.of(KEY) is None
        await until(lambda: not controllers._subjects)  # nothing is left of it

    controlled(scenario, kafka.bootstrap_servers)


def test_a_control_topic_that_was_deleted_and_may_not_be_made_again_is_a_problem_until_it_may(
    kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_log, "CHECK_AFTER_S", 0.1)
    monkeypatch.setattr(control_log, "RETRY_S", 0.1)
    allowed, make_again = threading.Event(), ControlWriter.make_again

    def asked(self: ControlWriter) -> None:
        if not allowed.is_set():
            raise SetupError("topic k2.control: found no right to create it, expected one")
        make_again(self)

    monkeypatch.setattr(ControlWriter, "make_again", asked)

    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        controllers.look_after(KEY, Charge(one, pipeline(), EXECUTOR))
        await until(lambda: told.turns)
        client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        client.delete_topics([CONTROL_TOPIC])[CONTROL_TOPIC].result(20)
        await until(lambda: (found := controllers.of(KEY)) is not None and found.problem is not None)
        found = controllers.of(KEY)
        assert found is not None
        assert "expected one" in (found.problem or "")
        assert found.seen  # it goes on to look and to decide
        allowed.set()
        await until(lambda: (found := controllers.of(KEY)) is not None and found.problem is None and found.told)

    controlled(scenario, kafka.bootstrap_servers)


def test_other_settings_count_from_the_next_turn_on_and_the_controller_stays(kafka: LocalKafka) -> None:
    prefix = f"t{uuid.uuid4().hex[:12]}"

    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        controllers.look_after(KEY, Charge(one, pipeline(prefix=prefix), EXECUTOR))
        await until(lambda: told.turns)
        before = controllers._subjects[KEY].controller
        off = pipeline(prefix=prefix, degradation={"mode": "Off"})
        controllers.look_after(KEY, Charge(one, off, EXECUTOR))
        await until(lambda: told.turns[-1].released)
        assert controllers._subjects[KEY].controller is before
        source = {"name": "s", "venue": "binance", "symbols": [{"name": "BTCUSDT"}], "partitions": 7}
        controllers.look_after(KEY, Charge(one, pipeline(prefix=prefix, ingestion=[source]), EXECUTOR))
        await until(lambda: controllers._subjects[KEY].controller not in {before, None})  # other topics

    controlled(scenario, kafka.bootstrap_servers)


def test_a_kafka_that_is_away_is_not_asked_and_that_is_a_fault_after_a_while(
    kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LACKING_AFTER_S", 0.3)
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.1)
    wanted = pipeline()

    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        controllers.look_after(KEY, Charge(one, wanted, EXECUTOR))
        await until(lambda: told.turns)
        decision = told.turns[-1].decision
        one.answered("no answer", 0.0)
        await until(lambda: told[-1][1] is not None and told[-1][1].lacking)
        assert (told.turns[-1].level, told.turns[-1].seen) == (0, False)
        assert told.turns[-1].decision is not None
        assert decision is not None
        frozen = told.turns[-1].decision
        count = len(told)
        await until(lambda: len(told) > count)
        assert told.turns[-1].decision is frozen
        one.answered(None, 0.0)
        await until(lambda: told[-1][1] is not None and not told[-1][1].lacking)

    controlled(scenario, kafka.bootstrap_servers)


def test_what_kafka_refuses_is_told_and_tried_again(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.1)
    begin = module._begin

    def refused(charge: Charge) -> Controller:
        raise SetupError(f"found no right for {charge.pipeline.control_name}")

    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        monkeypatch.setattr(module, "_begin", refused)
        controllers.look_after(KEY, Charge(one, pipeline(), EXECUTOR))
        await until(lambda: told)
        found = told[-1][1]
        assert found is not None
        assert "found no right for" in (found.problem or "")
        monkeypatch.setattr(module, "_begin", begin)
        await until(lambda: told.turns)
        assert told.turns[-1].problem is None

    controlled(scenario, kafka.bootstrap_servers)


def test_its_end_changes_no_level(kafka: LocalKafka) -> None:
    wanted = pipeline()

    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        def said() -> ControlView:
            reader = ControlReader(one.settings, wanted.control_name)
            view = reader.read_all()
            reader.close()
            return view

        controllers.look_after(KEY, Charge(one, wanted, EXECUTOR))
        await until(lambda: told.turns)
        before = said().command
        assert before is not None
        controllers.forget(KEY)
        await until(lambda: not controllers._subjects)
        assert said().command == before

    controlled(scenario, kafka.bootstrap_servers)


def test_more_controllers_need_no_more_threads(kafka: LocalKafka) -> None:
    prefix = f"t{uuid.uuid4().hex[:12]}"

    async def scenario(controllers: Controllers, told: Told, one: Kafka) -> None:
        def begin(numbers: range) -> set[Key]:
            keys = {Key("ns", f"p{number}") for number in numbers}
            for key in keys:
                controllers.look_after(key, Charge(one, pipeline(key.name, prefix), EXECUTOR))
            return keys

        async def turned(keys: set[Key]) -> int:
            await until(lambda: keys <= {key for key, decided, _ in told if decided is not None and decided.seen})
            return psutil.Process().num_threads()

        # As many as threads and age readers: all that is made once is there then.
        before = await turned(begin(range(24)))
        assert await turned(begin(range(24, 72))) <= before + module.THREADS

    controlled(scenario, kafka.bootstrap_servers)


def test_a_charge_goes_on_with_other_settings_only() -> None:
    kafkas = Kafkas()
    one = kafkas.of(KafkaSpec(bootstrap_servers="127.0.0.1:1"), {})
    other = kafkas.of(KafkaSpec(bootstrap_servers="127.0.0.1:2"), {})
    charge = Charge(one, pipeline(prefix="a"), EXECUTOR)
    assert charge.is_of(replace(charge, executor=Executor(5), pipeline=pipeline(prefix="a", scaling={"mode": "Auto"})))
    assert not charge.is_of(replace(charge, kafka=other))
    assert not charge.is_of(replace(charge, pipeline=pipeline(prefix="b")))
    assert not charge.is_of(None)
    kafkas.close()
