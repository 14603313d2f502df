"""How faults are told: absences, trials, what could not be had or judged, what a model did, what is folded."""

from fixtures_results_damaged import GAVE_UP, allowed, changed, damaged, some, untested_only
from fixtures_results_faults import faulted, of, rule
from test_reports_faults import formats, headline

from bench.fault_cell import FaultCell
from reports import aftermath, details, evidence, html, judged, junit
from reports.groups import groups
from reports.summary import candidates_in_order, summarise

UNMEASURED = f"it could not be measured: {GAVE_UP}"


def test_a_store_is_away_neither_in_a_model_nor_where_its_writers_were_killed() -> None:
    def change(cell: FaultCell) -> dict[str, object]:
        return {"gone_s": 99.0} if cell.target == "load" or cell.modelled else {}

    plain = some(("writers-killed", "power-lost-contents", "rows-locked"))
    assert "away for at most 1.53 s" in summarise(changed(plain, change)).answer
    facts = dict(aftermath.facts(changed(plain, change), "sqlite"))
    assert facts["longest outage"].endswith("(rows-locked)")


def test_cells_of_several_rounds_are_no_trials() -> None:
    several = changed(some(("rows-locked", "read-only")), lambda _: {"rounds": 3})
    assert "in all 2 cells" in summarise(several).answer


def test_what_could_not_be_had_is_said_instead_of_running_again() -> None:
    screen = summarise(untested_only())
    told = "power-lost-contents could not be had (losing what was not synced takes a file system that can drop it)"
    assert headline(screen, "mysql")["reason"] == f"no fault was tested: {told}"
    assert headline(screen, "mysql")["next"] == f"Give it what its faults take, or choose others: {told}."
    none = untested_only().model_copy(update={"untested": []})
    assert headline(summarise(none), "mysql")["next"] == "Run it again: nothing was measured."


def test_rows_that_are_right_where_nothing_could_be_judged_are_no_contradiction() -> None:
    cell = of(faulted(), "mysql", "disk-full")
    doubtful = rule(cell, measured=1.0, outcome="inconclusive", reason=UNMEASURED)
    stale = rule(cell, measured=0.0, outcome="inconclusive", reason=UNMEASURED, field="stale", limit=0.0)
    said = f"rows are right, but: {GAVE_UP}"
    assert judged.told(doubtful) == f"100 %, limit = 100 %; {said}"
    assert judged.told(stale) == f"0, limit = 0; it would do, but: {GAVE_UP}"
    unmeasured = doubtful.model_copy(update={"measured": None})
    assert judged.told(unmeasured) == f"not measured ({GAVE_UP}), limit = 100 %"
    assert details.line(doubtful).reason == said
    results = faulted().model_copy(update={"criteria": [doubtful]})
    assert groups(results, candidates_in_order(results))[0].misses[0].reason == said
    assert f'message="{said}"' in junit.render(results)
    for text in formats(results):
        assert said in text


def test_a_loss_in_a_model_tells_of_its_power_cuts_everywhere() -> None:
    results = some(("power-lost-directory", "power-lost-contents"))
    told = "61 power cuts in 12 commits that took unsynced contents and directory entries"
    page, summary, screen = formats(results)
    assert f"sqlite, power-lost-directory: {told}" in screen
    assert f"bring the journal back ({told}" in summary
    assert told in page
    table = next(each for each in evidence.parts(results, results.candidates) if not each.kept).table
    assert [row[0] for row in table.rows][:2] == ["outcome", "what the model did"]
    assert aftermath.modelled_losses(allowed()) == []


def test_the_terminal_explains_the_words_that_occur_alone() -> None:
    *_, kept = formats(some(("rows-locked",)))
    assert "kept: every acknowledged write is there. The time: from when its mending begins to the first ok." in kept
    *_, bad = formats(damaged())
    for word in ("LOST: ", "BROKEN: ", "unknown: "):
        assert bad.count(word) == 1
        assert word not in kept


def test_panels_of_what_everybody_kept_are_folded() -> None:
    page = html.render(damaged())
    for part in evidence.parts(damaged(), damaged().candidates):
        article = page[page.index(f'id="{part.key}"') :].partition("</article>")[0]
        assert article.count("<details") == article.count("</details>") == 1
        assert (article.index("<details") < article.index('class="panels"')) == part.kept
