"""Which cells of a scenario with faults a criterion is judged on, and how it is refused where there are none."""

import pytest

from bench.errors import BadInput
from bench.judge.fields import BESIDE_A_FAULT, CELL_FIELDS, FAULT_FIELDS, INTEGRITY_FIELDS, KEPT
from bench.judge.places import Place, cells_of, places
from bench.scenario import CriterionSpec, Scenario, parse_text
from bench.selection import with_stores, without_direct

TEXT = """
title = "t"
reference = "sqlite"
[candidates.sqlite]
store = "sqlite"
[candidates.mine]
store = "mysql"
[workloads.single]
kind = "log_metric"
[workloads.other]
kind = "log_metric"
[faults.killed]
kind = "kill"
[faults.mlflow-killed]
kind = "kill"
target = "tracking"
[faults.cut]
kind = "power"
[faults.idle]
kind = "freeze"
"""
FAIR = """
[[cells]]
workload = "single"
concurrency = [1, 20]
[[cells]]
workload = "single"
concurrency = [20]
rate = [50]
"""
FAULTED = """
[[cells]]
workload = "single"
concurrency = [4, 8]
faults = ["killed", "cut"]
[[cells]]
workload = "other"
driver = "http"
concurrency = [8]
faults = ["mlflow-killed", "killed"]
"""
ORDINARY = [
    Place("direct", "single", 1, "closed"), Place("direct", "single", 20, "closed"),
    Place("direct", "single", 20, "50/s"),
]  # fmt: skip
KILLED = [Place("direct", "single", level, "closed", "killed") for level in (4, 8)]
CUT = [Place("direct", "single", level, "closed", "cut") for level in (4, 8)]
USERS = [Place("http", "other", 8, "closed", name) for name in ("mlflow-killed", "killed")]
BROKEN = [KILLED[0], CUT[0], KILLED[1], CUT[1], *USERS]
LOADED = [one for one in BROKEN if one.fault != "cut"]


def scenario(text: str = TEXT + FAIR + FAULTED) -> Scenario:
    return parse_text(text, "x.toml")


def at(expression: str, found: Scenario | None = None, **narrowed: object) -> list[Place]:
    spec = CriterionSpec.model_validate({"name": "c", "expression": expression, **narrowed})
    return cells_of(spec, found or scenario())


