"""Checks stored traces and spans against the ledger, bit for bit."""

import base64
import json
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench.integrity.tally import Tally, wrongs
from bench.integrity.trace_rows import Span, bounds, locate, span_id, spans, trace, trace_id
from bench.ledger import complete
from bench.stores.base import Row
from bench.workload import Layout

__all__ = ["SELECT", "TEXTS", "TraceAudit", "bounds"]

_OURS = "WHERE {} >= ? AND {} < ?"
_BY_REQUEST = _OURS.format("request_id", "request_id")
SELECT = {
    "trace_info": "SELECT request_id, experiment_id, timestamp_ms, execution_time_ms, status, request_preview, "
    f"response_preview, trace_name FROM trace_info {_BY_REQUEST}",
    "spans": "SELECT trace_id, experiment_id, span_id, parent_span_id, name, type, status, start_time_unix_nano, "
    f"end_time_unix_nano, duration_ns, content FROM spans {_OURS.format('trace_id', 'trace_id')} ORDER BY trace_id",
    "trace_request_metadata": f"SELECT request_id, {{key}}, value FROM trace_request_metadata {_BY_REQUEST}",
    "trace_tags": f"SELECT request_id, {{key}}, value FROM trace_tags {_BY_REQUEST}",
}
"""Statements for `TraceAudit`, by table; their two arguments are `bounds` of the trial's key."""

TextTable = Literal["trace_request_metadata", "trace_tags"]
TEXTS: tuple[TextTable, ...] = ("trace_request_metadata", "trace_tags")

_FINALIZED = ("mlflow.trace.infoFinalized", "true")  # MLflow's own, with each trace that a client has started
_LOCATION = "mlflow.artifactLocation"  # the server's choice
_STORED = ("mlflow.trace.spansLocation", "TRACKING_STORE")  # MLflow's own, once spans are stored
_TEXTS = "traces have their metadata and tags"
_WHOLE = "spans of a trace are stored together"
_ORPHANS = "no span without its trace"
_Place = tuple[int, int]


