"""The table is the log: each record of a pipeline's topic is in its table once, by position and id, and no other.

For a pipeline of the end-to-end tests that nobody writes to any more, suspended or deleted with its data kept: then the
log has an end. Neither the operator nor the API is asked: as a program inside the cluster's network this module reads
the topic from Kafka, and the table with its state from PostgreSQL and the object store.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import make_url

from k2_core.codec import BatchDecoder
from k2_core.config import ServiceSettings
from k2_core.records import TRADES
from k2_core.schemas import schema_source
from k2_core.state import CommitState
from k2_core.types import TopicName
from onenode.network import NODE_ADDRESS
from onenode.servers import PORTS
from support.feed import Feed
from support.ingest import read_topic
from support.lake import committed_state, table_rows
from support.registry import API_PATH

_SHOWN: Final = 20
_ROOT: Final = Path(__file__).parents[2]


class Placed(NamedTuple):
    """A record and where the log has it."""

    partition: int
    offset: int
    message_id: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found.

    Args:
        records: Of the log.
        faults: What is lost, doubled or unaccounted for, in words; empty if the table is the log.
        runs: The trade ids of each symbol in the log as closed ranges of ids that follow one another, in order.
    """

    records: int
    faults: Sequence[str]
    runs: Mapping[str, Sequence[Sequence[int]]]


def assert_table_is_log(feed: Feed) -> Mapping[str, Sequence[Sequence[int]]]:
    """Check that the table of a pipeline at rest is its log, and return `Compared.runs`."""
    reached = feed.site.reached
    settings = {
        "kafka_bootstrap_servers": f"{NODE_ADDRESS}:{PORTS['kafka']}",
        "schema_registry_url": f"http://{NODE_ADDRESS}:{PORTS['registry']}{API_PATH}",
        "catalog_uri": make_url(reached["catalog_uri"]).set(host=NODE_ADDRESS).render_as_string(hide_password=False),
        "warehouse": reached["s3_warehouse"],
        "s3_endpoint": f"http://{NODE_ADDRESS}:{PORTS['s3']}",
        "s3_access_key": reached["s3_access_key"],
        "s3_secret_key": reached["s3_secret_key"],
    }
    asked = {"settings": settings, "namespace": feed.prefix, "topic": f"{feed.prefix}.crypto.trades.binance"}
    path = f"PYTHONPATH={_ROOT / 'tests'}:{_ROOT / 'hack'}"
    done = feed.site.run("env", path, sys.executable, "-m", "support.table_is_log", stdin=json.dumps(asked))
    assert done.returncode == 0, done.stderr
    compared = Compared(**json.loads(done.stdout))
    assert compared.faults == [], f"{asked['topic']} against its table, {compared.records} records: {compared.faults}"
    assert compared.records > 0
    return compared.runs


def faults(log: Sequence[Placed], rows: Sequence[Placed], state: CommitState, topic: TopicName) -> list[str]:
    """Return what keeps rows from being the log with each id once, and the state from saying so.

    An id that the log has from one position must be a row from there; one that it has from several, from one of them.
    """
    ids, places = Counter(row.message_id for row in rows), Counter(row[:2] for row in rows)
    found: dict[str, set[Any]] = {
        "ids of the log without a row": {record.message_id for record in log} - ids.keys(),
        "ids with more than one row": {one for one, count in ids.items() if count > 1},
        "positions with more than one row": {one for one, count in places.items() if count > 1},
        "rows that the log does not have, not so or not there": set(rows) - set(log),
        "open entries of the ledger": set(state.open_ledger),
    }
    says = [f"{len(what)} {name}, such as {sorted(map(str, what))[:_SHOWN]}" for name, what in found.items() if what]
    ends, held = Counter(record.partition for record in log), Counter(row.partition for row in rows)
    accounts = state.topics[topic].partitions
    for number in sorted(ends.keys() | held.keys() | accounts.keys()):
        account = accounts.get(number)  # type: ignore[call-overload]
        stands = (0, 0) if account is None else (account.next, account.rows())
        if stands != (ends[number], held[number]):
            says.append(
                f"partition {number}: the state says (next, rows) {stands}, "
                f"expected the log's end and what the table holds, {(ends[number], held[number])}"
            )
    return says


def _compare(settings: ServiceSettings, namespace: str, topic: TopicName) -> Compared:
    messages = read_topic(settings.kafka_bootstrap_servers, topic)
    decoded = BatchDecoder(TRADES, schema_source(settings).by_id).decode([message.value() for message in messages])
    assert decoded.rejected == ()
    ids = decoded.rows.column("message_id").to_pylist()
    log = [Placed(at.partition() or 0, at.offset() or 0, name) for at, name in zip(messages, ids, strict=True)]
    state, table = committed_state(settings, namespace), table_rows(settings, namespace)
    assert state is not None
    columns = [table.column(name).to_pylist() for name in ("kafka_partition", "kafka_offset", "message_id")]
    says = faults(log, [Placed(*row) for row in zip(*columns, strict=True)], state, topic)
    topic_ids = set(table.column("topic_id").to_pylist())
    if topic_ids != {state.topics[topic].id}:
        says.append(f"found rows of the topics {sorted(topic_ids)}, expected of {state.topics[topic].id} alone")
    return Compared(len(log), says, _runs(decoded.rows.select(["symbol", "trade_id"]).to_pylist()))


def _runs(trades: Sequence[Mapping[str, Any]]) -> dict[str, list[list[int]]]:
    by_symbol: dict[str, set[int]] = defaultdict(set)
    for trade in trades:
        by_symbol[trade["symbol"]].add(int(trade["trade_id"]))
    runs: dict[str, list[list[int]]] = {}
    for symbol, ids in by_symbol.items():
        firsts = sorted(one for one in ids if one - 1 not in ids)
        lasts = sorted(one for one in ids if one + 1 not in ids)
        runs[symbol] = [list(run) for run in zip(firsts, lasts, strict=True)]
    return runs


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    compared = _compare(
        ServiceSettings.model_validate(wanted["settings"]), wanted["namespace"], TopicName(wanted["topic"])
    )
    json.dump(asdict(compared), sys.stdout)
