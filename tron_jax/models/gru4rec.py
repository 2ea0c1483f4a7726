"""GRU4Rec: one recurrent layer, an event of each slot at a time."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from tron_jax.models.dropout import Dropout
from tron_jax.models.encoder import Encoder, StreamPart
from tron_jax.models.initializers import Part, draw_in_blocks, uniform
from tron_jax.models.precision import Dense, compute_dtype_of


class InitBounds(NamedTuple):
    """The bounds of the first parameters; each is uniform within ± its bound.

    Attributes:
      matrix: ``hidden_size -> bound`` of the GRU's matrices.
      bias: ``hidden_size -> bound`` of its biases.
      table: ``(num_rows, hidden_size) -> bound`` of the item table.
      output_bias: whether the bias column of the table is drawn too, or 0.
    """

    matrix: Any
    bias: Any
    table: Any
    output_bias: bool


INIT_BOUNDS = {
    "published": InitBounds(
        matrix=lambda hidden: 1 / math.sqrt(hidden),
        bias=lambda hidden: 1 / math.sqrt(hidden),
        # Xavier with a gain of 1/√6, over the table with its bias column
        table=lambda rows, hidden: 1 / math.sqrt(rows + hidden + 1),
        output_bias=True,
    ),
    "original": InitBounds(
        # as each gate's own [hidden, hidden]
        matrix=lambda hidden: math.sqrt(6 / (hidden + hidden)),
        bias=lambda hidden: 0.0,
        table=lambda rows, hidden: math.sqrt(6 / (rows + hidden)),
        output_bias=False,
    ),
}


class GRU(nn.Module):
    """One step of a gated recurrent unit, with a bias for inputs and one for states."""

    hidden_size: int
    dropout: float
    bounds: InitBounds
    dtype: Any = jnp.float32  # in training, of matmuls and gates
    part: StreamPart | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, state: jax.Array, train: bool) -> jax.Array:
        """[slots, hidden] inputs and states -> [slots, hidden] new states."""
        size = self.hidden_size
        matrix = uniform(self.bounds.matrix(size))
        bias = uniform(self.bounds.bias(size))

        def gates(x: jax.Array, name: str) -> list[jax.Array]:
            layer = Dense(
                3 * size,
                dtype=self.dtype if train else jnp.float32,
                kernel_init=matrix,
                bias_init=bias,
                name=name,
            )
            return jnp.split(layer(x), 3, axis=1)

        of_inputs, of_state = gates(inputs, "inputs"), gates(state, "state")
        reset = nn.sigmoid(of_inputs[0] + of_state[0])
        update = nn.sigmoid(of_inputs[1] + of_state[1])
        new = jnp.tanh(of_inputs[2] + reset * of_state[2])
        # The state is carried from step to step, so its rounding errors would add up:
        # it stays float32.
        state = new + update * (state - new)
        return Dropout(self.dropout, self.part)(state, train)


@dataclasses.dataclass(frozen=True)
class GRU4RecSettings:
    """Size, dropout and first parameters of the encoder (config group ``model``).

    Attributes:
      hidden_size: width of the state and of embeddings without their bias.
      dropout: probability of dropping an element of the new state; what is dropped is
        missing from the carried state, too.
      init: the first parameters: ``published`` (GRU4Rec+ of the paper's code) or
        ``original`` (GRU4Rec's own).
      compute_dtype: of the matmuls and gates in training, one of ``COMPUTE_DTYPES``;
        the state stays float32.
    """

    hidden_size: int
    dropout: float
    init: str
    compute_dtype: str = "float32"


def make_gru4rec(settings: GRU4RecSettings) -> Encoder:
    """The encoder of GRU4Rec, in both of its versions.

    An input is one event of each slot (``session`` and ``position`` as in ``Batch``;
    row i is slot i): the state of a slot is carried from call to call and cleared
    where ``position`` is 0. Rows are hidden_size + 1 wide, their last column being the
    item's output bias; a hidden state ends in a constant 1, which multiplies that bias.

    Args:
      settings: of the encoder.

    Returns:
      The encoder.

    Raises:
      KeyError: if ``init`` or ``compute_dtype`` is none of those, with the names that
        exist.

    Source: paper §4 (GRU4Rec+); Hidasi and Karatzoglou 2018, and the official code's
      initialisers and dropout; the equations are those of ``torch.nn.GRUCell``.
    """
    init, size = settings.init, settings.hidden_size
    if init not in INIT_BOUNDS:
        raise KeyError(f"init {init!r} is not one of: {', '.join(INIT_BOUNDS)}")
    bounds = INIT_BOUNDS[init]
    dtype = compute_dtype_of(settings.compute_dtype)
    module = GRU(size, settings.dropout, bounds, dtype)

    def init_params(key: jax.Array) -> Any:
        row = jnp.zeros((1, size))
        return module.init(key, row, row, False)

    def init_table(
        key: jax.Array, num_rows: int, part: Part | None = None
    ) -> jax.Array:
        bound = bounds.table(num_rows, size)
        width = size + bounds.output_bias

        def draw(key: jax.Array, rows: int) -> jax.Array:
            values = uniform(bound)(key, (rows, width))
            return jnp.pad(values, ((0, 0), (0, size + 1 - width)))

        return draw_in_blocks(draw, key, num_rows, part=part)

    def init_carry(num_slots: int) -> jax.Array:
        return jnp.zeros((num_slots, size))

    def encode(
        params: Any,
        carry: jax.Array,
        inputs: jax.Array,
        session: jax.Array,
        position: jax.Array,
        dropout_key: jax.Array | None = None,
        part: StreamPart | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        rngs = {} if dropout_key is None else {"dropout": dropout_key}
        train = dropout_key is not None
        # No back-propagation through time: each event has an update of its own.
        state = jnp.where(position[:, None] > 0, jax.lax.stop_gradient(carry), 0)
        cell = module if part is None else module.clone(part=part)
        state = cell.apply(params, inputs[:, :size], state, train, rngs=rngs)
        assert isinstance(state, jax.Array)
        one = jnp.ones_like(inputs[:, size:])
        hidden = jnp.concatenate([state, one], axis=1)
        return hidden, jax.lax.stop_gradient(state)

    def encode_rows(params: Any, inputs: jax.Array, position: jax.Array) -> jax.Array:
        def one(carry: jax.Array, now: tuple[jax.Array, jax.Array]):
            hidden, carry = encode(params, carry, now[0], now[1], now[1])
            return carry, hidden

        # An event of each session a step.
        first = jnp.zeros((inputs.shape[0], size))
        steps = (jnp.swapaxes(inputs, 0, 1), jnp.swapaxes(position, 0, 1))
        _, hidden = jax.lax.scan(one, first, steps)
        return jnp.swapaxes(hidden, 0, 1)

    return Encoder(init_params, init_table, init_carry, encode, encode_rows, unit=1)
