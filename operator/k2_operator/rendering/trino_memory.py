"""How a Trino node divides the memory of its pod. Called by `trino_config`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from k2_core.quantity import quantity_value

MIB: Final = 1024**2
BESIDE_THE_HEAP: Final = Decimal("0.25")
"""Of the pod's memory, for what a JVM has outside its heap: code (256 MiB), classes, threads, the network's buffers."""
LEAST_BESIDE_MIB: Final = 640
HEADROOM: Final = Decimal("0.3")
"""Of the heap, for what Trino does not account for; its own default."""
QUERIES: Final = Decimal("0.6")
"""Of the heap, for all queries together and so for the largest of them; with the headroom Trino needs it below 1."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a node gets, in MiB.

    Args:
        heap: Of the JVM.
        headroom: Of the heap, kept from queries.
        query: Of the heap, for one query at most.
    """

    heap: int
    headroom: int
    query: int


def divided(limit: str) -> Memory:
    """Return how a node divides its memory.

    Args:
        limit: Of the pod, as a Kubernetes quantity; 2Gi or more.
    """
    whole = int(quantity_value(limit) // MIB)
    heap = whole - max(LEAST_BESIDE_MIB, int(whole * BESIDE_THE_HEAP))
    return Memory(heap=heap, headroom=int(heap * HEADROOM), query=int(heap * QUERIES))
