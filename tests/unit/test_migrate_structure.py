"""What counts as a difference of structure, and what is only another database's way to say the same."""

from dataclasses import replace
from typing import Any

import pytest

from bench.migrate.catalog import AUTH, TRACKING, Catalog, Column, ForeignKey, Index, Kind, Table
from bench.migrate.plain import differing, plain, words
from bench.migrate.structure import compare_structure

ID = Column("run_uuid", Kind.TEXT, "VARCHAR(32)", nullable=False, characters=32)
STATUS = Column("status", Kind.TEXT, "VARCHAR(9)", nullable=True, characters=9)
NUMBER = Column("n", Kind.INTEGER, "BIGINT", nullable=False, bits=64, numbered=True)
FLAG = Column("is_nan", Kind.BOOLEAN, "BOOLEAN", nullable=False)
RUNS = Table(
    "runs",
    (ID, STATUS, NUMBER, FLAG),
    ("run_uuid",),
    uniques=(("n", "status"),),
    indexes=(Index("index_runs_status", ("status",)),),
    foreign_keys=(ForeignKey(("n",), "experiments", ("experiment_id",), "CASCADE"),),
    checks=("status IN ('FINISHED', 'RUNNING')",),
)


def store(name: str = "sqlite", revision: str = "head", **changes: Any) -> Catalog:
    """A store of one table; ``changes`` are its table's."""
    return Catalog(name, TRACKING, revision, {"runs": replace(RUNS, **changes)})


def found(source: Catalog, target: Catalog) -> list[tuple[str, str, str]]:
    """Each difference as (what, source, target); the other way round they are the same, exchanged."""
    there: list[tuple[str, str, str]] = [
        (one.what, one.source, one.target) for one in compare_structure(source, target)
    ]
    back = [(one.what, one.target, one.source) for one in compare_structure(target, source)]
    assert sorted(there) == sorted(back)
    return there


def columns(**changes: Any) -> tuple[Column, ...]:
    """The columns, of which the one called ``name`` has changed."""
    name = changes.pop("name")
    return tuple(replace(one, **changes) if one.name == name else one for one in RUNS.columns)


