"""Scores of drawn negatives, by whichever way costs least at a step's shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

# gradient by scores [N, C] -> gradient by hidden states [N, hidden], and by rows: pairs
# of row numbers [...] and gradients [..., hidden], to be added up; numbers None stand
# for all rows in order
ByRows = list[tuple[jax.Array | None, jax.Array]]
Backward = Callable[[jax.Array], tuple[jax.Array, ByRows]]

# Multiplications that cost as much as gathering and scattering one number of a row.
# On a CPU at hidden 200 three matmuls take 0.04 ns a multiplication, all in all; two
# gathers and a scatter take 1.7 ns a number, and the matmuls between them up to twice
# that: 40 to 90 times. Below, since scores of all rows take the most memory.
MULTIPLICATIONS_PER_NUMBER = 32
LARGEST_SCORES = 2**28  # numbers that scores of all rows may have, 1 GiB
ROWS_AT_A_TIME = 2**15  # gathered at a time, 26 MB at hidden 200


class Drawn(NamedTuple):
    """Negatives as rows of a step.

    Attributes:
      numbers: [G, k] row of each negative of each group.
      group: [N] group of each event.
      members: [G, L] places of each group's events, N where there are fewer; None where
        each event is a group.
    """

    numbers: jax.Array
    group: jax.Array
    members: jax.Array | None


def of_rows(
    score: Callable[[jax.Array, jax.Array], jax.Array],
    hidden: jax.Array,
    rows: jax.Array,
    numbers: jax.Array,
) -> tuple[jax.Array, Backward]:
    """Scores rows that are gathered first: hidden, rows[numbers] -> scores."""
    every, back = jax.vjp(score, hidden, rows[numbers])

    def backward(by_scores: jax.Array) -> tuple[jax.Array, ByRows]:
        by_hidden, by_rows = back(by_scores)
        return by_hidden, [(numbers, by_rows)]

    return every, backward


def shared(
    hidden: jax.Array, rows: jax.Array, drawn: Drawn
) -> tuple[jax.Array, Backward]:
    """Scores one group's negatives by a matmul."""
    return of_rows(lambda h, r: h @ r.T, hidden, rows, drawn.numbers[0])


def picked(
    hidden: jax.Array, rows: jax.Array, drawn: Drawn
) -> tuple[jax.Array, Backward]:
    """Scores all rows by a matmul and picks each event's negatives."""
    columns = drawn.numbers[drawn.group]
    every = hidden @ rows.T
    scores = jnp.take_along_axis(every, columns, axis=1, mode="promise_in_bounds")

    def one(event: tuple[jax.Array, jax.Array]) -> jax.Array:
        group, by_scores = event
        row = jnp.zeros(len(rows), by_scores.dtype)
        return row.at[drawn.numbers[group]].add(by_scores, mode="promise_in_bounds")

    def backward(by_scores: jax.Array) -> tuple[jax.Array, ByRows]:
        # A CPU adds up a row of all scores in its cache, twice as fast as in memory.
        by_all = lax.platform_dependent(
            (drawn.group, by_scores),
            cpu=lambda events: lax.map(one, events),
            default=jax.vmap(one),
        )
        return by_all @ rows, [(None, by_all.T @ hidden)]

    return scores, backward


def gathered(
    hidden: jax.Array, rows: jax.Array, drawn: Drawn
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

    def of(array: jax.Array, places: jax.Array) -> jax.Array:
        return array.at[places].get(mode="fill", fill_value=0)

    def score(scores, block):
        numbers, members = block
        found = jnp.einsum("gld,gkd->glk", of(hidden, members), rows[numbers])
        return scores.at[members].set(found, mode="drop"), None

    scores, _ = lax.scan(score, jnp.zeros((events, k), hidden.dtype), blocks)

    def backward(by_scores: jax.Array) -> tuple[jax.Array, ByRows]:
        def add(sums, block):
            by_hidden, by_rows = sums
            numbers, members = block
            by_found = of(by_scores, members)
            states = of(hidden, members)
            part = jnp.einsum("glk,gkd->gld", by_found, rows[numbers])
            by_hidden = by_hidden.at[members].set(part, mode="drop")
            by_numbers = jnp.einsum("glk,gld->gkd", by_found, states)
            return (by_hidden, by_rows.at[numbers].add(by_numbers)), None

        sums = (jnp.zeros_like(hidden), jnp.zeros_like(rows))
        (by_hidden, by_rows), _ = lax.scan(add, sums, blocks)
        return by_hidden, [(None, by_rows)]

    return scores, backward


def gathered_at_once(
    hidden: jax.Array, rows: jax.Array, drawn: Drawn
) -> tuple[jax.Array, Backward]:
    """Gathers few rows for each event."""
    numbers = drawn.numbers[drawn.group]
    return of_rows(lambda h, r: jnp.einsum("nd,nkd->nk", h, r), hidden, rows, numbers)


def strategy(
    num_events: int, num_rows: int, numbers_shape: tuple[int, ...]
) -> Callable[[jax.Array, jax.Array, Drawn], tuple[jax.Array, Backward]]:
    """Chooses the cheapest way at static shapes.

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
