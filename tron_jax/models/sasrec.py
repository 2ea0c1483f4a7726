"""SASRec: a pre-norm transformer over packed sessions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tron_jax.data.packing import block_size
from tron_jax.models.dropout import Dropout
from tron_jax.models.encoder import Encoder, StreamPart
from tron_jax.models.initializers import Part, draw_in_blocks, uniform
from tron_jax.models.precision import Dense, compute_dtype_of, divide

LAYER_NORM_EPSILON = 1e-5
uniform_fan_in = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def with_block_before(
    x: jax.Array, fill: float, part: StreamPart | None = None
) -> jax.Array:
    """Prepends to each block the one before it: [b, l, …] -> [b, 2·l, …]."""
    first = jnp.full_like(x[:1], fill)
    if part is not None:
        first = jnp.where(part.number() == 0, first, part.before(x))
    return jnp.concatenate([jnp.concatenate([first, x[:-1]]), x], axis=1)


class Attention(nn.Module):
    """Causal attention within sessions, linear in the length of the stream.

    The stream is cut into blocks at least as long as the longest session, so that a
    session lies in at most two of them: a block attends to itself and the one before.
    Sessions that are rows of their own attend to themselves.
    """

    num_heads: int
    dropout: float
    block: int
    dtype: Any = jnp.float32
    part: StreamPart | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, session: jax.Array | None, train: bool
    ) -> jax.Array:
        """[N, hidden] -> [N, hidden], N being a multiple of the block.

        Without session numbers, [sessions, T, hidden] -> [sessions, T, hidden].
        """
        hidden = x.shape[-1]
        qkv = Dense(
            3 * hidden,
            dtype=self.dtype,
            kernel_init=nn.initializers.xavier_uniform(),
            name="qkv",
        )(x)
        if session is None:
            qkv = qkv.reshape(*x.shape[:2], 3, self.num_heads, hidden // self.num_heads)
            query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
            index = jnp.arange(x.shape[1])
            before = index <= index[:, None]
            same = jnp.ones_like(before)[None]
        else:
            blocks = x.shape[0] // self.block
            qkv = qkv.reshape(blocks, self.block, 3, self.num_heads, -1)
            query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
            key = with_block_before(key, 0, self.part)
            value = with_block_before(value, 0, self.part)
            session = session.reshape(blocks, self.block)
            query_index = self.block + jnp.arange(self.block)
            before = jnp.arange(2 * self.block) <= query_index[:, None]
            known = session[:, :, None]
            same = known == with_block_before(session, -1, self.part)[:, None]
        scale = math.sqrt(hidden // self.num_heads)
        scores = jnp.einsum(
            "bqhd,bkhd->bhqk",
            divide(query, scale),
            key,
            preferred_element_type=jnp.float32,  # what the softmax is taken of
        )
        scores = jnp.where(
            (same & before)[:, None], scores, jnp.finfo(scores.dtype).min
        )
        drop = Dropout(self.dropout, self.part)
        weights = drop(nn.softmax(scores), train).astype(self.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)
        out = Dense(hidden, dtype=self.dtype, kernel_init=uniform_fan_in, name="out")
        return out(mixed)


class FeedForward(nn.Module):
    """Two dense layers with a ReLU between them."""

    width: int
    dropout: float
    dtype: Any = jnp.float32
    part: StreamPart | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[N, hidden] -> [N, hidden]."""
        for name, width in (("in", self.width), ("out", x.shape[-1])):
            if name == "out":
                x = Dropout(self.dropout, self.part)(nn.relu(x), train)
            x = Dense(
                width,
                dtype=self.dtype,
                kernel_init=uniform_fan_in,
                bias_init=uniform(1 / math.sqrt(x.shape[-1])),  # as torch.nn.Linear
                name=name,
            )(x)
        return x


