"""The probes that tell the truth, and the operator's metrics, over HTTP from the operator's own event loop.

`/livez` fails when a watch has been silent although it is begun anew each minute, or a reconcile is stuck: what a
restart heals. It is answered by the loop that does the work, so a loop that hangs answers nothing. `/readyz` says
whether all that stands in the cluster is known. Called by `service`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from k2_core.errors import SetupError
from k2_core.health import Check, report
from k2_core.metrics import CONTENT_TYPE, exposition
from k2_operator.transport import WatchSigns
from k2_operator.workqueue import WorkQueue

MISSED_WATCHES: Final = 3
"""A live watch is answered each minute; one that hangs is given up after one and a half, and begun anew."""


def live_checks(signs: WatchSigns, queue: WorkQueue, watch_s: float, reconcile_s: float) -> dict[str, Check]:
    """Return what `/livez` asks.

    Args:
        signs: When watches were answered.
        queue: What is being reconciled.
        watch_s: How often a watch is begun anew.
        reconcile_s: How long a reconcile, or the wait for one, may take.
    """
    watch_age_s = MISSED_WATCHES * watch_s

    def watches() -> str | None:
        watch, age_s = signs.oldest()
        if age_s <= watch_age_s:
            return None
        return f"watch of {watch}: found no answer for {age_s:.0f} s, expected one within {watch_age_s:.0f} s"

    def reconciles() -> str | None:
        longest_s = max(queue.longest_running_s(), queue.longest_waiting_s())
        if longest_s <= reconcile_s:
            return None
        return f"found a reconcile that takes {longest_s:.0f} s, expected at most {reconcile_s:.0f} s"

    return {"watches": watches, "reconciles": reconciles}


async def serve(
    host: str, port: int, registry: CollectorRegistry, live: Mapping[str, Check], ready: Mapping[str, Check]
) -> tuple[web.AppRunner, int]:
    """Serve `/livez`, `/readyz` and `/metrics` until the runner's `cleanup`; return it and the port.

    Raises:
        SetupError: The port is taken.
    """

    def probe(checks: Mapping[str, Check]) -> web.Response:
        healthy, document = report(checks)
        return web.Response(status=200 if healthy else 503, text=json.dumps(document), content_type="application/json")

    async def livez(_: web.Request) -> web.Response:
        return probe(live)

    async def readyz(_: web.Request) -> web.Response:
        return probe(ready)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(registry), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise SetupError(f"metrics port: found {host}:{port} in use ({error}), expected it free") from error
    return runner, int(runner.addresses[0][1])
