"""Opens a comparison's page in headless Chromium and tries what a reader would do.

    python tests/browser/check_page.py comparison.html [--out=DIR]

Sorts each table by a click on each head, and by the keyboard; looks for anything wider
than a phone; fails on errors in the console and on requests to a network. Writes
phone.png (light) and desktop.png (dark). Needs Chromium (Debian: chromium), which it
speaks to by the DevTools protocol over a pipe, and nothing else of Python's.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
from pathlib import Path

from chromium import NAMES, Browser, Wrong, find

PHONE, DESKTOP = (360, 740), (1280, 900)
TABLES = """
[...document.querySelectorAll("table")].map((table) => ({
  heads: [...table.tHead.rows[table.tHead.rows.length - 1].cells].map((head) => ({
    number: head.classList.contains("number"), name: head.textContent })),
  rows: [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) =>
    [cell.textContent, cell.dataset.value ?? null])) }))
"""
HEAD = """
(() => {{ const table = document.querySelectorAll("table")[{table}];
  const rows = table.tHead.rows;
  return rows[rows.length - 1].cells[{column}]; }})()
"""
WHERE = """
(() => {{ const button = {head}.querySelector("button");
  button.scrollIntoView({{ block: "center", inline: "center" }});
  const box = button.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2]; }})()
"""
TOO_WIDE = """
[...document.querySelectorAll("body *")].filter((element) =>
  !element.closest(".box > *") && !element.closest("svg *") &&
  element.getBoundingClientRect().right > %d + 0.5)
  .map((element) => element.outerHTML.slice(0, 120))
"""


def check(program: str, page: Path, out: Path | None = None) -> dict[str, int]:
    """Opens a page and tries it.

    Args:
      program: Chromium.
      page: the HTML file.
      out: folder of the screenshots; none are made where None.

    Returns:
      How many tables, sorted columns and pictures there were.

    Raises:
      Wrong: at the first thing that a reader would stumble over.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                browser.call(f"{domain}.enable")
            _look(browser, page, PHONE, "light")
            _refuse_overflow(browser, PHONE[0])
            if out:
                _screenshot(browser, out / "phone.png")
            _look(browser, page, DESKTOP, "dark")
            _refuse_overflow(browser, DESKTOP[0])
            if out:
                _screenshot(browser, out / "desktop.png")
            counts = _sort_all(browser)
            counts["pictures"] = _count_pictures(browser)
            _refuse_events(browser, page)
        finally:
            browser.close()
    return counts


def _look(browser: Browser, page: Path, size: tuple[int, int], scheme: str) -> None:
    """Loads the page as on a screen of that size and scheme."""
    _refuse_events(browser, page)
    browser.events.clear()
    width, height = size
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=2 if size == PHONE else 1,
        mobile=size == PHONE,
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.call("Emulation.setEmulatedMedia", features=[feature])
    opened = browser.call("Page.navigate", url=page.resolve().as_uri())
    if "errorText" in opened:
        raise Wrong(f"cannot be opened: {opened['errorText']}")
    browser.wait_for("Page.loadEventFired")
    colours = browser.evaluate(
        "['color', 'backgroundColor'].map((of) => getComputedStyle(document.body)[of])"
    )
    text, ground = (_brightness(colour) for colour in colours)
    if (text > ground) != (scheme == "dark"):
        raise Wrong(f"in the {scheme} scheme text is {colours[0]} on {colours[1]}")


def _brightness(colour: str) -> float:
    return sum(float(part) for part in colour.strip("rgba()").split(",")[:3])


def _refuse_overflow(browser: Browser, width: int) -> None:
    """Looks for what is wider than the screen, with everything unfolded.

    A phone zooms out of a page that is too wide, so that the page's own measure of the
    screen grows with it.
    """
    unfold = "document.querySelectorAll('details').forEach((d) => { d.open = %s; })"
    browser.evaluate(unfold % "true")
    needed = browser.evaluate("document.documentElement.scrollWidth")
    wide = browser.evaluate(TOO_WIDE % width)
    if needed > width or wide:
        raise Wrong(f"wider than the screen, {needed} of {width} px: {wide}")
    browser.evaluate(unfold % "false")


