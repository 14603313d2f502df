"""Ties Locust's events to trials, in the Locust that leads: what is wanted, when it begins and ends, how it exits."""

import contextlib
import logging
import sys
from collections import deque
from typing import Any

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_SPAWNING

from bench.errors import BadInput, ExitCode
from bench.host import Order
from bench.scenario import known
from bench.workload import Kind
from loadtests import _arguments, _shapes
from loadtests._arguments import Options
from loadtests._crew import Crew
from loadtests._session import Session, Stage

_log = logging.getLogger("trackbench")
_LINES = 50
DEFAULT_USER = "LogMetricUser"


class Conductor:
    """One Locust that leads, and the trial that it has, if any."""

    def __init__(self, environment: Environment, crew: Crew) -> None:
        self.environment = environment
        self.session: Session | None = None
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.refusal: str | None = None  # the last one; gone once something begins
        self.exit_code: int | None = None
        self._crew = crew
        options: Any = environment.parsed_options
        self._options = options
        self._scenarios = {*known(), str(options.scenario)}  # what the web interface may name
        self._quitting = False

    # What is wanted

    def prepare(self, users: int, form: dict[str, Any] | None = None) -> None:
        """Bring up what the options (and the web interface's form) ask for, ready for a test to begin.

        Raises:
            BadInput: it can't be; nothing is left then.
        """
        if self.session is not None and self.session.stage in (Stage.PREPARING, Stage.ENDING, Stage.JUDGING):
            raise BadInput(f"the last test is still {self.session.stage}; wait until that is done")
        if self.session is not None and self.session.stage is Stage.READY:  # prepared, and then not begun
            self.session.abandon()
        self.refusal, self.session = None, None
        self.lines.clear()
        try:
            self._prepare(users, form or {})
        except BadInput as error:
            self.refusal = str(error)
            raise

    def _prepare(self, users: int, form: dict[str, Any]) -> None:
        asked = _Merged(self._options, form)
        if asked.scenario not in self._scenarios:
            raise BadInput(f"scenario {asked.scenario!r}: here only {', '.join(sorted(self._scenarios))}")
        options = _arguments.read(asked, asked.host)
        user = self._user()
        order = self._order(options, user, users)
        self.session = Session(order, self._crew, self._say, self._broke)
        self.session.prepare()

    def _user(self) -> Any:
        classes = self.environment.user_classes
        if len(classes) != 1:
            names = ", ".join(sorted(one.__name__ for one in classes))
            raise BadInput(f"user classes {names}: one trial measures one workload; choose one of them")
        return classes[0]

    def _order(self, options: Options, user: Any, users: int) -> Order:
        kind: Kind = user.kind
        direct = user.__name__.startswith("Direct")
        if direct and options.tracking_url is not None:
            raise BadInput(f"{user.__name__} writes into a store, not over HTTP: take --tracking-url and --host away")
        if not 1 <= users <= _arguments.MAX_USERS:
            raise BadInput(f"{users} users: must be from 1 to {_arguments.MAX_USERS}; give a number with -u")
        return Order(
            scenario=options.scenario,
            driver="direct" if direct else "http",
            kind=kind,
            store=options.store,
            url=options.url,
            tracking_url=options.tracking_url,
            users=users,
            identities=self._crew.identities(users),
            warmup_s=options.warmup_s,
            seed=options.seed,
            out=options.out,
            command=sys.argv,
        )

    def _say(self, text: str) -> None:
        self.lines.append(text)
        _log.info("%s", text)

    # Locust's events

    def test_start(self, **_: Any) -> None:
        """Every part of the load begins before the first user does. On refusal nothing begins."""
        try:
            if self.session is None or self.session.stage is not Stage.READY:
                self.prepare(self._options.num_users or 1)  # begun by hand: a key, or another program
            assert self.session is not None
            self.session.begin()
        except BadInput as error:
            self.refuse(error)

    def refuse(self, error: BadInput) -> None:
        """Say what is wrong, and let nothing begin: the caller, who is about to start users, never goes on."""
        self.refusal = str(error)
        _log.error("%s", error)
        gevent.spawn(self._stop)
        Event().wait()

    def _broke(self) -> None:
        self._say("the load can't go on; the test is stopped")
        self._stop()

    def _stop(self) -> None:
        runner = self.environment.runner
        if runner is None:
            return
        if self.environment.web_ui is None:
            runner.quit()
        else:
            runner.stop()

    def spawning_complete(self, **_: Any) -> None:
        """All users are there."""
        if self.session is not None:
            self.session.all_users_are_there()

    def test_stopping(self, **_: Any) -> None:
        """Before Locust stops a user, the load ends in order: no request is cut off."""
        if self.session is not None:
            self.session.end(interrupted=self._quitting and bool(self._options.run_time))

    def quitting(self, **_: Any) -> None:
        """Everything is in: judge, and give the exit code of ``trackbench run``."""
        self._quitting = True
        session, runner = self.session, self.environment.runner
        interrupted = session is not None and session.stage is Stage.RUNNING and bool(self._options.run_time)
        if session is not None and session.stage is Stage.RUNNING and runner is not None:
            session.end(interrupted)
        if session is not None and session.stage in (Stage.PREPARING, Stage.READY):
            session.abandon()
        elif session is not None and self.refusal is None:
            result = session.judged()
            self.exit_code = result.exit_code
            if result.folder is not None:
                _show(result.folder)
        if self.refusal is not None and self.environment.web_ui is None:
            self.exit_code = ExitCode.BAD_INPUT
        if interrupted:
            by_signal = gevent.getcurrent().parent is not None  # Locust handles SIGTERM in a greenlet, Ctrl-C in main
            self.exit_code = ExitCode.TERMINATED if by_signal else ExitCode.INTERRUPTED
        self.environment.process_exit_code = self.exit_code

    @property
    def is_running(self) -> bool:
        """Whether a test is under way, so that the number of users may be changed."""
        runner = self.environment.runner
        return runner is not None and runner.state in (STATE_RUNNING, STATE_SPAWNING)


class _Merged:
    """Locust's options with what the web interface's form says instead."""

    def __init__(self, options: Any, form: dict[str, Any]) -> None:
        self._options, self._form = options, form

    def __getattr__(self, name: str) -> Any:
        return self._form.get(name, getattr(self._options, name))


def _show(folder: Any) -> None:
    """The last screen of ``trackbench run``."""
    from rich.console import Console

    from bench.results import read
    from reports.terminal import render

    with contextlib.suppress(BadInput):
        render(read(folder), Console())
        Console().print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


def check_shape(name: str, run_time: float | None) -> None:
    """Refuse a shape that has nothing to scale with."""
    if name != "none":
        _shapes.check(name, run_time)
