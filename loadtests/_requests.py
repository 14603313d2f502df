"""MLflow's REST requests as bytes, encoded before the operation that sends them begins.

Doubles are written by their shortest exact form; NaN and infinities as protobuf's JSON has them, in quotes.
"""

import json
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlsplit

import numpy as np

from bench import identity
from bench.job import Job
from bench.site import Site

Encode = Callable[[bytes], bytes]  # from a body to the whole request

PAGE = 100  # how many runs or traces the web UI asks for at once
_SPECIAL = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}
_V2, _V3 = "/api/2.0/mlflow", "/api/3.0/mlflow"


class Wire:
    """HTTP/1.1 requests to one site."""

    def __init__(self, site: Site) -> None:
        place = urlsplit(site.url)
        self._prefix = place.path
        fields = {"Host": place.netloc.rpartition("@")[2], "User-Agent": "trackbench", **site.headers}
        self._common = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def get(self, path: str, **query: str) -> bytes:
        """A GET request."""
        asked = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return f"GET {self._prefix}{path}?{asked} HTTP/1.1\r\n{self._common}\r\n".encode()

    def post(self, path: str, kind: str = "application/json", headers: str = "") -> Encode:
        """What turns bodies into POST requests; ``headers`` are further lines, each with its line end."""
        start = f"POST {self._prefix}{path} HTTP/1.1\r\n{self._common}Content-Type: {kind}\r\n{headers}Content-Length: "
        head = start.encode()
        return lambda body: b"%s%d\r\n\r\n%s" % (head, len(body), body)


class Requests:
    """The requests of a job's operations; what they write follows from the writer's identity."""

    def __init__(self, job: Job) -> None:
        assert job.site is not None
        self._job, self._layout = job, job.layout
        self.wire = Wire(job.site)
        post = self.wire.post
        self._log_metric, self._log_batch = post(f"{_V2}/runs/log-metric"), post(f"{_V2}/runs/log-batch")
        self._log_param, self._set_tag = post(f"{_V2}/runs/log-parameter"), post(f"{_V2}/runs/set-tag")
        self._create_run, self._update_run = post(f"{_V2}/runs/create"), post(f"{_V2}/runs/update")
        self._create_experiment = post(f"{_V2}/experiments/create")
        self._search_runs = post(f"{_V2}/runs/search")

    def log_metrics(self, writer: int, run_id: str, first: int, count: int) -> list[bytes]:
        """Requests that log ``count`` metrics, one each, from ordinal ``first`` on."""
        head, encode = f'{{"run_id":"{run_id}",', self._log_metric
        return [encode(f"{head}{fields}}}".encode()) for fields in self.metric_fields(writer, first, count)]

    def metric_fields(self, writer: int, first: int, count: int) -> list[str]:
        """The fields of metrics as JSON, without braces."""
        ordinals = np.arange(first, first + count)
        timestamps, values = identity.metrics(self._job.key, np.array([writer]), ordinals)
        keys, steps = self._layout.metric_places(writer, ordinals)
        texts = [_SPECIAL.get(text, text) for text in map(repr, values.tolist())]
        return [
            f'"key":"{key}","value":{value},"timestamp":{timestamp},"step":{step}'
            for key, value, timestamp, step in zip(keys, texts, timestamps.tolist(), steps, strict=True)
        ]

    def log_batch(self, writer: int, run_id: str, number: int) -> bytes:
        """The ``number``-th batch of a writer: its metrics in the order of the workload, its params and tags."""
        work, layout = self._job.workload, self._layout
        metrics = self.metric_fields(writer, number * work.metrics, work.metrics)
        sent = ",".join(f"{{{metrics[n]}}}" for n in layout.batch_order(writer, number))
        params = self._texts(writer, range(number * work.params, (number + 1) * work.params), "param", layout.param_key)
        tags = self._texts(writer, range(number * work.tags, (number + 1) * work.tags), "tag", layout.tag_key)
        body = f'{{"run_id":"{run_id}","metrics":[{sent}],"params":[{params}],"tags":[{tags}]}}'
        return self._log_batch(body.encode())

    def _texts(self, writer: int, ordinals: Sequence[int], what: str, key: Callable[[int, int], str]) -> str:
        return ",".join(f"{{{self._text(writer, n, what, key)}}}" for n in ordinals)

    def _text(self, writer: int, ordinal: int, what: str, key: Callable[[int, int], str]) -> str:
        value = identity.text(self._job.key, writer, ordinal, what)
        return f'"key":"{key(writer, ordinal)}","value":{json.dumps(value, ensure_ascii=False)}'

    def log_param(self, writer: int, run_id: str, ordinal: int) -> bytes:
        """Log one param."""
        fields = self._text(writer, ordinal, "param", self._layout.param_key)
        return self._log_param(f'{{"run_id":"{run_id}",{fields}}}'.encode())

    def set_tag(self, writer: int, run_id: str, ordinal: int) -> bytes:
        """Set one tag."""
        fields = self._text(writer, ordinal, "tag", self._layout.tag_key)
        return self._set_tag(f'{{"run_id":"{run_id}",{fields}}}'.encode())

    def create_experiment(self, writer: int, cycle: int) -> bytes:
        """Create the experiment of a cycle; the answer names its id."""
        return self._create_experiment(_json({"name": self._job.key.name(writer, cycle)}))

    def create_run(self, writer: int, cycle: int, experiment_id: str) -> bytes:
        """Create the run of a cycle; the answer names its id."""
        key = self._job.key
        body = {
            "experiment_id": experiment_id,
            "run_name": key.name(writer, cycle),
            "user_id": "trackbench",
            "start_time": identity.moment(key, writer, cycle),
        }
        return self._create_run(_json(body))

    def finish_run(self, run_id: str, end_time: int) -> bytes:
        """Finish a run; ``end_time`` in ms."""
        return self._update_run(_json({"run_id": run_id, "status": "FINISHED", "end_time": end_time}))

    def search_runs(self, experiment_id: int) -> bytes:
        """The newest runs of an experiment, as the web UI asks for them."""
        body = {
            "experiment_ids": [str(experiment_id)],
            "filter": "",
            "run_view_type": "ACTIVE_ONLY",
            "max_results": PAGE,
            "order_by": ["attributes.start_time DESC"],
        }
        return self._search_runs(_json(body))

    def metric_history(self, run_id: str, key: str) -> bytes:
        """All values of one metric."""
        return self.wire.get(f"{_V2}/metrics/get-history", run_id=run_id, metric_key=key)

    def get_run(self, run_id: str) -> bytes:
        """One run with all it has."""
        return self.wire.get(f"{_V2}/runs/get", run_id=run_id)


def _json(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