class TraceAudit:
    """Traces of one trial, with their spans, metadata and tags.

    An element is a trace, or a span. Spans are best given a trace's after another's.
    """

    def __init__(self, layout: Layout, statuses: Sequence[NDArray[np.uint8]], experiment_id: int) -> None:
        self._layout, self._experiment_id, self._spans = layout, experiment_id, layout.workload.spans
        self._statuses = [complete(status, layout.cycles_of(len(status)) * 2) for status in statuses]
        cycles = [len(status) // 2 for status in self._statuses]
        self._traces = [np.zeros((2, n), dtype=np.uint16) for n in cycles]  # copies, and copies with the right bits
        self._found = [np.zeros((2, n, self._spans), dtype=np.uint16) for n in cycles]
        self._texts: dict[str, defaultdict[_Place, Counter[tuple[str, str]]]] = {
            "trace_request_metadata": defaultdict(Counter),
            "trace_tags": defaultdict(Counter),
        }
        self._expected = lru_cache(256)(self._expect)
        self.tally = Tally()
        for name in (_TEXTS, _WHOLE, _ORPHANS):
            self.tally.invariants[name] = 0

    def traces(self, rows: Sequence[Row]) -> None:
        """Take rows of trace_info, as `SELECT` asks for them."""
        for row in rows:
            self.tally.tables["trace_info"] += 1
            place = self._place("traces", row[0])
            if place is None:
                continue
            self._traces[place[0]][0, place[1]] += 1
            of = trace(self._layout.key, *place)
            right = (self._experiment_id, of.start, of.duration, "OK", of.request, of.response, of.name)
            if (int(row[1]), *tuple(row)[2:8]) == right:
                self._traces[place[0]][1, place[1]] += 1
            else:
                self.tally.example(f"traces: {row[0]} differs from what was sent")

    def spans(self, rows: Sequence[Row]) -> None:
        """Take rows of spans, as `SELECT` asks for them."""
        for row in rows:
            self.tally.tables["spans"] += 1
            place = self._place("spans", row[0])
            if place is None:
                continue
            expected = self._expected(place).get(row[2])
            if expected is None:
                self._unexpected(f"spans: span {row[2]} of trace {row[0]} was never sent")
                continue
            number, span = expected
            self._found[place[0]][0, place[1], number] += 1
            if self._is_right(row, span):
                self._found[place[0]][1, place[1], number] += 1
            else:
                self.tally.example(f"spans: span {row[2]} of trace {row[0]} differs from what was sent")

    def texts(self, table: TextTable, rows: Sequence[Row]) -> None:
        """Take rows (request_id, key, value) of one of the two tables."""
        for row in rows:
            self.tally.tables[table] += 1
            place = self._place(table, row[0])
            if place is not None:
                self._texts[table][place][row[1], "" if row[1] == _LOCATION else row[2]] += 1

    def close(self) -> Tally:
        """The counts, after all rows were taken."""
        self.tally.stored = self.tally.tables["trace_info"] + self.tally.tables["spans"]
        for writer, status in enumerate(self._statuses):
            started, logged = status[0::2], status[1::2]
            traces, found = self._traces[writer], self._found[writer]
            self._judge(partial(self._trace, writer), started, traces)
            self._judge(partial(self._span, writer), np.repeat(logged, self._spans), found.reshape(2, -1))
            there = np.count_nonzero(found[0], axis=1)
            for name, wrong in (
                (_WHOLE, (there > 0) & (there < self._spans)),
                (_ORPHANS, (there > 0) & (traces[0] == 0)),
            ):
                self.tally.invariants[name] += int(np.count_nonzero(wrong))
                for cycle in np.flatnonzero(wrong).tolist():
                    self.tally.example(f"spans: {self._trace(writer, cycle)} violates {name!r}")
            for cycle in np.flatnonzero(traces[0]).tolist():
                self._check_texts((writer, cycle), spans_stored=bool(there[cycle]))
        return self.tally

    # One row

    def _place(self, what: str, found: str) -> _Place | None:
        """(writer, cycle) of a trace that the ledger knows."""
        place = locate(self._layout.key, found)
        if place is None or place[0] >= len(self._statuses) or place[1] * 2 >= len(self._statuses[place[0]]):
            self._unexpected(f"{what}: trace {found} was never started")
            return None
        return place

    def _unexpected(self, what: str) -> None:
        self.tally.unexpected += 1
        self.tally.example(what)

    def _expect(self, place: _Place) -> dict[str, tuple[int, Span]]:
        """The spans of one trace by id, with their numbers."""
        made = spans(self._layout.key, *place, self._spans)
        return {span.span_id: (number, span) for number, span in enumerate(made)}

    def _is_right(self, row: Row, span: Span) -> bool:
        _, experiment_id, _, parent, name, kind, status, start, end, duration, content = row
        columns = (int(experiment_id), parent, name, kind, status, start, end, duration)
        wanted = (self._experiment_id, span.parent_id, span.name, span.type, "OK", span.start, span.end)
        return columns == (*wanted, span.end - span.start) and _content_is_right(content, row[0], span)

    # One trace

    def _check_texts(self, place: _Place, spans_stored: bool) -> None:
        of = trace(self._layout.key, *place)
        tags = [*of.tags.items(), (_LOCATION, ""), *([_STORED] if spans_stored else [])]
        wanted = {"trace_request_metadata": [*of.metadata.items(), _FINALIZED], "trace_tags": tags}
        for table, pairs in wanted.items():
            if self._texts[table][place] != Counter(pairs):
                self.tally.invariants[_TEXTS] += 1
                self.tally.example(f"{table}: trace {of.trace_id} has others than were sent")

    # What the ledger says of many

    def _judge(self, name: Callable[[int], str], status: NDArray[np.uint8], found: NDArray[np.uint16]) -> None:
        """Count elements; ``found`` are their copies, and those with the right bits."""
        self.tally.judge(status, found[0], found[1])
        for ordinal, words in wrongs(status, found[0]):
            self.tally.example(f"traces: {name(ordinal)} {words}")

    def _trace(self, writer: int, cycle: int) -> str:
        return f"trace {trace_id(self._layout.key, writer, cycle)}"

    def _span(self, writer: int, ordinal: int) -> str:
        cycle, number = divmod(ordinal, self._spans)
        return f"span {span_id(self._layout.key, writer, cycle, number)} of {self._trace(writer, cycle)}"


def _content_is_right(content: str, trace_id: str, span: Span) -> bool:
    """Whether the JSON in which MLflow keeps a whole span says exactly what was sent."""
    try:
        found = json.loads(content)
        attributes = {name: json.loads(value) for name, value in found.pop("attributes").items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    wanted: dict[str, object] = {
        "trace_id": _in_base64(trace_id.removeprefix("tr-")),
        "span_id": _in_base64(span.span_id),
        "parent_span_id": _in_base64(span.parent_id),
        "name": span.name,
        "start_time_unix_nano": span.start,
        "end_time_unix_nano": span.end,
        "events": [],
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "links": [],
    }
    sent = {"mlflow.traceRequestId": trace_id, **span.attributes}
    return found == wanted and _exact(attributes) == _exact(sent)


def _in_base64(digits: str | None) -> str | None:
    return None if digits is None else base64.b64encode(bytes.fromhex(digits)).decode()


def _exact(attributes: dict[str, Any]) -> dict[str, tuple[str, object]]:
    """Values with their types, doubles by their bits (−0.0 as 0.0): 1 is not 1.0."""
    return {
        name: (type(value).__name__, struct.pack(">d", value + 0.0) if isinstance(value, float) else value)
        for name, value in attributes.items()
    }
