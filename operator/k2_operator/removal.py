"""How far the removal of a deleted pipeline's tables and topics is, which topics are its own, and what is said of both.

Called by `reconcile` and `reporting` where `spec.deletionPolicy` is Delete. Pure: read from the Job, its pods, the last
looks at Kafka, and what the status says is done already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from k2_core.types import TopicName
from k2_operator.names import COMPONENT_LABEL, CRON_JOB, MAINTENANCE, POD, REMOVAL, RENDERED_HASH
from k2_operator.resource import Resource
from k2_operator.signals import Answer
from k2_operator.status import Condition, Refusal
from k2_operator.store import Key, Place
from k2_operator.workloads import succeeded_message, troubles

TABLES: Final = "TablesRemoved"
TOPICS: Final = "TopicsRemoved"
"""Conditions of a pipeline that is deleted. What they say is done is not asked for again."""
WAY_OUT: Final = "spec.deletionPolicy: Retain lets the pipeline go without"

Manifest = Mapping[str, Any]
Children = Sequence[tuple[Place, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another pipeline with the same first part of its topics' names.

    Args:
        key: Which.
        topics: Its topics; None where its spec is wrong, so that what it runs with is not known.
        answer: The last look at them; None before the first.
    """

    key: Key
    topics: Iterable[TopicName] | None
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Claims:
    """Whose a pipeline's topics are.

    Args:
        remove: Those that are there and its alone.
        shared: Those that another pipeline has, too, with the pipeline.
        unknown: Those that another may have, whose Kafka has not answered, with the pipeline.
    """

    remove: tuple[TopicName, ...] = ()
    shared: Mapping[TopicName, Key] = field(default_factory=dict)
    unknown: Mapping[TopicName, Key] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of a removal.

    Args:
        job: The Job that drops tables; None if there is none.
        problem: Why that is not known, or None.
        taken: Who else has a Job of its name, or None.
        claims: Whose the topics are; None while it is not their turn.
        answer: The last look at them.
    """

    job: Manifest | None = None
    problem: str | None = None
    taken: Refusal | None = None
    claims: Claims | None = None
    answer: Answer | None = None


NOTHING_SEEN: Final = Seen()
"""Of a pipeline that keeps its tables."""


def has_begun(resource: Resource, children: Children, job: Manifest | None) -> bool:
    """Whether tables may have been dropped already."""
    if not resource.deleting:
        return False
    made = any(_component(child) == REMOVAL for _, child in children)
    return job is not None or made or resource.says(TABLES) is not None


def maintains(children: Children) -> list[Place]:
    """Return what maintains the tables, or is about to."""
    return [
        place
        for place, child in children
        if place.kind == CRON_JOB.name or (place.kind == POD.name and _component(child) == MAINTENANCE)
    ]


def topics_due(resource: Resource) -> bool:
    """Whether it is the topics' turn: the tables are gone."""
    return resource.deleting and resource.removes and resource.says(TABLES) is True


def claimed(own: Answer | None, neighbours: Iterable[Neighbour]) -> Claims:
    """Return which of the topics that were seen last are the pipeline's alone.

    A name alone proves nothing, as there are more Kafkas than one, and one Kafka has more than one address: what two
    pipelines have in common is a topic of one id.
    """
    remove: list[TopicName] = []
    shared: dict[TopicName, Key] = {}
    unknown: dict[TopicName, Key] = {}
    others = list(neighbours)
    for topic, number in sorted({} if own is None else own.ids.items()):
        for other in others:
            if other.topics is None:
                shared[topic] = other.key
            elif topic not in other.topics:
                continue
            elif other.answer is None or other.answer.partitions is None:
                unknown[topic] = other.key
            elif other.answer.ids.get(topic) == number:
                shared[topic] = other.key
        if topic not in shared and topic not in unknown:
            remove.append(topic)
    return Claims(tuple(remove), shared, unknown)


