"""``experiments.device_check``: what it refuses, and that no part can spoil another."""

import importlib.metadata
import json
import sys

import pytest
import tiny

from experiments import device_check
from experiments.device import accelerators, parts, processes
from experiments.device.report import Setting, read_figures, write_task
from tron_jax import devices
from tron_jax.errors import UserError

ABOUT = {"device": "NVIDIA Y", "platform": "gpu", "count": 1, "versions": {"jax": "9"}}
RANKED = {
    "dataset": "otto",
    "items": 1_855_603,
    "block": 4096,
    "default": True,
    "chunk": 16_384,
    "events": 65_536,
    "seconds": 2.0,
    "matmul_s": 1.6,
    "predictions": 10_700_000,
    "all_s": 326.5,
}


@pytest.fixture
def run(capfd):
    """Runs the program: ``(*arguments) -> status, out, err``."""

    def call(*arguments):
        capfd.readouterr()
        status = device_check.main(["device_check", *map(str, arguments)])
        return status, *capfd.readouterr()

    return call


@pytest.fixture
def faked(monkeypatch):
    """Lets processes do something else: ``faked(part=code)``; the probe finds a GPU.

    The code may call ``write(figures, errors)``.
    """
    by_name = {"probe": f"write({ABOUT})"}
    prelude = (
        "import json, os, signal, sys, time\n"
        "def write(figures, errors=()):\n"
        "    content = {'figures': figures, 'errors': list(errors)}\n"
        "    open(sys.argv[1], 'w').write(json.dumps(content))\n"
    )

    def command(folder):
        code = prelude + by_name[folder.name]
        return [sys.executable, "-c", code, str(folder / "figures.json")]

    monkeypatch.setattr(processes, "child_command", command)
    return by_name.update


def read(out, name):
    return json.loads((out / f"{name}.json").read_text())


def test_no_accelerator(run, tmp_path):
    outcome = run(f"--out={tmp_path / 'out'}")
    tiny.assert_refused(outcome, "no accelerator", "CPU", "--rehearse")
    assert [*tmp_path.iterdir()] == []


def test_cuda_that_cannot_be_had(run, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    outcome = run(f"--out={tmp_path / 'out'}")
    tiny.assert_refused(outcome, "no accelerator", "JAX_PLATFORMS=cuda")
    assert [*tmp_path.iterdir()] == []


def test_a_plugin_that_falls_back(monkeypatch):
    monkeypatch.setattr(devices, "_platforms", lambda: "")
    version = importlib.metadata.version

    def installed(name):
        return "9" if name == "jax-cuda13-plugin" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    with pytest.raises(
        UserError, match="jax-cuda13-plugin 9 is installed, but jax fell"
    ):
        accelerators.accelerator()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only=steps,swim"], ["--only", "swim", "ceilings, tests, accuracy"]),
        (["--only="], ["--only", "nothing"]),
        (["--data=/nowhere"], ["/nowhere"]),
        (["--limit=0"], ["limit"]),
        (["ceilings"], ["ceilings"]),
    ],
)
def test_refuses(run, tmp_path, arguments, words):
    tiny.assert_refused(run(f"--out={tmp_path / 'out'}", *arguments), *words)
    assert [*tmp_path.iterdir()] == []


def test_refuses_a_folder_of_something_else(run, tmp_path):
    (tmp_path / "table.md").write_text("of this program")
    (tmp_path / "thesis.tex").write_text("of somebody")
    tiny.assert_refused(run(f"--out={tmp_path}"), "thesis.tex", "expected a new")
    tiny.assert_refused(run(f"--out={tmp_path / 'thesis.tex'}"), "no folder")
    tiny.assert_refused(run(), "out")


def test_a_part_that_fails_leaves_the_others_going(run, tmp_path, monkeypatch, faked):
    hanging = parts.PARTS["trace"]._replace(limit=0.5)
    monkeypatch.setitem(parts.PARTS, "trace", hanging)
    faked(
        ceilings="sys.exit('boom')",
        accuracy="os.kill(os.getpid(), signal.SIGKILL)",
        steps="write({'steps': []}, ['tron_xl: out of memory']); sys.exit(1)",
        trace="write({}); time.sleep(60)",
        evaluation=f"write({{'ranks': [{RANKED}]}})",
    )
    out = tmp_path / "made" / "out"
    names = "evaluation,ceilings,accuracy,trace,steps"  # in whatever order
    status, printed, err = run(f"--out={out}", f"--only={names}")
    assert status == 1
    assert err.count("\n") == 1
    assert "failed: ceilings, accuracy, steps, trace" in err
    errors = {
        "ceilings": "boom",
        "accuracy": "ended by SIGKILL",
        "steps": "tron_xl: out of memory",
        "trace": "not done after",
    }
    table = (out / "table.md").read_text()
    assert table in printed
    assert table.startswith("# What the accelerator shows\n")
    for name, error in errors.items():
        record = read(out, name)
        assert not record["ok"]
        assert record["part"] == name
        [found] = record["errors"]
        assert error in found
        assert f"FAILED: {found}" in table
    assert "boom" in read(out, "ceilings")["stderr_tail"]
    assert read(out, "steps")["figures"] == {"steps": []}
    record = read(out, "evaluation")
    assert (record["ok"], record["errors"]) == (True, [])
    assert (record["device"], record["jax"]) == ("NVIDIA Y", "9")
    assert record["figures"]["ranks"][0]["seconds"] == 2.0
    assert "4,096 (default)" in table

    before = {p.name: p.read_text() for p in out.iterdir()}
    assert before.keys() == {f"{name}.json" for name in names.split(",")} | {"table.md"}
    faked(accuracy="write({'compared': False})", ceilings="write({'count': 3})")
    status, printed, err = run(f"--out={out}", "--only=ceilings,accuracy")
    assert (status, err) == (0, "")
    assert read(out, "ceilings")["ok"]
    assert "boom" not in (out / "table.md").read_text()
    for name in ("steps", "trace", "evaluation"):
        assert (out / f"{name}.json").read_text() == before[f"{name}.json"]


