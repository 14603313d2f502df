"""Headless Locust as a gate: it ends as `trackbench run` would, refuses in one line, and leaves nothing behind."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from locusts import SHORT, Locust, scenario
from stores import Park, connected, wait_until

from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers
Start = Callable[..., Locust]
HEADLESS = ("--headless", "-u", "3", "-t", SHORT)
BROKEN = '[[criteria]]\nname = "never"\nexpression = "ops_unknown != 0"\n'


@pytest.fixture
def start(public_tmp: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts Locust; at the end of the test each must have left nothing."""
    with ExitStack() as stack:

        def begin(*arguments: str, **given: Any) -> Locust:
            number = len(list(tmp_path.glob("out*")))
            tmp = public_tmp / f"{tmp_path.name}-{number}"
            return stack.enter_context(Locust(tmp, tmp_path / f"out{number}", *arguments, **given))

        yield begin


def results(locust: Locust) -> Any:
    return json.loads((locust.run / "results.json").read_text())


def test_a_load_that_holds_passes(start: Start) -> None:
    locust = start(*HEADLESS, "DirectLogMetricUser")
    assert locust.wait() == 0, locust.stderr
    found = results(locust)
    assert found["verdict"] == "pass"
    assert found["exit_code"] == 0
    (cell,) = found["cells"]
    assert (cell["driver"], cell["store"], cell["workload"], cell["concurrency"]) == ("direct", "sqlite", "w", 3)
    assert cell["ops_ok"] > 10
    assert (locust.run / "report.html").exists()
    assert (locust.run / "scenario.toml").read_text() == scenario()
    assert found["run"]["command"].startswith("locust ")
    assert "report: " in locust.stdout


