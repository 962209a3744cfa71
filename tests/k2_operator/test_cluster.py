from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from k2_operator import cluster as module
from k2_operator.cluster import Cluster, field_conflicts, path
from k2_operator.errors import ApiRefusedError, ApiUnavailableError, FieldConflict, FieldConflictError, GoneError
from k2_operator.names import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, MANAGER, SCALED_OBJECT
from support.api_server import asked, config_map
from support.cluster import ControlPlaneHandle
from support.held_wire import HeldWire
from support.operated import moved, with_token


def test_paths() -> None:
    assert path(CONFIG_MAP, None) == "/api/v1/configmaps"
    assert path(DEPLOYMENT, "ns") == "/apis/apps/v1/namespaces/ns/deployments"
    assert path(DEPLOYMENT, "ns", "p") == "/apis/apps/v1/namespaces/ns/deployments/p"


def test_conflicts_tell_a_standing_wish_from_an_edit() -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "argo"', "field": ".spec.replicas"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl" using v1', "field": ".data.x"},
        {"reason": "FieldValueInvalid", "message": "x", "field": ".y"},
    ]
    assert field_conflicts(causes) == [
        FieldConflict("argo", ".spec.replicas", declared=True),
        FieldConflict("kubectl", ".data.x", declared=False),
    ]


class TestReading:
    def test_get(self, namespace: str) -> None:
        async def scenario(cluster: Cluster) -> None:
            assert await cluster.get(CONFIG_MAP, namespace, "a") is None
            await cluster.apply(config_map(namespace, "a", {"x": "1"}))
            found = await cluster.get(CONFIG_MAP, namespace, "a")
            assert found is not None
            assert found["data"] == {"x": "1"}

        asked(scenario)

    def test_a_list_comes_in_pages_and_by_label(self, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PAGE", 2)

        async def scenario(cluster: Cluster) -> None:
            for name in "abc":
                await cluster.apply(config_map(namespace, name, {}, labels={"of": "test"}))
            pages = [page async for page in cluster.list(CONFIG_MAP, namespace, "of=test")]
            assert [[one["metadata"]["name"] for one in items] for items, _ in pages] == [["a", "b"], ["c"]]
            assert len({version for _, version in pages}) == 1

        asked(scenario)

    def test_a_watch_goes_on_from_a_list_and_ends(self, namespace: str) -> None:
        async def scenario(cluster: Cluster) -> list[tuple[str, str]]:
            [(_, version)] = [page async for page in cluster.list(CONFIG_MAP, namespace, "of=test")]
            for value in "12":
                body = await cluster.apply(config_map(namespace, "a", {"x": value}, labels={"of": "test"}))
            await cluster.delete(CONFIG_MAP, namespace, "a", body["metadata"]["uid"])
            watched = cluster.watch(CONFIG_MAP, namespace, version, "of=test")
            return [(event, body["metadata"].get("name", "")) async for event, body in watched]

        events = [one for one in asked(scenario, watch_s=1) if one[0] != "BOOKMARK"]
        assert events == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]

    def test_a_long_event_arrives_whole(self, namespace: str) -> None:
        async def scenario(cluster: Cluster) -> int:
            [(_, version)] = [page async for page in cluster.list(CONFIG_MAP, namespace, "of=test")]
            await cluster.apply(config_map(namespace, "a", {"x": "y" * 500_000}, labels={"of": "test"}))
            watched = cluster.watch(CONFIG_MAP, namespace, version, "of=test")
            return max([len(body.get("data", {}).get("x", "")) async for _, body in watched])

        assert asked(scenario, watch_s=1) == 500_000

    def test_a_kind_is_served_or_not(self, namespace: str) -> None:
        async def scenario(cluster: Cluster) -> tuple[bool, bool]:
            return await cluster.serves(AUTOSCALER), await cluster.serves(SCALED_OBJECT)

        assert namespace
        assert asked(scenario) == (True, False)


