from __future__ import annotations

import asyncio
import json

import kopf
from prometheus_client import CollectorRegistry

from k2_operator.handlers import registry, settings
from k2_operator.metrics import OperatorMetrics
from k2_operator.pipelines import Pipelines
from k2_operator.store import Key
from k2_operator.transport import WatchSigns, credentials, open_session
from support.api_server import until
from support.cluster import ControlPlaneHandle
from support.operator import plain_body


def test_settings_write_nothing_and_wait_for_nothing_long() -> None:
    found = settings(60)
    assert found.peering.standalone
    assert not found.posting.enabled
    assert (found.watching.server_timeout, found.watching.client_timeout) == (60, 90)
    assert found.networking.request_timeout == 30


def test_pipelines_come_and_go_and_each_wakes_its_own(installed: ControlPlaneHandle, namespace: str) -> None:
    pipelines, woken = Pipelines(), list[Key]()
    key = Key(namespace, "crypto")

    def login() -> kopf.AiohttpSession:
        info = credentials()
        session = open_session(info, OperatorMetrics(CollectorRegistry()), WatchSigns())
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

    async def kubectl(*arguments: str, stdin: str | None = None) -> None:
        done = await asyncio.to_thread(installed.kubectl, "--namespace", namespace, *arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr

    async def run() -> None:
        stop = asyncio.Event()
        made = registry(login, pipelines, woken.append)
        working = kopf.operator(
            registry=made, settings=settings(60), standalone=True, namespaces=[namespace], stop_flag=stop
        )
        task = asyncio.get_running_loop().create_task(working)
        async with asyncio.timeout(90):
            body = plain_body()
            body["metadata"] = {"name": "crypto"}
            await kubectl("apply", "-f", "-", stdin=json.dumps(body))
            await until(lambda: woken == [key])
            assert key in pipelines
            patch = '{"status":{"phase":"Pending"}}'
            await kubectl("patch", "k2pipeline", "crypto", "--subresource=status", "--type=merge", "-p", patch)
            await until(lambda: "status" in (pipelines.get(key) or {}))
            assert woken == [key]  # a status is the operator's own work
            await kubectl("delete", "k2pipeline", "crypto")
            await until(lambda: woken == [key, key])
            assert key not in pipelines
            stop.set()
            await task
        await asyncio.sleep(0.1)  # TLS connections end a moment after their session

    asyncio.run(run())
