"""Makes up a prepared data set that a model can learn from.

python -m data_prep.synthetic --profile=diginetica|yoochoose|otto --out=DIR
    [--num_sessions=N --num_items=N --seed=S]

Without N, as many sessions and items as the real set has. --num_sessions counts train
sessions; test sessions come on top, in the profile's ratio. Lengths are drawn from a
log-normal law with the profile's mean and tail; what follows what is told in
data_prep/made_up/click_model.py. The same flags give the same set.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from absl import flags

from data_prep.clicks.batches import TIME
from data_prep.console import Progress
from data_prep.disk import require_space
from data_prep.made_up.click_model import ClickModel, draw_clicks, make_click_model
from data_prep.pipeline.steps import DAY
from data_prep.prepared.report import print_counts
from data_prep.prepared.split_stream import SplitStream
from data_prep.prepared.writer import new_folder, write_prepared
from tron_jax.console.program import run

_CHUNK = 1 << 16  # sessions drawn together
_START = 1_704_067_200_000_000  # 2024-01-01, microseconds since 1970
_MAX_ITEMS = 2**31 - 2

# Streams of randomness; a number never changes its meaning.
_MODEL, _LENGTHS, _CLICKS, _STARTS = range(4)


class Profile(NamedTuple):
    """The size and shape of a real data set.

    A session has 2 + floor(x) clicks, at most ``longest``, x log-normal.
    """

    num_sessions: int  # of train
    num_items: int
    test_ratio: float  # test sessions per train session
    log_mean: float  # of x, train
    test_log_mean: float  # of x, test
    log_sd: float
    longest: int
    days: int


PROFILES = {
    # Mean lengths 4.85; 3.97 and 4.65; 15.1 and 7.4 clicks.
    "diginetica": Profile(186_670, 43_097, 18 / 187, 0.7119, 0.7119, 1.0, 70, 152),
    "yoochoose": Profile(
        7_966_257, 37_483, 15_324 / 7_966_257, 0.2930, 0.5428, 1.1, 200, 183
    ),
    "otto": Profile(
        12_899_779, 1_855_603, 1_671_803 / 12_899_779, 1.5042, 0.6498, 1.5, 500, 35
    ),
}


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    values = flags.FlagValues()
    flags.DEFINE_enum(
        "profile", None, list(PROFILES), "which set to resemble", values, required=True
    )
    flags.DEFINE_string("out", None, "folder to write; new or empty", values, True)
    flags.DEFINE_integer(
        "num_sessions",
        None,
        "train sessions; the profile's if not given",
        1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_items",
        None,
        "items, clicked or not; the profile's if not given",
        2,
        _MAX_ITEMS,
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "of all randomness", 0, flag_values=values)
    return values


def main(values: flags.FlagValues) -> None:
    """Draws and writes the sessions as a stream."""
    profile = PROFILES[values.profile]
    num_items = values.num_items or profile.num_items
    sessions = values.num_sessions or profile.num_sessions
    total = sessions + max(1, round(sessions * profile.test_ratio))
    about: dict[str, object] = {
        "name": f"synthetic {values.profile}",
        "filters": {},
        "split": {"kind": "made"},
        "sources": [],
        "made": {"profile": values.profile, "seed": values.seed},
    }
    require_space(Path(values.out), _bytes(profile, total, num_items))
    progress = Progress()
    try:
        with new_folder(Path(values.out)) as folder:
            progress.stage("drawing what goes together")
            model = make_click_model(num_items, _key(values.seed, 0, _MODEL))
            splits = []
            for number, part in enumerate((range(sessions), range(sessions, total))):
                stream = SplitStream(folder, ("train", "test")[number])
                seed = (values.seed, number)
                try:
                    _draw(stream, model, profile, seed, part, total, progress)
                    splits.append(stream.finish())
                finally:
                    stream.close()
            progress.stage("writing")
            raw_ids = pa.array(np.arange(1, num_items + 1))
            train, test = splits
            stats = write_prepared(folder, train, test, raw_ids, about)
    finally:
        progress.close()
    print_counts(stats, values.profile)


def _bytes(profile: Profile, num_sessions: int, num_items: int) -> int:
    """Disk that a set takes while it is written: flat files and then Arrow's."""
    mean = 2 + np.exp(profile.log_mean + profile.log_sd**2 / 2)
    return round(num_sessions * (8 * mean + 28) + 32 * num_items)


def _key(*numbers: int) -> np.random.Generator:
    """Makes the generator that belongs to a seed, a stream and what it is drawn for."""
    return np.random.default_rng(numbers)


def _draw(
    stream: SplitStream,
    model: ClickModel,
    profile: Profile,
    seed: tuple[int, int],
    part: range,
    total: int,
    progress: Progress,
) -> None:
    """Draws the sessions of train (split 0) or test (split 1), a chunk at a time.

    Lengths have a stream of their own, so that they do not depend on the catalogue.

    Args:
      stream: where they go.
      model: what follows what.
      profile: how long sessions are, and over how many days they are spread.
      seed: the seed and the number of the split.
      part: the sessions to draw.
      total: sessions of both splits.
      progress: told after each chunk.
    """
    log_mean = (profile.log_mean, profile.test_log_mean)[seed[1]]
    gap = profile.days * DAY / total
    for chunk, first in enumerate(range(0, len(part), _CHUNK)):
        progress.count("sessions", first, len(part))
        size = min(_CHUNK, len(part) - first)
        extra = _key(*seed, _LENGTHS, chunk).lognormal(log_mean, profile.log_sd, size)
        lengths = np.minimum(2 + extra, profile.longest).astype(np.int32)
        items = draw_clicks(model, lengths, _key(*seed, _CLICKS, chunk))
        ids = part.start + first + np.arange(size)
        jitter = _key(*seed, _STARTS, chunk).random(size)
        starts = _START + ((ids + jitter) * gap).astype(np.int64)  # which thus rise
        stream.append(items, lengths, pa.array(ids), pa.array(starts).cast(TIME))


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
