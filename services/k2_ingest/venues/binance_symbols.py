"""Which symbols Binance does not know: questions to `GET /api/v3/exchangeInfo`, and what its answers mean.

The exchange refuses a whole list for one unknown symbol and does not say which, so a list that it refuses is asked for
again in halves. A question weighs 20 of the 6,000 that an address may use in a minute: one look makes `MOST_QUESTIONS`
at most. Called by `k2_ingest.symbols`. A symbol is unknown only if the exchange says so of it alone; whatever else
happens is no answer. One whose trading is halted (`status` other than `TRADING`) is known.
"""

from __future__ import annotations

import json
import ssl
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

import httpx
import msgspec

from k2_core.errors import VenueUnavailableError
from k2_core.types import Symbol

LONGEST_LIST: Final = 100
"""Symbols in one question: a URL of some 2 kB."""
MOST_QUESTIONS: Final = 100
"""Of one look, a third of what an address may ask in a minute; what is left undecided counts as known."""
TIMEOUT_S: Final = 5.0
"""Of each step of a question: to connect, to send, to read on."""
LONGEST_ANSWER_BYTES: Final = 16 * 1024 * 1024
_PATH: Final = "/api/v3/exchangeInfo"
_INVALID_SYMBOL: Final = -1121
_SHOWN_BYTES: Final = 80


class _Info(msgspec.Struct):
    symbols: list[msgspec.Raw]


class _Refusal(msgspec.Struct):
    code: int
    msg: str = ""


class SymbolQuestions:
    """Asks one exchange.

    Args:
        base_url: Of its REST server, without a path.
        tls: What its certificate is checked with.
    """

    def __init__(self, base_url: str, tls: ssl.SSLContext) -> None:
        self.base_url = base_url
        self._tls = tls

    async def unknown(self, symbols: Sequence[Symbol], suspects: Collection[Symbol] = ()) -> frozenset[Symbol]:
        """Return which symbols the exchange does not know.

        Args:
            symbols: In upper case, each once.
            suspects: Those that were unknown before: asked for one by one, so that they cost no others a question.

        Raises:
            NotToldError: The exchange refused to answer; it may say for how long.
            VenueUnavailableError: There was no answer, or none that can be read.
        """
        others = [symbol for symbol in symbols if symbol not in suspects]
        lists = [others[at : at + LONGEST_LIST] for at in range(0, len(others), LONGEST_LIST)]
        waiting = deque([*lists, *([symbol] for symbol in symbols if symbol in suspects)])
        found: set[Symbol] = set()
        async with httpx.AsyncClient(base_url=self.base_url, timeout=TIMEOUT_S, verify=self._tls) as client:
            for _ in range(MOST_QUESTIONS):
                if not waiting:
                    break
                asked = waiting.popleft()
                if await self._knows(client, asked):
                    continue
                if len(asked) == 1:
                    found.add(asked[0])
                else:
                    middle = len(asked) // 2
                    waiting += [asked[:middle], asked[middle:]]
        return frozenset(found)

    async def _knows(self, client: httpx.AsyncClient, symbols: Sequence[Symbol]) -> bool:
        """Whether the exchange knows all of them."""
        parameters = {"symbols": json.dumps(list(symbols), separators=(",", ":"))}
        try:
            async with client.stream("GET", _PATH, params=parameters) as answer:
                body = await _body(answer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            found = f"found {type(error).__name__}: {error}".rstrip(": ")
            raise VenueUnavailableError(f"{self.base_url}: {found}, expected an answer") from error
        if answer.status_code == httpx.codes.OK:
            self._require_readable(body)
            return True
        if answer.status_code == httpx.codes.BAD_REQUEST and _code(body) == _INVALID_SYMBOL:
            return False
        raise NotToldError(
            f"{self.base_url}: found HTTP {answer.status_code} {body[:_SHOWN_BYTES]!r}, expected its symbols",
            _seconds(answer.headers.get("Retry-After")),
        )

    def _require_readable(self, body: bytes) -> None:
        """Refuse what another server than an exchange says, such as a proxy's page."""
        try:
            msgspec.json.decode(body, type=_Info)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise VenueUnavailableError(
                f"{self.base_url}: found {body[:_SHOWN_BYTES]!r}, expected its symbols"
            ) from error


class NotToldError(VenueUnavailableError):
    """The exchange refused to answer.

    Args:
        text: What was found and expected.
        retry_after_s: How long it wants to be left alone; None if it does not say.
    """

    def __init__(self, text: str, retry_after_s: float | None) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


async def _body(answer: httpx.Response) -> bytes:
    """Return an answer's bytes, as many as a list of symbols may have."""
    parts, size = list[bytes](), 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > LONGEST_ANSWER_BYTES:
            raise httpx.DecodingError(f"more than {LONGEST_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _code(body: bytes) -> int | None:
    try:
        return msgspec.json.decode(body, type=_Refusal).code
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None
