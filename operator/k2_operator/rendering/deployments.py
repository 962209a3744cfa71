"""The Deployments of a pipeline: one ingest a source, the sinks, the query service.

Called by `manifests`. How many replicas there may be is `plan`'s to say. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from k2_core.policy.configured import priorities
from k2_core.quantity import quantity_value
from k2_core.reference import references
from k2_core.spec import IngestionSpec
from k2_core.spec_fields import ResourceAmounts, ResourcesSpec
from k2_operator.config import OperatorConfig
from k2_operator.names import DEPLOYMENT, INGEST, METRICS_PORT, QUERY, QUERY_PORT, SINK, labels, selector
from k2_operator.pipeline import Effective
from k2_operator.rendering.environment import authorities, ingest_environment, query_environment, sink_environment
from k2_operator.rendering.objects import metadata, pipeline_document
from k2_operator.rendering.pods import Component, Manifest, pod_template

INGEST_GRACE_S: Final = 60
"""Above its flush time-out of 30 s."""
SINK_GRACE_S: Final = 120
"""Above its drain time-out of 30 s and a slow commit."""
QUERY_GRACE_S: Final = 30
"""Above the 10 s that answers under way may take, and the 5 s before they stop coming."""
QUERY_LINGER_S: Final = 5

Resources = Mapping[str, Mapping[str, str]]

INGEST_RESOURCES: Final[Resources] = {
    "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "64Mi"},
    "limits": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "512Mi"},
}
"""One core takes 91,000 trades a second; the queue of 200,000 records that may wait for Kafka is some 60 MB."""
SINK_RESOURCES: Final[Resources] = {
    "requests": {"cpu": "250m", "memory": "1Gi", "ephemeral-storage": "64Mi"},
    "limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "512Mi"},
}
"""Measured: 0.8 GiB at 2 M trades of backlog with commits of 500,000."""
QUERY_RESOURCES: Final[Resources] = {
    "requests": {"cpu": "100m", "memory": "768Mi", "ephemeral-storage": "64Mi"},
    "limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "1536Mi"},
}
"""Memory: DuckDB's 512 MiB, a tail of 256 MiB, and the libraries. Storage: /tmp and the logs."""
QUERY_TMP_SIZE: Final = "1280Mi"
"""The cache of data files, and room for their last blocks and what else lies there."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a Deployment is made of.

    Args:
        effective: The pipeline.
        config: The operator's configuration.
        uid: Of the resource; what owns the tables.
        secret_versions: Version by name of each secret that was read: pods roll when one changes.
        sinks: How many sinks there are to be; None: as the spec says.
    """

    effective: Effective
    config: OperatorConfig
    uid: str
    secret_versions: Mapping[str, str]
    sinks: int | None = None


def deployments(inputs: Inputs) -> list[Manifest]:
    """Return all Deployments, with the replicas that they have while the pipeline runs."""
    sources = [_ingest(inputs, source) for source in inputs.effective.pipeline.spec.ingestion]
    return [*sources, _sink(inputs), _query(inputs)]


def _ingest(inputs: Inputs, source: IngestionSpec) -> Manifest:
    component = Component(
        name=INGEST,
        source=source.name,
        image=inputs.config.images.ingest,
        port=("metrics", METRICS_PORT),
        grace_s=INGEST_GRACE_S,
        environment=ingest_environment(inputs.effective, inputs.uid, source.name),
        resources=merged(INGEST_RESOURCES, source.resources),
    )
    # Two feeds of one source at once would write each trade twice for the sinks to sort out, and count gaps that are
    # none; two readers of one file each row. What a feed misses in the seconds between is a gap, which the metrics and
    # `k2 audit` show.
    return _deployment(inputs, component, 1, {"type": "Recreate"})


def _sink(inputs: Inputs) -> Manifest:
    component = Component(
        name=SINK,
        source=None,
        image=inputs.config.images.sink,
        port=("metrics", METRICS_PORT),
        grace_s=SINK_GRACE_S,
        environment=sink_environment(inputs.effective, inputs.uid),
        resources=merged(SINK_RESOURCES, inputs.effective.pipeline.spec.sink.resources),
    )
    replicas = inputs.effective.pipeline.spec.sink.replicas if inputs.sinks is None else inputs.sinks
    return _deployment(inputs, component, replicas, one_more_first())


