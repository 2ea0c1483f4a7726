"""``data_prep.events --dry_run``: what would become of a log, and nothing written."""

import functools
import os
import re

import pytest
from any_format import FORMATS, write_log

from data_prep import events
from data_prep.programs import rehearsal
from tron_jax.console.program import run

T = 1_700_000_000
DAY = 86_400
ROWS = [(n // 3, n % 5, T + n * 600) for n in range(1200)]


def status_of(log, *args):
    argv = ["events", f"--train={log}", "--session=s", "--item=i", "--time=t"]
    return run(events.main, events.define_flags(), [*argv, "--dry_run", *args])


@pytest.fixture
def few(monkeypatch):
    """The first 300 rows are read, not a million."""
    rehearse = functools.partial(rehearsal.rehearse, count=300)
    monkeypatch.setattr(events, "rehearse", rehearse)


@pytest.mark.parametrize("name", FORMATS)
def test_a_log_is_shown_and_nothing_is_written(tmp_path, capsys, monkeypatch, name):
    log = write_log(tmp_path / f"log.{name}", ROWS)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert status_of(log, f"--out={tmp_path}/out", "--test_days=1") == 0
    said, warned = capsys.readouterr()
    assert warned == ""
    assert os.listdir(tmp_path) == [log.name]
    for line in ("times: 2023-11-14 to 2023-11-23", "read: 400 sessions, 1,200 events"):
        assert line in said
    assert re.search(r"column 's': (string|int64)\n", said)
    assert "\n  2023-11-14 22:13:20  0:  0 1 2\n" in said
    assert "first test sessions" in said
    assert "dry run of the whole log, 1,200 events; nothing was written" in said
    assert "fingerprint" not in said


def test_no_folder_is_needed(tmp_path, capsys):
    assert status_of(write_log(tmp_path / "log.csv", ROWS)) == 0
    assert "first test sessions" not in capsys.readouterr().out


@pytest.mark.parametrize("name", FORMATS)
def test_of_a_large_log_the_beginning_is_read(tmp_path, capsys, few, name):
    log = write_log(tmp_path / f"log.{name}", ROWS)
    assert status_of(log) == 0
    said = capsys.readouterr().out
    assert "read: 100 sessions, 300 events" in said
    assert "times: 2023-11-14 to 2023-11-17" in said
    (about,) = re.findall(r"the first 300 of about ([\d,]+) events", said)
    assert 1200 <= int(about.replace(",", "")) < 1800
    assert re.search(
        r"the whole takes about [\d.]+ minutes and [\d.]+ [MG]B of disk", said
    )


def test_the_beginning_may_be_shorter_than_what_is_split_off(tmp_path, capsys, few):
    log = write_log(tmp_path / "log.csv", ROWS)  # of 9 days, 3 of which are read
    assert status_of(log, "--test_days=5") == 0
    said = capsys.readouterr().out
    assert "too few days to split off --test_days=5" in said
    assert "first test sessions" not in said
    assert status_of(log, "--test_days=1") == 0
    assert "too few days" not in capsys.readouterr().out


def test_what_would_be_refused_is(tmp_path, capsys):
    for rows, args, what in (
        ([*ROWS, (1, None, T)], (), "row 1202, column 'i': empty"),
        (ROWS, ("--test_days=30",), "no session of 2 events is left to train on"),
        (
            [(s, i, 20231114) for s, i, _ in ROWS],
            ("--test_days=1",),
            "all times lie in 1970 (1970-08-23)",
        ),
    ):
        log = write_log(tmp_path / "log.csv", rows)
        assert status_of(log, *args) == 1
        assert what in capsys.readouterr().err


def test_sessions_that_last_for_days_are_said(tmp_path, capsys):
    rows = [(n % 5, n % 3, T + DAY * n) for n in range(60)]
    assert status_of(write_log(tmp_path / "log.csv", rows)) == 0
    assert "5 of 5 sessions (100%) last more than a day" in capsys.readouterr().err


def test_cut_sessions_are_shown(tmp_path, capsys):
    rows = [(n % 5, n % 3, T + DAY * (n // 10)) for n in range(60)]
    assert status_of(write_log(tmp_path / "log.csv", rows), "--session_gap=1800") == 0
    said, warned = capsys.readouterr()
    assert "  0#1:  0 2\n" in said
    assert "sessions cut at pauses of more than 1800 s" in said
    assert warned == ""


def test_without_a_dry_run_a_folder_is_needed(tmp_path, capsys):
    log = write_log(tmp_path / "log.csv", ROWS)
    assert status_of(log, "--nodry_run") == 1
    assert capsys.readouterr().err == (
        "error: --out: expected a folder to write, new or empty\n"
    )
