"""The K2Pipeline: what is read, what follows from it, and one line for each thing that is wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic import ValidationError

from k2_core.errors import SpecError
from k2_core.spec import Pipeline, inactive_settings, load_pipeline, parse_pipeline, pipeline_faults

MANIFESTS: Final = Path(__file__).parents[2] / "manifests"
SMALLEST: Final[dict[str, Any]] = {
    "apiVersion": "k2.dev/v1alpha1",
    "kind": "K2Pipeline",
    "metadata": {"name": "trades"},
    "spec": {"ingestion": [{"name": "binance", "venue": "binance", "symbols": [{"name": "BTCUSDT"}]}]},
}
SECRET: Final = {"name": "a-secret", "key": "value"}
RESOURCES: Final = {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
FULL: Final[dict[str, Any]] = {
    "apiVersion": "k2.dev/v1alpha1",
    "kind": "K2Pipeline",
    "metadata": {
        "name": "market-data",
        "namespace": "k2",
        "uid": "8b5f6f0e-5f3c-4f5a-9d6a-0c1b2a3d4e5f",
        "generation": 3,
        "labels": {"team": "data"},
    },
    "spec": {
        "namespace": "market",
        "suspend": True,
        "deletionPolicy": "Delete",
        "kafka": {
            "bootstrapServers": "kafka-0:9092,kafka-1:9092",
            "schemaRegistryUrl": "http://registry:8081",
            "tls": {"enabled": True, "caSecret": SECRET},
            "sasl": {"mechanism": "SCRAM-SHA-512", "usernameSecret": SECRET, "passwordSecret": SECRET},
            "replicationFactor": 3,
        },
        "storage": {
            "catalog": {"type": "rest", "uriSecret": SECRET},
            "warehouse": "s3://lake/warehouse",
            "s3": {
                "endpoint": "http://s3:9000",
                "region": "eu-central-1",
                "accessKeySecret": SECRET,
                "secretKeySecret": SECRET,
            },
            "retentionDays": 30,
        },
        "redis": {"address": "redis:6379", "tls": True, "passwordSecret": SECRET},
        "ingestion": [
            {
                "name": "binance-spot",
                "venue": "binance",
                "market": "spot",
                "assetClass": "crypto",
                "url": "wss://stream.binance.com:9443",
                "restUrl": "https://api.binance.com",
                "symbols": [{"name": "BTCUSDT", "priority": "critical"}, {"name": "DOGEUSDT", "priority": "low"}],
                "partitions": 12,
                "gapThresholdIds": 10,
                "silenceThresholdSeconds": 30,
                "resources": RESOURCES,
            },
            {"name": "more", "venue": "binance", "symbols": [{"name": "ETHUSDT"}]},
            {
                "name": "asx",
                "venue": "asx",
                "files": [{"name": "bhp-10", "path": "s3://ticks/7078.csv", "symbol": "BHP", "priority": "low"}],
            },
        ],
        "sink": {
            "replicas": 2,
            "commitIntervalSeconds": 5,
            "commitRecords": 100000,
            "compressionLevel": 9,
            "resources": RESOURCES,
        },
        "query": {
            "mode": "single",
            "replicas": 2,
            "port": 8080,
            "apiKeySecret": SECRET,
            "commitLagSeconds": 60,
            "tailMaxBytes": 1048576,
            "resources": RESOURCES,
        },
        "maintenance": {"schedule": "0 3 * * *", "snapshotRetentionDays": 14},
        "scaling": {"mode": "Recommend", "maxReplicas": 12, "maxCommitIntervalSeconds": 60},
        "degradation": {
            "mode": "Auto",
            "levels": {"soft": {"enterAgeSeconds": 5}, "circuitBreak": {"exitUnreadRecords": 500_000}},
            "drainRecordsPerSecond": 50_000,
        },
    },
    "status": {"phase": "Running"},
}


def changed(path: str, value: Any, document: dict[str, Any] = FULL) -> dict[str, Any]:
    """The document with one value replaced, added, or (value ...) removed; `ingestion.0.venue` is a path."""
    copied = copy.deepcopy(document)
    *parents, last = path.split(".")
    node: Any = copied
    for part in parents:
        node = node[int(part) if part.isdigit() else part]
    if value is ...:
        del node[last]
    else:
        node[int(last) if last.isdigit() else last] = value
    return copied


class TestReading:
    def test_the_smallest_has_the_defaults(self) -> None:
        spec = parse_pipeline(SMALLEST).spec
        assert (spec.kafka, spec.storage, spec.namespace) == (None, None, "market")
        assert (spec.sink.replicas, spec.sink.commit_interval_seconds, spec.query.port) == (1, 10, 8000)
        assert spec.ingestion[0].stream_url == "wss://stream.binance.com:9443"
        assert spec.ingestion[0].topic_partitions == 50

    def test_every_field(self) -> None:
        """Each field that the document names comes out under its own name: nothing is ignored."""
        dumped = parse_pipeline(FULL).model_dump(by_alias=True, exclude_unset=True, mode="json")
        expected = copy.deepcopy(FULL)
        del expected["status"], expected["metadata"]["labels"]
        assert dumped == expected

    def test_symbols_in_the_order_of_the_file(self) -> None:
        assert parse_pipeline(FULL).spec.ingestion[0].symbol_names == ("BTCUSDT", "DOGEUSDT")

    def test_it_does_not_change(self) -> None:
        pipeline = parse_pipeline(SMALLEST)
        with pytest.raises(ValidationError, match="frozen"):
            pipeline.spec.__setattr__("namespace", "other")

    def test_the_document_is_left_alone(self) -> None:
        document = copy.deepcopy(FULL)
        parse_pipeline(document)
        assert document == FULL


class TestOwner:
    def test_in_a_cluster_the_uid(self) -> None:
        assert parse_pipeline(FULL).uid == "8b5f6f0e-5f3c-4f5a-9d6a-0c1b2a3d4e5f"

    def test_on_a_laptop_the_name(self) -> None:
        assert parse_pipeline(SMALLEST).uid == "local/default/trades"


class TestGroups:
    def test_each_has_its_own(self) -> None:
        pipeline = parse_pipeline(FULL)
        assert pipeline.sink_group == "k2.market.market-data.sink"
        assert pipeline.committed_group == "k2.market.market-data.committed"


class TestInactive:
    def test_defaults_are_not_worth_a_word(self) -> None:
        assert inactive_settings(parse_pipeline(SMALLEST), laptop=True) == ()

    def test_nor_are_they_where_they_are_written_down(self) -> None:
        """The API server writes every default into the resource."""
        written = parse_pipeline(SMALLEST).model_dump(by_alias=True, mode="json")
        assert inactive_settings(parse_pipeline(written), laptop=True) == ()

    def test_each_other_is_named_once(self) -> None:
        inactive = (
            "spec.redis",
            "spec.maintenance.schedule",
        )
        assert inactive_settings(parse_pipeline(FULL)) == inactive
        of_the_operator = (
            "spec.suspend",
            "spec.deletionPolicy",
            "spec.ingestion[].resources",
            "spec.sink.resources",
            "spec.query.replicas",
            "spec.query.resources",
        )
        assert inactive_settings(parse_pipeline(FULL), laptop=True) == inactive + of_the_operator

    @pytest.mark.parametrize(
        ("query", "laptop", "expected"),
        [
            ({"mode": "distributed", "trino": {"url": "http://trino:8080"}}, False, ()),
            ({"mode": "distributed", "trino": {"url": "http://trino:8080"}}, True, ("spec.maintenance.schedule",)),
            ({}, False, ("spec.maintenance.schedule", "spec.maintenance.snapshotRetentionDays")),
        ],
        ids=["distributed", "on-a-laptop", "single"],
    )
    def test_maintenance_wants_a_trino_and_an_operator(
        self, query: dict[str, Any], laptop: bool, expected: tuple[str, ...]
    ) -> None:
        spec = SMALLEST["spec"] | {
            "query": query,
            "maintenance": {"schedule": "0 3 * * *", "snapshotRetentionDays": 30},
        }
        assert inactive_settings(parse_pipeline(SMALLEST | {"spec": spec}), laptop=laptop) == expected


class TestTopics:
    def test_sources_of_one_venue_share_a_topic_with_the_most_partitions(self) -> None:
        topics = parse_pipeline(FULL).trades_topics()
        assert topics == {"market.crypto.trades.binance": 50, "market.equities.trades.asx": 30}

    def test_in_whatever_order_they_stand(self) -> None:
        backward = changed("spec.ingestion", FULL["spec"]["ingestion"][::-1])
        assert parse_pipeline(backward).trades_topics() == parse_pipeline(FULL).trades_topics()

    def test_the_namespace_is_its_prefix(self) -> None:
        pipeline = parse_pipeline(changed("spec.namespace", "test_1"))
        assert pipeline.trades_topic(pipeline.spec.ingestion[0]) == "test_1.crypto.trades.binance"


CASES: Final = [
    ("apiVersion", "v1", "apiVersion", "'v1'", "'k2.dev/v1alpha1'"),
    ("kind", "Pod", "kind", "'Pod'", "'K2Pipeline'"),
    ("metadata", ..., "metadata", "nothing", "a value"),
    ("metadata.name", ..., "metadata.name", "nothing", "a value"),
    ("metadata.name", "Trades", "metadata.name", "'Trades'", "string should match pattern"),
    ("metadata.name", "a\n", "metadata.name", r"'a\n'", "string should match pattern"),
    ("spec", ..., "spec", "nothing", "a value"),
    ("spec", [], "spec", "[]", "a valid dictionary"),
    ("spec.sinc", {}, "spec.sinc", "an unknown key", "only keys that the resource has"),
    ("spec.namespace", "Market", "spec.namespace", "'Market'", "string should match pattern"),
    ("spec.namespace", 5, "spec.namespace", "5", "a valid string"),
    ("spec.ingestion", ..., "spec.ingestion", "nothing", "a value"),
    ("spec.ingestion", [], "spec.ingestion", "[]", "at least 1 item"),
    ("spec.ingestion", None, "spec.ingestion", "nothing", "a value"),
    ("spec.ingestion.0", "binance", "spec.ingestion[0]", "'binance'", "a valid dictionary"),
    ("spec.ingestion.0.venue", "kraken", "spec.ingestion[0].venue", "'kraken'", "'binance'"),
    ("spec.ingestion.1.venue", ..., "spec.ingestion[1].venue", "nothing", "a value"),
    ("spec.ingestion.0.market", "futures", "spec.ingestion[0].market", "'futures'", "'spot'"),
    ("spec.ingestion.0.name", "a_b", "spec.ingestion[0].name", "'a_b'", "string should match pattern"),
    ("spec.ingestion.0.url", "http://x", "spec.ingestion[0].url", "'http://x'", "string should match pattern"),
    ("spec.ingestion.0.url", "wss://x/ws", "spec.ingestion[0].url", "'wss://x/ws'", "string should match pattern"),
    ("spec.ingestion.0.restUrl", "ftp://x", "spec.ingestion[0].restUrl", "'ftp://x'", "string should match pattern"),
    ("spec.ingestion.0.rest_url", "http://x", "spec.ingestion[0].rest_url", "an unknown key", "only keys"),
    ("spec.ingestion.0.symbols", [], "spec.ingestion[0].symbols", "[]", "at least 1 item"),
    ("spec.ingestion.0.symbols.1", "ETHUSDT", "spec.ingestion[0].symbols[1]", "'ETHUSDT'", "a valid dictionary"),
    ("spec.ingestion.0.symbols.0.name", "btc", "spec.ingestion[0].symbols[0].name", "'btc'", "should match pattern"),
    (
        "spec.ingestion.0.symbols.0.priority",
        "high",
        "spec.ingestion[0].symbols[0].priority",
        "'high'",
        "'critical', 'n",
    ),
    (
        "spec.ingestion.0.symbols.0.tickSize",
        0.01,
        "spec.ingestion[0].symbols[0].tickSize",
        "0.01",
        "the same in quotes: exact numbers are text",
    ),
    ("spec.ingestion.0.symbols.0.stepSize", "0.0", "spec.ingestion[0].symbols[0].stepSize", "'0.0'", "more than 0"),
    (
        "spec.ingestion.0.symbols",
        [{"name": "A"}, {"name": "A"}],
        "spec.ingestion[0].symbols[1]",
        "A a second time",
        "each symbol once",
    ),
    (
        "spec.ingestion.1.name",
        "binance-spot",
        "spec.ingestion[1]",
        "binance-spot a second time",
        "each name once",
    ),
    ("spec.ingestion.0.partitions", 0, "spec.ingestion[0].partitions", "0", "greater than or equal to 1"),
    ("spec.ingestion.0.partitions", "many", "spec.ingestion[0].partitions", "'many'", "a valid integer"),
    ("spec.kafka.bootstrapServers", "kafka", "spec.kafka.bootstrapServers", "'kafka'", "string should match pattern"),
    ("spec.kafka.sasl.mechanism", "GSSAPI", "spec.kafka.sasl.mechanism", "'GSSAPI'", "'PLAIN', 'SCRAM-SHA-256' or"),
    ("spec.kafka.sasl.passwordSecret", ..., "spec.kafka.sasl.passwordSecret", "nothing", "a value"),
    ("spec.kafka.sasl.password", "hunter2", "spec.kafka.sasl.password", "an unknown key", "only keys"),
    ("spec.storage.catalog.uri", "http://x", "spec.storage.catalog.uri", "both", "exactly one of uri and uriSecret"),
    ("spec.storage.catalog.uriSecret", ..., "spec.storage.catalog.uri", "none", "exactly one of uri and uriSecret"),
    ("spec.storage.catalog.type", "hive", "spec.storage.catalog.type", "'hive'", "'sql' or 'rest'"),
    ("spec.storage.warehouse", ..., "spec.storage.warehouse", "nothing", "a value"),
    ("spec.sink.replicas", 0, "spec.sink.replicas", "0", "greater than or equal to 1"),
    ("spec.sink.commitIntervalSeconds", 0.1, "spec.sink.commitIntervalSeconds", "0.1", "greater than or equal to 0.5"),
    ("spec.sink.commitRecords", 10**9, "spec.sink.commitRecords", "1000000000", "less than or equal to 2000000"),
    ("spec.sink.compressionLevel", 22, "spec.sink.compressionLevel", "22", "less than or equal to 19"),
    ("spec.sink.replicas", "2", "spec.sink.replicas", "'2'", "a valid integer"),
    ("spec.scaling.mode", False, "spec.scaling.mode", "False", "in quotes: YAML reads a bare Off as false"),
    ("spec.scaling.maxReplicas", 101, "spec.scaling.maxReplicas", "101", "less than or equal to 100"),
    (
        "spec.scaling",
        {"minReplicas": 3, "maxReplicas": 2},
        "spec.scaling.maxReplicas",
        "2",
        "at least minReplicas, 3",
    ),
    (
        "spec.scaling.maxCommitIntervalSeconds",
        4.5,
        "spec.scaling.maxCommitIntervalSeconds",
        "4.5",
        "at least sink.commitIntervalSeconds, 5",
    ),
    (
        "spec.degradation.levels.graceful",
        {"enterUnreadRecords": 900},
        "spec.degradation.levels.graceful.enterUnreadRecords",
        "900",
        "above 1000, that of soft",
    ),
    (
        "spec.degradation.levels.circuitBreak.exitUnreadRecords",
        800_000,
        "spec.degradation.levels.circuitBreak.exitUnreadRecords",
        "800000",
        "at least 30 % below the entry 1000000, at most 700000",
    ),
    (
        "spec.degradation.levels.normal",
        {},
        "spec.degradation.levels.normal",
        "an unknown key",
        "only keys that the resource has",
    ),
    ("spec.deletionPolicy", "Keep", "spec.deletionPolicy", "'Keep'", "'Retain' or 'Delete'"),
    ("metadata.name", "a" * 51, "metadata.name", f"'{'a' * 51}'", "string should"),
    ("metadata.name", "1a", "metadata.name", "'1a'", "string should match pattern"),
    (
        "spec.sink.resources",
        {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}},
        "spec.sink.resources.requests.memory",
        "2Gi",
        "at most limits.memory, 1Gi",
    ),
    ("spec.query.mode", "cluster", "spec.query.mode", "'cluster'", "'single'"),
    ("spec.query.port", 80, "spec.query.port", "80", "greater than or equal to 1024"),
    ("spec.query.tailMaxBytes", 1, "spec.query.tailMaxBytes", "1", "greater than or equal to 1048576"),
]


class TestRefused:
    @pytest.mark.parametrize(
        ("at", "value", "path", "found", "expected"), CASES, ids=[f"{case[0]}={str(case[1])[:15]}" for case in CASES]
    )
    def test_each_part(self, at: str, value: Any, path: str, found: str, expected: str) -> None:
        with pytest.raises(SpecError) as caught:
            parse_pipeline(changed(at, value))
        error = caught.value
        assert (error.path, error.found, expected in error.expected) == (path, found, True), error
        assert str(error) == f"{error.path}: found {error.found}, expected {error.expected}"
        assert "\n" not in str(error)
        assert "more)" not in str(error)

    def test_the_only_item_of_a_list_is_one_fault(self) -> None:
        # pydantic reports the list as too short as well.
        with pytest.raises(
            SpecError, match=r"^spec\.ingestion\[0\]\.venue: found 'kraken', expected 'binance' or 'asx'$"
        ):
            parse_pipeline(changed("spec.ingestion.0.venue", "kraken", SMALLEST))

    def test_several_faults_are_counted(self) -> None:
        twice = changed("spec.sink.replicas", 0, changed("spec.query.port", 1))
        with pytest.raises(SpecError, match=r"^spec\.sink\.replicas: found 0, .* \(and 1 more\)$"):
            parse_pipeline(twice)

    def test_all_faults_in_the_order_of_the_model(self) -> None:
        twice = changed("spec.sink.replicas", 0, changed("spec.query.port", 1))
        assert [fault.path for fault in pipeline_faults(twice)] == ["spec.sink.replicas", "spec.query.port"]
        assert [fault.path for fault in pipeline_faults("text")] == [""]
        assert pipeline_faults(FULL) == ()

    def test_a_login_in_a_url_is_not_repeated(self) -> None:
        with pytest.raises(SpecError, match=r"found 'http://\*\*\*@registry'") as caught:
            parse_pipeline(changed("spec.kafka.schemaRegistryUrl", "http://k2:hunter2@registry"))
        assert "hunter2" not in str(caught.value)

    def test_a_list_that_is_empty_and_a_fault_elsewhere(self) -> None:
        twice = changed("spec.ingestion", [], changed("spec.query.port", 1))
        with pytest.raises(SpecError, match=r"spec\.ingestion: found \[\], .* \(and 1 more\)$"):
            parse_pipeline(twice)

    @pytest.mark.parametrize("document", [None, [], "text", 7], ids=["nothing", "list", "text", "number"])
    def test_what_is_no_mapping(self, document: object) -> None:
        with pytest.raises(SpecError, match=r"found a document of type .*, expected a mapping with kind: K2Pipeline"):
            parse_pipeline(document)

    def test_long_values_are_cut(self) -> None:
        with pytest.raises(SpecError) as caught:
            parse_pipeline(changed("kind", "x" * 5_000))
        assert len(str(caught.value)) < 200
        assert caught.value.found.endswith("...")


class TestFiles:
    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump(FULL))
        assert load_pipeline(path) == parse_pipeline(FULL)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param(b"", "found a document of type NoneType", id="empty"),
            pytest.param(
                yaml.safe_dump(SMALLEST | {5: 1}).encode(),
                "[5]: found 5, expected keys should be strings",
                id="number-as-key",
            ),
            pytest.param(b"spec: [", "yaml, line 1, column 8: expected the node content", id="no-yaml"),
        ],
    )
    def test_each_bad_file_is_one_line(self, content: bytes, message: str, tmp_path: Path) -> None:
        path = tmp_path / "pipeline.yaml"
        path.write_bytes(content)
        with pytest.raises(SpecError) as caught:
            load_pipeline(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.name)
    def test_those_that_ship(self, path: Path) -> None:
        documents = list(yaml.safe_load_all(path.read_text()))
        if [document["kind"] for document in documents] == ["K2Pipeline"]:
            assert isinstance(load_pipeline(path), Pipeline)