@dataclasses.dataclass(frozen=True)
class SASRecSettings:
    """Sizes and dropout of the encoder (config group ``model``).

    Attributes:
      hidden_size: width of embeddings and hidden states.
      num_layers: transformer layers.
      num_heads: attention heads; divides hidden_size.
      feedforward_size: width inside the feed-forward part.
      max_session_length: the most inputs of a session = number of learned positions.
      dropout: probability of dropping, everywhere that the published model drops.
      compute_dtype: of the matmuls and activations in training, one of
        ``COMPUTE_DTYPES``.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    feedforward_size: int
    max_session_length: int
    dropout: float
    compute_dtype: str = "float32"


class SASRec(nn.Module):
    """Encodes the inputs of packed sessions; the item table is outside."""

    settings: SASRecSettings
    dtype: Any = jnp.float32  # in training, of matmuls and activations between them
    part: StreamPart | None = None  # of the stream; None = all of it

    @nn.compact
    def __call__(
        self,
        inputs: jax.Array,
        session: jax.Array | None,
        position: jax.Array,
        train: bool,
    ) -> jax.Array:
        """[N, hidden] item embeddings -> [N, hidden] hidden states, float32.

        Without session numbers a row is a session, and all is [sessions, T, hidden].
        """
        settings = self.settings
        compute_dtype = self.dtype if train else jnp.float32

        def drop(x: jax.Array) -> jax.Array:
            return Dropout(settings.dropout, self.part)(x, train)

        def norm(name: str, dtype: Any = compute_dtype) -> nn.LayerNorm:
            # its statistics are float32 whatever it takes and gives
            return nn.LayerNorm(
                LAYER_NORM_EPSILON, dtype=dtype, use_fast_variance=False, name=name
            )

        hidden = inputs.shape[-1]
        positions = self.param(
            "positions",
            nn.initializers.xavier_uniform(),
            (settings.max_session_length, hidden),
        )
        x = drop(inputs * math.sqrt(hidden) + positions[position]).astype(compute_dtype)
        block = block_size(settings.max_session_length)
        for layer in range(settings.num_layers):
            attention = Attention(
                settings.num_heads,
                settings.dropout,
                block,
                compute_dtype,
                self.part,
                name=f"attention_{layer}",
            )
            x += drop(attention(norm(f"attention_norm_{layer}")(x), session, train))
            feedforward = FeedForward(
                settings.feedforward_size,
                settings.dropout,
                compute_dtype,
                self.part,
                name=f"feedforward_{layer}",
            )
            x += drop(feedforward(norm(f"feedforward_norm_{layer}")(x), train))
        return norm("final_norm", jnp.float32)(x)


def make_sasrec(settings: SASRecSettings) -> Encoder:
    """The encoder of SASRec and TRON.

    Streams are packed (``Batch``), their length N a multiple of
    ``block_size(max_session_length)``; rows are hidden_size wide; nothing is carried.

    Args:
      settings: of the encoder.

    Returns:
      The encoder.

    Raises:
      KeyError: if ``compute_dtype`` is none of those, with the names that exist.

    Source: paper §3; initialisers and epsilon of the published configuration.
    """
    module = SASRec(settings, compute_dtype_of(settings.compute_dtype))
    hidden_size = settings.hidden_size

    def init(key: jax.Array) -> Any:
        size = block_size(settings.max_session_length)
        stream = jnp.zeros(size, jnp.int32)
        return module.init(key, jnp.zeros((size, hidden_size)), stream, stream, False)

    def init_table(
        key: jax.Array, num_rows: int, part: Part | None = None
    ) -> jax.Array:
        # Xavier-uniform: the bound is that of the whole table, whatever is drawn.
        bound = jnp.sqrt(3 * jnp.float32(2 / (num_rows + hidden_size)))

        def draw(key: jax.Array, rows: int) -> jax.Array:
            return jax.random.uniform(key, (rows, hidden_size), minval=-1) * bound

        return draw_in_blocks(draw, key, num_rows, part=part)

    def encode(
        params: Any,
        carry: tuple[()],
        inputs: jax.Array,
        session: jax.Array,
        position: jax.Array,
        dropout_key: jax.Array | None = None,
        part: StreamPart | None = None,
    ) -> tuple[jax.Array, tuple[()]]:
        rngs = {} if dropout_key is None else {"dropout": dropout_key}
        train = dropout_key is not None
        encoder = module if part is None else module.clone(part=part)
        out = encoder.apply(params, inputs, session, position, train, rngs=rngs)
        assert isinstance(out, jax.Array)
        return out, carry

    def encode_rows(params: Any, inputs: jax.Array, position: jax.Array) -> jax.Array:
        out = module.apply(params, inputs, None, position, False)
        assert isinstance(out, jax.Array)
        return out

    unit = block_size(settings.max_session_length)
    return Encoder(init, init_table, lambda num_sessions: (), encode, encode_rows, unit)
