"""The order of execution: every cell once a round, and a linear drift of the machine cancels out."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import scenario as scenarios
from bench.errors import BadInput
from bench.identity import TrialKey
from bench.plan import Group, Overrides, Trial, control_of, more, plan, planned_rounds
from bench.scenario import CandidateSpec, CellSpec, Scenario, WorkloadSpec
from bench.workload import Layout

Cell = tuple[str, str, str, int, str, bool, str]


def make(
    cells: list[CellSpec], candidates: tuple[str, ...] = ("a", "b"), rounds: int = 4, control: str = ""
) -> Scenario:
    return Scenario(
        title="t",
        rounds=rounds,
        warmup_s=0.25,
        duration_s=3.0,
        candidates={name: CandidateSpec(store="sqlite") for name in candidates},
        workloads={cell.workload: WorkloadSpec(kind="log_metric") for cell in cells},
        cells=cells,
        control=control,
    )


def cell(trial: Trial) -> Cell:
    return trial.candidate, *trial.group, trial.control, trial.fault


def by_round(trials: list[Trial]) -> list[list[str]]:
    rounds: dict[int, list[str]] = defaultdict(list)
    for trial in trials:
        rounds[trial.round].append(f"{trial.candidate}{trial.concurrency}")
    return [rounds[n] for n in sorted(rounds)]


def test_the_order_is_abba() -> None:
    trials = plan(make([CellSpec(workload="w", concurrency=[1, 5])]), Overrides())
    there, back = ["a1", "b1", "a5", "b5"], ["b5", "a5", "b1", "a1"]
    assert by_round(trials) == [there, back, there, back]
    assert [trial.number for trial in trials] == list(range(1, 17))
    assert [trial.round for trial in trials] == sorted(trial.round for trial in trials)


def test_a_cell_with_fewer_rounds_takes_the_outermost() -> None:
    cells = [CellSpec(workload="w", concurrency=[1]), CellSpec(workload="v", concurrency=[9], rounds=2)]
    assert by_round(plan(make(cells, ("a",), rounds=6), Overrides())) == [
        ["a1", "a9"], ["a1"], ["a1"], ["a1"], ["a1"], ["a9", "a1"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "taken"), [(1, [0]), (2, [0, 5]), (3, [0, 1, 5]), (4, [0, 1, 4, 5]), (6, range(6)), (99, range(6))]
)
def test_which_rounds_a_cell_takes(wanted: int, taken: list[int]) -> None:
    trials = plan(make([CellSpec(workload="w", concurrency=[1], rounds=wanted)], ("a",), rounds=6), Overrides())
    assert [trial.round for trial in trials] == list(taken)


cell_specs = st.lists(
    st.builds(
        CellSpec,
        workload=st.sampled_from(["w", "v", "u"]),
        driver=st.sampled_from(["direct", "http"]),
        concurrency=st.lists(st.integers(1, 50), min_size=1, max_size=3, unique=True),
        rounds=st.sampled_from([None, 2, 4, 8]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda spec: (spec.workload, spec.driver),
)


@settings(max_examples=100, deadline=None)
@given(cell_specs, st.integers(1, 4), st.integers(1, 5))
def test_over_even_rounds_a_linear_drift_cancels(cells: list[CellSpec], candidates: int, half: int) -> None:
    """The mean place in time is the same for every cell, whatever their rounds."""
    trials = plan(make(cells, tuple("abcd"[:candidates]), rounds=2 * half), Overrides())
    places: dict[Cell, list[int]] = defaultdict(list)
    for trial in trials:
        places[cell(trial)].append(trial.number)
    assert {sum(numbers) / len(numbers) for numbers in places.values()} == {(len(trials) + 1) / 2}


@settings(max_examples=60, deadline=None)
@given(cell_specs, st.integers(1, 3), st.integers(1, 9))
def test_each_round_takes_a_cell_once(cells: list[CellSpec], candidates: int, rounds: int) -> None:
    trials = plan(make(cells, tuple("abc"[:candidates]), rounds=rounds), Overrides())
    counts = Counter((trial.round, cell(trial)) for trial in trials)
    assert set(counts.values()) == {1}
    expected = sum(len(spec.concurrency) * candidates * min(spec.rounds or rounds, rounds) for spec in cells)
    assert len(trials) == expected
    assert [trial.number for trial in trials] == list(range(1, expected + 1))


@pytest.mark.parametrize("name", scenarios.known())
@pytest.mark.parametrize("levels", [(5,), (1, 5, 20)])
def test_other_levels_on_the_command_line_repeat_no_cell(name: str, levels: tuple[int, ...]) -> None:
    """Two of a scenario's cells may differ by their levels only; with other levels they are one and the same."""
    trials = plan(scenarios.load(name).scenario, Overrides(concurrency=levels))
    counts = Counter((trial.round, cell(trial)) for trial in trials)
    assert [place for place, n in counts.items() if n > 1] == []
    assert {trial.concurrency for trial in trials} == set(levels)


