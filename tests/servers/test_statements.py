"""The SQL that reaches the database from MLflow's SqlAlchemyStore and from our writers, side by side.

Both are watched from the database's end: PostgreSQL's log, MySQL's general log, SQLite's trace. Literals and white
space are made alike; everything else must agree, statement for statement and transaction for transaction. Groups
are compared in the order in which they begin to work. So the one difference that is meant (a direct writer, having one
connection, ends log_batch's outer transaction before the first inner one) does not show.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiomysql
import pymysql
import pytest
from stores import ARTIFACTS, NAMES, Park, sql

from bench.stores import store_for
from bench.stores.sqlite import SqliteSession
from bench.stores.tracking import Metric, RunRow, Tracking
from bench.stores.url import StoreUrl

pytestmark = [
    pytest.mark.servers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
Sent = list[tuple[object, str]]  # (connection, statement) in the order of arrival
Group = list[str]
OURS, PING = "c" * 32, "DO ?"
LITERAL = re.compile(
    r"E?'(?:[^']|'')*'(?:::float)?|\$\d+|(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])"
    r"|\b(?:true|false)\b|(?<!IS )(?<!NOT )\bNULL\b"
)
EAGER = re.compile(r"WHERE (tags|params|latest_metrics)\.run_uuid IN \(")
LOGGED = re.compile(r"(?P<database>\w*)\|(?P<pid>\d+)\|LOG:  (?:statement|execute [^:]*): (?P<text>.*)")


class Ear(ABC):
    """Hears what reaches one database."""

    def __init__(self, url: StoreUrl) -> None:
        self.url = url

    @abstractmethod
    def clear(self) -> None:
        """Forget what was heard."""

    @abstractmethod
    def heard(self) -> Sent:
        """What was sent since `clear`."""


class SqliteEar(Ear):
    """Connections must be handed to it."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url)
        self._sent: Sent = []

    def callback(self, connection: object) -> Callable[[str], None]:
        return lambda statement: self._sent.append((connection, statement))

    def clear(self) -> None:
        self._sent.clear()

    def heard(self) -> Sent:
        return list(self._sent)


class PostgresqlEar(Ear):
    """Reads the server's log file."""

    def __init__(self, url: StoreUrl, log: Path) -> None:
        super().__init__(url)
        self._log, self._start = log, 0
        sql(url, f"ALTER DATABASE {url.database} SET log_statement = 'all'")

    def clear(self) -> None:
        self._start = self._log.stat().st_size

    def heard(self) -> Sent:
        with self._log.open("rb") as file:
            file.seek(self._start)
            text = file.read().decode()
        sent = []
        for entry in text.replace("\n\t", " ").splitlines():
            match = LOGGED.match(entry)
            if match and match["database"] == self.url.database:
                sent.append((match["pid"], match["text"]))
        return sent


class MysqlEar(Ear):
    """Reads the table that the general log goes to. It holds no pings, so `audible_pings` must be in force."""

    def __init__(self, url: StoreUrl) -> None:
        super().__init__(url)
        sql(url, "SET GLOBAL log_output = 'TABLE'")

    def clear(self) -> None:
        sql(self.url, "SET GLOBAL general_log = 'OFF'")
        sql(self.url, "TRUNCATE mysql.general_log")
        sql(self.url, "SET GLOBAL general_log = 'ON'")

    def heard(self) -> Sent:
        sql(self.url, "SET GLOBAL general_log = 'OFF'")
        rows = sql(self.url, "SELECT thread_id, command_type, argument FROM mysql.general_log")
        strangers = {row[0] for row in rows if row[1] in ("Connect", "Quit")}  # our own looking on
        return [
            (thread, bytes(argument).decode())
            for thread, command, argument in rows
            if command == "Query" and thread not in strangers
        ]


def normal(statement: str) -> str:
    """A statement with its literals and white space made alike."""
    return LITERAL.sub("?", " ".join(statement.split())).replace("),(", "), (")


