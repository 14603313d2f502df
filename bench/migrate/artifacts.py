"""Whether the artifacts that a store points at are still found: a sample of its URIs, asked of MLflow's own client.

A move copies rows, and with them the addresses of artifacts; the files stay where they are. So what resolved before
resolves after it, unless the address is one that depends on who asks: a path on another machine, a path relative to the
server's folder, a server that passes artifacts on. That can only be tried, from here, now. Nothing is written.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bench.cell import Frozen
from bench.migrate.reader import Reader
from bench.scratch import scratch_folder

Found = Literal["fetched", "listed", "nothing there", "not reachable from here"]


class ArtifactLook(Frozen):
    """One address, and what was found there."""

    what: str = Field(description="what points at it: run, model version, logged model, with its name")
    uri: str = Field(description="without a password")
    found: Found = Field(
        description="fetched: a file was read; listed: none of at most 1 MB; nothing there: a run may have logged none"
    )
    said: str = Field(description="what was seen, or the reason in the client's words")


async def look_at_artifacts(reader: Reader, most: int = 6, server: str | None = None) -> list[ArtifactLook]:
    """List what is at the addresses of at most ``most`` runs, model versions and logged models each; fetch one file.

    They are taken from the target of ``reader``. ``server`` is the URL of the MLflow server whose addresses begin with
    ``mlflow-artifacts:``; its login is in MLflow's own variables, MLFLOW_TRACKING_USERNAME and …_PASSWORD. An address
    that does not answer within seconds counts as not reachable, and with it every other on the same host.

    Raises:
        BadInput: MLflow's client can't read the target.
    """
    with scratch_folder("artifacts") as folder:
        found = await reader.ask("artifacts", most=most, server=server, folder=str(folder))
    return [ArtifactLook(**one) for one in found]
