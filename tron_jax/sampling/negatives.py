"""Negative samplers: keys in, candidates out; nothing is remembered between steps.

Negatives are drawn for groups of events: each event by itself, those of a session, or
the whole batch. A new way to group or to exclude is a function in this file and a line
in ``UNIFORM_STYLES`` or ``EXCLUDES``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tron_jax import rng
from tron_jax.data.packing import Batch
from tron_jax.sampling import exclusion
from tron_jax.sampling import popularity as popularities
from tron_jax.sampling.candidates import Candidates, without_repeats
from tron_jax.sampling.exclusion import Excluded
from tron_jax.sampling.popularity import Popularity

IN_BATCH_FROM = ("inputs", "labels")


# (step, batch, popularity) -> candidates
Sampler = Callable[[jax.Array, Batch, Popularity | None], Candidates]

# (session [N], sessions) -> [G] a session of each group
UNIFORM_STYLES: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "eventwise": lambda session, sessions: jnp.minimum(session, sessions - 1),
    "sessionwise": lambda session, sessions: jnp.arange(sessions),
    "batchwise": lambda session, sessions: jnp.zeros(1, jnp.int32),
}


def members(session: jax.Array, num_sessions: int, longest: int) -> jax.Array:
    """Finds the events of each session of a packed stream.

    Args:
      session: [N] session of each event, ascending; num_sessions = padding.
      num_sessions: sessions that a batch may have.
      longest: L, the most events of a session.

    Returns:
      [num_sessions, L] places in the stream; N where there are fewer.
    """
    number = jnp.arange(num_sessions)
    place = jnp.searchsorted(session, number)[:, None] + jnp.arange(longest)
    own = session.at[place].get(mode="fill", fill_value=-1) == number[:, None]
    return jnp.where(own, place, session.size)


def exclude_session(
    batch: Batch, places: jax.Array, owner: jax.Array, num_items: int
) -> Excluded:
    """The distinct inputs of each group's session."""
    items = batch.items.at[places].get(mode="fill", fill_value=0)
    excluded = exclusion.distinct(items, num_items)
    return Excluded(excluded.items[owner], excluded.count[owner])


# (batch, members [sessions, L], a session of each group [G], num_items) -> left out
EXCLUDES: dict[str, Callable[[Batch, jax.Array, jax.Array, int], Excluded | None]] = {
    "none": lambda batch, places, owner, num_items: None,
    "session": exclude_session,
    "batch": lambda batch, places, owner, num_items: exclusion.distinct(
        batch.items[None], num_items
    ),
}


def uniform(
    key: jax.Array, shape: tuple[int, int], num_items: int, excluded: Excluded | None
) -> tuple[jax.Array, jax.Array]:
    """Draws items with equal chances, with replacement.

    Args:
      key: of this step's stream.
      shape: G groups, and how many for each.
      num_items: items are 1..num_items.
      excluded: left out, or None.

    Returns:
      [G, k] item ids, and bool that broadcasts to it, false where nothing was left to
      draw from.

    Source: paper §2.1, uniform sampling.
    """
    if excluded is None:
        return jax.random.randint(key, shape, 1, num_items + 1), jnp.array(True)
    left = num_items - excluded.count[:, None]
    draws = jax.random.randint(key, shape, 0, jnp.maximum(left, 1))
    # Fewer inputs than items always leave some; said so, no mask is computed.
    always = excluded.items.shape[1] < num_items
    ids = jnp.minimum(exclusion.skip(excluded, draws), num_items).astype(jnp.int32)
    return ids, jnp.array(True) if always else left > 0


def popular(
    key: jax.Array,
    shape: tuple[int, int],
    popularity: Popularity,
    excluded: Excluded | None,
) -> tuple[jax.Array, jax.Array]:
    """Draws items in proportion to clicks^exponent, with replacement.

    What is to be left out is drawn all the same and then does not count: how often the
    items that are left are clicked follows from no index.

    Args:
      key: of this step's stream.
      shape: G groups, and how many for each.
      popularity: of the items.
      excluded: left out, or None.

    Returns:
      [G, k] item ids, and bool that broadcasts to it, false where one is left out.

    Source: GRU4Rec's popularity-based sampling.
    """
    ids = popularities.draw(key, shape, popularity)
    if excluded is None:
        return ids, jnp.array(True)
    return ids, ~exclusion.holds(excluded.items, ids)


