"""One pipeline, now: what is asked for, what stands there, what is due, and which manifests follow from it.

Put together and acted on by `reconcile`, told by `reporting`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from k2_core.controller.sight import Executor
from k2_core.types import TopicName
from k2_operator.config import OperatorConfig
from k2_operator.decided import Decided
from k2_operator.engine import Engines, engines, seen
from k2_operator.names import (
    COMPONENT_LABEL,
    CONFIG_MAP,
    CRON_JOB,
    DEPLOYMENT,
    INGEST,
    MANAGED_LABEL,
    MANAGER,
    POD,
    QUERY,
    SINK,
    SOURCE_LABEL,
    TRINO_COMPONENTS,
)
from k2_operator.pipeline import Effective
from k2_operator.plan import REMOVING, Plan, Standing, Step
from k2_operator.removal import NOTHING_SEEN, TABLES, TOPICS, Seen, has_begun, maintains
from k2_operator.rendering.deployments import Inputs
from k2_operator.rendering.manifests import render, render_removal, with_replicas
from k2_operator.rendering.objects import workloads as workload_names
from k2_operator.resource import Resource
from k2_operator.signals import Answer, Question
from k2_operator.store import Place
from k2_operator.workloads import Workload, workload

Manifest = dict[str, Any]
Children = Sequence[tuple[Place, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Situation:
    """What one reconcile found.

    Args:
        resource: The pipeline as an object.
        effective: Its spec, filled in; None where it is wrong.
        config_problem: What is wrong with it, or None.
        children: What belongs to it, pods included.
        workloads: How its parts fare.
        answer: The last look at Kafka and secrets; None before the first.
        due: What may run.
        decided: What its controller decided last; None where there is none, or before its first turn.
        engines: What the query service reads with; None where the spec is wrong.
        removal: What is seen of the removal of its tables and topics.
    """

    resource: Resource
    effective: Effective | None
    config_problem: str | None
    children: Children
    workloads: Sequence[Workload]
    answer: Answer | None
    due: Plan
    decided: Decided | None = None
    engines: Engines | None = None
    removal: Seen = NOTHING_SEEN


def workloads_of(found: Effective | None, children: Children) -> list[Workload]:
    """Return how the workloads fare: those of the spec, and those that stand there without it."""
    named = [] if found is None else workload_names(found)
    if found is not None and found.trino is not None:
        named += [(found.names.workload(component, None), component, None) for component in TRINO_COMPONENTS]
    known = {name for name, _, _ in named}
    for place, child in children:
        labels = child["metadata"].get("labels", {})
        component = labels.get(COMPONENT_LABEL)
        if place.kind == DEPLOYMENT.name and place.name not in known and component is not None:
            named.append((place.name, component, labels.get(SOURCE_LABEL)))
    return [workload(name, component, source, children) for name, component, source in named]


def question_for(
    found: Effective, resource: Resource, fares: Sequence[Workload], remove: Sequence[TopicName] = ()
) -> Question:
    """Return what to look at. Topics grow only while nothing writes to them or reads them.

    Args:
        found: The pipeline.
        resource: The same as an object.
        fares: Its workloads.
        remove: Topics to be deleted.
    """
    stopped = resource.was_suspended and resource.suspend and all(one.gone for one in fares)
    return Question(
        namespace=found.namespace,
        kafka=found.kafka,
        trades=tuple(found.pipeline.trades_topics()),
        topics=found.topics(),
        sink_group=found.pipeline.sink_group,
        committed_group=found.pipeline.committed_group,
        secrets=found.secrets(),
        create=not resource.deleting,
        grow=stopped and not resource.deleting,
        engine_group=found.pipeline.engine_group if found.pipeline.spec.query.mode == "distributed" else None,
        symbols_group=found.pipeline.symbols_group if found.pipeline.listens else None,
        remove=tuple(remove),
    )


def standing_of(
    resource: Resource,
    children: Children,
    fares: Sequence[Workload],
    *,
    drained: bool | None,
    job: Mapping[str, Any] | None = None,
) -> Standing:
    """Return what `plan` decides from; `job` is the one that drops tables."""
    sink_there = any(one.component == SINK and one.wanted > 0 for one in fares)
    return Standing(
        deleting=resource.deleting,
        suspend=resource.suspend,
        skip_drain=resource.skips_drain,
        ran=resource.ran or sink_there,
        was_suspended=resource.was_suspended,
        ingest_gone=is_gone(fares, INGEST),
        sink_gone=is_gone(fares, SINK),
        query_gone=is_gone(fares, QUERY),
        trino_gone=all(is_gone(fares, component) for component in TRINO_COMPONENTS),
        children_gone=not children and job is None,
        drained=drained,
        removes=resource.deleting and resource.removes,
        removing=has_begun(resource, children, job),
        maintenance_gone=not maintains(children),
        tables_removed=resource.says(TABLES) is True,
        topics_removed=resource.says(TOPICS) is True,
    )


def is_gone(fares: Sequence[Workload], component: str) -> bool:
    """Whether nothing of a component is asked for or left."""
    return all(one.gone for one in fares if one.component == component)


def may_run(due: Plan, component: str) -> bool:
    """Whether a component may have replicas now."""
    runs = {INGEST: due.ingest, SINK: due.sink, QUERY: due.query}
    return (runs | dict.fromkeys(TRINO_COMPONENTS, due.trino))[component]


def engines_due(found: Effective, fares: Sequence[Workload], children: Children) -> Engines:
    """Return which engine the query service is to read with, and whether a Trino that the operator ran stays."""
    return engines(seen(found.trino_url, fares, children, asked=found.trino is not None))


def reading(found: Effective, chosen: Engines) -> Effective:
    """Return a pipeline whose query service reads with what is due."""
    return replace(found, trino_answers=chosen.trino_answers)


def manifests_due(situation: Situation, config: OperatorConfig) -> list[Manifest]:
    """Return what is to be written now: nothing where the spec is wrong, no pods where they would not run."""
    found, answer, due = situation.effective, situation.answer, situation.due
    if found is None or answer is None or due.step in REMOVING:
        return []
    inputs = Inputs(found, config, situation.resource.uid, answer.secrets.versions, sinks_due(situation, found))
    made = [_planned(manifest, due) for manifest in render(inputs)]
    if due.step is not Step.RUN:  # it goes with its pods: what a suspended pipeline has is not maintained
        made = [one for one in made if one["kind"] != CRON_JOB.name]
    if frozen(situation, made):
        made = [one for one in made if one["kind"] not in {DEPLOYMENT.name, CONFIG_MAP.name, CRON_JOB.name}]
    if situation.resource.deleting:  # nothing new for what is about to go
        there = {(place.kind, place.name) for place, _ in situation.children}
        made = [one for one in made if not _is_idle(one) or (one["kind"], one["metadata"]["name"]) in there]
    return made


def removal_due(situation: Situation, config: OperatorConfig) -> list[Manifest]:
    """Return the Job that drops tables, last, and what it needs; nothing where the spec is wrong, or before a look."""
    found, answer = situation.effective, situation.answer
    if situation.due.step is not Step.REMOVE_TABLES or found is None or answer is None:
        return []
    return render_removal(Inputs(found, config, situation.resource.uid, answer.secrets.versions))


def sinks_due(situation: Situation, found: Effective) -> int | None:
    """Return how many sinks there are to be while the pipeline runs; None: as the spec says.

    As long as nothing is decided they stay as many as there are: an operator that starts changes nothing.
    """
    if not found.scales:
        return None
    if situation.decided is not None and situation.decided.sinks is not None:
        return situation.decided.sinks
    return _sinks_there(situation.workloads) or None


def executor_of(fares: Sequence[Workload], *, stopping: bool = False) -> Executor:
    """Return what a controller is to know of the sinks."""
    replacing = any(one.replacing for one in fares if one.component == SINK)
    return Executor(_sinks_there(fares) or None, rolling_out=replacing, stopping=stopping)


def _sinks_there(fares: Sequence[Workload]) -> int:
    return sum(one.wanted for one in fares if one.component == SINK)


def still_decides(situation: Situation) -> bool | None:
    """Whether the pipeline is a controller's; None where that is not known, as the spec is wrong.

    One whose modes have been set to Off is until services have been told so, or they would keep their level for ever.
    """
    found, decided = situation.effective, situation.decided
    if found is None:
        return None
    told = decided is not None and decided.released
    return found.decides or ("decision" in situation.resource.status and not told)


def _planned(manifest: Manifest, due: Plan) -> Manifest:
    if manifest["kind"] != DEPLOYMENT.name:
        return manifest
    component = manifest["metadata"]["labels"][COMPONENT_LABEL]
    return manifest if may_run(due, component) else with_replicas(manifest, 0)


def _is_idle(manifest: Manifest) -> bool:
    return manifest["kind"] == DEPLOYMENT.name and not manifest["spec"]["replicas"]


def frozen(situation: Situation, made: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the pods and their file stay as they are.

    A secret that is missing would break pods that run. A change waits until Kafka answers and the topics fit; what was
    accepted before is mended at any time.
    """
    answer = situation.answer
    if answer is None or answer.secrets.problems:
        return True
    if answer.kafka_problem is None and answer.topics_ready:
        return False
    wanted = {one["metadata"]["name"]: one["data"] for one in made if one["kind"] == CONFIG_MAP.name}
    there = {place.name: child.get("data") for place, child in situation.children if place.kind == CONFIG_MAP.name}
    return not wanted or any(there.get(name) != data for name, data in wanted.items())


def no_longer_wanted(situation: Situation, made: Sequence[Mapping[str, Any]]) -> list[Place]:
    """Return children that the pipeline no longer has, such as those of a source that was taken out.

    Those of a Trino that it no longer asks for are still wanted while the query service may read with it.
    """
    wanted = {(one["kind"], one["metadata"]["name"]) for one in made}
    kept = TRINO_COMPONENTS if situation.engines is not None and situation.engines.trino_stays else ()
    return [
        place
        for place, child in situation.children
        if place.kind != POD.name
        and (place.kind, place.name) not in wanted
        and child["metadata"].get("labels", {}).get(MANAGED_LABEL) == MANAGER
        and child["metadata"]["labels"].get(COMPONENT_LABEL) not in kept
    ]
