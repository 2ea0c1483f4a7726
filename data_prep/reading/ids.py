"""Ids of sessions and items: the same id is the same in every type that spells it."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.reading.checked import (
    EMPTY,
    Checked,
    ColumnSource,
    Marked,
    always,
    coarse_floats,
    compute,
    empty_texts,
    matches,
    nulls,
)
from tron_jax.errors import UserError

_UUID_BYTES = 16
_PRINTABLE = re.compile(rb"[ -~]*").fullmatch
_DASHES = (8, 13, 18, 23)  # of the 36 characters of a UUID
_CONTROL = r"[\x00-\x1f\x7f]"  # characters that raw bytes have and text has not
_WHOLE = "ids must be whole numbers or strings"


def read_ids(
    column: pa.ChunkedArray, source: ColumnSource, as_text: bool
) -> Checked[pa.Array]:
    """Brings a column of ids to one type.

    Whole numbers of any type are the same ids: 7, 7.0 and the decimal 7.00. Of bytes,
    what has the width of a UUID, and is no text, is one in its usual form.

    Args:
      column: [rows] numbers, strings, UUIDs or bytes; text by a dictionary or not.
      source: where the column comes from.
      as_text: whether numbers become text too.

    Returns:
      [rows] int64 where all ids fit it, and text is not asked for; else string by a
      dictionary.

    Raises:
      UserError: where the type of the column can be no id.
    """
    if pa.types.is_null(column.type):
        none = pa.nulls(len(column), pa.string() if as_text else pa.int64())
        return Checked(none, [(np.ones(len(column), bool), always(EMPTY))])
    if _is_number(column.type):
        numbers, faults = _whole_numbers(column, source)
        return Checked(_plain_numbers(numbers, as_text), faults)
    return _texts(column, source)


def is_text(kind: pa.DataType) -> bool:
    """Whether ids of a column of this type are text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return not (_is_number(kind) or pa.types.is_null(kind))


def looks_like_float(ids: pa.Array) -> str | None:
    """Returns an id that is text such as 12.0, which is no 12, if there is any."""
    if not pa.types.is_dictionary(ids.type):
        return None
    ending = pc.MatchSubstringOptions(".0")
    texts = ids.dictionary
    texts = texts.filter(compute("ends_with", texts, options=ending))
    found = texts.filter(matches(texts, r"^-?[0-9]+\.0+$"))
    return found[0].as_py() if len(found) else None


def _is_number(kind: pa.DataType) -> bool:
    of = pa.types
    return of.is_integer(kind) or of.is_floating(kind) or of.is_decimal(kind)


def _plain_numbers(numbers: pa.Array, as_text: bool) -> pa.Array:
    """Turns whole numbers to int64, or to text, where they do not all fit."""
    if not as_text:
        try:
            return numbers.cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    return numbers.cast(pa.string()).dictionary_encode()


def _whole_numbers(
    column: pa.ChunkedArray, source: ColumnSource
) -> tuple[pa.Array, list[Marked]]:
    """Brings numbers to integers, or to decimals without a fraction."""
    numbers = column.combine_chunks()
    missing = nulls(numbers)
    faults: list[Marked] = [(missing, always(EMPTY))]
    if pa.types.is_integer(numbers.type):
        return numbers, faults
    if pa.types.is_floating(numbers.type):
        return _of_floats(numbers, faults)
    wide = numbers.type.precision > 38
    kind, most = (pa.decimal256, 76) if wide else (pa.decimal128, 38)
    decimals = numbers.cast(kind(most, numbers.type.scale))
    floor = compute("floor", decimals)
    whole = compute("equal", floor, decimals)
    broken = np.asarray(pc.fill_null(compute("invert", whole), False))
    faults.append((broken, lambda row: f"{decimals[row].as_py()}: {_WHOLE}"))
    kept = compute("if_else", whole, decimals, pa.scalar(None, decimals.type))
    try:
        return kept.cast(kind(most, 0)), faults
    except pa.ArrowInvalid as error:  # of a negative scale
        raise source.error(f"{column.type} cannot be an id: {error}") from error


def _of_floats(
    numbers: pa.Array, faults: list[Marked]
) -> tuple[pa.Array, list[Marked]]:
    """Brings floats to int64, as far as their type can count."""
    values = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    with np.errstate(invalid="ignore"):
        broken = np.trunc(values) != values
    faults += [
        (broken | np.isinf(values), lambda row: f"{values[row]}: {_WHOLE}"),
        coarse_floats(values, numbers.type, "write ids as integers or text"),
    ]
    bad = np.logical_or.reduce([marked for marked, _ in faults])
    return pa.array(np.where(bad, 0, values).astype(np.int64), mask=bad), faults


