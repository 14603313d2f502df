"""Runs through MLflow's server: what leads, both tables of criteria, and the facts that only a server shows."""

import io
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from fixtures_results import realistic
from fixtures_results_http import PUBLISHED, migration, served_only, theirs
from rich.console import Console

from bench.cell import Cell
from bench.results import Results
from reports import advice, conditions, html, junit, markdown, plots, served, terminal, wrong
from reports.details import Table
from reports.rows import doors, hidden
from reports.standing import CriteriaTable, Line
from reports.summary import Screen, summarise
from reports.table import Block


def printed(results: Results, width: int) -> str:
    file = io.StringIO()
    terminal.render(results, Console(file=file, width=width))
    return file.getvalue()


def changed(results: Results, change: Callable[[Cell], dict[str, object]]) -> Results:
    """The results with each cell's fields changed."""
    return results.model_copy(update={"cells": [each.model_copy(update=change(each)) for each in results.cells]})


def row(block: Block, key: str) -> list[str]:
    return [each.told for each in next(each for each in block.rows if each.key == key).figures]


def line(table: CriteriaTable, name: str) -> Line:
    return next(each for each in table.lines if each.name == name)


def entries(table: Table, *label: str) -> dict[str, str]:
    """The first row that begins so, by column."""
    found = next(each for each in table.rows if each[: len(label)] == label)
    return dict(zip(table.heads, found, strict=True))


def test_users_lead_and_writers_explain() -> None:
    screen = summarise(migration())
    assert screen.answer.startswith("20 users, log_metric: ✓")
    assert [each.driver for each in screen.sides] == ["http", "direct"]
    assert [each.title for each in screen.sides] == [
        "Through MLflow's server: what users feel",
        "Straight into the tables: the store's own share",
    ]
    assert [each.title for each in screen.blocks] == [
        "log_metric, 20 users, http: closed loop",
        "mixed, 20 users, http: closed loop",
        "train, 20 users, http: closed loop",
        "log_metric, 20 writers, direct: closed loop",
    ]
    assert all("direct" not in speed.label for each in screen.headlines for speed in each.speeds)


@pytest.mark.parametrize(("results", "driver"), [(served_only, "http"), (realistic, "direct")])
def test_a_run_with_one_driver_has_one_side(results: Callable[[], Results], driver: str) -> None:
    screen = summarise(results())
    assert [each.driver for each in screen.sides] == [driver]
    assert "Straight into the tables" not in printed(results(), 120)


def test_plots_begin_with_users_and_only_theirs_run_over_time() -> None:
    gallery = plots.draw(migration())
    assert [plot.title.split(":")[0] for plot in gallery.speed] == [
        "log_metric (http)",
        "mixed (http)",
        "train (http)",
        "log_metric (direct)",
    ]
    assert len(gallery.times) == 12
    assert all("(http)" in plot.title for plot in gallery.times)


def test_the_published_table_says_that_it_does_not_decide_and_who_would_pass_by_it() -> None:
    published, decides = summarise(migration()).tables
    assert "published migration test's own table" in published.lead
    assert (
        "It does not decide; what decided is below. By it, all of them would pass, its advisory lines aside."
        in published.lead
    )
    assert (published.decides, decides.decides) == (False, True)
    assert line(published, "throughput").published == PUBLISHED
    assert [each.told for each in line(published, "throughput").standings] == [
        "116/s ✓",
        "168/s ✓",
        "161/s ✓",
        "142/s ✓",
    ]
    assert [each.name for each in published.lines if each.advisory] == [
        "create an experiment",
        "10 params",
        "100 steps",
        "one experiment",
    ]
    assert not decides.has_published


def test_the_published_tables_lead_names_those_who_pass() -> None:
    results = migration()
    failed = [
        each.model_copy(update={"outcome": "fail"}) if (each.table, each.candidate) == ("published", "mysql") else each
        for each in results.criteria
    ]
    published = summarise(results.model_copy(update={"criteria": failed})).tables[0]
    assert "By it, sqlite, postgresql and timescaledb alone would pass, its advisory lines aside." in published.lead
    none = [each.model_copy(update={"outcome": "fail"}) for each in results.criteria]
    assert "By it, none would pass, " in summarise(results.model_copy(update={"criteria": none})).tables[0].lead


