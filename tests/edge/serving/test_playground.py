"""The page, as a person uses it: in Chromium, against the real thing. CACTUS_SCREENSHOTS names a folder for the two pictures of docs/."""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Error, sync_playwright

from tests.edge.serving.paced_server import PER_ROUND, paced_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
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


def sums(page):
    """What the table of sums says: a name, and the figure with drafts and of the cloud alone."""
    rows = page.locator("#sums tr").all()[1:]
    return {name: figures for name, *figures in (row.locator("td").all_text_contents() for row in rows)}


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.closest('section')?.id")


@needs_chromium
def test_a_text_is_written_by_keyboard_alone_beside_the_clouds_own(serving):
    with opened(serving.drafting, viewport={"width": 1280, "height": 1400}, color_scheme="light") as (page, problems):
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
        counts = {
            origin: page.locator(f"#drafted [role=option].{origin}").count() for origin in ("accepted", "corrected", "bonus", "decoded")
        }
        assert sum(counts.values()) == 160
        assert counts["accepted"] > 0
        assert f"{counts['accepted']} accepted" in page.locator("#drafted .legend").inner_text()
        assert "160 decoded by the cloud" in page.locator("#alone .legend").inner_text()
        assert re.search(r"\d+ rounds in", page.locator("#timeline").get_attribute("aria-valuetext"))
        assert "%" in page.locator("#positions").get_attribute("aria-label")
        said = sums(page)
        assert float(said["Tokens a decision"][0]) > 1.0
        assert said["of them stood"] == [str(counts["accepted"]), "–"]
        assert all(int(figure.replace(",", "")) > 0 for name in ("Bytes up", "Bytes down") for figure in said[name])
        assert "times as fast as the cloud alone" in page.locator("#sums").inner_text()
        assert re.match(r"(wait|stream|off): ", page.locator("#plan").inner_text())
        assert page.locator("#plan tr.chosen").count() == 1
        reached = []
        while focused(page) != "drafted":
            page.keyboard.press("Tab")
            reached.append(focused(page))
        assert {"max_tokens", "temperature", "seed", "family", "delta", "budget", "objective", "beside", "run"} < set(reached)
        assert page.locator("#drafted .text").evaluate("each => getComputedStyle(each).outlineStyle") == "solid"  # where one is, is seen
        for key in ("End", "ArrowUp", "ArrowLeft", "ArrowDown", "ArrowLeft"):
            page.keyboard.press(key)
        place = int(page.locator("#drafted .here").get_attribute("data-place"))
        assert place < 159
        detail = page.locator("#detail").inner_text()
        assert re.search(r"(accepted|corrected|bonus|decoded), logprob -\d\S* \(\S+%\), id \d+, round \d+", detail)
        if SCREENSHOTS:
            page.screenshot(path=Path(SCREENSHOTS) / "playground.png", full_page=True)
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert focused(page) == "timeline"
        page.keyboard.press("End")
        assert re.match(r"round \d+ .*queue .*verifying ", page.locator("#detail").inner_text())
        assert page.locator("#drafted .of-round").count() > 0  # the tokens that came with it
        assert problems == []