def groups(sent: Sent) -> list[Group]:
    """Transactions in the order in which they begin to work, each with the ping before it and what ends it.

    The last group holds the resets: the ROLLBACK outside of any transaction that a pool sends MySQL between two.
    """
    found: list[Group] = []
    resets: Group = []
    waiting: dict[object, Group] = {}  # pinged and set up, without a statement of its own yet
    current: dict[object, Group] = {}
    for connection, statement in sent:
        text = normal(statement)
        last = current.get(connection, ["COMMIT"])[-1]
        if text in (PING, "SELECT ?"):
            waiting[connection] = [text]
        elif text.startswith("PRAGMA"):
            waiting[connection].append(text)
        elif text == "ROLLBACK" and last in ("COMMIT", "ROLLBACK") and connection not in waiting:
            resets.append(text)
        else:
            if connection in waiting:
                current[connection] = waiting.pop(connection)
                found.append(current[connection])
            current[connection].append(text)
    for group in found:
        _sort_eager(group)
    return [*found, *waiting.values(), resets]


def _sort_eager(group: Group) -> None:
    """SQLAlchemy loads a run's tags, params and latest metrics in an order that changes from process to process."""
    places = [place for place, statement in enumerate(group) if EAGER.search(statement)]
    for place, statement in zip(places, sorted(group[place] for place in places), strict=True):
        group[place] = statement


@contextmanager
def ear(park: Park, url: StoreUrl) -> Iterator[Ear]:
    if url.path is not None:
        yield SqliteEar(url)
    elif url.store in ("mysql", "mariadb"):
        found = MysqlEar(url)
        try:
            with audible_pings():
                yield found
        finally:
            sql(url, "SET GLOBAL general_log = 'OFF'")
    else:
        yield PostgresqlEar(url, park.server(url.store).folder / "server.log")


def metric(key: str, value: float, timestamp: int, step: int) -> Metric:
    nan = value != value  # noqa: PLR0124
    return (key, 0.0 if nan else value, timestamp, step, nan)


NAN = float("nan")
BATCHES: list[tuple[list[tuple[str, float, int, int]], list[tuple[str, str]], list[tuple[str, str]]]] = [
    (
        [("c", 1.0, 5, 0), ("k", 3.0, 9, 5), ("b", 1.0, 5, 0)],
        [("p2", "x"), ("p3", "x")],
        [("t2", "y"), ("t3", "y"), ("t", "z")],
    ),
    (
        [("c", 1.0, 6, 1), ("k", 3.0, 10, 6), ("b", NAN, 6, 1), ("d", 1.0, 6, 1)],
        [("p2", "x"), ("p4", "x")],
        [("t3", "z"), ("t2", "z"), ("t4", "z")],
    ),
    ([("c", 9.0, 7, 2)], [], []),
    ([], [("p9", "x")], []),
    ([], [], [("t9", "x")]),
    ([("k", float(n), n, 100 + n) for n in range(4)], [], []),  # one key several times
    ([("c", 0.5, 1, 1), ("b", 0.5, 1, 0)], [], []),  # older than what is there
    ([("c", 9.0, 7, 2), ("c", 9.0, 8, 3), ("z", 1.0, 1, 1)], [], []),  # the first is there already
]
SINGLES = {
    "log_metric, a new key": ("k", 1.0, 5, 0),
    "log_metric, the key again": ("k", 2.0, 6, 1),
    "log_metric, only step and value change": ("k", 2.5, 6, 2),
    "log_metric, only the step changes": ("k", 2.5, 6, 3),
    "log_metric, an older step": ("k", 9.0, 3, 0),
    "log_metric, NaN": ("k", NAN, 7, 4),
    "log_metric, NaN for a new key": ("n", NAN, 7, 4),
    "log_metric, infinity": ("i", 1.7976931348623157e308, 7, 4),
}


