"""Open loops, capacity, marks, comparisons and the control: each told in every format, and never mixed up."""

import io
import re
from html import unescape
from xml.etree import ElementTree as ET

import pytest
from fixtures_results import criterion, realistic
from fixtures_results_http import migration
from fixtures_results_open import at_one_rate, control, opened_run
from rich.console import Console

from bench.cell import Cell
from bench.results import Mark, Results
from reports import conditions, details, html, junit, markdown, marks, method, plots, terminal, versus
from reports.chosen import answered, choose, headline_concurrency, overloaded
from reports.judged import by_reference, interval_of, judges, limit_of, place, told
from reports.rows import question_of
from reports.summary import summarise
from reports.table import Block


def printed(results: Results, width: int) -> str:
    file = io.StringIO()
    terminal.render(results, Console(file=file, width=width))
    return file.getvalue()


def plain(text: str) -> str:
    """A page or a Markdown text as words alone."""
    return " ".join(
        unescape(re.sub(r"<[^>]*>", " ", text)).replace("\\", "").replace("\N{NO-BREAK SPACE}", " ").split()
    )


@pytest.fixture(scope="module")
def page() -> str:
    return plain(html.render(opened_run()))


@pytest.fixture(scope="module")
def formats(page: str) -> list[str]:
    results = opened_run()
    return [page, plain(markdown.render(results)), " ".join(printed(results, 300).split())]


def row(block: Block, key: str) -> list[str]:
    return [each.told for each in next(each for each in block.rows if each.key == key).figures]


def labels(block: Block) -> dict[str, str]:
    return {each.key: each.label for each in block.rows}


def without(results: Results, load: str) -> Results:
    return results.model_copy(update={"cells": [each for each in results.cells if each.load != load]})


def without_reads(results: Results) -> Results:
    """The cells of one workload alone: fewer plots to draw."""
    return results.model_copy(update={"cells": [each for each in results.cells if each.workload == "log_metric"]})


def a_load(load: str, store: str = "mysql") -> Cell:
    return next(each for each in opened_run().cells if (each.load, each.candidate) == (load, store))


def test_a_place_names_its_load_and_a_criterion_judges_its_own() -> None:
    closed, opened = a_load("closed"), a_load("80 %")
    assert (place(closed), place(opened)) == ("log_metric at 20", "log_metric at 20 with 80 % load")
    assert place(opened.model_copy(update={"load": "150/s"})) == "log_metric at 20 with 150/s"
    judged = [each for each in opened_run().criteria if each.candidate == "mysql" and each.load == "80 %"]
    assert [judges(each, opened) for each in judged] == [True]
    assert not any(judges(each, closed) for each in judged)


def test_throughput_is_the_closed_loops_and_latency_the_open_ones() -> None:
    closed, opened = summarise(opened_run()).blocks
    assert closed.title == "log_metric, 20 users, http: maximum, closed loop"
    assert opened.title == "log_metric, 20 users, http: open loop at 80 % load, 92.8/s to 134/s offered"
    assert labels(closed)["write_p99"] == "write p99, service time"
    assert labels(opened)["write_p99"] == "write p99, response time"
    assert row(closed, "throughput")[1] == "168/s (±4 %)"
    assert "throughput" not in labels(opened)
    assert {"offered", "lag", "late", "skipped"}.isdisjoint(labels(closed))
    assert row(opened, "write_p99")[1] == "107 ms ✓"


def test_a_workload_without_an_open_loop_says_that_its_loop_was_closed() -> None:
    block = summarise(realistic()).blocks[0]
    assert block.title == "mixed, 20 writers, direct: closed loop"
    assert labels(block)["read_p95"] == "read p95, service time"


def test_an_open_loop_says_what_became_of_its_schedule() -> None:
    opened = summarise(opened_run()).blocks[1]
    assert row(opened, "offered") == ["92.8/s", "134/s", "129/s", "114/s"]
    assert row(opened, "lag")[1] == "300 µs / 64.9 ms (generator's own 200 µs / 900 µs)"
    assert row(opened, "late")[:2] == ["29 (1.95 %, above 1 s)", "0"]
    assert row(opened, "skipped") == ["0"] * 4


