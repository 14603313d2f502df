"""The one-minute screen: what it says of good runs, bad runs and runs that measured nothing."""

import pytest
from fixtures_results import candidate, criterion, realistic
from fixtures_results_bad import EVERY, broken, empty, interrupted, reads_only, unmeasured

from bench.cell import Generator
from bench.results import Results
from reports import advice, conditions
from reports.chosen import headline_concurrency
from reports.judged import general_limit_of, judges, limit_of, told
from reports.rows import question_of
from reports.summary import Screen, candidates_in_order, summarise
from reports.table import Figure, Row

MIXED, LOG_METRIC = 0, 1
"""The blocks of the realistic run: the workload that most gating criteria judge stands first."""


def figure(screen: Screen, block: int, row: str, candidate: str) -> Figure:
    names = [column.name for column in screen.blocks[block].columns]
    return found_row(screen, block, row).figures[names.index(candidate)]


def found_row(screen: Screen, block: int, row: str) -> Row:
    return next(each for each in screen.blocks[block].rows if each.key == row)


def facts(screen: Screen) -> dict[str, str]:
    return {fact.label: fact.text for fact in (*screen.scope, *screen.machine)}


def test_the_answer_says_who_holds_the_load_how_fast_and_with_what_tail() -> None:
    said = summarise(realistic()).answer.replace("\N{NO-BREAK SPACE}", " ")
    assert said == (
        "20 writers, mixed: ✓ postgresql 2.5 k metrics/s, p99 21.4 ms · ? timescaledb 2.17 k/s, p99 27.9 ms · "
        "✗ mysql 1.51 k/s, p99 1.24 s · sqlite 134/s, p99 1.48 s"
    )


def test_users_of_a_server_speak_before_writers_on_tables() -> None:
    results = realistic()
    served = [each.model_copy(update={"driver": "http", "workload": "ui"}) for each in results.cells[:4]]
    said = summarise(results.model_copy(update={"cells": [*results.cells, *served]})).answer
    assert said.startswith("1 user, ui: ")


def test_the_reference_leads_and_never_passes_or_fails() -> None:
    results = realistic()
    shuffled = results.model_copy(update={"candidates": results.candidates[::-1]})
    screen = summarise(shuffled)
    assert screen.headlines[0].candidate == "sqlite"
    assert screen.headlines[0].word == "REFERENCE"
    assert screen.blocks[0].columns[0].reference


def test_the_table_shows_figures_limits_and_how_they_ended() -> None:
    screen = summarise(realistic())
    assert figure(screen, LOG_METRIC, "write_p99", "mysql").told == "1.24 s ✗"
    assert figure(screen, LOG_METRIC, "write_p99", "postgresql").told == "21.4 ms ✓"
    assert figure(screen, MIXED, "read_p95", "timescaledb").outcome == "inconclusive"
    assert found_row(screen, LOG_METRIC, "write_p99").limit == "≤ 1 s"
    assert found_row(screen, LOG_METRIC, "throughput").limit == "≥ 0.9 × ref. (advisory)"
    assert found_row(screen, LOG_METRIC, "errors").limit == "success rate ≥ 99.9 %"
    assert figure(screen, LOG_METRIC, "deadlocks", "mysql").told == "14 ✓ (clients saw 7)"
    assert figure(screen, LOG_METRIC, "deadlocks", "sqlite").told == "– (no counter)"
    assert figure(screen, LOG_METRIC, "integrity", "mysql").symbol == "✓"
    assert not figure(screen, LOG_METRIC, "throughput", "mysql").gating


def test_a_row_that_asks_nothing_of_a_workload_is_left_out() -> None:
    assert "read_p95" not in [row.key for row in summarise(realistic()).blocks[LOG_METRIC].rows]


def test_broken_data_is_told_first_and_marked_whatever_the_criteria_say() -> None:
    tolerant = broken().model_copy(update={"criteria": realistic().criteria})
    screen = summarise(tolerant)
    assert screen.alarms[0] == (
        "Data integrity is broken in mysql: 18 lost, 12 duplicated, 6 corrupted, 24 unexpected, 30 invariants violated."
    )
    assert figure(screen, LOG_METRIC, "integrity", "mysql").told == "3 / 2 / 1 ✗ (4 unexpected, 5 invariants violated)"
    assert "Do not move to it" in screen.headlines[-1].next_step
    assert screen.headlines[-1].reason.startswith("3 lost, 2 duplicated")


def test_a_saturated_generator_is_an_alarm() -> None:
    screen = summarise(broken())
    assert "did not keep up in 6 of 24 cells" in screen.alarms[1]
    assert facts(screen)["Generator"].startswith("did NOT keep up in 6 of 24 cells")


def test_a_generator_that_recorded_nothing_is_not_said_to_have_kept_up() -> None:
    assert facts(summarise(unmeasured()))["Generator"].startswith("not known")