def _texts(column: pa.ChunkedArray, source: ColumnSource) -> Checked[pa.Array]:
    """Brings what is no number to text, by a dictionary."""
    if isinstance(column.type, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in column.chunks]
        column = pa.chunked_array(storage, column.type.storage_type)
    if not pa.types.is_dictionary(column.type):
        try:
            column = column.dictionary_encode()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise _no_id(column.type, source) from error
    coded = column.unify_dictionaries().combine_chunks()
    texts, invalid = _valid_texts(coded.dictionary, source)
    missing = nulls(coded.indices)
    rows = pc.fill_null(coded.indices, 0).to_numpy()
    faults: list[Marked] = [(missing, always(EMPTY))]
    if len(texts):
        faults += [
            (~missing & empty_texts(texts)[rows], always(EMPTY)),
            (~missing & invalid[rows], always("invalid UTF-8")),
        ]
        faults[1][0][faults[2][0]] = False  # is null among the texts
    return Checked(pa.DictionaryArray.from_arrays(coded.indices, texts), faults)


def _valid_texts(values: pa.Array, source: ColumnSource) -> tuple[pa.Array, np.ndarray]:
    """Brings distinct values to strings; null and marked where they are no text."""
    kind = values.type
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES:
        # Text of that width is no UUID; one of a UUID's bytes is rarely printable.
        written = values.cast(pa.binary())
        spelled = all(v is None or _PRINTABLE(v) for v in written.to_pylist())
        texts = written.cast(pa.string()) if spelled else _uuids(values)
        return texts, np.zeros(len(values), bool)
    if _is_binary(kind):
        return _texts_of_bytes(values, source), np.zeros(len(values), bool)
    if not _is_string(kind):
        raise _no_id(kind, source)
    texts = values.cast(pa.string())
    if _valid(texts):
        return texts, np.zeros(len(texts), bool)
    # The readers of JSON and of CSV let any bytes pass.
    raw = values.cast(pa.large_binary()).to_pylist()
    found = [_decoded(text) for text in raw]
    invalid = [f is None and r is not None for f, r in zip(found, raw, strict=True)]
    return pa.array(found, pa.string()), np.array(invalid, bool)


def _texts_of_bytes(values: pa.Array, source: ColumnSource) -> pa.Array:
    """Reads bytes as UTF-8, unless the column holds any that are no text."""
    found = [_decoded(value) for value in values.to_pylist()]
    texts = pa.array(found, pa.string())
    odd = matches(texts, _CONTROL)
    if texts.null_count != values.null_count or compute("any", odd).as_py():
        what = f"{values.type} of bytes that are no text cannot be an id"
        raise source.error(f"{what}; write them as text, such as hexadecimal digits")
    return texts


def _decoded(text: bytes | None) -> str | None:
    if text is None:
        return None
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _valid(texts: pa.Array) -> bool:
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _uuids(values: pa.Array) -> pa.Array:
    """Writes [ids] of 16 bytes in the form 550e8400-e29b-41d4-a716-446655440000."""
    raw = b"".join(value or bytes(_UUID_BYTES) for value in values.to_pylist())
    digits = np.frombuffer(raw.hex().encode(), np.uint8).reshape(len(values), -1)
    places = np.setdiff1d(np.arange(36), _DASHES)
    written = np.full((len(values), 36), ord("-"), np.uint8)
    written[:, places] = digits
    ends = pa.array(36 * np.arange(len(values) + 1, dtype=np.int32))
    buffers = [None, ends.buffers()[1], pa.py_buffer(written.tobytes())]
    texts = pa.Array.from_buffers(pa.string(), len(values), buffers)
    return compute("if_else", values.is_valid(), texts, pa.scalar(None, pa.string()))


def _is_string(kind: pa.DataType) -> bool:
    of = pa.types
    return of.is_string(kind) or of.is_large_string(kind) or of.is_string_view(kind)


def _is_binary(kind: pa.DataType) -> bool:
    of = pa.types
    some = of.is_binary(kind) or of.is_large_binary(kind) or of.is_binary_view(kind)
    return some or of.is_fixed_size_binary(kind)


def _no_id(kind: pa.DataType, source: ColumnSource) -> UserError:
    what = "cast it to a string"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        what = f"{source.column}[] are its elements, each an event"
    return source.error(f"{kind} cannot be an id; {what}")
