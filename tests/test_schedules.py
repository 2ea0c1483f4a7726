import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax.optimizers.schedules import SCHEDULES, make_schedule


def slow(name, step, peak, rise, steps, end):
    """One rate, by words: it rises, then falls, then stays."""
    rate = peak * min(1.0, (step + 1) / rise) if rise else peak
    if name == "constant":
        return rate
    share = min(1.0, step / steps)
    fallen = {
        "step": 1.0 if step >= steps else 0.0,
        "linear": share,
        "cosine": 0.5 - 0.5 * np.cos(np.pi * share),
    }[name]
    return rate * (1 - fallen + end * fallen)


@pytest.mark.portable
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("rise", "end"), [(0, 0.0), (5, 0.1), (30, 1.0)])
def test_equals_the_slow_one_and_is_constant_from_its_horizon_on(name, rise, end):
    steps = 0 if name == "constant" else 20
    rate, horizon = make_schedule(name, 2e-3, warmup_steps=rise, steps=steps, end=end)
    wanted = [slow(name, s, 2e-3, rise, steps, end) for s in range(60)]
    updates = np.arange(60.0)
    np.testing.assert_allclose(np.broadcast_to(rate(updates), 60), wanted, rtol=1e-12)
    of_jax = [float(rate(jnp.int32(s))) for s in (0, 7, 19, 20, 59)]
    np.testing.assert_allclose(of_jax, [wanted[s] for s in (0, 7, 19, 20, 59)], 1e-5)
    assert len(set(np.broadcast_to(rate(np.arange(horizon, 90.0)), 90 - horizon))) == 1


def test_another_name_is_refused():
    with pytest.raises(KeyError, match="constant, step, linear, cosine"):
        make_schedule("sine", 1.0, warmup_steps=0, steps=1, end=0)
