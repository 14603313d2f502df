"""How a planted defect is written down: where, what must be counted, and how its row must be named."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from planted import Row, Statuses, Stored, all_ok, layout_of, perfect

from bench.workload import Layout

HOUR_MS = 3_600_000
PRIMARY_KEY = "a primary key"


@dataclass
class Scene:
    """A trial without a fault, before something goes wrong."""

    layout: Layout
    statuses: Statuses
    stored: Stored

    @classmethod
    def of(cls, workload: str, cycles: int) -> "Scene":
        layout = layout_of(workload)
        statuses = all_ok(layout, cycles)
        return cls(layout, statuses, perfect(layout, statuses))

    def inner(self) -> int:
        """The place of an ordinary metric that is not the latest of its key."""
        return self.stored.inner()[0]

    def alter(self, place: int, column: int, value: object) -> str:
        """Change a metric that is not the latest of its key."""
        before = self.stored.metrics[place]
        assert before[column] != value
        self.stored.change("metrics", place, column, value)
        return metric(self.stored.metrics[place])

    def rare(self, fits: Callable[[Row], bool]) -> int:
        """The place of a metric of this kind that is not the latest of its key."""
        latest = set(self.stored.latest)
        return next(n for n, row in enumerate(self.stored.metrics) if row not in latest and fits(row))

    def move(self, place: int, **to: object) -> str:
        """Put a metric elsewhere; latest_metrics is what MLflow would have made of it. The words name its old place."""
        row = self.stored.metrics.pop(place)
        self.stored.metrics.append((to.get("run", row[0]), to.get("key", row[1]), to.get("step", row[2]), *row[3:]))
        self.stored.settle_latest()
        return metric(row)


Plant = Callable[[Scene], str]
"""Plants a defect, and returns words that one of the examples must have."""


@dataclass(frozen=True)
class Defect:
    """``expected`` are all counts that are not 0, ``by_name`` where they differ if a server chose the run ids.

    ``forbidden`` says why a database with MLflow's schema can't get into this state.
    """

    name: str
    workload: str
    plant: Plant
    expected: Mapping[str, int]
    by_name: Mapping[str, int] | None
    forbidden: str
    cycles: int

    def __str__(self) -> str:
        return self.name


DEFECTS: list[Defect] = []


def defect(
    workload: str, expected: Mapping[str, int], *, by_name: Mapping[str, int] | None = None, forbidden: str = "",
    cycles: int = 4,
) -> Callable[[Plant], Plant]:  # fmt: skip
    """Write a function down as a defect."""

    def noted(plant: Plant) -> Plant:
        DEFECTS.append(Defect(plant.__name__, workload, plant, expected, by_name, forbidden, cycles))
        return plant

    return noted


def metric(row: Row) -> str:
    """How an example names a metric."""
    return f"run {row[0]} key {row[1]!r} step {row[2]}"


def pair(row: Row) -> str:
    """How an example names a param, a tag or a latest metric."""
    return f"run {row[0]} key {row[1]!r}"
