"""`trackbench migrate` against public tools, side by side: pgloader into PostgreSQL, LOAD DATA LOCAL into MySQL.

.venv/bin/python -m benchmarks.migration --metrics 1200000 --rounds 4 [--only postgresql] [--nasty] [--source FILE]

Each round begins with an empty database for everybody; the order is turned round each time. Peak memory is that of the
whole tree of processes of the command, sampled every 50 ms; MLflow's own process, which makes the schema, apart.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import servers
from bench.judge.statistics import SHOWN_CONFIDENCE, geometric_mean, log_interval, paired_ratios
from bench.machine import Watch
from bench.migrate.record import Migration
from bench.scratch import scratch_folder
from bench.servers import RunningServer, databases
from bench.stores import schema
from bench.stores.url import StoreUrl, parse
from benchmarks import load_data, pgloader
from benchmarks.made_store import Made, make
from benchmarks.memory_peak import Peak

_SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {"postgresql": {}, "mysql": {"local_infile": "1"}}
_COPY: Final = ("copy", "finish")  # what pgloader does after its schema: rows, then indexes and sequences
_URL: Final = "TRACKBENCH_BENCHMARK_TARGET"


@dataclass
class Taken:
    """Seconds by what they went for, and bytes of memory; of one round."""

    seconds: dict[str, float]
    peaks: dict[str, int]
    said: list[str] = field(default_factory=list)


Contender = Callable[[], Awaitable[Taken]]


class Bench:
    """A server of ours, the store that goes there, and a number for each database."""

    def __init__(self, server: RunningServer, source: Path) -> None:
        self.server = server
        self.source = source
        self._number = 0

    def empty(self) -> StoreUrl:
        """A new database."""
        self._number += 1
        name = f"round{self._number}"
        databases.create(self.server, name)
        return parse(self.server.url(name), self.server.kind)

    async def ours(self) -> Taken:
        """The whole command, as a user calls it."""
        target = self.empty()
        command = Path(sys.executable).with_name("trackbench")
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            str(command), "migrate", f"sqlite:///{self.source}", f"env:{_URL}", "--json",
            env={**os.environ, _URL: self.server.url(target.database)}, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        with Peak(process.pid) as peak:
            out, err = await process.communicate()
        seconds = time.monotonic() - began
        if process.returncode != 0:
            raise RuntimeError(f"trackbench migrate ended with {process.returncode}: {err.decode()[-500:]}")
        made = Migration.model_validate_json(out)
        parts = made.proof.seconds if made.proof is not None else {}
        proved = {f"proof of {what}": spent for what, spent in parts.items()}
        peaks = {"ours": peak.bytes, "MLflow's own": peak.mlflow_bytes}
        peaks |= {f"of ours process {n}": size for n, size in enumerate(peak.parts, 1) if size > 2**20}
        return Taken({"whole": seconds, **made.seconds, **proved}, peaks, made.notes)

    async def pgloader(self) -> Taken:
        """The whole program; ``copy`` is what it says of its COPY threads."""
        loaded = await pgloader.load(self.source, self.empty())
        return Taken({"whole": loaded.seconds, "copy": loaded.copy_s}, {"pgloader": loaded.peak_bytes}, loaded.errors)


def ratio(what: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    """A line with the ratio of both and its interval."""
    ratios = paired_ratios(ours, theirs)
    interval = log_interval(ratios, SHOWN_CONFIDENCE)
    span = "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    return (
        f"{what}: {geometric_mean(ours):.1f} s against {geometric_mean(theirs):.1f} s, "
        f"ratio {geometric_mean(ratios):.3f}{span} over {len(ratios)} interleaved rounds"
    )


async def in_turn(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[Taken]]:
    """Each of them once a round, in an order that is turned round each time."""
    taken: dict[str, list[Taken]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: 1 if number % 2 == 0 else -1]:
            one = await contenders[name]()
            taken[name].append(one)
            spent = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in one.seconds.items())
            peaks = ", ".join(f"{what} {size / 1e6:.0f} MB" for what, size in one.peaks.items() if size)
            print(f"  round {number + 1}, {name}: {spent}; at most {peaks or 'unknown'}", flush=True)
    return taken


def chosen(contenders: Mapping[str, Contender], alone: str | None) -> Mapping[str, Contender]:
    """Ours are called ``trackbench``."""
    return {
        name: one for name, one in contenders.items() if alone is None or (name == "trackbench") == (alone == "ours")
    }


def seconds(taken: Sequence[Taken], *parts: str) -> list[float]:
    """The sum of these parts in each round."""
    return [sum(one.seconds.get(part, 0.0) for part in parts) for one in taken]


async def against_pgloader(bench: Bench, rounds: int, alone: str | None) -> None:
    """Print what both take to PostgreSQL."""
    contenders: dict[str, Contender] = {"pgloader": bench.pgloader, "trackbench": bench.ours}
    taken = await in_turn(chosen(contenders, alone), rounds)
    if alone == "ours":
        return
    theirs = taken["pgloader"]
    print(f"pgloader: {geometric_mean(seconds(theirs, 'whole')):.1f} s; what it said: {theirs[-1].said or 'no error'}")
    if alone:
        return
    ours, whole = taken["trackbench"], seconds(theirs, "whole")
    proof = ("proof of rows", "proof of structure")
    print(ratio("copy and proof of every row and the schema / pgloader", seconds(ours, *_COPY, *proof), whole))
    print(
        ratio("the same, and a sample read through MLflow's client / pgloader", seconds(ours, *_COPY, "proof"), whole)
    )
    print(ratio("copy / pgloader", seconds(ours, *_COPY), whole))
    print(ratio("whole command / pgloader", seconds(ours, "whole"), whole))


async def against_load_data(bench: Bench, rounds: int, rows: int, folder: Path, alone: str | None) -> None:
    """Print rows a second of both to MySQL."""
    prepared = bench.empty()
    await schema.create(prepared, "file:///trackbench/default")
    catalog = await asyncio.to_thread(load_data.write_files, bench.source, folder)

    async def theirs() -> Taken:
        spent = await asyncio.to_thread(load_data.load, catalog, folder, prepared)
        return Taken({"copy": spent}, {})

    contenders: dict[str, Contender] = {"LOAD DATA LOCAL": theirs, "trackbench": bench.ours}
    taken = await in_turn(chosen(contenders, alone), rounds)
    if alone == "ours":
        return
    floor = seconds(taken["LOAD DATA LOCAL"], "copy")
    print(f"LOAD DATA LOCAL: {rows / (geometric_mean(floor) or 1):,.0f} rows/s, {rows:,} rows")
    if not alone:
        ours = seconds(taken["trackbench"], *_COPY)
        print(f"trackbench: {rows / (geometric_mean(ours) or 1):,.0f} rows/s")
        print(ratio("copy / LOAD DATA LOCAL", ours, floor))


async def main(given: argparse.Namespace) -> None:
    """Make the store, start the servers, compare."""
    with scratch_folder("migration") as folder:
        source = given.source or folder / "source.db"
        if given.source is None:
            make(source, Made(given.metrics, given.runs, given.seed), given.nasty)
        print(f"{source.stat().st_size / 1e6:,.0f} MB")
        watch = Watch()
        for kind in given.only or ("postgresql", "mysql"):
            with servers.start(servers.as_kind(kind), _SETTINGS[kind], print) as server:
                bench = Bench(server, source.resolve())
                if kind == "postgresql":
                    await against_pgloader(bench, given.rounds, given.alone)
                else:
                    files = folder / "files"
                    files.mkdir()
                    rows = rows_of(source)
                    await against_load_data(bench, given.rounds, rows, files, given.alone)
        print(f"others used {watch.shares().others or 0.0:.0%} of the machine")


def rows_of(source: Path) -> int:
    """All rows of an SQLite store."""
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return sum(connection.execute(f'SELECT COUNT(*) FROM "{name}"').fetchone()[0] for (name,) in names.fetchall())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=int, default=1_200_000)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--nasty", action="store_true")
    parser.add_argument("--source", type=Path, help="a store that is there")
    parser.add_argument("--only", nargs=1, choices=("postgresql", "mysql"))
    parser.add_argument("--alone", choices=("ours", "theirs"), help="one side only, without ratios")
    asyncio.run(main(parser.parse_args()))
