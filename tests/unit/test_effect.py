"""A fault that the load did not meet has proved nothing: each kind is seen where it is, and missed where it is not."""

from typing import get_args

import pytest
from made import a_seen

from bench.fault_cell import FaultSeen, Moment
from bench.faults.spec import Kind
from bench.judge.effect import unmet

BEGIN, END = 1.0, 2.5


def course(during: int = 50, **errors: int) -> list[Moment]:
    """50 metrics in each quarter of a second, ``during`` in those of the fault, whose first has these errors."""
    return [
        Moment(at_s=n / 4, metrics=during if 4 <= n < 10 else 50, errors=dict(errors) if n == 4 else {})
        for n in range(16)
    ]


def quiet(kind: str, target: str = "database", **changes: object) -> FaultSeen:
    """A load that goes on as if nothing were."""
    return a_seen(
        **{"kind": kind, "target": target, "begin_s": BEGIN, "end_s": END, "gone_s": 0.1, "reconnects": 0, "met": 0}
        | {"timeline": course()}
        | changes
    )


def test_what_nobody_noticed_was_not_met() -> None:
    for kind in get_args(Kind):
        never = kind in ("clock", "power")
        assert (unmet(quiet(kind)) is None) == never, kind


def test_a_load_that_was_killed_has_met_it() -> None:
    assert unmet(quiet("kill", "load")) is None


STALLED = {"gone_s": 0.8}
SIGNS: list[tuple[str, dict[str, object]]] = [
    ("kill", STALLED), ("kill", {"reconnects": 1}), ("kill", {"timeline": course(connection=1)}),
    ("stop", STALLED), ("stop", {"reconnects": 1}),
    ("freeze", STALLED), ("blackhole", STALLED), ("blackhole", {"timeline": course(timeout=1)}),
    ("lock", STALLED), ("lock", {"timeline": course(sqlite_busy=1)}),
    ("latency", {"timeline": course(during=40)}), ("throttle", {"timeline": course(during=10)}),
    ("reset", {"timeline": course(connection=1)}),
    ("disconnect", {"reconnects": 3}), ("connections", {"reconnects": 3}), ("connections", STALLED),
    ("deadlocks", {"met": 1}), ("deadlocks", {"timeline": course(pg_40p01_deadlock=2)}),
    ("read_only", {"timeline": course(read_only=5)}),
    ("disk_full", {"timeline": course(disk_full=5)}), ("disk_full", STALLED),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "sign"), SIGNS, ids=lambda one: one if isinstance(one, str) else "-".join(one))
def test_one_sign_is_enough(kind: str, sign: dict[str, object]) -> None:
    assert unmet(quiet(kind, **sign)) is None


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("freeze", {"reconnects": 9}),
        ("freeze", {"gone_s": 0.7}),
        ("reset", {"timeline": course(disk_full=3)}),
        ("read_only", {"timeline": course(connection=3)}),
        ("disk_full", {"timeline": course(connection=3)}),
        ("latency", {"timeline": course(during=46)}),
        ("deadlocks", {"timeline": course(timeout=3)}),
    ],
)
def test_another_ones_sign_is_none(kind: str, other: dict[str, object]) -> None:
    said = unmet(quiet(kind, **other))
    assert said is not None
    assert said.startswith("the load did not meet it: ")


def test_a_fault_without_its_times_is_none_of_this() -> None:
    assert unmet(quiet("freeze", end_s=None)) is None
