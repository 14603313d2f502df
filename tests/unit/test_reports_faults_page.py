"""Runs with faults: criteria, the sections of the page, scope and method."""

import re
from html import unescape
from xml.etree import ElementTree as ET

import pytest
from fixtures_results import realistic
from fixtures_results_damaged import bare, beside_cells, damaged, only, some
from fixtures_results_damaged import untested_only as nothing_tested
from fixtures_results_faults import MAY_LOSE, faulted, of, rule

from bench.cell import Integrity
from bench.fault_cell import Untested
from bench.results import Results
from reports import aftermath, chosen, conditions, details, html, junit, markdown, method, resilience
from reports.groups import groups
from reports.judged import judges, judges_workload, place, quantity_of, same_load
from reports.summary import candidates_in_order, summarise


def plain(text: str) -> str:
    """A page or a Markdown text as words alone."""
    words = unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL))
    return " ".join(words.replace("\\", "").replace("\N{NO-BREAK SPACE}", " ").split())


# Criteria.


def test_a_criterion_on_a_fault_is_told_by_it_and_judges_no_other_cell() -> None:
    results = faulted()
    one = rule(of(results, "mysql", "server-killed"))
    assert place(one) == "server-killed with 8 writers"
    assert place(rule(of(results, "mysql", "server-killed", "http"))) == "server-killed with 8 users"
    ordinary = next(each for each in realistic().cells if each.candidate == "mysql" and each.workload == "log_metric")
    same = one.model_copy(update={"concurrency": ordinary.concurrency, "workload": ordinary.workload})
    assert not judges(same, ordinary)
    assert not same_load(same, ordinary)
    assert not judges_workload(same, ordinary)
    assert judges(same.model_copy(update={"fault": ""}), ordinary)
    assert quantity_of(one.model_copy(update={"field": "fault.kept"}), 1.0) == "yes"


def test_criteria_on_faults_have_no_say_in_which_cells_speak_for_a_workload() -> None:
    results = realistic()
    cell = of(faulted(), "mysql", "server-killed").model_copy(update={"concurrency": 5})
    crowd = [rule(cell, expression=f"integrity == {n}") for n in range(99)]
    both = results.model_copy(update={"criteria": [*results.criteria, *crowd]})
    assert chosen.headline_concurrency(both, "direct", "log_metric") == 20
    limits = [found.limit for block in summarise(both).blocks for found in block.rows]
    assert limits == [found.limit for block in summarise(results).blocks for found in block.rows]


def test_the_fault_stands_in_tallies_misses_lines_and_junit() -> None:
    results = damaged()
    found = {each.name: each for each in groups(results, candidates_in_order(results))}
    group = found["every acknowledged write is there"]
    assert [each.told for each in group.tallies] == ["1/2 ✗", "4/4 ✓", "3/4 ?", "3/4 ✗"]
    assert {each.cells for each in group.misses} == {"network-reset with 8 writers", "disk-full with 8 writers"}
    lines = [each for each in details.criteria(results) if each.candidate == "mysql"]
    assert "network-reset with 8 writers" in {each.cell for each in lines}
    root = ET.fromstring(junit.render(results))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(names) == len(set(names)) == len(results.criteria)
    assert ("mysql", "every acknowledged write is there [direct, log_metric at 8, server-killed]") in names
    assert ("mysql", "every acknowledged write is there [http, log_metric at 8, server-killed]") in names
    failed = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert failed == [
        "every acknowledged write is there [direct, log_metric at 8, network-reset]",
        "every acknowledged write is there [direct, log_metric at 8, disk-full]",
    ]


# What else the page says.


@pytest.mark.parametrize("results", [faulted(), nothing_tested(), bare()], ids=["faulted", "untested", "bare"])
def test_a_run_of_faults_alone_has_no_empty_sections(results: Results) -> None:
    page, summary = plain(html.render(results)), plain(markdown.render(results))
    for text in (page, summary):
        assert "Nothing was measured" not in text
        assert "no load was generated" not in text
    for absent in ("Speed and tails", "All cells", "No cell was measured", "Nothing was read back", "Over time"):
        assert absent not in page
    assert "What was broken, and what was left" in page


def test_a_run_with_both_has_every_section() -> None:
    page = plain(html.render(beside_cells()))
    for title in ("Speed and tails", "All cells", "Errors by kind", "Integrity", "Each fault in its time"):
        assert title in page


