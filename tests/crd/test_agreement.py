"""Random pipelines: what the model takes the API server takes, and what one refuses the other refuses."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, Final

from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from crds.definition import definition
from k2_core.errors import SpecError
from k2_core.quantity import quantity_value
from k2_core.spec import parse_pipeline, pipeline_faults
from support.crd_api import SMALLEST, Document, PipelineApi

SPEC: Final[Document] = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
SECRET: Final = SPEC["properties"]["query"]["properties"]["apiKeySecret"]
ABOVE_ZERO: Final = {"rule": "self.matches('[1-9]')", "message": "expected more than 0"}
LONGEST_LIST: Final = 3
LEVELS: Final[Document] = SPEC["properties"]["degradation"]["properties"]["levels"]["default"]
SCALING: Final = {"minReplicas": 1, "maxReplicas": 50, "targetUtilization": 0.7, "maxUtilization": 0.85}
QUICK: Final = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ANYTHING: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**12),
    # JSON has one kind of number: whether 2.0 is a whole one is for the writer of the file to decide.
    st.floats(-1, 10**6, allow_nan=False).filter(lambda value: not value.is_integer()),
    st.sampled_from(["", "a", "A", "a b", "-", "1", "Off", "s3://", "http://a", "é", "x" * 2_000]),
    st.just([]),
    st.just({}),
    st.just({"unknown": 1}),
)


def values(schema: Document) -> st.SearchStrategy[Any]:
    """Documents that fit a schema, but for rules."""
    match schema.get("type"):
        case "array":
            items = values(schema["items"])
            return st.lists(items, min_size=schema["minItems"], max_size=LONGEST_LIST, unique_by=by_name)
        case "object":
            return objects(schema)
        case _:
            return scalars(schema)


def by_name(item: Document) -> str:
    return str(item["name"])


def scalars(schema: Document) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 10**9) | st.from_regex(schema["pattern"], fullmatch=True)
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "string":
            pattern: str = schema["pattern"]
            texts = st.from_regex(pattern, fullmatch=True)
            decimal = ABOVE_ZERO in schema.get("x-kubernetes-validations", ())
            return texts.filter(
                lambda text: len(text) <= schema["maxLength"] and (not decimal or bool(text.strip("0.")))
            )
        case number:
            if number == "integer":
                return st.integers(schema["minimum"], schema["maximum"])
            exclusive = schema.get("exclusiveMinimum", False)
            return st.floats(schema["minimum"], schema["maximum"], exclude_min=exclusive)


def objects(schema: Document) -> st.SearchStrategy[Any]:
    required = {name: values(schema["properties"][name]) for name in schema.get("required", ())}
    optional = {name: values(part) for name, part in schema["properties"].items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional).map(by_the_rules)


def by_the_rules(part: Document) -> Document:
    """Turn what fits the schema into what fits the rules too."""
    if "venue" in part:
        return source(part)
    if "uri" in part or "uriSecret" in part or part.keys() == {"type"} or not part:
        return catalog(part)
    for keys, fitting in ((LEVELS.keys(), levels), (SCALING.keys(), replicas)):
        if part.keys() & keys:
            return part | fitting(part)
    if "requests" in part and "limits" in part:
        return part | {"requests": {kind: amount for kind, amount in part["requests"].items() if below(part, kind)}}
    if "caSecret" in part or ("url" in part and "name" not in part):
        return trino(part) if "url" in part else part | {"enabled": True}
    on_disk = not str(part.get("warehouse", "s3://")).startswith("s3://")
    return {key: value for key, value in part.items() if key != "s3" or not on_disk}


def source(part: Document) -> Document:
    """An exchange's symbols or files, as the venue is read."""
    exchange, kept = part["venue"] != "asx", dict(part)
    for field in ("files",) if exchange else ("market", "url", "restUrl", "symbols"):
        kept.pop(field, None)
    if "assetClass" in kept:
        kept["assetClass"] = "crypto" if exchange else "equities"
    if exchange:
        return {"symbols": [{"name": "BTCUSDT"}], **kept}
    return {"files": [{"name": "a", "path": "a.csv", "symbol": "BHP"}], **kept}


def catalog(part: Document) -> Document:
    """Exactly one of the two, of the type's kind and without a password; other empty parts stay as they are."""
    if "uri" not in part:
        return part
    kind = part.get("type", "sql")
    return {"type": kind, "uri": "https://catalog" if kind == "rest" else "postgresql+psycopg://k2@db/k2"}


def trino(part: Document) -> Document:
    """One secret at most, and TLS for it."""
    kept = {key: value for key, value in part.items() if key != "tokenSecret" or "passwordSecret" not in part}
    return kept | {"url": kept["url"].replace("http://", "https://")}


def query(part: Document, *, has_storage: bool) -> Document:
    """One Trino at most, in the mode that has one; the operator's with memory and cache enough, over no odd storage."""
    kept = {name: value for name, value in part.items() if name != "mode"}
    if "trino" in kept or has_storage:
        kept.pop("trinoCluster", None)
    cluster = kept.get("trinoCluster", {})
    cluster.pop("cacheSize", None)
    for node in (cluster.get(name, {}) for name in ("coordinator", "workers")):
        for amounts in node.get("resources", {}).values():
            amounts.pop("memory", None)
    return kept | {"mode": "distributed" if kept.keys() & {"trino", "trinoCluster"} else "single"}


