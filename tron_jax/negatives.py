"""Negative samplers: keys in, candidates out; nothing is remembered between steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax import rng
from tron_jax.data.packing import Batch
from tron_jax.popularity import Popularity

UNIFORM_STYLES = ("batchwise",)
EXCLUDES = ("none", "batch")


class Candidates(NamedTuple):
    """All negatives of the events of a batch, before selection.

    Columns 0..k-1 of an event are the drawn ones of its group, the next m the in-batch
    ones of its session. A group is the batch, a session or an event.

    Attributes:
      drawn: [G, k] item ids; G = 1, sessions or N.
      drawn_keep: bool that broadcasts to [G, k], false where nothing could be drawn.
      in_batch: [sessions, m] places in the stream.
      in_batch_keep: [sessions, m] bool.
    """

    drawn: jax.Array
    drawn_keep: jax.Array
    in_batch: jax.Array
    in_batch_keep: jax.Array

    def of_events(self, session: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[N, m] places and keep of each event's in-batch negatives."""
        row = jnp.minimum(session, len(self.in_batch) - 1)  # padding borrows the last
        return self.in_batch[row], self.in_batch_keep[row]


# (step, batch, popularity) -> candidates
Sampler = Callable[[jax.Array, Batch, Popularity | None], Candidates]


class Excluded(NamedTuple):
    """Items that a sampler leaves out.

    Attributes:
      items: [n] int32 ascending, distinct in front, then larger than any item.
      count: scalar int32, how many stand in front.
    """

    items: jax.Array
    count: jax.Array


def exclude_inputs(items: jax.Array, num_items: int) -> Excluded:
    """The distinct inputs of a batch.

    Args:
      items: [N] inputs; 0 = padding, which is no item and needs no excluding.
      num_items: the largest item id.

    Returns:
      What ``uniform_batchwise`` leaves out.
    """
    beyond = num_items + 1
    ordered = jnp.sort(jnp.where(items == 0, beyond, items))
    repeated = jnp.concatenate([jnp.array([False]), ordered[1:] == ordered[:-1]])
    distinct = jnp.sort(jnp.where(repeated, beyond, ordered))
    return Excluded(distinct, jnp.sum(distinct < beyond, dtype=jnp.int32))


def uniform_batchwise(
    key: jax.Array, num: int, num_items: int, excluded: Excluded | None
) -> tuple[jax.Array, jax.Array]:
    """Draws items that all events of the batch share, with replacement.

    The j-th smallest item that is not excluded is found by index arithmetic: of the
    excluded items e_0 < e_1 < …, those with e_i - 1 - i ≤ j stand before it.

    Args:
      key: of this step's stream.
      num: how many to draw.
      num_items: items are 1..num_items.
      excluded: left out, or None.

    Returns:
      [num] item ids, and a scalar that is false where nothing was left to draw from.

    Source: paper §2.1, batchwise uniform sampling.
    """
    if excluded is None:
        ids = jax.random.randint(key, (num,), 1, num_items + 1)
        return ids, jnp.array(True)
    left = num_items - excluded.count
    draws = jax.random.randint(key, (num,), 0, jnp.maximum(left, 1))
    place = jnp.arange(excluded.items.size)
    beyond = jnp.iinfo(jnp.int32).max  # so that the search sees ascending numbers
    shifted = jnp.where(place < excluded.count, excluded.items - 1 - place, beyond)
    before = jnp.searchsorted(shifted, draws, side="right")
    # Fewer inputs than items always leave some; said so, no mask is computed.
    some_left = jnp.array(True) if excluded.items.size < num_items else left > 0
    return jnp.minimum(1 + draws + before, num_items).astype(jnp.int32), some_left


def in_batch(
    key: jax.Array, session: jax.Array, num_sessions: int, num: int
) -> tuple[jax.Array, jax.Array]:
    """Chooses inputs of the other sessions of the batch, without replacement.

    Every input of another session gets a random number and the ``num`` highest are
    taken; with equal weights that is what Gumbel noise would do. The noise is drawn
    [N, sessions], so that a longer stream leaves the numbers of real events unchanged.

    Args:
      key: of this step's stream.
      session: [N] session of each input; num_sessions = padding.
      num_sessions: sessions that a batch may have.
      num: how many per session.

    Returns:
      [num_sessions, num] places in the stream, and which of them to keep: where the
      other sessions have fewer inputs than ``num``, the rest is to be masked.

    Source: paper §2.1, in-batch negatives that exclude the session's own.
    """
    noise = jax.random.uniform(key, (session.size, num_sessions)).T
    other = (session != jnp.arange(num_sessions)[:, None]) & (session < num_sessions)
    drawn, places = jax.lax.top_k(jnp.where(other, noise, -1.0), min(num, session.size))
    short = ((0, 0), (0, num - drawn.shape[1]))
    return jnp.pad(places, short), jnp.pad(drawn >= 0, short)


def hits(candidates: jax.Array, labels: jax.Array) -> jax.Array:
    """Marks negatives that are the very item an event should predict.

    Inputs of other sessions are popular items and often equal the label; scored as
    wrong answers they punish the right one, and the hardest k keep exactly those.

    Args:
      candidates: [C] or [N, C] item ids.
      labels: [N] next items; 0 = padding, which no candidate equals.

    Returns:
      [N, C] bool, true where the candidate is the event's label.

    Source: ours; the published code has no such option (``negatives.mask_hits``).
    """
    return candidates == labels[:, None]


def make_sampler(
    *,
    num_items: int,
    num_sessions: int,
    num_uniform: int,
    num_in_batch: int,
    exclude: str,
    seed: int,
) -> Sampler:
    """Composes the samplers of a config into one.

    Args:
      num_items: the largest item id.
      num_sessions: sessions that a batch may have.
      num_uniform: uniform negatives, shared by the batch.
      num_in_batch: in-batch negatives per session.
      exclude: one of ``EXCLUDES``: whose inputs are never among the uniform ones.
      seed: of every draw.

    Returns:
      The pure sampler.
    """

    def sample(
        step: jax.Array, batch: Batch, popularity: Popularity | None = None
    ) -> Candidates:
        excluded = (
            exclude_inputs(batch.items, num_items) if exclude == "batch" else None
        )
        uniform_key = rng.step_key(seed, step, rng.UNIFORM)
        in_batch_key = rng.step_key(seed, step, rng.IN_BATCH)
        drawn, keep = uniform_batchwise(uniform_key, num_uniform, num_items, excluded)
        return Candidates(
            drawn[None],
            keep,
            *in_batch(in_batch_key, batch.session, num_sessions, num_in_batch),
        )

    return sample
