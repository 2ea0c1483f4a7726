"""What a program shows of its stages, and what it measures of them."""

import io
import itertools
import json
import sys

from data_prep import events
from tron_jax.console.program import run
from tron_jax.console.stages import Stages


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_for_each_stage(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    terminal, clock = Terminal(), itertools.count(0.0, 5.0)
    stages = Stages(stream=terminal, clock=clock.__next__)
    stages.count("rows", 1, 2)  # of no stage yet
    stages.stage("reading log.csv")  # at 0, 5 and 10 s: begun, counting from, drawn
    stages.count("bytes", 1000, 4000)
    stages.stage("sorting")
    stages.close()
    _, first, counted, wiped, second, last = terminal.getvalue().split("\r")
    assert first == "reading log.csv\x1b[K"
    assert counted == "reading log.csv   25%  1,000/4,000 bytes  100/s  0:30 left\x1b[K"
    assert (wiped, second, last) == ("\x1b[K", "sorting\x1b[K", "\x1b[K")


def test_stages_are_measured(tmp_path):
    stages = Stages(timed=True, clock=itertools.count(0.0, 1.0).__next__)
    for name in ("reading", "sorting", "sorting"):
        stages.stage(name)
    stages.write_timings(tmp_path / "timings.json", events=7)
    found = json.loads((tmp_path / "timings.json").read_text())
    assert found["events"] == 7
    assert [s["stage"] for s in found["stages"]] == ["reading", "sorting", "sorting"]
    assert all(stage["seconds"] > 0 for stage in found["stages"])
    assert all(stage["cpu_seconds"] >= 0 for stage in found["stages"])


def test_all_stages_of_a_log_are_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    log = tmp_path / "log.csv"
    log.write_text("session,item\n" + "".join(f"{i // 3},{i % 3}\n" for i in range(90)))
    argv = ["e", f"--train={log}", f"--out={tmp_path}/out", "--session=session"]
    assert run(events.main, events.define_flags(), [*argv, "--item=item"]) == 0
    shown = capsys.readouterr().err
    size = log.stat().st_size
    for part in (
        f"100%  {size}/{size} bytes",
        "filtering and sorting  100%  2/2 parts",
        "putting sessions in order  100%  30/30 sessions",
        "writing the set",
    ):
        assert part in shown
    assert "\r\x1b[Kwarning: the test part is empty" in shown  # on a line of its own
