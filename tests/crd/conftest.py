"""The API server with the definition in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cluster import ControlPlaneHandle
from support.crd_api import PipelineApi


@pytest.fixture(scope="session")
def api(control_plane: ControlPlaneHandle) -> Iterator[PipelineApi]:
    with PipelineApi(control_plane.kubeconfig, "crd-tests") as client:
        client.install()
        yield client
