"""Keeps what is worth keeping of a finished run, small and free of the data's ids.

    python -m experiments.keep --workdir=RUN --out=experiments/results/DATA/CONFIG

Run `experiments.evaluate` first. Kept are config.json without data.path, metrics.jsonl,
evaluation.json, the plot, and ranks.npz: `higher` and `equal` of the exact ranks, in
test order, so that figures can be recomputed and runs compared event by event.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from absl import flags

from experiments import entry, workdirs
from tron_jax.errors import UserError

NEEDED = ("metrics.jsonl", "evaluation.json", "ranks.parquet")


def main(argv: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    for name, text in (("workdir", "Folder of the run."), ("out", "Folder to make.")):
        flags.DEFINE_string(name, None, text, required=True, flag_values=flag_values)
    return entry.run(run, flag_values, argv)


def run(flag_values: flags.FlagValues) -> None:
    workdir, out = Path(flag_values.workdir), Path(flag_values.out)
    config, made_with = workdirs.read_config(workdir)
    for name in NEEDED:
        if not (workdir / name).is_file():
            raise UserError(
                f"{workdir / name} is missing; expected a run that "
                "experiments.evaluate has evaluated"
            )
    config.data.path = ""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.jsonl", "evaluation.json", "plot.png"):
            if (workdir / name).is_file():
                shutil.copyfile(workdir / name, out / name)
        _keep_ranks(workdir / "ranks.parquet", out / "ranks.npz")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    content = config.to_dict() | {"provenance": made_with}
    workdirs.write_json(out / workdirs.CONFIG, content)
    print(f"kept in {out}")


def _keep_ranks(source: Path, target: Path) -> None:
    exact = pq.read_table(source, filters=[("protocol", "=", "exact")])
    columns = {
        name: exact[name].to_numpy().astype(np.uint32) for name in ("higher", "equal")
    }
    np.savez_compressed(target, **columns)


if __name__ == "__main__":
    entry.start(main)
