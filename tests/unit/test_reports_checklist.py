"""The checklist and the steps in every format: complete, in order, and deaf to hostile words."""

import re
from html import unescape
from xml.etree import ElementTree as ET

import pytest
from fixtures_results import HOSTILE
from fixtures_results_move import a_migration, a_move, moved, refused, unequal
from rich.cells import cell_len
from test_reports_formats import Page, printed

from bench.decision_record import Act, Step
from bench.results import Results
from reports import html, junit, markdown
from reports.checklist import lines
from reports.cutover import show


def hostile() -> Results:
    """Every word of the move tries to break out."""
    steps = [Step(step=HOSTILE, outcome=one, said=HOSTILE, remedy=HOSTILE) for one in ("pass", "fail", "not done")]
    acts = [Act(do=HOSTILE, commands=[HOSTILE, "````\n</pre><script>1</script>"], watch=HOSTILE)]
    full = moved(a_move(source=HOSTILE, target=HOSTILE))
    return full.model_copy(update={"checklist": steps, "cutover": acts, "rollback": acts})


def differing() -> Results:
    """A copy with one changed row."""
    return moved(a_move(migration=a_migration(proof=unequal())))


KINDS = {"moved": moved, "refused": refused, "differing": differing, "hostile": hostile}


@pytest.fixture(params=KINDS)
def results(request: pytest.FixtureRequest) -> Results:
    return KINDS[request.param]()


def test_every_step_is_in_every_format_in_its_order(results: Results) -> None:
    page = Page(html.render(results)).text
    summary = unescape(markdown.render(results)).replace("\\", "")
    screen = " ".join(printed(results, width=2000).split())
    for text in (page, summary, screen):
        at = -1
        for each in lines(results):
            said = " ".join(each.step.split())
            assert said in text
            if results.run.title != HOSTILE and len(set(map(str, results.checklist))) > 3:
                assert text.find(said, at + 1) > at
                at = text.find(said, at + 1)
            assert " ".join(each.remedy.split()) in text


def test_the_page_holds_together(results: Results) -> None:
    text = html.render(results)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {each.removeprefix("#") for each in page.loads} <= set(page.ids)
    assert "<script" not in text
    assert {"checklist", "cut-over", "roll-back"} <= set(page.ids)


def test_commands_are_on_the_page_and_in_the_summary_as_they_are_typed() -> None:
    results = moved()
    page = unescape(html.render(results))
    summary = markdown.render(results)
    for act in (*results.cutover, *results.rollback):
        for command in act.commands:
            assert command in page
            assert f"   {command}\n" in summary


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(results: Results, width: int) -> None:
    """But for commands, which are there to be copied."""
    for line in printed(results, width).splitlines():
        assert cell_len(line) <= width or line.startswith("      ")


def test_commands_stand_on_one_line_to_be_copied() -> None:
    results = moved()
    lines_of = printed(results, width=60).splitlines()
    for act in (*results.cutover, *results.rollback):
        assert {f"      {command}" for command in act.commands} <= set(lines_of)


def test_the_steps_come_before_the_verdict_and_the_checklist_after_it() -> None:
    text = printed(moved(), width=120)
    places = [text.index(one) for one in ("Cut-over", "Roll-back", "✓ PASS", "The move, step by step")]
    assert places == sorted(places)
    assert "proved equal, and again after the load" in " ".join(text.split())
    assert "Next: Move: the cut-over's steps are written out" in text


def test_a_verdict_that_is_no_pass_says_not_yet() -> None:
    for results in (refused(), differing()):
        assert "Not yet: the verdict is fail." in Page(html.render(results)).text
        assert "Cut-over: Not yet: the verdict is fail." in printed(results, width=120)
    assert "Not yet" not in html.render(moved())


def test_what_stands_in_the_way_is_the_reason_and_its_remedy_the_next_step() -> None:
    text = " ".join(printed(refused(), width=600).split())
    assert "✗ FAIL Not moved: 1 problem found beforehand" in text
    assert "✗ FAIL postgresql: preflight: params.value: holds a NUL character" in text
    assert "Next: Mend this, then run it again: UPDATE params" in text
    text = " ".join(printed(differing(), width=600).split())
    assert "NOT EQUAL" in text
    assert "Next: Do not move: the stores differ." in text


def test_junit_has_a_case_a_step(results: Results) -> None:
    root = ET.fromstring(junit.render(results))
    (suite,) = root.findall("testsuite[@name='checklist']")
    cases = suite.findall("testcase")
    assert len(cases) == len(results.checklist) == int(suite.get("tests", ""))
    assert len({case.get("name") for case in cases}) == len(cases)
    failing = sum(step.outcome in ("fail", "unknown") for step in results.checklist)
    skipped = sum(step.outcome == "not done" for step in results.checklist)
    assert len(suite.findall(".//failure")) == failing == int(suite.get("failures", ""))
    assert len(suite.findall(".//skipped")) == skipped == int(suite.get("skipped", ""))
    assert int(root.get("failures", "")) == len(root.findall(".//failure"))


def test_a_criterion_of_a_move_has_no_cell_in_its_name() -> None:
    text = junit.render(moved())
    assert 'name="the copy is equal to the source [the move]"' in text
    assert 'name="a backup was made and restored [the target]"' in text
    assert " at 0" not in Page(html.render(moved())).text


def test_the_table_of_the_move_has_the_target_alone() -> None:
    text = printed(moved(), width=120)
    table = text[text.index("The move and its target") : text.index("What decides")]
    assert re.search(r"postgresql +limit", table)
    assert "sqlite" not in table
    assert re.search(r"the copy is equal to the source +yes ✓ += yes", table)


def test_runs_without_a_move_show_nothing_of_it() -> None:
    whole = moved()
    criteria = [each for each in whole.criteria if each.concurrency]
    gone: dict[str, object] = {"move": None, "checklist": [], "cutover": [], "rollback": [], "criteria": criteria}
    results = whole.model_copy(update=gone)
    for text in (html.render(results), markdown.render(results), printed(results), junit.render(results)):
        assert "step by step" not in text
        assert "Cut-over" not in text
        assert "checklist" not in text


def test_the_steps_alone(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    results = moved()
    show(results.cutover, results.rollback, Console(width=200))
    text = capsys.readouterr().out
    assert " 1. Tell the shell" in text
    assert "Roll-back" in text