def below(part: Document, kind: str) -> bool:
    limit = part["limits"].get(kind)
    return limit is None or quantity_value(str(part["requests"][kind])) <= quantity_value(str(limit))


def replicas(part: Document) -> Document:
    """The maxima above what they bound."""
    least, most, target, highest = (part.get(name, default) for name, default in SCALING.items())
    if target == highest:
        target, highest = SCALING["targetUtilization"], SCALING["maxUtilization"]
    return dict(zip(SCALING, [*sorted([least, most]), *sorted([target, highest])], strict=True))


def levels(part: Document) -> Document:
    """Entries and exits in order, with room between them; the default where there is none."""
    made = {name: {**LEVELS[name], **part.get(name, {})} for name in LEVELS}
    for trigger in ("UnreadRecords", "AgeSeconds", "MemoryRatio"):
        entry, leave = f"enter{trigger}", f"exit{trigger}"
        having = [level for level in made.values() if entry in level]
        entries = sorted(level[entry] for level in having)
        if any(higher < 1.001 * lower for lower, higher in pairwise(entries)):
            return LEVELS
        least = 0.0
        for level, value in zip(having, entries, strict=True):
            level[entry] = value
            most = 0.7 * value
            if leave in level:
                level[leave] = min(level[leave], int(most) if trigger == "UnreadRecords" else most)
                if level[leave] <= least:
                    del level[leave]
            least = level.get(leave, most)
    return made


def pipeline(spec: Document) -> Document:
    if "maxCommitIntervalSeconds" in spec.get("scaling", {}):
        interval_s = spec.get("sink", {}).get("commitIntervalSeconds", 10)
        spec["scaling"]["maxCommitIntervalSeconds"] = max(interval_s, spec["scaling"]["maxCommitIntervalSeconds"])
    if "query" in spec:
        spec["query"] = query(spec["query"], has_storage="storage" in spec)
    if "catalog" in spec.get("storage", {}) and not spec["storage"]["catalog"].keys() & {"uri", "uriSecret"}:
        spec["storage"]["catalog"]["uriSecret"] = {"name": "catalog", "key": "uri"}
    return {**SMALLEST, "spec": spec}


PIPELINES: Final = values(SPEC).map(pipeline)


def taken(document: Document) -> bool:
    try:
        parse_pipeline(document)
    except SpecError as error:
        note(f"the model: {error}")
        return False
    return True


@QUICK
@given(document=PIPELINES)
def test_what_fits_is_taken_by_both(document: Document, api: PipelineApi) -> None:
    answer = api.judge(document)
    assert answer.accepted, answer.message
    assert taken(document)
    assert parse_pipeline(answer.document).spec == parse_pipeline(document).spec


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything below a node."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(deeper for key, child in children for deeper in places(child, (*path, key)))]


@st.composite
def damaged(draw: st.DrawFn) -> Document:
    """A pipeline with one value replaced, removed or added."""
    document = copy.deepcopy(draw(PIPELINES))
    *parents, last = draw(st.sampled_from(places(document["spec"])[1:]))
    node = document["spec"]
    for part in parents:
        node = node[part]
    match draw(st.sampled_from(["replace", "remove", "add"])):
        case "replace":
            node[last] = draw(ANYTHING)
        case "remove":
            del node[last]
        case "add" if isinstance(node, list):
            node.append(copy.deepcopy(node[last]))
        case "add":
            node["more"] = draw(ANYTHING)
    return document


@QUICK
@given(document=damaged())
@example(document={**SMALLEST, "spec": {"ingestion": [None]}})
def test_both_say_the_same_of_what_is_damaged(document: Document, api: PipelineApi) -> None:
    answer = api.judge(document)
    note(f"the API server: {answer.message}")
    assert answer.accepted == taken(document)


FIGURES: Final = {
    "UnreadRecords": st.sampled_from([1, 699, 700, 701, 1_000, 7_000, 7_001, 10_000, 100_000, 700_000, 700_001, 10**9]),
    "AgeSeconds": st.sampled_from([1, 6.9, 7, 7.1, 10, 20.9, 21, 30, 84, 84.1, 120, 3_600]),
    "MemoryRatio": st.sampled_from([0.1, 0.49, 0.491, 0.56, 0.63, 0.631, 0.665, 0.67, 0.7, 0.8, 0.9, 0.95, 1]),
}


@st.composite
def thresholds(draw: st.DrawFn) -> Document:
    """A few figures of levels, at and beside the bounds that the others set."""
    made: Document = {}
    for _ in range(draw(st.integers(1, 4))):
        level, trigger = draw(st.sampled_from(list(LEVELS))), draw(st.sampled_from(list(FIGURES)))
        made.setdefault(level, {})[draw(st.sampled_from(["enter", "exit"])) + trigger] = draw(FIGURES[trigger])
    return made


@settings(QUICK, max_examples=300)
@given(levels=thresholds())
def test_both_say_the_same_of_thresholds_and_name_the_same_field(levels: Document, api: PipelineApi) -> None:
    document = {**SMALLEST, "spec": {**SMALLEST["spec"], "degradation": {"levels": levels}}}
    answer = api.judge(document)
    note(f"the API server: {answer.message}")
    faults = pipeline_faults(document)
    assert answer.accepted == (not faults)
    assert all(fault.path in answer.message for fault in faults)
