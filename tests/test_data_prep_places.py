"""Where a set goes, who stops a program and who reads what it prints."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from any_format import sessions_of, status_of, write_log

from data_prep import events, otto, show, synthetic
from data_prep.reading.csv_log import CsvLog
from data_prep.reading.text_files import TextFile
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

FILES = ["items.parquet", "stats.json", "test.arrow", "train.arrow"]


@pytest.fixture
def log(tmp_path):
    (tmp_path / "logs").mkdir()
    return write_log(tmp_path / "logs/a.csv", [(n // 2, n % 2) for n in range(40)])


def line_of(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("holds", [[], ["lost+found"]])
def test_an_empty_folder_is_filled_and_never_replaced(
    tmp_path, monkeypatch, log, holds
):
    """It may be a mount point: nothing can be renamed onto that."""
    out = tmp_path / "mount" / "out"
    for folder in (out, *(out / name for name in holds)):
        folder.mkdir(parents=True)
    rename, order = Path.rename, []

    def without_mounts(path, target):
        if Path(target) == out:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        order.append(Path(target).name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", without_mounts)
    inode = out.stat().st_ino
    assert len(sessions_of(log, out)) == 20
    assert out.stat().st_ino == inode
    assert sorted(file.name for file in out.iterdir()) == sorted([*FILES, *holds])
    assert order[-1] == "stats.json"  # without it, there is no set
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_filled_stays_empty(tmp_path, monkeypatch, capsys, log):
    out = tmp_path / "out"
    out.mkdir()
    rename = Path.rename

    def failing(path, target):
        if Path(target).name == "stats.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    assert status_of(log, out) == 1
    assert f"error: {out}: cannot be written: Input/output error" in line_of(capsys)
    assert list(out.iterdir()) == []


def test_what_is_in_the_way_is_named(tmp_path, capsys, log):
    out = tmp_path / "out"
    (out / ".out.partial-7").mkdir(parents=True)
    assert status_of(log, out) == 1
    assert "not empty (it holds .out.partial-7)" in line_of(capsys)


def test_a_place_that_may_not_be_written_is_known_before_reading(
    tmp_path, monkeypatch, capsys, log
):
    def no(path, *args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", no)
    monkeypatch.setattr(CsvLog, "batches", None)  # calling it would be a TypeError
    assert status_of(log, tmp_path / "out") == 1
    assert (
        line_of(capsys)
        == f"error: {tmp_path}/out: cannot be written: Permission denied"
    )


@pytest.mark.parametrize("where", ["absent/t.json", "logs"])
def test_timings_that_cannot_be_written_are_known_before_reading(
    tmp_path, monkeypatch, capsys, log, where
):
    monkeypatch.setattr(CsvLog, "batches", None)
    args = f"--timings={tmp_path / where}"
    assert status_of(log, tmp_path / "out", args) == 1
    assert f"error: cannot write {tmp_path / where}: " in line_of(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("url", ["gs://bucket/a", "s3://b/a.parquet", "file:///tmp/a"])
def test_urls_are_refused(tmp_path, monkeypatch, capsys, log, url):
    monkeypatch.chdir(tmp_path)
    argvs = [
        (synthetic, ["--profile=otto", f"--out={url}"]),
        (otto, [f"--raw={url}", "--out=o"]),
        (show, [f"--data={url}"]),
    ]
    for program, argv in argvs:
        assert run(program.main, program.define_flags(), ["p", *argv]) == 1
        assert (
            line_of(capsys) == f"error: {url}: a URL; expected a path of this machine"
        )
    for args in ((url, "out"), (log, url)):
        assert status_of(*args) == 1
        assert (
            line_of(capsys) == f"error: {url}: a URL; expected a path of this machine"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_a_file_that_vanishes_is_named_and_not_the_folder(
    tmp_path, monkeypatch, capsys, log
):
    head = TextFile.head

    def vanishing(file, size):
        found = head(file, size)
        file.path.unlink()
        return found

    monkeypatch.setattr(TextFile, "head", vanishing)
    assert status_of(log, tmp_path / "out") == 1
    assert line_of(capsys) == f"error: {log}: No such file or directory"


def test_names_that_are_no_text_do_not_end_the_work(tmp_path, log):
    odd = Path(os.fsdecode(os.fsencode(log).replace(b"a.csv", b"\xff.csv")))
    try:
        log.rename(odd)
    except OSError:
        pytest.skip("this disk holds text only")
    assert status_of(odd, tmp_path / "out") == 0
    sources = open_prepared(tmp_path / "out").stats["sources"]
    assert [source["file"] for source in sources] == [odd.name]
    assert shown(tmp_path / "out", env={"PYTHONIOENCODING": "utf-8"})[0] == 0


def start(code, *argv, ignoring=None, **options):
    """Starts Python with default handlers, whatever this process ignores."""
    command = "import signal, sys;"
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
        default = "default_int_handler" if name == "SIGINT" else "SIG_DFL"
        to = "SIG_IGN" if name == ignoring else default
        command += f"signal.signal(signal.{name}, signal.{to});"
    return subprocess.Popen(
        [sys.executable, "-c", command + code, *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


DRAW = "from data_prep import synthetic as s; from tron_jax.console.program import run;"
DRAW += "sys.exit(run(s.main, s.define_flags()))"


def wait_for(tmp_path, process):
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("train.items.flat")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_whoever_stops_it_leaves_nothing(tmp_path, name, existing):
    out = tmp_path / "made" / "out"
    if existing:
        out.mkdir(parents=True)
    with start(DRAW, "--profile=otto", f"--out={out}") as process:
        wait_for(tmp_path, process)
        process.send_signal(signal.Signals[name])
        process.send_signal(signal.SIGTERM)  # as some do, a moment later
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode in (128 + signal.Signals[name], 128 + signal.SIGTERM)
    assert stdout == b""
    assert stderr.decode() in (f"error: stopped by {name}\n", "error: terminated\n")
    left = [path.name for path in tmp_path.rglob("*")]
    assert sorted(left) == (["made", "out"] if existing else [])


def test_a_signal_that_was_ignored_stays_ignored(tmp_path):
    """As nohup has it of SIGHUP."""
    argv = ["--profile=otto", f"--out={tmp_path / 'out'}", "--num_sessions=20000"]
    with start(DRAW, *argv, "--num_items=500", ignoring="SIGHUP") as process:
        wait_for(tmp_path, process)
        process.send_signal(signal.SIGHUP)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, b"")
    assert b"fingerprint" in stdout


def test_no_handler_is_left_behind(tmp_path, log):
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    before = [signal.getsignal(signal.Signals[name]) for name in names]
    assert status_of(log, tmp_path / "out") == 0
    assert [signal.getsignal(signal.Signals[name]) for name in names] == before


def shown(*argv, env=None, lines=None):
    """Runs show, of whose stdout only the first lines are read, or all."""
    with subprocess.Popen(
        [sys.executable, "-m", "data_prep.show", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | (env or {}),
    ) as process:
        if lines is None:
            out, err = process.communicate(timeout=60)
        else:
            out = b"".join(process.stdout.readline() for _ in range(lines))
            process.stdout.close()
            err = process.stderr.read()
    return process.returncode, out, err


@pytest.mark.parametrize("lines", [0, 1])
def test_who_has_seen_enough_is_no_error(tmp_path, log, lines):
    """Neither of the help nor of a set, whose check goes on."""
    assert status_of(log, tmp_path / "out") == 0
    assert shown("--help", lines=lines)[::2] == (0, b"")
    assert shown(tmp_path / "out", "--sessions=100", lines=lines)[::2] == (0, b"")
    stats = tmp_path / "out/stats.json"
    stats.write_text(stats.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    status, _, err = shown(tmp_path / "out", "--sessions=100", lines=lines)
    assert status == 1
    assert err.startswith(b"error: ")


@pytest.mark.parametrize(
    "closed", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", ">/dev/full"]
)
def test_streams_that_are_not_there(tmp_path, log, closed):
    command = f"{sys.executable} -m data_prep.events --session=s --item=i"
    command += f" --min_item_support=1 --train={log} --out={tmp_path}/out {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=60)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == FILES


@pytest.mark.parametrize(
    "encoding", ["ascii", "latin-1", "cp1252", "utf-8", "ascii:strict"]
)
def test_what_the_terminal_cannot_show_is_replaced(tmp_path, encoding):
    rows = [(f"漢{n // 2}", f"ä{n % 2}") for n in range(40)]
    log = write_log(tmp_path / "a.csv", rows)
    assert status_of(log, tmp_path / "out") == 0
    status, out, err = shown(tmp_path / "out", env={"PYTHONIOENCODING": encoding})
    assert (status, err) == (0, b"")
    text = out.decode(encoding.partition(":")[0])
    assert "first train sessions" in text
    assert ("漢0" if encoding == "utf-8" else "?0:") in text
    assert ("ä0" if not encoding.startswith("ascii") else "?0") in text


def test_a_program_in_a_notebook_takes_no_signal(tmp_path, monkeypatch, log):
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    seen = []
    monkeypatch.setattr(signal, "signal", lambda *args: seen.append(args))
    flags = [
        "e",
        f"--train={log}",
        f"--out={tmp_path / 'out'}",
        "--session=s",
        "--item=i",
    ]
    assert run(events.main, events.define_flags(), flags) == 0
    assert seen == []
