"""The pages of a server, in a browser: items are clicked, and stay text."""

import json
import sys
import time
from pathlib import Path

import pytest
from served import serving, with_ids

sys.path.append(str(Path(__file__).parent / "browser"))
import chromium

pytestmark = [
    pytest.mark.usefixtures("compiled"),
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium"),
]
HOSTILE = "<img src=x onerror=document.title=1>"


@pytest.fixture
def browser(tmp_path):
    made = chromium.Browser(chromium.find(), str(tmp_path / "profile"))
    for domain in ("Page", "Runtime", "Log"):
        made.call(f"{domain}.enable")
    yield made
    made.close()


def until(browser, expression):
    end = time.monotonic() + 30
    while not browser.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def opened(browser, server, path=""):
    browser.call("Page.navigate", url=f"http://localhost:{server.port}/{path}")


def shown(browser, which):
    """The texts of a list of the page."""
    script = f"[...document.querySelectorAll('#{which} span')].map(x => x.textContent)"
    return json.loads(browser.evaluate(f"JSON.stringify({script})"))


def complaints(browser):
    kinds = ("Log.entryAdded", "Runtime.exceptionThrown")
    return [event for event in browser.events if event.get("method") in kinds]


def served_with(tiny_export, tmp_path, raw_ids):
    return serving(with_ids(tiny_export, tmp_path / "model", raw_ids), most=20)


@pytest.mark.parametrize(
    "raw_ids",
    [
        [f"{HOSTILE} {n}" for n in range(300)],
        list(range(2**63 - 300, 2**63)),  # more than a JavaScript number holds
    ],
    ids=["text", "64 bits"],
)
def test_items_are_clicked_and_recommendations_change(
    browser, tiny_export, tmp_path, raw_ids
):
    with served_with(tiny_export, tmp_path, raw_ids) as server:
        opened(browser, server)
        until(browser, "document.querySelectorAll('#list span').length === 20")
        clicked = []
        for _ in range(3):
            before = shown(browser, "list")
            clicked.append(before[0])
            browser.evaluate("document.querySelector('#list button').click()")
            changed = (
                f"document.querySelector('#list span').textContent !== {before[0]!r}"
            )
            until(browser, changed)
        assert shown(browser, "session") == clicked
        kind = str if isinstance(raw_ids[0], str) else int
        items = [kind(item) for item in clicked]
        expected = server.recommend(items=items, exclude=items).items
        assert shown(browser, "list") == list(map(str, expected))
        assert browser.evaluate("document.querySelectorAll('img').length") == 0
        assert browser.evaluate("document.title") != "1"
        browser.evaluate("document.getElementById('clear').click()")
        until(browser, "document.querySelectorAll('#session li').length === 0")
        assert complaints(browser) == []


def test_an_id_is_typed(browser, tiny_export):
    with serving(tiny_export) as server:
        opened(browser, server)
        until(browser, "document.querySelectorAll('#list span').length === 20")
        for text, words in (("x", "expected a whole number"), ("9" * 20, "64 bits")):
            browser.evaluate(
                f"document.getElementById('id').value = '{text}';"
                "document.querySelector('#add button').click()"
            )
            said = "document.getElementById('problem').textContent"
            until(browser, f"{said}.includes('{words}')")


def test_the_api_is_described(browser, tiny_export):
    with serving(tiny_export) as server:
        opened(browser, server, "docs")
        until(browser, "document.querySelectorAll('article').length >= 6")
        text = browser.evaluate("document.body.innerText")
        for words in ("POST /recommend/batch", "at most 10,000", "422", "Retry-After"):
            assert words in text
        assert complaints(browser) == []
