"""What a K2Pipeline's status says: phase, conditions with a reason and the next step, lag, freshness, replicas.

Called by `reconcile`. Pure: the same view gives the same status, and a status is written only when it says something
new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from k2_core.policy.decision import Decision
from k2_operator import decided, engine, symbols
from k2_operator.decided import Decided
from k2_operator.names import FORCE_DELETE, INGEST, QUERY, SERVICE_PORT, SINK, TRINO_COMPONENTS, Names
from k2_operator.plan import Step
from k2_operator.signals import Answer
from k2_operator.store import Key
from k2_operator.workloads import Workload

AGE_STEPS_S: Final = (0, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 21_600, 86_400)
"""Ages are rounded down to these: exact ones are in the metrics, and would make a write of every look."""
LAG_EVERY_S: Final = 10.0
"""Lag alone is written at most this often."""
_ON_THEIR_WAY: Final = frozenset({"Starting", "Missing"})
_VOLATILE: Final = ("lag", "freshness")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition.

    Args:
        type: Such as `SinkReady`.
        status: None is unknown.
        reason: One word.
        message: What was found, and the next step.
    """

    type: str
    status: bool | None
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that the operator may not write, and why.

    Args:
        reason: One word.
        message: What was found, and the next step.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a status is made of.

    Args:
        key: The pipeline.
        generation: Of its spec.
        previous: The status that stands there.
        deleting: Whether it is being deleted.
        suspend: Whether it is to be suspended.
        config_problem: Why the spec cannot be followed; None if it can.
        inactive: Settings that have no effect.
        answer: The last look at secrets and Kafka; None before the first.
        step: Where it stands between running and gone.
        workloads: Its Deployments.
        refusals: What could not be written.
        draining_s: For how long the sink has been draining.
        drain_timeout_s: After which that is called slow.
        decides: Whether it has a controller; None where that is not known.
        off: Whether it is to have none.
        decided: What its controller decided last.
        engine: What the query service is to read with, as `spec.query.mode` says it; None where the spec is wrong.
        asks_for_trino: Whether it asks for a Trino that the operator runs.
        removal: How far the removal of its tables and topics is; empty while there is none.
    """

    key: Key
    generation: int
    previous: Mapping[str, Any]
    deleting: bool
    suspend: bool
    config_problem: str | None
    inactive: Sequence[str]
    answer: Answer | None
    step: Step
    workloads: Sequence[Workload]
    refusals: Sequence[Refusal] = ()
    draining_s: float = 0.0
    drain_timeout_s: float = 600.0
    decides: bool | None = False
    off: bool = True
    decided: Decided | None = None
    engine: str | None = None
    asks_for_trino: bool = False
    removal: Sequence[Condition] = ()

    @property
    def decision(self) -> Decision | None:
        """What is decided while sinks run; None where there is nothing new to say."""
        known = self.decides and not self.off and self.step.sinks_run and self.decided is not None
        return self.decided.decision if known and self.decided is not None else None


def status(view: View, now: datetime) -> dict[str, Any]:
    """Return the whole status."""
    found = conditions(view)
    phase = _phase(view, found)
    ready = _ready(view, found)
    written: dict[str, Any] = {
        "phase": phase,
        "observedGeneration": view.generation,
        "conditions": _written([ready, *found], view, now),
        "replicas": {
            component: sum(one.ready for one in view.workloads if one.component == component)
            for component in (INGEST, SINK, QUERY)
        }
        | {"sinkWanted": sum(one.wanted for one in view.workloads if one.component == SINK)},
        "query": _query(view),
    }
    return written | _decision(view, now) | _figures(view.answer, now)


def _query(view: View) -> dict[str, Any]:
    mode = view.engine or view.previous.get("query", {}).get("engine")
    found = {"url": f"http://{Names(view.key.name).query}.{view.key.namespace}.svc:{SERVICE_PORT}"}
    return found if mode is None else found | {"engine": mode}


def _decision(view: View, now: datetime) -> dict[str, Any]:
    """Return level and decision. While nobody decides they stay: a controller's absence changes no level."""
    if view.decides is False:
        return {}
    if view.decision is None or view.decided is None:
        return {name: view.previous[name] for name in ("level", "decision") if name in view.previous}
    found = {"decision": decided.shown(view.decided, view.previous.get("decision", {}), moment(now))}
    return found if view.decided.level is None else found | {"level": int(view.decided.level)}


