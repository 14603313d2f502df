"""Traces as MLflow keeps those of two writers, in memory or in a real SQLite file, to plant defects in."""

import asyncio
import base64
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import planted

from bench.identity import TrialKey
from bench.integrity import Expected, Tally, read_traces
from bench.integrity.trace_audit import TraceAudit
from bench.integrity.trace_rows import spans, trace, trace_id
from bench.outcome import Outcome
from bench.stores import store_for
from bench.stores.url import StoreUrl
from bench.workload import Layout, Workload

KEY, EXPERIMENT, SPANS, CYCLES = TrialKey.of("traced", 3, 4), 11, 3, 4
OK, FAIL, INFO, RESERVED, UNTOUCHED = Outcome.OK, Outcome.FAIL, Outcome.INFO, Outcome.RESERVED, Outcome.UNTOUCHED
LAYOUT = Layout(KEY, Workload("traces", "traces", spans=SPANS), 2)
Row = list[Any]
_STARTED = "mlflow.trace.spansLocation"
_INSERTS = {
    "traces": "INSERT INTO trace_info (request_id, experiment_id, timestamp_ms, execution_time_ms, status, "
    "request_preview, response_preview, trace_name) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "spans": "INSERT INTO spans (trace_id, experiment_id, span_id, parent_span_id, name, type, status, "
    "start_time_unix_nano, end_time_unix_nano, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "metadata": "INSERT INTO trace_request_metadata (request_id, key, value) VALUES (?, ?, ?)",
    "tags": "INSERT INTO trace_tags (request_id, key, value) VALUES (?, ?, ?)",
}
_DURATION = 9  # the column of spans that databases compute


def coded(digits: str | None) -> str | None:
    return None if digits is None else base64.b64encode(bytes.fromhex(digits)).decode()


class Stored:
    """What MLflow keeps of two writers' traces."""

    def __init__(self) -> None:
        self.traces: list[Row] = []
        self.spans: list[Row] = []
        self.metadata: list[Row] = []
        self.tags: list[Row] = []
        self.statuses = [np.full(2 * CYCLES, OK, dtype=np.uint8) for _ in range(2)]
        for writer in range(2):
            for cycle in range(CYCLES):
                self._add(writer, cycle)

    def _add(self, writer: int, cycle: int) -> None:
        of = trace(KEY, writer, cycle)
        self.traces.append([of.trace_id, EXPERIMENT, of.start, of.duration, "OK", of.request, of.response, of.name])
        texts = {**of.metadata, "mlflow.trace.infoFinalized": "true"}
        self.metadata += [[of.trace_id, key, value] for key, value in texts.items()]
        texts = {**of.tags, "mlflow.artifactLocation": "file:///x", _STARTED: "TRACKING_STORE"}
        self.tags += [[of.trace_id, key, value] for key, value in texts.items()]
        for one in spans(KEY, writer, cycle, SPANS):
            attributes = {"mlflow.traceRequestId": of.trace_id, **one.attributes}
            content: dict[str, Any] = {
                "trace_id": coded(of.trace_id[3:]), "span_id": coded(one.span_id),
                "parent_span_id": coded(one.parent_id), "name": one.name, "start_time_unix_nano": one.start,
                "end_time_unix_nano": one.end, "events": [], "status": {"code": "STATUS_CODE_OK", "message": ""},
                "attributes": {name: json.dumps(value) for name, value in attributes.items()}, "links": [],
            }  # fmt: skip
            self.spans.append(
                [of.trace_id, EXPERIMENT, one.span_id, one.parent_id, one.name, one.type, "OK", one.start, one.end,
                 one.end - one.start, json.dumps(content)]
            )  # fmt: skip

    def doubt(self, rng: random.Random) -> None:
        """Any commit may have ended in any way; what has failed is not there, what is in doubt may be."""
        for writer, status in enumerate(self.statuses):
            for cycle in range(CYCLES):
                status[2 * cycle : 2 * cycle + 2] = rng.choices((OK, OK, OK, FAIL, INFO, RESERVED), k=2)
                if status[2 * cycle] != OK:
                    status[2 * cycle + 1] = UNTOUCHED  # without its trace no span is sent
                started, logged = (one == OK or (one in (INFO, RESERVED) and rng.random() < 0.5)
                                   for one in status[2 * cycle : 2 * cycle + 2].tolist())  # fmt: skip
                if not started:
                    self.drop(writer, cycle)
                elif not logged:
                    gone = trace_id(KEY, writer, cycle)
                    self.spans = [row for row in self.spans if row[0] != gone]
                    self.tags = [row for row in self.tags if row[:2] != [gone, _STARTED]]

    def drop(self, writer: int, cycle: int) -> None:
        """Take one trace away with all that hangs on it."""
        gone = trace_id(KEY, writer, cycle)
        for rows in (self.traces, self.spans, self.metadata, self.tags):
            rows[:] = [row for row in rows if row[0] != gone]

    def audit(self) -> Tally:
        audit = TraceAudit(LAYOUT, self.statuses, EXPERIMENT)
        audit.traces(self.traces)
        audit.spans(self.spans)
        audit.texts("trace_request_metadata", self.metadata)
        audit.texts("trace_tags", self.tags)
        return audit.close()

    def audit_in_sqlite(self, folder: Path) -> Tally:
        """The same through a file that has MLflow's schema."""
        path = folder / "store.db"
        path.write_bytes(planted.mlflow_schema())
        with closing(sqlite3.connect(path)) as db, db:
            for name, statement in _INSERTS.items():
                rows = getattr(self, name)
                if name == "spans":
                    rows = [row[:_DURATION] + row[_DURATION + 1 :] for row in rows]
                db.executemany(statement, rows)

        async def whole() -> Tally:
            session = await store_for(StoreUrl("sqlite", path=path)).connect()
            try:
                return await read_traces(session, Expected(LAYOUT, self.statuses, EXPERIMENT))
            finally:
                await session.close()

        return asyncio.run(whole())
