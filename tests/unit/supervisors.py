"""A supervisor under test: its plan, orders and events, with small scripts in place of servers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from bench.servers import supervise

LIMIT_S = 5.0  # for what takes milliseconds, and took for ever if it went wrong


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Talk:
    """A supervisor and its plan."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.folder = folder
        plan = {
            "folder": str(folder),
            "uid": None,
            "gid": None,
            "files": {"secret": "x"},
            "env": {"PATH": os.environ["PATH"]},
            "prepare": [],
            "after": [],
            "tidy": [],
            "kill": [],
            "stop_signal": int(signal.SIGTERM),
            "stop_seconds": 0.3,
            "death_signal": int(signal.SIGKILL),
            "disk_mb": None,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervise.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.send(plan | changes)

    def send(self, message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def serve(self, script: str) -> int:
        self.send({"order": "start", "argv": ["sh", "-c", script], "env": {}})
        return int(self.hear("started")["pid"])

    def hear(self, expected: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        event: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert event["event"] == expected, event
        return event

    def order(self, name: str, expected: str) -> dict[str, Any]:
        self.send({"order": name})
        return self.hear(expected)

    def prepared(self) -> None:
        self.hear("made")
        self.hear("prepared")

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        self.process.terminate()  # so that it leaves nobody behind
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
