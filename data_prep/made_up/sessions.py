"""Sessions drawn chunk by chunk: their lengths, clicks and start times."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import DAY, TIME
from data_prep.made_up.click_model import ClickModel, draw_clicks, make_click_model
from data_prep.made_up.profiles import Profile
from data_prep.prepared.chunks import SessionChunk

_START = 1_704_067_200_000_000  # 2024-01-01, microseconds since 1970

# Streams of randomness; a number never changes its meaning. Lengths have one of their
# own, so that they do not depend on the catalogue.
_MODEL, _LENGTHS, _CLICKS, _START_TIMES = range(4)


def draw_model(num_items: int, seed: int) -> ClickModel:
    """Draws what follows what in a catalogue."""
    return make_click_model(num_items, _key(seed, 0, _MODEL))


def draw_sessions(
    model: ClickModel,
    profile: Profile,
    num_sessions: tuple[int, int],
    part: int,
    seed: int,
    chunk_size: int = 1 << 16,
) -> Iterator[SessionChunk]:
    """Draws the sessions of train or of test, whose ids go on where train's end.

    They come in order of start. ``num_sessions`` has those of train and of test, and
    ``part`` is 0 for train and 1 for test. Another ``chunk_size``, the sessions drawn
    together, gives other sessions.
    """
    log_mean = (profile.log_mean, profile.test_log_mean)[part]
    begin = (0, num_sessions[0])[part]
    gap = profile.days * DAY / sum(num_sessions)
    for chunk, first in enumerate(range(0, num_sessions[part], chunk_size)):
        size = min(chunk_size, num_sessions[part] - first)
        extra = _key(seed, part, _LENGTHS, chunk).lognormal(
            log_mean, profile.log_sd, size
        )
        lengths = np.minimum(2 + extra, profile.longest).astype(np.int32)
        items = draw_clicks(model, lengths, _key(seed, part, _CLICKS, chunk))
        ids = begin + first + np.arange(size)
        jitter = _key(seed, part, _START_TIMES, chunk).random(size)
        times = (ids + jitter) * gap  # which thus rise
        start_time = pa.array(_START + times.astype(np.int64)).cast(TIME)
        yield SessionChunk(items, lengths, pa.array(ids), start_time)


def _key(*numbers: int) -> np.random.Generator:
    """Makes the generator that belongs to a seed, a stream and what it is drawn for."""
    return np.random.default_rng(numbers)
