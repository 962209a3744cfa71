"""The command `k2`: its subcommands, and what a shell learns from them.

Every subcommand has a module of its own, imported only when it is asked for. Errors are one line on stderr and an exit
code (`k2_cli.exits`), never a traceback: a traceback is a bug of K2.
"""

from __future__ import annotations

import importlib
import sys
from typing import Final

import typer

from k2_cli import output
from k2_cli.exits import ExitCode, exit_code_of
from k2_core.errors import K2Error

COMMANDS: Final = (
    *("up", "status", "query", "audit", "lag", "level", "tables", "quality", "plan", "validate", "exchange"),
    *("maintain", "trino-secrets", "adopt", "adopt-topic", "rollback", "reset"),
)
"""In the order of the help. Each is a function of the same name (`_` for `-`) in a module of the same name, beside its
`EXAMPLE`.
"""

HELP: Final = """K2, a market-data lakehouse: exchange feeds to Kafka to Iceberg, exactly once.

Exit codes: 0 well, 1 the answer is no, 2 bad input, 3 set-up, 4 unavailable,
5 refused until a person decides, 130 interrupted."""


def run() -> None:
    """Run the command that the arguments say, and exit."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run the command that these arguments say, or show the help without any; returns the exit code."""
    wanted = [name for name in arguments[:1] if name in COMMANDS]
    try:
        result = application(wanted)(arguments or ["--help"], prog_name="k2", standalone_mode=False)
    except K2Error as error:
        output.say(str(error))
        return exit_code_of(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:  # an unknown option, or a value of another type
        output.say(f"{error.format_message()} (see `{' '.join(['k2', *wanted])} --help`)")
        return ExitCode.BAD_INPUT
    return result if isinstance(result, int) else ExitCode.OK


def application(wanted: list[str]) -> typer.Typer:
    """Return the command line with one command, if that is what is wanted, else with all: the help shows them.

    Importing one command takes a tenth of a second, all of them a whole one.
    """
    app = typer.Typer(
        name="k2",
        help=HELP,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_group)
    for name in wanted or COMMANDS:
        function = name.replace("-", "_")
        module = importlib.import_module(f"k2_cli.{function}")
        app.command(name, epilog=module.EXAMPLE)(getattr(module, function))
    return app


def _group() -> None:  # its presence keeps the command's name an argument where there is one command only
    pass
