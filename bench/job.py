"""The engine's orders: what one trial's load is, as a plain value that crosses the pipe as JSON."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bench.arrivals import Arrivals
from bench.identity import TrialKey
from bench.site import Site
from bench.stores.url import StoreUrl
from bench.workload import Layout, Workload

Retry = Literal["none", "mlflow"]
Driver = Literal["direct", "http"]
PATIENCE = 4
_LONGEST_S, _LONGEST_EACH_S = 60.0, 2.0


@dataclass(frozen=True)
class ReadTargets:
    """What reads look at: ``runs`` prefilled runs with these keys, in one experiment; ``run_ids`` if not ours."""

    experiment_id: int
    key: TrialKey
    runs: int
    keys: int
    run_ids: tuple[str, ...] = ()

    def run_id(self, run: int) -> str:
        """The id of prefilled run number ``run``."""
        return self.run_ids[run] if self.run_ids else self.key.run_id(run, 0)


@dataclass(frozen=True)
class Job:
    """One trial's load, or one load process's part of it. Times in seconds.

    ``url`` is None where only a tracking server was given, ``site`` where the driver is direct. ``run_ids`` are the
    runs that set-up made, by writer (one entry for ``hot_run``). ``writers`` are the identities of the whole trial;
    this process may use ``block`` of them from ``first`` on, and begins with ``active``. With ``count`` each writer
    ends after so many operations. ``duration_s`` may be infinite: then the owner says when the load ends.
    ``min_writes`` prolongs the measured time, to at most `PATIENCE` times its length, until so many writes are in.
    ``arrivals`` makes an open loop of it: a writer that is free takes the next operation that is due. Those due within
    the measured time are sent even when it is over, within `drain_s`; then what is left is skipped.
    """

    driver: Driver
    url: StoreUrl | None
    site: Site | None
    session_options: dict[str, str]
    key: TrialKey
    workload: Workload
    run_ids: tuple[str, ...]
    writers: int
    part: int
    first: int
    block: int
    active: int
    experiment_id: int
    artifact_root: str
    folder: str
    warmup_s: float
    duration_s: float
    count: int | None
    min_writes: int
    timeout_s: float
    retry: Retry
    reads: ReadTargets | None
    arrivals: Arrivals | None = None

    @property
    def layout(self) -> Layout:
        """The arithmetic of this job."""
        return Layout(self.key, self.workload, self.writers)

    @property
    def limit_s(self) -> float | None:
        """How long the measured time may last; None where the owner ends it.

        A counted load lasts until it is done, but a server that no longer answers must not hold it for ever.
        """
        if math.isinf(self.duration_s):
            return None
        return self.duration_s if self.count is None else _LONGEST_S + _LONGEST_EACH_S * self.count

    @property
    def drain_s(self) -> float:
        """How long an open loop may go on after its measured time, for operations that were due within it."""
        return min(self.duration_s * PATIENCE, self.timeout_s)

    @property
    def samples(self) -> Path:
        """The flat file of this process's samples."""
        return samples_path(Path(self.folder), self.part)

    def run_id(self, writer: int) -> str:
        """The run that set-up made for ``writer``; only for workloads that have one."""
        return self.run_ids[0 if self.workload.hot_run else writer]

    def to_json(self) -> str:
        """As JSON, password included: for the pipe only."""
        raw = asdict(self)
        if self.url is not None:
            raw["url"]["path"] = str(self.url.path) if self.url.path else None
        return json.dumps(raw)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job that `to_json` wrote."""
        raw = json.loads(text)
        url, site, reads, arrivals = raw["url"], raw["site"], raw["reads"], raw["arrivals"]
        if url is not None:
            url["path"] = Path(url["path"]) if url["path"] else None
            url["options"] = tuple(tuple(pair) for pair in url["options"])
        return cls(
            **{
                **raw,
                "url": StoreUrl(**url) if url else None,
                "site": Site(**site) if site else None,
                "run_ids": tuple(raw["run_ids"]),
                "key": TrialKey(**raw["key"]),
                "workload": Workload(**raw["workload"]),
                "reads": _targets(reads) if reads else None,
                "arrivals": Arrivals(**arrivals) if arrivals else None,
            }
        )


def _targets(raw: dict[str, Any]) -> ReadTargets:
    return ReadTargets(**{**raw, "key": TrialKey(**raw["key"]), "run_ids": tuple(raw["run_ids"])})


def samples_path(folder: Path, part: int) -> Path:
    """Where load process number ``part`` of a trial records its samples."""
    return folder / f"samples-{part}.raw"
