"""One cluster in one folder: brought up, looked at, taken down without a trace.

Owns the folder and `cluster.json` in it, which is there before anything is started and goes last. Called by
`hack/cluster` and by tests.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import yaml

from k2_core.errors import SetupError
from onenode import kind, network, node, traces
from onenode.control_plane import KUBECONFIG, Address, ControlPlane, free_address
from onenode.images import Builder
from onenode.processes import Processes
from onenode.tools import Say, say_on_stderr

NODE_PLANE: Final = Address(network.NODE_ADDRESS, 6443, 2379, 2380, fixed=True)
"""In a namespace of its own every port is free."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a cluster is and how to get at it.

    Args:
        dir: Its folder.
        kubeconfig: The administrator's; as good as the key to everything in it.
        api_server: URL.
        name: Of its network namespace; empty for a control plane alone.
        enter: Put before a command to run it inside the cluster's network; empty for a control plane alone and kind.
        kind: Whether kind made it.
    """

    dir: str
    kubeconfig: str
    api_server: str
    name: str = ""
    enter: Sequence[str] = ()
    kind: bool = False

    def to_json(self) -> str:
        """One line, for scripts."""
        return json.dumps(asdict(self))

    def save(self) -> None:
        """Write down what belongs to this folder."""
        path = _record(Path(self.dir))
        temporary = path.with_suffix(".new")
        temporary.write_text(self.to_json() + "\n")
        temporary.replace(path)


def load(directory: Path) -> Cluster:
    """Return the cluster of a folder.

    Raises:
        SetupError: There is none.
    """
    try:
        return Cluster(**json.loads(_record(directory).read_text()))
    except FileNotFoundError:
        raise SetupError(f"found no cluster in {directory}, expected one from `hack/cluster up`") from None


def claim(directory: Path) -> None:
    """Make a cluster's folder, readable by its owner alone.

    Raises:
        SetupError: It has a cluster already, or holds something else.
    """
    if _record(directory).exists():
        raise SetupError(f"found a cluster in {directory} already; `hack/cluster down` removes it")
    if directory.exists() and any(directory.iterdir()):
        raise SetupError(f"found files in {directory}, expected an empty or no folder for a cluster")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)


def up_control_plane(
    directory: Path, *, bound: bool = False, say: Say = say_on_stderr, services: str | None = None
) -> Cluster:
    """Start etcd, API server and controller-manager on free ports of loopback.

    Args:
        directory: The cluster's folder; must not hold anything yet.
        bound: Whether everything dies with this process.
        say: Told about every step that takes seconds.
        services: The range of Services' addresses, if there are to be more than the 254 of a test cluster.

    Raises:
        SetupError: It could not be started; nothing is left.
    """
    directory = directory.absolute()
    claim(directory)
    processes = Processes(directory, bound=bound)
    plane = ControlPlane(processes, free_address(directory), say=say, services=services)
    cluster = Cluster(str(directory), str(plane.kubeconfig), plane.address.server)
    cluster.save()
    try:
        plane.start()
        plane.wait_for_controllers()
    except BaseException:
        down(directory)
        raise
    return cluster


def up(directory: Path, name: str, *, say: Say = say_on_stderr) -> Cluster:
    """Start a whole cluster of one node in a network namespace of its own.

    Args:
        directory: The cluster's folder; must not hold anything yet.
        name: Of the namespace and the node; two clusters need two.
        say: Told about every step that takes seconds.

    Raises:
        SetupError: There is no root, or it could not be started; nothing is left.
    """
    directory = directory.absolute()
    if kind.usable():
        return _up_kind(directory, name)
    if os.geteuid() != 0:
        raise SetupError("found no root, expected it for a node; `hack/cluster up --control-plane-only` needs none")
    node.ensure_programs(say)
    if network.exists(name):
        raise SetupError(f"found a network namespace {name!r} already; `hack/cluster down`, or another --name")
    claim(directory)
    processes = Processes(directory, enter=network.enter(name))
    plane = ControlPlane(processes, NODE_PLANE, probe=node.probe(processes), say=say)
    cluster = Cluster(str(directory), str(plane.kubeconfig), plane.address.server, name, network.enter(name))
    cluster.save()
    try:
        network.create(name)
        member = node.Node(name, plane, processes, say=say)
        plane.start(meanwhile=member.start_containerd)
        member.start()
    except BaseException:
        down(directory)
        raise
    return cluster


def _up_kind(directory: Path, name: str) -> Cluster:
    claim(directory)
    kubeconfig = directory / KUBECONFIG
    Cluster(str(directory), str(kubeconfig), "", name, kind=True).save()
    try:
        kind.create(name, kubeconfig)
        server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        cluster = Cluster(str(directory), str(kubeconfig), server, name, kind=True)
        cluster.save()
    except BaseException:
        down(directory)
        raise
    return cluster


def down(directory: Path) -> None:
    """End exactly the processes of this cluster and remove its folder and what it left elsewhere.

    Raises:
        SetupError: There is no cluster, or something of it cannot be ended.
    """
    found = load(directory)
    if found.kind:
        kind.delete(found.name, Path(found.kubeconfig))
    processes = Processes(directory)
    processes.stop_all()
    if found.enter:
        places = node.places(directory, found.name)
        traces.end_pods(places)
        traces.unmount([places.home, places.run])
        network.remove(found.name)
        traces.remove(places)
    shutil.rmtree(directory)


def give_images(directory: Path | None, targets: Sequence[str], base: str, *, say: Say = say_on_stderr) -> None:
    """Build images and load them into a cluster.

    Args:
        directory: The cluster's folder; None only builds.
        targets: Of hack/Dockerfile.
        base: Image under all of them.
        say: Told about every step that takes seconds.

    Raises:
        SetupError: There is no cluster with a node, or a step failed.
    """
    found = None if directory is None else load(directory)
    if found is not None and not (found.enter or found.kind):
        raise SetupError(f"found a control plane alone in {found.dir}, expected a node to load images into")
    builder = Builder(say)
    builder.build(targets, base)
    if found is None:
        return
    with tempfile.TemporaryDirectory(prefix="k2-images-") as scratch:
        archive = Path(scratch) / "images.tar"
        builder.export(targets, archive)
        say(f"loading {len(targets)} images, {archive.stat().st_size / 1e6:.0f} MB")
        if found.kind:
            kind.load(found.name, archive)
        else:
            node.load_image(node.places(Path(found.dir), found.name), archive)


def _record(directory: Path) -> Path:
    return directory / "cluster.json"
