"""Each fault's evidence on the page: what was seen, counted and promised, and where nothing can be drawn."""

from fixtures_results import HOSTILE
from fixtures_results_damaged import GAVE_UP, changed, cut_off, damaged, hostile_faults, some
from fixtures_results_faults import GONE, faulted, of

from bench.cell import Integrity
from bench.fault_cell import FaultCell, FaultSeen
from bench.results import Results
from reports import evidence, html, junit, markdown, resilience
from reports.evidence import FaultPart, Place
from reports.summary import candidates_in_order

POWERED = some(("power-lost-contents", "power-lost-directory"))


def part(results: Results, fault: str) -> FaultPart:
    """The evidence of one fault, of its first place if it has several."""
    found = evidence.parts(results, candidates_in_order(results))
    return next(each for each in found if each.title == fault)


def places(found: FaultPart) -> dict[str, Place]:
    return {each.candidate: each for each in found.places}


def answers(found: FaultPart, candidate: str) -> dict[str, str]:
    column = found.table.heads.index(candidate)
    return {row[0]: row[column] for row in found.table.rows}


def test_the_evidence_says_what_was_seen_counted_and_promised() -> None:
    found = part(damaged(), "network-reset")
    assert found.table.heads == ("", "postgresql", "timescaledb", "mysql")
    mysql, cell = answers(found, "mysql"), of(damaged(), "mysql", "network-reset")
    assert mysql["outcome"] == (
        "✗ BROKEN: 2 of 980 acknowledged rows are gone, 1 duplicated, against what its settings promise"
    )
    assert mysql["the settings promise"] == "nothing may be lost"
    assert mysql["clients saw"] == f"{cell.ops_ok:,} ok, {cell.ops_failed} failed, {cell.ops_unknown} unknown"
    assert mysql["errors by kind"] == f"connection {cell.errors['connection']}"
    assert mysql["connections made anew"] == "8"
    assert (mysql["gone for"], mysql["first ok after mending began"]) == ("1.63 s", "120 ms")
    assert mysql["rows"] == "980 acknowledged, 979 stored (read by SQL)"
    assert mysql["lost / duplicated / corrupted / unexpected"] == "2 / 1 / 1 / 0"
    assert mysql["recovered / indeterminate / stale"] == "0 / 0 / 0"
    assert mysql["invariants violated"] == "latest_metrics_is_maximum 1"
    assert mysql["the store's own check"] == "CHECK TABLE of 20 tables: nothing wrong"
    assert mysql["in order"] == "1 s: begun; 2.5 s: ended"
    assert answers(found, "postgresql")["invariants violated"] == "–"
    assert found.wrong_rows == ("mysql: run 4b, key acc, step 9: bits differ",)


def test_what_is_not_known_is_no_zero() -> None:
    found = answers(part(damaged(), "disk-full"), "timescaledb")
    assert found["rows"] == f"not read back: {GAVE_UP}"
    assert found["lost / duplicated / corrupted / unexpected"] == "–"
    assert found["recovered / indeterminate / stale"] == "–"
    assert found["the store's own check"] == "–"
    assert found["first ok after mending began"] == "never"
    assert found["rounds"] == "0 rounds, 1 not measured"


def test_what_settings_allow_stale_rows_retries_and_rounds_are_told() -> None:
    stale = Integrity(checked=True, attempted=9, acknowledged=9, stored=9, stale=4)
    extra = {"may_lose": "a second of commits", "integrity": stale, "ops_retried": 12, "rounds": 3}
    found = answers(part(changed(some(("server-frozen",)), lambda _: dict(extra)), "server-frozen"), "mysql")
    assert found["the settings promise"] == "may lose: a second of commits"
    assert found["recovered / indeterminate / stale"] == "0 / 0 / 4"
    assert found["clients saw"].endswith(", 12 retried")
    assert found["rounds"] == "3 rounds"
    assert found["errors by kind"] == "none"


