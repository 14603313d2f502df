"""A tracking server that does as it is told, to see what a writer makes of it: wires and answers, nothing of MLflow."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer
from gevent.socket import socket

from bench.identity import TrialKey
from bench.job import Job, ReadTargets
from bench.ledger import load
from bench.samples import Recorder, Samples, unpack
from bench.site import Site
from bench.workload import Workload
from loadtests._connection import Connection
from loadtests._scripts import Scripts
from loadtests._writer import HttpWriter, Told

KEY = TrialKey.of("http", 3, 1)
OK_BODY = {"run": {"info": {"run_id": "c" * 32}}, "experiment_id": "12"}
HANG_UP = None  # in place of an answer
STALL = b""


class Last(bytes):
    """An answer, whole or not, after which the server hangs up without a word."""


Answers = Callable[[int, str], bytes | None]  # from the number of the request and its path


def answer(status: int = 200, body: object = OK_BODY, errors: str = "", more: str = "") -> bytes:
    """A whole answer."""
    content = json.dumps(body).encode()
    named = f"X-Trackbench-Errors: {errors}\r\n" if errors else ""
    head = f"HTTP/1.1 {status} Whatever\r\n{named}{more}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Scripted:
    """The server: what it was asked, and by how many connections."""

    def __init__(self, answers: Answers) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.reached = Event()  # set with each request
        self._answers = answers
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.stop(timeout=0)

    def _serve(self, client: socket, _place: Any) -> None:
        self.connections += 1
        stream = client.makefile("rb")
        try:
            while line := stream.readline():
                length = 0
                while (field := stream.readline().strip().lower()) != b"":
                    if field.startswith(b"content-length:"):
                        length = int(field[15:])
                self.bodies.append(stream.read(length))
                self.paths.append(line.split()[1].decode().partition("?")[0].rpartition("/")[2])
                self.reached.set()
                said = self._answers(len(self.paths) - 1, self.paths[-1])
                if said is HANG_UP:
                    return
                if said == STALL:
                    gevent.sleep(60)
                client.sendall(said)
                if isinstance(said, Last):
                    return
        except ConnectionError:
            pass
        finally:
            stream.close()
            client.close()


def in_turn(*answers: bytes | None, then: bytes | None = answer()) -> Answers:
    """These answers, and from then on the last."""
    return lambda number, _path: answers[number] if number < len(answers) else then


def at(path: str, first: bytes | None, then: bytes | None = answer()) -> Answers:
    """One answer to the first request of a path; all else is well."""
    seen: list[str] = []

    def decide(_number: int, asked: str) -> bytes | None:
        seen.append(asked)
        return first if asked == path and seen.count(path) == 1 else then

    return decide


class Bench:
    """A writer before a scripted server."""

    def __init__(self, folder: Path, workload: Workload, answers: Answers, **fields: Any) -> None:
        self.server = Scripted(answers)
        (folder / "ledger").mkdir(parents=True, exist_ok=True)
        counted = fields.pop("counted", True)
        self.job = job(folder, workload, Site(fields.pop("url", self.server.url), {}, counted), **fields)
        self.recorder = Recorder(self.job.samples)
        self.stopping = Event()
        self.writer = HttpWriter(self.job, 0, Scripts(self.job).of(0), self.recorder.record, self.stopping)
        self.told: list[Told] = []
        self.sit()

    def sit(self) -> None:
        """A user sits down."""
        assert self.job.site is not None
        self.writer.sit(Connection(self.job.site.url, self.job.timeout_s), self.told.append)

    def steps(self, count: int) -> None:
        for _ in range(count):
            assert self.writer.step()

    def close(self) -> None:
        """Whatever happened, nothing is left open."""
        self.writer.rise()
        self.server.close()
        self._close_files()

    def _close_files(self) -> None:
        if not self.writer._ledger._file.closed:
            self.writer.close()
            self.recorder.close()

    def samples(self) -> Samples:
        return unpack(self.recorder.drain())

    def statuses(self) -> list[int]:
        self._close_files()
        return [int(status) for status in load(Path(self.job.folder), 0)]


@contextmanager
def bench(folder: Path, workload: Workload, answers: Answers, **fields: Any) -> Iterator[Bench]:
    opened = Bench(folder, workload, answers, **fields)
    try:
        yield opened
    finally:
        opened.close()


def job(folder: Path, workload: Workload, site: Site, **fields: Any) -> Job:
    values: dict[str, Any] = {
        "driver": "http", "url": None, "site": site, "session_options": {}, "key": KEY, "workload": workload,
        "run_ids": ("a" * 32, "b" * 32), "writers": 2, "part": 0, "first": 0, "block": 2, "active": 2,
        "experiment_id": 7, "artifact_root": "", "folder": str(folder), "warmup_s": 0.0, "duration_s": 0.3,
        "count": None, "min_writes": 0, "timeout_s": 5.0, "retry": "none", "reads": ReadTargets(9, KEY, 3, 2),
    }  # fmt: skip
    return Job(**{**values, **fields})


def outcomes(samples: Samples) -> Sequence[tuple[int, int, int]]:
    """(outcome, error, attempts) of each sample."""
    columns = samples.outcome.tolist(), samples.error.tolist(), samples.attempts.tolist()
    return list(zip(*columns, strict=True))