TWICE = """
title = "t"
[candidates.sqlite]
store = "sqlite"
[workloads.w]
kind = "log_metric"
[[cells]]
workload = "w"
concurrency = [1, 5]
[[cells]]
workload = "w"
concurrency = [5]
"""


@pytest.mark.parametrize("text", [TWICE, TWICE.replace("[1, 5]", "[1, 1]")])
def test_a_cell_that_is_named_twice_is_refused_or_taken_once(text: str) -> None:
    try:
        scenario = scenarios.parse_text(text, "x.toml")
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    counts = Counter((trial.round, cell(trial)) for trial in plan(scenario, Overrides()))
    assert set(counts.values()) == {1}


def test_times_come_from_the_command_line_then_the_cell_then_the_scenario() -> None:
    plain = CellSpec(workload="w", concurrency=[1])
    special = CellSpec(workload="v", concurrency=[1], warmup_s=0.0, duration_s=7.0, count=12)
    scenario = make([plain, special], ("a",), rounds=1)
    first, second = plan(scenario, Overrides())
    assert (first.warmup_s, first.duration_s, first.count) == (0.25, 3.0, None)
    assert (second.warmup_s, second.duration_s, second.count) == (0.0, 7.0, 12)
    assert [trial.duration_s for trial in plan(scenario, Overrides(duration_s=0.5))] == [0.5, 0.5]


def test_rounds_and_levels_of_the_command_line_win() -> None:
    scenario = make([CellSpec(workload="w", concurrency=[1, 5], rounds=2)], ("a",), rounds=8)
    assert by_round(plan(scenario, Overrides(rounds=4))) == [["a1", "a5"], ["a5", "a1"]] * 2
    assert by_round(plan(scenario, Overrides(concurrency=(3,)))) == [["a3"], ["a3"]]


def test_the_two_drivers_of_a_workload_are_two_cells() -> None:
    cells = [CellSpec(workload="w", driver=driver, concurrency=[4]) for driver in ("http", "direct")]
    trials = plan(make(cells, ("a",), rounds=2), Overrides())
    assert [(trial.round, trial.driver) for trial in trials] == [
        (0, "http"), (0, "direct"), (1, "direct"), (1, "http"),
    ]  # fmt: skip


def test_the_first_to_name_a_cell_says_how_it_is_measured() -> None:
    cells = [
        CellSpec(workload="w", concurrency=[4, 5], count=7),
        CellSpec(workload="w", concurrency=[5, 6], count=9),
        CellSpec(workload="w", driver="http", concurrency=[5], count=11),
    ]
    trials = plan(make(cells, ("a",), rounds=1), Overrides())
    assert {(trial.driver, trial.concurrency): trial.count for trial in trials} == {
        ("direct", 4): 7, ("direct", 5): 7, ("direct", 6): 9, ("http", 5): 11,
    }  # fmt: skip


