"""`k2 up` with a pipeline that names Kafka, catalog and warehouse of others: each trade once, by id."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import yaml

from k2_cli.stack.kafka import LocalKafka
from support.asx import write
from support.lake import environment_settings, table_rows
from support.postgres import SHIBBOLETH, LocalPostgres
from support.s3 import SIGNING_KEY, LocalS3

pytestmark = pytest.mark.kafka
PAIR = ("BTCUSDT", "ETHUSDT")
TRADES_EACH = 300
FILE_ROWS = 2_000
TIMEOUT_S = 240


def test_k2_up_on_servers_of_others_takes_each_trade_once(
    kafka: LocalKafka, s3: LocalS3, postgres: LocalPostgres, tmp_path: Path
) -> None:
    namespace = f"t{uuid.uuid4().hex[:12]}"
    bucket, secret = s3.bucket(), {"name": "k2", "key": "any"}
    storage = {
        "catalog": {"type": "sql", "uriSecret": secret},
        "warehouse": f"s3://{bucket}/warehouse",
        "s3": {"endpoint": s3.endpoint, "accessKeySecret": secret, "secretKeySecret": secret},
    }
    spec = {
        "namespace": namespace,
        "kafka": {"bootstrapServers": kafka.bootstrap_servers, "replicationFactor": 1},
        "storage": storage,
        "ingestion": [
            {
                "name": "a",
                "venue": "asx",
                "partitions": 2,
                "files": [{"name": "f", "path": f"s3://{bucket}/ticks/f.csv", "symbol": "BHP"}],
            },
            {"name": "b", "venue": "binance", "partitions": 4, "symbols": [{"name": s} for s in PAIR]},
        ],
    }
    (s3.directory / "buckets" / bucket / "ticks").mkdir()
    write(s3.directory / "buckets" / bucket / "ticks/f.csv", FILE_ROWS)
    document = {"apiVersion": "k2.dev/v1alpha1", "kind": "K2Pipeline", "metadata": {"name": "up"}, "spec": spec}
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(yaml.safe_dump(document))
    capture = tmp_path / "capture"
    capture.write_text("".join(capture_line(name, number) for number in range(1, TRADES_EACH + 1) for name in PAIR))
    environment = {"K2_CATALOG_URI": postgres.database(), **s3.environment(bucket)}
    command = [sys.executable, "-m", "k2_cli", "up", "-f", str(pipeline), "--dir", str(tmp_path / "k2")]
    done = subprocess.run(
        [*command, "--capture", str(capture), "--once", "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout)
    assert (account["committed"], account["missing"], account["duplicates"]) == (600, 0, 0)
    rows = table_rows(environment_settings(environment), namespace)
    found = rows.column("message_id").to_pylist()
    captured = [f"binance:spot:{name}:{number}" for number in range(1, TRADES_EACH + 1) for name in PAIR]
    assert sorted(found) == sorted([*captured, *(f"a.f:{row}" for row in range(1, FILE_ROWS + 1))])
    logs = "".join(path.read_text() for path in (tmp_path / "k2" / "log").glob("*.log"))
    assert not [text for text in (SHIBBOLETH, SIGNING_KEY) if text in logs + done.stderr]


def capture_line(symbol: str, number: int) -> str:
    """A line of a raw capture: receive time in ns, and the exchange's message."""
    at_ms = 1_723_161_255_342 + number * 7
    data = {"e": "trade", "E": at_ms + 1, "s": symbol, "t": number, "p": "61837.63000000", "q": "0.02000000"}
    message = {"stream": f"{symbol.lower()}@trade", "data": {**data, "T": at_ms, "m": bool(number % 2), "M": True}}
    return f"{(at_ms + 3) * 1_000_000} {json.dumps(message, separators=(',', ':'))}\n"
