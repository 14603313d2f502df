"""Runs with faults: the matrix, the answer, alarms and next steps, and their place in every format."""

import io
import re
from html import unescape

import pytest
from fixtures_results import realistic
from fixtures_results_damaged import GAVE_UP, allowed, bare, beside_cells, changed, cut_off, damaged, only, some
from fixtures_results_damaged import untested_only as nothing_tested
from fixtures_results_faults import MAY_LOSE, faulted, of, rule
from rich.cells import cell_len
from rich.console import Console

from bench.fault_cell import FaultCell
from bench.results import Results
from reports import advice, html, markdown, resilience, terminal
from reports.resilience import Entry, Matrix, Row
from reports.summary import Screen, candidates_in_order, summarise


def printed(results: Results, width: int) -> str:
    file = io.StringIO()
    terminal.render(results, Console(file=file, width=width))
    return file.getvalue()


def plain(text: str) -> str:
    """A page or a Markdown text as words alone."""
    bare_text = unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL))
    return " ".join(bare_text.replace("\\", "").replace("\N{NO-BREAK SPACE}", " ").split())


def formats(results: Results) -> list[str]:
    return [
        plain(html.render(results)),
        plain(markdown.render(results)),
        " ".join(printed(results, 400).replace("\N{NO-BREAK SPACE}", " ").split()),
    ]


def matrix(results: Results) -> Matrix:
    found = resilience.matrix(results, candidates_in_order(results))
    assert found is not None
    return found


def row(results: Results, label: str) -> Row:
    return next(each for each in matrix(results).rows if each.label == label)


def told(results: Results, label: str) -> list[str]:
    return [each.told for each in row(results, label).entries]


def entry(cell: FaultCell, **changes: object) -> Entry:
    return resilience.entry(cell.model_copy(update=changes))


def headline(screen: Screen, candidate: str) -> dict[str, str]:
    found = next(each for each in screen.headlines if each.candidate == candidate)
    return {"reason": found.reason, "next": found.next_step} | {each.label: each.text for each in found.speeds}


def answer(results: Results) -> list[str]:
    """The parts of the fault's answer."""
    screen = summarise(results)
    return (screen.aftermath or screen.answer).replace("\N{NO-BREAK SPACE}", " ").split(" · ")


def with_sqlite(results: Results, **changes: object) -> Results:
    """SQLite's power cut is changed."""
    return changed(results, lambda cell: changes if cell.fault == "power-lost-directory" else {})


# The matrix.


def test_every_outcome_has_its_entry() -> None:
    results = damaged()
    assert [each.name for each in matrix(results).columns] == ["sqlite", "postgresql", "timescaledb", "mysql"]
    assert told(results, "network-reset") == [
        "–",
        "✓ kept, ok after 50 ms",
        "✓ kept, ok after 55 ms",
        "✗ BROKEN, ok after 120 ms",
    ]
    assert told(results, "disk-full")[2] == "? unknown, not ok again"
    assert told(results, "power-lost-directory") == ["✗ LOST 1, modelled", *["not tested"] * 3]


def test_only_kept_looks_right() -> None:
    cell = of(faulted(), "mysql", "server-killed")
    styles = {word: entry(cell, outcome=word).style for word in ("kept", "lost", "broken", "unknown")}
    assert styles == {"kept": "pass", "lost": "fail", "broken": "fail", "unknown": "inconclusive"}


def test_what_is_lost_is_counted_at_the_worse_door() -> None:
    cell = of(faulted(), "mysql", "server-killed", "http")
    rest = cell.integrity.model_copy(update={"lost": 1234, "door": "rest"})
    assert entry(cell, outcome="lost", integrity_rest=rest).text == "✗ LOST 1,234"


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "ok after 2.16 s"),
        ({"first_ok_s": 0.0004}, "ok at once"),
        ({"first_ok_s": 0.0}, "ok at once"),
        ({"first_ok_s": None}, "not ok again"),
        ({"first_ok_s": None, "target": "load"}, ""),
        ({"modelled": True}, "modelled"),
        ({"seen": [], "first_ok_s": None}, "no trial ended"),
    ],
)
def test_the_time_until_it_was_back_stands_beside_the_outcome(changes: dict[str, object], note: str) -> None:
    assert entry(of(faulted(), "mysql", "server-killed"), **changes).note == note


