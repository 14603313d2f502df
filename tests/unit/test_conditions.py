"""Which runs may be compared: all that makes a difference to a figure is among the conditions, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import environment
from bench import scenario as scenarios
from bench.conditions import COMPARED, SHOWN, conditions, unlike
from bench.plan import Overrides
from bench.results import Candidate
from bench.scenario import CandidateSpec, CellSpec, Scenario, TrackingSpec, WorkloadSpec

FACTS = {
    "machine": "Linux 6.18.44-cloud x86_64",
    "processor": "A Processor",
    "memory": "23.5 GiB",
    "load average at the start": "1.03, 1.60, 2.16",
    "mlflow": "3.17.2",
    "trackbench": "0.1.0",
    "git revision": "646e80e94001",
}


def made(**changes: object) -> Scenario:
    whole = Scenario(
        title="t",
        candidates={"mine": CandidateSpec(store="mysql", server={"innodb_io_capacity": "200"})},
        workloads={"w": WorkloadSpec(kind="log_metric"), "idle": WorkloadSpec(kind="log_metric")},
        cells=[CellSpec(workload="w", concurrency=[1, 20])],
    )
    return whole.model_copy(update=changes)


def a_candidate(name: str = "mine", **changes: object) -> Candidate:
    whole = Candidate(
        name=name,
        store="mysql",
        reference=False,
        source="prefix",
        server_version="MySQL 9.7.1",
        settings={"sync_binlog": "1"},
        durable=True,
        durability="all of it",
        prefill="empty",
        theirs=False,
    )
    return whole.model_copy(update=changes)


def of(scenario: Scenario, *candidates: Candidate, facts: dict[str, str] = FACTS, **more: object) -> dict[str, str]:
    return conditions(scenario, candidates or [a_candidate()], facts, Overrides(**more))  # type: ignore[arg-type]


def test_what_they_say() -> None:
    found = of(made())
    assert (
        found
        | {
            "machine": "Linux 6.18 x86_64",
            "processor": "A Processor",
            "mlflow": "3.17.2",
            "timeout": "30 s",
            "mine: server version": "MySQL 9.7.1",
            "mine: setting sync_binlog": "1",
            "mine: setting innodb_io_capacity": "200",
            "workload w: kind": "log_metric",
            "workload w: hot_run": "no",
            "direct w at 20: duration": "2 s",
            "direct w at 20: warm-up": "0.5 s",
        }
        == found
    )
    assert not [name for name in found if "idle" in name]  # it has no cell


def test_every_fact_is_either_compared_or_shown(tmp_path: Path) -> None:
    known = set(environment.facts(tmp_path))
    assert not set(COMPARED) & set(SHOWN)
    assert not known - {*COMPARED, *SHOWN}


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_only_may_differ(name: str) -> None:
    assert of(made(), facts=FACTS | {name: "something else"}) == of(made())


@pytest.mark.parametrize("name", COMPARED)
def test_every_other_fact_may_not(name: str) -> None:
    assert unlike(of(made()), of(made(), facts=FACTS | {name: "something else"})).keys() == {name}


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        ("machine", "Linux 6.18.44-fc-v595 x86_64", "Linux 6.18.45-1 x86_64", True),
        ("machine", "Linux 6.18.44 x86_64", "Linux 6.19.1 x86_64", False),
        ("machine", "Linux 6.18.44 x86_64", "Linux 6.18.44 aarch64", False),
        ("memory", "23.5 GiB", "23.6 GiB", True),
        ("memory", "23.5 GiB", "31.1 GiB", False),
        ("memory", "unknown", "23.5 GiB", False),
        ("python", "3.11.7", "3.11.8", False),
    ],
)
def test_how_much_alike_a_machine_must_be(name: str, one: str, other: str, same: bool) -> None:
    found = unlike(of(made(), facts={name: one}), of(made(), facts={name: other}))
    assert (not found) is same


def test_more_rounds_another_seed_and_other_words_are_no_difference() -> None:
    other = made(title="another", seed=7, rounds=4, criteria=[], control="", baseline="results/x")
    assert of(other, rounds=2) == of(made())


def test_what_a_trial_is_makes_a_difference() -> None:
    plain = of(made())
    changed: list[tuple[str, Scenario, dict[str, object]]] = [
        ("direct w at 1: duration", made(), {"duration_s": 9.0}),
        ("direct w at 1: warm-up", made(warmup_s=0.1), {}),
        ("direct w at 1: duration", made(duration_s=4.0), {}),
        ("retry", made(retry="mlflow"), {}),
        ("timeout", made(timeout_s=5.0), {}),
        ("direct w at 1: least writes", made(cells=[CellSpec(workload="w", concurrency=[1], min_writes=9)]), {}),
        (
            "direct w at 1: operations of each writer",
            made(cells=[CellSpec(workload="w", concurrency=[1], count=9)]),
            {},
        ),
    ]
    for name, scenario, overrides in changed:
        assert name in unlike(plain, of(scenario, **overrides))


def test_how_an_open_loop_is_paced_makes_a_difference() -> None:
    def paced(**changes: object) -> dict[str, str]:
        cells = [CellSpec(workload="w", concurrency=[5]), CellSpec(workload="w", concurrency=[5], load=[0.8])]
        return of(made(cells=[cells[0], cells[1].model_copy(update=changes)]))

    where = "direct w at 5, 80 %: "
    assert unlike(paced(), paced(arrivals="constant")) == {where + "arrivals": ("Poisson", "constant")}
    assert unlike(paced(), paced(limit_ms=50.0)) == {where + "latency limit": ("none", "50 ms")}
    assert unlike(paced(), paced(of="lowest")) == {
        where + "share of": ("its own maximum", "the lowest maximum of those that ran")
    }
    assert not unlike(paced(), paced(load=[0.5]))  # another cell: neither is compared


@given(st.sampled_from(sorted(WorkloadSpec.model_fields)))
def test_each_part_of_a_workload_makes_a_difference(name: str) -> None:
    spec = WorkloadSpec(kind="log_metric")
    before = getattr(spec, name)
    after = (not before) if isinstance(before, bool) else "train" if name == "kind" else before + 1
    other = made(workloads={"w": spec.model_copy(update={name: after})})
    assert unlike(of(made()), of(other)).keys() == {f"workload w: {name}"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"server_version": "MySQL 9.8"}, "server version"),
        ({"source": "the user's URL"}, "source"),
        ({"prefill": "60,000 metrics in 200 runs"}, "prefill"),
        ({"settings": {"sync_binlog": "0"}}, "setting sync_binlog"),
        ({"settings": {}}, "setting sync_binlog"),
        ({"tracking": {"workers": "4"}}, "tracking workers"),
    ],
)
def test_what_a_server_says_of_itself_makes_a_difference(changes: dict[str, object], name: str) -> None:
    assert unlike(of(made()), of(made(), a_candidate(**changes))).keys() == {f"mine: {name}"}


def test_where_a_given_database_lies_makes_a_difference() -> None:
    there, elsewhere = (
        conditions(made(), [a_candidate()], FACTS, Overrides(), {"mine": address}) for address in ("a:1/x", "b:1/x")
    )
    assert unlike(there, elsewhere) == {"mine: address": ("a:1/x", "b:1/x")}


def test_an_artifact_root_counts_where_there_is_a_tracking_server() -> None:
    spec = CandidateSpec(store="mysql", tracking=TrackingSpec.model_validate({"artifact_root": "s3://bucket"}))
    name = "mine: tracking artifact root"
    assert name not in of(made(candidates={"mine": spec}))
    assert of(made(candidates={"mine": spec}), a_candidate(tracking={"workers": "4"}))[name] == "s3://bucket"


def test_a_candidate_a_workload_or_a_level_more_is_no_difference() -> None:
    cells = [CellSpec(workload="w", concurrency=[1, 5, 20]), CellSpec(workload="idle", concurrency=[1])]
    names = {name: CandidateSpec(store="mysql", server={"innodb_io_capacity": "200"}) for name in ("mine", "more")}
    larger = of(made(cells=cells, candidates=names), a_candidate(), a_candidate("more"))
    assert len(larger) > len(of(made()))
    assert unlike(of(made()), larger) == unlike(larger, of(made())) == {}


def test_what_one_run_lacks_is_empty() -> None:
    assert unlike({"a": "1", "c: b": "2"}, {"c: d": "3"}) == {"a": ("1", ""), "c: b": ("2", ""), "c: d": ("", "3")}


texts = st.dictionaries(st.sampled_from(["a", "b", "x: a", "x: b", "y: a", "z: a: b"]), st.sampled_from("123"))


@given(texts, texts)
def test_unlike_is_symmetrical_and_empty_of_equals(one: dict[str, str], other: dict[str, str]) -> None:
    assert unlike(one, one) == {}
    assert {name: pair[::-1] for name, pair in unlike(other, one).items()} == unlike(one, other)


@pytest.mark.parametrize("name", scenarios.known())
def test_every_scenario_has_conditions(name: str) -> None:
    scenario = scenarios.load(name).scenario
    found = of(scenario, *(a_candidate(one) for one in scenario.candidates))
    assert {text.partition(": ")[0] for text in found} > set(scenario.candidates)
    assert all("\n" not in text for pair in found.items() for text in pair)
