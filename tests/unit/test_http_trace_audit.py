"""Defects planted in stored traces are found, each under its name; what is right is not."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from planted_traces import CYCLES, FAIL, INFO, KEY, RESERVED, SPANS, UNTOUCHED, Stored

from bench.integrity import Tally
from bench.integrity.trace_audit import SELECT, bounds
from bench.integrity.trace_rows import locate, trace_id
from bench.outcome import Outcome


def wrong(tally: Tally) -> dict[str, int]:
    """The counts that are not 0, attempts and finds aside."""
    names = ("lost", "duplicated", "corrupted", "unexpected", "recovered", "indeterminate")
    counts = {name: getattr(tally, name) for name in names} | dict(tally.invariants)
    return {name: n for name, n in counts.items() if n}


def test_what_was_sent_is_right() -> None:
    tally = Stored().audit()
    elements = 2 * CYCLES * (1 + SPANS)
    assert (tally.attempted, tally.acknowledged, tally.stored) == (elements,) * 3
    assert wrong(tally) == {}
    assert dict(tally.tables) == {
        "trace_info": 2 * CYCLES, "spans": 2 * CYCLES * SPANS, "trace_request_metadata": 2 * CYCLES * 6,
        "trace_tags": 2 * CYCLES * 3,
    }  # fmt: skip


@pytest.mark.parametrize("column", range(1, 8))
def test_any_changed_column_of_a_trace(column: int) -> None:
    stored = Stored()
    old = stored.traces[2][column]
    stored.traces[2][column] = old + 1 if isinstance(old, int) else old + "x"
    assert wrong(stored.audit()) == {"corrupted": 1}


@pytest.mark.parametrize("column", [1, 3, 4, 5, 6, 7, 8, 9])
def test_any_changed_column_of_a_span(column: int) -> None:
    stored = Stored()
    old = stored.spans[4][column]
    stored.spans[4][column] = old + 1 if isinstance(old, int) else old[:-1] + "!"
    assert wrong(stored.audit()) == {"corrupted": 1}


def change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({name: value})


def attribute(name: str, value: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["attributes"].update({name: value})


@pytest.mark.parametrize(
    "planted",
    [
        change("name", "other"),
        change("start_time_unix_nano", 1),
        change("parent_span_id", None),
        change("trace_id", "AAAA"),
        change("status", {"code": "STATUS_CODE_ERROR", "message": ""}),
        change("events", [{}]),
        attribute("mlflow.spanInputs", '"other"'),
        attribute("trackbench.integer", "1.0"),
        attribute("trackbench.double", "0.5"),
        attribute("one.more", "1"),
        attribute("broken", "{"),
        lambda content: content["attributes"].pop("trackbench.double"),
        lambda content: content.pop("attributes"),
    ],
)
def test_any_change_within_a_spans_content(planted: Callable[[dict[str, Any]], None]) -> None:
    stored = Stored()
    content = json.loads(stored.spans[4][-1])
    planted(content)
    stored.spans[4][-1] = json.dumps(content)
    assert wrong(stored.audit()) == {"corrupted": 1}


def test_a_double_that_lost_its_last_bit() -> None:
    stored = Stored()
    content = json.loads(stored.spans[4][-1])
    value = json.loads(content["attributes"]["trackbench.double"])
    content["attributes"]["trackbench.double"] = repr(float(np.nextafter(value, 0)))
    stored.spans[4][-1] = json.dumps(content)
    assert wrong(stored.audit()) == {"corrupted": 1}


@pytest.mark.parametrize("content", ["", "null", "[]", "{"])
def test_content_that_is_none(content: str) -> None:
    stored = Stored()
    stored.spans[0][-1] = content
    assert wrong(stored.audit()) == {"corrupted": 1}


def test_a_trace_that_is_gone() -> None:
    stored = Stored()
    stored.drop(1, 2)
    tally = stored.audit()
    assert wrong(tally) == {"lost": 1 + SPANS}
    assert f"trace {trace_id(KEY, 1, 2)} was acknowledged and is absent" in tally.examples[0]


def test_a_span_that_is_gone() -> None:
    stored = Stored()
    del stored.spans[5]
    assert wrong(stored.audit()) == {"lost": 1, "spans of a trace are stored together": 1}


def test_rows_that_are_there_twice() -> None:
    stored = Stored()
    stored.traces.append(stored.traces[0])
    stored.spans.append(stored.spans[0])
    assert wrong(stored.audit()) == {"duplicated": 2}


def test_spans_without_their_trace() -> None:
    stored = Stored()
    del stored.traces[3]
    assert wrong(stored.audit()) == {"lost": 1, "no span without its trace": 1}


@pytest.mark.parametrize("status", [FAIL, UNTOUCHED])
def test_what_certainly_failed_must_not_be_there(status: Outcome) -> None:
    stored = Stored()
    stored.statuses[0][3] = status  # the spans of cycle 1
    assert wrong(stored.audit()) == {"unexpected": SPANS}


@pytest.mark.parametrize("status", [INFO, RESERVED])
def test_what_is_in_doubt_may_be_there_or_not(status: Outcome) -> None:
    stored = Stored()
    stored.statuses[0][2:4] = status
    assert wrong(stored.audit()) == {"recovered": 1 + SPANS}
    stored.drop(0, 1)
    assert wrong(stored.audit()) == {"indeterminate": 1 + SPANS}


def test_a_trace_without_spans_has_no_tag_that_says_where_they_are() -> None:
    stored = Stored()
    lonely = trace_id(KEY, 0, 1)
    stored.statuses[0][3] = UNTOUCHED
    stored.spans = [row for row in stored.spans if row[0] != lonely]
    assert wrong(stored.audit()) == {"traces have their metadata and tags": 1}
    stored.tags = [row for row in stored.tags if row[:2] != [lonely, "mlflow.trace.spansLocation"]]
    assert wrong(stored.audit()) == {}


@pytest.mark.parametrize("table", ["metadata", "tags"])
def test_texts_that_changed_or_went(table: str) -> None:
    stored = Stored()
    rows = getattr(stored, table)
    rows[0][2] += "x"
    del rows[-1]
    assert wrong(stored.audit()) == {"traces have their metadata and tags": 2}


@pytest.mark.parametrize("strange", ["tr-" + "0" * 32, "tr-x", "other", trace_id(KEY, 5, 0), trace_id(KEY, 0, 99)])
def test_traces_that_nobody_started(strange: str) -> None:
    stored = Stored()
    stored.traces.append([strange, *stored.traces[0][1:]])
    stored.spans.append([strange, *stored.spans[0][1:]])
    assert wrong(stored.audit()) == {"unexpected": 2}


def test_a_span_that_nobody_sent() -> None:
    stored = Stored()
    stored.spans.append([*stored.spans[0][:2], "f" * 16, *stored.spans[0][3:]])
    assert wrong(stored.audit()) == {"unexpected": 1}


def test_ids_are_found_again_and_lie_within_their_bounds() -> None:
    low, high = bounds(KEY)
    for writer, cycle in ((0, 0), (65_535, 0), (3, 1 << 31)):
        found = trace_id(KEY, writer, cycle)
        assert locate(KEY, found) == (writer, cycle)
        assert low <= found < high
    assert set(SELECT) == {"trace_info", "spans", "trace_request_metadata", "trace_tags"}
