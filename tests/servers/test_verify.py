"""`trackbench verify` on real servers: equal stores are equal, and each planted difference is found and named."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import Command
from olden import OLDEST, database
from stores import Park, connected, opened, slow_but, sql, wait_until

from bench.errors import BadInput
from bench.migrate.catalog import TRACKING, reflect
from bench.migrate.proof import Proof
from bench.migrate.sql import listed, quoted
from bench.migrate.values import conversion
from bench.migrate.verify import verify
from bench.stores import schema
from bench.stores.url import StoreUrl

pytestmark = pytest.mark.servers

RUNS = [letter * 32 for letter in "abcdef"]
T = 1_735_689_600_000
LARGEST = 1.7976931348623157e308
STEPS = 40
KEYS = ("loss", "Loss", "loss ", "größe/😀")
Fresh = Callable[[str], StoreUrl]


def fill(url: StoreUrl) -> None:
    """An experiment with runs in a SQLite store, values of all sorts in them."""
    with connected(url) as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'żółć 😀', 'active')")
        for name in ("e0", "e1"):
            cursor.execute("INSERT INTO endpoints (endpoint_id, created_at, last_updated_at) VALUES (?, 1, 1)", (name,))
        for number, run in enumerate(RUNS):
            cursor.execute(
                "INSERT INTO runs (run_uuid, name, experiment_id, status, start_time, lifecycle_stage) "
                "VALUES (?, ?, 7, 'FINISHED', ?, 'active')",
                (run, f"run {number}", T + number),
            )
            for step in range(STEPS):
                values = (0.1 + 0.2 * step, -LARGEST if step == 3 else 5e-324, 0.0, math.pi * number)
                rows = [
                    (key, value, T + step, step - 1, int(step == 5 and key == "loss "), run)
                    for key, value in zip(KEYS, values, strict=True)
                ]
                cursor.executemany(
                    "INSERT INTO metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?)",
                    rows,
                )
            rows_of_texts = [(key, f"{key} of {number}\n😀", run) for key in KEYS]
            cursor.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", rows_of_texts)
            cursor.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", rows_of_texts)
        cursor.execute("COMMIT")


def copy(source: StoreUrl, target: StoreUrl) -> None:
    """All rows, into a target that loses its own: what a user's own script would do."""
    catalog = reflect(source)
    with connected(target) as cursor:
        if target.store in ("mysql", "mariadb"):
            cursor.execute("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")  # else experiment 0 becomes 1
        for name in reversed(list(catalog.tables)):
            cursor.execute(f"DELETE FROM {quoted(target.store, name)}")
        mark = "?" if target.path is not None else "%s"
        for table in catalog.tables.values():
            columns = [column.name for column in table.stored]
            rows = sql(source, f"SELECT {listed('sqlite', columns)} FROM {quoted('sqlite', table.name)}")
            if rows:
                marks = ", ".join([mark] * len(columns))
                into = f"{quoted(target.store, table.name)} ({listed(target.store, columns)})"
                cursor.executemany(f"INSERT INTO {into} VALUES ({marks})", conversion(table.stored, target.store)(rows))
        if target.store in ("postgresql", "timescaledb"):
            cursor.execute("SELECT setval(pg_get_serial_sequence('experiments', 'experiment_id'), 7)")


def prove(source: StoreUrl, target: StoreUrl, **options: Any) -> Proof:
    return asyncio.run(verify(source, target, client=options.pop("client", False), **options))


def named(proof: Proof) -> list[tuple[Any, ...]]:
    """The rows that differ: table, sort, values of the key, and cells."""
    return [
        (row.table, row.sort, *row.key.values(), *((cell.column, cell.source, cell.target) for cell in row.cells))
        for row in proof.rows
    ]


@pytest.fixture
def filled(park: Park, tmp_path: Path) -> StoreUrl:
    """A SQLite store with a few runs."""
    url = park.fresh("sqlite", tmp_path)
    fill(url)
    return url


