"""A writer over HTTP: what becomes of ledger and samples when answers are good, bad, late or absent."""

import json
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import pytest
from http_scripted import HANG_UP, KEY, STALL, Bench, Last, answer, at, bench, in_turn, outcomes

from bench import identity
from bench.outcome import ErrorKind, Outcome
from bench.workload import OPERATIONS, Workload
from loadtests import _writer

OK, FAIL, INFO, RESERVED = Outcome.OK, Outcome.FAIL, Outcome.INFO, Outcome.RESERVED
LOG_METRIC = Workload("m", "log_metric")
BATCH = Workload("b", "log_batch", metrics=2, params=1, tags=1)
TRAIN = Workload("t", "train", params=1, tags=1, keys=1, steps=2)
READ = Workload("r", "read")
NONE = ErrorKind.NONE
Waits = list[float]


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Back-off without waiting; what it would have waited."""
    waits: Waits = []

    def wait(self: Any, attempts: int) -> bool:
        waits.append(attempts)
        return False

    monkeypatch.setattr(_writer.HttpWriter, "_back_off", wait)
    return waits


def test_an_acknowledged_operation_is_ok_in_ledger_samples_and_statistics(tmp_path: Path) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn()) as one:
        one.steps(3)
        samples = one.samples()
        assert outcomes(samples) == [(OK, NONE, 1)] * 3
        assert (samples.start_ns <= samples.end_ns).all()
        assert one.server.connections == 1
        assert [(told.name, told.error) for told in one.told] == [("log_metric", None)] * 3
        assert one.statuses() == [OK] * 3


def test_the_commit_is_reserved_before_the_request_leaves(tmp_path: Path) -> None:
    seen: list[int] = []
    box: list[Bench] = []

    def look(_number: int, _path: str) -> bytes:
        seen.append(box[0].writer._ledger.status[len(seen)])
        return answer()

    with bench(tmp_path, LOG_METRIC, look) as one:
        box.append(one)
        one.steps(2)
    assert seen == [RESERVED, RESERVED]


@pytest.mark.parametrize(
    ("said", "outcome", "kind"),
    [
        (answer(503, errors="pg_40p01_deadlock"), FAIL, ErrorKind.PG_40P01_DEADLOCK),
        (answer(400, errors="pool_exhausted"), FAIL, ErrorKind.POOL_EXHAUSTED),
        (answer(400), FAIL, ErrorKind.OTHER),
        (answer(500), INFO, ErrorKind.OTHER),
        (answer(400, errors="pg_40p01_deadlock,connection"), INFO, ErrorKind.CONNECTION),
        (answer(502), INFO, ErrorKind.CONNECTION),
        (HANG_UP, INFO, ErrorKind.CONNECTION),
        (Last(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"), INFO, ErrorKind.CONNECTION),
        (b"nonsense\r\n\r\n", INFO, ErrorKind.CONNECTION),
    ],
)
def test_what_a_bad_answer_leaves(tmp_path: Path, said: bytes | None, outcome: Outcome, kind: ErrorKind) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(said)) as one:
        one.steps(2)
        assert outcomes(one.samples()) == [(outcome, kind, 1), (OK, NONE, 1)]
        assert one.told[0].error is not None
        assert kind.label in one.told[0].error
        assert one.statuses() == [outcome, OK]


def test_a_server_that_cant_be_reached_has_certainly_done_nothing(tmp_path: Path) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        free = listener.getsockname()[1]
    with bench(tmp_path, LOG_METRIC, in_turn(), url=f"http://127.0.0.1:{free}") as one:
        one.steps(1)
        assert outcomes(one.samples()) == [(FAIL, ErrorKind.CONNECTION, 1)]
        assert one.statuses() == [FAIL]


def _watch(one: Bench) -> None:
    """As the tick of a load."""
    while True:
        gevent.sleep(0.05)
        one.writer.check_timeout(int(one.job.timeout_s * 1e9))


def test_an_operation_that_takes_too_long_is_given_up_as_unknown(tmp_path: Path) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(STALL), timeout_s=0.2) as one:
        watch = gevent.spawn(_watch, one)
        one.steps(2)
        watch.kill()
        samples = one.samples()
        assert outcomes(samples) == [(INFO, ErrorKind.TIMEOUT, 1), (OK, NONE, 1)]
        assert 200 <= samples.service_ms[0] < 2_000
        assert one.statuses() == [INFO, OK]


def test_a_killed_request_stays_reserved_and_is_never_a_success(tmp_path: Path) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(answer(), STALL)) as one:
        user = gevent.spawn(one.steps, 9)
        one.server.reached.wait()
        while len(one.server.paths) < 2:
            gevent.sleep(0.01)
        user.kill()
        one.writer.rise()
        one.sit()  # the next user goes on with the same identity
        one.steps(1)
        assert outcomes(one.samples()) == [(OK, NONE, 1), (INFO, NONE, 1), (OK, NONE, 1)]
        assert len(one.told) == 2  # Locust's statistics don't see what was killed
        keys = [json.loads(body)["step"] for body in one.server.bodies]
        assert len(keys) == 3
        assert one.statuses() == [OK, RESERVED, OK]


def test_a_batch_that_is_refused_is_unknown_in_all_its_parts(tmp_path: Path) -> None:
    with bench(tmp_path, BATCH, in_turn(answer(400, errors="pool_exhausted"))) as one:
        one.steps(2)
        assert outcomes(one.samples()) == [(INFO, ErrorKind.POOL_EXHAUSTED, 1), (OK, NONE, 1)]
        assert one.statuses() == [INFO] * 3 + [OK] * 3


def test_a_batch_of_one_part_that_is_refused_is_certain(tmp_path: Path) -> None:
    work = Workload("b", "log_batch", metrics=2)
    with bench(tmp_path, work, in_turn(answer(400, errors="pool_exhausted"))) as one:
        one.steps(1)
        assert one.statuses() == [FAIL]


def test_a_run_goes_from_creation_to_its_end_under_the_servers_id(tmp_path: Path) -> None:
    with bench(tmp_path, TRAIN, in_turn()) as one:
        one.steps(6)
        assert one.server.paths == ["create", "log-parameter", "set-tag", "log-metric", "log-metric", "update"]
        bodies = [json.loads(body) for body in one.server.bodies]
        assert {body["run_id"] for body in bodies[1:]} == {"c" * 32}
        assert bodies[0]["run_name"] == KEY.name(0, 0)
        assert bodies[0]["start_time"] == identity.moment(KEY, 0, 0)
        assert one.statuses() == [OK] * 6


def test_a_run_of_its_own_experiment(tmp_path: Path) -> None:
    work = Workload("t", "train", params=0, tags=0, keys=1, steps=1, experiments=True)
    with bench(tmp_path, work, in_turn()) as one:
        one.steps(8)
        bodies = [json.loads(body) for body in one.server.bodies]
        assert [body["name"] for body in (bodies[0], bodies[4])] == [KEY.name(0, 0), KEY.name(0, 1)]
        assert bodies[1]["experiment_id"] == "12"
        assert [OPERATIONS[n] for n in one.samples().operation[:4]] == [
            "create_experiment", "create_run", "log_metric", "finish_run",
        ]  # fmt: skip


def test_without_its_run_the_rest_of_a_cycle_is_never_sent(tmp_path: Path) -> None:
    with bench(tmp_path, TRAIN, at("create", answer(400))) as one:
        one.steps(2)
        assert one.server.paths == ["create", "create"]
        assert one.statuses() == [INFO, 0, 0, 0, 0, 0, OK]  # create_run is several commits in the server


@pytest.mark.parametrize("page", ["<html>", {}, [], {"run": None}])
def test_a_yes_that_names_no_run_is_no_run(tmp_path: Path, page: object) -> None:
    with bench(tmp_path, TRAIN, in_turn(then=answer(200, page))) as one:
        one.steps(2)
        assert one.server.paths == ["create", "create"]


def test_reads_leave_no_ledger_and_nothing_in_doubt(tmp_path: Path) -> None:
    with bench(tmp_path, READ, in_turn(HANG_UP)) as one:
        one.steps(3)
        assert outcomes(one.samples()) == [(FAIL, ErrorKind.CONNECTION, 1), (OK, NONE, 1), (OK, NONE, 1)]
        assert one.server.paths == ["search", "get-history", "get"]
        assert one.statuses() == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_no_request_is_ever_sent_twice_unseen(tmp_path: Path, number: int) -> None:
    """geventhttpclient would send a GET again when a kept-alive connection ends under it."""
    with bench(tmp_path, READ, in_turn(*[answer()] * number, HANG_UP)) as one:
        one.steps(3)
        assert len(one.server.paths) == 3


@pytest.mark.parametrize("first", [answer(more="Connection: close\r\n"), Last(answer())], ids=["said", "unsaid"])
def test_a_connection_that_was_closed_between_requests_is_opened_again_before_the_send(
    tmp_path: Path, first: bytes
) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(first)) as one:
        one.steps(1)
        gevent.sleep(0.05)  # the end of the connection is on its way
        one.steps(1)
        assert one.server.connections == 2
        assert one.statuses() == [OK, OK]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_mlflows_policy_retries_transient_answers(tmp_path: Path, status: int, no_waits: Waits) -> None:
    bad = answer(status, errors="pg_40p01_deadlock")
    with bench(tmp_path, LOG_METRIC, in_turn(bad, bad), retry="mlflow") as one:
        one.steps(1)
        assert outcomes(one.samples()) == [(OK, NONE, 3)]
        assert dict(one.writer.retried) == {"pg_40p01_deadlock": 2}
        assert no_waits == [1, 2]
        assert one.statuses() == [OK]


def test_mlflows_policy_gives_up_after_seven_retries(tmp_path: Path, no_waits: Waits) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(then=answer(503)), retry="mlflow") as one:
        one.steps(1)
        assert outcomes(one.samples()) == [(INFO, ErrorKind.OTHER, 8)]
        assert len(one.server.paths) == 8
        assert one.writer.retried["other"] == 7


def test_mlflows_policy_does_not_retry_what_it_calls_final(tmp_path: Path, no_waits: Waits) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(answer(400, errors="pool_exhausted")), retry="mlflow") as one:
        one.steps(1)
        assert outcomes(one.samples()) == [(FAIL, ErrorKind.POOL_EXHAUSTED, 1)]


@pytest.mark.parametrize(("status", "requests"), [(503, 1), (500, 1), (429, 2), (408, 2)])
def test_a_run_is_not_created_twice(tmp_path: Path, status: int, requests: int, no_waits: Waits) -> None:
    with bench(tmp_path, TRAIN, in_turn(answer(status)), retry="mlflow") as one:
        one.steps(1)
        assert one.server.paths == ["create"] * requests


def test_an_attempt_in_doubt_keeps_the_operation_in_doubt(tmp_path: Path, no_waits: Waits) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(HANG_UP, answer(400)), retry="mlflow") as one:
        one.steps(1)
        assert outcomes(one.samples()) == [(INFO, ErrorKind.OTHER, 2)]
        assert one.statuses() == [INFO]


def test_stopping_ends_a_back_off_at_once(tmp_path: Path) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(then=answer(503)), retry="mlflow") as one:
        user = gevent.spawn(one.steps, 1)
        while len(one.server.paths) < 2:  # the second attempt follows at once, the third after seconds
            gevent.sleep(0.01)
        one.stopping.set()
        user.join(timeout=2)
        assert user.successful()
        assert outcomes(one.samples()) == [(INFO, ErrorKind.OTHER, 2)]
        assert not one.writer.step()


def test_the_count_ends_a_writer(tmp_path: Path) -> None:
    with bench(tmp_path, LOG_METRIC, in_turn(), count=2) as one:
        one.steps(2)
        assert one.writer.is_over
        assert not one.writer.step()
        assert len(one.server.paths) == 2


def test_without_our_header_the_text_tells_the_error(tmp_path: Path) -> None:
    said = answer(503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "(psycopg2.errors.DeadlockDetected) x"})
    with bench(tmp_path, LOG_METRIC, in_turn(said), counted=False) as one:
        one.steps(1)
        assert outcomes(one.samples()) == [(FAIL, ErrorKind.PG_40P01_DEADLOCK, 1)]
