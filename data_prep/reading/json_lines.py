"""JSON lines read one by one: for lines that pyarrow does not read together.

Where a field holds numbers and text, or numbers that one type does not hold, it becomes
text, with whole numbers as their digits. Some 200,000 lines a second.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.reading.bad_rows import Fault
from data_prep.reading.columns import ReadRows
from data_prep.reading.nested import Field, value_at
from data_prep.reading.orders import EXACT
from data_prep.reading.texts import is_unicode

_INT64 = 2**63
_INFINITE = (float("inf"), float("-inf"))
_COARSE = "from 2^53 on, a number with a fraction or exponent is not exact"
_EXPECTED = "expected a number or text"


def parse_line(line: bytes) -> dict[str, Any]:
    """Parses a line; raises ValueError with what is wrong where it is no object."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start + 1}") from error
    except (ValueError, RecursionError) as error:
        extra = "; expected one row a line" if "Extra data" in str(error) else ""
        raise ValueError(f"not JSON: {error}{extra}") from error
    if not isinstance(row, dict):
        raise ValueError("expected a JSON object")
    return row


def read_each(
    path: Path,
    lines: Sequence[bytes],
    numbers: np.ndarray,
    fields: Mapping[str, Field],
    ids: Sequence[str],
) -> ReadRows:
    """Reads lines to a table of some fields, null where a line lacks one.

    Args:
      path: the file, for messages.
      lines: [rows] none of them blank.
      numbers: [rows] of the lines in the file.
      fields: where each column is; what is in a list becomes a list.
      ids: those of the columns whose whole numbers are ids, floats too where they are
        exact.
    """
    parts = {n for f in fields.values() for n in (*f.path, *(f.in_list or ()))}
    quoted = [json.dumps(name).encode() for name in parts]
    problems: list[tuple[int, str]] = []
    kept: list[int] = []
    columns: list[list[Any]] = [[] for _ in fields]
    checks = [_id_of if name in ids else _value_of for name in fields]
    for index, line in enumerate(lines):
        try:
            row = parse_line(line)
            # A name may also be spelt by escapes.
            if rb"\u" in line or any(line.count(name) > 1 for name in quoted):
                json.loads(line, object_pairs_hook=_refuse_twice)
            values = [
                _checked(name, value_at(row, where), where, check)
                for (name, where), check in zip(fields.items(), checks, strict=True)
            ]
        except ValueError as error:
            text = str(error)
            start = ", " if text.startswith("column ") else ": "
            problems.append((index, start + text))
            continue
        kept.append(index)
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    made = [
        _column(values) if where.in_list is None else _list_column(values)
        for values, where in zip(columns, fields.values(), strict=True)
    ]
    table = pa.table(made, list(fields))
    bad = numbers[np.array([index for index, _ in problems], np.int64)]
    fault = Fault(bad, lambda n: problems[n][1])
    return ReadRows(path, table, numbers[np.array(kept, np.int64)], [fault])


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    """Refuses an object that names a field twice, of which either could be meant."""
    counts = Counter(name for name, _ in pairs)
    for name, count in counts.items():
        if count > 1:
            raise ValueError(f"field {name!r} is there {count} times")


def _checked(name: str, value: Any, where: Field, check: Callable[[Any], Any]) -> Any:
    if where.in_list is not None and value is not None:
        if not isinstance(value, list):
            raise ValueError(f"column {name!r}: expected a list, as in other rows")
        plain = where._replace(in_list=None)
        return [_checked(name, one, plain, check) for one in value]
    try:
        if isinstance(value, str) and not is_unicode(value):
            raise ValueError("half of a character is no Unicode text")
        return check(value)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def _value_of(value: Any) -> Any:
    """Refuses what is neither number nor text."""
    if isinstance(value, bool | list | dict):
        raise ValueError(f"{type(value).__name__} is no time or order; {_EXPECTED}")
    if isinstance(value, float) and abs(value) >= EXACT and value not in _INFINITE:
        raise ValueError(f"{value:.17g}: {_COARSE}; write whole numbers or text")
    return value


def _id_of(value: Any) -> Any:
    """Turns a float into the whole number that it is, if that is sure."""
    if isinstance(value, bool | list | dict):
        raise ValueError(f"{type(value).__name__} cannot be an id; {_EXPECTED}")
    if type(value) is not float or value != value:
        return value
    if not value.is_integer():
        raise ValueError(f"{value}: ids must be whole numbers or strings")
    if abs(value) >= EXACT:
        raise ValueError(f"{value:.17g}: {_COARSE}; write ids as integers or text")
    return int(value)


def _column(values: list[Any]) -> pa.Array:
    """Makes a column of the one type that holds all values, or of text."""
    kinds = {type(value) for value in values} - {type(None)}
    numbers = [v for v in values if type(v) is int] if int in kinds else [0]
    low, high = min(numbers), max(numbers)
    if kinds <= {int} and low >= -_INT64 and high < _INT64:
        return pa.array(values, pa.int64())
    if kinds <= {int} and low >= 0 and high < 2 * _INT64:
        return pa.array(values, pa.uint64())
    if kinds <= {int, float} and low > -EXACT and high < EXACT:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([_text_of(value) for value in values], pa.string())


def _list_column(lists: list[list[Any] | None]) -> pa.Array:
    """Makes a column of lists, whose values are those of one column."""
    offsets = np.cumsum([0, *(len(values or ()) for values in lists)])
    flat = _column([value for values in lists for value in values or ()])
    missing = pa.array([values is None for values in lists], pa.bool_())
    return pa.LargeListArray.from_arrays(pa.array(offsets), flat, mask=missing)


def _text_of(value: Any) -> str | None:
    if value is None or value != value:
        return None
    return value if isinstance(value, str) else repr(value)
