"""Rows lead to commits and back: both directions of the arithmetic agree for every kind of workload."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import KEY, WORKLOADS

from bench.workload import KINDS, MAX_BATCH_METRICS, OPERATIONS, READS, Layout, Workload, parse_key


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Any workload that a scenario may ask for."""
    kind = draw(st.sampled_from(KINDS))
    batch = kind in ("log_batch", "mixed")
    flags = {"hot_run": draw(st.booleans()), "fresh_keys": draw(st.booleans())} if kind != "train" else {}
    small = st.integers(0, 4)
    return Workload(
        "w",
        kind,
        metrics=draw(st.integers(1, 12)) if batch or kind == "bulk" else 1,
        params=draw(small) if batch or kind == "train" else 0,
        tags=draw(small) if batch or kind == "train" else 0,
        keys=draw(st.integers(1, 9)),
        steps=draw(st.integers(1, 7)),
        shuffled=draw(st.booleans()),
        read_share=0.5 if kind == "mixed" else 0.0,
        experiments=draw(st.booleans()) if kind == "train" else False,
        **flags,
    )


layouts = st.builds(Layout, st.just(KEY), workloads(), st.integers(1, 6))
writing = layouts.filter(lambda layout: layout.metrics_per_cycle > 0)


def places(layout: Layout, writer: int, ordinals: np.ndarray) -> list[tuple[str, str, int]]:
    """(run, key, step) of metric ordinals."""
    keys, steps = layout.metric_places(writer, ordinals)
    cycles = (ordinals // layout.metrics_per_cycle).tolist()
    return [(layout.run_id(writer, cycle), key, step) for cycle, key, step in zip(cycles, keys, steps, strict=True)]


def locate(layout: Layout, rows: list[tuple[str, str, int]]) -> list[tuple[int, int, bool]]:
    writer, cycle = np.array([layout.key.locate_run(run) or (-1, -1) for run, _, _ in rows]).T
    operation, position = np.array([parse_key(key) for _, key, _ in rows]).T
    found = layout.locate_metrics(writer, cycle, operation, position, np.array([step for _, _, step in rows]))
    return list(zip(*(part.tolist() for part in found), strict=True))


@settings(max_examples=150, deadline=None)
@given(writing, st.data())
def test_a_stored_row_leads_back_to_its_ordinal(layout: Layout, data: st.DataObject) -> None:
    writer = data.draw(st.integers(0, layout.writers - 1))
    ordinals = np.array(data.draw(st.lists(st.integers(0, 100_000), min_size=1, max_size=20)))
    found = locate(layout, places(layout, writer, ordinals))
    assert found == [(writer, n, True) for n in ordinals.tolist()]


@settings(max_examples=60, deadline=None)
@given(writing)
def test_no_two_metrics_share_a_place(layout: Layout) -> None:
    ordinals = np.arange(3 * layout.metrics_per_cycle + 5)
    rows = [row for writer in range(layout.writers) for row in places(layout, writer, ordinals)]
    assert len(set(rows)) == len(rows) == layout.writers * len(ordinals)


@settings(max_examples=60, deadline=None)
@given(layouts)
def test_every_commit_of_a_cycle_has_its_rows_and_no_row_another_cycles(layout: Layout) -> None:
    work, size = layout.workload, layout.commits_per_cycle
    for cycle in (0, 1, 7):
        rows: Counter[int] = Counter()
        if layout.metrics_per_cycle:
            ordinals = np.arange(cycle * layout.metrics_per_cycle, (cycle + 1) * layout.metrics_per_cycle)
            rows.update(layout.metric_commits(ordinals).tolist())
        rows.update(layout.param_commit(n) for n in range(cycle * work.params, (cycle + 1) * work.params))
        rows.update(layout.tag_commit(n) for n in range(cycle * work.tags, (cycle + 1) * work.tags))
        if layout.own_runs:
            rows.update([layout.create_commit(cycle), layout.finish_commit(cycle)])
            rows.update([layout.experiment_commit(cycle)] * work.experiments)
            assert set(rows.values()) == {1}  # in a training each commit stores one thing
        if work.kind not in ("read", "traces"):
            assert set(rows) == set(range(cycle * size, (cycle + 1) * size))


@settings(max_examples=100, deadline=None)
@given(layouts.filter(lambda layout: layout.own_runs), st.integers(0, 10_000))
def test_each_commit_of_a_training_leads_to_exactly_one_thing(layout: Layout, commit: int) -> None:
    """The other way round: whatever commit a ledger names, one row and one only depends on it."""
    work, size = layout.workload, layout.commits_per_cycle
    cycle = commit // size
    things: list[object] = []
    if work.experiments and layout.experiment_commit(cycle) == commit:
        things.append("experiment")
    things += ["run"] * (layout.create_commit(cycle) == commit) + ["end"] * (layout.finish_commit(cycle) == commit)
    around = range(max(0, cycle - 1), cycle + 2)
    things += [n for near in around for n in _ordinals(near, work.params) if layout.param_commit(n) == commit]
    things += [n for near in around for n in _ordinals(near, work.tags) if layout.tag_commit(n) == commit]
    metrics = np.concatenate([np.array(_ordinals(near, layout.metrics_per_cycle)) for near in around])
    things += metrics[layout.metric_commits(metrics) == commit].tolist()
    assert len(things) == 1
    assert layout.cycles_of(commit + 1) == cycle + 1
    assert size == work.operations_per_run


def _ordinals(cycle: int, per_cycle: int) -> range:
    return range(cycle * per_cycle, (cycle + 1) * per_cycle)


def test_an_experiment_comes_before_its_run() -> None:
    layout = Layout(KEY, Workload("t", "train", experiments=True, params=2, tags=1, keys=2, steps=2), 1)
    assert layout.commits_per_cycle == 1 + 1 + 2 + 1 + 4 + 1
    for cycle, start in enumerate((0, 10, 20)):
        assert (layout.experiment_commit(cycle), layout.create_commit(cycle)) == (start, start + 1)
        assert [layout.param_commit(n) for n in _ordinals(cycle, 2)] == [start + 2, start + 3]
        assert layout.tag_commit(cycle) == start + 4
        assert layout.metric_commits(np.array(_ordinals(cycle, 4))).tolist() == [start + n for n in (5, 6, 7, 8)]
        assert layout.finish_commit(cycle) == start + 9


def test_a_trace_is_two_commits_and_no_row_of_a_run() -> None:
    layout = Layout(KEY, Workload("t", "traces", spans=5), 3)
    assert (layout.commits_per_cycle, layout.metrics_per_cycle, layout.setup_runs()) == (2, 0, [])
    assert layout.cycles_of(5) == 3
    assert not layout.own_runs


@pytest.mark.parametrize(
    ("work", "operations"),
    [
        (Workload("t", "train", steps=100, keys=3, params=10), 1 + 10 + 300 + 1),
        (Workload("t", "train", steps=100, keys=3, params=10, experiments=True), 2 + 10 + 300 + 1),
        (Workload("t", "train", steps=1, keys=1, tags=2), 1 + 2 + 1 + 1),
    ],
)
def test_how_many_operations_a_run_takes(work: Workload, operations: int) -> None:
    assert work.operations_per_run == operations == Layout(KEY, work, 1).commits_per_cycle


def test_a_training_creates_then_logs_then_finishes() -> None:
    layout = Layout(KEY, Workload("t", "train", params=2, tags=1, keys=2, steps=2), 1)
    assert layout.commits_per_cycle == 1 + 2 + 1 + 4 + 1
    for start in (0, 9):
        cycle = start // 9
        assert layout.create_commit(cycle) == start
        assert [layout.param_commit(n) for n in (2 * cycle, 2 * cycle + 1)] == [start + 1, start + 2]
        assert layout.tag_commit(cycle) == start + 3
        assert layout.metric_commits(np.arange(4 * cycle, 4 * cycle + 4)).tolist() == [start + n for n in (4, 5, 6, 7)]
        assert layout.finish_commit(cycle) == start + 8


@pytest.mark.parametrize(
    ("counts", "commits"),
    [
        ((3, 2, 2), (0, 1, 2)),
        ((3, 2, 0), (0, 1, None)),
        ((3, 0, 2), (None, 0, 1)),
        ((3, 0, 0), (None, 0, None)),
        ((0, 2, 2), (0, None, 1)),
        ((0, 0, 2), (None, None, 0)),
    ],
)
def test_a_batch_commits_params_then_metrics_then_tags(
    counts: tuple[int, int, int], commits: tuple[int | None, int | None, int | None]
) -> None:
    metrics, params, tags = counts
    layout = Layout(KEY, Workload("b", "log_batch", metrics=metrics, params=params, tags=tags), 1)
    size = len([n for n in commits if n is not None])
    assert layout.commits_per_cycle == size
    for cycle in (0, 3):
        found = (
            layout.param_commit(cycle * params) if params else None,
            int(layout.metric_commits(np.array([cycle * metrics]))[0]) if metrics else None,
            layout.tag_commit(cycle * tags) if tags else None,
        )
        assert found == tuple(None if n is None else cycle * size + n for n in commits)


@settings(max_examples=60, deadline=None)
@given(layouts, st.integers(0, 500))
def test_cycles_cover_commits_without_one_too_many(layout: Layout, commits: int) -> None:
    cycles = layout.cycles_of(commits)
    assert (cycles - 1) * layout.commits_per_cycle < commits <= cycles * layout.commits_per_cycle or commits == 0
    assert layout.cycles_of(0) == 0


def test_a_workload_without_commits_has_no_cycles() -> None:
    assert Layout(KEY, Workload("r", "read", metrics=0), 3).cycles_of(5) == 0


@settings(max_examples=150, deadline=None)
@given(layouts, st.data())
def test_param_and_tag_keys_lead_back(layout: Layout, data: st.DataObject) -> None:
    what = data.draw(st.sampled_from(["param", "tag"]))
    per_cycle = layout.workload.params if what == "param" else layout.workload.tags
    writer, ordinal = data.draw(st.integers(0, layout.writers - 1)), data.draw(st.integers(0, 50_000))
    if per_cycle == 0:
        assert layout.locate_text(0, f"{what}0000n00000000", what) is None
        return
    key = (layout.param_key if what == "param" else layout.tag_key)(writer, ordinal)
    cycle = ordinal // per_cycle if layout.own_runs else 0
    assert layout.locate_text(cycle, key, what) == (writer, ordinal)
    assert len(key) <= 250


@settings(max_examples=60, deadline=None)
@given(layouts)
def test_texts_have_keys_of_their_own_within_a_run(layout: Layout) -> None:
    work = layout.workload
    for per_cycle, name in ((work.params, layout.param_key), (work.tags, layout.tag_key)):
        rows = [
            (layout.run_id(writer, n // per_cycle), name(writer, n))
            for writer in range(layout.writers)
            for n in range(5 * per_cycle)
        ]
        assert len(set(rows)) == len(rows)


BATCH = Layout(KEY, Workload("b", "log_batch", metrics=1, params=2, tags=2), 3)
TRAIN = Layout(KEY, Workload("t", "train", params=2, tags=2), 3)


@pytest.mark.parametrize("layout", [BATCH, TRAIN], ids=["batch", "train"])
@pytest.mark.parametrize(
    "key",
    [
        "", "param", "param0000", "param0000n", "param0000n0", "param0000n000000000", "param0000n0000000A",
        "param0000x00000001", "Param0000n00000001", "tag0000n00000001", "param0003n00000000", "param00-1n00000000",
        "param 000n00000000", "param0000n+0000001", "param0000n0000_001", "lr",
    ],
)  # fmt: skip
def test_texts_that_nobody_sends_are_not_found(layout: Layout, key: str) -> None:
    assert layout.locate_text(0, key, "param") is None


def test_a_training_has_no_param_beyond_its_number() -> None:
    assert TRAIN.locate_text(4, "param0001n00000001", "param") == (1, 9)
    assert TRAIN.locate_text(4, "param0001n00000002", "param") is None
    assert BATCH.locate_text(0, "param0001n00000002", "param") == (1, 2)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("metric0000", (-1, 0)),
        ("metric00ff", (-1, 255)),
        ("metric10000", (-1, 65536)),
        ("metric0000000ak0003", (10, 3)),
        ("metric00000000k10000", (0, 65536)),
        *[
            (alias, (-1, -1))
            for alias in (
                "metric3", "metric0003x", "metric00FF", "Metric0003", "metric00003", "0003", "", "metric", "k", "loss",
                "metrick0003", "metric0003k", "metric0003k0003", "metric00000003k3", "metric00000003k00003",
                "metric0000000Ak0003", "metric00000003k0003k", "metricmetric0003", "metric 003", "metric0_03",
                "metric+003", "metric-001", "metric００03", "metric-0000001k0003",
            )
        ],
    ],
)  # fmt: skip
def test_only_the_very_key_is_taken_for_one_of_ours(key: str, place: tuple[int, int]) -> None:
    assert parse_key(key) == place


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"metric[0-9a-fA-F]{0,10}(k[0-9a-fA-F]{0,6})?", fullmatch=True) | st.text(max_size=20))
def test_what_parses_is_what_would_be_written(key: str) -> None:
    operation, position = parse_key(key)
    if (operation, position) != (-1, -1):
        again = f"metric{position:04x}" if operation < 0 else f"metric{operation:08x}k{position:04x}"
        assert again == key


