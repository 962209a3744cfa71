"""`k2 query`: trades of a symbol through the running API, as a table or as the API's own JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from k2_cli import output
from k2_cli.exits import ExitCode
from k2_cli.folder import DEFAULT_DIR, StateFolder
from k2_core.errors import QueryError, RetryableError, SetupError
from k2_query.settings import DEVELOPMENT_KEY

EXAMPLE: Final = "Example:  k2 query BTCUSDT --window 15m --limit 20"
TIMEOUT_S: Final = 30.0
"""Above the service's own limit of 10 s, so that its answer is the one that is shown."""
COLUMNS: Final = ("event_time", "symbol", "trade_id", "side", "price", "quantity")


def query(  # noqa: PLR0913  # an option each
    symbol: Annotated[str, typer.Argument(help="The venue's symbol, such as BTCUSDT.")],
    *,
    start: Annotated[str | None, typer.Option(help="From this time (ISO 8601, UTC).")] = None,
    end: Annotated[str | None, typer.Option(help="Up to this time (ISO 8601, UTC).")] = None,
    window: Annotated[str | None, typer.Option(help="The newest trades of this long, such as 15m.")] = None,
    limit: Annotated[int, typer.Option(help="Most trades.", min=1)] = 20,
    url: Annotated[str | None, typer.Option(help="Base of the API; without it, of the pipeline on --dir.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="K2_API_KEY", show_envvar=True, help="Default: the laptop's development key.")
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", help="State folder of the pipeline.")] = DEFAULT_DIR,
    json_output: Annotated[bool, typer.Option("--json", help="The API's answer as it is.")] = False,
) -> None:
    """Show trades of a symbol. Exit 1 when the API says that its answer is not complete."""
    if window is not None and (start is not None or end is not None):
        raise QueryError("--window", "found --start or --end too, expected a window alone or times alone")
    given = {"symbol": symbol.upper(), "limit": limit, "start": start, "end": end, "window": window}
    wanted = {name: value for name, value in given.items() if value is not None}
    path = "/v1/trades" if start is not None or end is not None else "/v1/trades/recent"
    answer = ask(url or _url_of(StateFolder(directory)), path, wanted, api_key or DEVELOPMENT_KEY)
    if json_output:
        output.print_json(answer)
    else:
        _print(answer)
    raise typer.Exit(ExitCode.OK if answer["meta"].get("complete", True) else ExitCode.NOT_WELL)


def _url_of(folder: StateFolder) -> str:
    running = folder.running()
    if running is None:
        raise RetryableError(f"API: found nothing running on {folder.root}, expected `k2 up` on it, or --url")
    return running.api_url


def ask(url: str, path: str, parameters: dict[str, Any], api_key: str) -> dict[str, Any]:
    """Return the API's answer.

    Raises:
        QueryError: It says that a parameter is wrong.
        SetupError: It refuses the key, or is no K2.
        RetryableError: It does not answer, or not now.
    """
    try:
        answer = httpx.get(
            f"{url}{path}", params=parameters, headers={"X-API-Key": api_key}, timeout=TIMEOUT_S, trust_env=False
        )
    except httpx.TransportError as error:
        raise RetryableError(f"API: found {error or type(error).__name__} at {url}, expected an answer") from error
    if answer.is_success:
        document: dict[str, Any] = answer.json()
        return document
    _refused(answer)
    raise AssertionError("a refusal raises")


def _refused(answer: httpx.Response) -> None:
    """Raise what a refusal means.

    Raises:
        K2Error: Always.
    """
    said = answer.text.strip()[:300]
    if answer.headers.get("content-type", "").startswith(("application/json", "application/problem+json")):
        problem = answer.json()
        said = str(problem.get("detail", said)) if isinstance(problem, dict) else said
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise SetupError(f"API key: found HTTP {answer.status_code} ({said}), expected a key that it accepts")
    if answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
        raise QueryError("query", f"{said} (HTTP {answer.status_code})")
    raise RetryableError(f"API: found HTTP {answer.status_code} ({said}), expected an answer")


def _print(answer: dict[str, Any]) -> None:
    rows, meta = answer["data"], answer["meta"]
    output.print_table(COLUMNS, ([str(row.get(name)) for name in COLUMNS] for row in rows))
    said = [f"{len(rows)} trades"]
    if meta.get("query_time_ms") is not None:
        said.append(f"{meta['query_time_ms']:.1f} ms")
    output.console().print(", ".join(said) + ("" if meta.get("complete", True) else ", NOT complete"))
    for warning in meta.get("warnings") or ():
        output.say(str(warning))
