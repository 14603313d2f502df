"""The structure of real stores: no false alarm between any two of them, and each planted defect found and named."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import olden
import pytest
from stores import NAMES, Park, connected, fetch, mysql, opened, slow_but, sql

from bench.migrate.catalog import TRACKING, Catalog, reflect
from bench.migrate.proof import StructureDifference
from bench.migrate.structure import compare_sequences, compare_structure
from bench.stores import schema
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers

RUN = "a" * 32
ROWS = (
    "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'seven', 'active')",
    f"INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage) VALUES ('{RUN}', 7, 'active')",
    *(
        f"INSERT INTO metrics VALUES ('loss', 0.5, {day * 86_400_000}, '{RUN}', 0, {{no}})"
        for day in range(3)  # a chunk each
    ),
)
DEFECTS = {
    "postgresql": """
        DROP INDEX index_metrics_run_uuid_key_step;
        ALTER TABLE experiments DROP CONSTRAINT uq_experiments_workspace_name;
        ALTER TABLE tags DROP CONSTRAINT tags_run_uuid_fkey;
        ALTER TABLE latest_metrics DROP CONSTRAINT latest_metric_pk;
        ALTER TABLE experiments ALTER name DROP NOT NULL;
        ALTER TABLE runs ALTER artifact_uri TYPE VARCHAR(100);
        ALTER TABLE datasets ADD extra TEXT;
        ALTER TABLE datasets DROP dataset_profile;
        DROP TABLE input_tags;
        ALTER TABLE trace_tags DROP CONSTRAINT fk_trace_tags_request_id;
        ALTER TABLE trace_tags ADD FOREIGN KEY (request_id) REFERENCES trace_info;
        ALTER TABLE runs DROP CONSTRAINT runs_status_check;
        ALTER TABLE sql_trace_metric_daily_rollups ALTER id DROP IDENTITY;
        ALTER TABLE metrics ALTER step TYPE INTEGER;
        UPDATE alembic_version SET version_num = 'another'
    """,
    "mysql": """
        DROP INDEX index_metrics_run_uuid_key_step ON metrics;
        ALTER TABLE experiments DROP INDEX uq_experiments_workspace_name;
        ALTER TABLE tags DROP FOREIGN KEY tags_ibfk_1;
        ALTER TABLE latest_metrics DROP PRIMARY KEY;
        ALTER TABLE experiments MODIFY name VARCHAR(256);
        ALTER TABLE runs MODIFY artifact_uri VARCHAR(100);
        ALTER TABLE datasets ADD extra TEXT;
        ALTER TABLE datasets DROP dataset_profile;
        DROP TABLE input_tags;
        ALTER TABLE trace_tags DROP FOREIGN KEY fk_trace_tags_request_id;
        ALTER TABLE trace_tags ADD FOREIGN KEY (request_id) REFERENCES trace_info (request_id);
        ALTER TABLE runs DROP CHECK runs_chk_1;
        ALTER TABLE sql_trace_metric_daily_rollups MODIFY id BIGINT NOT NULL;
        ALTER TABLE metrics MODIFY step INTEGER NOT NULL;
        UPDATE alembic_version SET version_num = 'another'
    """,
}
FOUND = {
    ("revision", "alembic_version", "{head}", "another"),
    ("unique", "experiments", "(name, workspace)", "none"),
    ("column", "experiments", "name: VARCHAR(256) NOT NULL", "name: VARCHAR(256)"),
    ("foreign key", "tags", "(run_uuid) to runs (run_uuid)", "none"),
    ("primary key", "latest_metrics", "(key, run_uuid)", "none"),
    ("column", "runs", "artifact_uri: VARCHAR(200)", "artifact_uri: VARCHAR(100)"),
    ("check", "runs", "on (status) with ('FAILED', 'FINISHED', 'KILLED', 'RUNNING', 'SCHEDULED')", "none"),
    ("column", "datasets", "extra: none", "extra: TEXT"),
    ("column", "datasets", "dataset_profile: TEXT", "dataset_profile: none"),
    ("table", "input_tags", "3 columns", "none"),
    (
        "foreign key",
        "trace_tags",
        "(request_id) to trace_info (request_id) ON DELETE CASCADE",
        "(request_id) to trace_info (request_id)",
    ),
    ("index", "metrics", "(run_uuid, key, step)", "none"),
    ("column", "metrics", "step: BIGINT NOT NULL", "step: INTEGER NOT NULL"),
    ("sequence", "sql_trace_metric_daily_rollups", "id: numbered by the database", "id: not numbered"),
}


def named(differences: list[StructureDifference]) -> list[tuple[str, str, str, str]]:
    return [(one.what, one.table, one.source, one.target) for one in differences]


async def sequences(url: StoreUrl, catalog: Catalog) -> list[tuple[str, str, str, str]]:
    async with opened(url) as (_, session):
        await session.freeze()
        return named(await compare_sequences(catalog, session))


def test_no_two_stores_differ_whatever_rows_they_have(park: Park, tmp_path: Path) -> None:
    catalogs = {}
    for name in NAMES:
        url = park.fresh(name, tmp_path)
        for statement in ROWS:
            sql(url, statement.format(no="false"))
        catalogs[name] = reflect(url)
    assert len(catalogs["timescaledb"].tables["metrics"].indexes) == 3  # its own is there, and is no difference
    for one, other in permutations(NAMES, 2):
        assert compare_structure(catalogs[one], catalogs[other]) == [], f"{one} to {other}"


@pytest.mark.slow
@pytest.mark.parametrize("version", [olden.OLDEST, olden.LATE])
def test_a_store_that_was_upgraded_does_not_differ_from_a_new_one(park: Park, tmp_path: Path, version: str) -> None:
    old = StoreUrl("sqlite", path=olden.database(f"tracking-{version}", tmp_path / "old.db"))
    asyncio.run(schema.upgrade(old, TRACKING))
    for name in NAMES:
        assert compare_structure(reflect(old), reflect(park.fresh(name, tmp_path))) == [], name


@pytest.mark.slow
@pytest.mark.parametrize("revision", ["97727af70f4d", "400f98739977", "1bd49d398cd23", "a5b4c3d2e1f0"])
def test_stores_of_an_older_revision_do_not_differ(park: Park, tmp_path: Path, revision: str) -> None:
    catalogs = {}
    for name in ("sqlite", "postgresql", "mysql"):
        url = park.empty(name, tmp_path)
        asyncio.run(schema.create_at(url, TRACKING, revision))
        catalogs[name] = reflect(url)
        if name == "mysql":
            sql(url, f"DROP DATABASE `{url.database}`")
    for one, other in permutations(catalogs, 2):
        assert compare_structure(catalogs[one], catalogs[other]) == [], f"{one} to {other}"


@pytest.mark.parametrize("name", slow_but("sqlite", "postgresql", "mysql"))
def test_the_next_number_is_beyond_those_in_use(fresh: Callable[[str], StoreUrl], name: str) -> None:
    url = fresh(name)
    catalog = reflect(url)
    assert asyncio.run(sequences(url, catalog)) == []
    sql(url, ROWS[0])
    found = asyncio.run(sequences(url, catalog))
    if name in ("sqlite", "mysql"):
        assert found == []  # they look at the rows
        return
    assert found == [("sequence", "experiments", "experiment_id: next number above 7", "experiment_id: next number 1")]
    sql(url, "SELECT setval('experiments_experiment_id_seq', 8, false)")
    assert asyncio.run(sequences(url, catalog)) == []


def test_a_sequence_that_may_not_be_read_proves_nothing(fresh: Callable[[str], StoreUrl]) -> None:
    url = fresh("postgresql")
    catalog = reflect(url)
    sql(url, "ALTER SEQUENCE experiments_experiment_id_seq OWNED BY NONE")
    assert asyncio.run(sequences(url, catalog)) == []  # the default still asks it
    sql(url, "CREATE ROLE looker LOGIN PASSWORD 'looks'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker")
    looker = StoreUrl("postgresql", None, url.host, url.port, "looker", "looks", url.database)
    try:
        found = asyncio.run(sequences(looker, catalog))
    finally:
        sql(url, "DROP OWNED BY looker; DROP ROLE looker")
    assert len(found) == 4
    assert found[0][3].startswith("experiment_id: next number unknown: this login may not read sequence ")


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_each_planted_defect_is_named(park: Park, tmp_path: Path, name: str) -> None:
    source = reflect(park.fresh("sqlite", tmp_path))
    with disposable(park, tmp_path, name) as url:
        assert compare_structure(source, reflect(url)) == []
        with connected(url) as cursor:
            for statement in DEFECTS[name].strip().split(";\n"):
                cursor.execute(statement)
        found = named(compare_structure(source, reflect(url)))
    expected = {tuple(text.format(head=source.revision) for text in one) for one in FOUND}
    assert set(found) == expected
    assert len(found) == len(expected)


@contextmanager
def disposable(park: Park, folder: Path, name: str) -> Iterator[StoreUrl]:
    """A pristine store that nobody else is given; of MySQL's there is but one for all tests, which is copied."""
    url = park.fresh(name, folder)
    if name == "postgresql":
        yield url
        return
    copy = park.empty(name, folder)
    with mysql(url) as cursor:
        made = [fetch(cursor, f"SHOW CREATE TABLE `{row[0]}`")[0][1] for row in fetch(cursor, "SHOW TABLES")]
    with mysql(copy) as cursor:
        cursor.execute("SET foreign_key_checks = 0")
        for statement in made:
            cursor.execute(statement)
        cursor.execute(f"INSERT INTO alembic_version SELECT * FROM `{url.database}`.alembic_version")
        cursor.execute("SET foreign_key_checks = 1")
    yield copy
    sql(copy, f"DROP DATABASE `{copy.database}`")
