"""MLflow's own upgrade of a store's schema as a process that can be watched and killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadInput
from bench.migrate import upgrader
from bench.migrate.catalog import Family
from bench.stores.url import StoreUrl

_LOOKS_S = 60.0  # importing an MLflow takes seconds, on a busy machine many
_KEPT_LINES = 200
_LINE_BYTES = 2**20
_STEP = re.compile(r"Running upgrade \S* -> (\w+)")  # alembic's words
_ERROR = re.compile(r"(?:sqlalchemy\.exc\.\w+: )?((?:\([\w.]+\) |[\w.]+(?:Error|Exception|Exit)\b).*)")
_WORDS = 300


@dataclass(frozen=True)
class Mlflow:
    """An MLflow in some Python: its version, the revision that it upgrades to, all that it knows, the newest first."""

    version: str
    head: str
    known: tuple[str, ...]


async def mlflow_of(python: Path | None, family: Family) -> Mlflow:
    """Ask the MLflow of a Python (None: ours) for its revisions.

    Raises:
        BadInput: there is no such Python, or it has no MLflow with such a database.
    """
    async with _started(python, "about", family, {}) as process:
        try:
            async with asyncio.timeout(_LOOKS_S):
                out, err = await process.communicate()
        except TimeoutError:
            raise BadInput(f"--mlflow {python}: did not answer within {_LOOKS_S:.0f} s; does it start?") from None
    try:
        told = json.loads(out.decode().splitlines()[-1])
        return Mlflow(told["version"], told["head"], tuple(told["known"]))
    except (ValueError, IndexError, KeyError, TypeError):
        said = last_words([line for line in err.decode(errors="replace").splitlines() if line.strip()])
        where = f"--mlflow {python}" if python else "our MLflow"
        raise BadInput(f"{where}: tells no revisions of a {family.name} ({said}); install MLflow there") from None


class Upgrade:
    """An upgrade under way: `bench.migrate.upgrades.upgrade` makes it."""

    def __init__(self, process: asyncio.subprocess.Process, secrets: tuple[str, ...]) -> None:
        self._process = process
        self._secrets = secrets
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._first = asyncio.Event()
        self._heard = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._follow())]
        self.began = 0.0  # its first migration: time.monotonic(); 0: it came to none
        self.seconds = 0.0  # from then until it ended or was killed
        self.running = False  # in between, as far as we heard

    async def begin(self) -> bool:
        """Wait until its first migration begins; False if it ended without any."""
        first, ended = asyncio.ensure_future(self._first.wait()), asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((first, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            first.cancel()
            ended.cancel()
        return self._first.is_set()

    async def wait(self) -> bool:
        """Wait for the end of its process; whether it ended well."""
        code = await self._process.wait()
        await asyncio.gather(*self._heard)
        return code == 0

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone; what its database still does for it goes on."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self.wait()

    @property
    def words(self) -> str:
        """Its last line that tells something, without any password."""
        return last_words(self._lines, self._secrets)

    @property
    def step(self) -> str | None:
        """The migration that it had begun last, by its revision."""
        found = [match[1] for line in self._lines if (match := _STEP.search(line))]
        return found[-1] if found else None

    async def _follow(self) -> None:
        """Note when the upgrade ends: its Python takes a while more."""
        told = self._process.stdout
        assert told is not None
        while (line := await told.readline()) and line.decode(errors="replace").strip() != upgrader.ENDED:
            pass
        if self.began:
            self.seconds = time.monotonic() - self.began
        self.running = False
        await told.read()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            if text := line.decode(errors="replace").strip():
                self._lines.append(text)
            if not self.began and _STEP.search(text):
                self.began, self.running = time.monotonic(), True
                self._first.set()


@asynccontextmanager
async def upgrade(python: Path | None, family: Family, url: StoreUrl) -> AsyncIterator[Upgrade]:
    """Start the upgrade of the store at ``url`` by the MLflow of a Python (None: ours); it ends with this block."""
    async with _started(python, "upgrade", family, {"TRACKBENCH_UPGRADE_URI": url.mlflow}) as process:
        under_way = Upgrade(process, (url.mlflow, url.password))
        try:
            yield under_way
        finally:
            await under_way.kill()


@asynccontextmanager
async def _started(
    python: Path | None, order: str, family: Family, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    text = await asyncio.to_thread(Path(upgrader.__file__).read_text)
    program = str(python) if python else sys.executable
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONUNBUFFERED": "1"}
    ours, alive = os.pipe()  # the child ends when the other end closes, which it does however we end
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                program, "-c", text, order, family.name,
                stdin=ours, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=_LINE_BYTES,
                env=os.environ | environment | quiet, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise BadInput(f"--mlflow {program}: can't be started: {error.strerror}; give a Python's path") from None
        os.close(ours)
        ours = -1
        try:
            yield process
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    finally:
        if ours >= 0:
            os.close(ours)
        os.close(alive)


def last_words(lines: Sequence[str], secrets: Sequence[str] = ()) -> str:
    """The error among a Python's last lines, else the last of them, shortened and without ``secrets``.

    What SQLAlchemy adds (the statement, its parameters, a link) is left out: the values of rows may stand in it.
    """
    told = [match[1] for line in lines if (match := _ERROR.match(line))] or list(lines) or ["nothing"]
    text = told[-1]
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}…"
