"""The hot loop: messages in, encoded trades out.

Owns the order of the steps (parse, account, sequence, encode, produce) and what happens to a message that is no trade.
Called by the feed with each batch. It never waits, but for a Kafka queue that is full altogether.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from k2_core.errors import RecordError
from k2_core.types import Symbol
from k2_ingest.deliveries import Account
from k2_ingest.encode import TradeEncoder
from k2_ingest.metrics import IngestMetrics
from k2_ingest.producer import TradeProducer
from k2_ingest.sequence import Arrival, SequenceTracker
from k2_ingest.trade import Trade
from k2_ingest.venues import binance

log = logging.getLogger(__name__)

GAP_LINES: Final = 100  # gaps told one by one; the metrics count them all


@dataclass(slots=True)
class Lane:
    """All that one symbol's trades meet."""

    account: Account
    tracker: SequenceTracker
    encoder: TradeEncoder


class Pipeline:
    """Turns messages into records.

    Args:
        parser: Reads the venue's messages.
        lanes: By symbol; exactly the symbols that the parser knows.
        producer: Takes the records.
        metrics: Counts what is no trade.
        on_notice: Called with a message about the connection.
    """

    def __init__(
        self,
        parser: binance.Parser,
        lanes: Mapping[Symbol, Lane],
        producer: TradeProducer,
        metrics: IngestMetrics,
        on_notice: Callable[[binance.Notice], object],
    ) -> None:
        self._parse = parser.parse
        self._lanes = lanes
        self._producer = producer
        self._metrics = metrics
        self._on_notice = on_notice
        self._gaps_told = 0

    def handle(self, messages: Sequence[bytes], received_ns: int) -> None:
        """Take a batch of messages.

        Args:
            messages: As they came, in order.
            received_ns: When they came off the socket, UTC nanoseconds.
        """
        receive_us, self._metrics.heard_ns = received_ns // 1_000, received_ns
        parse, lanes = self._parse, self._lanes
        values: dict[Symbol, list[bytes]] = {}
        last: Trade | None = None
        for payload in messages:
            try:
                message = parse(payload)
            except RecordError as problem:
                self._dead_letter(payload, problem, received_ns)
                continue
            if not isinstance(message, Trade):
                self._other(message)
                continue
            last = message
            symbol = message.symbol
            lane = lanes[symbol]
            lane.account.received += 1
            if lane.tracker.observe(message.trade_id) is Arrival.AFTER_GAP:
                self._tell_gap(symbol, lane.tracker)
            encoded = lane.encoder.encode(message, receive_us)
            if symbol in values:
                values[symbol].append(encoded)
            else:
                values[symbol] = [encoded]
        for symbol, batch in values.items():
            self._producer.produce(symbol, batch, received_ns)
        self._metrics.messages.inc(len(messages))
        if last is not None:
            self._metrics.exchange_to_receive.observe((receive_us - last.exchange_us) / 1e6)

    def _other(self, message: binance.Notice | binance.Ignored) -> None:
        if isinstance(message, binance.Ignored):
            self._metrics.ignored.labels(message.kind).inc()
        else:
            self._on_notice(message)

    def _dead_letter(self, payload: bytes, problem: RecordError, received_ns: int) -> None:
        self._metrics.dead_letters.labels(problem.reason).inc()
        self._producer.dead_letter(payload, problem, received_ns)

    def _tell_gap(self, symbol: Symbol, tracker: SequenceTracker) -> None:
        self._gaps_told += 1
        if self._gaps_told > GAP_LINES:
            return
        start, end = tracker.missing[-1]
        log.warning(
            "trades are missing",
            extra={"symbol": symbol, "first_id": start, "last_id": end - 1, "count": end - start},
        )
