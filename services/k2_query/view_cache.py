"""Keeps what was read of ranges that never change, for the next query that needs them, within a budget of bytes.

Used by `log_reader` and `raw_reader`, which say by what a range is known.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from k2_query.segments import TailView

CACHE_BYTES: Final = 64 * 1024 * 1024
Key = TypeVar("Key")


class ViewCache(Generic[Key]):
    """The views that were asked for last. Thread-safe. One view alone may be larger than the budget."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: OrderedDict[Key, TailView] = OrderedDict()

    def get(self, key: Key) -> TailView | None:
        """Return what is kept under a key, or None."""
        with self._lock:
            view = self._views.get(key)
            if view is not None:
                self._views.move_to_end(key)
            return view

    def keep(self, key: Key, view: TailView) -> None:
        """Keep a view, and let go of those that nobody asked for the longest."""
        with self._lock:
            self._views[key] = view
            while len(self._views) > 1 and sum(map(_bytes, self._views.values())) > CACHE_BYTES:
                self._views.popitem(last=False)


def _bytes(view: TailView) -> int:
    return sum(segment.nbytes for segment in view.segments)
