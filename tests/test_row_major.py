"""Matrices lie row by row where a step is compiled for a TPU.

No TPU is there, so a CPU is told to have them by columns, which it would not unasked.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from experiments import rehearsal
from experiments.assembly import run_parts
from tron_jax import devices
from tron_jax.training import row_major
from tron_jax.training.step_programs import compile_steps

BY_COLUMNS = (1, 0)


@pytest.fixture
def by_columns(monkeypatch):
    monkeypatch.setattr(row_major, "ORDERS", {"cpu": BY_COLUMNS})


def order(array):
    return array.format.layout.major_to_minor


def make_state():
    table = jnp.arange(12.0).reshape(4, 3)
    return {"table": table, "step": jnp.int32(0), "sums": jnp.zeros(4)}


def step(state, row, constants):
    table = state["table"].at[row].add(1)
    return state | {"table": table, "step": state["step"] + 1}, jnp.sum(table)


def test_elsewhere_nothing_is_said_of_layouts():
    assert row_major.formats(jax.eval_shape(make_state)) is None
    assert compile_steps(step, make_state(), [jnp.int32(0)]).formats is None


@pytest.mark.portable
def test_a_state_is_laid_out_once(by_columns):
    programs = compile_steps(step, jax.eval_shape(make_state), [jnp.int32(0)])
    fresh = jax.jit(make_state)()
    assert order(fresh["table"]) == (0, 1)
    first, _ = programs(fresh, jnp.int32(2))
    assert fresh["table"].is_deleted()
    assert order(first["table"]) == BY_COLUMNS
    again = row_major.laid_out(first, programs.formats)
    assert all(again[name] is first[name] for name in first)
    second, total = programs(first, jnp.int32(2))
    assert first["table"].is_deleted()
    expected = np.arange(12.0).reshape(4, 3)
    expected[2] += 2
    np.testing.assert_array_equal(second["table"], expected)
    assert (second["step"], total) == (2, expected.sum())


def test_a_run_ends_the_same_however_its_matrices_lie(
    tmp_path, by_columns, train, evaluate, tiny_runs
):
    """It is evaluated, saved, and resumed from what lies as ever on the disk."""
    run = tmp_path / "run"
    assert train(run, train__epochs=1)[0] == 0
    assert train(run)[0] == 0
    wanted = tiny_runs("rows")
    tiny.assert_same_bits(tiny.saved(run)[0], tiny.saved(wanted)[0])
    tables = [evaluate(workdir, f"--out={tmp_path}")[:2] for workdir in (run, wanted)]
    assert tables[0][0] == 0
    assert tables[0] == tables[1]


def test_of_a_tpu_temporaries_do_not_grow_with_rows(tiny_data, monkeypatch):
    """Left to itself, XLA copies a table that is not a multiple of 128 wide."""
    pytest.importorskip("libtpu")
    there = devices.of_topology("v5e:2x2")
    config = tiny.config(tiny_data, model__hidden_size=200, train__steps_per_group=2)
    train = run_parts.splits(config, run_parts.open_data(config))["train"]

    def temporaries(num_items, mesh=1):
        config.train.mesh = mesh
        return rehearsal.rehearse(config, num_items, train, there).temporaries

    few = temporaries(100_000)
    assert temporaries(1_000_000) <= 1.1 * few
    four = temporaries(400_000, mesh=4)
    assert temporaries(4_000_000, mesh=4) <= 1.1 * four
    monkeypatch.setattr(row_major, "ORDERS", {})
    assert temporaries(100_000) > few + 100_000 * 200 * 4
