"""Whether TRON XL learns on the device what it learns on a CPU, and resumes alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.child_processes import ROOT
from experiments.configs.defaults import default_config
from experiments.device import training, workloads
from experiments.device.report import Report, Setting
from experiments.device.tables import table

CONFIG = "tron_xl:diginetica"
EPOCHS = 3
FIELDS = {"negatives.mask_hits": True, "model.position": "from_start"}
# Of a run on two CPU cores in float32, exact protocol
# (experiments/results/diginetica/tron_xl_mask_hits_from_start); other seeds of it and
# other devices lie within the tolerances.
EXPECTED = {"recall@20": 0.5421, "mrr@20": 0.1851}
TOLERANCE = {"recall@20": 0.004, "mrr@20": 0.002}
PROTOCOL = "exact"
LIMIT = 240.0  # seconds that a run may take
DTYPE, DETERMINISTIC = "model.compute_dtype", "train.deterministic"
MADE_UP = ("--num_sessions=500", "--num_items=300")  # of a rehearsal


def run(setting: Setting, report: Report) -> None:
    """Trains in processes of their own; this one computes nothing on the device."""
    jax.config.update("jax_platforms", "cpu")
    with report.attempt("data"):
        fields = _fields(setting, report)
    if "compared" not in report.figures:
        return
    for dtype in ("float32", "bfloat16"):
        with report.attempt(f"{EPOCHS} epochs in {dtype}"):
            _accuracy(dtype, fields, setting, report)
    with report.attempt("cut off and resumed with an empty cache"):
        found = _resumed("float32", fields, setting)
        report.add(resumed=found)
        if found["same_bits"]:
            return
        again = setting.folder / "again"
        _train(again, _one_epoch(fields), setting)
        against = training.difference(again, setting.folder / "float32", found["step"])
        report.add(repeated=against)
    if "resumed" in report.figures:
        with report.attempt("the same, deterministic"):
            _deterministic(fields, setting, report)


def _fields(setting: Setting, report: Report) -> dict[str, Any]:
    """The fields of all runs; makes data up where there are none, or to rehearse."""
    data = None if setting.rehearse else setting.data
    kind = "prepared" if data else "made up"
    if data is None:
        data = str(setting.folder / "data")
        command = [sys.executable, "-m", "data_prep.synthetic", "--profile=diginetica"]
        subprocess.run(
            [*command, *MADE_UP, f"--out={data}"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    report.add(
        compared=kind == "prepared",
        data=kind,
        expected=EXPECTED,
        tolerance=TOLERANCE,
    )
    fields: dict[str, Any] = {"data.path": data, "checkpoint.every_steps": 10**6}
    fields |= {"train.epochs": EPOCHS, "checkpoint.keep_last": 10}
    if setting.rehearse:
        config = workloads.read_config(
            CONFIG.partition(":")[0], "diginetica", {}, tiny=True
        )
        for field in workloads.TINY:
            group, name = field.split(".")
            if name in config[group]:
                fields[field] = config[group][name]
        fields["train.log_every_steps"] = 20
    return fields | FIELDS


def _train(workdir: Path, fields: dict[str, Any], setting: Setting, **env: str) -> None:
    arguments = training.command(CONFIG, workdir, fields)
    training.train(arguments, setting.folder / f"{workdir.name}_output", LIMIT, **env)
    found = training.device_of(workdir)
    if setting.device not in ("", found):
        raise RuntimeError(f"trained on {found}, not {setting.device}")


def _accuracy(
    dtype: str, fields: dict[str, Any], setting: Setting, report: Report
) -> None:
    """Trains to the end; fails where the result is not that of a CPU."""
    workdir = setting.folder / dtype
    _train(workdir, fields | {DTYPE: dtype}, setting)
    lines = training.read_metrics(workdir)
    found = training.last_evaluation(lines, PROTOCOL)
    figures = {name: found[name] for name in EXPECTED} | training.speed(lines)
    within = {
        name: abs(found[name] - EXPECTED[name]) <= TOLERANCE[name] for name in EXPECTED
    }
    compared = report.figures["compared"]
    report.add(**{dtype: figures | {"within": all(within.values())}})
    if compared and dtype == "float32" and not all(within.values()):
        report.fail(f"{dtype}: {figures}; expected {EXPECTED} within {TOLERANCE}")


def _one_epoch(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"train.epochs": 1}


def _resumed(
    unbroken: str, fields: dict[str, Any], setting: Setting, prefix: str = ""
) -> dict[str, Any]:
    """Cuts a run of an epoch off, resumes it where nothing is compiled, and compares.

    Args:
      unbroken: name of the workdir of the same run, not cut off, of an epoch or more.
      fields: of the config.
      setting: of the part.
      prefix: of the new workdir's name.

    Returns:
      What ``training.difference`` does, and the step at which it was cut off.
    """
    name = f"{prefix}resumed"
    workdir = setting.folder / name
    arguments = training.command(CONFIG, workdir, _one_epoch(fields))
    stopped = training.train_and_stop(
        arguments, setting.folder / f"{name}_cut", workdir / "metrics.jsonl", LIMIT
    )
    empty = setting.folder / f"{name}_cache"
    empty.mkdir()
    _train(workdir, _one_epoch(fields), setting, JAX_COMPILATION_CACHE_DIR=str(empty))
    step = training.last_step(workdir)
    return {
        "stopped_at": stopped,
        **training.difference(setting.folder / unbroken, workdir, step),
    }


def _deterministic(fields: dict[str, Any], setting: Setting, report: Report) -> None:
    """The same with the config field that asks for the same bits, and what it costs."""
    if DETERMINISTIC.partition(".")[2] not in default_config().train:
        report.add(deterministic={"left_out": f"the config has no {DETERMINISTIC}"})
        return
    fields = fields | {DETERMINISTIC: True}
    workdir = setting.folder / "deterministic"
    _train(workdir, _one_epoch(fields), setting)
    ms = training.speed(training.read_metrics(workdir))["ms_a_step"]
    found = _resumed("deterministic", fields, setting, "deterministic_")
    report.add(deterministic=found | {"ms_a_step": ms})
    if not found["same_bits"]:
        report.fail(f"{DETERMINISTIC}: resumed with an empty cache, other bits")


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``."""
    names = list(EXPECTED)
    rows = []
    for dtype in ("float32", "bfloat16"):
        if dtype in figures:
            of = figures[dtype]
            speeds = [of[n] for n in ("sessions_per_s", "epochs_per_hour", "ms_a_step")]
            within = "yes" if of["within"] else "no"
            within = within if figures["compared"] else "not compared"
            rows.append([dtype, *(f"{of[n]:.4f}" for n in names), within, *speeds])
    expected = " / ".join(f"{EXPECTED[n]:.4f} ± {TOLERANCE[n]}" for n in names)
    headers = ["TRON XL, 3 epochs", "Recall@20", "MRR@20", f"within {expected}"]
    headers += ["sessions/s", "epochs an hour", "ms a step"]
    lines = [table(headers, rows), ""]
    if not figures.get("compared"):
        lines.append(f"On {figures.get('data')} data: nothing to compare with.")
    for name, words in (
        ("resumed", "cut off, resumed with an empty compilation cache"),
        ("repeated", "made again, not cut off, same cache"),
        ("deterministic", f"cut off and resumed, {DETERMINISTIC}=true"),
    ):
        if name in figures:
            lines.append(f"- {words}: {_bits(figures[name])}")
    return "\n".join(lines)


def _bits(found: dict[str, Any]) -> str:
    if "left_out" in found:
        return f"left out, {found['left_out']}"
    cut = f"cut at step {found['stopped_at']}, " if "stopped_at" in found else ""
    cost = f", {found['ms_a_step']:.3f} ms a step" if "ms_a_step" in found else ""
    if found["same_bits"]:
        return f"{cut}same bits at step {found['step']}{cost}"
    return (
        f"{cut}OTHER BITS at step {found['step']} in {found['arrays_that_differ']} of "
        f"{found['arrays']} arrays, by {found['largest_difference']:.1e} at most{cost}"
    )