def _query(inputs: Inputs) -> Manifest:
    component = Component(
        name=QUERY,
        source=None,
        image=inputs.config.images.query,
        port=("http", QUERY_PORT),
        grace_s=QUERY_GRACE_S,
        environment=query_environment(inputs.effective, inputs.uid),
        resources=merged(QUERY_RESOURCES, inputs.effective.pipeline.spec.query.resources),
        linger_s=QUERY_LINGER_S,
        tmp_size=QUERY_TMP_SIZE,
    )
    return _deployment(inputs, component, inputs.effective.pipeline.spec.query.replicas, one_more_first())


def one_more_first() -> Manifest:
    """Return a strategy: a new pod is ready before an old one goes: partitions are handed over, answers go on."""
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def _deployment(inputs: Inputs, component: Component, replicas: int, strategy: Manifest) -> Manifest:
    effective = inputs.effective
    pipeline = effective.pipeline.metadata.name
    name = effective.names.workload(component.name, component.source)
    digest = config_hash(effective, component, inputs.secret_versions)
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.name,
        "metadata": metadata(effective, name, labels(pipeline, component.name, component.source)),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": selector(pipeline, component.name, component.source)},
            "strategy": strategy,
            "template": pod_template(effective, inputs.config, component, digest),
        },
    }


def config_hash(effective: Effective, component: Component, secret_versions: Mapping[str, str]) -> str:
    """Return a digest of what a component's pods read at their start; another one rolls them.

    Left out is what they do not read, so that more sinks do not restart the feed: the other components' parts, replicas
    and resources.
    """
    document = pipeline_document(effective)
    spec = document["spec"]
    kept: dict[str, Any] = {
        "name": document["metadata"]["name"],
        "namespace": spec["namespace"],
        "topics": dict(effective.topics()),
    }
    if component.name == INGEST:
        kept["source"] = next(_fed(one) for one in spec["ingestion"] if one["name"] == component.source)
        if "files" in kept["source"] and effective.storage.s3 is not None:
            kept["s3"] = effective.storage.s3.model_dump(mode="json", by_alias=True)
    else:
        kept["storage"] = effective.storage.model_dump(mode="json", by_alias=True)
        kept[component.name] = _without(spec.get(component.name, {}))
    if component.name in (SINK, QUERY) and (known := _references(effective)):
        kept["references"] = known
    if component.name == SINK:
        kept["priorities"] = _priorities(effective)
        kept["degradation"] = {name: spec["degradation"][name] for name in _SINKS_DEGRADATION}
    referred = {
        variable["valueFrom"]["secretKeyRef"]["name"] for variable in component.environment if "valueFrom" in variable
    }
    referred |= {ref.name for _, ref in authorities(effective, component.name).values()}
    kept["secrets"] = {name: secret_versions.get(name, "") for name in sorted(referred)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


_SINKS_DEGRADATION: Final = ("mode", "levels", "watchMemory", "drainRecordsPerSecond")
"""What of it a sink reads; the rest is the controller's."""


def _priorities(effective: Effective) -> dict[str, int]:
    """Return the class of each symbol that is listed: sinks also report trades of any other."""
    return {symbol: int(priority) for symbol, priority in sorted(priorities(effective.pipeline.spec).items())}


def _references(effective: Effective) -> dict[str, list[str]]:
    """Return what the pipeline says of its symbols; nothing, if it says nothing."""
    known = references(effective.pipeline.spec)
    return {":".join(at): [str(steps.tick_size), str(steps.step_size)] for at, steps in sorted(known.items())}


_NOT_FED: Final = frozenset({"tickSize", "stepSize", "priority"})


def _fed(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an ingest reads of its source: not what sinks and queries know of its symbols."""
    kept = _without(source)
    for part in {"symbols", "files"} & kept.keys():
        kept[part] = [{key: one[key] for key in one if key not in _NOT_FED} for one in kept[part]]
    return kept


def merged(defaults: Resources, asked: ResourcesSpec | None) -> Resources:
    """Return what a pod asks for: the user's amounts where there are some, and no limit below a request."""
    if asked is None:
        return defaults
    found = {part: dict(amounts) for part, amounts in defaults.items()}
    given = {part: getattr(asked, part) for part in found}
    for part, amounts in given.items():
        if amounts is not None:
            found[part] |= amounts.model_dump(exclude_none=True)
    for kind, request in found["requests"].items():
        if quantity_value(request) > quantity_value(found["limits"][kind]):
            # One of the two is a default: the spec refuses requests above limits.
            lower, upper = ("limits", "requests") if _names(given["requests"], kind) else ("requests", "limits")
            found[lower][kind] = found[upper][kind]
    return found


def _names(amounts: ResourceAmounts | None, kind: str) -> bool:
    return amounts is not None and getattr(amounts, kind, None) is not None


def _without(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in {"replicas", "resources"}}
