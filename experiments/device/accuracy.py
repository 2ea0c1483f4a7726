"""Whether TRON XL learns on the device what it learns on a CPU, and resumes alike."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.child_processes import ROOT
from experiments.device import training, workloads
from experiments.device.report import Report, Setting
from experiments.device.tables import table
from tron_jax.data.sessions import open_prepared

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
SHARING = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # the memory, among processes
SPEEDS = ("sessions_per_s", "epochs_per_hour", "ms_a_step")
DTYPE, DETERMINISTIC = "model.compute_dtype", "train.deterministic"
# Of the prepared data set that those figures are of.
FINGERPRINT = "2bf1b7a5e34de5b09f89ea00da19c38987e4512122fbf075f7e68081564f4f1f"
MADE_UP = ("--num_sessions=20000", "--num_items=2000")
TINY = ("--num_sessions=500", "--num_items=300")  # made up for a rehearsal


def run(setting: Setting, report: Report) -> None:
    """Trains in processes of their own; this one computes nothing on the device."""
    jax.config.update("jax_platforms", "cpu")
    with report.attempt("data"):
        fields = _fields(setting, report)
    if "compared" not in report.figures:
        return
    with report.attempt(f"{EPOCHS} epochs in float32"):
        found, lines = _trained("float32", fields, setting)
        report.add(float32=found | training.speed(lines))
        if report.figures["compared"] and not found["within"]:
            report.fail(f"float32: {found}; expected {EXPECTED} within {TOLERANCE}")
    # They compile much and train little: side by side, so none of them is timed.
    with ThreadPoolExecutor(len(BESIDE)) as pool:
        begun = {words: pool.submit(f, fields, setting) for words, f in BESIDE.items()}
        for words, future in begun.items():
            with report.attempt(words):
                report.add(**future.result())
    if not report.figures.get("deterministic", {"same_bits": True})["same_bits"]:
        report.fail(f"{DETERMINISTIC}: resumed with an empty cache, other bits")


def _in_bfloat16(fields: dict[str, Any], setting: Setting) -> dict[str, Any]:
    found, _ = _trained("bfloat16", fields, setting, **SHARING)
    return {"bfloat16": found}


def _resume(fields: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Cuts a run off and resumes it; if bits differ, makes one again without a cut."""
    found = _resumed("float32", fields, setting)
    if found["same_bits"]:
        return {"resumed": found}
    again = setting.folder / "again"
    _train(again, _one_epoch(fields), setting, **SHARING)
    against = training.difference(again, setting.folder / "float32", found["step"])
    return {"resumed": found, "repeated": against}