@contextmanager
def audible_pings() -> Iterator[None]:
    """Each ping of either MySQL driver is followed by a statement that the general log holds."""
    theirs, ours = pymysql.connections.Connection.ping, aiomysql.Connection.ping

    def loud(self: Any, *arguments: Any, **named: Any) -> None:
        theirs(self, *arguments, **named)
        self.query("DO 'ping'")

    async def loud_too(self: Any, *arguments: Any, **named: Any) -> None:
        await ours(self, *arguments, **named)
        await self.query("DO 'ping'")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pymysql.connections.Connection, "ping", loud)
        patch.setattr(aiomysql.Connection, "ping", loud_too)
        yield


class MlflowSide:
    """MLflow's own store; each step leaves what it sent."""

    def __init__(self, ear: Ear, stack: ExitStack) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
        from sqlalchemy import event

        self.ear = ear
        self.store = SqlAlchemyStore(ear.url.mlflow, ARTIFACTS)
        stack.callback(self.store.engine.dispose)
        self.store.engine.dispose()  # so that all connections are made anew, and are heard
        if isinstance(ear, SqliteEar):

            @event.listens_for(self.store.engine, "connect")
            def listen(connection: Any, _: object) -> None:
                connection.set_trace_callback(ear.callback(id(connection)))

        with self.store.engine.connect(), self.store.engine.connect(), self.store.engine.connect():
            pass  # the pool holds as many as MLflow ever needs at a time, so no log-in is heard
        self.experiment = self.store.create_experiment("theirs", ARTIFACTS)
        self.run_id = ""

    def steps(self) -> Iterator[tuple[str, list[Group]]]:
        from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType

        store = self.store
        yield "create_run", self._sent(self._create_run)
        run = self.run_id
        for name, values in SINGLES.items():
            yield name, self._sent(store.log_metric, run, Metric(*values))
        yield "log_metric, the same again", self._sent(store.log_metric, run, Metric(*SINGLES["log_metric, NaN"]))
        yield "log_param", self._sent(store.log_param, run, Param("p", "v"))
        yield "log_param again", self._sent(store.log_param, run, Param("p", "v"))
        yield "set_tag", self._sent(store.set_tag, run, RunTag("t", "v"))
        yield "set_tag again", self._sent(store.set_tag, run, RunTag("t", "w"))
        for n, (metrics, params, tags) in enumerate(BATCHES):
            batch = ([Metric(*m) for m in metrics], [Param(*p) for p in params], [RunTag(*t) for t in tags])
            yield f"log_batch {n}", self._sent(store.log_batch, run, *batch)
        yield "get_run", self._sent(store.get_run, run)
        yield "metric_history", self._sent(store.get_metric_history, run, "k")
        search = ([self.experiment], "", ViewType.ACTIVE_ONLY, 100)
        yield "search_runs", self._sent(store.search_runs, *search)
        yield "finish_run", self._sent(store.update_run_info, run, RunStatus.FINISHED, 999, None)

    def _create_run(self) -> None:
        self.run_id = self.store.create_run(self.experiment, "u", 123, [], "name").info.run_id

    def _sent(self, action: Callable[..., object], *arguments: object) -> list[Group]:
        self.ear.clear()
        action(*arguments)
        return groups(self.ear.heard())