def test_an_interrupted_run_says_so_and_where_the_limits_were_meant() -> None:
    screen = summarise(interrupted())
    assert screen.alarms == ("Interrupted after 2 of 240 trials: what follows is what was measured until then.",)
    assert screen.answer.startswith("1 writer, log_metric:")
    assert screen.blocks[0].title == "log_metric, 1 writer, direct: closed loop"
    assert found_row(screen, 0, "write_p99").limit == "≤ 1 s at 20"
    mysql = screen.headlines[-1]
    assert mysql.reason == "no data: no trial of this candidate finished"
    assert mysql.next_step == "Run it again: nothing was measured."
    assert screen.headlines[1].next_step == "Run it again to the end (2 of 240 trials were made)."


def test_a_run_cut_short_without_a_signal_is_told_too() -> None:
    results = realistic()
    short = results.model_copy(update={"run": results.run.model_copy(update={"trials_done": 12})})
    assert summarise(short).alarms == ("Only 12 of 240 trials were made.",)


def test_nothing_measured_is_nothing_said() -> None:
    screen = summarise(empty())
    assert screen.answer == "Nothing was measured, so nothing can be said."
    assert (screen.headlines, screen.blocks) == ((), ())
    assert screen.title == "migration"
    assert facts(screen)["Machine"] == "not recorded"


def test_the_reference_alone_is_no_answer() -> None:
    results = realistic()
    alone = results.model_copy(
        update={
            "candidates": results.candidates[:1],
            "cells": [each for each in results.cells if each.reference],
            "criteria": [],
            "verdicts": {},
        }
    )
    assert "no candidate was judged" in summarise(alone).answer


def test_a_workload_that_only_reads_has_no_write_tail_and_too_few_samples_say_so() -> None:
    screen = summarise(reads_only())
    assert figure(screen, 0, "read_p95", "postgresql").told == "– (n too small: 40)"
    assert "write_p99" not in [row.key for row in screen.blocks[0].rows]
    assert figure(screen, 0, "throughput", "postgresql").note == "operations"


def test_missing_figures_are_dashes_with_their_reason() -> None:
    screen = summarise(unmeasured())
    assert figure(screen, LOG_METRIC, "integrity", "mysql").told == "– ✓ (the checker crashed)"
    assert figure(screen, LOG_METRIC, "write_p99", "mysql").note == "no samples"
    assert facts(screen)["Noise"].startswith("not measurable")


@pytest.mark.parametrize("name", EVERY)
def test_every_run_has_a_reason_and_a_next_step_for_every_candidate(name: str) -> None:
    screen = summarise(EVERY[name]())
    for each in screen.headlines:
        assert each.reason
        assert each.next_step


@pytest.mark.parametrize("given", [True, False])
def test_a_criterions_reason_is_told_with_units(given: bool) -> None:
    results = realistic()
    if not given:
        results = results.model_copy(update={"reasons": {}})
    reasons = {each.candidate: each.reason for each in summarise(results).headlines}
    assert reasons["mysql"] == "write tail, direct log_metric at 20: 1.24 s (1.15 s to 1.34 s), limit ≤ 1 s"
    assert reasons["timescaledb"] == (
        "reads beside writes, direct mixed at 20: 430 ms (312 ms to 560 ms), limit ≤ 500 ms; "
        "about 13 rounds in all would decide it"
    )
    assert reasons["postgresql"] == ("all 7 gating criteria hold" if given else "every gating criterion is met")


def doubted(**changes: object) -> str:
    """The next step after one open criterion with these fields."""
    one = criterion("mysql", "mixed", "write tail", outcome="inconclusive", **changes)
    results = realistic().model_copy(update={"criteria": [one]})
    return advice.next_step(results, candidate("mysql"), "inconclusive")


def test_the_next_step_follows_from_what_is_missing() -> None:
    assert "(--rounds 14)" in doubted(rounds_needed=13)
    assert "about 4,000 rounds" in doubted(rounds_needed=4000)
    assert doubted(rounds_needed=None).startswith("More rounds will not decide it")
    assert "(--rounds 20)" in doubted(rounds_needed=None, interval=None)
    assert "longer trials (--duration)" in doubted(measured=None)
    assert "could not be measured" in doubted(measured=None, field="integrity")
    assert "the reference has a value" in doubted(limit=None)


def test_a_reference_without_a_counter_is_not_alarming() -> None:
    silent = criterion("sqlite", "mixed", "no deadlock", measured=None, outcome="inconclusive", reason="no counter")
    held = criterion("sqlite", "mixed", "writes")
    results = realistic().model_copy(update={"criteria": [held, silent], "reasons": {"sqlite": "no counter"}})
    results = results.model_copy(update={"verdicts": {"sqlite": "inconclusive"}})
    screen = summarise(results)
    assert screen.headlines[0].reason == "1 of 2 gating criteria hold, the others can't be measured on it"
    tally = screen.groups[1].tallies[0]
    assert (tally.told, tally.outcome, screen.groups[1].misses) == ("–", None, ())


