"""The files of a Trino that the operator runs: what each node reads at its start. They hold no secret.

Called by `trino`. What is secret they refer to: as a variable of the container, or as a file that the init container
writes into memory (`python -m k2_query.trino_files`). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from k2_core.quantity import quantity_value
from k2_operator.names import (
    TRINO_COORDINATOR,
    TRINO_MAINTAINER,
    TRINO_MAINTAINING,
    TRINO_PORT,
    TRINO_READER,
    TRINO_READING,
)
from k2_operator.pipeline import Effective, TrinoRun
from k2_operator.rendering.environment import TRINO_FILES
from k2_operator.rendering.trino_memory import MIB, divided

ETC: Final = "/etc/trino"
DATA: Final = "/data/trino"
CACHE: Final = "/var/cache/trino"
CATALOG_FILES: Final = tuple(f"{name}.properties" for name in (TRINO_READING, TRINO_MAINTAINING))
DRAINER: Final = "k2-drain"
"""Who tells a worker to end. Only a worker takes somebody's word for this name, and only Trino's pods reach one."""
COORDINATOR_CACHE_MIB: Final = 256
"""Of a coordinator's disk. It reads no data, but nodes that share a cache have to be set up alike."""
SHUTDOWN_GRACE_S: Final = 15
"""Twice: until every coordinator knows that a worker ends, and until its last results are fetched."""
MAX_ERROR_S: Final = 5
"""How long a worker that was killed is waited for. Trino's minute is more than an answer of K2 may take."""
RESERVED_CODE_MIB: Final = 256
_READ_ONLY: Final = {"iceberg.security": "read_only"}
"""Rules know no right for a table's procedures, so the reader's catalog has none of them."""

Properties = Mapping[str, object]


def files(effective: Effective, run: TrinoRun, component: str, memory: str) -> dict[str, str]:
    """Return the files of one kind of node by their name.

    Args:
        effective: The pipeline.
        run: Its Trino.
        component: Coordinator or worker.
        memory: Of the pod, at most.
    """
    coordinator = component == TRINO_COORDINATOR
    return {
        "config.properties": _text(_node(effective, component, memory)),
        "jvm.config": _jvm(memory),
        "node.properties": _text({"node.environment": "k2", "node.data-dir": DATA}),
        "log.properties": _text({"io.trino": "INFO"}),
        "access-control.properties": _text(
            {"access-control.name": "file", "security.config-file": f"{ETC}/rules.json"}
        ),
        "rules.json": json.dumps(rules(effective), indent=1) + "\n",
        "password-authenticator.properties": _text(
            {"password-authenticator.name": "file", "file.password-file": f"{TRINO_FILES}/passwords"}
        ),
        CATALOG_FILES[0]: _text({**_catalog(effective), **_READ_ONLY, **_cache(run, coordinator=coordinator)}),
        CATALOG_FILES[1]: _text(_catalog(effective)),
        "ready.sh": _READY,
        "drain.sh": _DRAIN,
    }


def _node(effective: Effective, component: str, memory: str) -> Properties:
    sizes, names = divided(memory), effective.names
    found: dict[str, object] = {
        "coordinator": _word(component == TRINO_COORDINATOR),
        "discovery.uri": f"https://{names.trino_discovery}.{effective.namespace}.svc:{TRINO_PORT}",
        # Nodes know each other by certificates that Trino makes of what they share.
        "http-server.http.enabled": "false",
        "http-server.https.enabled": "true",
        "http-server.https.port": TRINO_PORT,
        "internal-communication.https.required": "true",
        "internal-communication.shared-secret": "${ENV:K2_TRINO_SHARED_SECRET}",
        "catalog.config-dir": f"{TRINO_FILES}/catalog",
        "access-control.config-files": f"{ETC}/access-control.properties",
        "memory.heap-headroom-per-node": f"{sizes.headroom}MB",
        "query.max-memory-per-node": f"{sizes.query}MB",
        "exchange.max-error-duration": f"{MAX_ERROR_S}s",
    }
    if component != TRINO_COORDINATOR:
        return found | {"shutdown.grace-period": f"{SHUTDOWN_GRACE_S}s"}
    return found | {
        "node-scheduler.include-coordinator": "false",
        "web-ui.enabled": "false",
        "http-server.https.keystore.path": f"{TRINO_FILES}/server.pem",
        "http-server.authentication.type": "PASSWORD",
        "password-authenticator.config-files": f"{ETC}/password-authenticator.properties",
        # What a query may have on each node is the limit. One of all together would change with the number of workers,
        # and a coordinator whose files change is started anew.
        "query.max-memory": "1PB",
        "query.remote-task.max-error-duration": f"{MAX_ERROR_S}s",
        # A question without a worker is refused in time to be told why, not after Trino's five minutes.
        "query-manager.required-workers-max-wait": "5s",
        # What a worker had when it was killed is asked for anew; nothing of it has been answered yet.
        "retry-policy": "QUERY",
        "retry-initial-delay": "200ms",
        "retry-max-delay": "2s",
    }