def test_what_decides_holds_every_other_gating_criterion() -> None:
    results = migration()
    decides = summarise(results).tables[1]
    assert {each.name for each in decides.lines} == {each.name for each in results.criteria if each.gating}
    assert [each.told for each in line(decides, "no deadlock in the database").standings] == [
        "– (no counter)",
        "0 ✓",
        "0 ✓",
        "9 ✗",
    ]
    assert line(decides, "first attempts succeed").where == "3 cells"
    assert line(decides, "write tail").where == ""
    assert "Measured in log_metric at 20" in decides.lead
    assert summarise(results).untabled == ()


def test_a_criterion_met_in_some_cells_only_says_in_how_many() -> None:
    results = migration()
    criteria = [
        each.model_copy(update={"outcome": "fail", "measured": 0.91})
        if (each.name, each.workload, each.candidate) == ("first attempts succeed", "mixed", "mysql")
        else each
        for each in results.criteria
    ]
    decides = summarise(results.model_copy(update={"criteria": criteria})).tables[1]
    assert line(decides, "first attempts succeed").standings[3].told == "91 % to 100 % ✗ (2 of 3 cells met)"


def test_the_names_of_advisory_criteria_do_not_say_it_twice() -> None:
    results = migration()
    criteria = [
        each.model_copy(update={"name": f"advisory: {each.name}"}) if each.field.startswith("phases.") else each
        for each in results.criteria
    ]
    published = summarise(results.model_copy(update={"criteria": criteria})).tables[0]
    assert line(published, "10 params").advisory


def test_without_a_published_table_criteria_are_tallied_as_ever() -> None:
    screen = summarise(theirs())
    assert screen.tables == ()
    assert screen.untabled == screen.groups
    assert "criteria: cells passed" in printed(theirs(), 120)
    assert "The published test" not in html.render(theirs())


def test_both_tables_are_in_every_format() -> None:
    results = migration()
    for text in (html.render(results), markdown.render(results), printed(results, 160)):
        plain = " ".join(text.replace("&#39;", "'").replace("\\", "").split())
        assert plain.index("published migration test's own table") < plain.index("What decides")
        assert PUBLISHED in plain
        assert "advisory" in plain
    cases = ET.fromstring(junit.render(results)).findall(".//testcase")
    assert len(cases) == len(results.criteria)
    told = [each.findtext("system-out") or "" for each in cases if each.get("name") == "throughput [http, train at 20]"]
    assert len(told) == 4
    assert any(each.startswith("published: ") for each in told)


def test_the_last_screen_of_a_terminal_holds_the_verdicts_and_what_decided() -> None:
    lines = printed(migration(), 120).splitlines()
    last = "\n".join(lines[-58:])
    for words in ("✗ FAIL", "What decides", "Through MLflow's server", "Straight into the tables", "Noise", "Scope"):
        assert words in last
    assert "The published test" in "\n".join(lines[:-55])


def test_the_main_block_shows_what_only_a_server_shows() -> None:
    block = summarise(migration()).blocks[0]
    assert row(block, "availability")[:2] == [
        "99.75 % (p95: health 3.1 ms, search 98 ms)",
        "100 % (p95: health 3.1 ms, search 151 ms)",
    ]
    assert row(block, "first_attempts")[1] == "100 % ✓"
    assert row(block, "server_errors")[3] == "9 (all hidden by its retries)"
    assert row(block, "deadlocks")[3] == "9 ✗ (clients saw 0)"
    assert row(block, "connections")[:2] == ["–", "43 % ✓ (43 of 100)"]
    assert {each.limit for each in block.rows if each.key == "throughput"} == {"no limit"}  # the published one aside