def test_the_open_loops_table_does_not_say_again_what_the_closed_one_said() -> None:
    closed, opened = summarise(opened_run()).blocks
    assert "integrity" in labels(closed)
    assert "integrity" not in labels(opened)
    results = opened_run()
    cells = [
        each.model_copy(update={"integrity": each.integrity.model_copy(update={"lost": 3})})
        if (each.load, each.candidate) == ("80 %", "mysql")
        else each
        for each in results.cells
    ]
    assert (
        row(summarise(results.model_copy(update={"cells": cells})).blocks[1], "integrity")[3]
        == "3 / 0 / 0 ✗ (SQL ≠ REST)"
    )


def test_the_answer_says_at_which_load_the_tail_is() -> None:
    screen = summarise(opened_run())
    assert screen.answer.replace("\N{NO-BREAK SPACE}", " ").startswith(
        "20 users, log_metric (tail at 80 % load): ✓ postgresql 168 metrics/s, p99 107 ms · "
    )
    speeds = {each.label: each.text.replace("\N{NO-BREAK SPACE}", " ") for each in screen.headlines[1].speeds}
    assert speeds == {
        "log_metric at 20": "168/s at most, p99 107 ms at 80 % load",
        "log_metric at 20, p99 ≤ 250 ms": "up to 151/s",
    }


def test_one_rate_for_all_is_said_to_be_that_and_overload_is_no_speed() -> None:
    screen = summarise(at_one_rate())
    assert [each.title for each in screen.blocks] == ["log_metric, 20 users, http: open loop at 130/s each"]
    assert screen.answer.startswith("20 users, log_metric with 130/s each: ")
    assert "OVERLOADED at 116/s" in screen.answer.replace("\N{NO-BREAK SPACE}", " ")
    assert "168" not in screen.answer
    assert row(screen.blocks[0], "offered") == ["130/s (OVERLOADED: 89 % of it answered)", "130/s", "130/s", "130/s"]


def test_a_share_of_the_lowest_maximum_is_told_as_one_rate() -> None:
    results = opened_run()
    cells = [
        each.model_copy(update={"schedule": each.schedule.model_copy(update={"rate": 92.8})})
        if each.load == "80 %" and each.schedule
        else each
        for each in results.cells
    ]
    screen = summarise(results.model_copy(update={"cells": cells}))
    assert screen.blocks[1].title.endswith("open loop at 92.8/s each, 80 % of the lowest maximum")
    assert "(tail at 92.8/s each)" in screen.answer


def test_of_several_loads_that_leads_which_criteria_judge_else_the_one_nearest_to_80_percent() -> None:
    results = opened_run()
    without_criteria = results.model_copy(update={"criteria": []})
    assert {each.load for each in choose(without_criteria)[0].opened} == {"80 %"}
    assert {each.load for each in choose(without(without_criteria, "80 %"))[0].opened} == {"90 %"}
    tails = [each for each in results.criteria if each.load == "60 %"]
    assert {each.load for each in choose(results.model_copy(update={"criteria": tails}))[0].opened} == {"60 %"}


def test_of_absolute_rates_the_highest_that_all_kept_up_with_leads() -> None:
    results = at_one_rate()
    slower = [
        each.model_copy(
            update={
                "load": f"{rate}/s",
                "ops_per_s": float(rate),
                "schedule": each.schedule.model_copy(update={"rate": float(rate), "due": rate * 16}),
            }
        )
        for rate in (50, 100)
        for each in results.cells
        if each.schedule
    ]
    chosen = choose(results.model_copy(update={"cells": [*results.cells, *slower]}))[0]
    assert {each.load for each in chosen.opened} == {"100/s"}


def test_of_equal_concurrencies_one_with_an_open_loop_leads() -> None:
    results = opened_run()
    higher = [each.model_copy(update={"concurrency": 50}) for each in results.cells if each.load == "closed"]
    both = [each.model_copy(update={"concurrency": at}) for at in (20, 50) for each in results.criteria]
    found = results.model_copy(update={"cells": [*results.cells, *higher], "criteria": both})
    assert headline_concurrency(found, "http", "log_metric") == 20


def test_overload_is_what_was_due_and_not_answered() -> None:
    assert [overloaded(a_load(load)) for load in ("closed", "80 %", "110 %")] == [False, False, True]
    assert answered(a_load("closed")) is None
    part = answered(a_load("110 %"))
    assert part is not None
    assert part == pytest.approx(1 / 1.1, rel=0.01)