def worth_writing(previous: Mapping[str, Any], new: Mapping[str, Any], since_s: float) -> bool:
    """Whether a status says something new; of lag alone only now and then.

    Args:
        previous: What stands there.
        new: What would be written.
        since_s: Since the last write.
    """
    return previous != new and (since_s >= LAG_EVERY_S or _steady(previous) != _steady(new))


def _steady(written: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in written.items() if name not in _VOLATILE}
    return found | {"decision": decided.steady(found["decision"])} if "decision" in found else found


def conditions(view: View) -> list[Condition]:
    """Return all conditions but Ready."""
    return [
        _config_valid(view),
        _secrets_ready(view.answer),
        _kafka_ready(view),
        _topics_ready(view),
        *(_workload_ready(view, f"{one.capitalize()}Ready", one) for one in (INGEST, SINK, QUERY)),
        *_trino_ready(view),
        *(Condition(*one) for one in symbols.known(view.answer, stopping=view.deleting or view.suspend)),
        _decision_ready(view),
        _owned(view.refusals),
        *view.removal,
    ]


def _config_valid(view: View) -> Condition:
    if view.config_problem is not None:
        text = f"{view.config_problem}; correct the pipeline. What runs is left as it is"
        return Condition("ConfigValid", status=False, reason="InvalidSpec", message=text)
    if view.inactive:
        text = f"accepted, without effect in this version: {', '.join(view.inactive)}"
        return Condition("ConfigValid", status=True, reason="InactiveSettings", message=text)
    return Condition("ConfigValid", status=True, reason="Accepted")


def _secrets_ready(answer: Answer | None) -> Condition:
    if answer is None:
        return Condition("SecretsReady", None, "NotYetKnown")
    if problems := answer.secrets.problems:
        text = "; ".join(f"secret {name}: {problem}" for name, problem in sorted(problems.items()))
        return Condition("SecretsReady", status=False, reason="SecretUnusable", message=text)
    return Condition("SecretsReady", status=True, reason="Found")


def _kafka_ready(view: View) -> Condition:
    if view.answer is None:
        return Condition("KafkaReady", None, "NotYetKnown")
    if view.answer.kafka_problem is None:
        return Condition("KafkaReady", status=True, reason="Answers")
    kafka = view.answer.question.kafka.bootstrap_servers
    text = (
        f"{kafka}: {view.answer.kafka_problem}; check spec.kafka and the brokers. It is tried again, and {_held(view)}"
    )
    return Condition("KafkaReady", status=False, reason="Unreachable", message=text)


def _held(view: View) -> str:
    if view.step is not Step.DRAIN:
        return "what runs is left as it is"
    return f'the drain waits for it (the annotation {FORCE_DELETE}: "true" skips the drain of a deletion)'


def _topics_ready(view: View) -> Condition:
    answer = view.answer
    if answer is None or answer.partitions is None:
        return Condition("TopicsReady", None, "NotYetKnown")
    if answer.topics_problem is not None:
        return Condition("TopicsReady", status=False, reason="Refused", message=f"{answer.topics_problem}; grant it")
    if answer.missing_topics:
        return Condition("TopicsReady", status=False, reason="Missing", message=", ".join(answer.missing_topics))
    if small := answer.small_topics:
        text = "; ".join(
            f"topic {name}: found {had} partitions, expected {want}" for name, (had, want) in small.items()
        )
        text += ". More partitions move symbols: set spec.suspend to true, K2 drains and grows it, then set it to false"
        return Condition("TopicsReady", status=False, reason="TooFewPartitions", message=text)
    large = "; ".join(f"{name} has {had} partitions for {want}" for name, (had, want) in answer.large_topics.items())
    text = f"{large}: accepted, as topics never shrink" if large else ""
    return Condition("TopicsReady", status=True, reason="MoreThanAsked" if large else "Found", message=text)