def test_a_fault_that_did_not_begin_says_so() -> None:
    assert told(bare(), "server-killed")[1:] == [
        "? unknown, did not begin",
        "? unknown, did not begin",
        "? unknown, no trial ended",
    ]


def test_a_fault_tried_in_two_places_has_two_rows_that_name_them() -> None:
    labels = [each.label for each in matrix(faulted()).rows]
    assert len(labels) == 22
    assert labels[0] == "server-killed, 8 writers"
    assert labels[-2:] == ["server-killed, 8 users", "writers-killed, 8 users"]
    assert "server-stopped" in labels
    results = some(("server-killed",))
    other = changed(results, lambda cell: {"workload": "mixed"} if cell.driver == "http" else {})
    assert [each.label for each in matrix(other).rows] == [
        "server-killed, log_metric, 8 writers",
        "server-killed, mixed, 8 users",
    ]


def test_what_nobody_got_stands_last_and_what_is_not_known_is_no_dash() -> None:
    results = cut_off()
    assert [each.label for each in matrix(results).rows][:3] == ["server-killed", "server-stopped", "server-frozen"]
    assert told(results, "server-frozen") == ["–", "no data", "no data", "no data"]
    assert told(results, "server-stopped")[3] == "no data"


def test_a_run_without_faults_has_no_matrix() -> None:
    screen = summarise(realistic())
    assert (screen.faults, screen.gaps, screen.aftermath) == (None, (), "")
    assert "Faults" not in [each.label for each in (*screen.brief, *screen.scope)]


def test_equal_reasons_are_told_together_and_what_could_be_had_elsewhere_first() -> None:
    assert [each.told for each in resilience.gaps(faulted())] == [
        "power-lost-contents, power-lost-directory (postgresql, timescaledb, mysql): losing what was not synced takes "
        "a file system that can drop it",
        "server-killed, server-stopped, server-frozen, network-slow, network-throttled, network-silent, network-reset, "
        "sessions-ended, connections-taken (sqlite): SQLite has no server",
        "deadlock-storm (sqlite): SQLite locks the whole file: no two transactions can wait for each other",
    ]
    assert [each.applies for each in resilience.gaps(faulted())] == [True, False, False]


def test_the_matrix_its_legend_and_its_gaps_are_in_every_format() -> None:
    results = damaged()
    page, summary, screen = formats(results)
    for text in (page, summary):
        assert resilience.LEGEND in text
        assert "power-lost-directory (postgresql, timescaledb, mysql): losing what was not synced" in text
        assert "server-killed, network-reset (sqlite): SQLite has no server" in text
    assert '<td><b class="fail">✗ BROKEN</b> <small>ok after 120 ms</small></td>' in html.render(results)
    assert '<td><span class="quiet">not tested</span></td>' in html.render(results)
    assert "| ✗ BROKEN, ok after 120 ms |" in summary
    assert "network-reset – ✓ kept 50 ms ✓ kept 55 ms ✗ BROKEN 120 ms" in screen
    assert "kept: every acknowledged write is there; LOST: so many are gone, as settings allow; BROKEN: " in screen
    assert "unknown: not found out; –: can't happen to this store. The time: from when its mending" in screen
    assert "Not tested: power-lost-directory (postgresql, timescaledb, mysql): losing what was" in screen
    assert f"- ? unknown: timescaledb, disk-full: it could not be measured: {GAVE_UP}" in summary.replace("**", "")


def test_four_stores_share_one_line_a_fault_at_100_columns_and_lose_the_times_before_that() -> None:
    text = printed(faulted(), 100)
    lines = text[text.index("\nfaults ") :].splitlines()[2:]
    assert [line.split("  ")[0] for line in lines[:22]] == [each.label for each in matrix(faulted()).rows]
    assert lines[22].startswith("kept: ")
    assert max(map(cell_len, text.splitlines())) <= 100
    assert re.search(r"server-killed, 8 writers +– +✓ kept 900 ms +✓ kept 990 ms +✓ kept 2.16 s *\n", text)
    narrow = printed(faulted(), 80)
    assert re.search(r"server-killed, 8 writers +– +✓ kept +✓ kept +✓ kept *\n", narrow)
    assert "The time:" not in narrow


