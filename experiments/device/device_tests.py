"""The tests that are marked `device`, on the device itself."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Any

from experiments.device import processes
from experiments.device.report import Report, Setting

LIMIT = 190.0  # seconds
PLATFORM = "TRON_TESTS_PLATFORM"  # read by tests/conftest.py
ON_DEVICE = ("-m", "device")
# They compile much and compute little, so several processes share a GPU and a host's
# cores, where pytest-xdist is installed; a TPU belongs to one process.
SIDE_BY_SIDE = ("-n", "6", "--dist", "loadfile")
# Enough to show that pytest runs and is understood.
REHEARSED = ("tests/test_losses.py", "tests/test_metrics.py")
TAIL = 40  # lines of output
OUTCOME = re.compile(r"(?:::.*|^\[gw\d+\].*) (PASSED|FAILED|ERROR|SKIPPED)\b")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|deselected|xfailed|xpassed)")


def run(setting: Setting, report: Report) -> None:
    platform, chosen = ("cpu", REHEARSED) if setting.rehearse else ("device", ON_DEVICE)
    folder = setting.folder / "pytest"
    folder.mkdir()
    output = folder / "output.txt"
    # A name a line, so that something is known where it does not come to its end.
    shown = ["-m", "pytest", *chosen]
    command = [sys.executable, *shown, "-vv", "-ra", "--tb=short"]
    # A warning of another version of a package says nothing of the device.
    command += ["-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    command += [f"--basetemp={folder / 'temporary'}"]
    if "TPU" not in setting.device and importlib.util.find_spec("xdist"):
        command += SIDE_BY_SIDE
    with open(output, "wb") as stdout:
        ended = processes.run(
            command,
            folder,
            LIMIT,
            # Some tests start processes of their own, which need memory too.
            environment={PLATFORM: platform, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            stdout=stdout.fileno(),
        )
    lines = output.read_text(errors="replace").splitlines()
    counted = counts(lines)
    report.add(command=" ".join(shown), **counted, tail=lines[-TAIL:])
    if ended.error or not counted["passed"]:
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        report.fail(f"pytest: {ended.error or 'no test passed'}; {last[:200]}")


def counts(lines: list[str]) -> dict[str, int]:
    """How many tests passed, failed (or raised) and were skipped.

    Args:
      lines: what pytest printed.

    Returns:
      passed, failed, skipped; by the lines of the tests where pytest did not come to
      its end.
    """
    summary = next((x for x in reversed(lines) if re.search(r" in [\d.]+s", x)), "")
    found = {kind.rstrip("s"): int(n) for n, kind in COUNT.findall(summary)}
    if not summary:
        ended = [match[1].lower() for line in lines if (match := OUTCOME.search(line))]
        found = {kind: ended.count(kind) for kind in set(ended)}
    return {
        "passed": found.get("passed", 0),
        "failed": found.get("failed", 0) + found.get("error", 0),
        "skipped": found.get("skipped", 0),
    }


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``; the end of the output where not all passed."""
    if "passed" not in figures:
        return "pytest did not run."
    line = ", ".join(f"{figures[k]} {k}" for k in ("passed", "failed", "skipped"))
    text = f"`{figures['command']}`: {line}"
    if figures["failed"] or not figures["passed"]:
        text += "\n\n```\n" + "\n".join(figures["tail"]) + "\n```"
    return text
