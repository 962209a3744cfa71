"""Which engine a pipeline's query service reads with, while a Trino that the operator runs comes or goes.

    DuckDB ──(Trino is asked for, and a worker of it is ready)──▶ the query service rolls to Trino
    Trino ──(no longer asked for)──▶ the query service rolls back ──(no pod of before is left)──▶ Trino goes

The old engine answers until the new one can. Called by `situation`; decided from what is observed and nothing else, so
the operator may die at any step. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from k2_core.engine_report import FRESH_S
from k2_operator.names import (
    COMPONENT_LABEL,
    DEPLOYMENT,
    POD,
    QUERY,
    TRINO_COMPONENTS,
    TRINO_COORDINATOR,
    TRINO_WORKER,
)
from k2_operator.signals import Answer
from k2_operator.store import Place
from k2_operator.workloads import Workload

URL_VARIABLE: Final = "K2_TRINO_URL"
"""Of the query service's container: which Trino it reads with."""

Children = Sequence[tuple[Place, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What is observed.

    Args:
        asked: Whether the pipeline asks for a Trino that the operator runs.
        answers: Whether the query service is set up to read with it.
        ready: Whether its coordinator and a worker at least are ready.
        rolled: Whether no pod of the query service is of another set-up than the newest.
    """

    asked: bool
    answers: bool
    ready: bool
    rolled: bool


@dataclass(frozen=True, slots=True)
class Engines:
    """What is due.

    Args:
        trino_stays: Whether what there is of a Trino stays.
        trino_answers: Whether the query service is to read with it.
    """

    trino_stays: bool
    trino_answers: bool


def engines(sight: Sight) -> Engines:
    """Return what is due.

    A Trino that once answered is not left because it is away: DuckDB may not be up to what it is asked, and would take
    the question of why it is away with it.
    """
    if sight.asked:
        return Engines(trino_stays=True, trino_answers=sight.answers or sight.ready)
    return Engines(trino_stays=sight.answers or not sight.rolled, trino_answers=False)


def seen(url: str, fares: Sequence[Workload], children: Children, *, asked: bool) -> Sight:
    """Return what is observed of a pipeline.

    Args:
        url: Where its own Trino answers.
        fares: How its parts fare.
        children: What stands there, pods included.
        asked: Whether it asks for a Trino that the operator runs.
    """
    nodes = {one.component: one.ready for one in fares if one.component in TRINO_COMPONENTS}
    query = [one for one in fares if one.component == QUERY]
    return Sight(
        asked=asked,
        answers=any(place.kind == DEPLOYMENT.name and _asks(child, url) for place, child in children),
        ready=nodes.get(TRINO_COORDINATOR, 0) > 0 and nodes.get(TRINO_WORKER, 0) > 0,
        # A pod that ends is no longer counted by its Deployment, and may have an answer to give.
        rolled=all(one.is_ready or one.gone for one in query) and not any(_ends(*child) for child in children),
    )


def verdict(answer: Answer | None, *, stopping: bool) -> tuple[bool | None, str, str]:
    """Return status, reason and message of what query pods say of their Trino, whoever runs it.

    Args:
        answer: The last look at Kafka, to which they say it.
        stopping: Whether the pipeline is to stop, and nobody is left to ask.
    """
    if stopping:
        return None, "Stopped", "nobody asks it, as the pipeline is to stop"
    said = None if answer is None or answer.log is None else answer.log.engine
    if said is not None:
        return said.answers, said.reason, said.message
    group = "of the engine" if answer is None else answer.question.engine_group
    text = (
        f"for {FRESH_S:g} s no query pod has said whether it answers: see KafkaReady and QueryReady, and the pods' "
        f"/health; the pipeline's Kafka user has to be allowed to write the group {group}, the operator's to read it"
    )
    return None, "NotYetKnown", text


def _asks(deployment: Mapping[str, Any], url: str) -> bool:
    if not _is_query(deployment):
        return False
    containers = deployment["spec"].get("template", {}).get("spec", {}).get("containers", ())
    return any(
        one["name"] == URL_VARIABLE and one.get("value") == url
        for container in containers
        for one in container.get("env", ())
    )


def _ends(place: Place, child: Mapping[str, Any]) -> bool:
    return place.kind == POD.name and _is_query(child) and "deletionTimestamp" in child["metadata"]


def _is_query(child: Mapping[str, Any]) -> bool:
    return bool(child["metadata"].get("labels", {}).get(COMPONENT_LABEL) == QUERY)