def test_the_whole_run_is_two_screens() -> None:
    assert len(printed(faulted(), 100).splitlines()) <= 70


# The answer and the headlines.


def test_the_answer_says_how_many_each_kept_how_soon_it_was_back_and_what_was_not_tested() -> None:
    assert answer(faulted()) == [
        "20 faults: ✓ postgresql kept every acknowledged write in all 20 trials, away for at most 6.81 s, 2 not tested",
        "✓ timescaledb in all 20 trials, away for at most 7.44 s, 2 not tested",
        "✓ mysql in all 20 trials, away for at most 15.6 s, 2 not tested",
        "sqlite in 10 of 11 trials, LOST 1 under power-lost-directory as its settings allow, away for at most 4.29 s",
    ]


def test_the_answer_names_what_was_not_kept_and_never_says_back_of_what_stayed_away() -> None:
    assert answer(damaged())[1:3] == [
        "? timescaledb in 3 of 4 trials, unknown under disk-full, 1 not tested",
        "✗ mysql in 3 of 4 trials, BROKEN under network-reset, away for at most 4.15 s, 1 not tested",
    ]


def test_of_many_that_were_not_kept_the_answer_names_two() -> None:
    lost = "unknown under server-killed, unknown under server-stopped, and 6 more"
    assert answer(bare())[0] == f"8 faults: ✓ postgresql kept every acknowledged write in 0 of 8 trials, {lost}"


def test_nothing_tested_is_nothing_said() -> None:
    assert answer(nothing_tested()) == [
        "None of 12 faults was tested: power-lost-contents could not be had (losing what was not synced takes a file "
        "system that can drop it)."
    ]


def test_the_reference_alone_is_no_answer() -> None:
    results = only(faulted(), [each for each in faulted().faults if each.reference])
    assert answer(results)[0].endswith("(no candidate was judged: it takes a store beside the reference)")


def test_beside_cells_the_answer_stays_and_the_faults_have_a_line_of_their_own() -> None:
    results = beside_cells()
    screen = summarise(results)
    assert screen.answer == summarise(realistic()).answer
    assert screen.aftermath.startswith("2 faults: ")
    for text in formats(results):
        assert "20 writers, mixed: ✓ postgresql" in text
        assert "2 faults: ✓ postgresql kept every acknowledged write in 1 of 1 trial" in text
    assert headline(screen, "mysql")["direct mixed at 20"].startswith("1.51")
    assert headline(screen, "mysql")["trials with faults"] == "kept 1 of 1"


def test_a_headline_has_the_faults_and_the_longest_outage() -> None:
    screen = summarise(damaged())
    assert headline(screen, "postgresql") == {
        "reason": "all 60 gating criteria hold",
        "next": "Rehearse the move with a copy of your own store.",
        "trials with faults": "kept 4 of 4",
        "longest outage": "2.61 s (server-killed, 8 users)",
    }
    assert headline(screen, "timescaledb")["trials with faults"] == "kept 3 of 4, 1 unknown"
    assert headline(screen, "timescaledb")["longest outage"] == "not back (disk-full)"
    assert headline(screen, "mysql")["trials with faults"] == "kept 3 of 4, 1 broken"


def test_reasons_and_next_steps_follow_from_what_befell_a_candidate() -> None:
    screen = summarise(damaged())
    assert headline(screen, "mysql")["reason"].startswith("fault network-reset: 2 of 980 acknowledged rows are gone")
    assert headline(screen, "mysql")["next"].startswith("Do not move to it. Read the rows found wrong after network-")
    assert headline(screen, "timescaledb")["reason"] == (
        f"every acknowledged write is there, disk-full with 8 writers: not measured ({GAVE_UP}), limit = 100 %"
    )
    assert headline(screen, "timescaledb")["next"].startswith("Find out why disk-full could not be judged")
    assert headline(screen, "sqlite")["reason"] == (
        f"power-lost-directory: 1 of 24 acknowledged rows is gone, as its settings allow: {MAY_LOSE}"
    )
    assert headline(screen, "sqlite")["next"].startswith("Nothing: ")
    assert headline(summarise(allowed()), "postgresql")["next"] == (
        "Choose settings that survive this (server-killed, 8 writers; see Durability under Settings), or accept the "
        "loss knowingly."
    )