def test_parts_that_would_go_beyond_the_limit(run, tmp_path, faked):
    faked(ceilings="time.sleep(60)", evaluation="write({})")
    status, _, err = run(f"--out={tmp_path}", "--limit=1", "--only=ceilings,evaluation")
    assert status == 1
    assert "failed: ceilings, evaluation" in err
    assert "not done after 1 s" in read(tmp_path, "ceilings")["errors"][0]
    assert "not begun" in read(tmp_path, "evaluation")["errors"][0]


def test_what_parts_are_given(run, tmp_path, faked, tiny_data):
    show = "task = open(sys.argv[1].replace('figures', 'task')).read()\n"
    faked(ceilings="write({'count': 1})", evaluation=show + "write({'task': task})")
    arguments = (f"--out={tmp_path}", f"--data={tiny_data}", "--only=evaluation")
    assert run(*arguments)[0] == 0
    task = json.loads(read(tmp_path, "evaluation")["figures"]["task"])
    assert (task["ceilings"], task["rehearse"]) == ({}, False)
    assert task["data"] == str(tiny_data)
    assert run(f"--out={tmp_path}", "--only=ceilings")[0] == 0
    assert run(*arguments)[0] == 0
    task = json.loads(read(tmp_path, "evaluation")["figures"]["task"])
    assert task["ceilings"] == {"count": 1}
    # not those of a rehearsal
    assert run(*arguments, "--rehearse")[0] == 0
    task = json.loads(read(tmp_path, "evaluation")["figures"]["task"])
    assert (task["ceilings"], task["rehearse"]) == ({}, True)


def test_a_part_that_is_interrupted_is_recorded(run, tmp_path, faked):
    # as by Ctrl-C or SIGTERM: the part's process is ended, the rest does not begin
    faked(
        ceilings="write({'count': 1})\nos.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)",
        evaluation="write({})",
    )
    status, _, err = run(f"--out={tmp_path}", "--only=ceilings,evaluation")
    assert status == 128 + 15
    assert err == "error: terminated\n"
    record = read(tmp_path, "ceilings")
    assert record["errors"] == ["interrupted"]
    assert record["figures"] == {"count": 1}
    assert not (tmp_path / "evaluation.json").exists()


def test_a_process_that_falls_back_to_the_cpu(tmp_path):
    """Its figures would go by the accelerator's name."""
    setting = Setting(tmp_path / "ceilings", rehearse=True, device="NVIDIA Y")
    write_task(setting, "ceilings")
    command = processes.child_command(setting.folder)
    ended = processes.run(command, setting.folder, 60)
    figures, [error] = read_figures(setting.folder)
    assert "jax now has cpu, not NVIDIA Y" in error
    assert figures == {}
    assert ended.error is not None


def test_rehearsal(run, tmp_path):
    status, printed, err = run(f"--out={tmp_path}", "--rehearse", "--only=ceilings")
    assert (status, err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"ceilings.json", "table.md"}
    record = read(tmp_path, "ceilings")
    assert (record["rehearsal"], record["ok"], record["platform"]) == (
        True,
        True,
        "cpu",
    )
    figures = record["figures"]
    assert all(value > 0 for value in figures["bytes_per_s"].values())
    assert all(value > 0 for value in figures["flop_per_s"].values())
    assert all(value > 0 for value in figures["launches"].values())
    assert figures["versions"]["python"] == sys.version.split()[0]
    assert (tmp_path / "table.md").read_text().startswith("# REHEARSAL at tiny sizes")
    assert "TFLOP/s" in printed


def test_a_folder_holds_at_most_eight_files():
    assert len(device_check.FILES) <= 8


def test_help(run):
    status, out, _ = run("--help")
    assert status == 0
    for name, part in parts.PARTS.items():
        assert name in out
        assert part.about in out
