"""The tests that are marked `device`, on the device itself."""

from __future__ import annotations

import re
import sys
from typing import Any

from experiments.device import processes
from experiments.device.report import Report, Setting

LIMIT = 240.0  # seconds
PLATFORM = "TRON_TESTS_PLATFORM"  # read by tests/conftest.py
ON_DEVICE = ("-m", "device")
# Enough to show that pytest runs and is understood.
REHEARSED = ("tests/test_losses.py", "tests/test_metrics.py")
TAIL = 40  # lines of output
COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|deselected|xfailed|xpassed)")


def run(setting: Setting, report: Report) -> None:
    platform, chosen = ("cpu", REHEARSED) if setting.rehearse else ("device", ON_DEVICE)
    folder = setting.folder / "pytest"
    folder.mkdir()
    output = folder / "output.txt"
    command = [sys.executable, "-m", "pytest", *chosen, "-ra", "--tb=short"]
    # A warning of another version of a package says nothing of the device.
    command += ["-p", "no:cacheprovider", "-o", "filterwarnings=default"]
    command += [f"--basetemp={folder / 'temporary'}"]
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
    report.add(command=" ".join(command[1:-1]), **counted, tail=lines[-TAIL:])
    if ended.error or not counted["passed"]:
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        report.fail(f"pytest: {ended.error or 'no test passed'}; {last[:200]}")


def counts(lines: list[str]) -> dict[str, int]:
    """How many tests passed, failed (or raised) and were skipped.

    Args:
      lines: what pytest printed.

    Returns:
      passed, failed, skipped; 0 where pytest did not come to an end.
    """
    summary = next((x for x in reversed(lines) if re.search(r" in [\d.]+s", x)), "")
    found = {kind.rstrip("s"): int(n) for n, kind in COUNT.findall(summary)}
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