def test_other_blocks_show_of_it_what_is_limited_or_unusual() -> None:
    _, mixed, train, direct = summarise(migration()).blocks
    assert {each.key for each in mixed.rows} >= {"availability", "first_attempts"}
    assert {"server_errors", "connections", "experiment"}.isdisjoint(each.key for each in mixed.rows)
    assert row(train, "unfinished") == ["0 ✓"] * 4
    assert row(train, "experiment")[0] == "5.04 s (create 101 ms, params 252 ms, steps 4.03 s)"
    assert {"availability", "first_attempts", "server_errors"}.isdisjoint(each.key for each in direct.rows)


def test_errors_stand_beside_one_another_by_who_counted_them() -> None:
    table = wrong.errors(migration())
    found = entries(table, "mysql", "log_metric", "http")
    assert [found[each] for each in table.heads[5:]] == ["mysql_1213_deadlock", "0", "9", "9", "9"]
    direct = entries(table, "mysql", "log_metric", "direct")
    assert [direct[each] for each in table.heads[5:]] == ["mysql_1213_deadlock", "7", "–", "–", "14"]


def test_what_clients_saw_is_not_hidden() -> None:
    results = migration()
    cell = next(each for each in results.cells if each.driver == "http" and each.server_errors)
    seen = cell.model_copy(update={"errors": {"mysql_1213_deadlock": 4}})
    assert (hidden(cell), hidden(seen)) == ({"mysql_1213_deadlock": 9}, {"mysql_1213_deadlock": 5})
    unknown = cell.model_copy(update={"server_errors": None})
    assert hidden(unknown) == {}


def test_availability_and_phases_have_tables() -> None:
    probes = entries(served.availability(migration()), "sqlite", "log_metric")
    assert (probes["available"], probes["search ok"], probes["health p95"]) == ("99.75 %", "399 of 400", "3.1 ms")
    parts = entries(served.phases(migration()), "sqlite", "train", "http", "1")
    assert (parts["create"], parts["whole experiment"], parts["runs unfinished"]) == ("21 ms", "1.05 s", "0")
    assert served.availability(realistic()).rows == served.phases(realistic()).rows == ()


def test_rows_are_counted_through_each_door() -> None:
    results = migration()
    table = wrong.integrity(results)
    assert [each[5] for each in table.rows if each[:3] == ("mysql", "mixed", "http")] == ["SQL", "REST, the same"]
    assert dict(conditions.machine(results, results.cells))["Read-back"] == "SQL = REST in 16 cells, SQL in 4 cells"
    assert {each[5] for each in wrong.integrity(theirs()).rows} == {"REST only"}
    assert row(summarise(theirs()).blocks[0], "integrity") == ["0 / 0 / 0 (REST only)"] * 4
    assert "Read-back" not in dict(conditions.machine(realistic(), []))


def test_doors_that_differ_are_an_alarm_and_rows_lost_through_one_are_lost() -> None:
    def lose(cell: Cell) -> dict[str, object]:
        rest = cell.integrity_rest
        gone = {"stored": 90, "lost": 2, "examples": ["run 3a: absent"]}
        return {"integrity_rest": rest.model_copy(update=gone)} if rest and cell.candidate == "mysql" else {}

    screen = summarise(changed(migration(), lose))
    assert screen.alarms[0] == "Data integrity is broken in mysql: 8 lost."
    assert screen.alarms[1].startswith("MLflow's REST API and its tables show different rows (mysql log_metric at 20, ")
    assert row(screen.blocks[0], "integrity")[3] == "2 / 0 / 0 ✗ (SQL ≠ REST)"
    assert "mysql, log_metric at 20: run 3a: absent" in wrong.wrong_rows(changed(migration(), lose))


def test_a_door_that_broke_down_is_named() -> None:
    def crash(cell: Cell) -> dict[str, object]:
        rest = cell.integrity_rest
        return {"integrity_rest": rest.model_copy(update={"checked": False, "reason": "no answer"})} if rest else {}

    results = changed(migration(), crash)
    assert {doors(each) for each in results.cells} == {"SQL only", "SQL"}
    assert (
        "? not checked: no answer"
        in entries(wrong.integrity(results), "mysql", "mixed", "http", "20", "closed", "REST").values()
    )


