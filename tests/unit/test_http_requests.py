"""The bytes that users send: exactly what the integrity check will look for."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_scripted import KEY, job
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench import identity
from bench.integrity.trace_rows import spans, trace
from bench.job import Job
from bench.site import Site
from bench.workload import Workload
from loadtests._requests import Requests, Wire
from loadtests._scripts import BLOCK, Scripts
from loadtests._traces import TraceRequests

SITE = Site("http://127.0.0.1:5000")


def body(request: bytes) -> Any:
    head, _, content = request.partition(b"\r\n\r\n")
    assert f"\r\nContent-Length: {len(content)}".encode() in head
    return json.loads(content)


def requests(folder: Path, **fields: Any) -> tuple[Job, Requests]:
    made = job(folder, Workload("w", **fields), SITE)
    return made, Requests(made)


def test_requests_are_whole_http(tmp_path: Path) -> None:
    wire = Wire(Site("https://user@example.org:8443/behind/proxy", {"Authorization": "Basic abc"}))
    assert wire.post("/api/x")(b"{}") == (
        b"POST /behind/proxy/api/x HTTP/1.1\r\nHost: example.org:8443\r\nUser-Agent: trackbench\r\n"
        b"Authorization: Basic abc\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert wire.get("/api/x", run_id="a b", key="k/é").startswith(
        b"GET /behind/proxy/api/x?run_id=a%20b&key=k%2F%C3%A9 HTTP/1.1\r\n"
    )


def test_metrics_are_their_identitys_bit_for_bit(tmp_path: Path) -> None:
    made, of = requests(tmp_path, kind="log_metric")
    count = 2_000
    timestamps, values = identity.metrics(KEY, np.array([1]), np.arange(count))
    specials = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    seen: set[str] = set()
    keys, steps = made.layout.metric_places(1, np.arange(count))
    for n, request in enumerate(of.log_metrics(1, "r" * 32, 0, count)):
        sent = body(request)
        value = sent["value"]
        if isinstance(value, str):
            seen.add(value)
            value = specials[value]
        assert np.float64(value).tobytes() == values[n].tobytes() or (math.isnan(value) and math.isnan(values[n]))
        assert (sent["key"], sent["step"], sent["timestamp"]) == (keys[n], steps[n], timestamps[n])
        assert sent["run_id"] == "r" * 32
    assert seen == set(specials)


def test_a_batch_holds_metrics_in_the_workloads_order_and_texts_as_utf_8(tmp_path: Path) -> None:
    made, of = requests(tmp_path, kind="log_batch", metrics=5, params=4, tags=4, shuffled=True)
    request = of.log_batch(1, "r" * 32, 2)
    sent = body(request)
    keys, steps = made.layout.metric_places(1, np.arange(10, 15))
    order = made.layout.batch_order(1, 2)
    assert order != sorted(order)
    assert [(m["key"], m["step"]) for m in sent["metrics"]] == [(keys[n], steps[n]) for n in order]
    for what, key in (("param", made.layout.param_key), ("tag", made.layout.tag_key)):
        assert sent[f"{what}s"] == [{"key": key(1, n), "value": identity.text(KEY, 1, n, what)} for n in range(8, 12)]
    assert "🜚".encode() not in request
    assert "🜚".encode() in of.log_batch(1, "r" * 32, 0)  # ordinal 3: four bytes, not an escape


def test_reads_ask_as_the_web_ui_does(tmp_path: Path) -> None:
    _, of = requests(tmp_path, kind="read")
    assert body(of.search_runs(9)) == {
        "experiment_ids": ["9"],
        "filter": "",
        "run_view_type": "ACTIVE_ONLY",
        "max_results": 100,
        "order_by": ["attributes.start_time DESC"],
    }


@pytest.mark.parametrize("kind", ["log_metric", "log_batch", "train", "mixed", "traces"])
def test_scripts_reserve_each_commit_once_and_in_order(tmp_path: Path, kind: Any) -> None:
    work = Workload("w", kind, metrics=2 if kind == "log_batch" else 1, params=1, tags=1, steps=40, read_share=0.25)
    script = Scripts(job(tmp_path, work, SITE)).of(1)
    operation = next(script)
    commits: list[int] = []
    for _ in range(4 * BLOCK):
        commits += range(operation.commit, operation.commit + operation.commits)
        operation = script.send(b'{"run": {"info": {"run_id": "abc"}}, "experiment_id": "4"}')
    assert commits == list(range(len(commits)))


@pytest.mark.parametrize(("kind", "name"), [("mixed", "log_metric"), ("traces", "start_trace")])
def test_reads_are_spread_evenly_among_writes(tmp_path: Path, kind: Any, name: str) -> None:
    script = Scripts(job(tmp_path, Workload("w", kind, read_share=0.25), SITE)).of(0)
    operation, reads = next(script), []
    for _ in range(100):
        reads.append(operation.commits == 0)
        operation = script.send(None)
    assert sum(reads) == 25
    assert max(np.diff(np.flatnonzero(reads))) == 4


def test_a_trace_that_was_not_started_gets_no_spans(tmp_path: Path) -> None:
    script = Scripts(job(tmp_path, Workload("w", "traces"), SITE)).of(0)
    first, second = next(script), script.send(None)
    assert [(one.name, one.commit) for one in (first, second)] == [("start_trace", 0), ("start_trace", 2)]
    third = script.send(b"{}")
    assert (third.name, third.commit) == ("log_spans", 3)


def test_a_trace_is_its_identitys(tmp_path: Path) -> None:
    made = job(tmp_path, Workload("w", "traces", spans=4), SITE)
    of, wanted = TraceRequests(made, Wire(SITE)), trace(KEY, 1, 5)
    info = body(of.start_trace(1, 5))["trace"]["trace_info"]
    assert info["trace_id"] == wanted.trace_id == "tr-" + KEY.run_id(1, 5)
    assert info["tags"]["mlflow.traceName"] == wanted.name
    assert round(float(info["execution_duration"][:-1]) * 1000) == wanted.duration
    assert info["request_time"].endswith("Z")


def test_spans_are_their_identitys(tmp_path: Path) -> None:
    made = job(tmp_path, Workload("w", "traces", spans=4), SITE)
    request = TraceRequests(made, Wire(SITE)).log_spans(1, 5)
    head, _, content = request.partition(b"\r\n\r\n")
    assert b"Content-Type: application/x-protobuf\r\nx-mlflow-experiment-id: 7\r\n" in head
    sent = ExportTraceServiceRequest.FromString(content).resource_spans[0].scope_spans[0].spans
    wanted = spans(KEY, 1, 5, 4)
    assert [one.name for one in sent] == [one.name for one in wanted]
    assert {one.trace_id.hex() for one in sent} == {KEY.run_id(1, 5)}
    assert [one.parent_span_id.hex() or None for one in sent] == [one.parent_id for one in wanted]
    assert [(one.start_time_unix_nano, one.end_time_unix_nano) for one in sent] == [(w.start, w.end) for w in wanted]
    for one, made_of in zip(sent, wanted, strict=True):
        values = {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in one.attributes}
        assert values == made_of.attributes


def test_spans_lie_within_their_trace() -> None:
    """So that MLflow, which widens a trace to its spans, finds nothing to change."""
    for cycle in range(200):
        of, made = trace(KEY, 0, cycle), spans(KEY, 0, cycle, 6)
        assert min(one.start for one in made) // 1_000_000 == of.start
        assert max(one.end for one in made) // 1_000_000 == of.start + of.duration
        assert all(one.start < one.end for one in made)
        assert len({one.span_id for one in made}) == 6
