from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from k2_cli.stack.kafka import LocalKafka
from k2_core.errors import RetryableError
from k2_core.spec import KafkaSpec, SecretKeyRef
from k2_core.types import TopicName
from k2_operator.cluster import Cluster
from k2_operator.observe import SECRET_AGE_S, KubernetesSecrets, Observer
from k2_operator.signals import Answer, Question
from k2_operator.store import Key
from support.api_server import asked, until
from support.cluster import ControlPlaneHandle
from support.operated import with_token

KEY = Key("ns", "p")
OTHER = Key("ns", "q")
TOPIC = TopicName("observe.never.made")


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Safe:
    """Secrets of a test."""

    def __init__(self) -> None:
        self.holds: dict[str, tuple[str, Mapping[str, bytes]] | str] = {}
        self.away = False
        self.asked = 0

    async def secret(self, namespace: str, name: str) -> tuple[str, Mapping[str, bytes]] | str:
        self.asked += 1
        if self.away:
            raise RetryableError(f"found nobody who knows {namespace}/{name}, expected an answer")
        return self.holds.get(name, "there is none")


def question(servers: str, secrets: Mapping[str, str] | None = None) -> Question:
    refs = {where: SecretKeyRef(name=name, key="k") for where, name in (secrets or {}).items()}
    return Question(
        "ns",
        KafkaSpec(bootstrap_servers=servers),
        (),
        {TOPIC: 1},
        "observe.read",
        "observe.committed",
        refs,
        create=False,
    )


class Told(list[tuple[Key, Answer, bool]]):
    """What an observer told."""

    def take(self, key: Key, answer: Answer, differs: bool) -> None:
        self.append((key, answer, differs))

    def of(self, key: Key) -> int:
        """How often a pipeline's answer was told."""
        return sum(one == key for one, _, _ in self)


def observed(safe: Safe, scenario: Callable[[Observer, Told], Awaitable[None]], resync_s: float = 0.05) -> None:
    """Run a scenario beside an observer."""

    async def run() -> None:
        told = Told()
        observer = Observer(safe, resync_s, told.take)
        task = asyncio.get_running_loop().create_task(observer.run())
        try:
            async with asyncio.timeout(30):
                await scenario(observer, told)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


