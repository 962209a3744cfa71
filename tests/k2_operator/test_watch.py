from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from k2_operator import watch as module
from k2_operator.cluster import Cluster
from k2_operator.errors import GoneError
from k2_operator.names import CONFIG_MAP, Kind
from k2_operator.store import Place, place_of
from k2_operator.watch import Watch
from support.api_server import asked, config_map, until
from support.cluster import ControlPlaneHandle
from support.held_wire import HeldWire
from support.operated import moved, with_token


class Seen(dict[str, str]):
    """What a watch brought: values by name."""

    def put(self, kind: Kind, body: Mapping[str, Any]) -> None:
        assert kind == CONFIG_MAP
        self[body["metadata"]["name"]] = body["data"]["x"]

    def drop(self, place: Place, version: int | None) -> None:
        assert version is not None
        del self[place.name]

    def standing(self, kind: Kind, namespace: str | None) -> list[Place]:
        return [Place(kind.name, str(namespace), name) for name in self]


def watched(namespace: str, seen: Seen, scenario: Callable[[Cluster, Watch], Awaitable[None]], watch_s: int) -> None:
    """Run a scenario beside a watch."""

    async def run(cluster: Cluster) -> None:
        watch = Watch(cluster, CONFIG_MAP, namespace, "of=test", seen)
        task = asyncio.get_running_loop().create_task(watch.run())
        try:
            await scenario(cluster, watch)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asked(run, watch_s)


def made(namespace: str, name: str, value: str) -> dict[str, Any]:
    return config_map(namespace, name, {"x": value}, labels={"of": "test"})


def test_what_stands_there_first_and_then_what_happens_over_the_ends_of_watches(namespace: str) -> None:
    seen = Seen(gone="before")

    async def scenario(cluster: Cluster, watch: Watch) -> None:
        begun, follow = list[str](), watch._follow

        async def followed(version: str) -> str:
            begun.append(version)
            return await follow(version)

        watch._follow = followed  # type: ignore[method-assign]
        await watch.synced.wait()
        assert seen == {}  # what the list no longer has was dropped
        await cluster.apply(made(namespace, "a", "1"))
        await until(lambda: seen == {"a": "1"})
        count = len(begun)
        await until(lambda: len(begun) > count)  # a watch ended and was begun anew
        body = await cluster.apply(made(namespace, "a", "2"))
        await until(lambda: seen == {"a": "2"})
        await cluster.delete(CONFIG_MAP, namespace, "a", body["metadata"]["uid"])
        await until(lambda: seen == {})

    watched(namespace, seen, scenario, watch_s=1)


def test_what_happens_while_the_api_server_is_away_is_seen_later(
    namespace: str, control_plane: ControlPlaneHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.1)
    seen = Seen()

    async def scenario(cluster: Cluster, watch: Watch) -> None:
        await cluster.apply(made(namespace, "a", "1"))
        await until(lambda: seen == {"a": "1"})
        wire.cut()
        patch = ("patch", "configmap", "a", "--type=merge", "-p", '{"data":{"x":"2"}}')
        await asyncio.to_thread(control_plane.kubectl, "--namespace", namespace, *patch)
        await until(lambda: seen == {"a": "2"})
        assert watch.synced.is_set()

    with HeldWire(control_plane.server) as wire:
        file = moved(control_plane.kubeconfig, tmp_path / "kubeconfig", f"https://127.0.0.1:{wire.port}")
        monkeypatch.setenv("KUBECONFIG", str(file))
        watched(namespace, seen, scenario, watch_s=60)


def test_a_place_that_is_forgotten_means_listing_again(namespace: str) -> None:
    """An API server forgets after minutes: the one answer that is put in its mouth here."""

    class Forgetful(Cluster):
        async def watch(self, kind: Kind, namespace: str | None, version: str, selector: str | None = None) -> Any:
            raise GoneError(410, f"too old: {version} of {kind.plural} {namespace} {selector}")
            yield

    seen, lists = Seen(), []

    async def run(cluster: Cluster) -> None:
        forgetful = Forgetful(cluster._session)  # the same connection
        await cluster.apply(made(namespace, "a", "1"))
        watch = Watch(forgetful, CONFIG_MAP, namespace, "of=test", seen)
        task = asyncio.get_running_loop().create_task(watch.run())
        await watch.synced.wait()
        body = await cluster.apply(made(namespace, "b", "2"))
        await until(lambda: seen == {"a": "1", "b": "2"})
        await cluster.delete(CONFIG_MAP, namespace, "b", body["metadata"]["uid"])
        await until(lambda: seen == {"a": "1"})
        lists.append(place_of(CONFIG_MAP, body))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asked(run)
    assert lists == [Place("ConfigMap", namespace, "b")]


def test_a_refusal_is_asked_again_from_the_start(
    namespace: str,
    control_plane: ControlPlaneHandle,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "REFUSED_RETRY_S", 0.05)
    monkeypatch.setenv("KUBECONFIG", str(with_token(control_plane.kubeconfig, tmp_path / "nobody", "nobody")))

    async def scenario(_: Cluster, watch: Watch) -> None:
        await until(lambda: caplog.text.count("watch: refused") >= 2)
        assert not watch.synced.is_set()

    watched(namespace, Seen(), scenario, watch_s=60)