def trained(cell: CellSpec, work: WorkloadSpec) -> Trial:
    scenario = make([cell], ("a",), rounds=1).model_copy(update={"workloads": {cell.workload: work}})
    (trial,) = plan(scenario, Overrides())
    return trial


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_runs_become_the_operations_that_they_take(
    runs: int, params: int, tags: int, steps: int, keys: int, experiments: bool
) -> None:
    work = WorkloadSpec(kind="train", params=params, tags=tags, steps=steps, keys=keys, experiments=experiments)
    trial = trained(CellSpec(workload="w", driver="http", concurrency=[20], runs=runs, warmup_s=3.0), work)
    layout = Layout(TrialKey("0123456789ab", 1), work.workload("w"), 20)
    assert trial.count == runs * layout.commits_per_cycle
    assert trial.warmup_s == 0.0


def test_the_published_case_is_six_thousand_metrics() -> None:
    scenario = scenarios.load("migration").scenario
    trials = [trial for trial in plan(scenario, Overrides()) if trial.workload == "experiments"]
    (count,) = {trial.count for trial in trials}
    work = scenario.workloads["experiments"].workload("experiments")
    assert count == 1 + 1 + 10 + 300 + 1
    assert {trial.driver for trial in trials} == {"http"}
    assert {trial.warmup_s for trial in trials} == {0.0}
    twenty = Layout(TrialKey("0123456789ab", 1), work, 20)
    assert (20 * twenty.metrics_per_cycle, 20 * work.params) == (6_000, 200)
    assert {trial.concurrency for trial in trials} == {1, 20}


@pytest.mark.parametrize("given_", [{"count": 12}, {"count": 12, "warmup_s": 5.0}, {"runs": 2}])
def test_what_is_counted_has_no_warm_up(given_: dict[str, float]) -> None:
    """All of a counted load is measured; a part of it that fell into the warm-up would be missing."""
    trial = trained(CellSpec(workload="w", concurrency=[1], **given_), WorkloadSpec(kind="train"))
    assert trial.warmup_s == 0.0


def test_identities_are_the_writers_unless_there_is_room_for_more() -> None:
    scenario = make([CellSpec(workload="w", concurrency=[1, 5])], ("a",), rounds=1)
    assert [trial.identities for trial in plan(scenario, Overrides())] == [1, 5]
    assert [trial.identities for trial in plan(scenario, Overrides(identities=4000))] == [4000, 4000]
    assert [trial.concurrency for trial in plan(scenario, Overrides(identities=4000))] == [1, 5]


# Open loops: a pass of their own


def paced(level: int = 4, rounds: int | None = None, **more: object) -> CellSpec:
    return CellSpec.model_validate({"workload": "w", "concurrency": [level], "rounds": rounds} | more)


def test_closed_loops_that_give_a_maximum_come_first() -> None:
    cells = [paced(load=[0.5, 0.8]), paced(rounds=2), CellSpec(workload="v", concurrency=[1])]
    trials = plan(make(cells, rounds=4), Overrides())
    first = [trial for trial in trials if trial.load == "closed" and trial.workload == "w"]
    assert trials[: len(first)] == first
    assert by_round(first) == [["a4", "b4"], ["b4", "a4"]]
    rest = trials[len(first) :]
    assert [f"{one.candidate}{one.workload}{one.load}" for one in rest[:6]] == [
        "aw50 %", "bw50 %", "aw80 %", "bw80 %", "avclosed", "bvclosed",
    ]  # fmt: skip
    assert {(trial.pace.share, trial.pace.rate) for trial in rest if trial.pace} == {(0.5, None), (0.8, None)}
    assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))


def test_an_absolute_rate_needs_no_first_pass() -> None:
    trials = plan(make([paced(rate=[150.0, 22.5], limit_ms=250.0)], ("a",), rounds=2), Overrides())
    assert [trial.load for trial in trials] == ["150/s", "22.5/s", "22.5/s", "150/s"]
    assert {trial.pace.limit_ms for trial in trials if trial.pace} == {250.0}


@settings(max_examples=60, deadline=None)
@given(cell_specs, st.integers(1, 3), st.integers(1, 4), st.sampled_from([None, "", "a"]))
def test_each_pass_cancels_a_linear_drift(
    cells: list[CellSpec], candidates: int, half: int, control: str | None
) -> None:
    paced_cells = [one.model_copy(update={"load": [0.8], "rounds": None}) for one in cells]
    scenario = make([*cells, *paced_cells], tuple("abc"[:candidates]), 2 * half, control)
    trials = plan(scenario, Overrides())
    for closed in (True, False):
        places: dict[Cell, list[int]] = defaultdict(list)
        for trial in trials:
            if (trial.load == "closed") == closed:
                places[cell(trial)].append(trial.number)
        assert len({sum(numbers) / len(numbers) for numbers in places.values()}) == 1
    assert max(t.number for t in trials if t.load == "closed") < min(t.number for t in trials if t.load != "closed")


