"""`python -m k2_operator`: the operator, or `render` to see what it would apply.

Exit codes: 0 stopped by SIGTERM; 2 a wrong configuration, pipeline or command line; 3 it cannot go on now.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from k2_core.errors import K2Error, SpecError
from k2_operator.config import CONFIG_VARIABLE, DEFAULT_PATH
from k2_operator.render import render_files


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says and return the exit code."""
    parsed = _parser().parse_args(arguments)
    config_path = Path(os.environ.get(CONFIG_VARIABLE, DEFAULT_PATH))
    try:
        if parsed.command == "render":
            sys.stdout.write(render_files(parsed.file, parsed.config))
            return 0
        from k2_operator.main import run  # noqa: PLC0415  # rendering needs neither Kopf nor Kafka

        return run(config_path)
    except SpecError as error:
        print(f"k2-operator: {error}", file=sys.stderr)  # noqa: T201  # before, or instead of, the log
        return 2
    except K2Error as error:
        print(f"k2-operator: {error}", file=sys.stderr)  # noqa: T201  # as above
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m k2_operator",
        description=f"Run the operator with the configuration that {CONFIG_VARIABLE} names ({DEFAULT_PATH}).",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    render = commands.add_parser("render", help="print the manifests of a pipeline; needs no cluster")
    render.add_argument("-f", "--file", type=Path, action="append", required=True, help="a pipeline; may be repeated")
    render.add_argument("--config", type=Path, help="the operator's configuration; its defaults unless given")
    return parser


if __name__ == "__main__":
    sys.exit(main())