def refusal(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        scenario(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def criterion(expression: str, more: str = "") -> str:
    return f'[[criteria]]\nname = "mine"\nexpression = "{expression}"\n{more}\n'


def test_a_cell_with_faults_has_none_without() -> None:
    assert places(scenario()) == [*ORDINARY, *BROKEN]


@pytest.mark.parametrize("field", CELL_FIELDS)
def test_fields_of_cells(field: str) -> None:
    expected = [*ORDINARY, *BROKEN] if field in INTEGRITY_FIELDS else ORDINARY
    assert at(f"{field} <= 1") == expected


@pytest.mark.parametrize("field", FAULT_FIELDS)
def test_fields_of_faults(field: str) -> None:
    """No load runs beside a power cut in a model: nothing has to come back, and nobody looks for stale reads."""
    assert at(f"{field} <= 1") == (LOADED if field in BESIDE_A_FAULT else BROKEN)
    assert (field == KEPT) == (field not in BESIDE_A_FAULT)


def test_a_criterion_is_narrowed_by_what_it_names() -> None:
    assert at("fault.kept == 1", faults=["killed"]) == [*KILLED, USERS[1]]
    assert at("fault.kept == 1", faults=["cut", "mlflow-killed"]) == [*CUT, USERS[0]]
    assert at("lost == 0", faults=["killed"], driver="http") == [USERS[1]]
    assert at("fault.kept == 1", workload="other") == USERS
    assert at("fault.kept == 1", concurrency=4) == [KILLED[0], CUT[0]]
    assert at("lost == 0", loop="closed") == [*ORDINARY[:2], *BROKEN]
    assert at("lost == 0", loop="open") == [ORDINARY[2]]
    assert at("fault.kept == 1", faults=["idle"]) == []
    assert at("lost == 0", faults=[]) == []


def test_a_fault_at_a_rate_is_one_of_an_open_loop() -> None:
    text = FAULTED.replace('faults = ["killed", "cut"]', 'faults = ["killed"]\nrate = [50]')
    open_loop = [Place("direct", "single", level, "50/s", "killed") for level in (4, 8)]
    assert at("fault.kept == 1", scenario(TEXT + text), loop="open") == open_loop


REFUSED = {
    "no cell with a fault": (
        TEXT + FAIR + criterion("fault.kept == 1"),
        "fits no cell of this scenario: fault.kept is of cells with a fault",
    ),
    "no cell without one": (
        TEXT + FAULTED + criterion("p99_ms <= 5"), "fits no cell of this scenario: p99_ms is of cells without a fault",
    ),
    "no load beside it": (
        TEXT + FAULTED[:FAULTED.index("[[cells]]", 3)].replace('"killed", ', "") + criterion("fault.gone_s <= 5"),
        "fits no cell of this scenario: fault.gone_s is of cells with a load and a fault beside it",
    ),
    "an unknown fault": (
        TEXT + FAULTED + criterion("fault.kept == 1", 'faults = ["killed", "kiled"]'),
        "unknown fault 'kiled'; use one of killed, mlflow-killed, cut, idle",
    ),
    "no fault at all": (
        TEXT[:TEXT.index("[faults.killed]")] + FAIR + criterion("lost == 0", 'faults = ["killed"]'),
        "unknown fault 'killed'; use one of those under [faults]: none yet",
    ),
    "a rate under a fault": (
        TEXT + FAIR + FAULTED + criterion("metrics_per_s >= 5", 'faults = ["killed"]'),
        "faults belongs to criteria of fault.* and of integrity; metrics_per_s is of cells without a fault",
    ),
    "a fault of no cell": (
        TEXT + FAULTED + criterion("fault.kept == 1", 'faults = ["idle"]'), "fits no cell of this scenario",
    ),
    "no fault named": (TEXT + FAULTED + criterion("fault.kept == 1", "faults = []"), "fits no cell of this scenario"),
    "another driver's": (
        TEXT + FAULTED + criterion("fault.kept == 1", 'faults = ["cut"]\ndriver = "http"'),
        "fits no cell of this scenario",
    ),
    "against the reference": (
        TEXT + FAULTED + criterion("fault.first_ok_s <= 2 * reference"),
        "fault.first_ok_s is compared with a number only, not with the reference",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_criterion_that_can_not_be_judged_is_refused_in_one_line(name: str) -> None:
    text, words = REFUSED[name]
    said = refusal(text)
    assert "criterion 'mine'" in said
    assert said.endswith(words)
    key = "faults =" if "faults belongs" in words or "unknown fault" in words else "expression ="
    lines = text.splitlines()
    (line,) = [n for n, one in enumerate(lines, 1) if one.startswith(key) and "[[criteria]]" in lines[:n]]
    assert said.startswith(f"x.toml:{line}: ")


@pytest.mark.parametrize("field", FAULT_FIELDS)
def test_an_objective_is_of_a_load_without_a_fault(field: str) -> None:
    text = TEXT + FAIR + f'objective = "{field} <= 5"\n'
    assert refusal(text).endswith(f"{field} is of cells with a fault")


def test_criteria_of_faults_stay_with_the_stores_that_were_named() -> None:
    whole = scenario(TEXT + FAULTED + criterion("fault.kept == 1", 'faults = ["killed"]'))
    mine = with_stores(whole, ["mysql"])
    assert mine.criteria == whole.criteria
    assert without_direct(mine, ["sqlite"]) == (mine, [])
    reduced, left_out = without_direct(mine, ["mysql"])
    assert ([cell.workload for cell in reduced.cells], left_out) == (["other"], ["direct single"])
    assert reduced.criteria == whole.criteria
    assert cells_of(reduced.criteria[0], reduced) == [USERS[1]]
    direct = scenario(TEXT + FAULTED + criterion("fault.kept == 1", 'faults = ["cut"]'))
    assert without_direct(direct, ["mysql"])[0].criteria == []