def test_capacity_is_in_every_format(formats: list[str]) -> None:
    page, summary, screen = formats
    for text in formats:
        assert "p99 ≤ 250 ms" in text
        assert "151/s" in text
    assert "postgresql 151/s 90 % load 168/s 100 % load 168/s p99_ms is 640 at 100 %" in page
    assert "| postgresql | 151/s (90 % load) | 168/s (100 % load) | 168/s | p99_ms is 640 at 100 % |" in summary
    assert "postgresql up to 151/s not at 168/s, maximum 168/s" in screen


def test_other_plots_do_not_mix_loads() -> None:
    gallery = plots.draw(opened_run())
    assert [len(gallery.speed), len(gallery.tails), len(gallery.times)] == [1, 1, 4]
    assert "postgresql 168/s at 20;" in gallery.speed[0].alternative
    assert gallery.tails[0].title == "log_metric (http), 20 at once, 80 % load: latency percentiles"
    assert "response time, from the schedule" in gallery.tails[0].svg
    closed = plots.draw(without_reads(migration()))
    assert "closed loop" in closed.tails[0].title
    assert "service time" in closed.tails[0].svg
    assert plots.draw(at_one_rate()).speed == ()


def test_marks_are_in_every_format_near_the_top(formats: list[str]) -> None:
    for text in formats:
        kind, said = text.index("Noisy machine"), text.index("a difference below 12 % can't be seen")
        assert kind < said < text.index("Rehearse the move")
    assert "Before you believe a figure" in formats[0]


def test_a_mark_of_the_generator_takes_the_alarms_place() -> None:
    results = opened_run()
    cells = [
        each.model_copy(update={"generator": each.generator.model_copy(update={"saturated": True})})
        for each in results.cells
    ]
    marked = summarise(results.model_copy(update={"cells": cells}))
    assert not any("did not keep up" in each for each in marked.alarms)
    unmarked = summarise(results.model_copy(update={"cells": cells, "marks": results.marks[1:]}))
    assert any("did not keep up" in each for each in unmarked.alarms)


def test_marks_alike_are_told_once_and_notes_do_not_repeat_them() -> None:
    results = opened_run()
    same = [Mark(kind="clock", text=f"The clock was stepped by {n} ms (round {n}).") for n in (3, 9)]
    found = results.model_copy(update={"marks": same, "notes": [same[0].text, "another"]})
    assert [(each.kind, each.text) for each in marks.lines(found)] == [
        ("Clock", "The clock was stepped by 3 ms (round 3) (and 1 more like it).")
    ]
    assert summarise(found).notes == ("another",)


def test_a_terminal_shows_some_marks_and_counts_the_rest() -> None:
    words = ("one", "two", "three", "four", "five", "six", "seven", "eight")
    many = [Mark(kind="noisy", text=f"mark {each}") for each in words]
    text = printed(opened_run().model_copy(update={"marks": many}), 120)
    assert "mark six" in text
    assert "mark seven" not in text
    assert "and 2 more: see the report" in text


def test_comparisons_are_in_every_format(formats: list[str]) -> None:
    page, summary, screen = formats
    for text in formats:
        assert "Against the reference" in text
        assert "2 better" in text
        assert "× 1.45 (1.39 to 1.51)" in text
    assert page.count("not told apart by 4 rounds") == 3
    place = "log_metric at 20 with 60 % load (85.2/s against 69.6/s)"
    assert f"| mysql | {place} | p99, response time | ? unknown (not told apart by" in summary
    assert "metrics/s × 1.22" in screen


def test_a_ratio_of_an_open_loop_is_of_response_times_and_names_its_load() -> None:
    lines = versus.lines(opened_run())
    assert {each.field for each in lines} == {"metrics/s", "p99, response time"}
    assert "p99 at 80 % load" in dict(versus.brief(opened_run()))["mysql"]
    closed = opened_run().comparisons[1].model_copy(update={"load": "closed", "confidence": 0.975, "rounds": (4, 6)})
    told_of = versus.line(closed)
    assert told_of.field == "p99, service time"
    assert told_of.figures[1].endswith(" at 97.5 %")
    assert told_of.figures[4] == "4 and 6"
    wide = versus.line(closed.model_copy(update={"interval": (1e-6, 4e5)}))
    assert wide.figures[1] == "of no use: too few rounds"