def test_limits_carry_units_and_what_the_reference_did() -> None:
    relative = criterion("mysql", "mixed", "tail", expression="p99_ms <= 1.2 * reference", limit=694.0)
    assert limit_of(relative) == "≤ 1.2 × reference = 694 ms"
    assert general_limit_of(relative) == "≤ 1.2 × reference"
    share = criterion("mysql", "mixed", "cpu", field="generator.cpu_share", limit=0.7, unit="", expression="x")
    assert limit_of(share) == "≤ 70 %"
    assert told(criterion("mysql", "mixed", "t", measured=None, reason="n too small")).startswith("not measured (n too")


def test_notes_that_differ_in_figures_only_are_told_once() -> None:
    notes = [f"The generator used {n} % of a core (mysql, mixed at {n}): it may limit." for n in (71, 80, 99)]
    screen = summarise(realistic().model_copy(update={"notes": [*notes, "Another."]}))
    assert screen.notes == (f"{notes[0].rstrip('.')} (and 2 more like it).", "Another.")


def test_a_failure_under_a_saturated_generator_is_not_blamed_on_the_store() -> None:
    results = realistic()
    cells = [
        each.model_copy(update={"generator": Generator(saturated=True), "lock_errors": 0, "deadlocks": 0})
        for each in results.cells
    ]
    mysql = results.candidates[3]
    said = advice.next_step(results.model_copy(update={"cells": cells}), mysql, "fail")
    assert said.startswith("Do not blame the store yet")


@pytest.mark.parametrize(
    ("field", "row"),
    [
        ("p99_ms", "write_p99"),
        ("p999_ms", None),
        ("read.p95_ms", "read_p95"),
        ("lock_errors", "errors"),
        ("deadlocks", "errors"),
        ("success_rate", "errors"),
        ("referee.deadlocks", "deadlocks"),
        ("metrics_per_s", "throughput"),
        ("lost", "integrity"),
        ("generator.cpu_share", None),
    ],
)
def test_a_criterion_finds_its_row(field: str, row: str | None) -> None:
    assert question_of(criterion("mysql", "mixed", "any", field=field)) == row


def test_a_criterion_judges_its_own_cell() -> None:
    results = realistic()
    one = criterion("mysql", "mixed", "write tail")
    judged = [cell for cell in results.cells if judges(one, cell)]
    assert [(each.candidate, each.workload, each.concurrency) for each in judged] == [("mysql", "mixed", 20)]


def test_the_headline_is_where_gating_criteria_judge_else_the_highest_up_to_twenty() -> None:
    results = realistic()
    assert headline_concurrency(results, "direct", "mixed") == 20
    at_five = [each.model_copy(update={"concurrency": 5}) for each in results.criteria]
    assert headline_concurrency(results.model_copy(update={"criteria": at_five}), "direct", "mixed") == 5
    assert headline_concurrency(_at(results, 100), "direct", "mixed") == 5
    assert headline_concurrency(results, "http", "mixed") is None


def _at(results: Results, concurrency: int) -> Results:
    """The same run without criteria and with its highest concurrency moved."""
    cells = [
        each.model_copy(update={"concurrency": concurrency}) if each.concurrency == 20 else each
        for each in results.cells
    ]
    return results.model_copy(update={"criteria": [], "cells": cells})


def test_scope_says_whose_data_which_road_and_how_large() -> None:
    said = facts(summarise(realistic()))
    assert said["Data"] == "generated, in private databases; prefilled: 100 experiments, 2,000 runs, 1,200,000 metrics"
    assert said["MLflow"] == "3.17.2"
    assert said["Authentication"].startswith("none in front of the store")
    assert said["Machine"].startswith("AMD EPYC 7B13, 2 cores, 7.8 GiB, stores on ext4 (/), Debian")
    assert said["Noise"].startswith("quiet: rounds differ by 4 %")
    assert said["Noise"].endswith("load 0.31 at start")


def test_a_database_of_the_users_own_is_named() -> None:
    results = realistic()
    theirs = [each.model_copy(update={"theirs": each.name == "mysql"}) for each in results.candidates]
    said = dict(conditions.scope(results, theirs))
    assert "your server for mysql" in said["Data"]
    assert said["Network"] == "loopback, no TLS (yours for mysql, loopback for the others)"


def test_processor_time_that_a_hypervisor_took_is_told() -> None:
    results = realistic()
    stolen = results.machine.model_copy(update={"steal_share": 0.031})
    said = "up to 3 % of the CPU taken by a hypervisor"
    assert said not in facts(summarise(results))["Noise"]
    assert said in facts(summarise(results.model_copy(update={"machine": stolen})))["Noise"]


def test_noise_is_judged_in_words() -> None:
    results = realistic()
    cells = [
        each.model_copy(update={"per_round": {"metrics_per_s": [100.0, 140.0, 90.0, 150.0]}}) for each in results.cells
    ]
    assert dict(conditions.machine(results, cells))["Noise"].startswith("high")


def test_candidates_that_only_verdicts_or_cells_know_are_not_forgotten() -> None:
    results = realistic().model_copy(update={"candidates": []})
    assert {each.name for each in candidates_in_order(results)} == {"sqlite", "postgresql", "timescaledb", "mysql"}
    assert candidates_in_order(results)[0].reference
