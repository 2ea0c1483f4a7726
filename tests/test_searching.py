import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax.searching import searchsorted


@pytest.mark.portable
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", [(), (40,), (3, 7)])
def test_equals_numpy(side, shape):
    rng = np.random.default_rng(0)
    for n in (1, 2, 17, 64):
        ascending = np.sort(rng.integers(0, 20, n).astype(np.int32))
        values = rng.integers(-2, 22, shape).astype(np.int32)
        found = jax.jit(searchsorted, static_argnums=2)(ascending, values, side)
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, np.searchsorted(ascending, values, side))


@pytest.mark.portable
@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_no_loop_of_small_operations_on_accelerators(platform, loops):
    row, values = (jax.ShapeDtypeStruct((n,), np.int32) for n in (64, 500))
    traced = jax.jit(lambda row, values: searchsorted(row, values)).trace(row, values)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.while") == loops