def test_many_comparisons_are_folded_away_in_markdown() -> None:
    results = opened_run()
    many = results.model_copy(update={"comparisons": results.comparisons * 2})
    assert "<summary>Every comparison</summary>" in markdown.render(many)
    assert "<summary>Every comparison</summary>" not in markdown.render(results)


def test_the_control_is_in_every_format(formats: list[str]) -> None:
    for text in formats:
        assert (
            "the same store twice (postgresql, log_metric at 20, 4 rounds) differs by +1.2 % in metrics/s "
            "(-1.8 % to +4.2 %)" in text
        )


def test_a_control_that_sees_a_difference_says_so() -> None:
    found = control()
    seen = [each.model_copy(update={"outcome": "worse", "ratio": 0.8}) for each in found.comparisons]
    assert "CALLED DIFFERENT" in versus.control(found.model_copy(update={"comparisons": seen}))
    assert versus.control(found.model_copy(update={"comparisons": []})).endswith("nothing could be compared")


def test_the_noise_between_rounds_stands_with_the_verdict(formats: list[str]) -> None:
    for text in formats:
        assert "noise between rounds 6 %" in text
    assert "noise between rounds 6 %" in junit.render(opened_run())
    one = criterion("mysql", "mixed", "tail", noise=0.004, confidence=0.975)
    assert "to 1.34 s at 97.5 %, noise between rounds under 1 %), limit" in told(one)
    assert interval_of(criterion("mysql", "mixed", "tail")) == "1.15 s to 1.34 s"


def test_a_limit_against_an_earlier_run_reads_like_one_against_the_reference() -> None:
    one = criterion("mysql", "mixed", "tail", expression="p99_ms <= 1.1 * baseline", limit=694.0)
    assert by_reference(one)
    assert limit_of(one) == "≤ 1.1 × baseline = 694 ms"


@pytest.mark.parametrize(
    ("field", "row"),
    [
        ("schedule.lag_p99_ms", "lag"),
        ("schedule.late", "late"),
        ("schedule.skipped_share", "skipped"),
        ("schedule.rate", None),
    ],
)
def test_criteria_of_the_schedule_find_their_rows(field: str, row: str | None) -> None:
    assert question_of(criterion("mysql", "mixed", "any", field=field)) == row


def test_every_table_tells_loads_apart() -> None:
    results = opened_run()
    for table in (details.cells(results), details.operations(results), details.schedules(results)):
        assert len({row[:6] for row in table.rows}) == len(table.rows)
    names = [case.get("name") for case in ET.fromstring(junit.render(results)).iter("testcase")]
    assert "write tail [http, log_metric at 20 with 80 % load]" in names
    overload = next(row for row in details.schedules(results).rows if row[4] == "110 %")
    assert overload[7] == "90.9 %, overloaded"


def test_scope_and_method_explain_what_was_done(page: str) -> None:
    results = opened_run()
    load = dict(conditions.scope(results, results.candidates))["Load"]
    assert load.startswith("20 at a time; closed loop for the maximum, open loop at 20 %, 40 %,")
    assert "of the maximum, poisson arrivals" in load
    assert dict(conditions.scope(at_one_rate(), []))["Load"].startswith("20 at a time; open loop at 130/s, poisson")
    for words in ("Schedule lag, late, skipped", "Capacity", "A/A control", "Holm", "Rounds until decided"):
        assert words in page
    assert "steady after 600 ms at the latest" in page


def test_noise_is_that_of_closed_loops_or_of_open_ones_tails() -> None:
    assert conditions.spread(a_load("closed")) == pytest.approx(0.04, abs=0.03)
    assert conditions.spread(a_load("80 %")) == pytest.approx(0.09, abs=0.06)


def test_older_results_say_nothing_of_what_they_lack() -> None:
    results = migration()
    said = plain(markdown.render(results)) + printed(results, 200) + str(method.method(results))
    new = ("Against the reference", "A/A control", "Before you believe", "Schedule lag", "Holm", "noise between")
    for words in (*new, "Capacity"):
        assert words not in said
