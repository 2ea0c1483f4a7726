"""Times as text of any form, by the directives of strptime.

Arrow's strptime takes the 31st of February, and knows neither fractions nor zones.
"""

import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.reading.checked import compute
from tron_jax.errors import UserError

_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_PIECES = {  # of a pattern, by directive; what has no name says nothing of the time
    "Y": "(?P<year>[0-9]{4})",
    "y": "(?P<short_year>[0-9]{2})",
    "m": "(?P<month>[0-9]{1,2})",
    "b": "(?P<month_name>[A-Za-z]{3,9})",
    "d": "(?P<day>[0-9]{1,2})",
    "e": " ?(?P<day>[0-9]{1,2})",
    "H": "(?P<hour>[0-9]{1,2})",
    "I": "(?P<half_hour>[0-9]{1,2})",
    "p": "(?P<half>[AaPp])\\.?[Mm]\\.?",
    "M": "(?P<minute>[0-9]{1,2})",
    "S": "(?P<second>[0-9]{1,2})",
    "f": "(?P<fraction>[0-9]{1,9})",
    "z": "(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})",
    "Z": "(?:UTC|GMT|Z)",
    "a": "[A-Za-z]{3,9}",
    "%": "%",
}
_SAME = {"B": "b", "h": "b", "A": "a"}
_LONG = {"F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y"}
_LIMITS = {"hour": 23, "minute": 59, "second": 59}


class TimeFormat(NamedTuple):
    """A form of times, such as ``%d.%m.%Y %H:%M:%S``.

    written: as it was given; pattern: RE2, with a group for each part of a time.
    """

    written: str
    pattern: str

    def parse(self, texts: pa.Array) -> pa.Array:
        """Reads texts of this form, UTC unless they say otherwise.

        Returns:
          [rows] timestamp[us, UTC]; null where a text is null or of another form.
        """
        options = pc.ExtractRegexOptions(self.pattern)
        found = compute("extract_regex", texts, options=options)
        missing = np.asarray(found.is_null())
        parts = {f.name: found.field(i) for i, f in enumerate(found.type)}
        names = (*_LIMITS, "year", "short_year", "month", "day", "half_hour")
        numbers = {n: _numbers(parts[n], missing) for n in names if n in parts}
        days, wrong = _days(parts, numbers)
        clock, odd = _clock(parts, numbers)
        micro = days * 86_400_000_000 + clock * 1_000_000
        if "fraction" in parts:
            digits = compute(
                "utf8_rpad", parts["fraction"], options=pc.PadOptions(9, "0")
            )
            micro += _numbers(digits, missing) // 1000
        if "zone" in parts:
            micro -= _offsets(parts["zone"], missing) * 60_000_000
        times = pa.array(micro, mask=missing | wrong | odd)
        return times.cast(pa.timestamp("us", tz="UTC"))


def read_format(written: str) -> TimeFormat:
    """Makes a form of its directives.

    Raises:
      UserError: where one is unknown or there twice, or they make no date.
    """
    plain = re.sub(r"%([FTRD])", lambda match: _LONG[match[1]], written)
    pattern, used, beside = "", [], False
    for directive, text in re.findall(r"%(.?)|([^%]+)", plain):
        piece = re.escape(text) or _PIECES.get(_SAME.get(directive, directive))
        if piece is None:
            known = " ".join(f"%{n}" for n in (*_PIECES, *_SAME, *_LONG))
            what = f"%{directive} is unknown; expected {known}"
            raise UserError(f"--time_format={written}: {what}")
        if beside and piece.startswith("(?P<"):  # 2023111 could be two days
            pattern, piece = (p.replace("{1,2}", "{2}") for p in (pattern, piece))
        pattern += piece
        used += re.findall(r"\?P<(\w+)>", piece)
        beside = not text
    found = set(used)
    if len(found) != len(used):
        raise UserError(f"--time_format={written}: a part of a time is there twice")
    dated = [{"year", "short_year"}, {"month", "month_name"}, {"day"}]
    if not all(len(found & either) == 1 for either in dated):
        what = "expected one each of %Y or %y, %m or %b, and %d"
        raise UserError(f"--time_format={written}: no date; {what}")
    if ("half_hour" in found) != ("half" in found) or {"hour", "half_hour"} <= found:
        raise UserError(f"--time_format={written}: expected %H, or %I with %p")
    return TimeFormat(written, f"^{pattern}$")


def _numbers(digits: pa.Array, missing: np.ndarray) -> np.ndarray:
    """[rows] int64; 0 where the text was of another form."""
    plain = compute("if_else", pa.array(missing), pa.scalar("0", digits.type), digits)
    return plain.cast(pa.int64()).to_numpy()


def _days(
    parts: dict[str, pa.Array], numbers: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns days since 1970, [rows], and marks those that no calendar has."""
    if "year" in numbers:
        year = numbers["year"]
    else:  # as POSIX has it
        year = numbers["short_year"] + np.where(numbers["short_year"] < 69, 2000, 1900)
    if "month" in numbers:
        month = numbers["month"]
    else:
        lower = compute("utf8_lower", parts["month_name"])
        names = [*_MONTHS, *(name[:3] for name in _MONTHS)]
        known = pc.SetLookupOptions(pa.array(names, lower.type))
        index = compute("index_in", lower, options=known)
        month = pc.fill_null(index, -1).to_numpy().astype(np.int64)
        month = np.where(month < 0, 0, month % 12 + 1)
    wrong = (month < 1) | (month > 12)
    months = ((year - 1970) * 12 + np.where(wrong, 1, month) - 1).astype("M8[M]")
    dates = months.astype("M8[D]") + (numbers["day"] - 1)
    return dates.astype(np.int64), wrong | (dates.astype("M8[M]") != months)


def _clock(
    parts: dict[str, pa.Array], numbers: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns seconds since midnight, [rows], and marks those that no clock shows."""
    numbers = dict(numbers)
    odd = np.zeros(len(numbers["day"]), bool)
    if "half_hour" in numbers:
        hour = numbers["half_hour"]
        odd |= (hour < 1) | (hour > 12)
        half = compute("utf8_lower", parts["half"])
        late = pc.fill_null(compute("equal", half, pa.scalar("p", half.type)), False)
        numbers["hour"] = hour % 12 + 12 * np.asarray(late)
    seconds = np.zeros(len(odd), np.int64)
    for name, limit in _LIMITS.items():
        value = numbers.get(name, np.zeros(len(odd), np.int64))
        odd |= value > limit
        seconds = seconds * 60 + value
    return seconds, odd


def _offsets(zones: pa.Array, missing: np.ndarray) -> np.ndarray:
    """Returns [rows] minutes that a zone is ahead of UTC."""
    bare = pc.ReplaceSubstringOptions(":", "")
    texts = compute("replace_substring", zones, options=bare)
    utc = compute("equal", texts, pa.scalar("Z", texts.type))
    texts = compute("if_else", utc, pa.scalar("+0000", texts.type), texts)
    plus = pc.TrimOptions("+")
    ahead = _numbers(compute("utf8_ltrim", texts, options=plus), missing)
    sign, size = np.sign(ahead), np.abs(ahead)
    return sign * (size // 100 * 60 + size % 100)