def test_a_model_has_no_clients_and_says_what_it_found() -> None:
    found = part(POWERED, "power-lost-directory")
    sqlite = answers(found, "sqlite")
    assert sqlite["outcome"].startswith("✗ LOST 1: 1 of 24 acknowledged rows is gone, as its settings allow")
    assert {"clients saw", "errors by kind", "connections made anew", "gone for", "in order"}.isdisjoint(sqlite)
    assert found.wrong_rows == (f"sqlite: {GONE}",)
    assert found.where == "in a model"
    assert part(damaged(), "network-reset").where == "log_metric, 8 writers"
    held = places(part(POWERED, "power-lost-contents"))["sqlite"]
    assert held.panel is None
    assert held.instead.startswith("61 power cuts in 12 commits")


def test_a_candidate_without_the_fault_keeps_its_place_and_says_why() -> None:
    found = places(part(damaged(), "server-killed"))
    assert list(found) == ["sqlite", "postgresql", "timescaledb", "mysql"]
    assert (found["sqlite"].text, found["sqlite"].instead) == ("can't happen", "SQLite has no server")
    powered = places(part(POWERED, "power-lost-contents"))["mysql"]
    assert (powered.text, powered.panel) == ("not tested", None)
    assert powered.instead.startswith("losing what was not synced")
    assert places(part(cut_off(), "server-stopped"))["mysql"].text == "no data"


def test_what_was_not_kept_is_open_and_the_rest_folded() -> None:
    page = html.render(damaged())
    found = evidence.parts(damaged(), damaged().candidates)
    assert [each.title for each in found if not each.kept] == ["network-reset", "disk-full", "power-lost-directory"]
    folds = page[page.index('<section id="evidence">') : page.index('<section id="criteria">')]
    assert folds.count("<details open>") == 3
    assert folds.count("<details>") == len(found) - 3


def test_every_row_of_the_matrix_leads_to_its_evidence() -> None:
    results = damaged()
    page = html.render(results)
    found = evidence.parts(results, results.candidates)
    matrix = resilience.matrix(results, results.candidates)
    assert matrix is not None
    for row, own in zip(matrix.rows, found, strict=True):
        assert f'<a href="#{own.key}">{row.label}</a>' in page
        assert f'<article class="fault" id="{own.key}">' in page
        assert row.label.partition(",")[0] == own.title


def test_every_panel_has_its_text_and_its_outcome_beside_it() -> None:
    results = damaged()
    page = html.render(results)
    panels = [(own, each) for own in evidence.parts(results, results.candidates) for each in own.places if each.panel]
    assert page.count('<div role="img" aria-label="') == len(panels) == 13
    for own, each in panels:
        assert each.panel
        assert f'aria-label="{own.title}, {each.candidate}. {each.panel.alternative}"' in page
        assert f'<strong>{each.candidate}</strong> <b class="{each.style}">{each.text}</b>' in page


def rounds(seen: list[FaultSeen]) -> Results:
    """MySQL's rounds of one fault."""

    def change(cell: FaultCell) -> dict[str, object]:
        return {"seen": seen} if cell.candidate == "mysql" else {}

    return changed(some(("server-frozen",)), change)


def test_the_round_that_is_shown_is_the_one_that_went_wrong_and_is_named() -> None:
    first = of(faulted(), "mysql", "server-frozen").seen[0]
    longer = first.model_copy(update={"gone_s": 9.0})
    never = first.model_copy(update={"first_ok_s": None})
    unbegun = first.model_copy(update={"begin_s": None, "end_s": None, "first_ok_s": None})
    for seen, best in (
        ([first, first], 0),
        ([first, longer], 1),
        ([first, longer, never], 2),
        ([never, longer, unbegun], 2),
    ):
        results = rounds(seen)
        assert resilience.shown(of(results, "mysql", "server-frozen")) is seen[best]
        mysql = places(part(results, "server-frozen"))["mysql"]
        assert mysql.note == f"ok after 48 ms; round {best + 1} of {len(seen)}"
    assert "round" not in places(part(rounds([first]), "server-frozen"))["mysql"].note


def test_hostile_texts_of_faults_stay_text() -> None:
    results = hostile_faults()
    page = html.render(results)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 60
    for text in (page, junit.render(results), markdown.render(results)):
        assert "\x1b" not in text
    assert HOSTILE not in markdown.render(results)
