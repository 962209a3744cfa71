from __future__ import annotations

from typing import Any

import pytest

from k2_operator.names import CONFIG_MAP, DEPLOYMENT, POD
from k2_operator.store import Key, Place, Store, owner_uid, pipeline_of, place_of, reduced

KEY = Key("ns", "p")


def body(name: str = "a", version: int = 1, pipeline: str | None = "p", **more: object) -> dict[str, Any]:
    labels = {} if pipeline is None else {"k2.dev/pipeline": pipeline}
    own = {"name": name, "namespace": "ns", "resourceVersion": str(version)}
    metadata = own | {"labels": labels, "managedFields": [1]}
    return {"metadata": metadata, **more}


PLACE = place_of(CONFIG_MAP, body())


def test_what_was_put_is_there_typed_and_without_managed_fields() -> None:
    store = Store()
    assert store.put(CONFIG_MAP, body(data={"x": "y"})) == KEY
    found = store.get(PLACE)
    assert found is not None
    assert (found["kind"], found["apiVersion"], found["data"]) == ("ConfigMap", "v1", {"x": "y"})
    assert "managedFields" not in found["metadata"]
    assert [place for place, _ in store.of(KEY)] == [PLACE]
    assert store.places(CONFIG_MAP) == store.places(CONFIG_MAP, ("ns",)) == [PLACE]
    assert store.places(CONFIG_MAP, ("other",)) == store.places(DEPLOYMENT) == []


def test_an_older_version_changes_nothing() -> None:
    store = Store()
    store.put(CONFIG_MAP, body(version=5, data={"x": "new"}))
    assert store.put(CONFIG_MAP, body(version=5)) is None
    assert store.put(CONFIG_MAP, body(version=4, data={"x": "old"})) is None
    assert store.drop(PLACE, 4) is None
    assert len(store) == 1
    assert store.drop(PLACE, 6) == KEY
    assert store.drop(PLACE) is None
    assert len(store) == 0
    assert list(store.of(KEY)) == []


def test_an_object_of_no_pipeline_is_not_kept() -> None:
    store = Store()
    assert store.put(CONFIG_MAP, body(pipeline=None)) is None
    assert len(store) == 0


def test_an_object_that_loses_its_label_is_news_for_its_pipeline() -> None:
    store = Store()
    store.put(CONFIG_MAP, body())
    assert store.put(CONFIG_MAP, body(version=2, pipeline=None)) == KEY
    assert store.get(PLACE) is None


def test_an_object_may_change_hands() -> None:
    store = Store()
    store.put(CONFIG_MAP, body())
    assert store.put(CONFIG_MAP, body(version=2, pipeline="q")) == Key("ns", "q")
    assert list(store.of(KEY)) == []
    assert [place for place, _ in store.of(Key("ns", "q"))] == [PLACE]


def test_of_pods_little_is_kept() -> None:
    status = {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": []}
    found = reduced(POD, body(spec={"containers": [1]}, status=status))
    assert "spec" not in found
    assert found["status"] == {"phase": "Running", "containerStatuses": []}


@pytest.mark.parametrize(
    ("kind", "kept"), [pytest.param(DEPLOYMENT, True, id="of it"), pytest.param(CONFIG_MAP, False, id="of others")]
)
def test_a_deployments_status_is_kept(kind: Any, kept: bool) -> None:
    assert ("status" in reduced(kind, body(status={"a": 1}))) is kept


def test_owner_and_pipeline() -> None:
    owned = body()
    owned["metadata"]["ownerReferences"] = [{"uid": "1"}, {"uid": "2", "controller": True}]
    assert owner_uid(owned) == "2"
    assert owner_uid(body()) is None
    assert pipeline_of(body()) == KEY
    assert place_of(POD, body()) == Place("Pod", "ns", "a")
