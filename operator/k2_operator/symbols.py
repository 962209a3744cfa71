"""What the condition SymbolsKnown says: whether the exchanges know the symbols that a pipeline asks them for.

Ingests ask, and tell Kafka; the operator sees no exchange. It takes nothing back from what flows: `Ready` and the phase
are as without it, and no pod is touched for it. Called by `status`. Pure.
"""

from __future__ import annotations

from typing import Final

from k2_operator.signals import Answer

CONDITION: Final = "SymbolsKnown"


def known(answer: Answer | None, *, stopping: bool) -> list[tuple[str, bool | None, str, str]]:
    """Return type, status, reason and message of the condition; nothing where no ingest has said anything lately.

    Args:
        answer: The last look at Kafka, to which they say it.
        stopping: Whether the pipeline is to stop: what was said before is no news of what would be asked next.
    """
    said = None if answer is None or answer.log is None else answer.log.symbols
    return [] if said is None or stopping else [(CONDITION, said.known, said.reason, said.message)]
