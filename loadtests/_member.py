"""A Locust worker: takes its part of a trial from the master, and tells it how that goes."""

import sys
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import WorkerRunner

from bench import scenario
from bench.errors import BadInput, ExitCode
from bench.job import Job
from loadtests import _messages as say
from loadtests import _part
from loadtests._child import Frame
from loadtests._live import Totals
from loadtests._part import Clocks, Part

_TELL_S = 0.5


class Member:
    """What a worker does for the trial of its master."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        self._environment, self._runner = environment, runner
        self._part: Part | None = None
        self._untold: dict[int, Totals] = {}
        runner.register_message(say.JOB, self._on_job)
        runner.register_message(say.OPEN, self._on_open)
        runner.register_message(say.MEASURE, self._on_measure)
        runner.register_message(say.END, self._on_end, concurrent=True)
        runner.register_message(say.DROP, self._on_drop, concurrent=True)

    def _on_job(self, msg: Any, **_: Any) -> None:
        told = msg.data
        job = Job.from_json(told["job"])
        try:
            self._check(job, told)
            self._part = _part.begin(self._environment, job, self._tick, self._broke)
        except BadInput as error:
            self._answer(job, str(error))
            gevent.spawn(self._leave, str(error))
            return
        self._answer(job, None)
        gevent.spawn(self._tell_now_and_then, self._part)

    def _check(self, job: Job, told: Frame) -> None:
        if told["source"] != say.source():
            raise BadInput("it has another version of Trackbench than the master; give both the same")
        try:
            mine = scenario.load(told["scenario"])
        except BadInput:
            mine = None  # it needs none: the job says all
        if mine is not None and say.digest(mine.text) != told["digest"]:
            raise BadInput(f"it has another version of scenario {told['scenario']}; give both the same")
        if not Path(job.folder).is_dir():
            raise BadInput(f"{job.folder} is not there: master and workers share the results' folder, see --out")

    def _answer(self, job: Job, refused: str | None) -> None:
        clocks = vars(Clocks.now())
        self._runner.send_message(say.TAKEN, {"part": job.part, "refused": refused, "clocks": clocks})

    def _leave(self, why: str) -> None:
        sys.stderr.write(f"trackbench: {why}\n")
        self._environment.process_exit_code = ExitCode.BAD_INPUT
        self._runner.quit()

    def _tick(self, second: int, tick: Frame) -> None:
        self._untold.setdefault(second, Totals()).add(tick)

    def _broke(self, why: str) -> None:
        self._runner.send_message(say.BROKE, {"why": why})

    def _tell_now_and_then(self, part: Part) -> None:
        while self._part is part:
            gevent.sleep(_TELL_S)
            self._tell()

    def _tell(self) -> None:
        untold, self._untold = self._untold, {}
        if untold:
            seconds = {str(second): totals.told() for second, totals in untold.items()}
            self._runner.send_message(say.TICKS, {"seconds": seconds})

    def _on_open(self, msg: Any, **_: Any) -> None:
        if self._part is not None:
            self._part.open(int(msg.data["at_ns"]))

    def _on_measure(self, **_: Any) -> None:
        if self._part is not None:
            self._part.measure()

    def _on_end(self, **_: Any) -> None:
        self.end()

    def end(self, **_: Any) -> None:
        """Let operations in flight end, and tell the master how it went; so also when this worker is told to leave."""
        part, self._part = self._part, None
        if part is None:
            return
        ending = part.end()
        self._tell()
        self._runner._send_stats()  # Locust would send its last numbers when the master no longer listens
        self._runner.send_message(say.ENDED, ending.told())

    def _on_drop(self, **_: Any) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.abandon()

    def quitting(self, **_: Any) -> None:
        """This worker goes: its part ends in order."""
        self.end()
