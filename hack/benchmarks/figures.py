"""One measured figure, its target and its baseline; every benchmark returns a list of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Args:
        benchmark: The benchmark's name.
        metric: What was measured.
        value: The figure.
        unit: Of the value, target and baseline.
        target: What was asked for, or None where nothing was.
        met: Whether the value reaches the target; None without one.
        baseline: What the obvious way of doing it reached in the same run, or None.
    """

    benchmark: str
    metric: str
    value: float
    unit: str
    target: float | None = None
    met: bool | None = None
    baseline: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the figure as a JSON object."""
        return asdict(self)


def at_least(
    benchmark: str, metric: str, value: float, unit: str, target: float, baseline: float | None = None
) -> Figure:
    """Return a figure that ought to be large."""
    return Figure(benchmark, metric, value, unit, target, value >= target, baseline)


def at_most(
    benchmark: str, metric: str, value: float, unit: str, target: float, baseline: float | None = None
) -> Figure:
    """Return a figure that ought to be small."""
    return Figure(benchmark, metric, value, unit, target, value <= target, baseline)
