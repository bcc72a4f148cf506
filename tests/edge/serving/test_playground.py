"""The page, as a person uses it: in Chromium, against the real thing. CACTUS_SCREENSHOTS names a folder for the two pictures of docs/."""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]
PATIENCE_MS = 60_000
SCREENSHOTS = os.environ.get("CACTUS_SCREENSHOTS")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here; install the system's package chromium")


@contextmanager
def opened(url, **context):
    """A page in a browser of its own, on which nothing may go wrong."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = browser.new_context(**context).new_page()
            problems = []
            page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.set_default_timeout(PATIENCE_MS)
            page.goto(url)
            page.wait_for_selector("#health.well")
            yield page, problems
        finally:
            browser.close()


def tokens(page, pane):
    return page.locator(f"#{pane} [role=option]").all_text_contents()


def until_done(page):
    page.wait_for_selector("#stop[disabled]")


@needs_chromium
def test_a_text_is_written_by_keyboard_alone_beside_the_clouds_own(serving):
    with opened(serving.drafting, viewport={"width": 1280, "height": 1180}, color_scheme="light") as (page, problems):
        page.keyboard.press("Tab")  # the first that takes it is the prompt
        page.keyboard.press("Control+A")
        page.keyboard.type("class Queue:\n    def push(self")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#drafted [role=option].accepted")
        page.wait_for_selector("#alone [role=option].decoded")
        until_done(page)
        drafted, alone = tokens(page, "drafted"), tokens(page, "alone")
        assert len(drafted) == len(alone) == 160
        assert "".join(drafted) == "".join(alone)  # one seed, one text, however it is drafted
        assert "accepted" in page.locator("#drafted .legend").inner_text()
        assert "160 decoded by the cloud" in page.locator("#alone .legend").inner_text()
        assert re.search(r"\d+ rounds in", page.locator("#timeline").get_attribute("aria-label"))
        assert "%" in page.locator("#positions").get_attribute("aria-label")
        sums = dict(zip(page.locator("#sums dt").all_text_contents(), page.locator("#sums dd").all_text_contents(), strict=True))
        assert float(sums["Tokens a decision"]) > 1.0
        assert all(int(part) > 100 for part in sums["Bytes up, down"].split(","))
        assert page.locator("#plan tr.chosen").count() == 1
        page.locator("#drafted .text").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        assert re.search(r"id \d+, (accepted|corrected|bonus|decoded), logprob -\d", page.locator("#detail").inner_text())
        if SCREENSHOTS:
            page.screenshot(path=Path(SCREENSHOTS) / "playground.png", full_page=True)
        assert problems == []


@needs_chromium
def test_it_works_on_a_phone_in_the_dark_with_a_budget(serving):
    phone = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "color_scheme": "dark", "is_mobile": True}
    with opened(serving.drafting, **phone) as (page, problems):
        page.fill("#max_tokens", "96")
        page.fill("#delta", "0.1")
        page.fill("#budget", "4")
        page.select_option("#beside", "off")
        page.click("#run")
        page.wait_for_selector("#drafted [role=option]")
        until_done(page)
        assert len(tokens(page, "drafted")) == 96
        spent = float(re.match(r"([\d.]+) of 4 nats", page.locator("#spent-text").inner_text())[1])
        assert 0 < spent <= 4
        assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing hangs over the edge
        if SCREENSHOTS:
            page.evaluate("document.querySelector('.panes').scrollIntoView()")
            page.screenshot(path=Path(SCREENSHOTS) / "playground-phone.png")
        assert problems == []


@needs_chromium
def test_escape_stops_what_is_asked_and_an_error_is_said(serving):
    with opened(serving.drafting, viewport={"width": 1000, "height": 900}) as (page, problems):
        page.fill("#max_tokens", "1500")
        page.select_option("#beside", "off")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#drafted [role=option]")
        page.keyboard.press("Escape")
        until_done(page)
        assert 0 < len(tokens(page, "drafted")) < 1500
        page.fill("#max_tokens", "4096")
        page.keyboard.press("Control+Enter")
        page.locator("#said", has_text="4096").wait_for()
        assert [problem for problem in problems if "400" not in problem] == []  # the browser's own line on the status


@needs_chromium
def test_text_that_looks_like_markup_is_text(serving):
    with opened(serving.drafting) as (page, problems):
        page.evaluate(
            """import("/playground/pane.js").then(({ Pane }) => {
                const pane = new Pane(document.querySelector("#drafted"), () => {});
                pane.add([{ text: "<img src=x onerror=alert(1)>", id: 1, origin: "accepted", logprob: -1, divergence: 0 }]);
            })"""
        )
        page.wait_for_selector("#drafted [role=option]")
        assert tokens(page, "drafted") == ["<img src=x onerror=alert(1)>"]
        assert page.locator("#drafted img").count() == 0
        assert problems == []


@needs_chromium
def test_sixty_tokens_a_second_are_shown_without_falling_behind(serving):
    """Rounds of three tokens come twenty times a second for a while; each must be on the page by the second frame after it came."""
    with opened(serving.drafting, viewport={"width": 1280, "height": 900}) as (page, problems):
        late = page.evaluate(
            """async () => {
                const { Pane } = await import("/playground/pane.js");
                const { Timeline } = await import("/playground/timeline.js");
                const pane = new Pane(document.querySelector("#drafted"), () => {});
                const timeline = new Timeline(document.querySelector("#timeline"));
                pane.clear("prompt");
                const round = { draft_ms: 5, wait_ms: 30, queue_ms: 1, verify_ms: 9, num_drafted: 16, length: 6, num_accepted: 2 };
                const frame = () => new Promise(requestAnimationFrame);
                let late = 0;
                for (let sent = 1; sent <= 100; sent += 1) {
                    pane.add([..."abc"].map((text) => ({ text, id: 1, origin: "accepted", logprob: -1, divergence: 0 })));
                    timeline.add({ ...round, at_ms: 50 * sent });
                    await frame();
                    await frame();
                    late += document.querySelectorAll("#drafted [role=option]").length !== 3 * sent;
                    await new Promise((resolve) => setTimeout(resolve, 15));
                }
                return late;
            }"""
        )
        assert late == 0
        assert problems == []


def test_the_page_loads_and_asks_nothing_but_its_server(serving):
    page = httpx.get(serving.drafting)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert named
    assert all(path.startswith("/playground/") for path in named)
    for path in {*named, "/playground/pane.js", "/playground/stream.js", "/playground/timeline.js", "/playground/figures.js"}:
        assert httpx.get(serving.drafting + path).status_code == 200
    assert httpx.get(f"{serving.drafting}/playground/none.js").status_code == 404
