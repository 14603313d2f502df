"""The engine's orders: what one trial's load is, as a plain value that crosses the pipe as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bench.identity import TrialKey
from bench.stores.url import StoreUrl
from bench.workload import Layout, Workload

Retry = Literal["none", "mlflow"]
PATIENCE = 4


@dataclass(frozen=True)
class ReadTargets:
    """What reads look at: ``runs`` prefilled runs with these keys, in one experiment."""

    experiment_id: int
    key: TrialKey
    runs: int
    keys: int


@dataclass(frozen=True)
class Job:
    """One trial's load. Times in seconds; with ``count`` each writer ends after so many operations.

    ``min_writes`` prolongs the measured time, to at most `PATIENCE` times its length, until so many writes are in.
    """

    url: StoreUrl
    session_options: dict[str, str]
    key: TrialKey
    workload: Workload
    writers: int
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

    @property
    def layout(self) -> Layout:
        """The arithmetic of this job."""
        return Layout(self.key, self.workload, self.writers)

    def to_json(self) -> str:
        """As JSON, password included: for the pipe only."""
        raw = asdict(self)
        raw["url"]["path"] = str(self.url.path) if self.url.path else None
        return json.dumps(raw)

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job that `to_json` wrote."""
        raw = json.loads(text)
        url = raw["url"]
        url["path"] = Path(url["path"]) if url["path"] else None
        url["options"] = tuple(tuple(pair) for pair in url["options"])
        reads = raw["reads"]
        return cls(
            **{
                **raw,
                "url": StoreUrl(**url),
                "key": TrialKey(**raw["key"]),
                "workload": Workload(**raw["workload"]),
                "reads": ReadTargets(**{**reads, "key": TrialKey(**reads["key"])}) if reads else None,
            }
        )
