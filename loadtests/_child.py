"""A child process that speaks frames (`bench.frames`), seen from gevent. It ends when this process does."""

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

import gevent
from gevent import subprocess
from gevent.lock import RLock

from bench.frames import PREFIX, pack

Frame = dict[str, Any]


class Child:
    """``python -m module`` with its stdin and stdout. Its stderr goes to ``log``."""

    def __init__(self, module: str, log: IO[bytes] | int) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches Locust only, which ends its children in order
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout
        self._writing = RLock()

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self._process.pid)

    def send(self, message: dict[str, object]) -> None:
        """Send a frame; a child that no longer listens says so by the end of its frames."""
        with self._writing, suppress(BrokenPipeError, OSError, ValueError):
            self._in.write(pack(message))
            self._in.flush()

    def frames(self) -> Iterator[Frame]:
        """Its frames until it ends."""
        while len(prefix := self._out.read(PREFIX.size)) == PREFIX.size:
            (length,) = PREFIX.unpack(prefix)
            body = self._out.read(length)
            if len(body) < length:
                return
            frame: Frame = json.loads(body)
            yield frame

    def close(self) -> None:
        """Ask it to end: it finds its stdin at an end."""
        with self._writing, suppress(BrokenPipeError, OSError, ValueError):
            self._in.close()

    def end(self, patience_s: float) -> None:
        """Ask it to end and wait; what is still there after ``patience_s`` is killed."""
        self.close()
        with suppress(gevent.Timeout), gevent.Timeout(patience_s):
            self._process.wait()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
