"""Results of a run that moved a store first: all well, and each way in which it is not."""

from fixtures_results_http import migration as published

from bench.cell import Criterion
from bench.decision_checklist import added
from bench.decision_record import Move, Step, Undone
from bench.decision_steps import cutover, place, rollback
from bench.judge import moves
from bench.judge.criteria import Rule
from bench.migrate.proof import CellDifference, Proof, RowDifference, TableProof
from bench.migrate.record import Migration, Pass, Problem
from bench.readiness.check import Check, Readiness
from bench.results import Results
from bench.stores.url import parse

SOURCE, TARGET = "sqlite:////srv/mlflow/mlflow.db", "postgresql://mlflow:***@db.example:5432/mlflow"
RULES = [
    Rule("nothing stands in the way of an exact copy", "migration.problems == 0", True, "ready"),
    Rule("the copy is equal to the source", "migration.equal == 1", True, "ready"),
    Rule("equal again after the load", "migration.equal_after_load == 1", True, "ready"),
    Rule("nothing fails that production needs", "readiness.failed == 0", True, "ready"),
    Rule("a backup was made and restored", "readiness.backup_restored == 1", True, "ready"),
    Rule("no warning", "readiness.warned == 0", False, "ready"),
]
CHECKS = [
    Check(name="tls", title="TLS", outcome="pass", found="TLS 1.3, certificate verified"),
    Check(name="password", title="Password", outcome="warn", found="9 characters", remedy="take 12 or more"),
    Check(name="access", title="Who may connect", outcome="unknown", found="pg_hba.conf can't be read"),
    Check(name="backup", title="Backup", outcome="pass", found="dumped in 4 s, restored in 9 s, equal"),
]


def a_proof(**changes: object) -> Proof:
    """A proof of three tables in which all is equal; ``changes`` are not checked."""
    tables = [
        TableProof(table="runs", source_rows=2_000, target_rows=2_000),
        TableProof(table="metrics", source_rows=1_200_000, target_rows=1_200_000),
        TableProof(table="params", source_rows=20_000, target_rows=20_000),
    ]
    proof = Proof(
        source=SOURCE, target=TARGET, family="tracking store", revision="dc11669786a5", tables=tables, client=[],
        rows_not_named=0, client_read={"experiments": 12, "runs": 40, "metric histories": 60}, seconds={"rows": 4.0},
    )  # fmt: skip
    return proof.model_copy(update=changes)


def unequal() -> Proof:
    """A proof that found one changed row."""
    tables = [one.model_copy(update={"changed": 1}) if one.table == "metrics" else one for one in a_proof().tables]
    cells = [CellDifference(column="value", source="0.1", target="0.10000000000000002")]
    rows = [RowDifference(table="metrics", key={"run_uuid": '"a"'}, sort="changed", cells=cells)]
    return a_proof(tables=tables, rows=rows)


def a_migration(**changes: object) -> Migration:
    """A copy that was proved equal; ``changes`` are not checked."""
    made = Migration(
        source=SOURCE, target=TARGET, family="tracking store", revision="dc11669786a5", upgraded_from="acf3f17fdcc7",
        held_s=0.04, passes=[Pass(rows=1_222_000, inserted=1_222_000, seconds=9.0)], proof=a_proof(), estimate=None,
        seconds={"snapshot": 1.2, "preflight": 2.0, "schema": 3.0, "copy": 9.0, "finish": 2.0, "proof": 4.0},
        frozen_to_proof_s=None,
    )  # fmt: skip
    return made.model_copy(update=changes)


def a_move(**changes: object) -> Move:
    """A move in which all is well; ``changes`` are not checked."""
    move = Move(
        source=SOURCE, target=TARGET, candidate="postgresql", scratch=False, migration=a_migration(),
        proof_after_load=a_proof(),
        readiness=[Readiness(url=TARGET, store="postgresql", version="16.4", checks=CHECKS)],
        extra=[Step(step="artifacts fetched", outcome="pass", said="6 of 6 found, 4 files fetched")],
    )  # fmt: skip
    return move.model_copy(update=changes)


def moved(move: Move | None = None) -> Results:
    """The published run again, whose PostgreSQL holds a copy of the user's store, with its checklist and its steps."""
    move = move or a_move()
    full = published()
    names = ("sqlite", "postgresql")
    keep = {
        "candidates": [
            each.model_copy(
                update={"theirs": each.name == "postgresql", "prefill": "your data, and 6,000 metrics of ours"}
            )
            for each in full.candidates
            if each.name in names
        ],
        "cells": [each for each in full.cells if each.candidate in names],
        "criteria": [*(each for each in full.criteria if each.candidate in names), *judged(move)],
        "verdicts": {"sqlite": "pass", "postgresql": "pass"},
        "reasons": {"sqlite": "", "postgresql": "all 20 gating criteria hold"},
        "verdict": "pass",
        "exit_code": 0,
        "comparisons": [],
        "move": move,
    }
    here, there = place(parse(SOURCE), "SOURCE_URL"), place(parse(TARGET.replace("***", "x")), "TARGET_URL")
    older = None if move.migration is None else move.migration.upgraded_from
    acts = cutover(here, there, stage="copied", upgraded_from=older)
    steps = {"cutover": acts, "rollback": rollback(here, there, upgraded_from=older)}
    return added(full.model_copy(update=keep | steps))


def judged(move: Move) -> list[Criterion]:
    """The criteria of table "ready" on a move."""
    return [moves.judge(rule, move) for rule in RULES]


def refused() -> Results:
    """A move that was given up beforehand: nothing was measured."""
    problem = Problem(
        table="params", column="value", key={"run_uuid": '"9f"', "key": '"prompt"'}, rows=3,
        reason="holds a NUL character, which PostgreSQL can't store",
        remedy="UPDATE params SET value = replace(value, char(0), '') WHERE instr(value, char(0))",
    )  # fmt: skip
    why = "the store can't be moved exactly"
    undone = [Undone(part=part, reason=why) for part in ("copy", "proof", "load", "faults", "proof_after_load")]
    migration = a_migration(problems=[problem], passes=[], proof=None, seconds={"snapshot": 1.2, "preflight": 2.0})
    move = a_move(migration=migration, proof_after_load=None, readiness=[], extra=[], undone=undone)
    found = moved(move)
    run = found.run.model_copy(update={"trials_done": 0})
    verdicts = {"verdicts": {"postgresql": "fail"}, "verdict": "fail", "exit_code": 1}
    reasons = {"reasons": {"postgresql": "nothing stands in the way of an exact copy: measured 1"}}
    nothing = {"run": run, "candidates": [], "cells": [], "criteria": judged(move)}
    return added(found.model_copy(update=nothing | verdicts | reasons))
