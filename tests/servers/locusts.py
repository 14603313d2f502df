"""Locust as users start it, in surroundings where everything it leaves can be found."""

import os
import subprocess
import sys
from pathlib import Path

from commands import ROOT, Command

SHORT = "3s"


def scenario(more: str = "", kind: str = "log_metric") -> str:
    """A tiny scenario on SQLite with one workload."""
    return (
        'title = "tiny"\nwarmup_s = 0.2\n[prefill]\nruns = 3\nmetrics = 30\n[candidates.sqlite]\nstore = "sqlite"\n'
        f'[workloads.w]\nkind = "{kind}"\n[[cells]]\nworkload = "w"\nconcurrency = [2]\n'
        f'[[criteria]]\nname = "whole"\nexpression = "integrity == 1"\n{more}'
    )


class Locust(Command):
    """A `locust` process on a scenario given as text; its runs lie in ``results``."""

    def __init__(
        self, tmp: Path, out: Path, *arguments: str, text: str | None = None, folder: Path = ROOT, **environment: str
    ) -> None:
        self.tmp, self.out = tmp, out
        tmp.mkdir()
        tmp.chmod(0o755)
        out.mkdir(parents=True, exist_ok=True)
        self.results = out / "results"
        file = out / "tiny.toml"
        file.write_text(scenario() if text is None else text)
        self._files = [(out / name).open("wb") for name in ("stdout", "stderr")]
        self.process = subprocess.Popen(
            [
                sys.executable, str(Path(sys.executable).with_name("locust")), "--config", str(ROOT / "pyproject.toml"),
                "-f", str(ROOT / "loadtests"), "--out", str(self.results), "--scenario", str(file), *arguments,
            ],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment | {"TMPDIR": str(tmp)},
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            start_new_session=True,
        )  # fmt: skip

    @property
    def run(self) -> Path:
        """The folder of its only run."""
        (folder,) = (path for path in self.results.iterdir() if not path.is_symlink())
        return folder
