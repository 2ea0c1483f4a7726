"""Measures and checks everything that an accelerator must show, in one command.

    python -m experiments.device_check --out=DIR [--data=PREPARED_DIGINETICA]
        [--only=PART,PART] [--limit=SECONDS] [--rehearse]
    make device [OUT=DIR] [DATA=PREPARED_DIGINETICA] [ARGS="--only=steps"]

Run it in the root of the checkout, on a machine with a GPU or TPU on which jax (for
CUDA: jax[cuda13]), flax, optax, orbax-checkpoint, pyarrow, ml-collections, absl-py and
pytest are installed; no network is needed. `--rehearse` shows in a few minutes on any
CPU whether it would run.

The parts, in order of worth:

{parts}

Each part runs in a process of its own, with a time limit. As it ends, its figures are
in DIR/PART.json, and DIR/table.md holds the tables of all parts so far; that is also
printed at the end. A part that fails leaves the others going: its error is in its JSON
and in the table, and the exit status is 1. Another command with `--only` and the same
DIR replaces those parts and leaves the rest.

DIR holds nothing but these files, at most eight and small; checkpoints and traces go
to a temporary folder (TMPDIR) and are removed. Compiled programs are kept in
~/.cache/tron_jax (or JAX_COMPILATION_CACHE_DIR), so a second run is faster.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import entry, workdirs
from experiments.device import processes
from experiments.device.parts import PARTS
from experiments.device.report import Setting, read_figures, write_task
from tron_jax.data.sessions import open_prepared
from tron_jax.errors import UserError
from tron_jax.files import replacing

TABLE = "table.md"
FILES = {TABLE, *(f"{name}.json" for name in PARTS)}
QUICKLY_COMPILED = (
    "--xla_backend_optimization_level=0 "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)
PROBE_LIMIT, SHORTEST = 120.0, 0.5  # seconds

__doc__ = (__doc__ or "").format(
    parts="\n".join(f"    {name:<14}{part.about}" for name, part in PARTS.items())
)

Record = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()
    flags.DEFINE_string(
        "out", None, "Folder of the figures: new, empty, or of this program.", values
    )
    flags.mark_flag_as_required("out", values)
    flags.DEFINE_string(
        "data",
        None,
        "Prepared Diginetica (data_prep.diginetica writes it), for the part accuracy; "
        "made-up data if not given, and in a rehearsal, which cannot be compared.",
        values,
    )
    flags.DEFINE_list(
        "only", None, f"Parts to run: {','.join(PARTS)}.", flag_values=values
    )
    flags.DEFINE_integer(
        "limit",
        1200,
        "Seconds for all parts together; one that would go beyond is ended.",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_boolean(
        "rehearse", False, "Every part at tiny sizes, on whatever is there.", values
    )
    return entry.run(run, values, argv)


def run(values: flags.FlagValues) -> None:
    names = _chosen(values.only)
    out = Path(values.out).absolute()
    _refuse_other_files(out)
    data = None
    if values.data:
        data = str(Path(values.data).absolute())
        open_prepared(data)
    with tempfile.TemporaryDirectory(prefix="device_check_") as work:
        setting = Setting(Path(work) / "probe", values.rehearse, data)
        about = _probe(setting)
        if values.rehearse and about["platform"] == "cpu":
            # Programs of a rehearsal are compiled much and run little.
            os.environ.setdefault("XLA_FLAGS", QUICKLY_COMPILED)
        out.mkdir(parents=True, exist_ok=True)
        print(f"{about['count']} x {about['device']}, jax {about['versions']['jax']}")
        failed = []
        until = time.monotonic() + values.limit
        for name in names:
            limit = min(PARTS[name].limit, until - time.monotonic())
            record = _run_part(name, limit, setting, about, Path(work), out)
            failed += [] if record["ok"] else [name]
    print("\n" + (out / TABLE).read_text())
    if failed:
        raise UserError(f"failed: {', '.join(failed)}; {out}/{failed[0]}.json says why")


def _chosen(only: list[str] | None) -> list[str]:
    """The parts to run, in order of worth."""
    unknown = [name for name in only or () if name not in PARTS]
    if unknown or only == []:
        named = ", ".join(unknown) or "(nothing)"
        raise UserError(f"--only: {named}; expected some of: {', '.join(PARTS)}")
    return [name for name in PARTS if only is None or name in only]


def _refuse_other_files(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is no folder")
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    others = {name for name in names if name.removesuffix(".new") not in FILES}
    if others:
        raise UserError(
            f"--out: {out} holds {sorted(others)[0]}; expected a new or empty folder, "
            "or one of this program"
        )


def _probe(setting: Setting) -> Record:
    """What there is to measure, found in a process of its own.

    Raises:
      UserError: if there is no accelerator, or jax does not start.
    """
    write_task(setting, "probe")
    ended = _to_its_end(setting.folder, PROBE_LIMIT)
    about, errors = read_figures(setting.folder)
    if errors or ended.error:
        error = "; ".join(errors).removeprefix("UserError: ") or ended.error
        raise UserError(str(error))
    return about


def _run_part(
    name: str, limit: float, setting: Setting, about: Record, work: Path, out: Path
) -> Record:
    """Runs a part and writes its record and the table, however it ends."""
    known = {"device": about["device"], "platform": about["platform"]}
    known |= {"count": about["count"], "versions": about["versions"]}
    known |= {"jax": about["versions"]["jax"], "rehearsal": setting.rehearse}
    setting = setting._replace(
        folder=work / name, ceilings=_ceilings(out, known), device=about["device"]
    )
    write_task(setting, name)
    print(f"{name}: {PARTS[name].about}", flush=True)
    start = time.monotonic()
    ended = processes.Ended("interrupted", "")
    try:
        ended = _to_its_end(setting.folder, limit)
    finally:  # also where this process is asked to end
        figures, errors = read_figures(setting.folder)
        if ended.error and not errors:
            errors = [ended.error]
        record = {
            "part": name,
            **known,
            "seconds": round(time.monotonic() - start, 1),
            "ok": not errors,
            "errors": errors,
            "figures": figures,
            "stderr_tail": ended.stderr.splitlines(),
        }
        workdirs.write_json(out / f"{name}.json", record)
        _write_table(out)
    why = "" if record["ok"] else f", failed: {errors[0]}"
    print(f"{name}: {record['seconds']:.0f} s{why}", flush=True)
    return record


def _to_its_end(folder: Path, limit: float) -> processes.Ended:
    if limit < SHORTEST:
        return processes.Ended("not begun, as --limit is reached", "")
    command = processes.child_command(folder)
    return processes.run(command, folder, limit, own_group=True)


def _read(out: Path) -> list[Record]:
    """The records that there are, in order of worth."""
    paths = [out / f"{name}.json" for name in PARTS]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _ceilings(out: Path, known: Record) -> Record:
    """The ceilings that were measured on the same device, at sizes of the same kind."""
    same = ("device", "rehearsal")
    return next(
        (
            record["figures"]
            for record in _read(out)
            if record["part"] == "ceilings"
            and all(record[key] == known[key] for key in same)
        ),
        {},
    )


def _write_table(out: Path) -> None:
    with replacing(out / TABLE) as new:
        new.write_text(as_table(_read(out)))


def as_table(records: list[Record]) -> str:
    """The tables of some parts, each under a heading that says where it was measured.

    Args:
      records: of the parts.

    Returns:
      Markdown; its first line says so where a record is of a rehearsal.
    """
    rehearsed = any(record["rehearsal"] for record in records)
    texts = [
        "# REHEARSAL at tiny sizes: no figure here means anything"
        if rehearsed
        else "# What the accelerator shows"
    ]
    for record in records:
        texts.append(
            f"## {record['part']} ({record['count']} x {record['device']}, "
            f"jax {record['jax']}, {record['seconds']:.0f} s)"
        )
        texts += [f"FAILED: {error}" for error in record["errors"]]
        try:
            texts.append(PARTS[record["part"]].table(record["figures"]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if record["ok"]:
                raise
            texts.append(f"(no table: some figures are missing, {error})")
    return "\n\n".join(texts) + "\n"


if __name__ == "__main__":
    entry.start(main)