class TestSecrets:
    def test_version_and_data_or_what_is_wrong(self, namespace: str, control_plane: ControlPlaneHandle) -> None:
        clock = Clock()

        def make(value: str) -> None:
            create = ("--namespace", namespace, "create", "secret", "generic", "s", f"--from-literal=k={value}")
            assert control_plane.kubectl(*create).returncode == 0

        async def scenario(cluster: Cluster) -> None:
            secrets = KubernetesSecrets(cluster, clock)
            assert await secrets.secret(namespace, "s") == f"there is none in namespace {namespace}: create it"
            make("v")
            assert isinstance(await secrets.secret(namespace, "s"), str)  # kept for seconds
            clock.now_s += SECRET_AGE_S
            found = await secrets.secret(namespace, "s")
            assert not isinstance(found, str)
            assert found[1] == {"k": b"v"}

        asked(scenario)

    def test_one_that_may_not_be_read(
        self, namespace: str, control_plane: ControlPlaneHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        create = ("--namespace", namespace, "create")
        assert control_plane.kubectl(*create, "serviceaccount", "nobody").returncode == 0
        token = control_plane.kubectl(*create, "token", "nobody").stdout.strip()
        file = with_token(control_plane.kubeconfig, tmp_path / "kubeconfig", token)
        monkeypatch.setenv("KUBECONFIG", str(file))

        async def scenario(cluster: Cluster) -> str | tuple[str, Mapping[str, bytes]]:
            return await KubernetesSecrets(cluster).secret(namespace, "s")

        assert "operator.secretNames" in str(asked(scenario))


@pytest.mark.kafka
class TestLooks:
    def test_an_answer_is_to_the_question_and_told_when_it_differs(self, kafka: LocalKafka) -> None:
        async def scenario(observer: Observer, told: Told) -> None:
            first = question(kafka.bootstrap_servers)
            observer.ask(KEY, first)
            assert observer.answer(KEY, first) is None
            await until(lambda: len(told) >= 2)
            assert [differs for _, _, differs in told[:2]] == [True, False]
            found = observer.answer(KEY, first)
            assert found is not None
            assert found.kafka_problem is None
            other = question(kafka.bootstrap_servers, {"spec.storage.s3": "s"})
            assert observer.answer(KEY, other) is None
            observer.ask(KEY, other)
            await until(lambda: observer.answer(KEY, other))
            answer = observer.answer(KEY, other)
            assert answer is not None
            assert answer.secrets.problems == {"s": "there is none"}

        observed(Safe(), scenario)

    def test_what_is_forgotten_is_not_looked_at(self, kafka: LocalKafka) -> None:
        async def scenario(observer: Observer, told: Told) -> None:
            observer.ask(KEY, question(kafka.bootstrap_servers))
            await until(lambda: told)
            observer.forget(KEY)
            observer.hurry(KEY)
            observer.ask(OTHER, question(kafka.bootstrap_servers))
            await until(lambda: told.of(OTHER) >= 2)  # what was under way is over
            count = told.of(KEY)
            await until(lambda: told.of(OTHER) >= 6)
            assert told.of(KEY) == count

        observed(Safe(), scenario)

    def test_a_hurry_does_not_wait_for_its_turn(self, kafka: LocalKafka) -> None:
        async def scenario(observer: Observer, told: Told) -> None:
            observer.ask(KEY, question(kafka.bootstrap_servers))
            await until(lambda: told)
            observer.hurry(KEY)
            await until(lambda: len(told) == 2)

        observed(Safe(), scenario, resync_s=300)

    def test_kafka_is_not_asked_without_its_login_or_key(self, kafka: LocalKafka) -> None:
        safe = Safe()
        safe.holds["s"] = ("1", {"other": b""})

        async def scenario(observer: Observer, told: Told) -> None:
            observer.ask(KEY, question(kafka.bootstrap_servers, {"spec.kafka.sasl.passwordSecret": "s"}))
            await until(lambda: told)
            answer = told[0][1]
            assert answer.kafka_problem == "not asked, for want of spec.kafka.sasl.passwordSecret"
            assert "it has no key k" in answer.secrets.problems["s"]

        observed(safe, scenario)

    def test_the_last_answer_stands_while_the_api_server_is_away(self, kafka: LocalKafka) -> None:
        safe = Safe()
        safe.holds["s"] = ("1", {"k": b""})

        async def scenario(observer: Observer, told: Told) -> None:
            one = question(kafka.bootstrap_servers, {"spec.storage.s3": "s"})
            observer.ask(KEY, one)
            await until(lambda: told)
            safe.away = True
            asked = safe.asked
            await until(lambda: safe.asked >= asked + 2)  # what was under way is over
            count = len(told)
            await until(lambda: safe.asked >= asked + 4)
            assert len(told) == count
            assert observer.answer(KEY, one) is not None
            safe.away = False
            await until(lambda: len(told) > count)

        observed(safe, scenario)

    def test_a_kafka_that_is_away_is_asked_less_often_and_its_problem_stands(self) -> None:
        async def scenario(observer: Observer, told: Told) -> None:
            one = question("127.0.0.1:1")
            observer.ask(KEY, one)
            observer.ask(KEY._replace(name="q"), one)
            await until(lambda: len(told) >= 6)
            problems = {answer.kafka_problem for _, answer, _ in told}
            assert None not in problems
            assert len(problems) < 4  # most are an older answer that stands

        observed(Safe(), scenario)


@pytest.mark.parametrize("turns", range(5))
def test_a_stop_that_comes_with_a_wake_up_is_heard(turns: int) -> None:
    async def scenario() -> None:
        observer = Observer(Safe(), 600, Told().take)
        task = asyncio.get_running_loop().create_task(observer.run())
        for _ in range(10):
            await asyncio.sleep(0)
        observer.ask(KEY, question("127.0.0.1:1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled()

    asyncio.run(scenario())
