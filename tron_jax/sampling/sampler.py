"""The sampler of a run: keys in, candidates out; nothing is kept between steps.

Negatives are drawn for groups of events: each event by itself, those of a session, or
the whole batch. What they are drawn from is a matter of ``sources``; a new way to group
events is a line in ``DRAWN_PER``.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tron_jax import rng
from tron_jax.data.packing import Batch
from tron_jax.sampling.candidates import Candidates, without_repeats
from tron_jax.sampling.exclusion import EXCLUDES, Excluded
from tron_jax.sampling.in_batch import IN_BATCH_FROM, choose_positions
from tron_jax.sampling.settings import NegativeSampling
from tron_jax.sampling.sources import (
    IN_BATCH,
    NO_CONSTANTS,
    SOURCES,
    Constants,
    constants_of,
    in_use,
)
from tron_jax.searching import searchsorted

# (step, batch, constants) -> candidates
Sampler = Callable[[jax.Array, Batch, Constants], Candidates]

# (session of each event [N], sessions of the batch) -> [groups] a session of each group
DRAWN_PER: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "event": lambda session, sessions: jnp.minimum(session, sessions - 1),
    "session": lambda session, sessions: jnp.arange(sessions),
    "batch": lambda session, sessions: jnp.zeros(1, jnp.int32),
}
# What makes sense to leave out of the draws for such a group.
FITTING_EXCLUDES = {
    "event": ("none", "session"),
    "session": ("none", "session"),
    "batch": ("none", "batch"),
}


def events_of_sessions(
    session: jax.Array, num_sessions: int, longest: int
) -> jax.Array:
    """Finds the events of each session of a packed stream.

    Args:
      session: [N] session of each event, ascending; num_sessions = padding.
      num_sessions: sessions that a batch may have.
      longest: L, the most events of a session.

    Returns:
      [num_sessions, L] positions in the stream; N where there are fewer.
    """
    number = jnp.arange(num_sessions)
    position = searchsorted(session, number)[:, None] + jnp.arange(longest)
    own = session.at[position].get(mode="fill", fill_value=-1) == number[:, None]
    return jnp.where(own, position, session.size)


def make_sampler(
    settings: NegativeSampling,
    *,
    num_items: int,
    num_sessions: int,
    max_session_length: int | None,
    seed: rng.Seed,
) -> Sampler:
    """Composes the sources of a run, what they leave out, and who shares their draws.

    Args:
      settings: of the run.
      num_items: the largest item id.
      num_sessions: sessions that a batch may have.
      max_session_length: the most inputs of a session; None will do where neither
        ``drawn_per`` nor ``exclude`` is about sessions.
      seed: of every draw.

    Returns:
      The pure sampler; its ``constants`` are those of the sources it draws from.

    Raises:
      KeyError: a name is not known; lists those that exist.
      ValueError: max_session_length is missing.
    """
    _check_names(settings)
    by_session = settings.drawn_per == "session" or settings.exclude == "session"
    if by_session and max_session_length is None:
        raise ValueError("negatives of a session need max_session_length")
    longest = max_session_length or 0
    counts = in_use(settings)
    num_in_batch = counts.pop(IN_BATCH, 0)

    def sample(
        step: jax.Array, batch: Batch, constants: Constants = NO_CONSTANTS
    ) -> Candidates:
        def key_of(source: str) -> jax.Array:
            return rng.step_key(seed, step, rng.source_stream(source))

        batch = jax.tree.map(jnp.asarray, batch)
        members = events_of_sessions(batch.session, num_sessions, longest)
        group_session = DRAWN_PER[settings.drawn_per](batch.session, num_sessions)
        excluded = EXCLUDES[settings.exclude](batch, members, group_session, num_items)
        groups = len(group_session)
        candidates = Candidates(
            *_draw(counts, key_of, groups, num_items, constants, excluded),
            *choose_positions(
                key_of(IN_BATCH),
                batch.session,
                num_sessions,
                num_in_batch,
                mask_session=settings.mask_session,
            ),
            targets=batch.labels if settings.in_batch_from == "labels" else None,
            members=members if settings.drawn_per == "session" else None,
        )
        if settings.deduplicate:
            return without_repeats(candidates, batch)
        return candidates

    return sample


def _check_names(settings: NegativeSampling) -> None:
    for name, known in (
        (settings.drawn_per, DRAWN_PER),
        (settings.exclude, EXCLUDES),
        (settings.in_batch_from, IN_BATCH_FROM),
    ):
        if name not in known:
            raise KeyError(f"{name!r}; expected one of: {', '.join(known)}")


def _draw(
    counts: dict[str, int],
    key_of: Callable[[str], jax.Array],
    groups: int,
    num_items: int,
    constants: Constants,
    excluded: Excluded | None,
) -> tuple[jax.Array, jax.Array]:
    """[groups, k] ids from all sources, and a keep that broadcasts to them."""
    if not counts:
        return jnp.zeros((groups, 0), jnp.int32), jnp.array(True)
    ids, keeps = [], []
    for name, count in counts.items():
        draw = SOURCES[name].draw
        assert draw is not None, f"{name!r} draws nothing"
        of_source = constants_of(name, constants)
        drawn = draw(key_of(name), (groups, count), num_items, of_source, excluded)
        ids.append(drawn[0])
        keeps.append(drawn[1])
    if len(ids) == 1:
        return ids[0], jnp.asarray(keeps[0])
    if all(keep is True for keep in keeps):
        return jnp.concatenate(ids, axis=1), jnp.array(True)
    whole = [jnp.broadcast_to(k, i.shape) for k, i in zip(keeps, ids, strict=True)]
    return jnp.concatenate(ids, axis=1), jnp.concatenate(whole, axis=1)
