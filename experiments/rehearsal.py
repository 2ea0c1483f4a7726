"""What a run would take of each device, from shapes alone: ``train --dry_run``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from absl import flags
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict

from experiments import checks
from experiments.assembly import run_parts
from experiments.assembly.ways import Ways
from tron_jax import devices
from tron_jax.console.messages import readable, say
from tron_jax.data.sessions import Sessions
from tron_jax.errors import UserError
from tron_jax.memory import size, temporaries
from tron_jax.sharding import traffic
from tron_jax.steps import TrainState
from tron_jax.training.step_programs import compile_steps


class Part(NamedTuple):
    """Bytes of a part of the state, of all devices and of each."""

    altogether: int
    each: int


class Rehearsal(NamedTuple):
    """What the largest step of a run takes.

    Attributes:
      config: resolved.
      width: of the item table.
      inputs: [N] of a step, or [T, N] of T steps in a dispatch.
      table: the item table.
      moments: what its optimizer keeps of it.
      encoder: all else of the state.
      temporaries: bytes of each device beside its arguments.
      arguments: bytes of each device's arguments as they lie in its memory.
      received: see ``traffic.received``.
      calls: see ``traffic.calls``.
      flops: of each device, by XLA's count; a loop counts once.
    """

    config: ConfigDict
    width: int
    inputs: tuple[int, ...]
    table: Part
    moments: Part
    encoder: Part
    temporaries: int
    arguments: int
    received: dict[str, int]
    calls: dict[str, int]
    flops: float


def define_flags(values: flags.FlagValues) -> None:
    """Those of a dry run."""
    flags.DEFINE_bool("dry_run", False, "Say what each device would hold.", values)
    flags.DEFINE_integer(
        "items", None, "Of a dry run: as if there were so many.", 1, None, values
    )
    flags.DEFINE_string(
        "topology", None, "Of a dry run: for TPUs such as v5e:2x4.", values
    )


def asked_for(values: flags.FlagValues) -> bool:
    """Whether a run is to be rehearsed.

    Raises:
      UserError: for a flag of a dry run without one.
    """
    for name in ("items", "topology"):
        if values[name].value is not None and not values.dry_run:
            raise UserError(f"--{name} is given without --dry_run")
    return bool(values.dry_run)


def run(config: ConfigDict, num_items: int | None, topology: str | None) -> None:
    """Compiles the largest step of a run and says what it needs; nothing is allocated.

    Where there are fewer devices than train.mesh asks for, the CPU plays them: memory
    of other devices is laid out in another way, and temporaries differ there. For a
    slice of TPUs it is compiled as it would be there.

    Args:
      config: of the run.
      num_items: as if the data set had as many; None = as many as it has.
      topology: name of the slice; None = what is here.

    Raises:
      UserError: where the run would be refused.
    """
    checks.check(config)
    there = play(topology, config.train.mesh)
    data = run_parts.open_data(config)
    num_items = num_items or data.num_items
    say(f"compiled for {there[0].device_kind}" if there else devices.describe())
    train = run_parts.splits(config, data)["train"]
    rehearsed = rehearse(config, num_items, train, there)
    say(
        f"{num_items:,} items of width {rehearsed.width}, item_table="
        f"{rehearsed.config.optimizer.item_table}, {rehearsed.config.train.mesh} "
        "devices"
    )
    for line in table(rehearsed):
        say(line)


def play(topology: str | None, mesh: int) -> list[jax.Device] | None:
    """Sees to it that there are devices to compile for, before jax looks for any.

    Args:
      topology: name of a slice of TPUs; None = none.
      mesh: devices that are asked for; 0 = all.

    Returns:
      Those of the slice, or None where it is for those there are.
    """
    there = devices.of_topology(topology) if topology else None
    if there:
        jax.config.update("jax_platforms", "cpu")  # a TPU here is not looked for
    if mesh > 1:
        jax.config.update("jax_num_cpu_devices", mesh)
    return there


def rehearse(
    config: ConfigDict,
    num_items: int,
    train: Sessions,
    there: Sequence[jax.Device] | None = None,
    ways: Ways | None = None,
) -> Rehearsal:
    """Compiles the largest step of a run.

    Args:
      config: checked.
      num_items: the largest item id.
      train: sessions that the run trains on.
      there: devices to compile for; None = those there are.
      ways: to compute; None = the best of these devices.
    """
    config = run_parts.resolve(config, num_items, there, train=train)
    parts = run_parts.build(config, num_items, train, ways, there)
    state = parts.placement.shapes(jax.eval_shape(parts.init))
    if there and config.train.mesh == 1:
        state = _on(there[0], state)
    largest = max(parts.batches.shapes, key=lambda dispatch: dispatch.shape)
    programs = compile_steps(parts.train_step, state, [largest], parts.constants)
    compiled = programs.by_shape[largest.shape]
    analysis, text = compiled.memory_analysis(), compiled.as_text() or ""
    items, item_table = _part(state.items), _part(state.items.table)
    rest = _part(state._replace(items=()))
    return Rehearsal(
        config,
        state.items.table.shape[1],
        largest.shape,
        item_table,
        Part(*(a - b for a, b in zip(items, item_table, strict=True))),
        rest,
        temporaries([compiled]),
        0 if analysis is None else analysis.argument_size_in_bytes,
        traffic.received(text),
        traffic.calls(text),
        float((compiled.cost_analysis() or {}).get("flops", math.nan)),
    )


def table(rehearsed: Rehearsal) -> list[str]:
    """Lines of a table of the bytes, of all devices and of each."""
    rows: list[tuple[str, Part | int]] = [
        ("item table", rehearsed.table),
        ("its moments", rehearsed.moments),
        ("encoder", rehearsed.encoder),
        ("these and clicks as they lie", rehearsed.arguments),
        ("a step beside them", rehearsed.temporaries),
    ]
    rows += [
        (f"received in a step by {kind}", received)
        for kind, received in sorted(rehearsed.received.items())
    ]
    lines = [f"{'':36}{'altogether':>14}{'each device':>14}"]
    for name, found in rows:
        total, each = found if isinstance(found, Part) else (None, found)
        total = "" if total is None else readable(total)
        lines.append(f"{name:36}{total:>14}{readable(each):>14}")
    return lines


def _on(device: jax.Device, state: TrainState) -> TrainState:
    place = SingleDeviceSharding(device)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state
    )


def _part(tree: Any) -> Part:
    return Part(size(tree), sum(map(_on_each, jax.tree.leaves(tree))))


def _on_each(array: Any) -> int:
    place = getattr(array, "sharding", None)
    shape = place.shard_shape(array.shape) if place else array.shape
    return math.prod(shape) * array.dtype.itemsize