# The control


def test_one_candidate_is_measured_twice_where_most_rounds_are() -> None:
    cells = [paced(rounds=2), paced(load=[0.8])]
    trials = plan(make(cells, ("a", "b"), rounds=4, control="b"), Overrides())
    again = [trial for trial in trials if trial.control]
    assert [(one.candidate, one.load, one.round) for one in again] == [("b", "80 %", n) for n in range(4)]
    for one in again:
        beside = [trial.number for trial in trials if trial.group == one.group and trial.round == one.round]
        assert one.number - 1 in beside or one.number + 1 in beside


def test_the_control_is_the_first_judged_unless_said_otherwise() -> None:
    scenario = make([paced()], ("a", "b", "c"), control="")
    assert control_of(scenario) is None
    assert control_of(scenario.model_copy(update={"control": None})) == "a"
    assert control_of(scenario.model_copy(update={"control": None, "reference": "a"})) == "b"
    assert control_of(make([paced()], ("a",)).model_copy(update={"control": None})) is None
    assert not any(
        trial.control for trial in plan(scenario.model_copy(update={"control": "a", "rounds": 1}), Overrides())
    )


# More rounds


def test_more_rounds_are_for_some_cells_only_and_go_on_with_the_order() -> None:
    scenario = make([CellSpec(workload="w", concurrency=[1, 5]), CellSpec(workload="v", concurrency=[1], rounds=2)])
    group = Group("direct", "w", 5, "closed")
    trials = more(scenario, Overrides(), {group}, range(4, 6), done=20)
    assert by_round(trials) == [["a5", "b5"], ["b5", "a5"]]
    assert [trial.number for trial in trials] == [21, 22, 23, 24]
    assert planned_rounds(scenario, Overrides()) == {
        Group("direct", "w", 1, "closed"): 4, group: 4, Group("direct", "v", 1, "closed"): 2,
    }  # fmt: skip
    assert planned_rounds(scenario, Overrides(rounds=8))[Group("direct", "v", 1, "closed")] == 8


FAULTED = """
title = "t"
rounds = 4
[candidates.sqlite]
store = "sqlite"
[candidates.postgresql]
store = "postgresql"
[workloads.w]
kind = "log_metric"
[faults.killed]
kind = "kill"
[faults.locked]
kind = "lock"
[[cells]]
workload = "w"
concurrency = [3]
faults = ["locked", "killed"]
rounds = 2
[[cells]]
workload = "w"
concurrency = [5]
"""


def test_faults_come_last_one_after_the_other() -> None:
    """All candidates get a fault before the next one begins; nothing else runs after a store was broken on purpose."""
    scenario = scenarios.parse_text(FAULTED, "t.toml")
    trials = plan(scenario, Overrides())
    before = [trial for trial in trials if not trial.fault]
    assert trials[: len(before)] == before
    assert {trial.concurrency for trial in before} == {5}
    told = [(trial.round, trial.fault, trial.candidate) for trial in trials[len(before) :]]
    assert told == [
        (n, fault, store) for n in (0, 1) for fault in ("locked", "killed") for store in ("sqlite", "postgresql")
    ]
    assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))
    assert {trial.identities for trial in trials if trial.fault} == {6}  # another load may follow a killed one
    assert {group.concurrency for group in planned_rounds(scenario, Overrides())} == {5}
    assert not any(trial.control for trial in trials if trial.fault)


def test_a_scenario_of_faults_alone_has_no_control() -> None:
    alone = FAULTED.rpartition("[[cells]]")[0]
    assert {bool(trial.fault) for trial in plan(scenarios.parse_text(alone, "t.toml"), Overrides())} == {True}
