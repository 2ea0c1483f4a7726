"""In-batch negatives: events of other sessions, without replacement."""

import functools

import jax
import numpy as np
import pytest
import reference_negatives as reference

from tron_jax.sampling.in_batch import choose_positions

SESSIONS = 5
choose = jax.jit(
    choose_positions, static_argnums=(2, 3), static_argnames="mask_session"
)


@pytest.mark.device
@pytest.mark.parametrize("mask_session", [True, False])
@pytest.mark.parametrize("num", [5, 40])
@pytest.mark.parametrize("seed", range(4))
def test_in_batch_negatives_are_distinct_events(seed, num, mask_session):
    session = reference.make_batch(seed).session
    key = jax.random.key(seed)
    positions, keep = (
        np.asarray(x)
        for x in choose(key, session, SESSIONS, num, mask_session=mask_session)
    )
    assert positions.shape == keep.shape == (SESSIONS, num)
    own = 0
    for row in range(SESSIONS):
        allowed = session < SESSIONS
        if mask_session:
            allowed &= session != row
        kept = positions[row, keep[row]]
        assert len(kept) == min(num, allowed.sum())
        assert len(set(kept.tolist())) == len(kept)
        assert allowed[kept].all()
        own += (session[kept] == row).sum()
    assert (own > 0) != mask_session


@pytest.mark.parametrize("mask_session", [True, False])
def test_in_batch_negatives_are_uniform_over_the_events(mask_session):
    session = reference.make_batch(3).session
    draw = functools.partial(
        choose_positions,
        session=session,
        num_sessions=SESSIONS,
        num=5,
        mask_session=mask_session,
    )
    keys = jax.random.split(jax.random.key(0), 4000)
    positions = np.asarray(jax.jit(jax.vmap(draw))(keys)[0])
    for row in range(SESSIONS):
        counts = np.bincount(positions[:, row].ravel(), minlength=len(session))
        allowed = session < SESSIONS
        if mask_session:
            allowed &= session != row
        expected = 4000 * 5 / allowed.sum()
        # without replacement: the variance shrinks by the share that is not drawn
        shrink = 1 - 5 / allowed.sum()
        chi_square = ((counts[allowed] - expected) ** 2 / expected / shrink).sum()
        freedom = allowed.sum() - 1
        assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)
