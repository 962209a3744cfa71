"""A decision as a document: what was decided, from which figures, and what held it back. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from k2_core.controller.stall import Stall
from k2_core.policy.decision import Decision


def document(decision: Decision, stall: Stall | None = None) -> dict[str, Any]:
    """Return a decision in words that JSON has; figures that are not known are left out.

    The names are those of `k2_core.policy`, with their units.

    Args:
        decision: The decision.
        stall: What hung then.
    """
    level, replicas = decision.level, decision.replicas
    terms = replicas.step.terms
    return {
        "level": {
            "applied": int(level.applied),
            "recommended": int(level.recommended),
            "crossed": int(level.crossed),
            "probing": level.probing,
            "why": str(level.why),
            "held_by": [str(reason) for reason in level.held_by],
        },
        "sinks": {
            "applied": replicas.applied,
            "recommended": replicas.step.recommended,
            "commit_interval_s": replicas.commit_interval_s,
            "why": str(replicas.step.why),
            "held_by": [str(reason) for reason in replicas.step.held_by],
            "terms": None if terms is None else _known(asdict(terms)),
        },
        "seen": _known(asdict(decision.observation)),
        "forecast_records": decision.signals.forecast_records,
        "slope_per_s": decision.signals.slope_per_s,
        "draining": decision.signals.draining,
        "missing": list(decision.missing),
        "outage_budget_s": decision.outage_budget_s,
        "retention_at_risk": decision.retention_at_risk,
        "stalled": None if stall is None else {**asdict(stall), "sinks": list(stall.sinks), "text": str(stall)},
    }


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != math.inf}