@pytest.mark.parametrize("name", slow_but("sqlite", "postgresql"))
def test_each_planted_difference_is_named(name: str, filled: StoreUrl, fresh: Fresh) -> None:
    target = fresh(name)
    if target.store in ("mysql", "mariadb"):  # its keys must tell case and trailing spaces apart, as a migration's do
        for key in KEYS[1:3]:
            for table in ("metrics", "params", "tags"):
                sql(filled, f"DELETE FROM {table} WHERE key = ?", key)
    copy(filled, target)
    equal = prove(target, filled)
    assert equal.equal, named(equal) or equal.structure
    assert equal.compared > len(RUNS) * STEPS

    key, mark = quoted(target.store, "key"), "?" if target.path is not None else "%s"

    def change(statement: str, *args: object) -> None:
        sql(target, statement.replace("?", mark).replace("{key}", key), *args)

    off = math.nextafter(0.1 + 0.2 * 9, 9)
    change("UPDATE metrics SET value = ? WHERE run_uuid = ? AND {key} = 'loss' AND step = 8", off, RUNS[0])
    nan = "true" if name in ("postgresql", "timescaledb") else "1"
    change(f"UPDATE metrics SET is_nan = {nan} WHERE run_uuid = ? AND {{key}} = 'loss' AND step = 1", RUNS[1])
    change("DELETE FROM tags WHERE run_uuid = ? AND {key} = 'loss'", RUNS[2])
    change("INSERT INTO tags ({key}, value, run_uuid) VALUES ('more', 'x', ?)", RUNS[2])
    for number in (0, 5):  # two runs swap a value, so that each column has the same values as before
        value = math.pi * (5 - number)
        change(
            "UPDATE metrics SET value = ? WHERE run_uuid = ? AND {key} = ? AND step = 2", value, RUNS[number], KEYS[3]
        )
    change("UPDATE params SET {key} = 'LOSS' WHERE run_uuid = ? AND {key} = 'loss'", RUNS[3])
    planted = prove(filled, target)
    at, false = '"loss"', "False"
    run = [f'"{one}"' for one in RUNS]
    assert sorted(named(planted)) == sorted(
        [
            ("metrics", "changed", at, f"{T + 9}", "8", run[0], false, ("value", repr(0.1 + 0.2 * 9), repr(off))),
            ("metrics", "changed", at, f"{T + 2}", "1", run[1], repr(0.1 + 0.2 * 2), ("is_nan", "False", "True")),
            *(
                ("metrics", "changed", '"größe/😀"', f"{T + 3}", "2", run[n], false,
                 ("value", repr(math.pi * n), repr(math.pi * (5 - n))))
                for n in (0, 5)
            ),
            ("params", "missing", at, run[3]),
            ("params", "extra", '"LOSS"', run[3]),
            ("tags", "missing", at, run[2]),
            ("tags", "extra", '"more"', run[2]),
        ]
    )  # fmt: skip
    counts = {table.table: (table.missing, table.extra, table.changed) for table in planted.tables if not table.equal}
    assert counts == {"metrics": (0, 0, 4), "params": (1, 1, 0), "tags": (1, 1, 0)}
    assert not planted.equal


def test_odd_types_of_sqlite_and_tables_of_one_side_are_differences(filled: StoreUrl, fresh: Fresh) -> None:
    target = fresh("sqlite")
    copy(filled, target)
    with connected(target) as cursor:
        for statement in (
            "UPDATE runs SET start_time = 'soon' WHERE name = 'run 0'",  # text among integers
            "UPDATE runs SET start_time = 1.5 WHERE name = 'run 1'",  # a double among integers
            "UPDATE runs SET name = CAST(x'72756E20FF' AS TEXT) WHERE name = 'run 2'",  # text that is not UTF-8
            "UPDATE runs SET name = CAST(name AS BLOB) WHERE name = 'run 3'",  # bytes among texts
            "UPDATE endpoints SET usage_tracking = 'false' WHERE endpoint_id = 'e0'",  # the same boolean in words
            "UPDATE endpoints SET usage_tracking = 'maybe' WHERE endpoint_id = 'e1'",
        ):
            cursor.execute(statement)
    sql(target, "DROP TABLE experiment_tags")
    sql(target, "CREATE TABLE mine (a INTEGER)")
    proof = prove(filled, target)
    assert {("table", "experiment_tags"), ("table", "mine")} <= {(one.what, one.table) for one in proof.structure}
    cells = sorted((cell.column, cell.source, cell.target) for row in proof.rows for cell in row.cells)
    assert cells == [
        ("name", '"run 2"', '"run \\udcff"'),
        ("name", '"run 3"', "0x72756e2033"),
        ("start_time", f"{T}", '"soon"'),
        ("start_time", f"{T + 1}", "1.5"),
        ("usage_tracking", "False", '"maybe"'),
    ]
    assert {row.sort for row in proof.rows} == {"changed"}