def in_batch(
    key: jax.Array,
    session: jax.Array,
    num_sessions: int,
    num: int,
    *,
    mask_session: bool,
) -> tuple[jax.Array, jax.Array]:
    """Chooses events of the batch for each session, without replacement.

    Every event of another session gets a random number and the ``num`` highest are
    taken; with equal weights that is what Gumbel noise would do. The noise is drawn
    [N, sessions], so that a longer stream leaves the numbers of real events unchanged.

    Args:
      key: of this step's stream.
      session: [N] session of each event; num_sessions = padding.
      num_sessions: sessions that a batch may have.
      num: how many per session.
      mask_session: leave out the session's own events.

    Returns:
      [num_sessions, num] places in the stream, and which of them to keep: where there
      are fewer events than ``num``, the rest is to be masked.

    Source: paper §2.1, in-batch negatives that exclude the session's own.
    """
    noise = jax.random.uniform(key, (session.size, num_sessions)).T
    allowed = session < num_sessions
    if mask_session:
        allowed &= session != jnp.arange(num_sessions)[:, None]
    noise = jnp.where(allowed, noise, -1.0)
    drawn, places = jax.lax.top_k(noise, min(num, session.size))
    short = ((0, 0), (0, num - drawn.shape[1]))
    return jnp.pad(places, short), jnp.pad(drawn >= 0, short)


def make_sampler(
    *,
    num_items: int,
    num_sessions: int,
    max_session_length: int | None,
    num_uniform: int,
    num_popularity: int,
    uniform_style: str,
    exclude: str,
    num_in_batch: int,
    in_batch_from: str,
    mask_session: bool,
    deduplicate: bool,
    seed: int,
) -> Sampler:
    """Composes the samplers of a config into one.

    Args:
      num_items: the largest item id.
      num_sessions: sessions that a batch may have.
      max_session_length: the most inputs of a session; None will do where neither
        style nor exclusion is about sessions.
      num_uniform: negatives drawn uniformly, per group.
      num_popularity: negatives drawn by popularity, per group.
      uniform_style: one of ``UNIFORM_STYLES``: who shares those drawn.
      exclude: one of ``EXCLUDES``: whose inputs are never among those drawn.
      num_in_batch: in-batch negatives per session.
      in_batch_from: one of ``IN_BATCH_FROM``: what of the batch's events they are.
      mask_session: leave out the session's own.
      deduplicate: let only the first of equal candidates of an event count.
      seed: of every draw.

    Returns:
      The pure sampler; it needs ``popularity`` where num_popularity is not 0.

    Raises:
      KeyError: a style, exclusion or pool has another name; lists those that exist.
      ValueError: max_session_length is missing.
    """
    for name, known in (
        (uniform_style, UNIFORM_STYLES),
        (exclude, EXCLUDES),
        (in_batch_from, IN_BATCH_FROM),
    ):
        if name not in known:
            raise KeyError(f"{name!r}; expected one of: {', '.join(known)}")
    by_session = uniform_style == "sessionwise" or exclude == "session"
    if by_session and max_session_length is None:
        raise ValueError("negatives of a session need max_session_length")
    longest = max_session_length or 0

    def drawn(
        step: jax.Array, batch: Batch, popularity: Popularity | None, places: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        owner = UNIFORM_STYLES[uniform_style](batch.session, num_sessions)
        excluded = EXCLUDES[exclude](batch, places, owner, num_items)
        key = rng.step_key(seed, step, rng.UNIFORM)
        shape = (len(owner), num_uniform)
        ids, keep = uniform(key, shape, num_items, excluded)
        if num_popularity == 0:
            return ids, keep
        assert popularity is not None, "num_popularity needs a popularity"
        key = rng.step_key(seed, step, rng.POPULARITY)
        more, more_keep = popular(
            key, (len(owner), num_popularity), popularity, excluded
        )
        if num_uniform == 0:
            return more, more_keep
        if excluded is not None:
            keep = jnp.broadcast_to(keep, ids.shape)
            keep = jnp.concatenate([keep, more_keep], axis=1)
        return jnp.concatenate([ids, more], axis=1), keep

    def sample(
        step: jax.Array, batch: Batch, popularity: Popularity | None = None
    ) -> Candidates:
        batch = jax.tree.map(jnp.asarray, batch)
        places = members(batch.session, num_sessions, longest)
        key = rng.step_key(seed, step, rng.IN_BATCH)
        candidates = Candidates(
            *drawn(step, batch, popularity, places),
            *in_batch(
                key,
                batch.session,
                num_sessions,
                num_in_batch,
                mask_session=mask_session,
            ),
            targets=batch.labels if in_batch_from == "labels" else None,
            members=places if uniform_style == "sessionwise" else None,
        )
        return without_repeats(candidates, batch) if deduplicate else candidates

    return sample