def _trino_ready(view: View) -> list[Condition]:
    """Return how Trino fares; nothing where the query service has none and is to have none."""
    if view.engine == "distributed" and not view.asks_for_trino:
        return [_trino_answers(view)]
    if not any(one.component in TRINO_COMPONENTS for one in view.workloads):
        return []
    if not view.asks_for_trino and view.engine is not None:
        text = "it is no longer asked for, and goes once no pod of the query service reads with it"
        return [Condition("TrinoReady", status=True, reason="Leaving", message=text)]
    found = _workload_ready(view, "TrinoReady", *TRINO_COMPONENTS)
    if found.status is False and view.engine == "single":
        found = replace(found, message=f"{found.message}. Until it is ready the query service reads with DuckDB")
    said = _trino_answers(view)
    # Its nodes are ready and may still refuse: a catalog that does not see the table, files that they cannot read.
    return [said if found.status and view.engine == "distributed" and said.status is False else found]


def _trino_answers(view: View) -> Condition:
    return Condition("TrinoReady", *engine.verdict(view.answer, stopping=view.deleting or view.suspend))


def _workload_ready(view: View, kind: str, *components: str) -> Condition:
    own = [one for one in view.workloads if one.component in components]
    stopping = view.deleting or view.suspend
    if stopping and all(one.gone for one in own):
        return Condition(kind, status=False, reason="Stopped", message="stopped, as the pipeline is to stop")
    if SINK in components and view.step is Step.DRAIN:
        return _draining(view)
    if stopping and all(one.wanted == 0 for one in own):
        return Condition(kind, status=False, reason="Stopping", message="its pods are ending")
    troubles = [one.trouble for one in own if one.trouble is not None]
    if troubles:
        # What only takes time is no news beside what somebody has to mend.
        worst = min(troubles, key=lambda trouble: trouble.reason in _ON_THEIR_WAY)
        return Condition(kind, status=False, reason=worst.reason, message=worst.message)
    if not own:
        return Condition(kind, None, "NotYetKnown")
    return Condition(kind, status=True, reason="Ready")