@settings(max_examples=60, deadline=None)
@given(st.booleans(), st.integers(1, 40), st.integers(0, 9), st.integers(0, 1000))
def test_the_order_of_a_batch_is_a_permutation_and_repeatable(
    shuffled: bool, metrics: int, writer: int, operation: int
) -> None:
    layout = Layout(KEY, Workload("b", "log_batch", metrics=metrics, shuffled=shuffled), 10)
    order = layout.batch_order(writer, operation)
    assert sorted(order) == list(range(metrics))
    assert order == layout.batch_order(writer, operation)
    if not shuffled:
        assert order == list(range(metrics))


def test_each_batch_is_shuffled_in_its_own_way() -> None:
    layout = Layout(KEY, Workload("b", "log_batch", metrics=20, shuffled=True), 10)
    orders = {tuple(layout.batch_order(writer, operation)) for writer in range(5) for operation in range(5)}
    assert len(orders) == 25


@pytest.mark.parametrize("name", WORKLOADS)
def test_rows_beyond_what_the_workload_makes_are_not_valid(name: str) -> None:
    layout = Layout(KEY, WORKLOADS[name], 2)
    work, run = layout.workload, layout.run_id(0, 0)
    if layout.metrics_per_cycle == 0:
        return
    beyond = f"metric00000000k{work.metrics:04x}" if work.fresh_keys else f"metric{work.keys:04x}"
    other_form = "metric0000" if work.fresh_keys else "metric00000000k0000"
    for key, step in ((beyond, 0), (other_form, 0), ("loss", 0)):
        assert not locate(layout, [(run, key, step)])[0][2], key
    right, last = layout.metric_places(0, np.array([layout.metrics_per_cycle - 1]))
    assert locate(layout, [(run, right[0], last[0])])[0][2]
    assert not locate(layout, [(run, right[0], -1)])[0][2]
    if work.fresh_keys:
        assert not locate(layout, [(run, right[0], 2)])[0][2]
    if layout.own_runs:
        assert not locate(layout, [(run, right[0], work.steps)])[0][2]


