"""The sizes and shapes of the three data sets that made-up ones resemble."""

from typing import NamedTuple


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