def test_an_outage_beyond_its_limit_has_a_next_step() -> None:
    results = faulted()
    slow = rule(of(results, "mysql", "mlflow-killed", "http"), outcome="fail", field="fault.first_ok_s", unit="s")
    mysql = results.candidates[3]
    slow = slow.model_copy(update={"measured": 58.5, "limit": 30.0, "comparison": "<="})
    one = results.model_copy(update={"criteria": [slow]})
    said = "Do not move yet: 58.5 s until the first ok after mlflow-killed, limit ≤ 30 s. See under Faults what clients"
    assert advice.next_step(one, mysql, "fail") == f"{said} saw."
    doubtful = changed(one, lambda cell: {"outcome": "unknown"} if cell.fault == "disk-full" else {})
    assert advice.next_step(doubtful, mysql, "fail") == f"{said} saw."
    other = slow.model_copy(update={"field": "stale", "limit": 0.0, "unit": ""})
    said = advice.next_step(results.model_copy(update={"criteria": [other]}), mysql, "fail")
    assert said == "Do not move yet. See under Faults what clients saw in mlflow-killed (limit ≤ 0)."


def test_an_interrupted_run_is_to_be_run_to_its_end() -> None:
    screen = summarise(cut_off())
    assert headline(screen, "mysql")["next"] == "Run it again to the end (5 of 71 trials were made)."
    assert screen.alarms == ("Interrupted after 5 of 71 trials: what follows is what was measured until then.",)


# Alarms.


def test_broken_data_is_an_alarm_and_a_loss_that_is_allowed_too() -> None:
    assert summarise(damaged()).alarms == (
        "Data integrity is broken in mysql under network-reset: 2 lost, 1 duplicated, 1 corrupted, "
        "1 invariants violated.",
    )
    assert summarise(allowed()).alarms == (
        "postgresql lost 1,234 acknowledged rows under server-killed, 8 writers. Its settings allow that (the last "
        "600 ms of commits: synchronous_commit=off). It is exit code 4 all the same.",
    )
    quiet = allowed().model_copy(update={"exit_code": 1})
    assert "exit code" not in summarise(quiet).alarms[0]


def test_what_a_model_took_from_the_reference_alarms_nobody_but_from_a_candidate_it_does() -> None:
    results = faulted()
    assert summarise(results).alarms == ()
    judged = with_sqlite(results, reference=False)
    assert summarise(judged).alarms[0].startswith("sqlite lost 1 acknowledged row under power-lost-directory, a model")


def test_a_structure_that_is_damaged_without_wrong_rows_is_told_by_its_reason() -> None:
    def change(cell: FaultCell) -> dict[str, object]:
        return {"outcome": "broken", "reason": "pg_amcheck: 3 problems"} if cell.candidate == "postgresql" else {}

    results = changed(some(("server-frozen",)), change)
    assert summarise(results).alarms == (
        "Data integrity is broken in postgresql under server-frozen: pg_amcheck: 3 problems.",
    )


def test_many_losses_of_one_candidate_are_not_all_alarms() -> None:
    def change(cell: FaultCell) -> dict[str, object]:
        return {"outcome": "broken"} if cell.candidate == "mysql" else {}

    alarms = summarise(changed(faulted(), change)).alarms
    assert len(alarms) == 4
    assert alarms[-1] == "mysql lost or broke data under 17 more faults: see the table."


def test_doors_that_show_different_rows_are_an_alarm() -> None:
    def change(cell: FaultCell) -> dict[str, object]:
        rest = cell.integrity.model_copy(update={"stored": 1})
        return {"integrity_rest": rest} if (cell.candidate, cell.driver) == ("mysql", "http") else {}

    results = changed(some(("server-killed",)), change)
    assert summarise(results).alarms == (
        "MLflow's REST API and the tables of mysql show different rows (server-killed, 8 users).",
    )
