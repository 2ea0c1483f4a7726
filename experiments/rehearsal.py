"""What a run would take of each device, from shapes alone: ``train --dry_run``."""

from __future__ import annotations

import jax
from ml_collections import ConfigDict

from experiments import checks
from experiments.assembly import run_parts
from tron_jax import devices
from tron_jax.console.messages import readable, say
from tron_jax.memory import held, size, temporaries
from tron_jax.sharding import traffic


def run(config: ConfigDict, num_items: int | None) -> None:
    """Compiles the largest step of a run and says what it needs; nothing is allocated.

    Where there are fewer devices than train.mesh asks for, the CPU plays them: memory
    of other devices is laid out in another way, and temporaries differ there.

    Args:
      config: of the run.
      num_items: as if the data set had as many; None = as many as it has.

    Raises:
      UserError: where the run would be refused.
    """
    checks.check(config)
    if config.train.mesh > 1:
        jax.config.update("jax_num_cpu_devices", config.train.mesh)
    data = run_parts.open_data(config)
    num_items = num_items or data.num_items
    config = run_parts.resolve(config, num_items)
    say(devices.describe())
    train = run_parts.splits(config, data)["train"]
    parts = run_parts.build(config, num_items, train)
    state = parts.placement.shapes(jax.eval_shape(parts.init))
    largest = max(parts.batches.shapes, key=lambda dispatch: dispatch.shape)
    step = jax.jit(parts.train_step, donate_argnums=0)
    compiled = step.lower(state, largest, parts.constants).compile()
    shared = config.train.mesh if jax.default_backend() == "cpu" else 1
    table, items = state.items.table, size(state.items)
    rest = size(state) - items
    on_each = held(state.items) // shared
    rows = [
        ("item table", size(table), held(table) // shared),
        ("its moments", items - size(table), on_each - held(table) // shared),
        ("encoder", rest, rest),
        ("a step beside them", None, temporaries([compiled])),
    ]
    rows += [
        (f"received in a step by {kind}", None, received)
        for kind, received in sorted(traffic.received(compiled.as_text() or "").items())
    ]
    say(
        f"{num_items:,} items of width {table.shape[1]}, item_table="
        f"{config.optimizer.item_table}, {config.train.mesh} devices"
    )
    say(f"{'':32}{'altogether':>14}{'each device':>14}")
    for name, whole, of_each in rows:
        total = "" if whole is None else readable(whole)
        say(f"{name:32}{total:>14}{readable(of_each):>14}")
