"""Who may ask how much: REST request weights, 429 and 418, and connection attempts.

Owns the counting of "LIMITS" in the exchange's REST documentation. Used by `rest` and `session`. Pure: the time is an
argument. It keeps one small account for each address it has ever seen: it serves a loopback.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from k2_ingest.exchange.config import MINUTE_S, Limits

ATTEMPT_WINDOW_S = 300.0  # "300 connections per attempt every 5 minutes per IP"
LONGEST_BAN_S = 3 * 86_400  # "IP bans ... scale in duration for repeat offenders, from 2 minutes to 3 days"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a request meets.

    Args:
        status: 200, 429 or 418.
        used: Weight used in the current minute, this request included.
        retry_after_s: Seconds to wait; 0 when the request may go on.
    """

    status: int
    used: int
    retry_after_s: int = 0


@dataclass(slots=True)
class _Account:
    minute: int = -1
    used: int = 0
    strikes: int = 0
    bans: int = 0
    banned_until_s: float = 0.0
    attempts: deque[float] = field(default_factory=deque)


class Accounts:
    """The use that each address makes of the exchange.

    Args:
        limits: What is allowed.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._accounts: dict[str, _Account] = {}

    def charge(self, address: str, weight: int, now_s: float) -> Verdict:
        """Count one request against its address.

        Args:
            address: The client's address.
            weight: The request's weight.
            now_s: UTC seconds; weights are counted by whole minutes of it.
        """
        account = self._accounts.setdefault(address, _Account())
        minute = int(now_s // MINUTE_S)
        if minute != account.minute:
            account.minute, account.used, account.strikes = minute, 0, 0
        account.used += weight
        if now_s < account.banned_until_s:
            return Verdict(418, account.used, _whole_seconds(account.banned_until_s - now_s))
        if account.used <= self._limits.weight_per_minute:
            return Verdict(200, account.used)
        account.strikes += 1
        if account.strikes > self._limits.strikes:
            return self._ban(account, now_s)
        return Verdict(429, account.used, _whole_seconds((minute + 1) * MINUTE_S - now_s))

    def _ban(self, account: _Account, now_s: float) -> Verdict:
        seconds = min(self._limits.ban_s * 2**account.bans, LONGEST_BAN_S)
        account.bans += 1
        account.strikes = 0
        account.banned_until_s = now_s + seconds
        return Verdict(418, account.used, seconds)

    def attempt(self, address: str, now_s: float) -> bool:
        """Count one WebSocket handshake; False when the address has tried too often in five minutes."""
        attempts = self._accounts.setdefault(address, _Account()).attempts
        while attempts and attempts[0] <= now_s - ATTEMPT_WINDOW_S:
            attempts.popleft()
        attempts.append(now_s)
        return len(attempts) <= self._limits.connection_attempts


def _whole_seconds(seconds: float) -> int:
    return max(1, int(-(-seconds // 1)))
