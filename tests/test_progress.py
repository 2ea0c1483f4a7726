"""The line on the terminal that says how far a program is."""

import io

import pytest

from tron_jax.console import progress as progress_module
from tron_jax.console.progress import Progress, of_training


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    terminal, now = Terminal(), [0.0]
    with Progress(
        "training",
        186_670,
        unit="sessions",
        done=400,
        stream=terminal,
        clock=lambda: now[0],
    ) as progress:
        progress.update(400)
        now[0] = 0.1
        progress.update(500)  # too soon to be drawn
        now[0] = 10.0
        progress.update(20_400, loss=6.21234)
        now[0] = 50.0
        progress.update(40_400)  # the rate is that of the last 30 seconds
    first, second, third, wiped = terminal.getvalue().split("\r")[1:]
    assert first == "training    0%  400/186,670 sessions\x1b[K"
    assert second == (
        "training   11%  20,400/186,670 sessions  2,000/s  1:23 left  loss 6.212\x1b[K"
    )
    assert "  500/s  4:53 left" in third
    assert wiped == "\x1b[K"


def test_progress_towards_an_end_that_is_not_known_yet():
    terminal, now = Terminal(), [0.0]
    shown = Progress("reading", None, unit="", stream=terminal, clock=lambda: now[0])
    shown.update(0)
    shown.unit, shown.total = "bytes", 4000
    now[0] = 10.0
    shown.update(1000)
    first, second = terminal.getvalue().split("\r")[1:]
    assert first == "reading\x1b[K"
    assert second == "reading   25%  1,000/4,000 bytes  100/s  0:30 left\x1b[K"


def test_progress_is_silent_where_nobody_looks():
    stream = io.StringIO()
    with Progress("evaluating", 10, unit="events", stream=stream) as progress:
        progress.update(10)
        progress.clear()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("broken", [None, "closed", "gone"])
def test_progress_survives_a_missing_or_broken_stderr(monkeypatch, broken):
    def gone(text):
        raise BrokenPipeError

    stream = None if broken is None else Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    if broken == "closed":
        stream.close()
    with Progress("training", 10, unit="events") as progress:
        if broken == "gone":
            stream.write = gone
        progress.update(5)
        progress.update(10)


def test_progress_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    shown = Progress("evaluating", 0, unit="events", stream=terminal)
    shown.update(0)
    assert terminal.getvalue() == "\revaluating    0%  0\x1b[K"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (59.6, "1:00"), (725, "12:05"), (11045, "3:04:05")],
)
def testclock_time(seconds, text):
    assert progress_module.clock_time(seconds) == text


def test_what_a_training_run_shows():
    assert of_training(0.5, None) == {"epoch": 0.5}
    assert of_training(0.5, 6.2) == {"epoch": 0.5, "loss": 6.2}
