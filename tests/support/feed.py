"""A pipeline of the end-to-end tests: its resource, and what its API says of the table, as sets of ids and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from k2_cli.captured import PRICE, QUANTITY
from k2_cli.verdict import ROW_COLUMNS
from onenode.network import NODE_ADDRESS
from onenode.servers import PORTS
from support.site import API_KEY, Site

PAGE_ROWS: Final = 10_000
_MOMENTS: Final = frozenset({"exchange_timestamp", "receive_timestamp", "event_time"})
_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Feed:
    """One pipeline.

    Args:
        site: Where it runs.
        name: Of the resource and of its namespace; `prefix` names its topics and tables.
        symbols: What it takes from the exchange.
        priorities: Of those that are not normal.
    """

    site: Site
    name: str
    symbols: Sequence[str]
    priorities: Mapping[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """Of topics and tables."""
        return self.name.replace("-", "_")

    def manifest(self, **spec: Any) -> dict[str, Any]:
        """The resource; Kafka, storage and API keys are the chart's defaults.

        Args:
            spec: More of `spec`, or other parts of it.
        """
        address = self.site.reached["exchange"]
        source = {
            "name": "binance",
            "venue": "binance",
            "url": f"ws://{address}",
            "restUrl": f"http://{address}",
            "symbols": [{"name": one, "priority": self.priorities.get(one, "normal")} for one in self.symbols],
            "partitions": 6,
        }
        usual = {
            "namespace": self.prefix,
            "ingestion": [source],
            "sink": {"commitIntervalSeconds": 2},
        }
        return {
            "apiVersion": "k2.dev/v1alpha1",
            "kind": "K2Pipeline",
            "metadata": {"name": self.name, "namespace": self.name},
            "spec": usual | spec,
        }

    def apply(self, **spec: Any) -> None:
        """Make or change the resource."""
        self.site.apply(self.manifest(**spec))

    @property
    def status(self) -> dict[str, Any]:
        """What the operator says."""
        found = self.site.get(self.name, "k2p", self.name)
        return {} if found is None else dict(found.get("status", {}))

    def condition(self, kind: str) -> dict[str, Any]:
        """A condition, empty if it is not there."""
        return next((one for one in self.status.get("conditions", ()) if one["type"] == kind), {})

    def wait_phase(self, phase: str) -> None:
        """Wait until the operator has seen the spec as it is and says a phase."""

        def reached() -> bool:
            found = self.site.get(self.name, "k2p", self.name) or {}
            status = found.get("status", {})
            current = status.get("observedGeneration") == found.get("metadata", {}).get("generation")
            return bool(current and status.get("phase") == phase)

        self.site.wait(reached, f"{self.name} to be {phase}")

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Pods of a component that are not on their way out."""
        return [pod for pod in self._all_pods(component) if "deletionTimestamp" not in pod["metadata"]]

    def ending(self, component: str) -> list[dict[str, Any]]:
        """Pods of a component that are on their way out."""
        return [pod for pod in self._all_pods(component) if "deletionTimestamp" in pod["metadata"]]

    def _all_pods(self, component: str) -> list[dict[str, Any]]:
        labels = f"k2.dev/pipeline={self.name},app.kubernetes.io/component={component}"
        return self.site.items(self.name, "pods", labels)

    def uids(self) -> dict[str, str]:
        """Uid and restarts of each pod by name: equal ones are untouched pods."""
        pods = [pod for component in ("ingest", "sink", "query") for pod in self.pods(component)]
        return {
            pod["metadata"]["name"]: f"{pod['metadata']['uid']} {container(pod).get('restartCount')}" for pod in pods
        }

    def ask(self, path: str, **parameters: object) -> Any:
        """An answer of the API, or None while there is none."""
        service = self.site.get(self.name, "service", f"{self.name}-query")
        if service is None:
            return None
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        url = f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}{path}?{query}"
        return self.site.fetch(url, {"X-API-Key": API_KEY})

    def rows(self, symbol: str, start: datetime, end: datetime, source: str = "lake") -> list[dict[str, Any]] | None:
        """Every trade with start <= event_time < end, or None while the API does not answer."""
        answer = self.ask("/v1/trades", symbol=symbol, start=_iso(start), end=_iso(end), limit=PAGE_ROWS, source=source)
        if answer is None:
            return None
        rows: list[dict[str, Any]] = answer["data"]
        if len(rows) < PAGE_ROWS:
            return rows
        middle = start + (end - start) / 2
        first, second = self.rows(symbol, start, middle, source), self.rows(symbol, middle, end, source)
        return None if first is None or second is None else first + second

    def table(self, start: datetime, end: datetime) -> pa.Table | None:
        """The rows of all symbols with exact numbers, as `k2_cli.verdict` wants them; None while there is no answer."""
        rows = [self.rows(symbol, start, end) for symbol in self.symbols]
        if any(part is None for part in rows):
            return None
        return _table([row for part in rows if part is not None for row in part])

    def ids(self, symbol: str, since: datetime) -> list[int] | None:
        """The trade ids of a symbol in the table, each as often as it is there; None while there is no answer."""
        rows = self.rows(symbol, since, datetime.now(UTC) + timedelta(minutes=1))
        return None if rows is None else sorted(int(row["trade_id"]) for row in rows)

    def sent(self, symbol: str) -> int:
        """The last trade id that the exchange has sent."""
        url = f"http://{NODE_ADDRESS}:{PORTS['exchange']}/api/v3/historicalTrades?symbol={symbol}&limit=1"
        return int(self.site.fetch(url)[-1]["id"])


def container(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a pod's container, empty before there is one."""
    return dict(next(iter(pod["status"].get("containerStatuses", ())), {}))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    columns = {name: [_exact(name, row[name]) for row in rows] for name in ROW_COLUMNS}
    types = {"price": PRICE, "quantity": QUANTITY, "sequence": pa.int64()} | dict.fromkeys(_MOMENTS, _MICROSECONDS)
    return pa.table({name: pa.array(values, types.get(name, pa.string())) for name, values in columns.items()})


def _exact(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _MOMENTS:
        return datetime.fromisoformat(value)
    return Decimal(value) if name in {"price", "quantity"} else value
