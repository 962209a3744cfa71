"""One reconcile of one pipeline: look at what stands there, write what is due, have it reported.

Called by the workers of `service`, never twice at once for a pipeline. Everything is decided from what is observed, so
it may be cut off anywhere and begun again. It waits for the API server only; Kafka is looked at by `observe`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from k2_core.errors import SpecError
from k2_operator.cluster import Cluster
from k2_operator.config import OperatorConfig
from k2_operator.controllers import Charge, Controllers
from k2_operator.errors import ApiRefusedError
from k2_operator.names import CRON_JOB, DEPLOYMENT, FINALIZER, INGEST, PIPELINE, POD
from k2_operator.observe import Observer
from k2_operator.pipeline import Effective, effective
from k2_operator.pipelines import Pipelines
from k2_operator.plan import REMOVING, Step, plan
from k2_operator.removal import NOTHING_SEEN, TABLES, TOPICS, Neighbour, Seen, claimed, has_begun, maintains, topics_due
from k2_operator.removing import Removing
from k2_operator.reporting import Reporter
from k2_operator.resource import FOREGROUND, Resource
from k2_operator.signals import Answer, Positions, drained
from k2_operator.situation import (
    Children,
    Manifest,
    Situation,
    engines_due,
    executor_of,
    frozen,
    is_gone,
    manifests_due,
    may_run,
    no_longer_wanted,
    question_for,
    reading,
    removal_due,
    standing_of,
    still_decides,
    workloads_of,
)
from k2_operator.status import Refusal
from k2_operator.store import Key, Place, Store, owner_uid
from k2_operator.writing import Writer

REFUSED_AGAIN_S: Final = 30.0
STOPPING_AGAIN_S: Final = 5.0
"""While a pipeline stops: its watches and looks wake it, and this is for what they miss."""

DEFAULT_PREFIX: Final = "market"
"""What `spec.namespace` is where a resource does not say."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reconciler works with.

    Args:
        cluster: The API server.
        pipelines: What users ask for.
        store: What stands there.
        writer: Writes children.
        observer: Looks at Kafka and secrets.
        controllers: Decide about levels and sinks.
        reporter: Says what was found.
        config: The operator's own.
        wake_later: Has a pipeline reconciled again after so many seconds.
        clock: Monotonic seconds.
    """

    cluster: Cluster
    pipelines: Pipelines
    store: Store
    writer: Writer
    observer: Observer
    controllers: Controllers
    reporter: Reporter
    config: OperatorConfig
    wake_later: Callable[[Key, float], None]
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class _Memory:
    """What is remembered of a pipeline between reconciles. All of it may be lost: it is then learnt again."""

    uid: str
    ingest_gone_s: float | None = None
    targets: Positions | None = None


class Reconciler:
    """Brings pipelines to what their users ask for.

    Args:
        parts: What it works with.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._memories: dict[Key, _Memory] = {}
        self._removing = Removing(parts.cluster)

    async def reconcile(self, key: Key) -> None:
        """Do what is due for one pipeline.

        Raises:
            K2Error: Something did not work and is to be tried again.
        """
        body = self._parts.pipelines.get(key)
        if body is None:
            self._forget(key)
            return
        resource = Resource.of(body)
        if not resource.held:
            if not resource.deleting:
                await self._hold(resource)
            return
        if resource.deleting and resource.removes and FOREGROUND in resource.finalizers:
            # Kubernetes would delete the Job that drops tables like all other children. They all go in their order.
            await self._set_finalizers(resource, [name for name in resource.finalizers if name != FOREGROUND])
            return
        situation = await self._situation(body, resource)
        self._control(situation)
        refusals = await self._act(situation)
        await self._parts.reporter.report(body, situation, refusals)
        if situation.due.step in REMOVING and self._went_on(situation):
            self._parts.wake_later(key, 0.0)
        elif situation.due.step is Step.RELEASE:
            await self._release(resource)
        elif situation.due.step not in {Step.RUN, Step.SUSPENDED}:
            self._parts.wake_later(key, STOPPING_AGAIN_S)
        elif refusals:
            self._parts.wake_later(key, REFUSED_AGAIN_S)

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._parts.observer.forget(key)
        self._parts.controllers.forget(key)
        self._parts.reporter.forget(key)

    # What stands there.

    async def _situation(self, body: Mapping[str, Any], resource: Resource) -> Situation:
        key = resource.key
        if (memory := self._memories.get(key)) is None or memory.uid != resource.uid:
            self._memories[key] = _Memory(resource.uid)
        found, problem = self._effective(body)
        children = [
            (place, child)
            for place, child in self._parts.store.of(key)
            if place.kind == POD.name or owner_uid(child) == resource.uid
        ]
        fares = workloads_of(found, children)
        removal = await self._removal(resource, found, children)
        answer = None
        if found is not None:
            question = question_for(found, resource, fares, removal.claims.remove if removal.claims else ())
            self._parts.observer.ask(key, question)
            answer = self._parts.observer.answer(key, question)
        ingest_gone = is_gone(fares, INGEST)
        is_drained = self._drained(key, answer, ingest_gone=ingest_gone)
        due = plan(standing_of(resource, children, fares, drained=is_drained, job=removal.job))
        engines = None
        if found is not None:
            engines = engines_due(found, fares, children)
            found = reading(found, engines)
        decided = self._parts.controllers.of(key)
        return Situation(resource, found, problem, children, fares, answer, due, decided, engines, removal)

    async def _removal(self, resource: Resource, found: Effective | None, children: Children) -> Seen:
        """Look at how far the removal of tables and topics is, if there is or was to be one."""
        if not (resource.deleting and (resource.removes or has_begun(resource, children, None))):
            return NOTHING_SEEN
        seen = await self._removing.look(resource)
        if found is None or not topics_due(resource):
            return seen
        answer = self._parts.observer.last(resource.key)
        return replace(seen, claims=claimed(answer, self._neighbours(resource, found)), answer=answer)

    def _neighbours(self, resource: Resource, found: Effective) -> Iterator[Neighbour]:
        """Yield the pipelines that may have topics in common with one."""
        prefix = found.pipeline.spec.namespace
        for body in self._parts.pipelines.bodies():
            other = Resource.of(body)
            theirs = body.get("spec", {}).get("namespace", DEFAULT_PREFIX) == prefix
            if other.uid == resource.uid or not theirs or (other.deleting and not other.held):
                continue
            its, _ = self._effective(body)
            answer = self._parts.observer.last(other.key)
            if its is None or answer is None or answer.question.kafka != its.kafka:
                answer = None
            yield Neighbour(other.key, None if its is None else its.topics(), answer)

    def _went_on(self, situation: Situation) -> bool:
        """Whether the status, as it was just written, says that a step of a removal is done."""
        body = self._parts.pipelines.get(situation.resource.key)
        now = situation.resource if body is None else Resource.of(body)
        return any(now.says(kind) is True and not situation.resource.says(kind) for kind in (TABLES, TOPICS))

    def _effective(self, body: Mapping[str, Any]) -> tuple[Effective | None, str | None]:
        try:
            return effective(body, self._parts.config), None
        except SpecError as error:
            return None, str(error)

    def _drained(self, key: Key, answer: Answer | None, *, ingest_gone: bool) -> bool | None:
        """Whether the table holds everything that was in the log when no ingest was left, and nothing is owed to it.

        None while unknown.

        The ends are taken once, as another pipeline may go on writing to the topic. A new operator takes later ones:
        the sink reaches those too.
        """
        memory, now_s = self._memories[key], self._parts.clock()
        if not ingest_gone:
            memory.ingest_gone_s = memory.targets = None
            return False
        if memory.ingest_gone_s is None:
            memory.ingest_gone_s = now_s
            self._parts.observer.hurry(key)
        if answer is None or answer.log is None or answer.at_s < memory.ingest_gone_s:
            return None
        if memory.targets is None:
            memory.targets = answer.log.ends
        return drained(answer.log, memory.targets)

    # Who decides.

    def _control(self, situation: Situation) -> None:
        """Have the pipeline's controller run while its sinks do, from when its Kafka is known.

        While it stops, too: at level 4 sinks stand still, and a drain would not end.
        """
        key, found, controllers = situation.resource.key, situation.effective, self._parts.controllers
        decides = still_decides(situation)
        if not situation.due.step.sinks_run:
            controllers.pause(key)
        elif decides is False:
            controllers.forget(key)
        elif found is not None and situation.answer is not None:
            kafka = self._parts.observer.kafka(key)
            if kafka is not None:
                executor = executor_of(situation.workloads, stopping=situation.due.step is not Step.RUN)
                controllers.look_after(key, Charge(kafka, found.pipeline, executor))

    # What is due.

    async def _act(self, situation: Situation) -> list[Refusal]:
        due, resource = situation.due, situation.resource
        if due.step in {Step.REMOVE, Step.RELEASE}:
            places = [place for place, _ in situation.children if place.kind != POD.name]
            await self._parts.writer.delete(places, resource.uid)
            await self._removing.end(situation.removal.job)
            return []
        if due.step is Step.STOP_MAINTENANCE:
            crons = [place for place in maintains(situation.children) if place.kind == CRON_JOB.name]
            await self._parts.writer.delete(crons, resource.uid)
        if removal := removal_due(situation, self._parts.config):
            return await self._remove_tables(situation, removal)
        manifests = manifests_due(situation, self._parts.config)
        refusals = await self._parts.writer.write(manifests, resource.uid)
        written = {(one["kind"], one["metadata"]["name"]) for one in manifests}
        off = [
            one.name
            for one in situation.workloads
            if not may_run(due, one.component) and (DEPLOYMENT.name, one.name) not in written
        ]
        await self._parts.writer.scale_down(off, resource.key.namespace, resource.uid)
        if situation.effective is not None and not resource.deleting and not frozen(situation, manifests):
            await self._parts.writer.delete(no_longer_wanted(situation, manifests), resource.uid)
        return refusals + self._second_hands(situation)

    async def _remove_tables(self, situation: Situation, manifests: Sequence[Manifest]) -> list[Refusal]:
        *before, job = manifests
        seen = situation.removal
        refusals = await self._parts.writer.write(before, situation.resource.uid)
        if not refusals and seen.problem is None:
            refusal = seen.taken or await self._removing.begin(seen.job, job)
            refusals += [] if refusal is None else [refusal]
        return refusals

    def _second_hands(self, situation: Situation) -> list[Refusal]:
        found = [
            self._parts.writer.second_hand(Place(DEPLOYMENT.name, situation.resource.key.namespace, one.name))
            for one in situation.workloads
            if one.wanted > 0
        ]
        return [refusal for refusal in found if refusal is not None]

    # The finalizer.

    async def _hold(self, resource: Resource) -> None:
        await self._set_finalizers(resource, [*resource.finalizers, FINALIZER])

    async def _release(self, resource: Resource) -> None:
        await self._set_finalizers(resource, [name for name in resource.finalizers if name != FINALIZER])
        _log.info("released", extra={"pipeline": "/".join(resource.key)})

    async def _set_finalizers(self, resource: Resource, finalizers: Sequence[str]) -> None:
        metadata = {"uid": resource.uid, "resourceVersion": resource.version, "finalizers": list(finalizers)}
        try:
            body = await self._parts.cluster.merge(PIPELINE, *resource.key, {"metadata": metadata})
        except ApiRefusedError as error:
            if error.status not in {404, 409}:
                raise
            self._parts.wake_later(resource.key, 0.2)  # changed meanwhile: the watch brings what it is now
        else:
            if self._parts.pipelines.put(body):
                self._parts.wake_later(resource.key, 0.0)
