"""Says what a reconcile found: the status, Events for what is new in it, and the figures. Called by `reconcile`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from k2_core.clock import utc_now
from k2_core.errors import K2Error
from k2_core.spec import inactive_settings
from k2_operator import decided, events, removal
from k2_operator.cluster import Cluster
from k2_operator.errors import ApiRefusedError, FieldConflictError
from k2_operator.metrics import OperatorMetrics
from k2_operator.names import PIPELINE
from k2_operator.pipelines import Pipelines
from k2_operator.plan import REMOVING, Step
from k2_operator.resource import Resource
from k2_operator.situation import Situation, still_decides
from k2_operator.status import Condition, Refusal, View, status, worth_writing
from k2_operator.store import Key

STOPPED_ON_PURPOSE: Final = frozenset({"Suspending", "Suspended", "Deleting"})
_WORDS: Final[Mapping[str, bool]] = {"True": True, "False": False}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Told:
    """What is remembered of what was said. It may be lost: the status is then written once more than needed."""

    uid: str
    written_s: float = -1e9
    draining_s: float | None = None


@dataclass
class Reporter:
    """Writes status and Events of pipelines and shows their figures.

    Args:
        cluster: The API server.
        pipelines: Takes in what was written.
        metrics: The figures.
        drain_timeout_s: After which a drain is called slow.
        clock: Monotonic seconds.
        now: UTC.
    """

    cluster: Cluster
    pipelines: Pipelines
    metrics: OperatorMetrics
    drain_timeout_s: float
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    _told: dict[Key, _Told] = field(default_factory=dict, init=False)

    def forget(self, key: Key) -> None:
        """Drop what is shown of a pipeline that is gone."""
        self._told.pop(key, None)
        self.metrics.forget(key)

    async def report(self, body: Mapping[str, Any], situation: Situation, refusals: Sequence[Refusal]) -> None:
        """Say what was found, as far as it is worth saying.

        Raises:
            K2Error: The status could not be written.
        """
        resource = situation.resource
        told = self._told.get(resource.key)
        if told is None or told.uid != resource.uid:
            told = self._told[resource.key] = _Told(resource.uid)
        if situation.answer is None and situation.config_problem is None and not resource.deleting:
            return  # the first look is under way: there is nothing to say yet
        new = status(self._view(situation, refusals, told), self.now())
        self.metrics.show_phase(resource.key, new["phase"])
        self.metrics.show_conditions(resource.key, shown_conditions(new))
        self.metrics.show_trino(resource.key, situation.workloads)
        since_s = self.clock() - told.written_s
        if situation.due.step is Step.RELEASE or not worth_writing(resource.status, new, since_s):
            return
        await self._write_status(resource, new)
        told.written_s = self.clock()
        told_of = decided.changes(resource.status.get("decision", {}), new.get("decision", {}), situation.decided)
        for kind, reason, message in (*events.changes(resource.status, new), *told_of):
            await self._post(events.event(body, kind, reason, message, self.now()))

    def _view(self, situation: Situation, refusals: Sequence[Refusal], told: _Told) -> View:
        resource, found, now_s = situation.resource, situation.effective, self.clock()
        if situation.due.step is not Step.DRAIN:
            told.draining_s = None
        elif told.draining_s is None:
            told.draining_s = now_s
        return View(
            key=resource.key,
            generation=resource.generation,
            previous=resource.status,
            deleting=resource.deleting,
            suspend=resource.suspend,
            config_problem=situation.config_problem,
            inactive=() if found is None else inactive_settings(found.pipeline),
            answer=situation.answer,
            step=situation.due.step,
            workloads=situation.workloads,
            refusals=list(dict.fromkeys(refusals)),
            draining_s=0.0 if told.draining_s is None else now_s - told.draining_s,
            drain_timeout_s=self.drain_timeout_s,
            decides=still_decides(situation),
            off=found is not None and not found.decides,
            decided=situation.decided,
            engine=None if found is None else ("single" if found.engine is None else "distributed"),
            asks_for_trino=found is not None and found.trino is not None,
            removal=self._removal(situation, refusals),
        )

    @staticmethod
    def _removal(situation: Situation, refusals: Sequence[Refusal]) -> list[Condition]:
        resource, step, children = situation.resource, situation.due.step, situation.children
        if step not in REMOVING and not removal.has_begun(resource, children, situation.removal.job):
            return []
        return removal.conditions(resource, situation.removal, children, refusals, situation.config_problem)

    async def _write_status(self, resource: Resource, new: Mapping[str, Any]) -> None:
        manifest = {
            "apiVersion": PIPELINE.api_version,
            "kind": PIPELINE.name,
            "metadata": {"name": resource.key.name, "namespace": resource.key.namespace},
            "status": new,
        }
        try:
            body = await self.cluster.apply(manifest, part="status")
        except FieldConflictError as error:
            if any(conflict.declared for conflict in error.conflicts):
                raise
            body = await self.cluster.apply(manifest, part="status", force=True)
        except ApiRefusedError as error:
            if error.status != 404:
                raise
            return  # gone meanwhile
        self.pipelines.put(body)

    async def _post(self, event: Mapping[str, Any]) -> None:
        try:
            await self.cluster.post_event(event)
        except K2Error as error:  # an Event is a courtesy: the status says the same
            _log.warning("an event was not posted", extra={"error": str(error)})


def shown_conditions(new: Mapping[str, Any]) -> dict[str, bool | None]:
    """Return what the metrics say of a status' conditions; None is unknown.

    What was asked to stop is not unready, so nothing is said of it: alerts on these figures must not fire for it.
    """
    silent = new["phase"] in STOPPED_ON_PURPOSE
    return {one["type"]: None if silent else _WORDS.get(one["status"]) for one in new["conditions"]}
