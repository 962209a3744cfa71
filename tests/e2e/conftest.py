"""One real cluster with K2 installed by its chart, for all end-to-end tests; started once, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from onenode import cluster, images
from onenode.servers import PORTS, Servers
from support.lacking import needed
from support.site import Site

NAME: Final = "k2-e2e"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node, its servers, the images and the chart; tests make namespaces and pipelines of their own in it."""
    directory = tmp_path_factory.mktemp("site") / "cluster"
    with needed("a one-node cluster"):
        started = cluster.up(directory, NAME)
    try:
        cluster.give_images(directory, images.possible(), images.BASE)
        reached = Servers(started).up(list(PORTS))
        made = Site(directory, NAME, Path(started.kubeconfig), tuple(started.enter), reached)
        made.install()
        yield made
    finally:
        cluster.down(directory)


@pytest.fixture(scope="session")
def servers(site: Site) -> Servers:
    """The servers beside the cluster."""
    return Servers(cluster.load(site.directory))