def is_stale(job: Manifest, wanted: Manifest) -> bool:
    """Whether a Job has to make way for another one: its template cannot be changed, and one that failed is over."""
    annotations = job["metadata"].get("annotations", {})
    other = annotations.get(RENDERED_HASH) != wanted["metadata"]["annotations"][RENDERED_HASH]
    return not _has(job, "Complete") and (other or _has(job, "Failed"))


def conditions(
    resource: Resource,
    seen: Seen,
    children: Children,
    refusals: Sequence[Refusal],
    config_problem: str | None,
) -> list[Condition]:
    """Return both conditions, as far as it is their turn; what has been done stays said."""
    before = [one for kind in (TABLES, TOPICS) if (one := _before(resource, kind)) is not None]
    if not resource.removes or resource.says(TOPICS) is True:
        return before
    wrong = (False, "InvalidSpec", f"{config_problem}; correct the pipeline, or {WAY_OUT}")
    if resource.says(TABLES) is True:
        return [*before[:1], Condition(TOPICS, *(_topics(seen) if config_problem is None else wrong))]
    pods = [child for place, child in children if place.kind == POD.name and _component(child) == REMOVAL]
    if seen.job is not None and _has(seen.job, "Complete"):
        text = succeeded_message(pods) or "its tables and their files are gone"
        return [Condition(TABLES, status=True, reason="Removed", message=text), *before[1:]]
    if config_problem is None:
        wrong = _tables_wait(seen, children, pods, refusals)
    later = Condition(TOPICS, status=False, reason="Removing", message="they go once the tables are gone")
    return [Condition(TABLES, *wrong), later]


def _tables_wait(
    seen: Seen, children: Children, pods: Sequence[Manifest], refusals: Sequence[Refusal]
) -> tuple[bool, str, str]:
    if seen.problem is not None:
        return False, "ApiRefused", f"{seen.problem}; correct the operator's role, or {WAY_OUT}"
    if refusals:
        return False, refusals[0].reason, f"{refusals[0].message}; or {WAY_OUT}"
    if maintains(children):
        return False, "MaintenanceRuns", "it waits for the end of the tables' maintenance"
    if trouble := next(iter(troubles(pods)), None):
        return False, trouble.reason, f"{trouble.message}. Until it has succeeded nothing else goes; {WAY_OUT}"
    return False, "Removing", "its tables are being dropped with their files"


def _topics(seen: Seen) -> tuple[bool, str, str]:
    claims, answer = seen.claims, seen.answer
    if claims is None or answer is None:
        return False, "Removing", "it waits for a look at Kafka"
    if answer.kafka_problem is not None:
        return False, "Unreachable", f"{answer.kafka_problem}; it is tried again; {WAY_OUT}"
    if claims.remove and answer.topics_problem is not None:
        return False, "Refused", f"{answer.topics_problem}; let K2's user delete topics, or {WAY_OUT}"
    if claims.remove:
        return False, "Removing", f"to go: {', '.join(claims.remove)}"
    if claims.unknown:
        names = _named(claims.unknown)
        return False, "NotYetKnown", f"whether another pipeline has them is not known: {names}; {WAY_OUT}"
    left = f"left, as another pipeline has them: {_named(claims.shared)}" if claims.shared else ""
    return True, "Removed", left or "its topics are gone"


def _named(topics: Mapping[TopicName, Key]) -> str:
    return ", ".join(f"{topic} ({'/'.join(key)})" for topic, key in sorted(topics.items()))


def _before(resource: Resource, kind: str) -> Condition | None:
    for one in resource.status.get("conditions", ()):
        if one["type"] == kind:
            return Condition(kind, resource.says(kind), one["reason"], one["message"])
    return None


def _has(job: Manifest, condition: str) -> bool:
    found = job.get("status", {}).get("conditions", ())
    return any(one["type"] == condition and one["status"] == "True" for one in found)


def _component(child: Manifest) -> str | None:
    found: str | None = child["metadata"].get("labels", {}).get(COMPONENT_LABEL)
    return found
