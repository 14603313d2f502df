"""A tracking server of ours and a client that makes one attempt a call."""

from dataclasses import dataclass
from typing import Any, Self

import httpx

from bench.servers.tracking import RunningTracking, TrackingSettings
from bench.servers.tracking_hooks import HEADER
from bench.stores.url import StoreUrl

ONE = TrackingSettings(workers=1)
START_MS = 1_735_689_600_000


class Client:
    """MLflow's API, one attempt a call."""

    def __init__(self, server: RunningTracking) -> None:
        self.http = httpx.Client(base_url=server.url, headers=server.headers, timeout=120, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(f"/api/2.0/mlflow/{path}", json=body)

    def made(self, path: str, **body: Any) -> Any:
        answer = self.post(path, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def new_run(self, name: str) -> str:
        experiment = self.made("experiments/create", name=name)["experiment_id"]
        return str(self.made("runs/create", experiment_id=experiment, start_time=START_MS)["run"]["info"]["run_id"])

    def log(self, run: str, *keys: str, step: int = 0) -> httpx.Response:
        metrics = [{"key": key, "value": 1.0, "timestamp": START_MS + step, "step": step} for key in keys]
        return self.post("runs/log-batch", run_id=run, metrics=metrics)


def labels(answer: httpx.Response) -> list[str]:
    """The errors that an answer names."""
    return answer.headers[HEADER].split(",") if HEADER in answer.headers else []


@dataclass(frozen=True)
class Tracked:
    """A store, a tracking server on it, and a client."""

    url: StoreUrl
    server: RunningTracking
    client: Client
