"""Uniform draws from a range of any size, none more often than another."""

import jax
import numpy as np
import pytest

from tron_jax.sampling import even


@pytest.mark.portable
@pytest.mark.device
@pytest.mark.parametrize("end", [1, 2, 3, 10**7, 10**8, 2**31 - 1])
def test_a_large_range_is_the_upper_half_of_a_product(end):
    key = jax.random.key(end)
    bits = np.asarray(jax.random.bits(key, (2, 50, 40), "uint32")).tolist()
    draw = jax.jit(even.between, static_argnums=(1, 2, 4))
    drawn = draw(key, (50, 40), 0, end, 2**31 - 1)
    assert drawn.dtype == np.int32
    for row, uppers, lowers in zip(drawn.tolist(), *bits, strict=True):
        wanted = [
            ((u << 32 | v) * end) >> 64 for u, v in zip(uppers, lowers, strict=True)
        ]
        assert row == wanted


def test_a_hundred_million_have_equal_chances():
    """Those beyond 2^32 modulo the range are 5.03 % of it; randint draws 4.92 %."""
    end, draws = 10**8, 2_000_000
    key = jax.random.key(0)
    share = 1 - 2**32 % end / end
    error = np.sqrt(share * (1 - share) / draws)
    large = even.between(key, (draws,), 0, end, end)
    assert abs(np.mean(large >= 2**32 % end) - share) < 4 * error
    small = jax.random.randint(key, (draws,), 0, end)
    assert abs(np.mean(small >= 2**32 % end) - share) > 4 * error


@pytest.mark.parametrize("end", [5, np.array([[3], [7]])])
def test_a_small_range_is_drawn_as_ever(end):
    key = jax.random.key(3)
    drawn = even.between(key, (2, 90), 0, end, even.LARGE - 1)
    np.testing.assert_array_equal(drawn, jax.random.randint(key, (2, 90), 0, end))


def test_a_range_may_begin_anywhere():
    key, most = jax.random.key(2), even.LARGE
    from_0 = even.between(key, (500,), 0, most, most)
    np.testing.assert_array_equal(
        even.between(key, (500,), 1, most + 1, most), 1 + from_0
    )


def test_each_row_has_a_range_of_its_own():
    ends = np.array([[1], [2], [40_000_000]])
    drawn = np.asarray(even.between(jax.random.key(1), (3, 4000), 0, ends, 50_000_000))
    assert (drawn >= 0).all()
    assert (drawn < ends).all()
    assert drawn[1].mean() == pytest.approx(0.5, abs=0.05)
    assert drawn[2].mean() == pytest.approx(20_000_000, rel=0.05)
