"""Names for the strings and numbers that are easily confused, and the five levels of degradation.

Used everywhere; it imports nothing of K2.
"""

from __future__ import annotations

import enum
from typing import NewType

Symbol = NewType("Symbol", str)
"""A venue's own symbol, upper case, such as `BTCUSDT`."""
TopicName = NewType("TopicName", str)
"""A Kafka topic's name; after a topic is deleted and made again the name is the same and the id is not."""
TopicId = NewType("TopicId", str)
"""A Kafka topic's UUID in Kafka's own URL-safe base64."""
Partition = NewType("Partition", int)
"""A partition's number within its topic, from 0."""
Offset = NewType("Offset", int)
"""A position in one partition; an end is exclusive."""
SnapshotId = NewType("SnapshotId", int)
"""An Iceberg snapshot's id: immutable, so whatever is derived from it may be cached for ever."""


class Level(enum.IntEnum):
    """How much of the pipeline's work is deferred; higher defers more, and nothing is ever lost."""

    NORMAL = 0
    SOFT = 1
    GRACEFUL = 2
    AGGRESSIVE = 3
    CIRCUIT_BREAK = 4
