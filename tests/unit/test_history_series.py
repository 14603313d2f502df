"""Past runs become series: one a machine, with the changes that were planted and what was new where they began."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench.history.past import PastRun
from bench.history.series import SHOWN, Series, is_better, known_figures
from bench.history.series import history as history_of

START = datetime(2025, 3, 1, tzinfo=UTC)
P99 = "postgresql/http/log_metric/20/p99_ms"


def runs(count: int, ratio: float = 1.0, at: int = 0, **changes: Any) -> list[PastRun]:
    rng = random.Random(count)
    found = []
    for number in range(count):
        value = 40 * rng.gauss(1, 0.03) * (ratio if number >= at else 1)
        made: dict[str, Any] = {
            "id": f"run {number}",
            "started": START + timedelta(days=number),
            "revision": f"{number:07x}",
            "verdict": "pass",
            "exit_code": "0",
            "machine": "M",
            "metrics": {P99: value, "run/machine_spin_ms": 10.0, "run/verdict": 0.0, "loss": 1.0},
            "params": {"condition/mlflow": "3.17" if number < at else "3.18", "seed": str(number)},
        }
        found.append(PastRun(**made | changes))
    return found


def only(found: tuple[Series, ...], figure: str) -> Series:
    (one,) = (each for each in found if each.figure == figure)
    return one


def test_a_planted_change_is_found_with_its_run_and_what_was_new_there() -> None:
    past = runs(24, 1.3, 14)
    (machine,) = history_of("quick", "here", past).machines
    one = only(machine.series, "p99_ms")
    assert one.name == "p99_ms postgresql http log_metric 20"
    (shift,) = one.shifts
    assert shift.run.id == "run 14"
    assert shift.better is False
    assert shift.change.ratio == pytest.approx(1.3, rel=0.03)
    assert shift.differs == {"revision": (f"{13:07x}", f"{14:07x}"), "mlflow": ("3.17", "3.18")}
    assert only(machine.series, "machine_spin_ms").shifts == ()


def test_interrupted_runs_are_listed_and_in_no_series() -> None:
    past = runs(14)
    past[9:12] = [PastRun(**{**vars(run), "interrupted": True, "metrics": {P99: 400.0}}) for run in past[9:12]]
    (machine,) = history_of("quick", "here", past).machines
    assert len(machine.runs) == 14
    assert len(only(machine.series, "p99_ms").values) == 11
    assert only(machine.series, "p99_ms").shifts == ()


def test_runs_of_unlike_machines_are_series_of_their_own() -> None:
    slow = runs(12, metrics={P99: 80.0}, machine="old")
    found = history_of("quick", "here", sorted([*runs(12), *slow], key=lambda each: each.started))
    assert sorted(machine.name for machine in found.machines) == ["M", "old"]
    assert all(not machine.shifts for machine in found.machines)
    assert [len(machine.runs) for machine in found.machines] == [12, 12]
    assert len(found.runs) == 24


def test_only_the_conditions_of_this_candidate_and_of_the_machine_are_new() -> None:
    other = "mysql/http/log_metric/20/p99_ms"
    past = []
    for number, run in enumerate(runs(24, 1.3, 12)):
        version = "1" if number < 12 else "2"
        params = {f"condition/{name}/server_version": version for name in ("postgresql", "mysql")}
        past.append(
            PastRun(**{**vars(run), "params": params, "metrics": {**run.metrics, other: 5.0}, "revision": "same"})
        )
    (machine,) = history_of("quick", "here", past).machines
    ((_, shift),) = machine.shifts
    assert shift.differs == {"postgresql server version": ("1", "2")}


def test_a_figure_that_some_runs_lack_has_the_runs_that_have_it() -> None:
    past = runs(8)
    past[3] = PastRun(**{**vars(past[3]), "metrics": {}})
    (machine,) = history_of("quick", "here", past).machines
    one = only(machine.series, "p99_ms")
    assert [run.id for run in one.runs] == [f"run {n}" for n in range(8) if n != 3]
    assert not one.tested


def test_the_figures_asked_for_are_shown_in_their_order() -> None:
    past = runs(3, metrics={"a/http/b/1/p50_ms": 1.0, "a/http/b/1/late": 0.0, P99: 1.0})
    assert known_figures(past) == ["late", "p50_ms", "p99_ms"]
    (machine,) = history_of("quick", "here", past, ("late", "p50_ms")).machines
    assert [one.figure for one in machine.series] == ["late", "p50_ms"]
    assert SHOWN[0] == "metrics_per_s"


@pytest.mark.parametrize(
    ("figure", "ratio", "better"),
    [
        ("p99_ms", 1.2, False),
        ("p99_ms", 0.8, True),
        ("metrics_per_s", 1.2, True),
        ("capacity_per_s", 0.8, False),
        ("success_rate", 0.9, False),
        ("lock_errors", 2.0, False),
        ("control_p99_ms_ratio", 2.0, None),
    ],
)
def test_which_way_is_better(figure: str, ratio: float, better: bool | None) -> None:
    assert is_better(figure, ratio) is better
