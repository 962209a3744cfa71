"""How Kubernetes' own programs are built from its Go module: the go.mod around it and the flags.

Pure; called by `onenode.tools`. The module requires its own staging modules (k8s.io/api and others) at v0.0.0, which
only its repository can resolve; outside, each needs a `replace` with the published version, v0.X.Y for Kubernetes
v1.X.Y (https://github.com/kubernetes/kubernetes/blob/master/staging/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_STAGING: Final = re.compile(r"^\s*(?:require\s+)?(k8s\.io/[a-z0-9-]+) v0\.0\.0$", re.MULTILINE)
_GO: Final = re.compile(r"^go \S+$", re.MULTILINE)


def go_mod(own: str, version: str) -> str:
    """Write the go.mod of a throw-away module in which Kubernetes' commands can be built.

    Args:
        own: Text of Kubernetes' go.mod.
        version: Of Kubernetes, `1.35.4`.
    """
    staging = f"v0.{version.partition('.')[2]}"
    language = _GO.search(own)
    lines = [
        "module k2.dev/tools",
        language[0] if language else "go 1.25",
        f"require k8s.io/kubernetes v{version}",
        *(f"replace {name} => {name} {staging}" for name in _STAGING.findall(own)),
    ]
    return "\n".join(lines) + "\n"


def build_flags(version: str) -> list[str]:
    """Flags of `go build`: no path of this machine in the programs, and the version that they report."""
    reported = f"-X k8s.io/component-base/version.gitVersion=v{version}"
    return ["-mod=mod", "-trimpath", "-buildvcs=false", f"-ldflags=-s -w {reported}"]


def packages(programs: Sequence[str]) -> list[str]:
    """Go packages of the programs."""
    return [f"k8s.io/kubernetes/cmd/{name}" for name in programs]
