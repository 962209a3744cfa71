"""One connection's subscriptions and the requests that change them.

Owns the rules of "Live Subscribing/Unsubscribing to streams" in the exchange's documentation: request URLs, control
messages, acknowledgements and error codes. Used by `session`. Pure: text in, text out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

import msgspec

from k2_core.errors import PermanentError
from k2_ingest.exchange.messages import TimeUnit, Variant

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_STRING_ID = re.compile(r"[0-9A-Za-z]{1,36}")
_TIME_UNITS = {
    "MILLISECOND": TimeUnit.MILLISECOND,
    "millisecond": TimeUnit.MILLISECOND,
    "MICROSECOND": TimeUnit.MICROSECOND,
    "microsecond": TimeUnit.MICROSECOND,
}


class PathError(PermanentError):
    """A WebSocket was opened at a place that the exchange does not have."""


class RefusedError(PermanentError):
    """A control message that cannot be obeyed.

    Args:
        code: The exchange's error code.
        text: The exchange's words for it.
        extra: Further fields of the reply.
    """

    def __init__(self, code: int, text: str, **extra: object) -> None:
        super().__init__(text)
        self.reply = {"code": code, "msg": text, **extra}


class Subscriptions:
    """What one connection listens to, and in which form."""

    def __init__(self, variant: Variant, streams: Iterable[str], limit: int) -> None:
        self.variant = variant
        self.names: dict[str, None] = {}  # a set that keeps the order in which streams were asked for
        self._limit = limit
        self._subscribe(list(streams))

    @classmethod
    def from_target(cls, target: str, limit: int) -> Subscriptions:
        """Read a handshake's request target.

        Args:
            target: `/ws`, `/ws/<stream>[/<stream>...]` or `/stream?streams=a/b`, each with an optional `timeUnit`.
            limit: Streams that the connection may listen to.

        Raises:
            PathError: The path, the time unit or the number of streams is not one the exchange accepts.
        """
        url = urlsplit(target)
        query = parse_qs(url.query, keep_blank_values=True)
        unit_text = query.get("timeUnit", ["MILLISECOND"])[0]
        unit = _TIME_UNITS.get(unit_text)
        if unit is None:
            raise PathError(f"timeUnit: found {unit_text!r}, expected one of {', '.join(_TIME_UNITS)}")
        path = url.path.rstrip("/")
        if path == "/stream":
            names = query.get("streams", [""])[0].split("/")
        elif path == "/ws" or path.startswith("/ws/"):
            names = path.removeprefix("/ws").split("/")
        else:
            raise PathError(f"path: found {url.path!r}, expected /ws, /ws/<stream> or /stream?streams=<stream>/...")
        try:
            return cls(Variant(path == "/stream", unit), filter(None, names), limit)
        except RefusedError as refused:
            raise PathError(str(refused)) from refused

    def handle(self, text: bytes) -> bytes:
        """Obey one control message.

        Returns:
            The reply's JSON: an acknowledgement, an answer, or an error with the documented code.
        """
        try:
            request = self._parse(text)
            reply = {"result": self._obey(request), "id": request.get("id")}
        except RefusedError as refused:
            reply = refused.reply
        return json.dumps(reply, separators=(",", ":")).encode()

    @staticmethod
    def _parse(text: bytes) -> dict[str, object]:
        try:
            request = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise RefusedError(3, f"Invalid JSON: expected value at {_error_place(text)}") from None
        if not isinstance(request, dict) or "method" not in request:
            raise RefusedError(2, f"Invalid request: missing field `method` at line 1 column {len(text)}")
        if request["method"] not in METHODS:
            wanted = ", ".join(f"`{method}`" for method in METHODS)
            raise RefusedError(
                2, f"Invalid request: unknown variant {request['method']}, expected one of {wanted} at line 1 column 28"
            )
        if not _is_request_id(request.get("id")):
            raise RefusedError(2, "Invalid request: request ID must be an unsigned integer")
        return request

    def _obey(self, request: dict[str, object]) -> object:
        params = request.get("params", [])
        values: list[object] = params if isinstance(params, list) else [params]
        match request["method"]:
            case "SUBSCRIBE":
                self._subscribe(_stream_names(values))
            case "UNSUBSCRIBE":
                for name in _stream_names(values):
                    self.names.pop(name, None)
            case "LIST_SUBSCRIPTIONS":
                return list(self.names)
            case "SET_PROPERTY":
                self._set_property(values, request.get("id"))
            case _:
                _check_property(values, 1, request.get("id"))
                return self.variant.combined
        return None

    def _subscribe(self, names: list[str]) -> None:
        if len(self.names.keys() | names) > self._limit:
            raise RefusedError(2, f"Invalid request: too many parameters, {self._limit} streams a connection at most")
        self.names.update(dict.fromkeys(names))

    def _set_property(self, values: list[object], request_id: object) -> None:
        _check_property(values, 2, request_id)
        if len(values) != 2 or not isinstance(values[1], bool):
            raise RefusedError(1, "Invalid value type: expected Boolean")
        self.variant = Variant(values[1], self.variant.unit)


def _check_property(values: list[object], most: int, request_id: object) -> None:
    if not values or not isinstance(values[0], str):
        raise RefusedError(2, "Invalid request: property name must be a string")
    if len(values) > most:
        raise RefusedError(2, "Invalid request: too many parameters")
    if values[0] != "combined":
        raise RefusedError(0, "Unknown property", id=request_id)


def _stream_names(values: list[object]) -> list[str]:
    names = [value for value in values if isinstance(value, str)]
    if len(names) != len(values):
        raise RefusedError(2, "Invalid request: stream names must be strings")
    return names


def _is_request_id(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or (isinstance(value, str) and _STRING_ID.fullmatch(value) is not None)


def _error_place(text: bytes) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"line {error.lineno} column {error.colno}"
    except UnicodeDecodeError as error:
        return f"line 1 column {error.start + 1}"
    return "line 1 column 1"