def _sort_all(browser: Browser) -> dict[str, int]:
    """Sorts every table by each column, twice by clicks and once by the keyboard."""
    browser.evaluate(
        "document.querySelectorAll('details').forEach((d) => d.open = true)"
    )
    tables = browser.evaluate(TABLES)
    if not tables:
        raise Wrong("no table")
    for number, table in enumerate(tables):
        for column, head in enumerate(table["heads"]):
            element = HEAD.format(table=number, column=column)
            first = "descending" if head["number"] else "ascending"
            second = "ascending" if head["number"] else "descending"
            for order, act in (
                (first, _click),
                (second, _click),
                (first, _press_enter),
            ):
                act(browser, element)
                now = browser.evaluate(TABLES)[number]
                said = browser.evaluate(f"{element}.getAttribute('aria-sort')")
                what = f"table {number} by {head['name']!r}, {order}"
                if said != order:
                    raise Wrong(f"{what}: aria-sort is {said}")
                if sorted(map(str, now["rows"])) != sorted(map(str, table["rows"])):
                    raise Wrong(f"{what}: the rows are no longer the same")
                _refuse_disorder(
                    [row[column] for row in now["rows"]], head, order, what
                )
    return {"tables": len(tables), "columns": sum(len(t["heads"]) for t in tables)}


def _click(browser: Browser, element: str) -> None:
    x, y = browser.evaluate(WHERE.format(head=element))
    for kind in ("mousePressed", "mouseReleased"):
        browser.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
        )


def _press_enter(browser: Browser, element: str) -> None:
    browser.evaluate(f"{element}.querySelector('button').focus()")
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    browser.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **key)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **key)


def _refuse_disorder(cells: list, head: dict, order: str, what: str) -> None:
    values = [value for _, value in cells if value is not None]
    if [value for _, value in cells[: len(values)]] != values:
        raise Wrong(f"{what}: what is unknown is not last: {cells}")
    if head["number"]:
        numbers = [float(value) for value in values]
        if numbers != sorted(numbers, reverse=order == "descending"):
            raise Wrong(f"{what}: {numbers}")
    elif order == "descending" and len(set(values)) > 1 and values[0] == min(values):
        raise Wrong(f"{what}: {values}")


def _count_pictures(browser: Browser) -> int:
    """Counts the pictures, each of which must be seen and have words with figures."""
    pictures = browser.evaluate(
        "[...document.querySelectorAll('.picture')].map((p) => ["
        "p.getAttribute('role'), p.getAttribute('aria-label'), "
        "p.querySelector('svg').clientHeight])"
    )
    for role, words, height in pictures:
        if role != "img" or not any(c.isdigit() for c in words or "") or height < 50:
            raise Wrong(f"a picture of role {role}, {height} px high, says {words!r}")
    return len(pictures)


def _refuse_events(browser: Browser, page: Path) -> None:
    """Raises Wrong for an error in the console, and for a request beyond the page."""
    for event in browser.events:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            raise Wrong(f"a script failed: {params['exceptionDetails']}")
        if method == "Log.entryAdded" and params["entry"]["level"] != "verbose":
            raise Wrong(f"in the console: {params['entry']['text']}")
        if method == "Runtime.consoleAPICalled":
            raise Wrong(f"in the console: {params['args']}")
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if url != page.resolve().as_uri() and not url.startswith("data:"):
                raise Wrong(f"a request for {url}")


def _screenshot(browser: Browser, path: Path) -> None:
    """Writes the whole page as a picture."""
    size = browser.call("Page.getLayoutMetrics")["cssContentSize"]
    clip = {
        "x": 0,
        "y": 0,
        "scale": 1,
        "width": size["width"],
        "height": size["height"],
    }
    shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    path.write_bytes(base64.b64decode(shot["data"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, help="folder of the screenshots")
    options = parser.parse_args()
    program = find()
    if program is None:
        print(f"no Chromium found; looked for {', '.join(NAMES)}", file=sys.stderr)
        return 1
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    try:
        counts = check(program, options.page, options.out)
    except Wrong as wrong:
        print(f"{options.page}: {wrong}", file=sys.stderr)
        return 1
    print(f"{options.page}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