def _draining(view: View) -> Condition:
    log = view.answer.log if view.answer is not None else None
    left, owed = (None, None) if log is None else (log.uncommitted, log.owed)
    text = f"{'an unknown number of' if left is None else left} records are not in the table yet"
    if left == 0:
        text = (
            f"{'an unknown number of' if owed is None else owed} records that levels put off are not in the table yet"
        )
    if view.draining_s <= view.drain_timeout_s:
        return Condition("SinkReady", status=False, reason="Draining", message=text)
    minutes = int(view.draining_s // 60)
    text += f" after {minutes} minutes; look at the sink's log. Nothing is lost by waiting"
    text += f'; a deletion goes on without the drain with the annotation {FORCE_DELETE}: "true"'
    return Condition("SinkReady", status=False, reason="DrainSlow", message=text)


def _decision_ready(view: View) -> Condition:
    kind = "DecisionReady"
    if view.off:
        return Condition(kind, status=True, reason="Off", message="spec.scaling and spec.degradation are Off")
    if not view.step.sinks_run:
        return Condition(kind, status=False, reason="Stopped", message="nothing is decided; services keep their level")
    found = None if view.decided is None or view.decides is None else decided.verdict(view.decided)
    # Before the first turn an operator that starts has nothing new to say.
    return _as_before(view, kind) if found is None else Condition(kind, *found)


def _as_before(view: View, kind: str) -> Condition:
    words: Mapping[object, bool] = {"True": True, "False": False}
    for one in view.previous.get("conditions", ()):
        if one["type"] == kind and one["reason"] not in {"Off", "Stopped"}:
            return Condition(kind, words.get(one["status"]), one["reason"], one["message"])
    return Condition(kind, None, "NotYetKnown")


def _owned(refusals: Sequence[Refusal]) -> Condition:
    if not refusals:
        return Condition("Owned", status=True, reason="NoConflict")
    return Condition("Owned", False, refusals[0].reason, "; ".join(refusal.message for refusal in refusals))


def _ready(view: View, found: Iterable[Condition]) -> Condition:
    if view.deleting or view.suspend:
        reason = view.step.value
        return Condition("Ready", status=False, reason=reason, message=f"the pipeline is to stop: {reason}")
    wrong = [condition for condition in found if not _holds(condition)]
    if not wrong:
        return Condition("Ready", status=True, reason="Running")
    reported = next((condition for condition in wrong if condition.status is False), wrong[0])
    text = ", ".join(f"{condition.type} ({condition.reason})" for condition in wrong)
    return Condition("Ready", status=False, reason=reported.reason, message=f"not yet, or no longer: {text}")


def _holds(condition: Condition) -> bool:
    """Whether it lets a pipeline be ready: silence of Trino takes nothing back, nor does a symbol from the others."""
    silent = condition.type == symbols.CONDITION or (condition.status is None and condition.type == "TrinoReady")
    return silent or condition.status is True


def _phase(view: View, found: Iterable[Condition]) -> str:
    if view.deleting:
        return "Deleting"
    if view.config_problem is not None:
        return "Failed"
    if view.suspend:
        return "Suspended" if view.step is Step.SUSPENDED else "Suspending"
    if all(_holds(condition) for condition in found):
        return "Running"
    return "Degraded" if view.previous.get("phase") in {"Running", "Degraded"} else "Pending"


def _written(found: Iterable[Condition], view: View, now: datetime) -> list[dict[str, Any]]:
    before = {condition["type"]: condition for condition in view.previous.get("conditions", ())}
    return [_condition(condition, before.get(condition.type), view.generation, now) for condition in found]


def _condition(
    condition: Condition, before: Mapping[str, Any] | None, generation: int, now: datetime
) -> dict[str, Any]:
    word = {True: "True", False: "False", None: "Unknown"}[condition.status]
    unchanged = before is not None and before.get("status") == word
    return {
        "type": condition.type,
        "status": word,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and unchanged else moment(now),
    }


def _figures(answer: Answer | None, now: datetime) -> dict[str, Any]:
    """Return lag and freshness as far as they are known."""
    if answer is None or answer.log is None:
        return {}
    log, found = answer.log, dict[str, Any]()
    lag = {"unreadRecords": rounded(log.unread), "uncommittedRecords": rounded(log.uncommitted)}
    if known := {name: value for name, value in lag.items() if value is not None}:
        found["lag"] = known
    fresh: dict[str, Any] = {}
    if log.committed_at is not None:
        fresh["committedAt"] = moment(log.committed_at)
        fresh["committedAgeSeconds"] = age_step((now - log.committed_at).total_seconds())
    if log.newest_event_time is not None:
        fresh["newestEventTime"] = moment(log.newest_event_time)
    return found | ({"freshness": fresh} if fresh else {})


def rounded(count: int | None) -> int | None:
    """Return a lag with two significant digits."""
    if count is None or count < 100:
        return count
    scale: int = 10 ** (len(str(count)) - 2)
    return count // scale * scale


def age_step(age_s: float) -> int:
    """Return an age rounded down to a step; within the clocks' difference, a commit of the future is 0 s old."""
    return max(step for step in AGE_STEPS_S if step <= max(0.0, age_s))


def moment(at: datetime) -> str:
    """Return a time as Kubernetes writes it."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
