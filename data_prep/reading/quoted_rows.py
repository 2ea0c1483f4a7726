"""Where rows of CSV end whose values may hold line breaks within quotes.

A line break ends a row where the quotes before it are even in number.
"""

import numpy as np

from data_prep.reading.text_files import Block


def last_row_end(data: bytes, within: bool) -> tuple[int, bool]:
    """Finds the last row that ends in some text, which begins ``within`` quotes or not.

    Returns:
      Where it ends, 0 where none does, and whether the text ends within quotes.
    """
    ends, open_at_end = _row_ends(data, within)
    return (int(ends[-1]) + 1 if len(ends) else 0), open_at_end


def split_rows(block: Block) -> tuple[list[bytes], np.ndarray]:
    """Splits whole rows; returns them and the lines on which they begin, [rows]."""
    ends, _ = _row_ends(block.data, False)
    if block.data[-1:] != b"\n":
        ends = np.append(ends, len(block.data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    breaks = _positions(block.data, b"\n")
    lines = block.first_line + np.searchsorted(breaks, starts)
    rows = [block.data[a:b] for a, b in zip(starts, ends, strict=True)]
    return rows, lines


def longest_row(data: bytes) -> int:
    """Returns the length of the longest of some whole rows."""
    ends, _ = _row_ends(data, False)
    return int(np.diff(ends, prepend=-1, append=len(data)).max())


def _row_ends(data: bytes, within: bool) -> tuple[np.ndarray, bool]:
    quotes, breaks = (_positions(data, sign) for sign in (b'"', b"\n"))
    before = np.searchsorted(quotes, breaks) + within
    return breaks[before % 2 == 0], bool((len(quotes) + within) % 2)


def _positions(data: bytes, sign: bytes) -> np.ndarray:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord(sign))