@needs_chromium
def test_it_works_on_a_phone_in_the_dark_with_a_budget(serving):
    phone = {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "color_scheme": "dark",
        "is_mobile": True,
        "has_touch": True,
    }
    with opened(serving.drafting, **phone) as (page, problems):
        page.fill("#max_tokens", "96")
        page.fill("#delta", "0.1")
        page.fill("#budget", "4")
        page.select_option("#beside", "off")
        page.click("#run")
        page.wait_for_selector("#drafted [role=option]")
        until_done(page)
        assert page.locator("#said").inner_text() == ""
        assert len(tokens(page, "drafted")) == 96
        spent = float(re.match(r"([\d.]+) of 4 nats", page.locator("#spent-text").inner_text())[1])
        assert 0 < spent <= 4
        assert page.locator("#plan tr.chosen").count() == 1  # the tuner of paths tells another shape than that of trees
        page.locator("#drafted [role=option]").last.tap()
        assert "logprob" in page.locator("#detail").inner_text()
        assert page.locator("#detail").bounding_box()["y"] < 844  # in sight, wherever the token is
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
        assert page.locator("#said").inner_text() == "Stopped."
        assert 0 < len(tokens(page, "drafted")) < 1500
        page.fill("#max_tokens", "4096")
        page.keyboard.press("Control+Enter")
        page.locator("#said.wrong", has_text="4096").wait_for()
        page.route("**/v1/completions", lambda route: route.abort())
        page.keyboard.press("Control+Enter")
        page.locator("#said.wrong", has_text="cactus serve still runs").wait_for()
        page.route("**/v1/completions", lambda route: route.fulfill(body="data: {}\n\n"))
        page.keyboard.press("Control+Enter")
        page.locator("#said.wrong", has_text="broke off").wait_for()
        assert [problem for problem in problems if "Failed to load resource" not in problem] == []  # the browser's own line on each


@needs_chromium
def test_text_that_looks_like_markup_is_text(serving):
    with opened(serving.drafting) as (page, problems):
        page.evaluate(
            """import("/playground/pane.js").then(({ Pane }) => {
                const pane = new Pane(document.querySelector("#drafted"), [], () => {});
                pane.add([{ text: "<img src=x onerror=alert(1)>", id: 1, origin: "accepted", logprob: -1, divergence: 0 }]);
            })"""
        )
        page.wait_for_selector("#drafted [role=option]")
        assert tokens(page, "drafted") == ["<img src=x onerror=alert(1)>"]
        assert page.locator("#drafted img").count() == 0
        assert problems == []
        with pytest.raises(Error, match="TrustedHTML"):  # nor could the page ever make elements of a text
            page.evaluate("document.body.innerHTML = '<i></i>'")


# Of each token, in the order of the text: how long after it was sent it stood on the page, in seconds.
WATCH = """() => {
    const seen = (window.seen = new Map());
    new MutationObserver(() => {
        const now = Date.now() / 1000;
        const options = document.querySelectorAll("#drafted [role=option]");
        for (let place = seen.size; place < options.length; place += 1) seen.set(place, now - options[place].textContent);
    }).observe(document.querySelector("#drafted .text"), { childList: true, subtree: true });
}"""


@needs_chromium
def test_sixty_tokens_a_second_are_shown_without_falling_behind():
    """Under a text of 3,000 tokens, in both panes at once: a page that fell behind would be seconds late by the last ones."""
    num_before, num_paced = 3000, 240
    with paced_server(num_before, num_paced, 60) as url, opened(url, viewport={"width": 1280, "height": 900}) as (page, problems):
        page.evaluate(WATCH)
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#drafted [role=option]")
        until_done(page)
        lags_ms = [1000 * lag for lag in page.evaluate("[...window.seen.values()]")]
        assert len(lags_ms) == num_before + num_paced
        paced = sorted(lags_ms[num_before:])
        late = sorted(lags_ms[-20 * PER_ROUND :])  # those of the last second
        median, most_of, most = paced[len(paced) // 2], paced[int(0.95 * len(paced))], paced[-1]
        print(f"\nfrom sent to shown: median {median:.0f} ms, 95% within {most_of:.0f} ms, at most {most:.0f} ms")
        assert late[len(late) // 2] < 1000
        assert problems == []


def test_the_page_loads_and_asks_nothing_but_its_server(serving):
    page = httpx.get(serving.drafting)
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert named
    assert all(path.startswith("/playground/") for path in named)
    for path in {*named, *(f"/playground/{name}.js" for name in ("figures", "frame", "pane", "stream", "timeline"))}:
        assert httpx.get(serving.drafting + path).status_code == 200
    assert httpx.get(f"{serving.drafting}/playground/none.js").status_code == 404
