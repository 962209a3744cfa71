"""Runs named benchmarks and prints their figures: the Python side of hack/bench."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import psutil
from figures import Figure
from rich.console import Console
from rich.table import Table

from k2_core.errors import K2Error

BENCHMARKS: Mapping[str, str] = {
    "sink": "2 M trades from Kafka into the partitioned, sorted table: records per CPU-second, memory, time by stage",
    "deferral": "what the sink spends on a record that it takes in, defers to the log, defers to a raw file, drains",
    "ingest": "trades from the exchange's socket to acknowledged in Kafka, per CPU-second of the process",
    "end-to-end": "exchange, broker, ingest and sink on this machine at full speed; freshness with its stages",
    "storage": "bytes a trade of a real capture, as one sorted file with every column of the table",
    "window": "/v1/trades for 15 minutes of one symbol over HTTP, warm",
    "start": "hack/run to the first committed row, warm and on a cold cache",
    "apply": "kubectl apply to all pods ready and the first committed row, on a real one-node cluster (as root)",
    "reconcile": "the operator with 1, 100 and 1,000 pipelines: a change to its child, requests, memory",
    "storm": "twice what a sink can take: seconds until levels and sinks are decided, and what class critical sees",
    "command": "a level's record in the control topic to sink and query service acting on it, under a load",
    "scale-out": "1, 2, 4 sinks and 1, 2 Trino workers with equal shares of a core; both engines' answers (as root)",
    "controllers": "the operator's controllers of one Kafka: memory, threads and processor time of each",
    "decision": "the policy's step, and its replicas and lag beside KEDA's rule in simulated pipelines",
}
PACKAGES = ("k2-lakehouse", "confluent-kafka", "pyarrow", "pyiceberg", "duckdb", "polars-avro", "picows", "websockets")


def main() -> int:
    """Run what the command line names; return 0 if every target was met, 1 if not, 3 if something is missing."""
    arguments = _parse()
    if arguments.list:
        for name, text in BENCHMARKS.items():
            print(f"{name:12} {text}")
        return 0
    # As Ctrl-C does: what a benchmark has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    context = _context()
    print(" ".join(f"{key}={value}" for key, value in context.items()), file=sys.stderr)
    figures: list[Figure] = []
    for name in arguments.names or BENCHMARKS:
        print(f"bench: {name} …", file=sys.stderr)
        try:
            found = importlib.import_module(name.replace("-", "_")).run(
                lambda line: print(f"  {line}", file=sys.stderr)
            )
        except K2Error as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            return 3
        figures += found
        if arguments.json:
            for figure in found:
                print(json.dumps(figure.as_json() | {"context": context}), flush=True)
    if not arguments.json:
        Console().print(_table(figures))
    return 0 if all(figure.met is not False for figure in figures) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="hack/bench",
        description="Run benchmarks on this machine and compare each figure with its target and its baseline.",
        epilog="example: hack/bench sink storage --json > figures.jsonl",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run; all unless given (see --list)")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and what each measures")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure on stdout instead of a table")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"found {', '.join(unknown)}, expected some of {', '.join(BENCHMARKS)}")
    return arguments


def _context() -> dict[str, Any]:
    memory_gib = psutil.virtual_memory().total / 2**30
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "hack/bench " + " ".join(sys.argv[1:]),
        "machine": f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.machine()}, {platform.system()}",
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def _table(figures: list[Figure]) -> Table:
    table = Table(title="K2 benchmarks")
    for column in ("benchmark", "metric", "value", "unit", "target", "met", "baseline"):
        table.add_column(column, justify="right" if column in {"value", "target", "baseline"} else "left")
    for figure in figures:
        met = {None: "", True: "yes", False: "NO"}[figure.met]
        cells = [_shown(number) for number in (figure.value, figure.target, figure.baseline)]
        table.add_row(figure.benchmark, figure.metric, cells[0], figure.unit, cells[1], met, cells[2])
    return table


def _shown(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


if __name__ == "__main__":
    sys.exit(main())