def test_one_store_is_not_compared_with_itself(filled: StoreUrl, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(filled.path or "")
    with pytest.raises(BadInput, match="the same store"):
        prove(filled, StoreUrl("sqlite", path=link))


def test_the_command(filled: StoreUrl, fresh: Fresh, tmp_path: Path) -> None:
    target = fresh("sqlite")
    copy(filled, target)
    words = ("verify", f"{filled}", f"{target}", "--no-client")
    with Command(tmp_path / "tmp1", tmp_path / "out1", *words, "--json") as command:
        assert command.wait() == 0, command.stderr
        assert Proof.model_validate(json.loads(command.stdout)).equal
    sql(target, "UPDATE tags SET value = 'x' WHERE key = 'loss'")
    with Command(tmp_path / "tmp2", tmp_path / "out2", *words, "--limit", "2") as command:
        assert command.wait() == 4, command.stderr
        told = command.stdout
    assert "  tags: 6 changed (24 rows in the source, 24 in the target)\n" in told
    assert f'  differs: key="loss", run_uuid="{RUNS[0]}"\n    value: "loss of 0\\n😀" in the source, "x" in' in told
    assert "… and 4 more rows that differ" in told
    assert told.splitlines()[-1].startswith("DIFFERENT: 6 rows; compared: tracking store, revision ")


def test_the_other_side_ends_with_its_owner(filled: StoreUrl) -> None:
    owner = """
import asyncio, pathlib, sys
from bench.migrate.side import remote_side
from bench.stores.url import StoreUrl

async def work():
    async with remote_side(StoreUrl("sqlite", path=pathlib.Path(sys.argv[1]))):
        print("open", flush=True)
        await asyncio.sleep(600)

asyncio.run(work())
"""
    with subprocess.Popen([sys.executable, "-c", owner, str(filled.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        (child,) = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "end of the child", 10)


def test_mysql_streams_what_it_fetches(park: Park, tmp_path: Path) -> None:
    """Of all types, with NULLs, empty texts and values of several packets; in batches, and left in the middle."""
    url = park.empty("mysql", tmp_path)
    statement = (
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i, i / 7e0, -i, "
        "IF(i % 3, NULL, 'ż😀'), IF(i % 2, '', REPEAT('x', i * 3)), CAST('ab' AS BINARY), DATE '2026-01-31', "
        "IF(i = 150, REPEAT('y', 17000000), REPEAT('z', 300)), i % 2 = 0, CAST('[1, 2]' AS JSON) FROM n"
    )

    async def work() -> None:
        async with opened(url) as (_, session):
            whole = [tuple(row) for row in await session.fetch(statement)]
            batches: list[Sequence[Any]] = [rows async for rows in session.stream(statement, size=70)]
            assert [tuple(row) for rows in batches for row in rows] == whole
            assert max(map(len, batches)) <= 70
            left: Any = session.stream(statement, size=10)
            assert len(await anext(left)) == 10
            await left.aclose()
            assert (await session.fetch("SELECT 1"))[0][0] == 1
            with pytest.raises(Exception, match="doesn't exist"):
                [rows async for rows in session.stream("SELECT * FROM missing")]
            assert [rows async for rows in session.stream("SELECT %s FROM DUAL WHERE 1 = %s", "a", 2)] == []

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_target_that_is_older_is_told_and_an_older_source_is_not(tmp_path: Path) -> None:
    """MLflow does not start on such a target; a source is compared as MLflow upgrades it."""
    old = StoreUrl("sqlite", path=database(f"tracking-{OLDEST}", tmp_path / "old.db"))
    new = StoreUrl("sqlite", path=tmp_path / "new.db")
    assert old.path is not None
    assert new.path is not None
    new.path.write_bytes(old.path.read_bytes())
    asyncio.run(schema.upgrade(new, TRACKING))
    assert asyncio.run(verify(old, new, client=False)).equal
    found = asyncio.run(verify(new, old, client=False))
    assert not found.equal
    assert "revision" in {one.what for one in found.structure}
    assert all(table.equal for table in found.tables)
