"""Scores of drawn negatives, by whichever way costs least at a step's shapes.

Each way returns the scores and, like ``jax.vjp``, the function that turns a gradient by
them into gradients by what made them; why that by the rows stays in pieces is said in
``objective.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.optimizers.touched import RowGradient

# (hidden [N, hidden], rows [R, hidden], drawn) -> scores [N, k], and what turns a
# gradient by them into that by the hidden states and by the rows
Backward = Callable[[jax.Array], tuple[jax.Array, list[RowGradient]]]
ScoreDrawn = Callable[[jax.Array, jax.Array, "DrawnRows"], tuple[jax.Array, Backward]]

# Multiplications that cost as much as gathering and scattering one number of a row.
# On a CPU at hidden 200 three matmuls take 0.04 ns a multiplication, all in all; two
# gathers and a scatter take 1.7 ns a number, and the matmuls between them up to twice
# that: 40 to 90 times. Below, since scores of all rows take the most memory.
MULTIPLICATIONS_PER_NUMBER = 32
LARGEST_SCORES = 2**28  # numbers that scores of all rows may have, 1 GiB
ROWS_AT_A_TIME = 2**15  # gathered at a time, 26 MB at hidden 200


class DrawnRows(NamedTuple):
    """The touched rows of what was drawn for each group of events.

    Attributes:
      numbers: [G, k] row number of each negative of each group.
      group: [N] group of each event.
      members: [G, L] positions in the stream of each group's events, N where there are
        fewer; None where each event is a group.
    """

    numbers: jax.Array
    group: jax.Array
    members: jax.Array | None


def of_gathered(
    score: Callable[[jax.Array, jax.Array], jax.Array],
    hidden: jax.Array,
    rows: jax.Array,
    numbers: jax.Array,
) -> tuple[jax.Array, Backward]:
    """Gathers rows and scores them: ``score(hidden, rows[numbers])``."""
    scores, back = jax.vjp(score, hidden, rows[numbers])

    def backward(by_scores: jax.Array) -> tuple[jax.Array, list[RowGradient]]:
        by_hidden, by_rows = back(by_scores)
        return by_hidden, [RowGradient(numbers, by_rows)]

    return scores, backward


def shared(
    hidden: jax.Array, rows: jax.Array, drawn: DrawnRows
) -> tuple[jax.Array, Backward]:
    """Scores one group's negatives by a matmul."""
    return of_gathered(lambda h, r: h @ r.T, hidden, rows, drawn.numbers[0])


def picked(
    hidden: jax.Array, rows: jax.Array, drawn: DrawnRows
) -> tuple[jax.Array, Backward]:
    """Scores all rows by a matmul and picks each event's negatives."""
    columns = drawn.numbers[drawn.group]
    of_all_rows = hidden @ rows.T
    scores = jnp.take_along_axis(of_all_rows, columns, axis=1, mode="promise_in_bounds")

    def one(event: tuple[jax.Array, jax.Array]) -> jax.Array:
        group, by_scores = event
        row = jnp.zeros(len(rows), by_scores.dtype)
        return row.at[drawn.numbers[group]].add(by_scores, mode="promise_in_bounds")

    def backward(by_scores: jax.Array) -> tuple[jax.Array, list[RowGradient]]:
        # A CPU adds up a row of all scores in its cache, twice as fast as in memory.
        by_all = lax.platform_dependent(
            (drawn.group, by_scores),
            cpu=lambda events: lax.map(one, events),
            default=jax.vmap(one),
        )
        return by_all @ rows, [RowGradient(None, by_all.T @ hidden)]

    return scores, backward


def gathered(
    hidden: jax.Array, rows: jax.Array, drawn: DrawnRows
) -> tuple[jax.Array, Backward]:
    """Gathers each group's rows, some groups at a time, and adds gradients in place.

    Memory beside the scores and the gradient of the rows is bounded by
    ``ROWS_AT_A_TIME``.
    """
    events = len(hidden)
    num_groups, k = drawn.numbers.shape
    members = drawn.members
    if members is None:
        members = jnp.arange(events)[:, None]
    size = max(1, min(num_groups, ROWS_AT_A_TIME // k))
    short = -num_groups % size
    numbers = jnp.pad(drawn.numbers, ((0, short), (0, 0)))
    members = jnp.pad(members, ((0, short), (0, 0)), constant_values=events)
    blocks = (numbers.reshape(-1, size, k), members.reshape(-1, size, members.shape[1]))

    def at(array: jax.Array, positions: jax.Array) -> jax.Array:
        return array.at[positions].get(mode="fill", fill_value=0)

    def score(scores, block):
        numbers, members = block
        found = jnp.einsum("gld,gkd->glk", at(hidden, members), rows[numbers])
        return scores.at[members].set(found, mode="drop"), None

    scores, _ = lax.scan(score, jnp.zeros((events, k), hidden.dtype), blocks)

    def backward(by_scores: jax.Array) -> tuple[jax.Array, list[RowGradient]]:
        def add(sums, block):
            by_hidden, by_rows = sums
            numbers, members = block
            by_found = at(by_scores, members)
            states = at(hidden, members)
            part = jnp.einsum("glk,gkd->gld", by_found, rows[numbers])
            by_hidden = by_hidden.at[members].set(part, mode="drop")
            by_numbers = jnp.einsum("glk,gld->gkd", by_found, states)
            return (by_hidden, by_rows.at[numbers].add(by_numbers)), None

        sums = (jnp.zeros_like(hidden), jnp.zeros_like(rows))
        (by_hidden, by_rows), _ = lax.scan(add, sums, blocks)
        return by_hidden, [RowGradient(None, by_rows)]

    return scores, backward


def gathered_at_once(
    hidden: jax.Array, rows: jax.Array, drawn: DrawnRows
) -> tuple[jax.Array, Backward]:
    """Gathers few rows for each event."""
    numbers = drawn.numbers[drawn.group]
    return of_gathered(
        lambda h, r: jnp.einsum("nd,nkd->nk", h, r), hidden, rows, numbers
    )


def cheapest(
    num_events: int, num_rows: int, numbers_shape: tuple[int, ...]
) -> ScoreDrawn:
    """Chooses the way that costs least at static shapes.

    With hidden numbers a row, scoring all rows costs events · rows · hidden
    multiplications, and gathering groups · k · hidden numbers, whichever is less.

    Args:
      num_events: N.
      num_rows: R.
      numbers_shape: (G, k).

    Returns:
      One of this module's functions.
    """
    groups, k = numbers_shape
    if groups == 1 or k == 0:
        return shared
    if groups * k <= ROWS_AT_A_TIME and groups == num_events:
        return gathered_at_once
    scores = num_events * num_rows
    if scores <= min(MULTIPLICATIONS_PER_NUMBER * groups * k, LARGEST_SCORES):
        return picked
    return gathered