def test_what_is_alike_does_not_differ() -> None:
    assert found(store(), store("postgresql")) == []
    assert found(store(), store(columns=RUNS.columns[::-1])) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"indexes": ()}, [("index", "(status)", "none")]),
        ({"uniques": ()}, [("unique", "(n, status)", "none")]),
        (
            {"foreign_keys": ()},
            [("foreign key", "(n) to experiments (experiment_id) ON DELETE CASCADE", "none")],
        ),
        (
            {"foreign_keys": (ForeignKey(("n",), "experiments", ("experiment_id",)),)},
            [
                (
                    "foreign key",
                    "(n) to experiments (experiment_id) ON DELETE CASCADE",
                    "(n) to experiments (experiment_id)",
                )
            ],
        ),
        ({"key": ("n",)}, [("primary key", "(run_uuid)", "(n)")]),
        ({"checks": ()}, [("check", "on (status) with ('FINISHED', 'RUNNING')", "none")]),
        (
            {"columns": columns(name="run_uuid", nullable=True)},
            [("column", "run_uuid: VARCHAR(32) NOT NULL", "run_uuid: VARCHAR(32)")],
        ),
        (
            {"columns": columns(name="status", characters=5, type="VARCHAR(5)")},
            [("column", "status: VARCHAR(9)", "status: VARCHAR(5)")],
        ),
        (
            {"columns": columns(name="status", characters=None, type="TEXT")},
            [("column", "status: VARCHAR(9)", "status: TEXT")],
        ),
        (
            {"columns": columns(name="n", bits=32, type="INTEGER")},
            [("column", "n: BIGINT NOT NULL", "n: INTEGER NOT NULL")],
        ),
        (
            {"columns": columns(name="status", generated=True)},
            [("column", "status: VARCHAR(9)", "status: VARCHAR(9) GENERATED")],
        ),
        (
            {"columns": columns(name="n", numbered=False)},
            [("sequence", "n: numbered by the database", "n: not numbered")],
        ),
        ({"columns": RUNS.columns[:-1]}, [("column", "is_nan: BOOLEAN NOT NULL", "is_nan: none")]),
    ],
)
def test_each_loss_is_found_and_named(changes: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    assert found(store(), store("postgresql", **changes)) == expected


def test_a_table_of_one_side_is_named() -> None:
    without = Catalog("sqlite", TRACKING, "head", {})
    assert found(store(), without) == [("table", "4 columns", "none")]


def test_another_revision_is_named_first() -> None:
    differences = found(store(), store(revision="older", indexes=()))
    assert differences == [("revision", "head", "older"), ("index", "(status)", "none")]


def test_another_kind_of_database_is_the_one_difference() -> None:
    other = Catalog("sqlite", AUTH, None, {})
    assert found(store(), other) == [("family", "tracking store", "authentication database")]


def test_a_unique_index_is_a_unique_constraint() -> None:
    index = Index("any", ("status", "n"), unique=True)
    assert found(store(), store("mysql", uniques=(), indexes=(*RUNS.indexes, index))) == []


def test_what_mysql_and_timescaledb_make_by_themselves_is_no_difference() -> None:
    for_key = Index("fk_runs_n", ("n",))
    left_over = Index("is_nan", ("is_nan", "n"))
    assert found(store(), store("mysql", indexes=(*RUNS.indexes, for_key, left_over))) == []
    assert found(store(), store("postgresql", indexes=(*RUNS.indexes, for_key))) == [("index", "none", "(n)")]
    of_mlflow = Index("index_runs_n", ("n",))
    assert found(store("mysql", indexes=(*RUNS.indexes, of_mlflow)), store()) == [("index", "(n)", "none")]

    metrics = replace(RUNS, name="metrics", indexes=(Index("metrics_timestamp_idx", ("timestamp",)),))
    plainly = replace(metrics, indexes=())
    hypertable, table = (Catalog("timescaledb", TRACKING, "head", {"metrics": one}) for one in (metrics, plainly))
    assert found(hypertable, table) == []


def test_checks_are_compared_whatever_their_words() -> None:
    texts = {
        "postgresql": "status::text = ANY (ARRAY['FINISHED'::character varying, 'RUNNING'::character varying]::text[])",
        "mysql": "(`status` in (_utf8mb4'FINISHED',_utf8mb4'RUNNING'))",
    }
    for name, text in texts.items():
        assert found(store(), store(name, checks=(text,))) == []
    fewer = "(`status` in (_utf8mb4'FINISHED'))"
    assert [one[0] for one in found(store(), store("mysql", checks=(fewer,)))] == ["check", "check"]


def test_checks_on_booleans_are_not_wanted_of_postgresql() -> None:
    checks = (*RUNS.checks, "is_nan IN (0, 1)")
    assert found(store(checks=checks), store("postgresql")) == []
    assert found(store(checks=checks), store("mysql")) == [("check", "on (is_nan) with (0, 1)", "none")]


def test_a_single_precision_float_is_mysqls_way_to_have_a_float() -> None:
    double, single = (
        (replace(STATUS, kind=kind, type=text, characters=None),)
        for kind, text in ((Kind.FLOAT, "FLOAT"), (Kind.SINGLE, "REAL"))
    )
    assert found(store(columns=double), store("mysql", columns=single)) == []
    assert [one[0] for one in found(store(columns=double), store("postgresql", columns=single))] == ["column"]
    assert [one[0] for one in found(store("mysql", columns=double), store("mysql", columns=single))] == ["column"]


# What the client read


class Entity:
    """As MLflow's: what it holds is in private attributes."""

    def __init__(self, **held: Any) -> None:
        vars(self).update({f"_{name}": value for name, value in held.items()})


def test_values_are_compared_to_the_bit() -> None:
    one = plain(Entity(value=0.1, nan=float("nan"), zero=-0.0, text="1", tags={"a": Entity(x=None)}))
    same = plain(Entity(value=0.1, nan=float("nan"), zero=0.0, text="1", tags={"a": Entity(x=None)}))
    assert list(differing(one, same)) == []
    other = plain(Entity(value=0.10000000000000002, nan=0.0, zero=0.0, text=1, tags={"b": Entity(x=None)}))
    assert list(differing(one, other)) == [
        ("value", "0.1", "0.10000000000000002"),
        ("nan", "nan", "0.0"),
        ("text", '"1"', "1"),
        ("tags.a", "{x: NULL}", "none"),
        ("tags.b", "none", "{x: NULL}"),
    ]


def test_lists_are_compared_without_their_order_and_named_up_to_a_few() -> None:
    assert list(differing([1, 2, 2], [2, 1, 2], "points")) == []
    assert list(differing([1, 2, 2], [2, 1], "points")) == [("points", "2", "none")]
    many = list(differing(list(range(10)), [], "points"))
    assert len(many) == 6
    assert many[-1] == ("points", "10 in all", "0 in all, 5 more of them differ")


def test_different_values_never_look_alike() -> None:
    values: list[Any] = [None, "NULL", True, "True", 1, 1.0, "1", float("inf"), "inf", [], {}, "", ["a, b"], ["a", "b"]]
    assert len({words(value) for value in values}) == len(values)
