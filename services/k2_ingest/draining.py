"""The end of every ingest process: wait for the last acknowledgements and say how it ended.

Called by the services of both kinds of source. The last line is what `k2 up --once` reads its counts from.
"""

from __future__ import annotations

import logging
from typing import Final

from k2_ingest.producer import TradeProducer

log = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_UNACKNOWLEDGED: Final = 4
"""Some received trades are not known to be in the log; the number is in the last line."""


def drain(producer: TradeProducer, timeout_s: float) -> int:
    """Flush and close a producer; returns the exit code.

    Args:
        producer: Nothing is given to it any more.
        timeout_s: For Kafka to acknowledge what is left.
    """
    left = producer.flush(timeout_s)
    producer.close()
    received = sum(account.received for account in producer.accounts.values())
    told = {"received": received, "unacknowledged": left, "dead_lettered": producer.dead_letters.acknowledged}
    if left:
        log.error("ingest stops with records that kafka has not acknowledged", extra=told)
        return EXIT_UNACKNOWLEDGED
    log.info("ingest stops, all is in the log", extra=told)
    return EXIT_OK
