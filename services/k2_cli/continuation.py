"""Where synthetic trade ids go on after a restart: at the end of the log, so that ids stay contiguous and unique.

Called by `k2 up` before it starts its own exchange on a folder that holds synthetic trades.
"""

from __future__ import annotations

from k2_core.config import ServiceSettings
from k2_core.kafka import KafkaAdmin
from k2_core.schemas import schema_source
from k2_core.spec import Pipeline
from k2_ingest.log_end import LogEnd


def next_ids(settings: ServiceSettings, pipeline: Pipeline) -> dict[str, int]:
    """Return the next id of each symbol that has trades in the log.

    Raises:
        KafkaUnavailableError: Kafka does not answer.
    """
    found: dict[str, int] = {}
    topics = KafkaAdmin(settings).describe_topics(pipeline.trades_topics())
    for source in pipeline.spec.ingestion:
        topic = pipeline.trades_topic(source)
        if topic in topics:  # a run that ended early may not have made it
            end = LogEnd(settings, topic, topics[topic][1], schema_source(settings))
            found |= {symbol: last + 1 for symbol, last in end.last_sequences(source.symbol_names).items()}
    return found
