"""What a node leaves elsewhere: found by name, in the right order, and nobody else's."""

from __future__ import annotations

from pathlib import Path

from onenode import cgroups
from onenode.traces import mounts_below

MOUNTINFO = """\
21 1 254:0 / / rw - ext4 /dev/vda rw
40 21 0:30 / /run/k2/one/rootfs rw - overlay overlay rw
41 21 0:31 / /state/kubelet/pods/a/volume rw - tmpfs tmpfs rw
42 21 0:32 / /state-of-another rw - tmpfs tmpfs rw
43 41 0:33 / /state/kubelet/pods/a/volume/deep\\040er rw - tmpfs tmpfs rw
"""
MOUNTS = """\
proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
"""


def test_mounts_are_found_by_folder_the_youngest_first() -> None:
    assert mounts_below([Path("/state"), Path("/run/k2/one")], MOUNTINFO) == [
        "/state/kubelet/pods/a/volume/deep er",
        "/state/kubelet/pods/a/volume",
        "/run/k2/one/rootfs",
    ]


def test_hierarchies_of_both_versions_are_found_once() -> None:
    names = ["cpu", "memory", "unified"]
    assert cgroups.hierarchies(MOUNTS) == [Path("/sys/fs/cgroup") / name for name in names]
