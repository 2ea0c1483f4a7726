"""A step compiled for many devices and items from shapes alone, and its time on paper.

    python -m experiments.benchmarks.plan --config=tron_xl:otto --out=DIR \
        [--devices=1,8,16,64] [--num_items=43000,1800000,10000000,100000000]

The CPU plays the devices, nothing is allocated and nothing is timed. Sessions are made
up with OTTO's lengths. Each catalogue is compiled with the config's batch, divided
among the devices (strong scaling), and the largest with that batch for each of them
(weak scaling). Writes plan.json and plan.md.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import checks, entry, rehearsal, workdirs
from experiments.assembly.settings import negative_sampling
from experiments.assembly.ways import Ways
from experiments.benchmarks import plan_page
from experiments.benchmarks.made_up_sessions import make_sessions
from tron_jax.console.messages import say
from tron_jax.errors import UserError
from tron_jax.files import local_path, require_writable

PROFILE = "otto"
BATCHES = 64  # made up; the largest counts
AS_ACCELERATORS = Ways(by_matmul=True, fixed=True)

# (devices, items, sessions of all devices together)
Point = tuple[int, int, int]


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()
    entry.define_config(values, argv)
    flags.mark_flag_as_required("config", values)
    flags.DEFINE_string("out", None, "Folder to write.", values, required=True)
    flags.DEFINE_list("devices", ["1", "8", "16", "64"], "How many.", values)
    flags.DEFINE_list(
        "num_items", ["43000", "1800000", "10000000", "100000000"], "Items.", values
    )
    command = ["experiments.benchmarks.plan", *argv[1:]]

    def by_command(values: flags.FlagValues) -> None:
        run(values, command)

    return entry.run(by_command, values, argv)


def run(values: flags.FlagValues, command: Sequence[str]) -> None:
    counts = {flag: _numbers(flag, values[flag].value or []) for flag in AXES}
    config, out = values.config, local_path(values.out)
    checks.check(config)
    out.mkdir(parents=True, exist_ok=True)
    require_writable(out / "plan.json")  # or minutes would be spent for nothing
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(counts["devices"]))
    made = []
    for number, point in enumerate(todo := points(config, **counts), 1):
        say(
            "{} of {}: {:,} devices, {:,} items, {:,} sessions".format(
                number, len(todo), *point
            )
        )
        made.append(compiled(config, *point))
    report = {
        "command": f"python -m {shlex.join(command)}",
        "jax": jax.__version__,
        "points": made,
    }
    workdirs.write_json(out / "plan.json", report)
    plan_page.write(out / "plan.md", report)


AXES = ("devices", "num_items")


def _numbers(flag: str, given: Sequence[str]) -> list[int]:
    if not given or not all(one.isdecimal() and int(one) for one in given):
        raise UserError(f"--{flag}={','.join(given)}; expected whole numbers from 1 on")
    return sorted(map(int, given))


def points(config: ConfigDict, devices: list[int], num_items: list[int]) -> list[Point]:
    """What is compiled: each catalogue on all devices, then the largest batches."""
    batch = config.train.batch_size
    strong = [
        (count, items, batch) for count, items in itertools.product(devices, num_items)
    ]
    weak = [(count, num_items[-1], count * batch) for count in devices if count > 1]
    return strong + weak


def compiled(
    config: ConfigDict, devices: int, num_items: int, sessions: int
) -> dict[str, Any]:
    """The record of a point: a step as an accelerator would make it.

    Args:
      config: checked.
      devices: that share the table.
      num_items: the largest item id.
      sessions: of a batch, on all devices together.
    """
    config = config.copy_and_resolve_references()
    config.optimizer.item_table = "rows"
    alone = {"steps_per_group": 1, "steps_per_call": 1}
    config.train.update(mesh=devices, batch_size=sessions, **alone)
    train = make_sessions(PROFILE, BATCHES * sessions, num_items)
    found = rehearsal.rehearse(config, num_items, train, ways=AS_ACCELERATORS)
    counts = negative_sampling(config).counts
    return {
        "devices": devices,
        "num_items": num_items,
        "sessions": sessions,
        "inputs": math.prod(found.inputs),
        "drawn": sum(counts.values()) - counts.get("in_batch", 0),
        "width": found.width,
        "table": found.table.each,
        "moments": found.moments.each,
        "encoder": found.encoder.each,
        "temporaries": found.temporaries,
        "received": found.received,
        "calls": found.calls,
        "flops": found.flops,
    }


if __name__ == "__main__":
    entry.start(main)
