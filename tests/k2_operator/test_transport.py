from __future__ import annotations

import asyncio
from pathlib import Path

import kopf
import pytest
from prometheus_client import CollectorRegistry
from yarl import URL

from k2_core.errors import SetupError
from k2_operator import transport
from k2_operator.cluster import Cluster
from k2_operator.errors import ApiUnavailableError
from k2_operator.metrics import OperatorMetrics
from k2_operator.names import CONFIG_MAP, DEPLOYMENT
from k2_operator.transport import WatchSigns, credentials, open_session, refresh_token, verb_of
from support.cluster import ControlPlaneHandle
from support.operated import moved

BEFORE = "the first"


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        pytest.param("GET", "/api/v1/pods?watch=true", "watch", id="watch"),
        pytest.param("GET", "/api/v1/namespaces/ns/pods?limit=250", "list", id="list"),
        pytest.param("GET", "/api/v1/namespaces/ns/pods/p", "get", id="get"),
        pytest.param("PATCH", "/x?fieldManager=k2-operator&force=false", "apply", id="apply"),
        pytest.param("PATCH", "/x?fieldManager=k2-operator", "patch", id="patch"),
        pytest.param("POST", "/x", "create", id="create"),
        pytest.param("DELETE", "/x", "delete", id="delete"),
        pytest.param("OPTIONS", "/x", "options", id="another"),
    ],
)
def test_requests_are_counted_under_the_api_servers_verbs(method: str, url: str, expected: str) -> None:
    assert verb_of(method, URL(f"https://host{url}")) == expected


def test_without_watches_nothing_is_old() -> None:
    assert WatchSigns().oldest() == ("none", 0.0)


def test_without_credentials_it_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SetupError, match="neither a service account nor a kubeconfig"):
        credentials()


class TestSession:
    def test_it_counts_what_it_asks_and_notes_answered_watches(
        self, control_plane: ControlPlaneHandle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
        registry, now_s = CollectorRegistry(), iter(range(100, 1000, 10))
        signs = WatchSigns(lambda: float(next(now_s)))
        asyncio.run(self._ask(OperatorMetrics(registry), signs))

        def count(verb: str, code: str) -> float | None:
            return registry.get_sample_value("k2_operator_api_requests_total", {"verb": verb, "code": code})

        assert (count("get", "404"), count("list", "200"), count("watch", "200")) == (1, 1, 1)
        assert count("watch", "403") is None
        assert signs.oldest() == ("/apis/apps/v1/namespaces/default/deployments", 10.0)

    @staticmethod
    async def _ask(metrics: OperatorMetrics, signs: WatchSigns) -> None:
        async with open_session(credentials(), metrics, signs) as session:
            cluster = Cluster(session, 1)
            assert await cluster.get(CONFIG_MAP, "default", "none") is None
            [(_, version)] = [page async for page in cluster.list(DEPLOYMENT, "default")]
            async for _ in cluster.watch(DEPLOYMENT, "default", version):
                pass

    def test_it_counts_what_was_not_answered(
        self, control_plane: ControlPlaneHandle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        nowhere = moved(control_plane.kubeconfig, tmp_path / "kubeconfig", "https://127.0.0.1:1")
        monkeypatch.setenv("KUBECONFIG", str(nowhere))
        registry = CollectorRegistry()
        with pytest.raises(ApiUnavailableError, match=r"GET /api/v1/namespaces/default/configmaps/none"):
            asyncio.run(self._ask(OperatorMetrics(registry), WatchSigns()))
        labels = {"verb": "get", "code": "error"}
        assert registry.get_sample_value("k2_operator_api_requests_total", labels) == 1


class TestToken:
    """The kubelet writes another token into the file about every hour."""

    def test_it_is_read_again(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(transport, "TOKEN_EVERY_S", 0.01)
        (tmp_path / "token").write_text("first\n")
        asyncio.run(self._follow(tmp_path))

    @staticmethod
    async def _follow(folder: Path) -> None:
        info = kopf.ConnectionInfo(server="http://127.0.0.1:1", token=BEFORE)
        async with open_session(info, OperatorMetrics(CollectorRegistry()), WatchSigns()) as session:
            assert session.headers["Authorization"] == f"Bearer {BEFORE}"
            task = asyncio.get_running_loop().create_task(refresh_token(session, folder))
            for token in ("first", "second"):
                (folder / "token").write_text(f"{token}\n")
                async with asyncio.timeout(10):
                    while session.headers["Authorization"] != f"Bearer {token}":
                        await asyncio.sleep(0.01)
            (folder / "token").unlink()
            async with asyncio.timeout(10):
                await task
            assert session.headers["Authorization"] == "Bearer second"

    def test_outside_a_pod_there_is_none(self, tmp_path: Path) -> None:
        asyncio.run(self._none(tmp_path))

    @staticmethod
    async def _none(folder: Path) -> None:
        info = kopf.ConnectionInfo(server="http://127.0.0.1:1")
        async with open_session(info, OperatorMetrics(CollectorRegistry()), WatchSigns()) as session:
            await refresh_token(session, folder)
            assert "Authorization" not in session.headers
