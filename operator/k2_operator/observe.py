"""Looks at secrets and Kafka for every pipeline, again and again, and wakes those for which something has changed.

A reconcile never waits for Kafka: it takes the last answer. Looks run in a few threads with time-outs, one after
another for each Kafka, and a Kafka that does not answer is asked less and less often, whoever asks. Called by
`reconcile`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Protocol

from k2_core.errors import K2Error
from k2_core.spec import SecretKeyRef
from k2_operator.cluster import Cluster
from k2_operator.errors import ApiRefusedError
from k2_operator.kafkas import Kafka, Kafkas
from k2_operator.names import SECRET
from k2_operator.rounds import Rounds, Subject
from k2_operator.signals import Answer, Question, Secrets
from k2_operator.store import Key
from k2_operator.topics import Look, look

LOOKS_PER_S: Final = 20.0
"""Of all pipelines together: 1,000 pipelines are looked at every 50 s, at some 3 ms of processor time each."""
THREADS: Final = 8
SAY_AGAIN_S: Final = 60.0
"""A pipeline is woken after this though nothing changed: ages grow, and what was missed is made good."""
SECRET_AGE_S: Final = 10.0

_log = logging.getLogger(__name__)


class SecretReader(Protocol):
    """Where secrets come from."""

    async def secret(self, namespace: str, name: str) -> tuple[str, Mapping[str, bytes]] | str:
        """Return version and data of a secret, or what is wrong."""


@dataclass(kw_only=True)
class _Subject(Subject):
    question: Question
    answer: Answer | None = None
    kafka: Kafka | None = None
    woken_s: float = 0.0


class KubernetesSecrets:
    """Secrets by `get`, by name, kept for seconds as many pipelines share them.

    Args:
        cluster: The API server.
        clock: Monotonic seconds.
    """

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._kept: dict[tuple[str, str], tuple[float, tuple[str, Mapping[str, bytes]] | str]] = {}

    async def secret(self, namespace: str, name: str) -> tuple[str, Mapping[str, bytes]] | str:
        """Return version and data of a secret, or what is wrong."""
        kept = self._kept.get((namespace, name))
        if kept is not None and self._clock() - kept[0] < SECRET_AGE_S:
            return kept[1]
        found = await self._read(namespace, name)
        self._kept = {at: one for at, one in self._kept.items() if self._clock() - one[0] < SECRET_AGE_S}
        self._kept[namespace, name] = self._clock(), found
        return found

    async def _read(self, namespace: str, name: str) -> tuple[str, Mapping[str, bytes]] | str:
        try:
            body = await self._cluster.get(SECRET, namespace, name)
        except ApiRefusedError as error:
            if error.status != 403:
                raise
            return "the operator may not read it: add its name to the chart's operator.secretNames"
        if body is None:
            return f"there is none in namespace {namespace}: create it"
        metadata = body["metadata"]
        data = {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
        return f"{metadata['uid']}/{metadata['resourceVersion']}", data


class Observer:
    """The one who looks.

    Args:
        secrets: Where secrets come from.
        resync_s: How often a pipeline is looked at, at most.
        changed: Called with each answer, and whether it differs from the last one.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        secrets: SecretReader,
        resync_s: float,
        changed: Callable[[Key, Answer, bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secrets = secrets
        self._resync_s = resync_s
        self._changed = changed
        self._clock = clock
        self._rounds = Rounds[_Subject](self._look, lambda: resync_s, clock)
        self._subjects = self._rounds.subjects
        self._kafkas = Kafkas(clock)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kafka")

    def ask(self, key: Key, question: Question) -> None:
        """Look at this from now on; at once if the question is new."""
        subject = self._subjects.get(key)
        if subject is None:
            self._subjects[key] = subject = _Subject(due_s=0.0, question=question)
        elif subject.question != question:
            subject.question = question
        else:
            return
        self._rounds.hurry(subject)

    def answer(self, key: Key, question: Question) -> Answer | None:
        """Return the last answer to this very question."""
        subject = self._subjects.get(key)
        if subject is None or subject.answer is None or subject.answer.question != question:
            return None
        return subject.answer

    def last(self, key: Key) -> Answer | None:
        """Return the last answer to whatever was asked; None before the first."""
        subject = self._subjects.get(key)
        return None if subject is None else subject.answer

    def kafka(self, key: Key) -> Kafka | None:
        """Return the Kafka that was last asked for a pipeline, with its login; None before the first."""
        subject = self._subjects.get(key)
        return None if subject is None else subject.kafka

    def hurry(self, key: Key) -> None:
        """Look again at once."""
        if (subject := self._subjects.get(key)) is not None:
            self._rounds.hurry(subject)

    def forget(self, key: Key) -> None:
        """Look no longer."""
        self._subjects.pop(key, None)

    async def run(self) -> None:
        """Look for ever."""
        try:
            await self._rounds.run()
        finally:
            self.close()

    def close(self) -> None:
        """Stop; looks that are under way are left to their time-outs."""
        self._rounds.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._kafkas.close()

    async def _look(self, key: Key, subject: _Subject) -> None:
        question = subject.question
        try:
            answer, kafka = await self._ask_all(question)
        except K2Error as error:  # the API server is away: the last answer stands until it is back
            _log.warning("look: will be tried again", extra={"pipeline": "/".join(key), "error": str(error)})
        else:
            subject.kafka = kafka or subject.kafka
            self._take(key, subject, answer)
        finally:
            period_s = max(self._resync_s, len(self._subjects) / LOOKS_PER_S)
            if subject.question == question:
                subject.due_s = self._clock() + period_s
            self._rounds.done(subject)

    def _take(self, key: Key, subject: _Subject, answer: Answer) -> None:
        if self._subjects.get(key) is not subject or subject.question != answer.question:
            return
        last, subject.answer = subject.answer, answer
        differs = last is None or replace(last, at_s=answer.at_s) != answer
        if differs or answer.at_s - subject.woken_s > SAY_AGAIN_S:
            subject.woken_s = answer.at_s
            differs = True
        self._changed(key, answer, differs)

    async def _ask_all(self, question: Question) -> tuple[Answer, Kafka | None]:
        secrets, values = await self._read_secrets(question)
        answer = Answer(question, self._clock(), secrets)
        if lacking := [at for at in question.secrets if at.startswith("spec.kafka.") and at not in values]:
            return replace(answer, kafka_problem=f"not asked, for want of {', '.join(lacking)}"), None
        kafka = self._kafkas.of(question.kafka, values)
        found = await self._ask_kafka(question, kafka)
        answer = replace(
            answer,
            partitions=found.partitions,
            log=found.log,
            kafka_problem=found.kafka_problem,
            topics_problem=found.topics_problem,
            ids=found.ids,
        )
        return answer, kafka

    async def _read_secrets(self, question: Question) -> tuple[Secrets, dict[str, bytes]]:
        versions: dict[str, str] = {}
        problems: dict[str, str] = {}
        values: dict[str, bytes] = {}
        for where, ref in question.secrets.items():
            found = await self._secrets.secret(question.namespace, ref.name)
            if isinstance(found, str):
                problems[ref.name] = found
                continue
            versions[ref.name], data = found
            if ref.key in data:
                values[where] = data[ref.key]
            else:
                problems[ref.name] = _lacks(ref, where)
        return Secrets(versions, problems), values

    async def _ask_kafka(self, question: Question, kafka: Kafka) -> Look:
        async with kafka.looks:
            if self._clock() < kafka.closed_until_s:
                return Look(kafka_problem=kafka.problem)
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, look, kafka.topics, question)
        kafka.answered(found.kafka_problem, self._clock())
        return found


def _lacks(ref: SecretKeyRef, where: str) -> str:
    return f"it has no key {ref.key}, which {where} names: add the key, or name another"