def _jvm(memory: str) -> str:
    options = (
        "-server",
        f"-Xmx{divided(memory).heap}M",
        f"-XX:ReservedCodeCacheSize={RESERVED_CODE_MIB}M",
        "-XX:G1HeapRegionSize=32M",
        "-XX:+ExplicitGCInvokesConcurrent",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-OmitStackTraceInFastThrow",
        "-XX:PerMethodRecompilationCutoff=10000",
        "-XX:PerBytecodeRecompilationCutoff=10000",
        "-XX:+EnableDynamicAgentLoading",
        "-XX:-UsePerfData",
        "--add-modules=jdk.incubator.vector",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Djdk.attach.allowAttachSelf=true",
        "-Djdk.nio.maxCachedBufferSize=2000000",
        "-Dfile.encoding=UTF-8",
        # A coordinator that was started anew has another address; nodes look for it by name at each announcement.
        "-Dnetworkaddress.cache.ttl=5",
        "-Dsun.net.inetaddr.ttl=5",
    )
    return "".join(f"{option}\n" for option in options)


def _catalog(effective: Effective) -> Properties:
    """Return a catalog's file without its address, which may hold a password."""
    storage = effective.storage
    found: dict[str, object] = {"connector.name": "iceberg"}
    if storage.catalog.type == "rest":
        found |= {"iceberg.catalog.type": "rest", "iceberg.rest-catalog.warehouse": storage.warehouse}
    else:
        found |= {
            "iceberg.catalog.type": "jdbc",
            "iceberg.jdbc-catalog.catalog-name": "k2",
            "iceberg.jdbc-catalog.driver-class": "org.postgresql.Driver",
            "iceberg.jdbc-catalog.default-warehouse-dir": storage.warehouse,
        }
    found["fs.native-s3.enabled"] = "true"
    if (s3 := storage.s3) is not None:
        found["s3.region"] = s3.region
        if s3.endpoint is not None:
            found |= {"s3.endpoint": s3.endpoint, "s3.path-style-access": "true"}
        found |= {"s3.aws-access-key": "${ENV:K2_S3_ACCESS_KEY}", "s3.aws-secret-key": "${ENV:K2_S3_SECRET_KEY}"}
    return found


def _cache(run: TrinoRun, *, coordinator: bool) -> Properties:
    """Return where files that were read stay. Maintenance reads each once, and would push out what is asked for."""
    return {
        "fs.cache.enabled": "true",
        "fs.cache.directories": CACHE,
        "fs.cache.max-sizes": f"{COORDINATOR_CACHE_MIB if coordinator else cache_mib(run)}MB",
    }


def cache_mib(run: TrinoRun) -> int:
    """Return how much of a worker's disk is for files that it read before."""
    return int(quantity_value(run.spec.cache_size) // MIB)


def rules(effective: Effective) -> dict[str, Any]:
    """Return who may do what: a part with no rule that fits refuses.

    The query service reads K2's tables and nothing else. Maintenance changes their files too.
    """
    tables = {
        "schema": effective.pipeline.spec.namespace,
        "table": r"(trades|quotes|quality|ledger|dlq)(\$[a-z_]+)?",
    }
    changes = ["SELECT", "INSERT", "DELETE", "UPDATE"]
    return {
        "catalogs": [
            {"user": TRINO_READER, "catalog": TRINO_READING, "allow": "read-only"},
            {"user": TRINO_MAINTAINER, "catalog": TRINO_MAINTAINING, "allow": "all"},
        ],
        "schemas": [{"owner": False}],
        "tables": [
            {"user": TRINO_READER, "catalog": TRINO_READING, **tables, "privileges": ["SELECT"]},
            {"user": TRINO_MAINTAINER, "catalog": TRINO_MAINTAINING, **tables, "privileges": changes},
        ],
        "procedures": [{"privileges": []}],
        "queries": [{"user": f"{TRINO_READER}|{TRINO_MAINTAINER}", "allow": ["execute"]}],
        "system_information": [{"user": DRAINER, "allow": ["read", "write"]}],
    }


def _word(value: bool) -> str:
    return "true" if value else "false"


def _text(properties: Properties) -> str:
    return "".join(f"{name}={value}\n" for name, value in properties.items())


_HERE: Final = f"https://localhost:{TRINO_PORT}"
_READY: Final = f"""#!/bin/sh
# Ends well once this node works: /v1/info answers while it still starts. It asks its own pod, whose certificate is for
# other names.
curl --insecure --silent --max-time 5 {_HERE}/v1/info | grep -q '"starting":false'
"""
_DRAIN: Final = f"""#!/bin/sh
# Tells this worker to take no more work and to end when what it has is done, and waits for that.
curl --insecure --silent --max-time 5 --request PUT --header 'X-Trino-User: {DRAINER}' \\
  --header 'Content-Type: application/json' --data '"SHUTTING_DOWN"' {_HERE}/v1/info/state
while curl --insecure --silent --max-time 5 --output /dev/null {_HERE}/v1/info; do sleep 1; done
"""
