"""Whether two authentication databases let the same users do the same, as MLflow's own authentication reads them."""

from __future__ import annotations

from bench.migrate.proof import ClientDifference
from bench.migrate.reader import Reader, reading
from bench.stores.url import StoreUrl


async def compare(reader: Reader) -> tuple[list[ClientDifference], dict[str, int]]:
    """What users may do by one and not by the other, and how many users, roles and permissions were read equal or not.

    A user is the name, whether an administrator, the password's hash (which is never shown), every role with its
    permissions, and the workspaces that can be seen.

    Raises:
        BadInput: MLflow can't read the source; a target that it can't read is a difference.
    """
    differences, read = await reader.ask("rights")
    return [ClientDifference(**one) for one in differences], read


async def compare_rights(source: StoreUrl, target: StoreUrl) -> tuple[list[ClientDifference], dict[str, int]]:
    """`compare` by a reader that is started for it and ended after it.

    Raises:
        BadInput: as `compare`.
    """
    async with reading(source, target) as reader:
        return await compare(reader)