def test_who_needs_a_run_before_the_start() -> None:
    assert Layout(KEY, Workload("w", "log_metric"), 3).setup_runs() == [(0, 0), (1, 0), (2, 0)]
    assert Layout(KEY, Workload("w", "log_metric", hot_run=True), 3).setup_runs() == [(0, 0)]
    assert Layout(KEY, Workload("w", "train"), 3).setup_runs() == []
    assert Layout(KEY, Workload("w", "read"), 3).setup_runs() == []


def test_a_hot_run_is_shared_and_other_runs_are_not() -> None:
    shared, own = (Layout(KEY, Workload("w", "log_batch", hot_run=hot), 4) for hot in (True, False))
    assert {shared.run_id(writer, 9) for writer in range(4)} == {KEY.run_id(0, 0)}
    assert [own.run_id(writer, 9) for writer in range(4)] == [KEY.run_id(writer, 0) for writer in range(4)]
    train = Layout(KEY, Workload("w", "train"), 4)
    assert train.run_id(2, 9) == KEY.run_id(2, 9)


@pytest.mark.parametrize(
    ("work", "operation", "stored"),
    [
        (Workload("w", "log_metric"), "log_metric", 1),
        (Workload("w", "log_batch", metrics=7), "log_batch", 7),
        (Workload("w", "train"), "log_metric", 1),
        (Workload("w", "read"), "log_metric", 0),
        (Workload("w", "mixed", read_share=0.2), "log_metric", 1),
        (Workload("w", "mixed", metrics=4, read_share=0.2), "log_batch", 4),
        (Workload("w", "mixed", tags=1, read_share=0.2), "log_batch", 1),
        (Workload("w", "bulk", metrics=50), "bulk_insert", 50),
        (Workload("w", "traces", read_share=0.2), "log_spans", 0),
    ],
)
def test_which_operation_stores_how_many_metrics(work: Workload, operation: str, stored: int) -> None:
    assert (work.operation, work.metrics_per_operation) == (operation, stored)
    assert work.operation in OPERATIONS
    assert work.operation not in READS <= set(OPERATIONS)


def test_operations_keep_their_numbers() -> None:
    """Samples on disk hold the number: a new operation is added at the end."""
    assert OPERATIONS[:10] == (
        "log_metric", "log_batch", "create_run", "log_param", "set_tag", "finish_run", "search_runs", "metric_history",
        "get_run", "bulk_insert",
    )  # fmt: skip
    assert OPERATIONS[10:] == ("create_experiment", "start_trace", "log_spans", "search_traces")
    assert {"search_runs", "metric_history", "get_run", "search_traces"} == READS


def test_the_limits_are_mlflows_own() -> None:
    assert MAX_BATCH_METRICS == 1000
