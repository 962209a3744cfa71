"""The operator's own client of a real API server, for its tests: opened, used by one scenario, closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry

from k2_operator.cluster import Cluster
from k2_operator.metrics import OperatorMetrics
from k2_operator.transport import WatchSigns, credentials, open_session

Found = TypeVar("Found")
PATIENCE_S: Final = 90.0
CLOSING_S: Final = 0.1
"""TLS connections end a moment after their session was closed."""


def asked(scenario: Callable[[Cluster], Awaitable[Found]], watch_s: int = 60) -> Found:
    """Run a scenario against the cluster of KUBECONFIG; return what it returned."""

    async def run() -> Found:
        try:
            async with (
                open_session(credentials(), OperatorMetrics(CollectorRegistry()), WatchSigns()) as session,
                asyncio.timeout(PATIENCE_S),
            ):
                return await scenario(Cluster(session, watch_s))
        finally:
            await asyncio.sleep(CLOSING_S)

    return asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; the scenario's time is the limit."""
    while not condition():
        await asyncio.sleep(0.02)


def config_map(namespace: str, name: str, data: Mapping[str, str], **metadata: Any) -> dict[str, Any]:
    """A small object."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "data": dict(data),
    }
