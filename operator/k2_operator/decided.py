"""What a pipeline's controller decided, as a reconcile needs it and as status, condition and Events say it.

Made by `controllers`, read by `situation`, `status` and `reporting`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from k2_core.control import Override
from k2_core.controller.loop import Tick
from k2_core.controller.shown import document
from k2_core.controller.stall import Stall
from k2_core.policy.decision import Decision
from k2_core.policy.reasons import Reason
from k2_core.types import Level

WAITS_FOR_WORK: Final = frozenset({"commit_duration_s"})
"""What a pipeline does not have before its first record: that it is missing is no fault."""
LONGEST_NAME: Final = 256
LONGEST_REASON: Final = 1024
"""As the resource definition has it."""
_HELD: Final = "Until then levels and sinks stay as they are"
_FIGURES: Final = ("unread_records", "oldest_unread_age_s", "memory_ratio", "offered_per_s", "accepted_per_s")
_MORE_FIGURES: Final = ("shed_per_s", "deferred_records", "ready_replicas", "downstream_failing")
_TERMS: Final = ("throughput_per_s", "utilization", "wanted", "cap")


@dataclass(frozen=True, slots=True)
class Decided:
    """The newest of it.

    Args:
        decision: What the policy says; None before the first turn.
        override: What a person wants instead, if anything is in force.
        level_from: The decision that last changed the level.
        sinks_from: The decision that last changed the number of sinks.
        told: Whether services have been told.
        problem: What Kafka refused; None if nothing.
        seen: Whether Kafka answered at the last turn: else figures are those of a turn before.
        lacking: Whether figures have been missing for so long that it is a fault.
        stall: Sinks that hang.
    """

    decision: Decision | None = None
    override: Override | None = None
    level_from: Decision | None = None
    sinks_from: Decision | None = None
    told: bool = False
    problem: str | None = None
    seen: bool = False
    lacking: bool = False
    stall: Stall | None = None

    @property
    def level(self) -> Level | None:
        """What services do: a person's decision goes before the policy's. None is unknown."""
        if self.override is not None and self.override.level is not None:
            return self.override.level
        return None if self.decision is None else self.decision.level.applied

    @property
    def sinks(self) -> int | None:
        """How many sinks there are to be; None while nothing is decided."""
        return None if self.decision is None else self.decision.replicas.applied

    @property
    def lacks(self) -> bool:
        """Whether a figure is missing that a pipeline with sinks has."""
        return self.decision is None or not WAITS_FOR_WORK.issuperset(self.decision.missing)

    @property
    def released(self) -> bool:
        """Whether services have been told that nothing is decided any more, as both modes are Off."""
        if self.decision is None or not self.told:
            return False
        return self.decision.level.why is self.decision.replicas.step.why is Reason.MODE_OFF


def taken(last: Decided, tick: Tick, *, told: bool) -> Decided:
    """Return what is decided after a turn."""
    new = tick.decision
    before = last.decision
    same_level = before is not None and before.level.applied is new.level.applied
    same_sinks = before is not None and before.replicas.applied == new.replicas.applied
    return Decided(
        decision=new,
        override=tick.override,
        level_from=last.level_from if same_level else new,
        sinks_from=last.sinks_from if same_sinks else new,
        told=told,
        seen=tick.look is not None,
        stall=tick.stall,
    )


def news(last: Decided, new: Decided) -> bool:
    """Whether a reconcile has to do or to say something at once; why things are as they are can wait."""
    return _essence(last) != _essence(new)


def _essence(decided: Decided) -> tuple[object, ...]:
    decision = decided.decision
    fixed = (decided.override, decided.problem, decided.lacking, decided.released, decided.stall is not None)
    if decision is None:
        return fixed
    level = decision.level
    return (*fixed, level.applied, level.recommended, decision.replicas.applied, decision.retention_at_risk is True)


# The status.


def shown(decided: Decided, previous: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return `status.decision`.

    Args:
        decided: With a decision.
        previous: What stands in the status.
        now: As the status writes it.
    """
    decision = decided.decision
    assert decision is not None  # noqa: S101  # the caller has looked
    level, replicas = decision.level, decision.replicas
    found: dict[str, Any] = {
        "level": _since(
            {
                "applied": int(level.applied),
                "recommended": int(level.recommended),
                "why": str(level.why),
                "heldBy": [str(reason) for reason in level.held_by],
            },
            "applied",
            previous.get("level", {}),
            now,
        ),
        "sinks": _since(
            {
                "wanted": replicas.applied,
                "recommended": replicas.step.recommended,
                "why": str(replicas.step.why),
                "heldBy": [str(reason) for reason in replicas.step.held_by],
            },
            "wanted",
            previous.get("sinks", {}),
            now,
        ),
        "missing": list(decision.missing),
    }
    if decided.override is not None:
        found["override"] = override_shown(decided.override)
    return found


