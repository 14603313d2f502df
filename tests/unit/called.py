"""The command line called in this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bench import cli


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls ``trackbench`` with the arguments that it is given."""

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["trackbench", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as ending:
            code = int(ending.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call
