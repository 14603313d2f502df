"""What a fault took decides as any loss does; only a model of the reference's disk is shown and decides nothing."""

import itertools

import pytest
from made import a_cell, a_criterion, a_fault_cell

from bench.cell import Criterion, Integrity, Verdict
from bench.fault_cell import FaultCell
from bench.judge.verdict import deciding, exit_code, of_candidate

GOOD = Integrity(checked=True, attempted=9, acknowledged=9)
LOST = Integrity(checked=True, attempted=9, acknowledged=9, lost=2)
UNREAD = Integrity(checked=False, reason="the server was gone")
PASS = [a_criterion()]
ALLOWED = "2 of 9 acknowledged rows are gone, as its settings allow: 0.6 s"
AGAINST = "2 of 9 acknowledged rows are gone, against what its settings promise"


def lost(**changes: object) -> FaultCell:
    return a_fault_cell(**{"integrity": LOST, "outcome": "lost", "may_lose": "0.6 s", "reason": ALLOWED, **changes})


def test_all_is_well_with_faults_that_were_kept() -> None:
    assert of_candidate("mysql", PASS, [a_cell()], [a_fault_cell()]) == ("pass", "all 1 gating criteria hold")
    assert exit_code("pass", [a_cell()], [a_fault_cell()]) == 0


@pytest.mark.parametrize("judged", [PASS, [], [a_criterion(gating=False)]])
@pytest.mark.parametrize(("became", "reason"), [("lost", ALLOWED), ("broken", AGAINST)])
def test_data_lost_is_exit_code_4_whatever_the_settings_allow(
    judged: list[Criterion], became: str, reason: str
) -> None:
    cell = lost(outcome=became, reason=reason)
    verdict, why = of_candidate("mysql", judged, [a_cell()], [a_fault_cell(), cell])
    assert (verdict, why) == ("fail", f"fault server-killed: {reason} (log_metric at 8)")
    for whole in ("pass", "inconclusive", "fail"):
        assert exit_code(whole, [a_cell()], [a_fault_cell(), cell]) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("door", ["integrity", "integrity_rest", "integrity_prefill"])
def test_each_door_counts(door: str) -> None:
    cell = a_fault_cell(**{door: LOST}, outcome="broken", reason=AGAINST)
    assert of_candidate("mysql", PASS, [a_cell()], [cell])[0] == "fail"
    assert exit_code("pass", [a_cell()], [cell]) == 4
    unread = a_fault_cell(**{door: UNREAD})
    verdict, why = of_candidate("mysql", PASS, [a_cell()], [unread])
    assert (verdict, "the server was gone" in why, exit_code(verdict, [a_cell()], [unread])) == (
        "inconclusive",
        True,
        3,
    )


def test_what_was_lost_without_a_fault_is_told_first() -> None:
    verdict, why = of_candidate("mysql", PASS, [a_cell(integrity=LOST)], [lost()])
    assert (verdict, why[:10]) == ("fail", "integrity:")


def test_the_faults_of_others_do_not_count() -> None:
    assert of_candidate("mysql", PASS, [a_cell()], [lost(candidate="sqlite")])[0] == "pass"
    assert of_candidate("sqlite", PASS, [a_cell()], [lost(candidate="sqlite")])[0] == "fail"
    assert exit_code("pass", [a_cell()], [lost(candidate="sqlite", reference=True)]) == 4  # as without a fault


def test_what_was_not_found_out_is_no_pass_though_no_criterion_asks() -> None:
    cell = a_fault_cell(outcome="unknown", reason="no operation ended ok after it")
    verdict, why = of_candidate("mysql", PASS, [a_cell()], [a_fault_cell(), cell])
    assert (verdict, why) == ("inconclusive", "fault server-killed: no operation ended ok after it (log_metric at 8)")
    assert exit_code(verdict, [a_cell()], [cell]) == 3
    failed = [a_criterion(outcome="fail", reason="too slow")]
    assert of_candidate("mysql", failed, [a_cell()], [cell])[0] == "fail"


@pytest.mark.parametrize(("modelled", "reference"), list(itertools.product([True, False], repeat=2)))
def test_only_a_model_of_the_references_disk_decides_nothing(modelled: bool, reference: bool) -> None:
    cell = lost(modelled=modelled, reference=reference, kind="power")
    shown = modelled and reference
    assert of_candidate("mysql", PASS, [a_cell()], [cell])[0] == ("pass" if shown else "fail")
    assert exit_code("pass", [a_cell()], [cell]) == (0 if shown else 4)
    for changes in ({"outcome": "unknown"}, {"integrity": UNREAD}):
        unknown = a_fault_cell(modelled=modelled, reference=reference, **changes)
        assert of_candidate("mysql", PASS, [a_cell()], [unknown])[0] == ("pass" if shown else "inconclusive")


def test_the_prefill_of_the_reference_is_no_model() -> None:
    """It is read back from the store's own file: where it is damaged, that was no power cut in a model."""
    cell = lost(modelled=True, reference=True, integrity_prefill=LOST)
    assert deciding(cell) == [LOST]
    assert of_candidate("mysql", PASS, [a_cell()], [cell])[0] == "fail"
    assert exit_code("pass", [a_cell()], [cell]) == 4
    assert deciding(lost(modelled=True, reference=True, integrity_rest=GOOD)) == []
    assert deciding(lost(integrity_rest=GOOD)) == [LOST, GOOD]


@pytest.mark.parametrize(("outcome", "verdict"), [("pass", "pass"), ("inconclusive", "inconclusive"), ("fail", "fail")])
def test_a_run_of_faults_alone_has_a_verdict(outcome: str, verdict: Verdict) -> None:
    judged = [a_criterion(fault="server-killed", outcome=outcome, name="kept", reason="as was seen")]
    found, why = of_candidate("mysql", judged, [], [a_fault_cell()])
    assert found == verdict
    if outcome != "pass":
        assert why == "kept (p99_ms <= 500, log_metric at 20, server-killed): as was seen"
    assert exit_code(found, [], [a_fault_cell()]) == {"pass": 0, "inconclusive": 3, "fail": 1}[verdict]