def _since(found: dict[str, Any], name: str, previous: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Add since when a figure is what it is, and leave out what is not known."""
    same = name in previous and previous[name] == found[name]
    since = previous.get("since", now) if same else now
    return {key: value for key, value in found.items() if value is not None} | {"since": since}


def override_shown(override: Override) -> dict[str, Any]:
    """Return a person's decision as the status says it."""
    until = override.until.isoformat(timespec="seconds").replace("+00:00", "Z")
    by, reason = override.by[:LONGEST_NAME], override.reason[:LONGEST_REASON]
    return {"level": int(override.level or 0), "by": by, "until": until, "reason": reason}


def steady(shown_decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `status.decision` that is worth writing at once."""
    level, sinks = shown_decision.get("level", {}), shown_decision.get("sinks", {})
    return {
        "level": {name: level.get(name) for name in ("applied", "recommended")},
        "sinks": sinks.get("wanted"),
        "override": shown_decision.get("override"),
    }


def verdict(decided: Decided) -> tuple[bool, str, str] | None:
    """Return status, reason and message of the condition DecisionReady; None before the first turn."""
    decision = decided.decision
    if decided.problem is not None:
        return False, "Refused", f"{decided.problem}; grant it, or correct spec.kafka. {_HELD}"
    if decision is not None and decision.retention_at_risk:
        kept_s = decision.retention_s or 0.0
        text = f"less than a fifth of the log's retention of {kept_s:.0f} s is left until it removes what is owed to"
        return (
            False,
            "RetentionAtRisk",
            f"{text} the table: raise retention.ms or retention.bytes, then see why the sinks are behind",
        )
    if decided.stall is not None:
        text = f"no sink reads what there is or says anything; {decided.stall.way_out}"
        return False, "SinksStalled", f"{text}. Levels go by Kafka's figures, and sinks stay as many"
    if decided.lacking:
        what = "everything" if decision is None else ", ".join(decision.missing) or "everything"
        text = f"not known for a while: {what}; see KafkaReady and SinkReady, or the operator's log"
        return False, "FiguresMissing", f"{text}. {_HELD}"
    return None if decision is None else (True, "Deciding", "")


# Events.


def changes(
    previous: Mapping[str, Any], new: Mapping[str, Any], decided: Decided | None
) -> Iterator[tuple[str, str, str]]:
    """Yield type, reason and message of an Event for each change of the level and of the number of sinks.

    Args:
        previous: `status.decision` as it stood.
        new: As it was written.
        decided: With the decisions that made the changes.
    """
    if decided is None or decided.level_from is None or decided.sinks_from is None or not new:
        return
    before, after = previous.get("level", {}).get("applied", 0), new["level"]["applied"]
    if before != after:
        why, text = str(decided.level_from.level.why), figures(decided.level_from)
        yield ("Warning" if after > before else "Normal"), why, f"level {before} to {after} ({why}): {text}"
    there = decided.sinks_from.observation.replicas
    sinks, wanted = previous.get("sinks", {}).get("wanted", there), new["sinks"].get("wanted")
    if sinks is not None and wanted is not None and sinks != wanted:
        why, text = str(decided.sinks_from.replicas.step.why), figures(decided.sinks_from)
        yield "Normal", why, f"sinks {sinks} to {wanted} ({why}): {text}"
    yield from _override_changes(previous.get("override"), new.get("override"), after)


def _override_changes(
    previous: Mapping[str, Any] | None, new: Mapping[str, Any] | None, decided_level: int
) -> Iterator[tuple[str, str, str]]:
    if new is not None and new != previous:
        text = f"level {new['level']} until {new['until']}, not {decided_level}: {new['by']}: {new['reason']}"
        yield "Warning", "Override", text
    elif previous is not None and new is None:
        yield "Normal", "OverrideEnded", f"level {decided_level} again, as decided"


def figures(decision: Decision) -> str:
    """Return the figures that a decision was made from, those that are known."""
    said = document(decision)
    terms = said["sinks"]["terms"] or {}
    known = [(name, said["seen"][name]) for name in (*_FIGURES, *_MORE_FIGURES) if name in said["seen"]]
    known += [(name, terms[name]) for name in _TERMS if name in terms]
    return ", ".join(f"{name} {value:.6g}" for name, value in known)
