"""Locust's users of a store's own tables: each is one writer of this process's engine, which alone speaks to the store.

A driver inside gevent would measure gevent (a query of 0.15 ms reads 5 ms there), so users only steer.
"""

from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from bench.workload import Kind
from loadtests._part import DirectPart, steered

_FOR_EVER_S = 1e9


class SteeringUser(User):
    """One more writer of the engine for as long as it runs."""

    abstract = True
    kind: Kind

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._part: DirectPart | None = None

    def on_start(self) -> None:
        """One writer more."""
        part = steered(self.environment)
        if not part.enter(type(self).__name__):
            raise StopUser
        self._part = part

    def on_stop(self) -> None:
        """One fewer."""
        if self._part is not None:
            self._part.leave()
            self._part = None

    def wait_time(self) -> float:
        """A user that waits is one that Locust may stop at any moment: the engine ends its writer in order."""
        return _FOR_EVER_S

    @task
    def steer(self) -> None:
        """Nothing: the writer works."""


class DirectLogMetricUser(SteeringUser):
    """Logs one metric at a time."""

    kind: Kind = "log_metric"


class DirectLogBatchUser(SteeringUser):
    """Logs batches of metrics, params and tags."""

    kind: Kind = "log_batch"


class DirectTrainUser(SteeringUser):
    """Makes whole runs: create, params, tags, metrics one at a time, finish."""

    kind: Kind = "train"


class DirectReadUser(SteeringUser):
    """Searches runs, reads metric histories and runs."""

    kind: Kind = "read"


class DirectMixedUser(SteeringUser):
    """Writes, and reads now and then."""

    kind: Kind = "mixed"


class DirectBulkUser(SteeringUser):
    """Stores many metrics at once, as fast as the database takes them (no MLflow does this)."""

    kind: Kind = "bulk"