def test_workers_that_died_are_an_alarm() -> None:
    def die(cell: Cell) -> dict[str, object]:
        return {"generator": cell.generator.model_copy(update={"lost_parts": int(cell.candidate == "mysql")})}

    assert "5 Locust workers died during the load" in summarise(changed(migration(), die)).alarms[0]


def test_scope_speaks_of_tracking_servers_authentication_and_network() -> None:
    results = migration()
    said = dict(conditions.scope(results, results.candidates))
    assert said["Tracking server"].startswith("MLflow 3.17.2, private, workers 4, pool 15 connections a worker at most")
    assert said["Authentication"].startswith("MLflow server: off; direct")
    assert said["Driver"].startswith("http: through a real MLflow server, as users feel it; direct: ")
    brief = dict(conditions.brief(results, results.candidates, results.cells))["Scope"]
    assert brief.startswith("http and direct driver")
    assert "authentication off, loopback, no TLS" in brief
    more = [
        each.model_copy(update={"tracking": each.tracking | {"workers": "8"}}) if each.name == "mysql" else each
        for each in results.candidates
    ]
    split = dict(conditions.scope(results, more))["Tracking server"]
    assert split.startswith("sqlite, postgresql, timescaledb: MLflow")
    assert "; mysql: MLflow 3.17.2, private, workers 8" in split
    assert "Tracking server" not in dict(conditions.scope(realistic(), realistic().candidates))


def test_settings_show_the_schema_and_the_tracking_server() -> None:
    results = migration()
    page = html.render(results)
    assert "revision dc11669786a5, current; all tables there" in page
    assert "tracking server: workers" in page
    short = {"schema_missing": ["spans", "traces"], "schema_current": False}
    broken = [each.model_copy(update=short) for each in results.candidates]
    page = html.render(results.model_copy(update={"candidates": broken}))
    assert "NOT current; 2 tables missing: spans, traces" in page


def next_of(results: Results, screen: Screen) -> str:
    """What to do next about MySQL, whose only missed criterion is its write tail through the server."""
    mysql = results.candidates[3]
    assert screen.headlines[3].candidate == mysql.name
    criteria = [each for each in results.criteria if each.name != "no deadlock in the database"]
    return advice.next_step(results.model_copy(update={"criteria": criteria}), mysql, "fail")


def test_a_tail_that_the_store_alone_keeps_is_the_tracking_servers() -> None:
    def calm(cell: Cell) -> dict[str, object]:
        other = next(each for each in migration().cells if each.driver == "direct" and each.candidate == "postgresql")
        fast: dict[str, object] = {"latency_ms": other.latency_ms} if cell.driver == "direct" else {}
        return {**fast, "server_errors": {}, "deadlocks": 0, "lock_errors": 0}

    results = changed(migration(), calm)
    said = next_of(results, summarise(results))
    assert said.startswith("Look at the tracking server first (workers, pool): the store alone has p99 21.4 ms.")


def test_a_pool_that_ran_out_is_named_before_locks() -> None:
    results = changed(migration(), lambda cell: {"errors": {"pool_exhausted": 12}} if cell.driver == "http" else {})
    assert "pool ran out" in next_of(results, summarise(results))


def test_the_reason_is_what_users_felt_where_both_drivers_failed() -> None:
    results = migration()
    tail = next(each for each in results.criteria if (each.name, each.candidate) == ("write tail", "mysql"))
    direct = tail.model_copy(update={"driver": "direct", "measured": 1240.0})
    only = results.model_copy(update={"criteria": [direct, tail], "reasons": {"mysql": f"write tail: {direct.reason}"}})
    assert summarise(only).headlines[3].reason.startswith("write tail, log_metric at 20: 612 ms")


def test_the_method_explains_the_server_and_the_published_table() -> None:
    page = html.render(migration())
    assert "/health alone never touches the database" in page
    assert "The published table" in page
    assert "/health" not in html.render(realistic())
