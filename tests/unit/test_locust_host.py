"""What a Locust test is as a run: one cell of a scenario, judged by the criteria that fit it."""

from dataclasses import replace

import pytest

from bench import scenario, scenario_rules
from bench.errors import BadInput
from bench.host import Order, one_cell, request_of
from bench.plan import Overrides, Pace, plan

TEXT = """
title = "t"
reference = "sqlite"
baseline = "an earlier run"
[prefill]
runs = 2
metrics = 20
[candidates.sqlite]
store = "sqlite"
[candidates.fast]
store = "postgresql"
tracking = { workers = 2 }
[workloads.one]
kind = "log_metric"
[workloads.other]
kind = "read"
[[cells]]
workload = "one"
driver = "http"
concurrency = [5, 50]
[[cells]]
workload = "other"
concurrency = [5]
[[criteria]]
name = "of all"
expression = "integrity == 1"
[[criteria]]
name = "at fifty"
expression = "p99_ms <= 5"
workload = "one"
concurrency = 50
[[criteria]]
name = "against the reference"
expression = "p99_ms <= 2 * reference"
workload = "one"
[[criteria]]
name = "against a baseline"
expression = "p99_ms <= 2 * baseline"
[[criteria]]
name = "of closed loops"
expression = "ops_per_s >= 5"
workload = "one"
loop = "closed"
[[criteria]]
name = "of reads"
expression = "p95_ms <= 5"
workload = "other"
[[criteria]]
name = "of direct writers"
expression = "lost == 0"
driver = "direct"
"""
LOADED = scenario.LoadedScenario(name="t", text=TEXT, scenario=scenario.parse_text(TEXT, "t.toml"))
ORDER = Order(
    scenario="ci", driver="http", kind="log_metric", store="postgresql", url=None, tracking_url=None, users=7,
    identities=20, warmup_s=None, seed=None, out="results", command=["locust"],
)  # fmt: skip


def test_one_cell_of_the_candidate_on_that_store() -> None:
    reduced, notes = one_cell(LOADED, ORDER)
    assert list(reduced.candidates) == ["fast"]
    assert reduced.candidates["fast"].tracking.workers == 2
    assert reduced.reference is None
    (cell,) = reduced.cells
    assert (cell.workload, cell.driver, cell.concurrency, cell.warmup_s) == ("one", "http", [7], None)
    names = ["of all", "at fifty", "of closed loops"]
    assert [(one.name, one.concurrency) for one in reduced.criteria] == [(name, None) for name in names]
    assert notes == (
        "Not judged, since the reference did not run: against the reference.",
        "Not judged, since it needs a baseline run: against a baseline.",
    )


def test_a_rate_makes_an_open_loop_of_the_only_trial() -> None:
    order = replace(ORDER, rate=150.0, arrivals="constant")
    reduced, _ = one_cell(LOADED, order)
    assert [one.name for one in reduced.criteria] == ["of all", "at fifty"]
    (trial,) = plan(reduced, Overrides(duration_s=float("inf"), identities=20))
    assert trial.load == "150/s"
    assert trial.pace == Pace(150.0, None, "own", "constant", None)
    assert plan(one_cell(LOADED, ORDER)[0], Overrides())[0].pace is None


def test_what_is_compared_with_others_in_the_scenario_stands_alone_here() -> None:
    """An A/A control needs a second trial, and lockstep a closed loop."""
    text = TEXT.replace('reference = "sqlite"', 'reference = "sqlite"\ncontrol = "fast"').replace(
        '[workloads.one]\nkind = "log_metric"', '[workloads.one]\nkind = "log_metric"\nlockstep = true'
    )
    loaded = scenario.LoadedScenario(name="t", text=text, scenario=scenario.parse_text(text, "t.toml"))
    assert len(plan(one_cell(loaded, ORDER)[0], Overrides())) == 1
    with pytest.raises(BadInput, match="no workload of kind log_metric"):
        one_cell(loaded, replace(ORDER, rate=5.0))


def test_direct_users_are_judged_by_what_is_for_them() -> None:
    reduced, _ = one_cell(LOADED, replace(ORDER, driver="direct", store="sqlite", kind="read", warmup_s=3.0))
    assert reduced.cells[0].warmup_s == 3.0
    assert [one.name for one in reduced.criteria] == ["of all", "of reads", "of direct writers"]


def test_a_store_that_the_scenario_does_not_name_gets_a_candidate() -> None:
    reduced, _ = one_cell(LOADED, replace(ORDER, store="mysql"))
    assert [spec.store for spec in reduced.candidates.values()] == ["mysql"]


def test_a_kind_that_the_scenario_lacks_is_refused() -> None:
    with pytest.raises(BadInput, match="no workload of kind train, only log_metric, read"):
        one_cell(LOADED, replace(ORDER, kind="train"))


@pytest.mark.parametrize(
    ("driver", "kinds"),
    [
        ("http", ("log_metric", "log_batch", "train", "read", "mixed", "traces")),
        ("direct", ("log_metric", "log_batch", "train", "read", "mixed", "bulk")),
    ],
)
def test_the_default_scenario_has_a_workload_for_every_user_class(driver: str, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        order = replace(ORDER, driver=driver, kind=kind)  # type: ignore[arg-type]
        request = request_of(order)
        (cell,) = request.scenario.scenario.cells
        assert request.scenario.scenario.workloads[cell.workload].kind == kind
        assert request.overrides.identities == 20
        assert request.overrides.duration_s == float("inf")


def test_too_many_users_are_refused() -> None:
    with pytest.raises(BadInput, match="at most"):
        request_of(replace(ORDER, users=scenario_rules.MAX_WRITERS + 1))


def test_the_users_own_tracking_server_stands_for_the_store() -> None:
    sites = request_of(replace(ORDER, tracking_url="http://ann:s3cret@host/")).sites
    assert sites["postgresql"].url == "http://host"
    assert "Authorization" in sites["postgresql"].headers
