"""Counts the database errors of a tracking server by their codes, those among them that MLflow's retries hide.

SQLAlchemy tells of every error that a driver raised; a pool that gave nobody a connection in time is no such error, so
the pool is watched too. Each error goes to the log file of labels, and into the header of the answer in whose making
it was met. Nothing happens where there is no error, but for one context variable a request.
"""

import mmap
import os
import sqlite3
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from functools import wraps
from types import ModuleType
from typing import Any

from bench import codes
from bench.outcome import ErrorKind
from bench.servers.tracking_hooks import COUNT, ERRORS_VARIABLE, HEADER, UNDER_WAY

_MOST_LABELS = 50  # in one header: a loop of failures must not make it unreadable

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

# Threads that serve a request get a copy of its context, so all of them append to the one list.
_met: ContextVar[list[str] | None] = ContextVar("met", default=None)


def classify(error: BaseException | None) -> ErrorKind:
    """The kind of an exception of sqlite3, psycopg (2 or 3) or PyMySQL, from its code."""
    if isinstance(error, sqlite3.Error):
        return codes.of_sqlite(getattr(error, "sqlite_errorcode", 0))
    if isinstance(error, TimeoutError):
        return ErrorKind.TIMEOUT
    if isinstance(error, OSError):
        return ErrorKind.CONNECTION
    number = error.args[0] if error is not None and error.args else None
    if isinstance(number, int) and number:  # before the SQLSTATE, which PyMySQL gives too, but less exactly
        return codes.of_mysql(number)
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state:
        return codes.of_sqlstate(state)
    # Without a code the server never spoke: the driver's own words about the connection (names as in PEP 249).
    names = {ancestor.__name__ for ancestor in type(error).__mro__}
    return ErrorKind.CONNECTION if names & {"OperationalError", "InterfaceError"} else ErrorKind.OTHER


class Recorder:
    """Writes labels down: in the file that all workers share, and for the answer that is being made."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, kind: ErrorKind) -> None:
        """One error was met."""
        os.write(self._file, kind.label.encode() + b"\n")
        met = _met.get()
        if met is not None:
            met.append(kind.label)


class UnderWay:
    """How many requests this worker serves now, where its owner can read it: a client may be gone long before its
    request is."""

    def __init__(self, path: str) -> None:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(file, COUNT.size)
        self._mapped = mmap.mmap(file, COUNT.size)
        os.close(file)
        self._now = 0

    def change(self, by: int) -> None:
        """So many more; only the worker's event loop calls it."""
        self._now += by
        COUNT.pack_into(self._mapped, 0, self._now)


class Marked:
    """An ASGI application whose answers name the errors that were met while they were made."""

    def __init__(self, inner: Application, under_way: UnderWay) -> None:
        self._inner = inner
        self._under_way = under_way

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        met: list[str] = []
        _met.set(met)  # uvicorn gives each request a task of its own, so nothing need be set back

        async def marked(message: Message) -> None:
            if met and message["type"] == "http.response.start":
                labels = ",".join(met[:_MOST_LABELS]).encode()
                message["headers"] = [*message.get("headers", ()), (HEADER.lower().encode(), labels)]
            await send(message)

        self._under_way.change(1)
        try:
            await self._inner(scope, receive, marked)
        finally:
            self._under_way.change(-1)


def install(module: ModuleType) -> None:
    """Hook SQLAlchemy, and every application that MLflow's `module` has made or will make."""
    path = os.environ[ERRORS_VARIABLE]
    recorder, under_way = Recorder(path), UnderWay(f"{path}{UNDER_WAY}{os.getpid()}")
    _watch_sqlalchemy(recorder)
    make = module.create_fastapi_app

    @wraps(make)
    def make_marked(*args: Any, **kwargs: Any) -> Any:
        return _mark(make(*args, **kwargs), under_way)

    module.create_fastapi_app = make_marked  # type: ignore[attr-defined]
    _mark(module.app, under_way)


def _mark(application: Any, under_way: UnderWay) -> Any:
    """Put `Marked` around everything, also around what is added to the application later (the login's check)."""
    build = application.build_middleware_stack
    application.build_middleware_stack = lambda: Marked(build(), under_way)
    return application


def _watch_sqlalchemy(recorder: Recorder) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine, ExceptionContext
    from sqlalchemy.exc import TimeoutError as PoolTimeout
    from sqlalchemy.pool import Pool

    def on_error(context: ExceptionContext) -> None:
        recorder.note(classify(context.original_exception))

    event.listen(Engine, "handle_error", on_error)
    connect = Pool.connect

    @wraps(connect)
    def watched(pool: Pool) -> Any:
        try:
            return connect(pool)
        except PoolTimeout:
            recorder.note(ErrorKind.POOL_EXHAUSTED)
            raise

    Pool.connect = watched  # type: ignore[method-assign, assignment]
