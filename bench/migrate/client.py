"""The proof through MLflow's own client: what it reads from one store, it reads from the other.

The rows are proved elsewhere, all of them. This is a sample, read as a user's programs and MLflow's pages read it:
through MLflow's statements and conversions, and the database's collations. It is chosen by the hash of each id in the
source, so that asking twice asks the same. What only one side has, or refuses, differs.

Both stores are read as they were when they were first looked at (`open_stores`), whatever is written meanwhile.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bench.migrate import rights
from bench.migrate.catalog import TRACKING, Catalog
from bench.migrate.proof import ClientDifference
from bench.migrate.reader import Reader, reading
from bench.stores.url import StoreUrl


@dataclass(frozen=True)
class Sample:
    """How many of each are read, at most. Deleted experiments and runs are half as many more."""

    experiments: int = 40
    searches: int = 6  # experiments whose newest runs are searched for, as the table of runs does
    found: int = 30  # runs of such a search
    runs: int = 24
    histories: int = 16  # of one metric of one run, the longest among them; fewer in a SQLite file of millions
    points: int = 100_000  # of one history
    models: int = 20  # registered ones; and so many logged ones
    versions: int = 30
    aliases: int = 20
    traces: int = 4


async def open_stores(reader: Reader) -> None:
    """Begin to see both stores as they are now; without it, that happens when the reader is first asked.

    Raises:
        BadInput: MLflow's client can't read the source: an older revision, a table that is missing.
    """
    await reader.ask("open")


async def compare(reader: Reader, sample: Sample | None = None) -> tuple[list[ClientDifference], dict[str, int]]:
    """What MLflow's client reads otherwise from the target, and how many of each it read equal or not.

    Raises:
        BadInput: MLflow's client can't read the source; a target that it can't read is a difference.
    """
    differences, read = await reader.ask("client", **asdict(sample or Sample()))
    return [ClientDifference(**one) for one in differences], read


async def compare_through_client(
    source: StoreUrl, target: StoreUrl, sample: Sample | None = None
) -> tuple[list[ClientDifference], dict[str, int]]:
    """`compare` by a reader that is started for it and ended after it: seconds, most of them for the import.

    Raises:
        BadInput: as `compare`.
    """
    async with reading(source, target) as reader:
        return await compare(reader, sample)


async def compare_as_mlflow(
    reader: Reader, source: Catalog, target: Catalog
) -> tuple[list[ClientDifference] | None, dict[str, int], str | None]:
    """What MLflow reads otherwise from the target, how many of each it read, and why it was not asked, if so.

    Of tracking stores the sample of `compare`; of authentication databases every user's rights.

    Raises:
        BadInput: as `compare`.
    """
    if source.family != target.family:
        return None, {}, f"MLflow was not asked: one is a {source.family.name}, the other a {target.family.name}"
    if source.revision != target.revision:
        return None, {}, "MLflow was not asked: the stores have different revisions"
    found = await (compare(reader) if source.family == TRACKING else rights.compare(reader))
    return *found, None