def test_users_of_a_tracking_server_and_a_criterion_that_fails(start: Start) -> None:
    locust = start(*HEADLESS, text=scenario(BROKEN))  # no class chosen: LogMetricUser
    assert locust.wait() == 1, locust.stderr
    found = results(locust)
    assert found["verdict"] == "fail"
    (cell,) = found["cells"]
    assert cell["driver"] == "http"
    assert cell["integrity"]["checked"]
    assert cell["integrity"]["lost"] == 0
    assert cell["ops_ok"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("user", ["LogMetricUser", "DirectLogMetricUser"])
def test_a_rate_makes_an_open_loop(start: Start, user: str) -> None:
    more = '[[criteria]]\nname = "closed"\nexpression = "ops_unknown != 0"\nloop = "closed"\n'
    more += '[[criteria]]\nname = "both"\nexpression = "p50_ms <= 5000"\n'
    locust = start(*HEADLESS[:-1], "6s", "--rate", "40", "--arrivals", "constant", user, text=scenario(more))
    assert locust.wait() == 0, locust.stderr
    found = results(locust)
    assert found["run"]["loop"] == "open"
    (cell,) = found["cells"]
    assert (cell["load"], cell["concurrency"]) == ("40/s", 3)
    assert (cell["schedule"]["arrivals"], cell["schedule"]["rate"]) == ("constant", pytest.approx(40.0))
    assert cell["schedule"]["skipped"] == 0
    assert abs(cell["schedule"]["due"] - 40 * cell["seconds"]) <= 1
    assert [one["name"] for one in found["criteria"]] == ["whole", "both"]
    assert any("slices" in note for note in found["notes"])


@pytest.mark.slow
def test_a_shape_only_limits_what_an_open_loop_has_in_flight(start: Start) -> None:
    locust = start(*HEADLESS[:-1], "6s", "--rate", "20", "--shape", "ladder", "LogMetricUser")
    assert locust.wait() == 0, locust.stderr
    found = results(locust)
    assert any("The rate stayed 20/s" in note for note in found["notes"])
    (cell,) = found["cells"]
    assert cell["schedule"]["rate"] == pytest.approx(20.0)
    assert cell["ops_unknown"] == 0  # users that leave were waiting, or ended what they had begun


def test_data_that_the_database_drops_ends_with_4(start: Start, park: Park, public_tmp: Path) -> None:
    folder = public_tmp / "dropping"
    folder.mkdir()
    url: StoreUrl = park.fresh("sqlite", folder)
    with connected(url) as cursor:
        cursor.execute(
            "CREATE TRIGGER planted AFTER INSERT ON metrics WHEN NEW.step = 1 BEGIN "
            "DELETE FROM metrics WHERE run_uuid = NEW.run_uuid AND key = NEW.key AND step = NEW.step; END"
        )
    locust = start(*HEADLESS, "DirectLogMetricUser", "--store", f"sqlite={url.mlflow}")
    assert locust.wait() == 4, locust.stderr
    found = results(locust)
    assert found["cells"][0]["integrity"]["lost"] > 0
    assert found["verdict"] == "fail"


REFUSED = {
    "two classes": (("LogMetricUser", "ReadUser"), "one trial measures one workload"),
    "a server that is none": (("--tracking-url", "http://127.0.0.1:9"), "127.0.0.1:9"),
    "a direct user and a server": (
        ("DirectLogMetricUser", "--tracking-url", "http://127.0.0.1:9"), "writes into a store",
    ),
    "no such workload": (("ReadUser",), "no workload of kind read"),
    "a shape without a time": (("--shape", "spike"), "give one with -t"),
    "no such scenario": (("--scenario", "nothing"), "no scenario 'nothing'"),
    "a URL with a password": (("--store", "postgresql=mysql://me:secret@host/db"), "mysql URL"),
}  # fmt: skip


_AT_ONCE = ("two classes", "a server that is none", "a URL with a password")  # the others are slow only by their number


@pytest.mark.parametrize(
    "what", [pytest.param(one, marks=[] if one in _AT_ONCE else [pytest.mark.slow]) for one in REFUSED]
)
def test_bad_input_is_one_line(start: Start, what: str) -> None:
    arguments, message = REFUSED[what]
    locust = start("--headless", "-u", "2", *arguments)
    assert locust.wait() == 2, locust.stderr
    said = [line for line in locust.stderr.splitlines() if "INFO" not in line and line]
    (line,) = [line for line in said if message in line]
    assert "Traceback" not in locust.stderr
    assert "secret" not in locust.stderr
    assert line.startswith(("trackbench: ", "locust: error: "))
    assert not list(locust.results.glob("*")) if locust.results.exists() else True


@pytest.mark.parametrize(
    ("option", "more"),
    [("--web-port", ()), pytest.param("--master-bind-port", ("--master", "--headless"), marks=pytest.mark.slow)],
)
def test_a_busy_port_is_one_line(start: Start, option: str, more: tuple[str, ...]) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        locust = start(option, str(busy.getsockname()[1]), *more)
        assert locust.wait() == 2, locust.stderr
    assert f"give another one with {option}" in locust.stderr
    assert "Traceback" not in locust.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_before_the_time_keeps_what_was_measured(start: Start, number: signal.Signals, code: int) -> None:
    locust = start("--headless", "-u", "2", "-t", "5m", "DirectLogMetricUser")
    locust.until("results/*/trials/*/ledger/0001.bin")
    locust.send(number)
    assert locust.wait() == code, locust.stderr
    found = results(locust)
    assert found["run"]["interrupted"]
    assert found["verdict"] == "inconclusive"
    assert found["cells"][0]["integrity"]["checked"]


WORKERS = ("--processes", "2", "--master-bind-port", "15557", "--master-port", "15557")


@pytest.mark.parametrize(
    ("user", "more"),
    [
        ("DirectLogMetricUser", ()),
        pytest.param("LogMetricUser", (), marks=pytest.mark.slow),
        pytest.param("DirectLogMetricUser", WORKERS, marks=pytest.mark.slow),
    ],
)
def test_killed_it_leaves_nothing(start: Start, user: str, more: tuple[str, ...]) -> None:
    locust = start("--headless", "-u", "2", "-t", "5m", *more, user)
    locust.until("results/*/trials/*/ledger/0000.bin")
    children = list(locust.offspring())
    ports = {one.laddr.port for child in children for one in listening(child)}
    names = " ".join(" ".join(child.cmdline()) for child in children)
    assert "bench.host" in names
    assert ("bench.engine" if user.startswith("Direct") else "mlflow") in names
    locust.process.kill()
    locust.leaves_nothing()
    wait_until(lambda: not ports & {one.laddr.port for one in psutil.net_connections("tcp") if one.status == "LISTEN"},
               "ports to be free")  # fmt: skip


def listening(process: psutil.Process) -> list[Any]:
    return [one for one in process.net_connections("tcp") if one.status == "LISTEN"]
