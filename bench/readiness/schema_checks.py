"""Whether the schema is the one that our MLflow makes: its revision, and all of its keys, indexes and constraints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from bench.migrate.catalog import TRACKING, Catalog
from bench.migrate.proof import StructureDifference
from bench.readiness.check import Check
from bench.readiness.scene import listed
from bench.stores import schema
from bench.stores.url import StoreUrl

_NONE = "none"  # what `compare_structure` says of a side that lacks something


def revision(found: str | None, head: str, known: frozenset[str], family: str, url: StoreUrl) -> Check:
    """The check of the revision of the store at ``url``; ``known`` are all that our MLflow knows."""
    title = "Schema revision"
    ours = f"MLflow {schema.mlflow_version()}"
    if found == head:
        return Check(name="revision", title=title, outcome="pass", found=f"{head}, which {ours} wants")
    if found in known or found is None:
        how = _upgrade(url) if family == TRACKING.name else "start `mlflow server --app-name basic-auth`, which does it"
        rehearse = "`trackbench rehearse-upgrade env:STORE`" if family == TRACKING.name else "rehearse it on a copy"
        return Check(
            name="revision",
            title=title,
            outcome="fail",
            found=f"{found or 'none'} is older than {head}: {ours} refuses to start on it",
            remedy=f"{rehearse}, back the store up, then {how}",
        )
    return Check(
        name="revision",
        title=title,
        outcome="unknown",
        found=f"{found} is newer than {head} or not MLflow's: {ours} does not know it",
        remedy="use a Trackbench for that MLflow",
    )


def _upgrade(url: StoreUrl) -> str:
    """MLflow takes the URL as an argument only, so the password comes from a file that its driver reads."""
    if url.path is not None:
        return f"`mlflow db upgrade {shlex.quote(url.mlflow)}`"
    bare = replace(url, password="")
    file, why = "~/.pgpass", ""
    if url.store in ("mysql", "mariadb"):
        file, why = "~/.my.cnf", " under [client]"
        bare = replace(bare, options=(*bare.options, ("read_default_file", file)))
    return (
        f"`mlflow db upgrade {shlex.quote(bare.mlflow)}` with the password in {file}{why} (chmod 600): the process "
        "list shows the URL as long as it runs"
    )


def structure(differences: Sequence[StructureDifference], compared: Catalog) -> Check:
    """The check of what `compare_structure` found between a pristine schema (source) and this one (target)."""
    title = "Indexes and constraints"
    if not differences:
        found = (
            f"all of {len(compared.tables)} tables, with their keys, indexes and constraints, are as MLflow makes them"
        )
        return Check(name="structure", title=title, outcome="pass", found=found)
    lost = [one for one in differences if one.source != _NONE]
    named = [f"{one.what} of {one.table}: {one.source}, here {one.target}" for one in lost or differences]
    if not lost:
        found = f"MLflow's, and beside them {listed(named, 3)}"
        remedy = "see who made them: `mlflow db upgrade` does not expect them"
        return Check(name="structure", title=title, outcome="warn", found=found, remedy=remedy)
    return Check(
        name="structure",
        title=title,
        outcome="fail",
        found=f"{len(lost)} differ from MLflow's: {listed(named, 3)}",
        remedy=(
            "make them again as MLflow's migrations do (mlflow/store/db_migrations), or copy the store into a fresh "
            "schema with `trackbench migrate`"
        ),
    )
