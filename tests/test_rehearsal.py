"""``train --dry_run``: what each device would hold, and nothing is made."""

import subprocess
from importlib.util import find_spec

import pytest
import tiny

from tron_jax.sharding import traffic

PROGRAM = """
  %a = f32[3,200]{1,0} all-reduce(f32[3,200]{1,0} %x), channel_id=1
  %b = ((s32[1]{0}, bf16[1,2]{1,0}), (s32[5]{0}, bf16[2,2]{1,0})) all-gather-start(%y)
  %c = (s32[5]{0}, bf16[2,2]{1,0}) all-gather-done(%b)
  %d = pred[] all-reduce(pred[] %w), channel_id=2
  ROOT %e = f32[9]{0} add(f32[9]{0} %p, f32[9]{0} %q)
"""


def test_what_travels_is_read_off_a_program():
    assert traffic.received(PROGRAM) == {
        "all-reduce": 3 * 200 * 4 + 1,
        "all-gather": 5 * 4 + 4 * 2,
    }
    assert traffic.calls(PROGRAM) == {"all-reduce": 2, "all-gather": 1}
    assert traffic.received("") == traffic.calls("") == {}


@pytest.fixture
def run(tiny_data, tmp_path):
    def call(*flags, **fields):
        argv = tiny.command(tmp_path / "run", tiny_data, **fields)
        argv = [flag for flag in argv if not flag.startswith("--workdir")]
        command = [*tiny.PYTHON, "-m", "experiments.train", *argv[1:], *flags]
        return subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT)

    return call


def test_eight_devices_hold_an_eighth_each(run, tmp_path):
    fields = {"model__hidden_size": 200, "train__mesh": 8, "mode": "rows"}
    done = run("--dry_run", "--items=10000000", **fields)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line[:36].strip(): line[36:].split() for line in done.stdout.splitlines()}
    assert lines["item table"] == ["8.00", "GB", "1.00", "GB"]
    assert lines["its moments"] == ["16.04", "GB", "2.01", "GB"]
    # The rows of inputs and labels, 2·48, and the gradient by the encoder.
    assert lines["received in a step by all-reduce"] == ["0.8", "MB"]
    assert lines["these and clicks as they lie"] == ["3.01", "GB"]
    assert not (tmp_path / "run").exists()


def test_the_cpu_plays_no_tpu(run):
    """It needs its compiler, and says so before data are opened."""
    done = run("--dry_run", "--topology=v5e:2x4", data__path="nowhere")
    words = "nowhere" if find_spec("libtpu") else "libtpu"
    tiny.assert_refused((done.returncode, done.stdout, done.stderr), words)


def test_a_slice_of_tpus_is_named(run):
    pytest.importorskip("libtpu")
    done = run("--dry_run", "--topology=v5e", train__mesh=2)
    words = ("topology 'v5e'", "expected one such as v5e:2x4")
    tiny.assert_refused((done.returncode, done.stdout, done.stderr), *words)


@pytest.mark.parametrize(
    ("flags", "fields", "words"),
    [
        ([], {}, "--workdir is not given"),
        (["--workdir=W", "--items=9"], {}, "--items is given without --dry_run"),
        (["--workdir=W", "--topology=v5e:2x4"], {}, "--topology is given without"),
        (["--dry_run"], {"data__path": "nowhere"}, "nowhere"),
        (["--dry_run"], {"model__name": "other"}, "model.name is 'other'"),
    ],
)
def test_a_mistake_is_one_line(run, flags, fields, words):
    done = run(*flags, **fields)
    tiny.assert_refused((done.returncode, done.stdout, done.stderr), words)
