"""Twins that are alike are called so, twins that differ are found, and what rounds would see follows from the noise."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import calibrate, cli_calibrate
from bench.calibrate import CHANCE, LEVELS, WANTED, Calibration, Place, compare, detected, rounds_for
from bench.cell import Integrity, Percentiles
from bench.errors import ExitCode
from bench.judge.statistics import GATE_CONFIDENCE, detectable
from bench.results import Machine
from bench.self_checks import Recording, Timer, Wakeups
from bench.trial_record import TrialRecord

SQLITE, POSTGRESQL = Place("sqlite", 1), Place("postgresql", 20)
noises = st.floats(1e-4, 2.0)


def a_record(place: Place, number: int, control: bool, rate: float, p99: float | None, **more: object) -> TrialRecord:
    return TrialRecord.model_validate(
        {
            "number": number + 1,
            "round": number,
            "candidate": place.store,
            "store": place.store,
            "driver": "direct",
            "workload": "log_metric",
            "concurrency": place.writers,
            "control": control,
            "started": "",
            "metrics_per_s": rate,
            "write_service": Percentiles(p99=p99, max=p99, n=400),
            "integrity": Integrity(checked=True),
            **more,
        }
    )


def simulated(seed: int, rounds: int, noise: float, factor: float = 1.0, place: Place = SQLITE) -> list[TrialRecord]:
    """Twins whose second is ``factor`` as fast, with noise, on a machine that slows down by 20 % meanwhile."""
    random = np.random.default_rng(seed)
    records = []
    for trial in calibrate.plan([place], rounds, 1.0):
        rate = 1000 * (1 - 0.2 * trial.number / (2 * rounds)) * math.exp(noise * random.normal())
        rate *= factor if trial.control else 1.0
        records.append(a_record(place, trial.round, trial.control, rate, 2000 / rate))
    return records


@given(st.integers(1, 20), st.integers(1, 4))
def test_a_drift_cancels_between_twins(pairs: int, places: int) -> None:
    wanted = [Place(f"store{number}", number + 1) for number in range(places)]
    trials = calibrate.plan(wanted, 2 * pairs, 1.0)
    assert [trial.number for trial in trials] == list(range(1, 4 * pairs * places + 1))
    for place in wanted:
        own = [trial for trial in trials if (trial.candidate, trial.concurrency) == place]
        first, second = ([trial.number for trial in own if trial.control is twin] for twin in (False, True))
        assert sum(first) == sum(second)
        assert {abs(one - other) for one, other in zip(first, second, strict=True)} == {1}
        assert [trial.round for trial in own] == [number for number in range(2 * pairs) for _ in range(2)]


def test_the_noise_is_that_of_the_pairs() -> None:
    found = compare(simulated(1, 200, 0.1))
    for one in found:
        assert one.pairs == 200
        assert one.noise == pytest.approx(0.1 * math.sqrt(2), rel=0.15)
        assert one.ratio == pytest.approx(1.0, abs=0.03)
    assert [one.field for one in found] == ["metrics_per_s", "p99_ms"]
    assert found[0].value == pytest.approx(900, rel=0.03)


def test_twins_that_are_alike_are_hardly_ever_called_different() -> None:
    called = sum(bool(calibrate.differences(compare(simulated(seed, 10, 0.1)))) for seed in range(300))
    assert called <= 300 * 5 * CHANCE


def test_twins_that_differ_are_found() -> None:
    records = [*simulated(1, 10, 0.02), *simulated(2, 10, 0.02, 0.8, POSTGRESQL)]
    faults = calibrate.differences(compare(records))
    assert len(faults) == 2
    assert all("postgresql at 20" in fault and "twins differ" in fault for fault in faults)


def test_three_pairs_are_too_few_to_call_twins_different() -> None:
    (rate, _) = compare(simulated(1, 3, 0.0001, 0.5))
    assert rate.p is None
    assert rate.noise is not None
    assert calibrate.differences([rate]) == []


def test_a_figure_that_one_twin_lacks_is_left_out_of_its_round() -> None:
    records = simulated(1, 6, 0.1)
    records[3] = records[3].model_copy(update={"write_service": Percentiles()})
    rate, p99 = compare(records)
    assert (rate.pairs, p99.pairs) == (6, 5)
    assert p99.noise is not None


def test_nothing_measured_says_so() -> None:
    records = [a_record(SQLITE, 0, control, 0.0, None, error="it broke") for control in (False, True)]
    found = compare(records)
    assert [(one.pairs, one.noise, one.detects, one.p) for one in found] == [(0, None, None, None)] * 2
    assert "Too little" in calibrate.sentence(found)
    faults = calibrate.unmeasured(records)
    assert len(faults) == 2
    assert "it broke" in faults[0]


def test_data_that_was_not_checked_is_a_fault() -> None:
    record = a_record(SQLITE, 0, False, 1.0, 1.0, integrity=Integrity(checked=False, reason="no read-back"))
    assert "no read-back" in calibrate.unmeasured([record])[0]


@given(noises)
def test_more_rounds_see_less(noise: float) -> None:
    seen = detected(noise)
    assert list(seen) == list(LEVELS)
    assert all(math.isfinite(share) and share > 0 for share in seen.values())
    assert list(seen.values()) == sorted(seen.values(), reverse=True)


@given(noises)
def test_the_rounds_named_are_the_fewest_that_do(noise: float) -> None:
    rounds = rounds_for(noise)
    if rounds is None:
        assert detectable(noise, calibrate.MOST_ROUNDS, GATE_CONFIDENCE, calibrate.POWER) > WANTED
        return
    assert rounds % 2 == 0
    assert detectable(noise, rounds, GATE_CONFIDENCE, calibrate.POWER) <= WANTED
    assert rounds == 2 or detectable(noise, rounds - 2, GATE_CONFIDENCE, calibrate.POWER) > WANTED


def test_the_rounds_do_see_it() -> None:
    """By simulation: the interval clears 1 in four of five runs, with the difference that is said to be seen."""
    noise, rounds = 0.08, 10
    shift = math.log1p(detected(noise, (rounds,))[rounds])
    pairs = np.random.default_rng(1).normal(shift, noise, (4_000, rounds))
    error = pairs.std(axis=1, ddof=1) / math.sqrt(rounds)
    assert np.mean(pairs.mean(axis=1) / error > 1.8331) == pytest.approx(0.8, abs=0.02)  # t of 95 %, 9 degrees


def test_the_last_line_speaks_of_the_noisiest_place() -> None:
    calm, noisy = simulated(1, 10, 0.01), simulated(2, 10, 0.2, place=POSTGRESQL)
    twins = compare([*calm, *noisy])
    assert twins[2].detects is not None
    assert calibrate.sentence(twins) == calibrate.sentence(twins[2:])
    assert (
        f"10 rounds see a difference of {calibrate.percent(twins[2].detects[10])} in metrics/s"
        in calibrate.sentence(twins)
    )
    assert f"takes {rounds_for(twins[0].noise or 0)} rounds" in calibrate.sentence(twins[:2])


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0.0 %"), (0.0123, "1.2 %"), (0.0994, "9.9 %"), (0.0996, "10 %"), (1.2, "120 %")]
)
def test_a_percentage_has_two_digits(share: float, text: str) -> None:
    assert calibrate.percent(share) == text


def a_calibration(**changes: object) -> Calibration:
    given: dict[str, object] = {
        "environment": {"cores": "2", "processor": "one"},
        "load_average": (0.1, 0.2, 0.3),
        "rounds": 10,
        "duration_s": 1.0,
        "seconds": 60.0,
        "machine": Machine(spin_ms=[3.0], sync_ms=[0.2]),
        "timer": Timer(20, 40.0),
        "wakeups": (Wakeups("engine's pacer", 1000, 1000, 0.1, 0.2),),
        "recording": Recording(100.0, 1000, 0, 0),
        "histogram_error": 0.003,
        "twins": compare(simulated(1, 4, 0.1)),
        "faults": (),
        "broken": (),
    }
    return Calibration(**{**given, **changes})  # type: ignore[arg-type]


def test_the_exit_code_tells_what_is_wrong() -> None:
    assert a_calibration().exit_code is ExitCode.PASS
    assert a_calibration(faults=("the recorder",)).exit_code is ExitCode.INCONCLUSIVE
    lost = a_record(SQLITE, 0, False, 1.0, 1.0, integrity=Integrity(checked=True, lost=1, examples=["row 7 is gone"]))
    broken = calibrate.broken([lost])
    assert "row 7 is gone" in broken[0]
    assert a_calibration(faults=("the recorder",), broken=broken).exit_code is ExitCode.INTEGRITY


def test_a_machine_that_is_not_quiet_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = a_calibration(machine=Machine(others_share=0.02, steal_share=0.001, clock_step_ms=1.0))
    assert quiet.caveats == []
    assert not [line for line in printed(quiet, capsys) if "quiet" in line]
    busy = a_calibration(machine=Machine(others_share=0.75, steal_share=0.05, clock_step_ms=3_000.0))
    assert [word for word in ("75 %", "5.0 %", "3,000 ms") if word in " ".join(busy.caveats)] == [
        "75 %",
        "5.0 %",
        "3,000 ms",
    ]
    assert printed(busy, capsys)[-2].startswith("Not a quiet machine: other programs used 75 % of the CPU; ")
    assert busy.exit_code is ExitCode.PASS


def test_json_has_all_of_it() -> None:
    for found in (a_calibration(), a_calibration(twins=compare([]))):
        told = json.loads(json.dumps(found.told(), allow_nan=False))
        assert told["exit_code"] == 0
        assert told["sentence"] == found.sentence
        assert told["machine"]["spin_ms"] == [3.0]
        assert len(told["twins"]) == len(found.twins)
        assert all(one["detects"].keys() == {str(level) for level in LEVELS} for one in told["twins"])


def printed(found: Calibration, capsys: pytest.CaptureFixture[str], terminal: bool = False) -> list[str]:
    cli_calibrate.show(found, Console(force_terminal=terminal, width=120, color_system=None))
    return capsys.readouterr().out.splitlines()


def test_plain_lines_end_with_what_ten_rounds_see(capsys: pytest.CaptureFixture[str]) -> None:
    found = a_calibration()
    lines = printed(found, capsys)
    assert lines[-1] == found.sentence
    (rate,) = [line for line in lines if line.startswith("sqlite at 1, metrics/s: ")]
    assert "6/10/20/40 rounds see " in rate
    assert not [line for line in lines if line.startswith("WRONG")]
    assert any("equal to the ns" in line for line in lines)


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(a_calibration(), capsys, terminal=True)
    (heading,) = [number for number, line in enumerate(lines) if line.startswith("twins ")]
    assert lines[heading].split()[-3:] == ["10", "20", "40"]
    assert [line.split()[:4] for line in lines[heading + 1 : heading + 3]] == [
        ["sqlite", "at", "1", figure] for figure in ("metrics/s", "p99")
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_wrong_is_said_before_the_last_line(capsys: pytest.CaptureFixture[str], terminal: bool) -> None:
    twins = compare([a_record(SQLITE, 0, control, 1.0, None) for control in (False, True)])
    found = a_calibration(twins=twins, faults=("a fault",), broken=("a loss",), recording=Recording(9.0, 1000, 1, 2))
    lines = printed(found, capsys, terminal)
    assert lines[-3:] == ["WRONG: a loss", "WRONG: a fault", found.sentence]
    assert any("2 wrong" in line for line in lines)
    assert "too few operations" in "".join(lines)


def test_the_default_is_the_number_that_the_last_line_speaks_of() -> None:
    assert cli_calibrate.ROUNDS == calibrate.ROUNDS
