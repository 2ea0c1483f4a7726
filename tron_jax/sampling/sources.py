"""Sources of negatives: the distributions that an event's candidates are drawn from.

To add one, write the function that draws and give it a line in ``SOURCES``. The config
field ``negatives.num_<name>`` then says how many of its negatives an event gets; a
config without that field gets none. ``experiments/configs/defaults.py`` lists the
fields that can be set as flags; a config file of your own may add its field:

    with config.unlocked():
        config.negatives.num_recent = 512

The columns of an event's candidates follow the order of ``SOURCES``, with in-batch
negatives last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tron_jax.sampling import even, exclusion
from tron_jax.sampling import popularity as popularities
from tron_jax.sampling.exclusion import Excluded
from tron_jax.sampling.popularity import ClickCounts, Popularity
from tron_jax.sampling.settings import NegativeSampling

# Arrays that sources were given, by the name of the source. A step takes them as an
# argument, since arrays of this size are no constants for a compiler.
Constants = dict[str, Any]
NO_CONSTANTS: Constants = {}

# (key, shape (groups, k), num_items, constants of the source, what is left out or None)
# -> item ids of that shape, and which of them count: a bool array that broadcasts to
# it, or True, for which no mask is computed
Draw = Callable[
    [jax.Array, tuple[int, int], int, Any, Excluded | None],
    tuple[jax.Array, jax.Array | bool],
]


class Source(NamedTuple):
    """One source of negatives.

    Attributes:
      draw: ``(key, (groups, k), num_items, constants, excluded) -> (ids, keep)``, as
        ``uniform`` documents. None for in-batch negatives, which are not items but
        positions in the batch, chosen by ``in_batch.choose_positions``.
      log_expected: ``(items [...], count, num_items, constants, settings) -> [...]``,
        log of how often each item is expected among ``count`` draws, that is log(count)
        plus the item's log probability; ``loss.logq`` corrects by it. Items that
        ``exclude`` leaves out are not accounted for.
      make_constants: ``(clicks [events], num_items, settings) -> arrays``, made once
        from the item ids of all training clicks, in the order of the sessions. None
        where the source needs nothing but the number of items.
      click_power: ``settings -> power``: ``loss.logq = by_source`` subtracts the power
        times log clicks from the scores of this source's negatives. None = 0.
    """

    draw: Draw | None
    log_expected: Callable[[jax.Array, int, int, Any, NegativeSampling], jax.Array]
    make_constants: Callable[[np.ndarray, int, NegativeSampling], Any] | None = None
    click_power: Callable[[NegativeSampling], float] | None = None


def uniform(
    key: jax.Array,
    shape: tuple[int, int],
    num_items: int,
    constants: None,
    excluded: Excluded | None,
) -> tuple[jax.Array, jax.Array | bool]:
    """Draws items with equal chances, with replacement.

    Args:
      key: of this step and source.
      shape: number of groups, and of draws for each.
      num_items: items are 1..num_items.
      constants: there are none.
      excluded: items that each group leaves out, or None.

    Returns:
      [groups, k] item ids, and which of them count: all, but for groups of which
      nothing was left to draw from.

    Source: paper §2.1, uniform sampling.
    """
    if excluded is None:
        return even.between(key, shape, 1, num_items + 1, num_items), True
    left = num_items - excluded.count[:, None]
    draws = even.between(key, shape, 0, jnp.maximum(left, 1), num_items)
    # Fewer inputs than items always leave some, so that no mask need be computed.
    always = excluded.items.shape[1] < num_items
    ids = jnp.minimum(exclusion.skip(excluded, draws), num_items).astype(jnp.int32)
    return ids, True if always else left > 0


def _log_expected_uniform(
    items: jax.Array,
    count: int,
    num_items: int,
    constants: None,
    settings: NegativeSampling,
) -> jax.Array:
    return jnp.full(items.shape, math.log(count / num_items), jnp.float32)


def popular(
    key: jax.Array,
    shape: tuple[int, int],
    num_items: int,
    constants: Popularity,
    excluded: Excluded | None,
) -> tuple[jax.Array, jax.Array | bool]:
    """Draws items in proportion to clicks^exponent, with replacement.

    Items to be left out are drawn all the same and then do not count: unlike with
    uniform draws, no index arithmetic gives the chances of the items that are left.

    Args:
      key: of this step and source.
      shape: number of groups, and of draws for each.
      num_items: items are 1..num_items.
      constants: the popularity of the items.
      excluded: items that each group leaves out, or None.

    Returns:
      [groups, k] item ids, and which of them count: those not left out.

    Source: GRU4Rec's popularity-based sampling.
    """
    ids = popularities.draw(key, shape, constants)
    if excluded is None:
        return ids, True
    return ids, ~exclusion.holds(excluded.items, ids)


def _log_expected_popular(
    items: jax.Array,
    count: int,
    num_items: int,
    constants: Popularity,
    settings: NegativeSampling,
) -> jax.Array:
    log_clicks = popularities.look_up(constants.log_count, items)
    rate = math.log(count) - constants.log_total_power
    return settings.popularity_exponent * log_clicks + rate


def _log_expected_in_batch(
    items: jax.Array,
    count: int,
    num_items: int,
    constants: ClickCounts,
    settings: NegativeSampling,
) -> jax.Array:
    """Other sessions' clicks are draws in proportion to clicks."""
    rate = math.log(count) - constants.log_total
    return popularities.look_up(constants.log_count, items) + rate


