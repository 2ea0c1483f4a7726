"""The negatives of a batch: which there are, and which of them count."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.sampling import exclusion


class Candidates(NamedTuple):
    """All negatives of the events of a batch, before selection.

    Columns 0..k-1 of an event are the drawn ones of its group, the next m the in-batch
    ones of its session. A group is the batch, a session or an event.

    Attributes:
      drawn: [G, k] item ids; G = 1, sessions or N.
      drawn_keep: bool that broadcasts to [G, k], which of them count.
      in_batch: [sessions, m] positions in the stream.
      in_batch_keep: [sessions, m] bool, which of them count.
      targets: [N] labels, where in-batch negatives are labels; None where they are
        inputs.
      members: [sessions, L] positions in the stream of each session's events, N where
        there are fewer; None unless a group is a session.
      repeats: [N, m] bool, true where an in-batch negative has been drawn for the event
        as well; None where ``in_batch_keep`` already says so.
    """

    drawn: jax.Array
    drawn_keep: jax.Array
    in_batch: jax.Array
    in_batch_keep: jax.Array
    targets: jax.Array | None = None
    members: jax.Array | None = None
    repeats: jax.Array | None = None

    def of_events(self, session: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[N, m] positions and keep of each event's in-batch negatives."""
        row = jnp.minimum(session, len(self.in_batch) - 1)  # padding has the last row's
        keep = self.in_batch_keep[row]
        if self.repeats is not None:
            keep &= ~self.repeats
        return self.in_batch[row], keep

    def groups(self, session: jax.Array) -> jax.Array:
        """[N] row of ``drawn`` of each event."""
        if len(self.drawn) == 1:
            return jnp.zeros_like(session)
        if self.members is None:
            return jnp.arange(session.size)
        return jnp.minimum(session, len(self.drawn) - 1)

    def pool(self, inputs: jax.Array, labels: jax.Array) -> jax.Array:
        """[N] what in-batch negatives are: of inputs and labels, whichever they are."""
        return inputs if self.targets is None else labels


def hits(candidates: jax.Array, labels: jax.Array) -> jax.Array:
    """Marks negatives that are the very item an event should predict.

    Inputs of other sessions are popular items and often equal the label. Scored as
    wrong answers they punish the right one, and the hardest k include exactly those.

    Args:
      candidates: [C] or [N, C] item ids.
      labels: [N] next items; 0 = padding, which no candidate equals.

    Returns:
      [N, C] bool, true where the candidate is the event's label.

    Source: ours; the published code has no such option (``negatives.mask_hits``).
    """
    return candidates == labels[:, None]


def without_repeats(candidates: Candidates, batch: Batch) -> Candidates:
    """Lets only the first of equal items among the candidates of an event count.

    Args:
      candidates: the candidates.
      batch: the events.

    Returns:
      The same candidates, fewer of which count.

    Source: ours (``negatives.deduplicate``).
    """
    keep = jnp.broadcast_to(candidates.drawn_keep, candidates.drawn.shape)
    # A candidate that does not count is replaced by 0, so that it is not taken for the
    # first of the equal ones that do.
    drawn = jnp.where(keep, candidates.drawn, 0)
    first, ordered = exclusion.first_of_equals(drawn)
    pool = candidates.pool(batch.items, batch.labels)
    in_batch = jnp.where(candidates.in_batch_keep, pool[candidates.in_batch], 0)
    first_in_batch, _ = exclusion.first_of_equals(in_batch)
    candidates = candidates._replace(
        drawn_keep=keep & first,
        in_batch_keep=candidates.in_batch_keep & first_in_batch,
    )
    if len(drawn) > 1 and candidates.members is None:
        row = jnp.minimum(batch.session, len(in_batch) - 1)
        return candidates._replace(repeats=exclusion.holds(ordered, in_batch[row]))
    not_drawn = ~exclusion.holds(ordered, in_batch)
    return candidates._replace(in_batch_keep=candidates.in_batch_keep & not_drawn)
