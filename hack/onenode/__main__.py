"""The command line of `hack/cluster`: arguments in, one line of result or of error out.

Run by hack/cluster. It decides nothing: each command is one call of another module.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from k2_core.errors import K2Error, SetupError
from onenode import cluster, images
from onenode.processes import Processes
from onenode.servers import PORTS, Servers
from onenode.tools import tool

ROOT: Final = Path(__file__).parents[2]
DEFAULT_DIR: Final = ROOT / ".k2" / "cluster"
FAILED: Final = 3


def main(arguments: Sequence[str]) -> int:
    """Run one command and return the exit status: 0, 2 for wrong usage, 3 where the machine lacks something."""
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except K2Error as error:
        sys.stderr.write(f"cluster: {error}\n")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hack/cluster", description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--dir", type=Path, default=DEFAULT_DIR, help="the cluster's folder (default: .k2/cluster)")
    up = commands.add_parser("up", parents=[folder], help="start a cluster")
    up.add_argument("--name", default="k2", help="of the network namespace and the node (default: k2)")
    up.add_argument("--control-plane-only", action="store_true", help="no node, no root: for CRDs, operator and chart")
    up.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    commands.add_parser("down", parents=[folder], help="end it and remove everything of it")
    commands.add_parser("status", parents=[folder], help="say what runs")
    build = commands.add_parser("images", parents=[folder], help="build the images and load them into the cluster")
    build.add_argument("--target", action="append", choices=images.ALL, help="one of them; may be repeated")
    build.add_argument("--base", default=images.BASE, help="image under all of them (default: made by debootstrap)")
    build.add_argument("--build-only", action="store_true", help="do not load them")
    beside = commands.add_parser("servers", parents=[folder], help="servers beside the cluster, for its pods")
    beside.add_argument("action", choices=["up", "down"])
    beside.add_argument("--only", action="append", choices=list(PORTS), help="one of them; may be repeated")
    beside.add_argument("--exchange-option", action="append", default=[], help="more for `k2 exchange`; use = for it")
    execute = commands.add_parser("exec", parents=[folder], help="run a command in the cluster's network")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    tools = commands.add_parser("tool", help="print the path of a program, made or installed if need be")
    tools.add_argument("name", nargs="+")
    return parser


def _up(options: argparse.Namespace) -> int:
    if options.control_plane_only:
        started = cluster.up_control_plane(options.dir)
    else:
        started = cluster.up(options.dir, options.name)
    if options.json:
        print(started.to_json())
    else:
        print(
            f"export KUBECONFIG={started.kubeconfig}" if not started.enter else "hack/cluster exec -- kubectl get nodes"
        )
    return 0


def _down(options: argparse.Namespace) -> int:
    cluster.down(options.dir.absolute())
    return 0


def _status(options: argparse.Namespace) -> int:
    found = cluster.load(options.dir.absolute())
    processes = Processes(Path(found.dir))
    print(f"{found.api_server}  kubeconfig {found.kubeconfig}")
    dead = 0
    for name in processes.names():
        pid = processes.pid(name)
        dead += pid is None
        print(f"{name:28}{'ended' if pid is None else f'process {pid}'}")
    return FAILED if dead else 0


def _images(options: argparse.Namespace) -> int:
    targets = tuple(options.target or images.possible())
    into = None if options.build_only else options.dir.absolute()
    cluster.give_images(into, targets, options.base)
    for target in targets:
        print(images.reference(target))
    return 0


def _servers(options: argparse.Namespace) -> int:
    servers = Servers(cluster.load(options.dir.absolute()))
    names = tuple(options.only or PORTS)
    if options.action == "down":
        servers.stop(names)
    else:
        print(json.dumps(servers.up(names, options.exchange_option)))
    return 0


def _exec(options: argparse.Namespace) -> int:
    found = cluster.load(options.dir.absolute())
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        raise SetupError("found no command, expected one: hack/cluster exec -- kubectl get pods")
    folders = [str(tool(name).parent) for name in ("kubectl", "helm")]
    os.environ |= {"KUBECONFIG": found.kubeconfig, "PATH": ":".join([*folders, os.environ["PATH"]])}
    command = [*found.enter, *argv]
    os.execvp(command[0], command)  # noqa: S606 -- becoming the command is the purpose; no shell is wanted


def _tool(options: argparse.Namespace) -> int:
    for name in options.name:
        print(tool(name))
    return 0


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "images": _images,
    "servers": _servers,
    "exec": _exec,
    "tool": _tool,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
