"""Load shapes: how many users at which moment, as pure functions of the time.

All scale with the users and the time that the user asked for (Locust's ``-u`` and ``-t``), which a shape of
Locust's own would override.
"""

from collections.abc import Callable

from bench.errors import BadInput

Step = tuple[int, float]  # users, and how many of them start or stop a second
Shape = Callable[[float, int], Step]

_RUNGS = 5
_RATE = 100.0  # users a second: at once, as far as Locust does that well
_SPIKE_BASE, _SPIKE_BEGINS, _SPIKE_ENDS = 0.1, 0.4, 0.6
_SOAK_RAMP = 0.05


def ladder(share: float, users: int) -> Step:
    """Rungs of equal length, each with twice the users of the one before; the last has all."""
    rung = min(int(share * _RUNGS), _RUNGS - 1)
    return max(1, users >> (_RUNGS - 1 - rung)), _RATE


def spike(share: float, users: int) -> Step:
    """A tenth of the users, all of them at once for the middle fifth of the time, then a tenth again."""
    inside = _SPIKE_BEGINS <= share < _SPIKE_ENDS
    return (users if inside else max(1, round(users * _SPIKE_BASE))), _RATE


def soak(share: float, users: int) -> Step:
    """A slow start within the first twentieth of the time, then all users until the end."""
    risen = min(1.0, share / _SOAK_RAMP)
    return max(1, round(users * risen)), _RATE


SHAPES: dict[str, Shape] = {"ladder": ladder, "spike": spike, "soak": soak}


def at(name: str, seconds: float, users: int, run_time: float) -> Step | None:
    """(users, users to start or stop a second) of a shape after so many seconds; None when it is over."""
    if seconds >= run_time:
        return None
    return SHAPES[name](max(0.0, seconds) / run_time, users)


def check(name: str, run_time: float | None) -> None:
    """Refuse a shape without the time that it scales with.

    Raises:
        BadInput: no run time was given.
    """
    if not run_time:
        raise BadInput(f"shape {name}: its times scale with the run time; give one with -t, as in -t 2m")
