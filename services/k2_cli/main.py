"""The command `k2`: its subcommands, and what a shell learns from them.

Every subcommand has a module of its own; heavy imports wait until one needs them. Errors are one line on stderr and an
exit code (`k2_cli.exits`), never a traceback: a traceback is a bug of K2.
"""

from __future__ import annotations

import sys
from typing import Final

import typer

from k2_cli import audit, exchange, lag, output, query, reset, status, tables, up
from k2_cli.exits import ExitCode, exit_code_of
from k2_core.errors import K2Error

_EXIT_CODES: Final = "Exit codes: 0 well, 1 the answer is no, 2 bad input, 3 set-up, 4 unavailable, 130 interrupted."

app = typer.Typer(
    name="k2",
    help=f"K2, a market-data lakehouse: exchange feeds to Kafka to Iceberg, exactly once.\n\n{_EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("up", epilog=up.EXAMPLE)(up.up)
app.command("status", epilog=status.EXAMPLE)(status.status)
app.command("query", epilog=query.EXAMPLE)(query.query)
app.command("audit", epilog=audit.EXAMPLE)(audit.audit)
app.command("lag", epilog=lag.EXAMPLE)(lag.lag)
app.command("tables", epilog=tables.EXAMPLE)(tables.tables)
app.command("exchange", epilog=exchange.EXAMPLE)(exchange.exchange)
app.command("reset", epilog=reset.EXAMPLE)(reset.reset)


def run() -> None:
    """Run the command that the arguments say, and exit."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run the command that these arguments say; returns the exit code."""
    try:
        result = app(arguments, prog_name="k2", standalone_mode=False)
    except K2Error as error:
        output.say(str(error))
        return exit_code_of(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:  # an unknown option, or a value of another type
        output.say(f"{error.format_message()} (see `k2 {' '.join(arguments[:1])} --help`)")
        return ExitCode.BAD_INPUT
    return result if isinstance(result, int) else ExitCode.OK