IN_BATCH = "in_batch"
SOURCES: dict[str, Source] = {
    "uniform": Source(uniform, _log_expected_uniform),
    "popularity": Source(
        popular,
        _log_expected_popular,
        lambda clicks, num_items, settings: popularities.make_popularity(
            clicks, num_items, settings.popularity_exponent
        ),
        click_power=lambda settings: settings.popularity_exponent,
    ),
    IN_BATCH: Source(
        None,
        _log_expected_in_batch,
        lambda clicks, num_items, settings: popularities.make_click_counts(
            clicks, num_items
        ),
        click_power=lambda settings: 1.0,
    ),
}


def in_use(settings: NegativeSampling) -> dict[str, int]:
    """Finds the sources that a run draws from.

    Args:
      settings: of the run.

    Returns:
      How many negatives of each, in the order of an event's candidates: the drawn ones
      as listed in ``SOURCES``, the in-batch ones last.

    Raises:
      KeyError: no source has a name; lists those that exist.
    """
    for name in settings.counts:
        if name not in SOURCES:
            raise KeyError(f"source {name!r}; expected one of: {', '.join(SOURCES)}")
    names = [name for name in SOURCES if settings.count(name)]
    names.sort(key=lambda name: SOURCES[name].draw is None)
    return {name: settings.count(name) for name in names}


def make_constants(
    settings: NegativeSampling,
    clicks: np.ndarray,
    num_items: int,
    *,
    also_of: Iterable[str] = (),
) -> Constants:
    """Makes the arrays that the sources of a run are given.

    Args:
      settings: of the run.
      clicks: [events] item ids 1..num_items of the training clicks.
      num_items: the largest item id.
      also_of: sources whose arrays are wanted whether or not they draw anything
        (``LogQ.sources``). Those of in-batch negatives are made for nothing else.

    Returns:
      The arrays of each source that has some.
    """
    drawn = (name for name in in_use(settings) if SOURCES[name].draw is not None)
    makers = {name: SOURCES[name].make_constants for name in (*drawn, *also_of)}
    return {
        name: make(clicks, num_items, settings) for name, make in makers.items() if make
    }


def constants_of(name: str, constants: Constants) -> Any:
    """Looks up the arrays of a source; None where it has none."""
    if SOURCES[name].make_constants is None:
        return None
    assert name in constants, f"negatives of {name!r} need the source's constants"
    return constants[name]
