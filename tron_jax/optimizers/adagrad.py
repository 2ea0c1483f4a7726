"""Adagrad from accumulators of 0, with momentum: its rule, and an optax transform.

``item_table.row_adagrad`` applies the same rule to the rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[Any], Any]


# What Adagrad keeps of an array of parameters, in arrays of the same shape: the sum of
# squared gradients and, with momentum, the last movement.
Memory = tuple[jax.Array, ...]


class AdagradState(NamedTuple):
    """State of the transform.

    Attributes:
      step: scalar int32, updates made so far.
      memory: the tree of parameters with the ``Memory`` of each array for the array.
    """

    step: jax.Array
    memory: Any


# (gradient, memory, learning rate) -> the movement (what is added to the parameters),
# and the new memory
Rule = Callable[..., tuple[jax.Array, Memory]]


def no_memory(parameters: jax.Array, momentum: float) -> Memory:
    """The memory of an array before its first update."""
    return tuple(jnp.zeros_like(parameters) for _ in range(2 if momentum else 1))


def make_rule(*, epsilon: float, epsilon_in_root: bool, momentum: float) -> Rule:
    """The update of an array, element by element.

    With the sum of squares s ← s + g², the movement is -rate·g/(√s + ε), or
    -rate·g/√(s + ε), plus momentum times the previous movement. 0/0 (ε = 0, no gradient
    so far) is 0.

    Args:
      epsilon: ε.
      epsilon_in_root: whether ε is added under the root.
      momentum: share of the previous movement.

    Returns:
      The pure rule.

    Source: Duchi et al. 2011; GRU4Rec's own optimizer has ε inside the root.
    """
    inside, outside = (epsilon, 0.0) if epsilon_in_root else (0.0, epsilon)

    def rule(
        gradient: jax.Array, memory: Memory, rate: jax.Array | float
    ) -> tuple[jax.Array, Memory]:
        squares, *velocity = memory
        squares = squares + jnp.square(gradient)
        scaled = gradient / (jnp.sqrt(squares + inside) + outside)
        movement = -rate * jnp.where(gradient == 0, 0, scaled)
        if not velocity:
            return movement, (squares,)
        movement += momentum * velocity[0]
        return movement, (squares, movement)

    return rule


def adagrad(
    learning_rate: Schedule,
    *,
    epsilon: float,
    epsilon_in_root: bool = False,
    momentum: float = 0.0,
) -> optax.GradientTransformation:
    """Adagrad as an optax transform, for the encoder's parameters.

    ``optax.adagrad`` differs: its sums start at 0.1, and its ε is always in the root.

    Args:
      learning_rate: of an update, counted from 0.
      epsilon: prevents a division by 0.
      epsilon_in_root: whether ε is added under the root.
      momentum: share of the previous movement that is added to each; it moves all
        elements, with a gradient or without.

    Returns:
      The transform.

    Source: see ``make_rule``. GRU4Rec+ of the paper has ε = 1e-10 beside the root and
      no momentum, GRU4Rec's own code ε = 1e-6 inside the root.
    """
    rule = make_rule(
        epsilon=epsilon, epsilon_in_root=epsilon_in_root, momentum=momentum
    )

    def init(params: Any) -> AdagradState:
        memory = jax.tree.map(lambda p: no_memory(p, momentum), params)
        return AdagradState(jnp.zeros((), jnp.int32), memory)

    def update(updates: Any, state: Any, params: Any = None, **_: Any):
        rate = learning_rate(state.step)
        both = jax.tree.map(lambda g, m: rule(g, m, rate), updates, state.memory)
        moved, memory = (
            jax.tree.map(lambda _, pair, i=i: pair[i], updates, both) for i in (0, 1)
        )
        return moved, AdagradState(state.step + 1, memory)

    return optax.GradientTransformation(init, update)
