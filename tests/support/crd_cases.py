"""One table of K2Pipelines for the model and for the API server: what both accept, what both refuse and by which field.

Each case is a patch, in YAML, to the smallest pipeline. `rule` is a part of the CEL rule that a case is about: a test
finds rules without an accepted and a refused case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from support.crd_api import SMALLEST, Document, patched

_STORAGE: Final = "storage: {warehouse: 's3://lake/w', catalog: {uri: 'postgresql://db/k2'}"
_S3: Final = "accessKeySecret: {name: s3, key: id}, secretKeySecret: {name: s3, key: secret}"


def _trino(text: str) -> str:
    return f"query: {{mode: distributed, trino: {{{text}}}}}"


def _cluster(text: str) -> str:
    return f"query: {{mode: distributed, trinoCluster: {{{text}}}}}"


@dataclass(frozen=True, slots=True)
class Case:
    """A document and the verdict.

    Args:
        id: What is particular to it.
        patch: Of the smallest pipeline's spec; of the whole document where it starts with `metadata:`.
        field: The path that is refused; None for an accepted document.
        rule: Part of the CEL rule that it is about, if any.
    """

    id: str
    patch: str
    field: str | None = None
    rule: str | None = None

    @property
    def document(self) -> Document:
        """The whole pipeline."""
        patch = yaml.safe_load(self.patch)
        return patched(SMALLEST, patch if set(patch) <= {"metadata", "status"} else {"spec": patch})


@dataclass(frozen=True, slots=True)
class Change:
    """A pipeline, what it becomes, and the field that forbids it; None where it may."""

    id: str
    before: str
    after: str
    field: str | None = None
    rule: str | None = None

    @property
    def documents(self) -> tuple[Document, Document]:
        """Before and after."""
        old, new = (patched(SMALLEST, {"spec": yaml.safe_load(text)}) for text in (self.before, self.after))
        return old, new


def _source(more: str) -> str:
    return f"ingestion: [{{name: binance, venue: binance, symbols: [{{name: BTCUSDT}}], {more}}}]"


def _symbol(more: str) -> str:
    return _source(f"symbols: [{{name: A, {more}}}]")


def _files(more: str) -> str:
    return f"ingestion: [{{name: asx, venue: asx, files: [{{name: a, path: a.csv, symbol: BHP}}], {more}}}]"


def _path(path: str) -> str:
    return f"ingestion: [{{name: asx, venue: asx, files: [{{name: a, path: '{path}', symbol: BHP}}]}}]"


def _resources(part: str, resources: str) -> str:
    return f"{part}: {{resources: {resources}}}"


def _levels(levels: str) -> str:
    return f"degradation: {{levels: {levels}}}"


_BELOW: Final = {"graceful": "soft", "aggressive": "graceful", "circuitBreak": "aggressive"}
_ENTRIES: Final = {
    "soft": {"UnreadRecords": 1_000, "AgeSeconds": 10, "MemoryRatio": 0.70},
    "graceful": {"UnreadRecords": 10_000, "AgeSeconds": 30, "MemoryRatio": 0.80},
    "aggressive": {"UnreadRecords": 100_000, "AgeSeconds": 120, "MemoryRatio": 0.90},
    "circuitBreak": {"UnreadRecords": 1_000_000, "MemoryRatio": 0.95},
}
"""By default."""
_EXITS: Final = [(level, trigger, entry) for level, triggers in _ENTRIES.items() for trigger, entry in triggers.items()]


_STEP: Final = {"UnreadRecords": 1, "AgeSeconds": 0.01, "MemoryRatio": 0.01}


def _figure(trigger: str, value: float) -> float:
    return round(value) if trigger == "UnreadRecords" else round(value, 3)


def _entries_in_order() -> Iterator[Case]:
    """Each entry just above that of the level below, and at it."""
    for above, below in _BELOW.items():
        for trigger, entry in _ENTRIES[below].items():
            field, rule = f"enter{trigger}", f"self.{above}.enter{trigger} > self.{below}.enter{trigger}"
            path, more = f"spec.degradation.levels.{above}.{field}", _figure(trigger, entry + _STEP[trigger])
            yield Case(f"{above}-{field}-just-above", _levels(f"{{{above}: {{{field}: {more}}}}}"), rule=rule)
            yield Case(f"{above}-{field}-at-{below}", _levels(f"{{{above}: {{{field}: {entry}}}}}"), path, rule)


def _exits_in_order() -> Iterator[Case]:
    """Each exit against that of the level below, which is 0.7 of its entry or what is said."""
    for above, trigger, _ in _EXITS:
        if above not in _BELOW:
            continue
        below, field, step = _BELOW[above], f"exit{trigger}", _STEP[trigger]
        follows, rule = 0.7 * _ENTRIES[below][trigger], f"double(self.{above}.{field}) > (has(self.{below}.{field})"
        more, less, least = (_figure(trigger, follows + steps * step) for steps in (1, -1, -2))
        path, said = f"spec.degradation.levels.{above}.{field}", f"{below}: {{{field}: {least}}}"
        yield Case(f"{above}-{field}-above", _levels(f"{{{above}: {{{field}: {more}}}}}"), rule=rule)
        yield Case(f"{above}-{field}-not-above", _levels(f"{{{above}: {{{field}: {less}}}}}"), path, rule)
        yield Case(f"{above}-{field}-above-the-said", _levels(f"{{{above}: {{{field}: {less}}}, {said}}}"), rule=rule)
        yield Case(f"{above}-{field}-at-the-said", _levels(f"{{{above}: {{{field}: {least}}}, {said}}}"), path, rule)


def _exits_below_entries() -> Iterator[Case]:
    """Each exit at 0.7 of its entry, and just above that."""
    for level, trigger, entry in _EXITS:
        field, rule = f"exit{trigger}", f"double(self.{level}.exit{trigger}) <= "
        path, most = f"spec.degradation.levels.{level}.{field}", _figure(trigger, 0.7 * entry)
        more = _figure(trigger, most + _STEP[trigger])
        yield Case(f"{level}-{field}-at-its-most", _levels(f"{{{level}: {{{field}: {most}}}}}"), rule=rule)
        yield Case(f"{level}-{field}-above-that", _levels(f"{{{level}: {{{field}: {more}}}}}"), path, rule)


CASES: Final = (
    Case("smallest", "{}"),
    Case("nulls-are-absent", "{kafka: null, sink: null}"),
    Case("status-is-not-judged-as-spec", "status: {phase: Running}"),
    Case("name-too-long", f"metadata: {{name: {'a' * 51}}}", "metadata.name"),
    Case("name-starts-with-a-digit", "metadata: {name: 1a}", "metadata.name"),
    Case("unknown-key", "{sinc: {}}", "spec.sinc"),
    Case("unknown-key-inside", "{sink: {interval: 3}}", "spec.sink.interval"),
    Case("unknown-key-in-a-list", _source("prio: low"), "spec.ingestion[0].prio"),
    Case("namespace", "{namespace: test_1}"),
    Case("namespace-upper-case", "{namespace: Market}", "spec.namespace"),
    Case("namespace-number", "{namespace: 5}", "spec.namespace"),
    Case("suspended", "{suspend: true}"),
    Case("suspend-as-text", "{suspend: 'yes'}", "spec.suspend"),
    Case("delete", "{deletionPolicy: Delete}"),
    Case("delete-lower-case", "{deletionPolicy: delete}", "spec.deletionPolicy"),
    Case("no-ingestion", "{ingestion: null}", "spec.ingestion"),
    Case("empty-ingestion", "{ingestion: []}", "spec.ingestion"),
    Case("ingestion-as-mapping", "{ingestion: {name: a}}", "spec.ingestion"),
    Case(
        "two-sources",
        "ingestion: [{name: a, venue: binance, symbols: [{name: A}]}, {name: b, venue: binance, symbols: [{name: A}]}]",
    ),
    Case(
        "two-sources-of-one-name",
        "ingestion: [{name: a, venue: binance, symbols: [{name: A}]}, {name: a, venue: binance, symbols: [{name: B}]}]",
        "spec.ingestion[1]",
    ),
    Case(
        "too-many-sources",
        yaml.safe_dump(
            {"ingestion": [{"name": f"a{n}", "venue": "binance", "symbols": [{"name": "A"}]} for n in range(51)]}
        ),
        "spec.ingestion",
    ),
    Case("source-name", _source("name: a_b"), "spec.ingestion[0].name"),
    Case("no-venue", "ingestion: [{name: a, symbols: [{name: A}]}]", "spec.ingestion[0].venue"),
    Case("venue", _source("venue: kraken"), "spec.ingestion[0].venue"),
    Case("market", _source("market: futures"), "spec.ingestion[0].market"),
    Case("asset-class", _source("assetClass: fx"), "spec.ingestion[0].assetClass"),
    Case("asset-class-of-files", _source("assetClass: equities"), "spec.ingestion[0].assetClass", "self.assetClass =="),
    Case("said-as-the-default", _source("market: spot, assetClass: crypto"), rule="self.assetClass =="),
    Case("files", _files("assetClass: equities, partitions: 30"), rule="has(self.files) =="),
    Case("files-of-an-object-store", _path("s3://ticks/asx/2014/7078.csv"), rule="!has(self.symbols)"),
    Case("files-say-no-market", _path("/ticks/a b.csv"), rule="!has(self.market)"),
    Case("files-say-no-url", _path("../ticks/a.csv"), rule="!has(self.url)"),
    Case("files-say-no-rest-url", _path("a.csv"), rule="!has(self.restUrl)"),
    Case("symbols-of-an-exchange", _source("partitions: 3"), rule="|| has(self.symbols)"),
    Case("no-files", "ingestion: [{name: a, venue: asx}]", "spec.ingestion[0].files", "has(self.files) =="),
    Case("empty-files", _files("files: []"), "spec.ingestion[0].files"),
    Case(
        "file-twice",
        _files("files: [{name: a, path: b, symbol: B}, {name: a, path: c, symbol: C}]"),
        "spec.ingestion[0].files[1]",
    ),
    Case(
        "files-of-an-exchange",
        _source("files: [{name: a, path: a.csv, symbol: BHP}]"),
        "spec.ingestion[0].files",
        "has(self.files) ==",
    ),
    Case(
        "symbols-missing",
        "ingestion: [{name: a, venue: binance}]",
        "spec.ingestion[0].symbols",
        "|| has(self.symbols)",
    ),
    Case("market-of-files", _files("market: spot"), "spec.ingestion[0].market", "!has(self.market)"),
    Case("url-of-files", _files("url: 'ws://a'"), "spec.ingestion[0].url", "!has(self.url)"),
    Case("rest-url-of-files", _files("restUrl: 'http://a'"), "spec.ingestion[0].restUrl", "!has(self.restUrl)"),
    Case("symbols-of-files", _files("symbols: [{name: BHP}]"), "spec.ingestion[0].symbols", "!has(self.symbols)"),
    Case("crypto-of-files", _files("assetClass: crypto"), "spec.ingestion[0].assetClass", "self.assetClass =="),
    Case("path-of-a-bucket", _path("s3://ticks"), "spec.ingestion[0].files[0].path"),
    Case("path-of-another-protocol", _path("https://a/b.csv"), "spec.ingestion[0].files[0].path"),
    Case("path-of-many", _path("s3://ticks/*.csv"), "spec.ingestion[0].files[0].path"),
    Case("own-exchange", _source("url: 'ws://127.0.0.1:9443', restUrl: 'http://[::1]:8080'")),
    Case("url-with-a-path", _source("url: 'wss://x/ws'"), "spec.ingestion[0].url"),
    Case("url-of-another-protocol", _source("url: 'http://x'"), "spec.ingestion[0].url"),
    Case("rest-url", _source("restUrl: 'ftp://x'"), "spec.ingestion[0].restUrl"),
    Case("no-symbols", _source("symbols: []"), "spec.ingestion[0].symbols"),
    Case("symbol-twice", _source("symbols: [{name: A}, {name: A}]"), "spec.ingestion[0].symbols[1]"),
    Case("symbol-lower-case", _source("symbols: [{name: btc}]"), "spec.ingestion[0].symbols[0].name"),
    Case("symbol-as-text", _source("symbols: [BTCUSDT]"), "spec.ingestion[0].symbols[0]"),
    Case("priority", _source("symbols: [{name: A, priority: high}]"), "spec.ingestion[0].symbols[0].priority"),
    Case("ticks", _symbol("tickSize: '0.01', stepSize: '0.00001000'"), rule="self.matches('[1-9]')"),
    Case("ticks-at-their-least", _symbol("tickSize: '0.00000001', stepSize: '0.00000001'")),
    Case("ticks-at-their-most", _symbol(f"tickSize: '{'9' * 10}.{'9' * 8}', stepSize: '{'9' * 20}.{'9' * 8}'")),
    Case("tick-alone", _symbol("tickSize: '5'")),
    Case("tick-null", _symbol("tickSize: null, stepSize: '1'")),
    *(
        Case(f"{name}-{what}", _symbol(f"{name}: {value}"), f"spec.ingestion[0].symbols[0].{name}", rule)
        for name, digits in (("tickSize", 10), ("stepSize", 20))
        for what, value, rule in (
            ("0", "'0'", "self.matches('[1-9]')"),
            ("0-with-places", "'0.00000000'", "self.matches('[1-9]')"),
            ("below-0", "'-0.01'", None),
            ("of-nine-places", "'0.000000001'", None),
            ("of-nine-places-that-are-0", "'0.010000000'", None),
            ("above-the-column", f"'{'1' + '0' * digits}'", None),
            ("with-an-exponent", "'1e-2'", None),
            ("without-a-whole", "'.01'", None),
            ("without-places", "'1.'", None),
            ("with-zeros-before", "'00.1'", None),
            ("with-a-plus", "'+1'", None),
            ("with-a-space", "' 1'", None),
            ("in-words", "'NaN'", None),
            ("empty", "''", None),
            ("as-a-fraction", "0.01", None),
            ("as-a-number", "1", None),
            ("as-a-boolean", "true", None),
        )
    ),
    Case(
        "ticks-of-files",
        "ingestion: [{name: asx, venue: asx, files: [{name: a, path: a.csv, symbol: BHP, tickSize: '1'}]}]",
        "spec.ingestion[0].files[0].tickSize",
    ),
    Case("partitions-0", _source("partitions: 0"), "spec.ingestion[0].partitions"),
    Case("partitions-as-text", _source("partitions: '4'"), "spec.ingestion[0].partitions"),
    Case("partitions-too-many", _source("partitions: 1001"), "spec.ingestion[0].partitions"),
    Case("thresholds", _source("gapThresholdIds: 5, silenceThresholdSeconds: 1")),
    Case("gap-threshold-0", _source("gapThresholdIds: 0"), "spec.ingestion[0].gapThresholdIds"),
    Case("silence-over-a-day", _source("silenceThresholdSeconds: 86401"), "spec.ingestion[0].silenceThresholdSeconds"),
    Case("bootstrap", "kafka: {bootstrapServers: 'a:9092,[::1]:9092'}"),
    Case("no-bootstrap", "kafka: {}", "spec.kafka.bootstrapServers"),
    Case("bootstrap-without-a-port", "kafka: {bootstrapServers: kafka}", "spec.kafka.bootstrapServers"),
    Case("replication", "kafka: {bootstrapServers: 'a:1', replicationFactor: 0}", "spec.kafka.replicationFactor"),
    Case("registry", "kafka: {bootstrapServers: 'a:1', schemaRegistryUrl: 'http://r:8081/apis/ccompat/v7'}"),
    Case(
        "registry-with-login",
        "kafka: {bootstrapServers: 'a:1', schemaRegistryUrl: 'http://u:p@r'}",
        "spec.kafka.schemaRegistryUrl",
    ),
    Case("tls-off", "kafka: {bootstrapServers: 'a:1', tls: {enabled: false}}", rule="self.enabled ||"),
    Case(
        "tls-with-ca",
        "kafka: {bootstrapServers: 'a:1', tls: {caSecret: {name: kafka.ca, key: ca.crt}}}",
        rule="self.enabled ||",
    ),
    Case(
        "ca-without-tls",
        "kafka: {bootstrapServers: 'a:1', tls: {enabled: false, caSecret: {name: a, key: b}}}",
        "spec.kafka.tls.caSecret",
        "self.enabled ||",
    ),
    Case(
        "sasl-mechanism",
        "kafka: {bootstrapServers: 'a:1', sasl: {mechanism: GSSAPI, usernameSecret: {name: a, key: b}, "
        "passwordSecret: {name: a, key: b}}}",
        "spec.kafka.sasl.mechanism",
    ),
    Case(
        "sasl-without-password",
        "kafka: {bootstrapServers: 'a:1', sasl: {mechanism: PLAIN, usernameSecret: {name: a, key: b}}}",
        "spec.kafka.sasl.passwordSecret",
    ),
    Case("sql", _STORAGE + "}", rule="has(self.uri) != has(self.uriSecret)"),
    Case("sql-on-disk", "storage: {warehouse: 'file:///w', catalog: {uri: 'sqlite:////c.db'}}", rule="== 'rest'"),
    Case("rest", "storage: {warehouse: 's3://w1', catalog: {type: rest, uri: 'https://c/x'}}", rule="== 'rest'"),
    Case(
        "uri-in-a-secret",
        "storage: {warehouse: 's3://w1', catalog: {type: rest, uriSecret: {name: a, key: b}}}",
        rule="has(self.uri) != has(self.uriSecret)",
    ),
    Case("no-catalog", "storage: {warehouse: 's3://w1'}", "spec.storage.catalog"),
    Case("no-warehouse", "storage: {catalog: {uri: 'postgresql://db'}}", "spec.storage.warehouse"),
    Case("warehouse-path", _STORAGE.replace("s3://lake/w", "/w") + "}", "spec.storage.warehouse"),
    Case(
        "no-uri", "storage: {warehouse: 's3://w1', catalog: {}}", "spec.storage.catalog.uri", "!= has(self.uriSecret)"
    ),
    Case(
        "uri-and-secret",
        "storage: {warehouse: 's3://w1', catalog: {uri: 'postgresql://db', uriSecret: {name: a, key: b}}}",
        "spec.storage.catalog.uri",
        "!= has(self.uriSecret)",
    ),
    Case("catalog-type", "storage: {warehouse: 's3://w1', catalog: {type: hive}}", "spec.storage.catalog.type"),
    Case(
        "http-for-sql",
        "storage: {warehouse: 's3://w1', catalog: {uri: 'http://c'}}",
        "spec.storage.catalog.uri",
        "== 'rest'",
    ),
    Case(
        "sql-for-rest",
        "storage: {warehouse: 's3://w1', catalog: {type: rest, uri: 'postgresql://db'}}",
        "spec.storage.catalog.uri",
        "== 'rest'",
    ),
    Case("user-in-the-uri", "storage: {warehouse: 's3://w1', catalog: {uri: 'postgresql://k2@db'}}", rule="password="),
    Case(
        "password-in-the-uri",
        "storage: {warehouse: 's3://w1', catalog: {uri: 'postgresql://k2:pw@db'}}",
        "spec.storage.catalog.uri",
        "password=",
    ),
    Case(
        "password-as-option",
        "storage: {warehouse: 's3://w1', catalog: {uri: 'postgresql://db?password=pw'}}",
        "spec.storage.catalog.uri",
        "password=",
    ),
    Case("s3", f"{_STORAGE}, s3: {{endpoint: 'http://s3:9000', {_S3}}}}}", rule="startsWith('s3://')"),
    Case("s3-endpoint-path", f"{_STORAGE}, s3: {{endpoint: 'http://s3/x', {_S3}}}}}", "spec.storage.s3.endpoint"),
    Case("s3-without-keys", f"{_STORAGE}, s3: {{accessKeySecret: {{name: a, key: b}}}}}}", "secretKeySecret"),
    Case("s3-region", f"{_STORAGE}, s3: {{region: EU, {_S3}}}}}", "spec.storage.s3.region"),
    Case(
        "s3-for-disk",
        f"storage: {{warehouse: 'file:///w', catalog: {{uri: 'sqlite:///c'}}, s3: {{{_S3}}}}}",
        "spec.storage.s3",
        "startsWith('s3://')",
    ),
    Case("retention", _STORAGE + ", retentionDays: 1}"),
    Case("retention-0", _STORAGE + ", retentionDays: 0}", "spec.storage.retentionDays"),
    Case("redis", "redis: {address: 'redis:6379', tls: true, passwordSecret: {name: a, key: b}}"),
    Case("redis-url", "redis: {address: 'redis://redis:6379'}", "spec.redis.address"),
    Case("secret-name", "query: {apiKeySecret: {name: A, key: b}}", "spec.query.apiKeySecret.name"),
    Case("secret-key", "query: {apiKeySecret: {name: a, key: 'b/c'}}", "spec.query.apiKeySecret.key"),
    Case("secret-without-key", "query: {apiKeySecret: {name: a}}", "spec.query.apiKeySecret.key"),
    Case("sinks-0", "sink: {replicas: 0}", "spec.sink.replicas"),
    Case("sinks-101", "sink: {replicas: 101}", "spec.sink.replicas"),
    Case("interval-half", "sink: {commitIntervalSeconds: 0.5}", rule="self >= 0.5"),
    Case("interval-0", "sink: {commitIntervalSeconds: 0}", "spec.sink.commitIntervalSeconds", "self >= 0.5"),
    Case("interval-too-short", "sink: {commitIntervalSeconds: 0.4}", "spec.sink.commitIntervalSeconds"),
    Case("commit-records", "sink: {commitRecords: 999}", "spec.sink.commitRecords"),
    Case("compression-level", "sink: {compressionLevel: 20}", "spec.sink.compressionLevel"),
    Case("query-mode", "query: {mode: parallel}", "spec.query.mode"),
    Case("distributed", "query: {mode: distributed, trino: {url: 'http://t:8080'}}", rule="|| !has(self.trino)"),
    Case("trino-for-single", "query: {trino: {url: 'http://t:8080'}}", "spec.query.trino", "|| !has(self.trino)"),
    Case("distributed-alone", "query: {mode: distributed}", rule="|| !has(self.storage)"),
    Case(
        "trino-cluster",
        _cluster("workers: {replicas: 3}, cacheSize: 1Gi, gracePeriodSeconds: 60, accessSecretName: a"),
        rule="|| !has(self.trinoCluster)",
    ),
    Case("trino-cluster-with-defaults", _cluster("")),
    Case(
        "trino-cluster-for-single", "query: {trinoCluster: {}}", "spec.query.trinoCluster", "|| !has(self.trinoCluster)"
    ),
    Case(
        "trino-twice",
        "query: {mode: distributed, trino: {url: 'http://t:8080'}, trinoCluster: {}}",
        "spec.query.trinoCluster",
        "!has(self.trino) || !has(self.trinoCluster)",
    ),
    Case("trino-workers", _cluster("workers: {replicas: 0}"), "spec.query.trinoCluster.workers.replicas"),
    Case("trino-grace", _cluster("gracePeriodSeconds: 59"), "spec.query.trinoCluster.gracePeriodSeconds"),
    Case("trino-cache", _cluster("cacheSize: 1023Mi"), "spec.query.trinoCluster.cacheSize", "self.cacheSize"),
    Case("trino-cache-as-number", _cluster("cacheSize: 1073741824"), rule="self.cacheSize"),
    Case("trino-secret", _cluster("accessSecretName: A"), "spec.query.trinoCluster.accessSecretName"),
    Case("trino-memory", _cluster("workers: {resources: {limits: {memory: 2Gi}}}"), rule="quantity('2Gi')"),
    *(
        Case(
            f"trino-little-memory-of-{part}",
            _cluster(f"{part}: {{resources: {{limits: {{memory: 2047Mi}}}}}}"),
            f"spec.query.trinoCluster.{part}.resources.limits.memory",
            "quantity('2Gi')",
        )
        for part in ("coordinator", "workers")
    ),
    Case(
        "trino-cluster-over-s3",
        f"{_STORAGE}, s3: {{{_S3}}}}}\nquery: {{mode: distributed}}",
        rule="self.storage.catalog.uri.matches('^(https?|",
    ),
    Case(
        "trino-cluster-over-a-secret-catalog",
        "storage: {warehouse: 's3://lake/w', catalog: {uriSecret: {name: a, key: b}}, s3: {"
        f"{_S3}}}}}\nquery: {{mode: distributed}}",
    ),
    Case(
        "trino-cluster-without-s3",
        f"{_STORAGE}}}\nquery: {{mode: distributed}}",
        "spec.storage.s3",
        "|| has(self.storage.s3)",
    ),
    Case(
        "trino-cluster-over-sqlite",
        f"storage: {{warehouse: 's3://lake/w', catalog: {{uri: 'sqlite:////c.db'}}, s3: {{{_S3}}}}}"
        "\nquery: {mode: distributed}",
        "spec.storage.catalog.uri",
        "self.storage.catalog.uri.matches('^(https?|",
    ),
    Case("trino-over-sqlite", f"{_STORAGE}}}\n" + _trino("url: 'http://t:8080'"), rule="|| has(self.storage.s3)"),
    Case("trino-without-url", "query: {mode: distributed, trino: {}}", "spec.query.trino.url"),
    Case("trino-with-a-path", _trino("url: 'https://t/ui'"), "spec.query.trino.url"),
    Case("trino-with-login", _trino("url: 'https://k2:pw@t'"), "spec.query.trino.url"),
    Case("trino-catalog", _trino("url: 'https://t', catalog: 'a.b'"), "spec.query.trino.catalog"),
    Case("trino-user", _trino("url: 'https://t', user: 'a:b'"), "spec.query.trino.user"),
    Case(
        "trino-password",
        _trino(
            "url: 'https://t:8443', user: desk@firm, passwordSecret: {name: a, key: b}, caSecret: {name: a, key: c}"
        ),
        rule="!has(self.passwordSecret) ||",
    ),
    Case("trino-token", _trino("url: 'https://t', tokenSecret: {name: a, key: b}"), rule="self.url.startsWith"),
    Case(
        "trino-password-and-token",
        _trino("url: 'https://t', tokenSecret: {name: a, key: b}, passwordSecret: {name: a, key: c}"),
        "spec.query.trino.tokenSecret",
        "!has(self.passwordSecret) ||",
    ),
    *(
        Case(
            f"trino-{name}-without-tls",
            _trino(f"url: 'http://t:8080', {name}: {{name: a, key: b}}"),
            "spec.query.trino.url",
            "self.url.startsWith",
        )
        for name in ("passwordSecret", "tokenSecret", "caSecret")
    ),
    Case("port", "query: {port: 80}", "spec.query.port"),
    Case("port-as-text", "query: {port: '8000'}", "spec.query.port"),
    Case("tail", "query: {tailMaxBytes: 1}", "spec.query.tailMaxBytes"),
    Case("commit-lag", "query: {commitLagSeconds: 0}", "spec.query.commitLagSeconds"),
    Case(
        "resources",
        _resources("sink", "{requests: {cpu: 500m, memory: 1Gi}, limits: {cpu: 2, memory: 1073741824}}"),
        rule="self.requests.memory",
    ),
    Case("cpu-within", _resources("query", "{requests: {cpu: 1000m}, limits: {cpu: 1}}"), rule="self.requests.cpu"),
    Case(
        "cpu-above",
        _resources("sink", "{requests: {cpu: 1001m}, limits: {cpu: 1}}"),
        "spec.sink.resources.requests.cpu",
        "self.requests.cpu",
    ),
    Case(
        "memory-above",
        _source("resources: {requests: {memory: 1Gi}, limits: {memory: 1G}}"),
        "spec.ingestion[0].resources.requests.memory",
        "self.requests.memory",
    ),
    Case("quantity", _resources("query", "{limits: {cpu: lots}}"), "spec.query.resources.limits.cpu"),
    Case("quantity-negative", _resources("query", "{limits: {cpu: -1}}"), "spec.query.resources.limits.cpu"),
    Case("quantity-fraction", _resources("query", "{limits: {cpu: 0.5}}"), "spec.query.resources.limits.cpu"),
    Case("quantity-of-gpus", _resources("query", "{limits: {gpu: 1}}"), "spec.query.resources.limits.gpu"),
    Case("schedule", "maintenance: {schedule: '0 3 * * *'}"),
    Case("snapshots", "maintenance: {snapshotRetentionDays: 1}"),
    Case("snapshots-0", "maintenance: {snapshotRetentionDays: 0}", "spec.maintenance.snapshotRetentionDays"),
    Case("snapshots-of-years", "maintenance: {snapshotRetentionDays: 3651}", "spec.maintenance.snapshotRetentionDays"),
    Case("schedule-in-words", "maintenance: {schedule: daily}", "spec.maintenance.schedule"),
    Case("modes", "{scaling: {mode: Recommend}, degradation: {mode: 'Off'}}"),
    Case("scaling-mode", "scaling: {mode: 'On'}", "spec.scaling.mode"),
    Case("bare-off", "degradation: {mode: Off}", "spec.degradation.mode"),
    Case("one-number-of-sinks", "scaling: {minReplicas: 3, maxReplicas: 3}", rule=">= self.minReplicas"),
    Case("sinks-beside-the-bounds", "{sink: {replicas: 9}, scaling: {maxReplicas: 8}}"),
    Case(
        "fewer-than-the-least",
        "scaling: {minReplicas: 3, maxReplicas: 2}",
        "spec.scaling.maxReplicas",
        ">= self.minReplicas",
    ),
    Case("fewer-by-default", "scaling: {minReplicas: 51}", "spec.scaling.maxReplicas", "self.maxReplicas >= self.min"),
    Case("least-0", "scaling: {minReplicas: 0}", "spec.scaling.minReplicas"),
    Case("most-101", "scaling: {maxReplicas: 101}", "spec.scaling.maxReplicas"),
    Case("narrow-band", "scaling: {targetUtilization: 0.84}", rule="self.maxUtilization >"),
    Case("whole-utilization", "scaling: {maxUtilization: 1}"),
    Case("no-band", "scaling: {targetUtilization: 0.85}", "spec.scaling.maxUtilization", "> self.targetUtilization"),
    Case("over-utilization", "scaling: {maxUtilization: 1.01}", "spec.scaling.maxUtilization"),
    Case("utilization-0", "scaling: {targetUtilization: 0}", "spec.scaling.targetUtilization"),
    Case("hardly-up", "scaling: {maxUpFactor: 1.1, maxDownFactor: 0}"),
    Case("up-factor", "scaling: {maxUpFactor: 1}", "spec.scaling.maxUpFactor"),
    Case("assumed", "scaling: {assumedPerSecond: 1}"),
    Case("assumed-0", "scaling: {assumedPerSecond: 0}", "spec.scaling.assumedPerSecond"),
    Case("long-interval", "sink: {commitIntervalSeconds: 3600}", rule="self.sink.commitIntervalSeconds"),
    Case(
        "longest-interval",
        "{sink: {commitIntervalSeconds: 60}, scaling: {maxCommitIntervalSeconds: 60}}",
        rule="self.sink.commitIntervalSeconds",
    ),
    Case(
        "longest-below-the-interval",
        "{sink: {commitIntervalSeconds: 60.5}, scaling: {maxCommitIntervalSeconds: 60}}",
        "spec.scaling.maxCommitIntervalSeconds",
        "self.sink.commitIntervalSeconds",
    ),
    Case(
        "longest-below-the-default",
        "scaling: {maxCommitIntervalSeconds: 9}",
        "spec.scaling.maxCommitIntervalSeconds",
        "self.sink.commitIntervalSeconds",
    ),
    Case("dwells", "degradation: {dwellUpSeconds: 1, dwellDownSeconds: 2.5, probeSeconds: 5, watchMemory: false}"),
    Case("dwell-0", "degradation: {dwellDownSeconds: 0}", "spec.degradation.dwellDownSeconds"),
    Case("raw", "degradation: {rawFilesBelowRetentionHours: 0}"),
    Case(
        "raw-below-0", "degradation: {rawFilesBelowRetentionHours: -1}", "spec.degradation.rawFilesBelowRetentionHours"
    ),
    Case("drain", "degradation: {drainRecordsPerSecond: 10000000}"),
    Case("drain-0", "degradation: {drainRecordsPerSecond: 0}", "spec.degradation.drainRecordsPerSecond"),
    Case("all-levels", _levels("{soft: {}, graceful: {}, aggressive: {}, circuitBreak: {}}")),
    Case("level-0", _levels("{normal: {}}"), "spec.degradation.levels.normal"),
    Case("levels-as-a-list", _levels("[{enterUnreadRecords: 1}]"), "spec.degradation.levels"),
    Case(
        "raised-above-the-next",
        _levels("{soft: {enterUnreadRecords: 20000}}"),
        "spec.degradation.levels.graceful.enterUnreadRecords",
        "self.graceful.enterUnreadRecords > self.soft.enterUnreadRecords",
    ),
    Case(
        "raised-with-the-next",
        _levels("{soft: {enterUnreadRecords: 20000}, graceful: {enterUnreadRecords: 30000}}"),
        rule="self.graceful.enterUnreadRecords > self.soft.enterUnreadRecords",
    ),
    Case("memory-1", _levels("{circuitBreak: {enterMemoryRatio: 1}}")),
    Case(
        "memory-above-1",
        _levels("{circuitBreak: {enterMemoryRatio: 1.01}}"),
        "spec.degradation.levels.circuitBreak.enterMemoryRatio",
    ),
    Case("exit-0", _levels("{soft: {exitAgeSeconds: 0}}"), "spec.degradation.levels.soft.exitAgeSeconds"),
    Case("memory-0", _levels("{soft: {enterMemoryRatio: 0}}"), "spec.degradation.levels.soft.enterMemoryRatio"),
    Case("age-0", _levels("{soft: {enterAgeSeconds: 0}}"), "spec.degradation.levels.soft.enterAgeSeconds"),
    Case(
        "age-of-the-exit-of-level-4",
        _levels("{circuitBreak: {exitAgeSeconds: 5}}"),
        "spec.degradation.levels.circuitBreak.exitAgeSeconds",
    ),
    *_entries_in_order(),
    *_exits_in_order(),
    *_exits_below_entries(),
)

_SQL_SECRET: Final = "storage: {warehouse: 's3://lake/w', catalog: {uriSecret: {name: a, key: b}}}"  # noqa: S105

CHANGES: Final = (
    Change("namespace-stays", "{namespace: a}", "{namespace: a, suspend: true}", rule="self == oldSelf"),
    Change("namespace-changes", "{namespace: a}", "{namespace: b}", "spec.namespace", "self == oldSelf"),
    Change("namespace-from-its-default", "{}", "{namespace: b}", "spec.namespace"),
    Change("partitions-grow", _source("partitions: 4"), _source("partitions: 8"), rule="has(oldSelf.partitions)"),
    Change("partitions-of-files-grow", _files("partitions: 30"), _files("partitions: 31")),
    Change("partitions-of-files-as-by-default", _files("partitions: 30"), _files("assetClass: equities")),
    Change(
        "partitions-of-files-shrink-by-default",
        _files("partitions: 31"),
        _files("assetClass: equities"),
        "spec.ingestion[0].partitions",
    ),
    Change(
        "partitions-shrink",
        _source("partitions: 8"),
        _source("partitions: 4"),
        "spec.ingestion[0].partitions",
        "has(oldSelf.partitions)",
    ),
    Change(
        "partitions-shrink-by-default",
        _source("partitions: 51"),
        _source("market: spot"),
        "spec.ingestion[0].partitions",
    ),
    Change(
        "partitions-are-compared-by-name",
        "ingestion: [{name: a, venue: binance, partitions: 8, symbols: [{name: A}]}, "
        "{name: b, venue: binance, partitions: 4, symbols: [{name: A}]}]",
        "ingestion: [{name: b, venue: binance, partitions: 4, symbols: [{name: A}]}, "
        "{name: a, venue: binance, partitions: 8, symbols: [{name: A}]}]",
    ),
    Change("source-goes", _source("partitions: 8"), "ingestion: [{name: b, venue: binance, symbols: [{name: A}]}]"),
    Change("storage-stays", _STORAGE + "}", _STORAGE + ", retentionDays: 3}", rule="has(oldSelf.storage)"),
    Change("storage-comes", "{}", _STORAGE + "}", "spec.storage", "has(oldSelf.storage)"),
    Change("storage-goes", _STORAGE + "}", "{}", "spec.storage", "has(oldSelf.storage)"),
    Change(
        "warehouse",
        _STORAGE + "}",
        _STORAGE.replace("lake/w", "lake/v") + "}",
        "spec.storage.warehouse",
        "self == oldSelf",
    ),
    Change(
        "catalog-type",
        "storage: {warehouse: 's3://w1', catalog: {uriSecret: {name: a, key: b}}}",
        "storage: {warehouse: 's3://w1', catalog: {type: rest, uriSecret: {name: a, key: b}}}",
        "spec.storage.catalog.type",
        "self == oldSelf",
    ),
    Change("uri-stays", _STORAGE + "}", _STORAGE + "}", rule="self.uri == oldSelf.uri"),
    Change(
        "uri-changes",
        _STORAGE + "}",
        _STORAGE.replace("db/k2", "db/k3") + "}",
        "spec.storage.catalog.uri",
        "self.uri == oldSelf.uri",
    ),
    Change("uri-into-a-secret", _STORAGE + "}", _SQL_SECRET, "spec.storage.catalog.uri", "self.uri == oldSelf.uri"),
    Change("credentials-are-rotated", _SQL_SECRET, _SQL_SECRET.replace("name: a", "name: c")),
    Change("brokers-are-renamed", "kafka: {bootstrapServers: 'a:1'}", "kafka: {bootstrapServers: 'b:1'}"),
    Change(
        "s3-moves",
        f"{_STORAGE}, s3: {{endpoint: 'http://a', {_S3}}}}}",
        f"{_STORAGE}, s3: {{endpoint: 'http://b', {_S3}}}}}",
    ),
    Change("tick-comes", _symbol("priority: low"), _symbol("priority: low, tickSize: '1'")),
    Change("tick-changes", _symbol("tickSize: '1'"), _symbol("tickSize: '0.1'")),
    Change("tick-goes", _symbol("tickSize: '1'"), _symbol("priority: low")),
    Change("replicas", "sink: {replicas: 3}", "sink: {replicas: 1}"),
)
