"""Every format: complete, well formed, readable, and deaf to hostile names."""

import io
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from fixtures_results import realistic
from fixtures_results_bad import EVERY, HOSTILE, broken, empty
from rich.cells import cell_len
from rich.console import Console

from bench.results import Results
from reports import html, junit, markdown, terminal, write_all
from reports.summary import summarise

VOID = {"meta", "link", "br", "img", "input", "hr", "use", "path", "col"}


class Page(HTMLParser):
    """Collects what a page loads, its text and its ids, and checks that its elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.loads += [value for name in ("src", "href", "data", "srcset") if (value := values.get(name))]
        self.ids += [value] if (value := values.get("id")) else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def printed(results: Results, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    terminal.render(results, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.fixture(scope="module", params=EVERY)
def results(request: pytest.FixtureRequest) -> Results:
    return EVERY[request.param]()


@pytest.fixture(scope="module")
def text(results: Results) -> str:
    return html.render(results)


def test_the_page_is_well_formed_and_loads_nothing(text: str) -> None:
    page = Page(text)
    assert all(each.startswith("#") for each in page.loads)
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert {"script", "iframe", "object", "img", "link"}.isdisjoint(page.tags)


def test_ids_are_unique_and_links_lead_somewhere(text: str) -> None:
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {each.removeprefix("#") for each in page.loads} <= set(page.ids)


def test_the_page_adapts_to_light_dark_and_phones() -> None:
    text = html.render(realistic())
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    assert "overflow-x: auto" in text
    assert "#5e00" not in text


def test_every_criterion_is_in_every_format() -> None:
    results = realistic()
    page = Page(html.render(results)).text
    summary = markdown.render(results)
    cases = junit.render(results)
    screen = " ".join(printed(results, width=400).split())
    for each in results.criteria:
        assert each.name in page
        assert each.reason in page or each.interval is None
        assert markdown.escape(each.name) in summary
        assert f'name="{each.name} [direct, {each.workload} at {each.concurrency}]"' in cases
        assert each.name in screen
    assert page.count(" gating ") >= sum(each.gating and not each.reference for each in results.criteria)


def test_a_criterion_is_one_line_with_the_cells_that_each_candidate_passed() -> None:
    text = printed(realistic(), width=120)
    assert re.search(r"every write is there +2/2 ✓ +2/2 ✓ +2/2 ✓ +2/2 ✓ +≥? ?= 100 %", text)
    assert re.search(r"write tail +0/2 ✗ +2/2 ✓ +2/2 ✓ +0/2 ✗ +≤ 1 s", text)
    assert re.search(r"no deadlock +– +2/2 ✓ +2/2 ✓ +2/2 ✓ += 0 \(advisory\)", text)
    rows = {line.split(" | ")[0] for line in markdown.render(realistic()).splitlines() if " | 2/2 ✓ |" in line}
    assert len(rows) == 5


def test_what_is_missed_is_told_with_units_and_rounds() -> None:
    summary = markdown.render(realistic()).replace("\\", "")
    assert (
        "✗ **mysql**: write tail, direct log_metric at 20 and 1 more: 1.24 s (1.15 s to 1.34 s), limit ≤ 1 s" in summary
    )
    assert (
        "? **timescaledb**: reads beside writes, direct mixed at 20: 430 ms (312 ms to 560 ms), limit ≤ 500 ms; "
        "about 13 rounds in all would decide it" in summary
    )
    assert "**sqlite**: no deadlock" not in summary


def test_the_screen_does_not_repeat_what_a_headline_says() -> None:
    text = " ".join(printed(realistic(), width=160).split())
    assert text.count("reads beside writes, direct mixed at 20") == 1


def test_every_candidate_verdict_and_reason_is_in_every_format(results: Results, text: str) -> None:
    if results.run.title == HOSTILE:
        return
    texts = [Page(text).text, unescape(markdown.render(results)).replace("\\", ""), printed(results, width=600)]
    reasons = [(each.candidate, each.reason) for each in summarise(results).headlines]
    for each_format in texts:
        for candidate, reason in reasons:
            assert candidate in each_format
            assert reason in each_format
        assert {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}[results.verdict] in each_format


def test_the_method_speaks_of_the_loop_that_was_used() -> None:
    results = realistic()
    opened = results.model_copy(update={"run": results.run.model_copy(update={"loop": "open"})})
    assert "Open loop" in html.render(opened)
    assert "Open loop" not in html.render(results)


def test_settings_durability_and_command_are_on_the_page() -> None:
    results = realistic()
    page = Page(html.render(results)).text
    for each in results.candidates:
        assert each.server_version in page
        assert each.durability in page
        for name, value in each.settings.items():
            assert name in page
            assert value in page
    assert results.run.command in page
    assert "coordinated omission" in page
    assert "kill -9" in page


def test_rows_found_wrong_are_shown() -> None:
    assert "run 3a, key loss, step 7: acknowledged, absent" in Page(html.render(broken())).text


def test_mariadb_is_never_called_mysql() -> None:
    results = realistic()
    candidates = [each.model_copy(update={"store": "mariadb"}) for each in results.candidates]
    assert "MariaDB is not MySQL" in html.render(results.model_copy(update={"candidates": candidates}))
    assert "MariaDB" not in html.render(results)


@pytest.mark.parametrize("name", ["hostile", "hostile_open", "hostile_faults"])
def test_hostile_names_stay_text(name: str) -> None:
    results = EVERY[name]()
    page = html.render(results)
    assert "<script" not in page
    assert "script" not in Page(page).tags
    summary = markdown.render(results)
    fence = summary.index("````sh") if "````sh" in summary else summary.index("```sh")
    assert "<script" not in summary[:fence]
    for text in (page, summary, junit.render(results), printed(results)):
        assert "\x1b" not in text


def test_a_command_cannot_close_its_code_block() -> None:
    results = realistic()
    run = results.run.model_copy(update={"command": "run\n```\n# heading"})
    summary = markdown.render(results.model_copy(update={"run": run}))
    assert summary.rstrip().endswith("````")


def test_markdown_tables_have_as_many_cells_in_every_row(results: Results) -> None:
    lines = markdown.render(results).split("````sh")[0].split("```sh")[0].splitlines()
    width = 0
    for line in lines:
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert width in (0, cells)
        width = cells


def test_markdown_is_short() -> None:
    assert len(markdown.render(realistic())) < 20_000


def test_junit_is_valid_and_counts_right(results: Results) -> None:
    root = ET.fromstring(junit.render(results))
    cases = root.findall(".//testcase")
    failures = root.findall(".//failure")
    gating = [each for each in results.criteria if each.gating and not each.reference and each.outcome != "pass"]
    extra = int(results.verdict != "pass" and not gating)
    assert len(cases) == len(results.criteria) + extra == int(root.get("tests", ""))
    assert len(failures) == len(gating) + extra == int(root.get("failures", ""))
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall(".//failure"))


def test_junit_names_are_unique_even_where_criteria_share_one() -> None:
    results = realistic()
    others = [each.model_copy(update={"expression": "x"}) for each in results.criteria]
    twice = [*results.criteria, *results.criteria, *others]
    root = ET.fromstring(junit.render(results.model_copy(update={"criteria": twice})))
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(names) == len(set(names)) == 3 * len(results.criteria)


def test_junit_tells_inconclusive_from_failed_and_never_fails_what_decides_nothing() -> None:
    root = ET.fromstring(junit.render(realistic()))
    kinds = {
        (case.get("classname"), failure.get("type"))
        for case in root.iter("testcase")
        for failure in case.iter("failure")
    }
    assert kinds == {("mysql", "fail"), ("timescaledb", "inconclusive")}
    assert all(
        "reference: " in (each.text or "") for each in root.findall(".//testcase[@classname='sqlite']/system-out")
    )
    assert any((each.text or "").startswith("advisory: ") for each in root.iter("system-out"))


def test_a_run_without_criteria_is_not_green() -> None:
    root = ET.fromstring(junit.render(empty()))
    assert [each.get("type") for each in root.iter("failure")] == ["inconclusive"]


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(results: Results, width: int) -> None:
    assert all(cell_len(line) <= width for line in printed(results, width).splitlines())


def test_the_whole_run_is_one_screen() -> None:
    text = printed(realistic(), width=100)
    assert len(text.splitlines()) <= 50
    assert text.index("✗ FAIL") < text.index("mixed, 20 writers") < text.index("criteria: cells passed")


def test_four_stores_share_one_table_at_80_columns() -> None:
    assert re.search(r"postgresql +timescaledb +mysql +limit", printed(realistic()))


@pytest.mark.parametrize("width", [60, 72, 80, 90, 100, 120])
def test_no_word_of_the_table_is_cut_at_its_edge(width: int) -> None:
    text = printed(broken(), width)
    table = re.split(r"[\s/]+", text[text.index("\n\nmixed,") : text.index("Scope ")])
    for word in ("(advisory)", "99.9", "invariants", "violated", "timescaledb", "duplicated"):
        assert word in table


def test_a_narrow_terminal_gets_the_reference_in_every_part() -> None:
    text = printed(realistic(), width=50)
    assert len(re.findall(r"\(ref\.\)", text)) >= 5


def test_a_terminal_without_unicode_gets_words_it_can_print(results: Results) -> None:
    assert printed(results, encoding="ascii")


def test_no_colour_where_it_is_no_terminal() -> None:
    assert "\x1b" not in printed(realistic())


def test_all_files_are_written_and_no_draft_stays(results: Results, tmp_path: Path) -> None:
    paths = write_all(results, tmp_path)
    assert [path.name for path in paths] == ["report.html", "report.md", "junit.xml"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert all(path.stat().st_size for path in paths)
