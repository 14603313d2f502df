"""The web interface as a person uses it: start a test, watch its tab, stop it, open the report; and foreign pages."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from locusts import Locust, scenario
from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from stores import wait_until

pytestmark = pytest.mark.browser
LONG_ENOUGH = re.compile(r"measured for (8|9|\d\d+) s")
SLOW_MS = 120_000  # servers start, and the machine may be busy
TAIL = '[[criteria]]\nname = "tail"\nexpression = "p50_ms <= 60000"\n'


@pytest.fixture(scope="module")
def site(public_tmp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Locust]]:
    """Locust's web interface on a free port: (its address, the process)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = tmp_path_factory.mktemp("ui")
    arguments = ("--web-port", str(port), "-u", "4", "--tracking-url", "")
    secret = {"TRACKBENCH_STORE_URL": "postgresql://ann:s3cret@127.0.0.1:1/mlflow"}
    with Locust(public_tmp / "ui", out, *arguments, text=scenario(TAIL), **secret) as locust:
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert locust.process.poll() is None, locust.stderr
            try:
                return httpx.get(url).is_success
            except httpx.TransportError:
                return False

        wait_until(answers, "the web interface", 60)
        yield url, locust


@pytest.fixture
def page(browser: Browser, site: tuple[str, Locust]) -> Iterator[Page]:
    """The web interface in a tab of its own; what goes wrong in it fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    opened = context.new_page()
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(message.text)

    opened.on("console", note)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.set_default_timeout(SLOW_MS)
    opened.goto(site[0])
    yield opened
    context.close()
    assert problems == []


def lines_drawn(page: Page) -> int:
    """How many of the charts' lines have more than one point."""
    paths = page.locator("#trackbench path.tb-line").evaluate_all("all => all.map(one => one.getAttribute('d'))")
    return sum(path.count("L") > 0 for path in paths)


def test_a_whole_test(page: Page, site: tuple[str, Locust], tmp_path: Path) -> None:
    picked = page.locator("tr", has=page.locator("input:checked"))
    expect(picked).to_have_count(1)
    expect(picked).to_contain_text("LogMetricUser")
    page.screenshot(path=tmp_path / "1-form.png")
    page.get_by_role("button", name="Start").last.click()
    expect(page.locator("#trackbench-notice")).to_be_visible()
    page.screenshot(path=tmp_path / "2-preparing.png")

    page.get_by_role("tab", name="Trackbench").click()
    row = page.locator("tr", has_text="log_metric").first
    expect(row).to_contain_text("sqlite", timeout=SLOW_MS)
    page.wait_for_function("document.querySelectorAll('#trackbench path.tb-line').length === 4")
    wait_until(lambda: lines_drawn(page) == 4, "lines in every chart", 60)
    held = page.locator("#trackbench .tb-criteria tr", has_text="tail")
    expect(held).to_contain_text("holds so far", timeout=SLOW_MS)
    expect(page.locator("#trackbench .tb-criteria tr", has_text="whole")).to_contain_text("known after the test")
    expect(page.locator("#trackbench .tb-title")).to_contain_text(LONG_ENOUGH, timeout=SLOW_MS)
    page.screenshot(path=tmp_path / "3-running.png")

    page.get_by_role("tab", name="Statistics").click()
    expect(page.locator("#trackbench")).to_be_hidden()
    page.get_by_role("tab", name="Trackbench").click()
    expect(page.locator("#trackbench")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    result = page.locator("#tb-result")
    expect(result).to_contain_text("PASS", timeout=SLOW_MS)
    expect(page.locator("#trackbench .tb-criteria tr", has_text="whole")).to_contain_text("pass")
    page.screenshot(path=tmp_path / "4-result.png")

    with page.context.expect_page() as opened:
        result.get_by_role("link", name="Open the report").click()
    report = opened.value
    report.wait_for_load_state()
    expect(report.locator("h1")).to_contain_text("tiny")
    expect(report.locator("body")).to_contain_text("PASS")
    report.screenshot(path=tmp_path / "5-report.png")
    report.close()

    alone = page.context.new_page()
    alone.goto(f"{site[0]}/trackbench/")
    expect(alone.locator(".tb-rows")).to_contain_text("log_metric")
    alone.screenshot(path=tmp_path / "6-alone.png")
    alone.close()
    shown = page.content() + httpx.get(f"{site[0]}/trackbench/data").text + httpx.get(site[0]).text
    assert "s3cret" not in shown


def test_what_is_wrong_is_said_in_the_form(page: Page, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Trackbench").or_(page.get_by_text("Custom parameters")).first.wait_for()
    if page.get_by_role("button", name="New").count():  # a test has run before
        page.get_by_role("button", name="New").click()
    page.get_by_text("Custom parameters").last.click()
    page.get_by_label("Tracking Url").last.fill("http://127.0.0.1:9")
    page.get_by_role("button", name="Start").last.click()
    refusal = page.get_by_role("alert").filter(has_text="127.0.0.1:9").first
    expect(refusal).to_be_visible(timeout=SLOW_MS)
    page.screenshot(path=tmp_path / "refused.png")


def test_a_page_of_another_site_can_start_and_read_nothing(browser: Browser, site: tuple[str, Locust]) -> None:
    url, _ = site
    foreign = browser.new_page()
    foreign.route("http://evil.test/**", lambda route: route.fulfill(body="<h1>evil</h1>", content_type="text/html"))
    foreign.goto("http://evil.test/")
    tried: Any = foreign.evaluate(
        """async (url) => {
            const told = {};
            const form = new URLSearchParams({ user_count: "1", spawn_rate: "1" });
            try { await fetch(`${url}/swarm`, { method: "POST", body: form, mode: "no-cors" }); } catch (error) {}
            told.read = await fetch(`${url}/trackbench/data`).then((answer) => answer.text()).catch(() => null);
            return told;
        }""",
        url,
    )
    foreign.close()
    assert tried["read"] is None
    before = httpx.get(f"{url}/trackbench/data").json()["stage"]
    assert before in (None, "over")  # nothing is being prepared
    for headers in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Host": "evil.test"}):
        answer = httpx.post(f"{url}/swarm", headers=headers, data={"user_count": "1", "spawn_rate": "1"})
        assert answer.status_code == 403, headers
        assert httpx.get(f"{url}/trackbench/data", headers=headers).status_code == 403
    assert httpx.get(f"{url}/trackbench/data").json()["stage"] == before
