"""Who asks: the id of the request's key, known to whatever works for the request, as the correlation id is.

Set by `k2_query.middleware`, read where another system is to be told whose work it does. Never holds a secret.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_key_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("k2_key_id", default=None)


def current_key_id() -> str | None:
    """Return the id of the key that this thread or task works for, or None."""
    return _key_id.get()


@contextlib.contextmanager
def calling(key_id: str) -> Iterator[None]:
    """Have what happens inside happen for the owner of a key."""
    token = _key_id.set(key_id)
    try:
        yield
    finally:
        _key_id.reset(token)
