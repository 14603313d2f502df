"""results.json: what is written is read again, and what is not ours is refused in one line."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from fixtures_results_move import moved
from hypothesis import given, settings
from hypothesis import strategies as st
from made import a_cell, a_criterion, a_result

from bench import results
from bench.cell import Integrity
from bench.errors import BadInput
from bench.results import Results, read

WHOLE = a_result()
KINDS = {
    "whole": WHOLE,
    "empty": a_result(cells=[], criteria=[], verdicts={}, verdict="inconclusive", exit_code=3),
    "unmeasured": a_result(cells=[a_cell(metrics_per_s=None, per_round={"p99_ms": [None, 1.0]}, success_rate=None)]),
    "moved": moved(),
    "undecided": a_result(criteria=[a_criterion(measured=None, limit=None, interval=None, rounds_needed=12)]),
}


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_the_schema_in_the_repository_is_the_generated_one() -> None:
    kept = files("bench").joinpath("results.schema.json").read_text(encoding="utf-8")
    assert kept == results.schema(), "run python -m bench.results"


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_result_fits_the_schema_and_comes_back(name: str, tmp_path: Path) -> None:
    found = KINDS[name]
    path = found.write(tmp_path)
    assert path == tmp_path / "results.json"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["results.json"]  # no draft is left
    assert read(tmp_path) == read(path) == found
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), json.loads(results.schema()))


def test_results_of_before_moves_are_read(tmp_path: Path) -> None:
    told = json.loads(WHOLE.write(tmp_path).read_text(encoding="utf-8"))
    for name in ("move", "checklist", "cutover", "rollback"):
        del told[name]
    (tmp_path / "results.json").write_text(json.dumps(told), encoding="utf-8")
    assert read(tmp_path) == WHOLE


numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50, deadline=None)
@given(numbers, numbers, texts, st.lists(texts, max_size=3))
def test_numbers_come_back_bit_for_bit_and_texts_letter_for_letter(
    low: float, high: float, reason: str, notes: list[str]
) -> None:
    criterion = WHOLE.criteria[0].model_copy(update={"interval": (low, high), "reason": reason, "measured": low})
    sent = WHOLE.model_copy(update={"criteria": [criterion], "cells": [], "notes": notes})
    again = Results.model_validate_json(sent.model_dump_json(indent=1))
    assert again == sent
    assert repr(again.criteria[0].interval) == repr((low, high))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = WHOLE.write(tmp_path)
    text = path.read_bytes()
    path.write_bytes(text[: int(len(text) * share)])
    assert "not a Trackbench results.json" in refusal(tmp_path)
    assert str(path) in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"\x00" * 50, b"hello\nthere\n", b"<html></html>", b'{"schema_version": 1}', b"{}", b"[]", b"3",
     b"null", b'"x"', b'{"schema_version": 1, "run": []}', b"[" * 100_000],
)  # fmt: skip
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.json").write_bytes(content)
    assert "run the scenario again" in refusal(tmp_path)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_version_is_refused_by_its_number(tmp_path: Path, version: object) -> None:
    raw = json.loads(WHOLE.model_dump_json()) | {"schema_version": version}
    (tmp_path / "results.json").write_text(json.dumps(raw), encoding="utf-8")
    assert f"schema version {version!r} is not 1" in refusal(tmp_path)


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    raw = json.loads(WHOLE.model_dump_json())
    raw["cells"][0]["ops_ok"] = "many"
    (tmp_path / "results.json").write_text(json.dumps(raw), encoding="utf-8")
    assert "cells.0.ops_ok" in refusal(tmp_path)
    raw["cells"][0]["ops_ok"] = 1
    raw["cells"][0]["speed"] = 1
    (tmp_path / "results.json").write_text(json.dumps(raw), encoding="utf-8")
    assert "cells.0.speed" in refusal(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent" / "results.json"):
        text = refusal(path)
        assert str(path) in text
        assert "results/" in text


def test_results_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        WHOLE.verdict = "pass"


@pytest.mark.parametrize(
    ("attempted", "wrong", "share"), [(100, 0, 1.0), (100, 1, 0.99), (10, 20, 0.0), (0, 1, 0.0), (0, 0, 1.0)]
)
def test_the_share_of_right_rows(attempted: int, wrong: int, share: float) -> None:
    found = Integrity(checked=True, attempted=attempted, lost=wrong)
    assert found.share == pytest.approx(share)
    assert found.broken == (wrong > 0)
