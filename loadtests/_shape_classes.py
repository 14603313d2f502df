"""The shapes as Locust wants them. They stay abstract, so that Locust loads none unless somebody picks one."""

import time
from typing import Any, ClassVar

from locust import LoadTestShape

from loadtests._shapes import Step, at


class _Scaled(LoadTestShape):
    """A shape that reads the users and the time from Locust's own options."""

    abstract: ClassVar[bool] = True
    use_common_options: ClassVar[bool] = True
    name = ""

    def tick(self) -> Step | None:
        """What Locust asks once a second."""
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        return at(
            self.name, time.perf_counter() - self.start_time, int(options.num_users or 1), float(options.run_time or 0)
        )


class LadderShape(_Scaled):
    """See `loadtests._shapes.ladder`."""

    abstract: ClassVar[bool] = True
    name = "ladder"


class SpikeShape(_Scaled):
    """See `loadtests._shapes.spike`."""

    abstract: ClassVar[bool] = True
    name = "spike"


class SoakShape(_Scaled):
    """See `loadtests._shapes.soak`."""

    abstract: ClassVar[bool] = True
    name = "soak"


_CLASSES = {one.name: one for one in (LadderShape, SpikeShape, SoakShape)}


def instances() -> dict[str, LoadTestShape]:
    """A shape of each kind by name, as Locust's web interface lists them."""
    return {name: of() for name, of in _CLASSES.items()}
