"""The planted defects among traces and spans."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from planted_traces import FAIL, INFO, KEY, SPANS, Stored

from bench.integrity.trace_rows import trace_id

TEXTS = "traces have their metadata and tags"
WHOLE = "spans of a trace are stored together"
ORPHANS = "no span without its trace"
Plant = Callable[[Stored], str]


@dataclass(frozen=True)
class TraceDefect:
    """As `defects.Defect`."""

    name: str
    plant: Plant
    expected: Mapping[str, int]
    forbidden: str

    def __str__(self) -> str:
        return self.name


TRACES: list[TraceDefect] = []


def defect(expected: Mapping[str, int], forbidden: str = "") -> Callable[[Plant], Plant]:
    """Write a function down as a defect."""

    def noted(plant: Plant) -> Plant:
        TRACES.append(TraceDefect(plant.__name__, plant, expected, forbidden))
        return plant

    return noted


def _span(row: list[Any]) -> str:
    return f"span {row[2]} of trace {row[0]}"


def _rewrite(stored: Stored, change: Callable[[dict[str, Any]], object]) -> str:
    row = stored.spans[4]
    content = json.loads(row[-1])
    change(content)
    row[-1] = json.dumps(content)
    return _span(row)


@defect({"lost": 1 + SPANS})
def trace_lost_with_all_it_held(stored: Stored) -> str:
    stored.drop(1, 2)
    return f"trace {trace_id(KEY, 1, 2)}"


@defect({"lost": 1, ORPHANS: 1})
def trace_lost_and_its_spans_left(stored: Stored) -> str:
    return f"trace {stored.traces.pop(3)[0]} violates {ORPHANS!r}"


@defect({"lost": 1, WHOLE: 1})
def span_lost(stored: Stored) -> str:
    return _span(stored.spans.pop(5))


@defect({"lost": 2, WHOLE: 1})
def half_the_spans_lost(stored: Stored) -> str:
    row = stored.spans[1]
    del stored.spans[1:3]
    return f"trace {row[0]} violates {WHOLE!r}"


@defect({"recovered": 1, "indeterminate": 2, WHOLE: 1})
def unknown_spans_half_there(stored: Stored) -> str:
    stored.statuses[0][1] = INFO
    del stored.spans[1:3]
    return f"trace {trace_id(KEY, 0, 0)} violates {WHOLE!r}"


@defect({"lost": SPANS, TEXTS: 1})
def all_spans_of_a_trace_lost(stored: Stored) -> str:
    """MLflow's tag that says where they are is left behind."""
    row = stored.spans[SPANS]
    del stored.spans[SPANS : 2 * SPANS]
    return _span(row)


@defect({"duplicated": 1}, forbidden="a primary key")
def span_twice(stored: Stored) -> str:
    stored.spans.append(stored.spans[0])
    return f"{_span(stored.spans[0])} is there more than once"


@defect({"corrupted": 1})
def attribute_changed(stored: Stored) -> str:
    return _rewrite(stored, lambda content: content["attributes"].update({"mlflow.spanInputs": '"other"'}))


@defect({"corrupted": 1})
def content_of_another_time(stored: Stored) -> str:
    """The columns are right; the JSON in which MLflow keeps the whole span is not."""
    return _rewrite(stored, lambda content: content.update(end_time_unix_nano=1))


@defect({"corrupted": 1})
def attribute_lost(stored: Stored) -> str:
    return _rewrite(stored, lambda content: content["attributes"].pop("trackbench.double"))


@defect({"corrupted": 1})
def integer_turned_into_a_double(stored: Stored) -> str:
    def turn(content: dict[str, Any]) -> None:
        whole = content["attributes"]["trackbench.integer"]
        content["attributes"]["trackbench.integer"] = repr(float(int(whole)))

    return _rewrite(stored, turn)


@defect({"corrupted": 1})
def double_without_its_last_bit(stored: Stored) -> str:
    def shorten(content: dict[str, Any]) -> None:
        value = json.loads(content["attributes"]["trackbench.double"])
        content["attributes"]["trackbench.double"] = repr(float(np.nextafter(value, 0)))

    return _rewrite(stored, shorten)


@defect({"corrupted": 1})
def span_a_nanosecond_late(stored: Stored) -> str:
    """In its columns; the content, which MLflow keeps beside them, still says when."""
    stored.spans[2][7] += 1
    stored.spans[2][9] -= 1
    return _span(stored.spans[2])


@defect({"corrupted": 1})
def span_under_another_parent(stored: Stored) -> str:
    stored.spans[2][3] = stored.spans[1][2]
    return _span(stored.spans[2])


@defect({"corrupted": 1})
def trace_in_another_experiment(stored: Stored) -> str:
    stored.traces[2][1] += 1
    return stored.traces[2][0]  # type: ignore[no-any-return]


@defect({TEXTS: 1})
def metadata_changed(stored: Stored) -> str:
    stored.metadata[0][2] += "x"
    return f"trace {stored.metadata[0][0]}"


@defect({TEXTS: 1})
def tag_of_a_trace_lost(stored: Stored) -> str:
    return f"trace {stored.tags.pop()[0]}"


@defect({"unexpected": SPANS})
def spans_that_failed(stored: Stored) -> str:
    stored.statuses[0][3] = FAIL
    return f"{_span(stored.spans[SPANS])} certainly failed and is there"


@defect({"unexpected": 1})
def span_of_nobody(stored: Stored) -> str:
    stored.spans.append([*stored.spans[0][:2], "f" * 16, *stored.spans[0][3:]])
    return f"span {'f' * 16} of trace {stored.spans[0][0]}"


@defect({"unexpected": 1})
def trace_of_nobody(stored: Stored) -> str:
    stranger = trace_id(KEY, 0, 99)
    stored.traces.append([stranger, *stored.traces[0][1:]])
    return f"trace {stranger}"