def test_scope_says_how_much_was_tested_and_what_power_losses_are() -> None:
    results = faulted()
    facts = dict(conditions.scope(results, results.candidates))
    assert facts["Faults"] == "20 tested, as the table says, each in trials of its own (8 writers, 8 users)"
    assert facts["Power losses"] == (
        "a model, for sqlite alone: a disk that drops what was written and not synced; contents of files and entries "
        "of directories apart. Not tested for postgresql, timescaledb, mysql"
    )
    assert facts["Driver"].startswith("http: ")
    assert facts["Load"].startswith("8 at a time")
    brief = dict(conditions.brief(results, results.candidates, []))
    assert brief["Faults"] == (
        "20 in all: 71 cells tested, 6 not tested, 10 can't happen, power losses are a model (sqlite)"
    )
    assert brief["Noise"] == "load 0.31 at start; faults are judged by what is left, not by speed"
    assert brief["Read-back"] == "SQL in 52 cells, SQL = REST in 19 cells, after the store had come back"
    assert "Generator" not in brief


def test_a_fault_not_tested_at_two_places_or_in_two_rounds_counts_once() -> None:
    results = faulted()
    twice = results.model_copy(update={"untested": [*results.untested, *results.untested]})
    for one, other in zip(conditions.brief(results, [], []), conditions.brief(twice, [], []), strict=True):
        assert one == other
    assert summarise(twice).answer == summarise(results).answer
    assert [each.told for each in resilience.gaps(twice)] == [each.told for each in resilience.gaps(results)]


def test_what_the_settings_allow_to_be_lost_stands_among_them() -> None:
    results = nothing_tested()
    page = plain(html.render(results))
    assert (
        "kill -9 of the database may lose nothing nothing nothing nothing a power loss may lose the last commit" in page
    )
    assert f"{MAY_LOSE} nothing nothing nothing MLflow's schema" in page
    unknown = [each.model_copy(update={"durable": None, "may_lose_power": None}) for each in results.candidates]
    page = plain(html.render(results.model_copy(update={"candidates": unknown})))
    assert "kill -9 of the database may lose – – – – a power loss may lose – – – –" in page


def test_faults_that_nobody_got_are_named_in_the_scope() -> None:
    results = some(("server-frozen", "power-lost-directory"))
    servers = only(results, [each for each in results.faults if not each.reference])
    both = servers.model_copy(update={"untested": results.untested})
    facts = dict(conditions.scope(both, results.candidates))
    assert facts["Faults"].endswith("; tested on no candidate: power-lost-directory")
    assert "Power losses" not in facts


def test_the_method_speaks_of_faults_where_there_were_any() -> None:
    said = dict(method.method(faulted()))
    assert {"Faults", "Kept, lost, broken, unknown", "Outages", "Power losses", "Not tested"} <= set(said)
    assert "Rounds, not requests" not in said
    assert "Closed loop" not in said
    assert "kill -9" not in said["Not tested"]
    assert "beyond that model" in said["Not tested"]
    ordinary = dict(method.method(realistic()))
    assert "Crashes of the server (kill -9)" in ordinary["Not tested"]
    assert {"Faults", "Outages", "Power losses"}.isdisjoint(ordinary)
    unkilled = dict(method.method(some(("server-frozen",))))
    assert "Crashes of the server (kill -9)" in unkilled["Not tested"]
    assert {"Rounds, not requests", "Closed loop", "Faults"} <= set(dict(method.method(beside_cells())))


def test_candidates_that_only_faults_know_are_not_forgotten() -> None:
    nobody = Untested(candidate="mariadb", fault="server-killed", applies=True, reason="not here")
    results = faulted().model_copy(update={"candidates": [], "verdicts": {}, "criteria": [], "untested": [nobody]})
    found = candidates_in_order(results)
    assert [each.name for each in found] == ["sqlite", "postgresql", "timescaledb", "mysql", "mariadb"]
    assert found[0].reference


def test_the_worst_door_is_one_that_was_made() -> None:
    cell = of(faulted(), "mysql", "server-killed", "http")
    unread = cell.model_copy(update={"integrity": Integrity(checked=False)})
    assert resilience.worst_door(unread).door == "rest"
    assert resilience.wrongs(cell.integrity) == ""
    assert aftermath.longest_outage(faulted(), []) == ""
