"""Scenarios: those that we ship load, and a mistake is answered in one line that leads to it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import scenario as scenarios
from bench.errors import BadInput
from bench.judge.criteria import parse
from bench.judge.fields import of_moves
from bench.judge.places import cells_of
from bench.plan import Overrides, plan
from bench.scenario import Scenario, TrackingSpec, load, parse_text
from bench.selection import with_stores
from bench.stores import NAMES
from bench.workload import KINDS, Layout, TrialKey

GOOD = """\
title = "t"
reference = "sqlite"
rounds = 2

[prefill]
runs = 10
metrics = 100

[candidates.sqlite]
store = "sqlite"

[candidates.tuned]
store = "postgresql"
session = { synchronous_commit = "off" }

[workloads.single]
kind = "log_metric"

[workloads.batch]
kind = "log_batch"
metrics = 10
params = 2

[workloads.mixture]
kind = "mixed"
read_share = 0.2

[[cells]]
workload = "single"
concurrency = [1, 5]

[[cells]]
workload = "batch"
concurrency = [20]

[[cells]]
workload = "mixture"
concurrency = [3]

[[criteria]]
name = "fast"
expression = "p99_ms <= 500"

[[criteria]]
name = "faster"
expression = "p99_ms <= 1.2 * reference"
workload = "batch"
"""


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        parse_text(text, "my.toml")
    words = str(caught.value)
    assert "\n" not in words
    assert words.startswith("my.toml")
    return words


def changed(old: str, new: str, count: int = 1) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, count)


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), start=1) if part in line)


@pytest.mark.parametrize("name", scenarios.known())
def test_every_shipped_scenario_loads_and_plans(name: str) -> None:
    loaded = load(name)
    assert loaded.name == name
    assert loaded.text == (scenarios.FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    assert loaded.scenario == load(str(scenarios.FOLDER / f"{name}.toml")).scenario
    assert plan(loaded.scenario, Overrides())
    of_cells = [one for one in loaded.scenario.criteria if not of_moves(parse(one.expression).field)]
    assert all(cells_of(criterion, loaded.scenario) for criterion in of_cells)
    compared = len(loaded.scenario.candidates) > 1 and any(not cell.faults for cell in loaded.scenario.cells)
    assert loaded.scenario.rounds % 2 == 0 or not compared, "over an odd number of rounds a drift does not cancel"


def test_we_ship_some() -> None:
    assert "quick" in scenarios.known()


def test_a_good_one_is_taken_as_it_says() -> None:
    found = parse_text(GOOD, "my.toml")
    assert list(found.candidates) == ["sqlite", "tuned"]
    assert found.candidates["tuned"].session == {"synchronous_commit": "off"}
    assert found.workloads["batch"].workload("batch").metrics == 10
    assert cells_of(found.criteria[0], found) == [
        ("direct", "single", 1, "closed", ""), ("direct", "single", 5, "closed", ""),
        ("direct", "batch", 20, "closed", ""), ("direct", "mixture", 3, "closed", ""),
    ]  # fmt: skip
    assert cells_of(found.criteria[1], found) == [("direct", "batch", 20, "closed", "")]
    assert found.candidates["sqlite"].tracking == TrackingSpec(workers=4)


BAD = {
    "unknown key": (changed("rounds = 2", "round = 2"), "round = 2", ["unknown key 'round'", "rounds", "duration_s"]),
    "unknown key of a cell": (
        changed("concurrency = [20]", "concurrency = [20]\nwriters = 2"), "writers = 2",
        ["unknown key 'cells.1.writers'", "concurrency", "warmup_s"],
    ),
    "unknown key of a store": (
        changed('store = "postgresql"', 'store = "postgresql"\nurl = "x"'), 'url = "x"',
        ["candidates.tuned.url", "session"],
    ),
    "unknown key of the prefill": (changed("runs = 10", "rows = 10"), "rows = 10", ["prefill.rows", "metrics, runs"]),
    "wrong type": (changed("rounds = 2", 'rounds = "2"'), 'rounds = "2"', ["rounds = '2'", "integer"]),
    "wrong type of a setting": (
        changed('synchronous_commit = "off"', "synchronous_commit = false"), "synchronous_commit = false", ["string"]
    ),
    "unknown store": (changed('store = "postgresql"', 'store = "oracle"'), 'store = "oracle"', ["oracle", *NAMES]),
    "unknown kind": (changed('kind = "log_metric"', 'kind = "write"'), 'kind = "write"', ["'write'", *KINDS]),
    "unknown field": (
        changed("p99_ms <= 500", "p42_ms <= 500"), "p42_ms <= 500", ["'fast'", "unknown field 'p42_ms'", "p95_ms"]
    ),
    "no expression": (changed("p99_ms <= 500", "fast enough"), "fast enough", ["'fast'", "p99_ms <= 500"]),
    "concurrency 0": (changed("[1, 5]", "[0, 5]"), "[0, 5]", ["concurrency 0", "between 1 and 1000"]),
    "concurrency 1001": (changed("[1, 5]", "[5, 1001]"), "[5, 1001]", ["1001", "between 1 and 1000"]),
    "concurrency of words": (changed("[1, 5]", '["many"]'), '["many"]', ["cells.0.concurrency.0", "'many'", "integer"]),
    "no concurrency": (changed("[1, 5]", "[]"), "[]", ["cells.0.concurrency", "at least 1"]),
    "mixed without prefill": (changed("runs = 10", "runs = 0"), "[workloads.mixture]", ["mixture", "[prefill]"]),
    "mixed without reads": (changed("read_share = 0.2", ""), "[workloads.mixture]", ["read_share"]),
    "reads in a batch": (changed("params = 2", "read_share = 0.2"), "[workloads.batch]", ["read_share", "mixed"]),
    "batch of 1001": (changed("metrics = 10\n", "metrics = 999\n"), "[workloads.batch]", ["batch", "1 to 1000"]),
    "batch of nothing": (changed("metrics = 10\nparams = 2", "metrics = 0"), "[workloads.batch]", ["1 to 1000"]),
    "unknown reference": (
        changed('reference = "sqlite"', 'reference = "mysql"'), 'reference = "mysql"', ["'mysql'", "sqlite, tuned"]
    ),
    "no reference": (
        changed('reference = "sqlite"\n', ""), "1.2 * reference", ["'faster'", "needs a reference"]
    ),
    "unknown workload of a criterion": (
        changed('reference"\nworkload = "batch"', 'reference"\nworkload = "bulk"'), 'workload = "bulk"',
        ["'bulk'", "batch, mixture, single"],
    ),
    "criterion of no cell": (
        changed('reference"\nworkload', 'reference"\nconcurrency = 5\nworkload'), "1.2 * reference",
        ["'faster'", "no cell"],
    ),
    "broken TOML": (changed("rounds = 2", "rounds = = 2"), "", ["not valid TOML", "line 3"]),
    "a key twice": (changed("rounds = 2", "rounds = 2\nrounds = 3"), "", ["not valid TOML", "line 4"]),
    "missing title": (changed('title = "t"\n', ""), "", ["'title' is missing"]),
    "unknown retry": (changed("rounds = 2", 'retry = "always"'), 'retry = "always"', ["'none'", "'mlflow'"]),
    "params for log_metric": (
        changed('kind = "log_metric"', 'kind = "log_metric"\nparams = 2'), "[workloads.single]", ["params", "log_batch"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_with_its_place(name: str) -> None:
    text, place, parts = BAD[name]
    words = refusal(text)
    for part in parts:
        assert part in words
    if place:
        assert words.startswith(f"my.toml:{line_of(text, place)}: "), words


SECOND = {
    "concurrency": (changed("[20]", "[0]"), "[0]"),
    "workload": (changed('workload = "batch"', 'workload = "batsch"'), '"batsch"'),
    "type": (changed("[3]", '["three"]'), '["three"]'),
    "range": (changed("concurrency = [3]", "concurrency = [3]\nrounds = 0"), "rounds = 0"),
}


@pytest.mark.parametrize("name", SECOND)
def test_the_line_named_is_that_of_the_mistake_and_not_of_a_namesake(name: str) -> None:
    """Where the line cannot be told, none may be named; a wrong one misleads."""
    text, place = SECOND[name]
    words = refusal(text)
    assert words.startswith((f"my.toml:{line_of(text, place)}:", "my.toml: ")), words


@pytest.mark.parametrize(
    "bad",
    [
        changed('kind = "mixed"', 'kind = "mixed"\nmetrics = 1001'),
        changed('kind = "log_metric"', 'kind = "log_metric"\nmetrics = 5'),
        changed('kind = "log_metric"', 'kind = "train"\nmetrics = 5'),
        changed("runs = 10\n", "").replace('kind = "mixed"\nread_share = 0.2', 'kind = "log_metric"'),
        changed("rounds = 2", "duration_s = inf"),
        changed("rounds = 2", "duration_s = nan"),
        changed("rounds = 2", "timeout_s = inf"),
        changed("rounds = 2", "warmup_s = inf"),
    ],
    ids=["mixed batch of 1001", "log_metric of 5", "train of 5", "prefill without runs", "inf", "nan", "inf timeout",
         "inf warm-up"],
)  # fmt: skip
def test_what_could_not_be_carried_out_is_refused(bad: str) -> None:
    """A log_metric stores one metric: a workload that says 5 would have four of five reported lost."""
    refusal(bad)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans(),
)  # fmt: skip
def test_an_accepted_workload_stores_what_its_layout_says(
    kind: str, metrics: int, params: int, tags: int, hot_run: bool, fresh_keys: bool
) -> None:
    """Writers log one metric a log_metric: the layout must not expect more of one commit."""
    options = f"metrics = {metrics}\nparams = {params}\ntags = {tags}\nhot_run = {str(hot_run).lower()}\n"
    options += f"fresh_keys = {str(fresh_keys).lower()}\n" + ("read_share = 0.5\n" if kind == "mixed" else "")
    text = changed('kind = "log_metric"', f'kind = "{kind}"\n{options}')
    try:
        work = parse_text(text, "x.toml").workloads["single"].workload("single")
    except BadInput:
        return
    layout = Layout(TrialKey("0123456789ab", 1), work, 2)
    if work.operation == "log_metric" and kind != "read":
        assert work.metrics_per_operation == 1
        assert layout.commits_per_cycle - layout.metrics_per_cycle in (0, 2 + params + tags)
    if work.operation == "log_batch":
        assert metrics + params + tags >= 1


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_refused_in_one_line(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("no-such", "use one of"),
        ("no/such.toml", "use one of"),
        ("", "use one of"),
        ("/", "can't be read"),
        ("/dev/null/x.toml", "can't be read"),
    ],
)
def test_a_file_that_is_not_there(name: str, part: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(name)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="can't be read"):
        load(str(path))
    path.write_text(GOOD, encoding="utf-8")
    assert load(str(path)).text == GOOD


def whole() -> Scenario:
    return parse_text(GOOD, "my.toml")


def test_only_the_stores_that_were_named_are_judged() -> None:
    found = with_stores(whole(), ["postgresql"])
    assert list(found.candidates) == ["tuned"]
    assert found.candidates["tuned"].session == {"synchronous_commit": "off"}
    assert found.reference is None
    assert [criterion.name for criterion in found.criteria] == ["fast"]  # nothing is left to compare with


def test_the_reference_stays_if_it_is_named_too() -> None:
    found = with_stores(whole(), ["postgresql", "sqlite"])
    assert (set(found.candidates), found.reference) == ({"sqlite", "tuned"}, "sqlite")
    assert len(found.criteria) == 2


def test_the_reference_stays_if_the_scenario_says_so() -> None:
    kept = parse_text("keep_reference = true\n" + GOOD, "my.toml")
    found = with_stores(kept, ["postgresql"])
    assert (list(found.candidates), found.reference) == (["sqlite", "tuned"], "sqlite")
    assert len(found.criteria) == 2


def test_a_store_that_no_candidate_has_becomes_one() -> None:
    found = with_stores(whole(), ["mysql", "mysql"])
    assert list(found.candidates) == ["mysql"]
    assert found.candidates["mysql"].store == "mysql"
    assert (found.candidates["mysql"].server, found.candidates["mysql"].session) == ({}, {})


def test_a_store_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match=r"--store oracle: unknown store; use one of sqlite, postgresql"):
        with_stores(whole(), ["oracle"])


def test_candidates_are_not_lost_to_a_namesake() -> None:
    text = GOOD.replace("candidates.tuned", "candidates.mysql").replace('"postgresql"', '"mariadb"')
    found = with_stores(parse_text(text, "my.toml"), ["mariadb", "mysql"])
    assert sorted(spec.store for spec in found.candidates.values()) == ["mariadb", "mysql"]


def test_the_expressions_of_shipped_scenarios_parse_to_what_they_say() -> None:
    for name in scenarios.known():
        for criterion in load(name).scenario.criteria:
            assert parse(criterion.expression).field in criterion.expression


def test_the_control_goes_with_its_candidate() -> None:
    named = whole().model_copy(update={"control": "sqlite"})
    assert with_stores(named, ["postgresql"]).control is None
    assert with_stores(named, ["sqlite"]).control == "sqlite"
    assert with_stores(whole().model_copy(update={"control": ""}), ["postgresql"]).control == ""
