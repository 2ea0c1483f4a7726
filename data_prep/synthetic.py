"""Makes up a prepared data set that a model can learn from.

python -m data_prep.synthetic --profile=diginetica|yoochoose|otto --out=DIR
    [--num_sessions=N --num_items=N --seed=S]

Without N, as many sessions and items as the real set has. --num_sessions counts train
sessions; test sessions come on top, in the profile's ratio. Lengths are drawn from a
log-normal law with the profile's mean and tail; what follows what is described in
data_prep/made_up/click_model.py. The same flags give the same set.
"""

import sys
from contextlib import closing

import numpy as np
import pyarrow as pa
from absl import flags

from data_prep.made_up.profiles import PROFILES, Profile
from data_prep.made_up.sessions import draw_model, draw_sessions
from data_prep.pipeline.disk import require_space
from data_prep.prepared.report import print_counts
from data_prep.prepared.sessions_writer import SessionsWriter
from data_prep.prepared.writer import write_prepared
from tron_jax.console.program import run
from tron_jax.console.stages import Stages
from tron_jax.files import local_path, new_folder

_MAX_ITEMS = 2**31 - 2


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    values = flags.FlagValues()
    flags.DEFINE_enum(
        "profile", None, list(PROFILES), "which set to resemble", values, required=True
    )
    flags.DEFINE_string("out", None, "folder to write; new or empty", values, True)
    meaning = "train sessions; the profile's if not given"
    flags.DEFINE_integer("num_sessions", None, meaning, 1, flag_values=values)
    meaning = "items, clicked or not; the profile's if not given"
    flags.DEFINE_integer("num_items", None, meaning, 2, _MAX_ITEMS, flag_values=values)
    flags.DEFINE_integer("seed", 0, "of all randomness", 0, flag_values=values)
    return values


def main(values: flags.FlagValues) -> None:
    """Draws and writes the sessions as a stream."""
    profile = PROFILES[values.profile]
    num_items = values.num_items or profile.num_items
    num_train = values.num_sessions or profile.num_sessions
    num_sessions = num_train, max(1, round(num_train * profile.test_ratio))
    about: dict[str, object] = {
        "name": f"synthetic {values.profile}",
        "filters": {},
        "split": {"kind": "made"},
        "sources": [],
        "made": {"profile": values.profile, "seed": values.seed},
    }
    out = local_path(values.out)
    require_space(out, _bytes(profile, sum(num_sessions), num_items))
    with (
        closing(Stages()) as stages,
        new_folder(out) as folder,
        closing(SessionsWriter(folder, "train")) as train,
        closing(SessionsWriter(folder, "test")) as test,
    ):
        stages.stage("drawing what goes together")
        model = draw_model(num_items, values.seed)
        for part, writer in enumerate((train, test)):
            stages.stage(f"drawing {('train', 'test')[part]} sessions")
            for chunk in draw_sessions(model, profile, num_sessions, part, values.seed):
                writer.append(chunk)
                stages.count("sessions", writer.num_sessions, num_sessions[part])
        stages.stage("writing")
        raw_ids = pa.array(np.arange(1, num_items + 1))
        stats = write_prepared(folder, train, test, raw_ids, about)
    print_counts(stats, values.profile)


def _bytes(profile: Profile, num_sessions: int, num_items: int) -> int:
    """Bytes of disk that a set needs while it is written: flat files, then Arrow's."""
    mean = 2 + np.exp(profile.log_mean + profile.log_sd**2 / 2)
    return round(num_sessions * (8 * mean + 28) + 32 * num_items)


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
