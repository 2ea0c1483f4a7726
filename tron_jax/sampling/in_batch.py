"""In-batch negatives: the clicks of other sessions of the same batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp

IN_BATCH_FROM = ("inputs", "labels")


def choose_positions(
    key: jax.Array,
    session: jax.Array,
    num_sessions: int,
    num: int,
    *,
    mask_session: bool,
) -> tuple[jax.Array, jax.Array]:
    """Chooses events of the batch for each session, without replacement.

    Every event of another session gets a random number and the ``num`` highest are
    chosen; with equal weights that is what Gumbel noise would do. The noise is drawn
    [N, sessions], so that a longer stream leaves the numbers of real events unchanged.

    Args:
      key: of this step and source.
      session: [N] session of each event; num_sessions = padding.
      num_sessions: sessions that a batch may have.
      num: how many per session.
      mask_session: leave out the session's own events.

    Returns:
      [num_sessions, num] positions in the stream, and which of them count: where there
      are fewer events than ``num``, the rest does not.

    Source: paper §2.1, in-batch negatives that exclude the session's own.
    """
    noise = jax.random.uniform(key, (session.size, num_sessions)).T
    allowed = session < num_sessions
    if mask_session:
        allowed &= session != jnp.arange(num_sessions)[:, None]
    noise = jnp.where(allowed, noise, -1.0)
    highest, positions = jax.lax.top_k(noise, min(num, session.size))
    missing = ((0, 0), (0, num - highest.shape[1]))
    return jnp.pad(positions, missing), jnp.pad(highest >= 0, missing)
