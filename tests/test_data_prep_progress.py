"""What a program tells a terminal while it works."""

import sys

from data_prep import console, events
from data_prep.console import Progress
from tron_jax.console.program import run


class Clock:
    """Time that passes a second whenever it is asked for."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now

    process_time = monotonic


def test_rate_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(console, "time", Clock())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = Progress()
    progress.stage("reading log.csv")
    progress.count("bytes", 1000, 4000)
    progress.close()
    told = capsys.readouterr().err
    # 1000 of 4000 bytes within 3 s of this clock.
    assert "reading log.csv:  25% 1,000 bytes, 333/s, 9 s left" in told
    assert told.endswith("\r\x1b[K")  # nothing stays on the line


def test_every_stage_of_a_log_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "time", Clock())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    log = tmp_path / "log.csv"
    log.write_text("session,item\n" + "".join(f"{i // 3},{i % 3}\n" for i in range(90)))
    argv = ["e", f"--train={log}", f"--out={tmp_path}/out", "--session=session"]
    assert run(events.main, events.define_flags(), [*argv, "--item=item"]) == 0
    told = capsys.readouterr().err
    for part in (
        " bytes, ",
        "filtering and sorting: 100% ",
        "putting sessions in order: 100% 30 sessions, ",
        "writing and hashing the set",
    ):
        assert part in told
