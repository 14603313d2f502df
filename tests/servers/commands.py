"""The installed command as a process of its own, in surroundings where everything it leaves can be found."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
from stores import wait_until

ROOT = Path(__file__).parents[2]
LEAVES_SECONDS = 15.0
SHORT = {"rounds": 1, "warmup_s": 0.0, "duration_s": 0.2}
Answer = tuple[int, str, str]  # exit code, stdout, stderr
Ask = Callable[..., Answer]


def scenario(stores: Sequence[str], more: str = "", **values: float) -> str:
    """A tiny scenario: one workload, two writers."""
    given = {"rounds": 2, "warmup_s": 0.1, "duration_s": 0.5} | values
    lines = "".join(f"{name} = {value}\n" for name, value in given.items())
    candidates = "".join(f'[candidates.{name}]\nstore = "{name}"\n' for name in stores)
    return (
        f'# Kept to the letter: żółć\ntitle = "tiny"\nreference = "{stores[0]}"\ncontrol = ""\n{lines}'
        f"[prefill]\nruns = 5\nmetrics = 50\n{candidates}"
        '[workloads.w]\nkind = "log_metric"\n[[cells]]\nworkload = "w"\nconcurrency = [2]\n'
        f'[[criteria]]\nname = "whole"\nexpression = "integrity == 1"\n{more}'
    )


def refused(answer: Answer) -> str:
    """The one line that a refusal is."""
    code, out, err = answer
    assert code == 2, err
    assert out.count("\n") <= 1  # at most a line of progress
    lines = [line for line in err.splitlines() if line.startswith("trackbench: ")]
    assert len(lines) == len(err.splitlines()) == 1, err
    return lines[0]


class Command:
    """A `trackbench` process. ``tmp`` is its temporary folder, by which its offspring is known as well."""

    def __init__(self, tmp: Path, out: Path, *arguments: str, **environment: str) -> None:
        self.tmp, self.out = tmp, out
        tmp.mkdir()
        tmp.chmod(0o755)
        out.mkdir(exist_ok=True)
        self._files = [(out / name).open("wb") for name in ("stdout", "stderr")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.cli", *arguments],
            cwd=ROOT,
            env=os.environ | environment | {"TMPDIR": str(tmp)},
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for file in self._files:
            file.close()
        self.leaves_nothing()

    @property
    def stdout(self) -> str:
        return (self.out / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.out / "stderr").read_text()

    def wait(self, seconds: float = 120) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    def send(self, number: signal.Signals) -> None:
        """Send the command itself a signal, as `kill` does."""
        self.process.send_signal(number)

    def until(self, pattern: str) -> Path:
        """Wait for a file or folder of its results, or of its temporary folder if the pattern begins with ``/``."""
        place, rest = (self.tmp, pattern[1:]) if pattern.startswith("/") else (self.out, pattern)

        def found() -> Path | None:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.stderr}"
            return next(place.glob(rest), None)

        return wait_until(found, pattern, 60)

    def offspring(self) -> Iterator[psutil.Process]:
        """Every process that it started, at whatever remove: all of them have its temporary folder about them."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                known = [*process.cmdline(), *process.environ().values()]
                if process.pid != os.getpid() and any(str(self.tmp) in text for text in known):
                    yield process

    def leaves_nothing(self) -> None:
        """No process and no folder, at the latest after some seconds."""
        wait_until(lambda: not list(self.offspring()), f"end of {self.process.args}'s children", LEAVES_SECONDS)
        wait_until(lambda: not list(self.tmp.iterdir()), f"removal of {list(self.tmp.iterdir())}", LEAVES_SECONDS)
