"""pgloader from the host's own Debian archive, unpacked beside the system, and one run of it into a database."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.servers import debian, places
from bench.servers.base import CannotInstall
from bench.stores.url import StoreUrl
from benchmarks.memory_peak import Peak

# An image of Common Lisp with its heap at the file's end: it can't be patched, so the host's own release it has to be,
# with the host's C library.
_KEPT = re.compile(r"pgloader|freetds-common|lib(?!c6|crypt1|gcc-s1|stdc).*")
_COPY = re.compile(r"^\s*COPY Threads Completion\s+\d+\s+\d+\s+(?:(\d+)m)?([\d.]+)s", re.MULTILINE)


@dataclass(frozen=True)
class Loaded:
    """One run: seconds of the whole program, of its COPY threads alone, and what it said."""

    seconds: float
    copy_s: float
    peak_bytes: int
    said: str

    @property
    def errors(self) -> list[str]:
        """Its own words about what went wrong."""
        return [line.strip() for line in self.said.splitlines() if " ERROR " in line or " FATAL " in line]


def program() -> Path:
    """The program; unpacked now if it is not in the cache.

    Raises:
        CannotInstall: this host has no Debian archive, or the archive no pgloader.
    """
    root = places.cache_dir() / "tools" / "pgloader"
    if not root.exists():
        _unpack(root)
    return root / "usr/bin/pgloader"


def _unpack(root: Path) -> None:
    archive = debian.host_archive()
    if archive is None:
        raise CannotInstall("pgloader: this system has no archive of Debian's")
    places.make_public(root.parent)
    draft = root.with_name(f".pgloader.{secrets.token_hex(4)}")
    try:
        draft.mkdir()
        apt = debian.Apt(draft / "apt", archive, archive.codename)
        apt.update()
        packages = [one for one in apt.resolve(["pgloader"]) if _KEPT.fullmatch(one.name)]
        for deb in apt.download(packages):
            subprocess.run(["dpkg-deb", "--extract", deb, draft], check=True, capture_output=True)
        shutil.rmtree(draft / "apt")
        draft.rename(root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


async def load(source: Path, target: StoreUrl) -> Loaded:
    """Copy an SQLite store into an empty database as its manual says, with settings that are good for its time."""
    binary = program()
    libraries = sorted({str(found.parent) for found in binary.parents[1].glob("lib/**/lib*.so.*")})
    with tempfile.TemporaryDirectory() as folder:
        commands = Path(folder) / "store.load"
        commands.touch(mode=0o600)
        commands.write_text(
            f"LOAD DATABASE FROM sqlite://{source} INTO {_url(target)}\n"
            "WITH include drop, create tables, create indexes, reset sequences, prefetch rows = 25000\n"
            "SET work_mem TO '64MB', maintenance_work_mem TO '256MB';\n"
        )
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            str(binary), "--root-dir", folder, str(commands),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)},
        )  # fmt: skip
        with Peak(process.pid) as peak:
            out, _ = await process.communicate()
        seconds = time.monotonic() - began
    said = out.decode(errors="replace")
    copied = _COPY.search(said)
    copy_s = 60 * int(copied[1] or 0) + float(copied[2]) if copied else float("nan")
    return Loaded(seconds, copy_s, peak.bytes, said)


def _url(target: StoreUrl) -> str:
    return target.mlflow.replace("postgresql+psycopg2://", "postgresql://")
