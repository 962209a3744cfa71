from __future__ import annotations

import json
from typing import Any

import pytest

from k2_operator.autoscalers import Autoscalers
from k2_operator.cluster import Cluster
from k2_operator.names import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, MANAGER
from k2_operator.rendering.manifests import with_replicas
from k2_operator.status import Refusal
from k2_operator.store import Key, Place, Store
from k2_operator.writing import MENDED_AT_MOST, MENDED_WITHIN_S, NAME_TAKEN, Writer
from support.api_server import asked, config_map
from support.cluster import ControlPlaneHandle
from support.operator import UID, one, rendered


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def uid(namespace: str, control_plane: ControlPlaneHandle) -> str:
    """Of an owner that is there: the garbage collector removes children of one that is not, sooner or later."""
    arguments = ("--namespace", namespace, "create", "configmap", "owner", "--output=jsonpath={.metadata.uid}")
    done = control_plane.kubectl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def nobody(key: Key) -> None:
    """Wake no pipeline: there is no queue."""


def owner(uid: str) -> list[dict[str, Any]]:
    return [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": True}]


def file(namespace: str, uid: str, text: str = "1") -> dict[str, Any]:
    return config_map(namespace, "p", {"x": text}, labels={"k2.dev/pipeline": "p"}, ownerReferences=owner(uid))


def sink(namespace: str, uid: str = UID) -> dict[str, Any]:
    manifest = one(rendered(), "Deployment", "crypto-sink")
    manifest["metadata"] |= {"namespace": namespace, "ownerReferences": owner(uid)}
    return manifest


def test_what_is_as_it_was_rendered_is_not_written_again(namespace: str, uid: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        store = Store()
        woken: list[Key] = []
        writer = Writer(cluster, store, Autoscalers(lambda *_: None), wake=woken.append)
        assert await writer.write([file(namespace, uid)], uid) == []
        before = store.get(Place("ConfigMap", namespace, "p"))
        assert await writer.write([file(namespace, uid)], uid) == []
        assert store.get(Place("ConfigMap", namespace, "p")) == before
        assert woken == [Key(namespace, "p")]  # what was written is told at once, not at the next look at everything
        assert await writer.write([file(namespace, uid, "2")], uid) == []
        assert len(woken) == 2
        found = await cluster.get(CONFIG_MAP, namespace, "p")
        assert found is not None
        assert found["data"] == {"x": "2"}

    asked(scenario)


def test_a_name_that_is_taken_is_left_and_holds_the_deployments(namespace: str, uid: str) -> None:
    async def scenario(cluster: Cluster) -> list[Refusal]:
        await cluster.apply(config_map(namespace, "p", {"x": "mine"}))
        writer = Writer(cluster, Store(), Autoscalers(lambda *_: None), wake=nobody)
        refusals = await writer.write([file(namespace, uid), sink(namespace, uid)], uid)
        assert await cluster.get(DEPLOYMENT, namespace, "crypto-sink") is None
        return refusals

    [refusal] = asked(scenario)
    assert refusal.reason == NAME_TAKEN
    assert "belongs to nobody in particular" in refusal.message


def test_an_edit_is_taken_back_until_it_looks_like_a_controller(
    namespace: str, uid: str, control_plane: ControlPlaneHandle
) -> None:
    clock = Clock()

    def edit() -> None:
        arguments = ("--namespace", namespace, "patch", "configmap", "p", "--type=merge", "-p", '{"data":{"x":"e"}}')
        assert control_plane.kubectl(*arguments).returncode == 0

    async def scenario(cluster: Cluster) -> None:
        writer = Writer(cluster, Store(), Autoscalers(lambda *_: None), clock, wake=nobody)
        assert await writer.write([file(namespace, uid)], uid) == []
        refusals: list[Refusal] = []
        for _ in range(MENDED_AT_MOST + 1):
            assert refusals == []
            edit()
            body = await cluster.get(CONFIG_MAP, namespace, "p")
            assert body is not None
            writer._store.put(CONFIG_MAP, body)  # what the watch does
            refusals = await writer.write([file(namespace, uid)], uid)
        assert [one.reason for one in refusals] == ["FieldConflict"]
        assert "kubectl-patch owns .data.x" in refusals[0].message
        clock.now_s += MENDED_WITHIN_S + 1
        assert await writer.write([file(namespace, uid)], uid) == []

    asked(scenario)


def test_a_standing_wish_is_left_at_once(namespace: str, uid: str, control_plane: ControlPlaneHandle) -> None:
    async def scenario(cluster: Cluster) -> list[Refusal]:
        await Writer(cluster, Store(), Autoscalers(lambda *_: None), wake=nobody).write([file(namespace, uid)], uid)
        theirs = json.dumps(config_map(namespace, "p", {"x": "theirs"}))
        arguments = ("apply", "--server-side", "--field-manager=argo", "--force-conflicts", "-f", "-")
        assert control_plane.kubectl(*arguments, stdin=theirs).returncode == 0
        return await Writer(cluster, Store(), Autoscalers(lambda *_: None), wake=nobody).write(
            [file(namespace, uid)], uid
        )

    assert [(one.reason, "argo owns .data.x" in one.message) for one in asked(scenario)] == [("FieldConflict", True)]


def test_what_the_api_server_refuses_is_told_in_its_words(namespace: str, uid: str) -> None:
    async def scenario(cluster: Cluster) -> list[Refusal]:
        manifest = sink(namespace, uid)
        manifest["spec"]["selector"]["matchLabels"] = {"other": "pods"}
        return await Writer(cluster, Store(), Autoscalers(lambda *_: None), wake=nobody).write([manifest], uid)

    [refusal] = asked(scenario)
    assert refusal.reason == "ApiRefused"
    assert "selector" in refusal.message


def test_what_somebody_else_scales_is_left_unless_it_is_to_be_off(namespace: str, uid: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        scalers = Autoscalers(lambda *_: None)
        target = {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "crypto-sink"}}}
        scalers.put(AUTOSCALER, {"metadata": {"name": "mine", "namespace": namespace}} | target)
        store = Store()
        writer = Writer(cluster, store, scalers, wake=nobody)
        [refusal] = await writer.write([sink(namespace, uid)], uid)
        assert refusal.reason == "ForeignAutoscaler"
        assert "HorizontalPodAutoscaler mine scales Deployment crypto-sink" in refusal.message
        assert await writer.write([with_replicas(sink(namespace, uid), 0)], uid) == []

    asked(scenario)


def test_only_replicas_change_when_scaled_down_and_only_own_children_go(namespace: str, uid: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        store = Store()
        writer = Writer(cluster, store, Autoscalers(lambda *_: None), wake=nobody)
        await writer.write([sink(namespace, uid)], uid)
        place = Place("Deployment", namespace, "crypto-sink")
        await writer.scale_down(["crypto-sink", "crypto-none"], namespace, "another-uid")
        assert (store.get(place) or {})["spec"]["replicas"] == 2
        await writer.scale_down(["crypto-sink"], namespace, uid)
        found = await cluster.get(DEPLOYMENT, namespace, "crypto-sink")
        assert found is not None
        assert found["spec"]["replicas"] == 0
        assert MANAGER in {one["manager"] for one in found["metadata"]["managedFields"]}
        await writer.delete([place], "another-uid")
        assert await cluster.get(DEPLOYMENT, namespace, "crypto-sink") is not None
        await writer.delete([place], uid)
        assert await cluster.get(DEPLOYMENT, namespace, "crypto-sink") is None

    asked(scenario)


@pytest.mark.parametrize("replicas", [0, 2])
def test_replicas_are_all_that_is_planned(replicas: int) -> None:
    assert with_replicas(sink("ns"), replicas)["spec"]["replicas"] == replicas
