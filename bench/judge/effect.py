"""Whether a load met the fault that was in its way: a store that was never hit has kept nothing."""

from collections import Counter

from bench.fault_cell import FaultSeen, Moment

_STALLED = 0.5  # of the fault's time, in which nothing ended ok
_SLOWER = 0.9  # of the rate before it
_SHORTEST_S = 0.2  # a fault that was over sooner can't be told from a busy moment


def unmet(seen: FaultSeen) -> str | None:
    """Why nothing in a load shows that the fault was there; None if something does.

    A power cut has no load, a wrong clock must change nothing, and a load that was killed has met it.
    """
    if seen.kind in ("power", "clock") or (seen.kind, seen.target) == ("kill", "load"):
        return None
    if seen.begin_s is None or seen.end_s is None:
        return None
    errors: Counter[str] = Counter()
    for moment in seen.timeline:
        errors.update(moment.errors)
    span = seen.end_s - seen.begin_s
    stalled = seen.gone_s is not None and seen.gone_s >= max(_STALLED * span, _SHORTEST_S)
    shown = {
        "kill": bool(errors) or seen.reconnects > 0 or stalled,
        "stop": bool(errors) or seen.reconnects > 0 or stalled,
        "freeze": stalled,
        "blackhole": stalled or errors["timeout"] > 0,
        "lock": stalled or any("lock" in label or "busy" in label for label in errors),
        "latency": stalled or _slower(seen),
        "throttle": stalled or _slower(seen),
        "reset": errors["connection"] > 0,
        "disconnect": seen.reconnects > 0 or bool(errors),
        "connections": seen.reconnects > 0 or bool(errors) or stalled,
        "deadlocks": seen.met > 0 or any("lock" in label or "busy" in label for label in errors),
        "read_only": errors["read_only"] > 0,
        "disk_full": errors["disk_full"] > 0 or stalled,
    }
    return None if shown[seen.kind] else f"the load did not meet it: {_WANTED[seen.kind]}"


_WANTED = {
    **dict.fromkeys(("kill", "stop", "connections"), "no error, no connection made anew, no pause"),
    **dict.fromkeys(("freeze", "blackhole"), "operations went on ending"),
    "lock": "operations went on ending",
    **dict.fromkeys(("latency", "throttle"), "it was no slower than before"),
    "reset": "no connection broke",
    "disconnect": "no connection broke",
    "deadlocks": "nobody was a victim",
    "read_only": "no write was refused",
    "disk_full": "no write found the disk full, and none waited",
}


def _slower(seen: FaultSeen) -> bool:
    begin, end = seen.begin_s or 0.0, seen.end_s or 0.0
    quiet, slowed = _between(seen, 0.0, begin), _between(seen, begin, end)
    if not quiet or not slowed:
        return False
    return _rate(slowed) < _SLOWER * _rate(quiet)


def _between(seen: FaultSeen, begin_s: float, end_s: float) -> list[Moment]:
    """The quarters of a second that lie wholly within this time."""
    return [moment for moment in seen.timeline if begin_s <= moment.at_s and moment.at_s + 0.25 <= end_s]


def _rate(moments: list[Moment]) -> float:
    return sum(moment.metrics for moment in moments) / len(moments)
