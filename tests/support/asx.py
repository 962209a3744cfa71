"""Lines as the ASX vendor writes them, made up; and what they mean, read by other code than K2's."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

Trade = tuple[str, Decimal, Decimal, datetime, str, str, str]
"""Symbol, price, quantity, time in UTC, qualifier, venue, buyer."""


def answered(row: Mapping[str, Any]) -> Trade:
    """Return a row of the API's answer as a trade."""
    said = row["vendor_data"]
    texts = said.get("qualifier", ""), said.get("venue", ""), said.get("buyer_id", "")
    at = datetime.fromisoformat(row["exchange_timestamp"]).astimezone(UTC)
    return (row["symbol"], Decimal(row["price"]), Decimal(row["quantity"]), at, *texts)


def line(number: int) -> bytes:
    """The line of a trade, different for different numbers but for every tenth, which repeats the one before."""
    if number % 10 == 0:
        number -= 1
    second = 36_000 + number % 20_000
    time = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{number % 1000:03}"
    venue = "X" if number % 97 == 0 else ""
    qualifier = "3" if venue else str(number % 3)
    price, volume = f"{30 + number % 700 / 100:.2f}", 1 + number % 5000
    return f"03/{10 + number % 5}/2014,{time},{price},{volume},{qualifier},{venue},".encode()


def write(path: Path, count: int) -> Path:
    """A file of so many trades."""
    path.write_bytes(b"".join(line(number) + b"\r\n" for number in range(1, count + 1)))
    return path


def read(path: Path, symbol: str) -> list[Trade]:
    """Every row of a file by Python's csv module, in order: what must come out at the other end."""
    found: list[Trade] = []
    with path.open(newline="") as stream:
        for day, time, price, volume, qualifier, venue, buyer in csv.reader(stream):
            read = datetime.strptime(f"{day} {time}", "%m/%d/%Y %H:%M:%S.%f")  # noqa: DTZ007  # the zone is next
            at = read.replace(tzinfo=ZoneInfo("Australia/Sydney")).astimezone(UTC)
            found.append((symbol, Decimal(price), Decimal(volume), at, qualifier, venue, buyer))
    return found
