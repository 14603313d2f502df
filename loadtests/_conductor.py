"""Ties Locust's events to trials, in the Locust that leads: what is wanted, when it begins and ends, how it exits."""

import contextlib
import logging
import sys
import time
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
from loadtests import _arguments
from loadtests._arguments import Options
from loadtests._crew import Crew
from loadtests._host import Gone
from loadtests._session import Session, Stage

_log = logging.getLogger("trackbench")
_LINES = 50
DEFAULT_USER = "LogMetricUser"
FORM_FIELDS = frozenset(
    {"scenario", "store", "tracking_url", "host", "warmup", "seed", "rate", "arrivals"}
)  # what the web page may say
_EARLY_S = 1.0  # a load that ends so much before its time was cut short; Locust's timers are not exact


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
        self._interrupted = False
        self._began = 0.0  # on the monotonic clock: when Locust began the test

    @property
    def unattended(self) -> bool:
        """Whether the test begins by itself, and somebody waits for the exit code."""
        return self.environment.web_ui is None or bool(self._options.autostart)

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
        except (BadInput, Gone) as error:
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
        if direct and options.tracking_url is not None and options.url is None:
            raise BadInput(
                f"{user.__name__} writes into a store, not over HTTP: give it with --store NAME=URL, "
                "or take --tracking-url and --host away"
            )
        if not 1 <= users <= _arguments.MAX_USERS:
            raise BadInput(f"{users} users: must be from 1 to {_arguments.MAX_USERS}; give a number with -u")
        return Order(
            scenario=options.scenario,
            driver="direct" if direct else "http",
            kind=kind,
            store=options.store,
            url=options.url,
            tracking_url=None if direct else options.tracking_url,
            users=users,
            identities=self._crew.identities(users),
            warmup_s=options.warmup_s,
            seed=options.seed,
            out=options.out,
            command=sys.argv,
            rate=options.rate,
            arrivals=options.arrivals,
        )

    def _say(self, text: str) -> None:
        self.lines.append(text)
        _log.info("%s", text)

    # Locust's events

    def test_start(self, **_: Any) -> None:
        """Every part of the load begins before the first user does. On refusal nothing begins."""
        self._forget_logins()
        self._began, self._interrupted = time.monotonic(), False
        try:
            if self.session is None or self.session.stage is not Stage.READY:
                self.prepare(self._options.num_users or 1)  # begun by hand: a key, or another program
            assert self.session is not None
            self.session.begin()
        except (BadInput, Gone) as error:
            self.refuse(error)

    def _forget_logins(self) -> None:
        """The web interface's form may have put a URL with a password where pages and workers would see it."""
        options = self._options
        self.environment.host = options.host = _arguments.without_login(self.environment.host or "") or None
        options.tracking_url = _arguments.without_login(options.tracking_url or "")

    def refuse(self, error: Exception) -> None:
        """Say what is wrong, and let nothing begin: the caller, who is about to start users, never goes on."""
        self.refusal = str(error)
        _log.error("%s", error)
        if self.session is not None:
            self.session.abandon()
        if self.unattended:
            code = ExitCode.BAD_INPUT if isinstance(error, BadInput) else ExitCode.INCONCLUSIVE
            self.environment.process_exit_code = self.exit_code = code
        gevent.spawn(self._stop)
        Event().wait()

    def _broke(self) -> None:
        self._say("the load can't go on; the test is stopped")
        self._stop()

    def _stop(self) -> None:
        runner = self.environment.runner
        web_ui: Any = self.environment.web_ui
        if runner is None:
            return
        if web_ui is None:
            runner.quit()
            return
        runner.stop()
        if self._options.autostart and self._options.autoquit != -1:
            gevent.sleep(self._options.autoquit)
            runner.quit()
            web_ui.stop()

    def spawning_complete(self, user_count: int, **_: Any) -> None:
        """All users are there."""
        if self.session is not None:
            self.session.all_users_are_there(user_count)

    def test_stopping(self, **_: Any) -> None:
        """Before Locust stops a user, the load ends in order: no request is cut off."""
        self._end()

    def _end(self) -> None:
        session = self.session
        if session is None or session.stage is not Stage.RUNNING:
            return
        # Ctrl-C reaches the main greenlet: with a shape Locust stops the test there, and quits only afterwards.
        by_user = self._quitting or gevent.getcurrent().parent is None
        self._interrupted = by_user and self._is_early(time.monotonic())
        shape: Any = self.environment.shape_class
        session.end(self._interrupted, None if shape is None else getattr(shape, "name", type(shape).__name__))

    def _is_early(self, now: float) -> bool:
        """Whether the time that was asked for, if any, isn't over; a shape has that time too."""
        run_time = self._options.run_time
        return bool(run_time) and now - self._began < float(run_time) - _EARLY_S

    def quitting(self, **_: Any) -> None:
        """Everything is in: judge, and give the exit code of ``trackbench run``."""
        self._quitting = True
        self._end()
        session, folder = self.session, None
        if session is not None and session.stage in (Stage.PREPARING, Stage.READY):
            session.abandon()
        elif session is not None and self.refusal is None:
            result = session.judged()
            self.exit_code, folder = result.exit_code, result.folder
        if self._interrupted:
            by_signal = gevent.getcurrent().parent is not None  # Locust handles SIGTERM in a greenlet, Ctrl-C in main
            self.exit_code = ExitCode.TERMINATED if by_signal else ExitCode.INTERRUPTED
        if self.exit_code is not None:
            self.environment.process_exit_code = self.exit_code
        if folder is not None:
            _show(folder)

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
        option = getattr(self._options, name)
        return self._form.get(name, option) if name in FORM_FIELDS else option


def _show(folder: Any) -> None:
    """The last screen of ``trackbench run``."""
    from rich.console import Console

    from bench.results import read
    from reports.terminal import render

    with contextlib.suppress(BadInput):
        render(read(folder), Console())
        Console().print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)
