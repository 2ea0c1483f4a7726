import numpy as np
import pyarrow as pa
import pytest
import tiny

from data_prep.clicks.batches import TIME
from experiments.assembly import run_parts
from tron_jax.data.recent import DAY, last_days
from tron_jax.data.sessions import PreparedData, Sessions
from tron_jax.errors import UserError


def sessions(times):
    """Of two clicks each, in order of their start."""
    count = len(times)
    return Sessions(
        np.arange(1, 2 * count + 1, dtype=np.int32),
        np.arange(0, 2 * count + 1, 2, dtype=np.int32),
        pa.array(np.arange(count)),
        pa.array(times, pa.int64()).cast(TIME),
    )


@pytest.mark.parametrize("days", [1, 2, 3, 5, 100])
def test_days_end_with_that_of_the_last_session(days):
    """A day begins at midnight, and one may have no sessions."""
    draw = np.random.default_rng(days)
    on = np.sort(draw.choice([10, 11, 13, 14], 50))
    times = np.sort(on * DAY + draw.integers(0, DAY, 50))
    times[0] = (times[-1] // DAY - days + 1) * DAY if days < 5 else times[0]
    times = np.sort(times)
    found = last_days(sessions(times.tolist()), days)
    expected = [t for t in times.tolist() if t // DAY > times[-1] // DAY - days]
    assert found.start_time.cast(pa.int64()).to_pylist() == expected
    assert found.ids.to_pylist() == list(range(50))[-len(expected) :]


def test_without_times_there_are_no_last_days():
    with pytest.raises(UserError, match=r"data\.last_days=3: the data do not"):
        last_days(sessions([None, None]), 3)


def test_validation_is_of_the_last_days(tmp_path):
    train = sessions([DAY * day for day in (1, 2, 3, 3, 4, 4)])
    nothing = sessions([])
    data = PreparedData(tmp_path, 12, "", {}, train, nothing)
    config = tiny.config(tmp_path, data__last_days=2, data__validation=0.5)
    named = run_parts.splits(config, data)
    assert {name: of.ids.to_pylist() for name, of in named.items()} == {
        "train": [2, 3],
        "validation": [4, 5],
    }
