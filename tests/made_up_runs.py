"""Folders of runs in any state, made up of files alone, for experiments.show."""

import json

from experiments import show
from tron_jax.storage import manifest

EPOCHS, STEPS = 4, 10  # steps of an epoch
ALL = range(5, EPOCHS * STEPS + 1, 5)
STOPPED = {"patience": {"best": 0.3, "evaluations_since": 2, "stopped": True}}


def write_lines(folder, steps, **more):
    """A log of the end of each of some steps; an epoch's end is evaluated as well."""
    lines = []
    for step in steps:
        about = {"step": step, "epoch": step / STEPS, "time": 2.0 * step}
        lines.append(about | {"loss": 1.0})
        if step % STEPS == 0:
            about["time"] += 0.5
            split = {"split": "test", "recall@20": 0.3 - (step / STEPS - 2) ** 2 / 100}
            lines.append(about | {**split, "protocol": "paper"} | more)
            lines.append(about | {**split, "protocol": "exact", "recall@20": 0.9})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def make(folder, steps=(5, 10, 15, 20), saved=20, *, lock=True, info=None, **train):
    """A run's folder; ``saved`` is the step of its newest checkpoint."""
    folder.mkdir(parents=True)
    content = {"train": {"epochs": EPOCHS, **train}, "provenance": {}}
    (folder / "config.json").write_text(json.dumps(content))
    if lock:
        (folder / ".lock").touch()
    if steps:
        write_lines(folder, steps)
    for step in [] if saved is None else [9, saved]:
        (folder / "checkpoints" / str(step)).mkdir(parents=True)
        content = {"format": manifest.FORMAT, "info": info or {}}
        manifest.write(folder / "checkpoints" / str(step), content)
    return folder


def damage_line(folder):
    lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:10] + b"\n"
    (folder / "metrics.jsonl").write_bytes(b"".join(lines))


def write_failure(path, why="the disk is full"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"why": why, "step": 20}))


def write_sweep(folder, names):
    runs = {name: {"folder": name, "seed": 0, "fields": {}} for name in names}
    content = {"format": "tron-sweep", "version": 1, "argv": [], "runs": runs}
    folder.mkdir(exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(content))


def shown(capfd, *arguments):
    """What ``--json`` prints of runs that can all be read."""
    assert show.main(["show", *map(str, arguments), "--json"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return json.loads(out)
