"""Requests of MLflow 3's tracing, as its own client sends them: a trace as JSON, its spans as protobuf."""

import json
from datetime import UTC, datetime, timedelta

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from bench.integrity.trace_rows import spans, trace
from bench.job import Job
from loadtests._requests import PAGE, Wire

_TRACES = "/api/3.0/mlflow/traces"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TraceRequests:
    """The requests of a job's traces."""

    def __init__(self, job: Job, wire: Wire) -> None:
        self._job = job
        self._start = wire.post(_TRACES)
        self._spans = wire.post(
            "/v1/traces", "application/x-protobuf", f"x-mlflow-experiment-id: {job.experiment_id}\r\n"
        )
        self._place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": str(job.experiment_id)}}
        asked = {"locations": [self._place], "max_results": PAGE, "order_by": ["timestamp_ms DESC"]}
        self.search = wire.post(f"{_TRACES}/search")(json.dumps(asked).encode())
        """The newest traces of the job's experiment."""

    def start_trace(self, writer: int, cycle: int) -> bytes:
        """Start the trace of a cycle."""
        made = trace(self._job.key, writer, cycle)
        begin = _EPOCH + timedelta(milliseconds=made.start)
        info = {
            "trace_id": made.trace_id,
            "trace_location": self._place,
            "request_time": begin.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "execution_duration": f"{made.duration // 1000}.{made.duration % 1000:03d}s",
            "state": "OK",
            "request_preview": made.request,
            "response_preview": made.response,
            "trace_metadata": made.metadata,
            "tags": {"mlflow.traceName": made.name, **made.tags},
        }
        return self._start(json.dumps({"trace": {"trace_info": info}}, ensure_ascii=False).encode())

    def log_spans(self, writer: int, cycle: int) -> bytes:
        """Log all spans of the trace of a cycle."""
        key = self._job.key
        request = ExportTraceServiceRequest()
        scope = request.resource_spans.add().scope_spans.add()
        whole = bytes.fromhex(key.run_id(writer, cycle))
        for span in spans(key, writer, cycle, self._job.workload.spans):
            sent = scope.spans.add(
                trace_id=whole,
                span_id=bytes.fromhex(span.span_id),
                parent_span_id=bytes.fromhex(span.parent_id or ""),
                name=span.name,
                start_time_unix_nano=span.start,
                end_time_unix_nano=span.end,
                status=Status(code=Status.STATUS_CODE_OK),
            )
            for name, value in span.attributes.items():
                sent.attributes.add(key=name, value=_value(value))
        return self._spans(request.SerializeToString())


def _value(value: str | float) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