class TestWriting:
    def test_a_conflict_names_who_applied_the_field_and_force_takes_it(
        self, namespace: str, control_plane: ControlPlaneHandle
    ) -> None:
        manifest = config_map(namespace, "a", {"x": "theirs"})
        arguments = ("apply", "--server-side", "--field-manager=argo", "-f", "-")
        assert control_plane.kubectl(*arguments, stdin=json.dumps(manifest)).returncode == 0

        async def scenario(cluster: Cluster) -> tuple[FieldConflict, ...]:
            with pytest.raises(FieldConflictError) as caught:
                await cluster.apply(config_map(namespace, "a", {"x": "ours"}))
            forced = await cluster.apply(config_map(namespace, "a", {"x": "ours"}), force=True)
            assert forced["data"] == {"x": "ours"}
            assert MANAGER in {one["manager"] for one in forced["metadata"]["managedFields"]}
            return caught.value.conflicts

        assert asked(scenario) == (FieldConflict("argo", ".data.x", declared=True),)

    def test_a_merge_with_an_old_version_is_refused(self, namespace: str) -> None:
        async def scenario(cluster: Cluster) -> None:
            old = await cluster.apply(config_map(namespace, "a", {"x": "1"}))
            new = await cluster.merge(CONFIG_MAP, namespace, "a", {"data": {"x": "2"}})
            assert new["data"] == {"x": "2"}
            patch = {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "data": {"x": "3"}}
            with pytest.raises(ApiRefusedError) as caught:
                await cluster.merge(CONFIG_MAP, namespace, "a", patch)
            assert caught.value.status == 409

        asked(scenario)

    def test_only_the_very_object_is_deleted(self, namespace: str) -> None:
        async def scenario(cluster: Cluster) -> None:
            body = await cluster.apply(config_map(namespace, "a", {}))
            await cluster.delete(CONFIG_MAP, namespace, "a", "another-uid")
            assert await cluster.get(CONFIG_MAP, namespace, "a") is not None
            for _ in range(2):  # the second finds none
                await cluster.delete(CONFIG_MAP, namespace, "a", body["metadata"]["uid"])
            assert await cluster.get(CONFIG_MAP, namespace, "a") is None

        asked(scenario)

    def test_what_the_api_server_refuses(self, namespace: str) -> None:
        async def scenario(cluster: Cluster) -> None:
            with pytest.raises(ApiRefusedError, match="refused with 422"):
                await cluster.apply(config_map(namespace, "No_Name", {}))

        asked(scenario)


class TestWithoutRights:
    @pytest.fixture(autouse=True)
    def nobody(
        self, namespace: str, control_plane: ControlPlaneHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert namespace
        monkeypatch.setenv("KUBECONFIG", str(with_token(control_plane.kubeconfig, tmp_path / "nobody", "nobody")))

    def test_everything_is_refused(self, namespace: str) -> None:
        async def scenario(cluster: Cluster) -> None:
            with pytest.raises(ApiRefusedError) as caught:
                await cluster.get(CONFIG_MAP, namespace, "a")
            assert caught.value.status in {401, 403}
            with pytest.raises(ApiRefusedError):
                await cluster.serves(CONFIG_MAP)
            with pytest.raises(ApiRefusedError):
                await cluster.delete(CONFIG_MAP, namespace, "a", "uid")
            with pytest.raises(ApiRefusedError):
                await anext(cluster.watch(CONFIG_MAP, namespace, "0"))

        asked(scenario)


def test_a_silent_api_server_is_given_up(
    namespace: str, control_plane: ControlPlaneHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def scenario(cluster: Cluster) -> None:
        [(_, version)] = [page async for page in cluster.list(CONFIG_MAP, namespace, "of=test")]
        wire.hold()
        with pytest.raises(ApiUnavailableError, match="watch of configmaps"):
            await anext(cluster.watch(CONFIG_MAP, namespace, version))
        wire.release()

    with HeldWire(control_plane.server) as wire:
        file = moved(control_plane.kubeconfig, tmp_path / "kubeconfig", f"https://127.0.0.1:{wire.port}")
        monkeypatch.setenv("KUBECONFIG", str(file))
        asked(scenario, watch_s=1)


class TestRareAnswers:
    """What an API server answers only after minutes or under load, from an HTTP server that repeats it."""

    @staticmethod
    async def ask(status: int, body: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, text=body)

        app = web.Application()
        app.router.add_get("/api/v1/configmaps", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
                await anext(Cluster(session).watch(CONFIG_MAP, None, "1"))
        finally:
            await runner.cleanup()

    @pytest.mark.parametrize(
        ("status", "body", "expected"),
        [
            pytest.param(
                200, '{"type":"ERROR","object":{"code":410,"message":"too old"}}\n', GoneError, id="gone, as an event"
            ),
            pytest.param(410, '{"message":"too old"}', GoneError, id="gone"),
            pytest.param(429, '{"message":"too many"}', ApiUnavailableError, id="come again"),
            pytest.param(503, "no healthy upstream", ApiUnavailableError, id="a load balancer's words"),
            pytest.param(200, '{"type":"ERROR","object":{"message":"x"}}\n', ApiUnavailableError, id="no code"),
        ],
    )
    def test_errors(self, status: int, body: str, expected: type[Exception]) -> None:
        with pytest.raises(expected):
            asyncio.run(self.ask(status, body))