def _deterministic(fields: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """The same with the config field that asks for the same bits."""
    fields = fields | {DETERMINISTIC: True}
    _train(setting.folder / "deterministic", _one_epoch(fields), setting, **SHARING)
    return {"deterministic": _resumed("deterministic", fields, setting)}


BESIDE = {
    "cut off and resumed with an empty cache, deterministic": _deterministic,
    f"{EPOCHS} epochs in bfloat16": _in_bfloat16,
    "cut off and resumed with an empty cache": _resume,
}


def _fields(setting: Setting, report: Report) -> dict[str, Any]:
    """The fields of all runs; makes data up where there are none, or to rehearse."""
    data = None if setting.rehearse else setting.data
    kind = "made up"
    if data is not None:
        known = open_prepared(data).fingerprint == FINGERPRINT
        kind = "prepared" if known else "other prepared"
    else:
        data = str(setting.folder / "data")
        command = [sys.executable, "-m", "data_prep.synthetic", "--profile=diginetica"]
        subprocess.run(
            [*command, *(TINY if setting.rehearse else MADE_UP), f"--out={data}"],
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
    if kind == "made up":  # an epoch of it is short
        fields["train.log_every_steps"] = 20
    if setting.rehearse:
        config = workloads.read_config(
            CONFIG.partition(":")[0], "diginetica", {}, tiny=True
        )
        for field in workloads.TINY:
            group, name = field.split(".")
            if name in config[group]:
                fields[field] = config[group][name]
    return fields | FIELDS


def _train(
    workdir: Path, fields: dict[str, Any], setting: Setting, **environment: str
) -> None:
    arguments = training.command(CONFIG, workdir, fields)
    output = setting.folder / f"{workdir.name}_output"
    training.train(arguments, output, LIMIT, **environment)
    found = training.device_of(workdir)
    if setting.device not in ("", found):
        raise RuntimeError(f"trained on {found}, not {setting.device}")


def _trained(
    dtype: str, fields: dict[str, Any], setting: Setting, **environment: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Trains to the end: what it reached, and the lines of its log."""
    workdir = setting.folder / dtype
    _train(workdir, fields | {DTYPE: dtype}, setting, **environment)
    lines = training.read_metrics(workdir)
    last = training.last_evaluation(lines, PROTOCOL)
    found = {name: last[name] for name in EXPECTED}
    within = all(abs(found[n] - EXPECTED[n]) <= TOLERANCE[n] for n in EXPECTED)
    return found | {"within": within}, lines


def _one_epoch(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"train.epochs": 1}


def _resumed(unbroken: str, fields: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Cuts a run of an epoch off, resumes it where nothing is compiled, and compares.

    Args:
      unbroken: name of the workdir of the same run, not cut off, of an epoch or more.
      fields: of the config.
      setting: of the part.

    Returns:
      What ``training.difference`` does, and the step at which it was cut off.
    """
    name = f"{unbroken}_resumed"
    workdir = setting.folder / name
    arguments = training.command(CONFIG, workdir, _one_epoch(fields))
    stopped = training.train_and_stop(
        arguments,
        setting.folder / f"{name}_cut",
        workdir / "metrics.jsonl",
        LIMIT,
        **SHARING,
    )
    empty = setting.folder / f"{name}_cache"
    empty.mkdir()
    environment = SHARING | {"JAX_COMPILATION_CACHE_DIR": str(empty)}
    _train(workdir, _one_epoch(fields), setting, **environment)
    step = training.last_step(workdir)
    return {
        "stopped_at": stopped,
        **training.difference(setting.folder / unbroken, workdir, step),
    }


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``."""
    names = list(EXPECTED)
    rows = []
    for dtype in ("float32", "bfloat16"):
        if dtype in figures:
            of = figures[dtype]
            speeds = [of.get(name) for name in SPEEDS]
            within = "yes" if of["within"] else "no"
            within = within if figures["compared"] else "not compared"
            rows.append([dtype, *(f"{of[n]:.4f}" for n in names), within, *speeds])
    expected = " / ".join(f"{EXPECTED[n]:.4f} ± {TOLERANCE[n]}" for n in names)
    headers = ["TRON XL, 3 epochs", "Recall@20", "MRR@20", f"within {expected}"]
    headers += ["sessions/s", "epochs an hour", "ms a step"]
    lines = [table(headers, rows), ""]
    if figures.get("compared") is False:
        lines.append(f"On {figures['data']} data: nothing to compare with.")
    for name, words in (
        ("resumed", "cut off, resumed with an empty compilation cache"),
        ("repeated", "made again, not cut off, same cache"),
        ("deterministic", f"cut off and resumed, {DETERMINISTIC}=true"),
    ):
        if name in figures:
            lines.append(f"- {words}: {_bits(figures[name])}")
    return "\n".join(lines)


def _bits(found: dict[str, Any]) -> str:
    cut = f"cut at step {found['stopped_at']}, " if "stopped_at" in found else ""
    if found["same_bits"]:
        return f"{cut}same bits at step {found['step']}"
    return (
        f"{cut}OTHER BITS at step {found['step']} in {found['arrays_that_differ']} of "
        f"{found['arrays']} arrays, by {found['largest_difference']:.1e} at most"
    )