class OurSide:
    """Our writers' operations; each step leaves what it sent."""

    def __init__(self, ear: Ear, runner: asyncio.Runner, stack: ExitStack) -> None:
        self.ear, self._run = ear, runner.run
        store = store_for(ear.url)
        session = self._run(store.connect())
        stack.callback(lambda: self._run(session.close()))
        if isinstance(ear, SqliteEar):
            assert isinstance(session, SqliteSession)
            self._run(session._db.set_trace_callback(ear.callback("ours")))
        self.tracking = Tracking(store, session)
        self.experiment = self._run(self.tracking.create_experiment("ours", ARTIFACTS, 1))

    def steps(self) -> Iterator[tuple[str, list[Group]]]:
        ours = self.tracking
        yield "create_run", self._sent(ours.create_run(RunRow(OURS, "name", "u", 123, self.experiment, ARTIFACTS)))
        for name, values in SINGLES.items():
            yield name, self._sent(ours.log_metrics(OURS, [metric(*values)]))
        again = [metric(*SINGLES["log_metric, NaN"])]
        yield "log_metric, the same again", self._sent(ours.log_metrics(OURS, again))
        yield "log_param", self._sent(ours.log_param(OURS, "p", "v"))
        yield "log_param again", self._sent(ours.log_param(OURS, "p", "v"))
        yield "set_tag", self._sent(ours.set_tag(OURS, "t", "v"))
        yield "set_tag again", self._sent(ours.set_tag(OURS, "t", "w"))
        for n, (metrics, params, tags) in enumerate(BATCHES):
            yield f"log_batch {n}", self._sent(self._batch([metric(*m) for m in metrics], params, tags))
        yield "get_run", self._sent(ours.get_run(OURS))
        yield "metric_history", self._sent(ours.metric_history(OURS, "k"))
        yield "search_runs", self._sent(ours.search_runs(self.experiment, 100))
        yield "finish_run", self._sent(ours.finish_run(OURS, 999))

    async def _batch(self, metrics: list[Metric], params: list[tuple[str, str]], tags: list[tuple[str, str]]) -> None:
        """As `bench.writers` sends a batch."""
        await self.tracking.peek_run(OURS)
        if params:
            await self.tracking.log_params(OURS, params)
        if metrics:
            await self.tracking.log_metrics(OURS, metrics)
        else:
            await self.tracking.peek_run(OURS)
        if tags:
            await self.tracking.set_tags(OURS, tags)

    def _sent(self, action: Coroutine[Any, Any, object]) -> list[Group]:
        self.ear.clear()
        self._run(action)
        return groups(self.ear.heard())


@pytest.fixture(scope="module")
def sent(park: Park, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[list[Group]]]]:
    """{store: {step: [what MLflow sent, what we sent]}}; each store is asked once."""
    found: dict[str, dict[str, list[list[Group]]]] = {}
    for name in NAMES:
        url = park.fresh(name, tmp_path_factory.mktemp("statements"))
        with ExitStack() as stack:
            heard_by = stack.enter_context(ear(park, url))
            runner = stack.enter_context(asyncio.Runner())
            theirs, ours = MlflowSide(heard_by, stack), OurSide(heard_by, runner, stack)
            left = dict(theirs.steps())
            right = dict(ours.steps())
        assert list(left) == list(right)
        found[name] = {step: [left[step], right[step]] for step in left}
    return found


STEPS = (
    "create_run",
    *SINGLES,
    "log_metric, the same again",
    "log_param",
    "log_param again",
    "set_tag",
    "set_tag again",
    *(f"log_batch {n}" for n in range(len(BATCHES))),
    "get_run",
    "metric_history",
    "search_runs",
    "finish_run",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", STEPS)
def test_statements_and_transactions_are_mlflows(sent: Any, name: str, step: str) -> None:
    theirs, ours = sent[name][step]
    assert ours == theirs


def test_the_comparison_hears_what_it_should(sent: Any) -> None:
    """A comparison of nothing with nothing would agree as well."""
    for name, steps in sent.items():
        assert set(steps) == set(STEPS)
        for theirs, _ in steps.values():
            assert all(group[0] in (PING, "SELECT ?") for group in theirs[:-1]), name
            assert sum(len(group) for group in theirs) >= 3
        whole, resets = steps["log_metric, the key again"][0]
        assert resets == (["ROLLBACK"] if name == "mysql" else [])
        verbs = [statement.split()[0] for statement in whole if not statement.startswith("PRAGMA")]
        begin = [] if name == "mysql" else ["BEGIN"]  # MySQL's driver opens a transaction without a word
        if name == "sqlite":
            assert verbs == ["SELECT", "SELECT", "BEGIN", "INSERT", "SELECT", "SELECT", "UPDATE", "COMMIT"]
        else:
            ping = ["DO"] if name == "mysql" else ["SELECT"]
            assert verbs == [*ping, *begin, "SELECT", "INSERT", "SELECT", "SELECT", "UPDATE", "COMMIT"]
