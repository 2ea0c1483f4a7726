"""Every published config takes steps on tiny data."""

import itertools

import jax
import numpy as np
import pytest
import tiny
from test_configs import PUBLISHED, get_config

from experiments import checks
from experiments.assembly import run_parts

# No more than this of each, so that a step costs little; what is 0 stays so.
SMALL = {
    "model.hidden_size": 8,
    "model.feedforward_size": 8,
    "model.num_layers": 1,
    "negatives.num_uniform": 16,
    "negatives.num_popularity": 16,
    "negatives.num_in_batch": 5,
    "loss.topk": 8,
    "train.batch_size": 12,
    "train.steps_per_call": 2,
}


def shrunk(config, data):
    for field, most in SMALL.items():
        group, name = field.split(".")
        config[group][name] = min(config[group][name], most)
    config.data.path = str(data)
    checks.check(config)
    return config


# ``test_configs`` builds each with every data set; two programs that differ in numbers
# alone prove no more than one. In bfloat16: what is selected, and what is not.
CASES = [
    *((name, "diginetica", "float32") for name in (*PUBLISHED, "tron_plus")),
    *(
        (name, "otto", "bfloat16")
        for name in ("tron_xl", "sasrec_bpr_max", "gru4rec_original")
    ),
]


@pytest.mark.parametrize(("name", "dataset", "dtype"), CASES)
def test_takes_two_steps(name, dataset, dtype, tiny_data, compilations):
    """They move every array of the encoder, and each the rows of its labels."""
    config = get_config(name, dataset)
    config.model.compute_dtype = dtype
    config = shrunk(config, tiny_data)
    data = run_parts.open_data(config)
    config = run_parts.resolve(config, data.num_items, train=data.train)
    parts = run_parts.build(config, data.num_items, data.train)
    with tiny.compiled_once(compilations):
        train_step = jax.jit(parts.train_step)
        states, batches = [jax.jit(parts.init)()], []
        for step in range(2):
            batch, steps = parts.batches.dispatch_at(step, step + 1)
            assert steps == 1
            state, totals = train_step(states[-1], batch, parts.constants)
            states.append(jax.tree.map(np.asarray, state))
            batches.append(getattr(batch, "batches", batch))
            assert np.sum(totals.events) == np.sum(batches[-1].weight) > 0
            assert np.isfinite(totals.loss).all()
            assert np.sum(totals.loss) > 0
    for (before, after), batch in zip(itertools.pairwise(states), batches, strict=True):
        assert after.step == before.step + 1
        moved = (after.items.table != before.items.table).any(axis=1)
        assert moved[batch.labels[batch.weight > 0]].all()
        assert not moved[0]
    for old, new in zip(*map(jax.tree.leaves, (states[0], states[2])), strict=True):
        assert old.dtype == new.dtype
        assert np.isfinite(new).all()
    # What meets the carried state moves from the second step on, when there is one.
    pairs = map(jax.tree.leaves, (states[0].params, states[2].params))
    assert all((new != old).any() for old, new in zip(*pairs, strict=True))
