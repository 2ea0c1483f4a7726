"""Numbers and times that a log spells as text."""

import contextlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.reading.checked import NULLS, compute, empty_texts, matches

MOMENT_TYPES = (pa.timestamp("ns", tz="UTC"), pa.timestamp("ns"))  # zone or none

_FEW = 64  # texts that are tried before all are
_CHUNK = 1024  # texts that are tried together, before they are tried one by one
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_YEAR = r"(1[7-9][0-9]{2}|2[01][0-9]{2})"  # of those that nanoseconds reach
_DAY = (  # but for 29 February, which not every year has
    r"((0[13578]|1[02])-31|(0[13-9]|1[0-2])-(29|30)|(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]))"
)
_CLOCK = r"([01][0-9]|2[0-3])(:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?)?"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_APART = (  # zones as BigQuery and Snowflake write them, with a blank before
    ("replace_substring", " UTC", "Z"),
    ("replace_substring_regex", r"(:[0-9.]+) (Z|[+-][0-9]{2}(:?[0-9]{2})?)$", r"\1\2"),
)


def likeliest_type(texts: Sequence[str], types: Sequence[pa.DataType]) -> pa.DataType:
    """Returns the type that most texts can be read as, the first of equals.

    Only what ``is_value`` counts.
    """
    values = pa.array([text.strip() for text in texts if is_value(text)], pa.string())
    for one in types:
        if _at_once(values, one)[1] is not None:
            return one
    counts = [len(values) - parse(values, one).null_count for one in types]
    return types[counts.index(max(counts))]


def read_as(texts: Sequence[str], kind: pa.DataType) -> pa.DataType:
    """Returns the type as which pyarrow's reader of CSV reads what is ``kind``.

    That is the kind itself, or string where each text needs ``parse``.
    """
    some = (pa.scalar(text.strip()) for text in texts if is_unicode(text))
    fits = not texts or any(_parses(value, kind) for value in some)
    return kind if fits else pa.string()


def is_value(text: str) -> bool:
    """Whether text is Unicode and does not stand for nothing."""
    return text.strip() not in NULLS and is_unicode(text)


def is_unicode(text: str) -> bool:
    """Whether text can be written; JSON can spell half of a character."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, by a dictionary or not."""
    of = pa.types
    if of.is_dictionary(kind):
        kind = kind.value_type
    some = of.is_string(kind) or of.is_large_string(kind) or of.is_string_view(kind)
    some = some or of.is_binary(kind) or of.is_large_binary(kind)
    return some or of.is_binary_view(kind) or of.is_fixed_size_binary(kind)


def plain_texts(column: pa.ChunkedArray) -> pa.Array:
    """Brings text of any type to one array of strings, without blanks around them.

    What stands for nothing is null; bytes that are no UTF-8 become a sign that is in no
    number or time.
    """
    values = column.cast(pa.large_binary()).combine_chunks()
    try:
        texts = values.cast(pa.large_string())
    except pa.ArrowInvalid:
        plain = [v and v.decode("utf-8", "replace") for v in values.to_pylist()]
        texts = pa.array(plain, pa.large_string())
    bare = compute("utf8_trim_whitespace", texts)
    empty = pa.array(empty_texts(bare))
    return compute("if_else", empty, pa.scalar(None, bare.type), bare)


def parse(texts: pa.Array, to: pa.DataType) -> pa.Array:
    """Casts strings; null where they cannot be cast.

    A text that looks unlike the type is tried by itself once, however often it is
    there, so that what is malformed costs little more than what is not.
    """
    texts, values = _at_once(texts, to)
    if values is not None:
        return values
    like = matches(texts, _looks(to))
    likely = compute("if_else", like, texts, pa.scalar(None, texts.type))
    parsed = pa.chunked_array(
        [
            _cast_each(likely.slice(at, _CHUNK), to)
            for at in range(0, len(texts), _CHUNK)
        ],
        to,
    ).combine_chunks()
    others = texts.filter(pc.fill_null(compute("invert", like), False)).unique()
    good = pa.array([v for v in others if _parses(v, to)], texts.type)
    if not len(good):
        return parsed
    at = compute("index_in", texts, options=pc.SetLookupOptions(good))
    return compute("coalesce", parsed, good.cast(to).take(at))


def _at_once(texts: pa.Array, to: pa.DataType) -> tuple[pa.Array, pa.Array | None]:
    """Casts all strings; returns them, zones joined to times, and None if some fail."""
    zones = _APART if pa.types.is_timestamp(to) and to.tz else ()
    for joining in (None, *zones):
        if joining is not None:
            function, apart, joined = joining
            options = pc.ReplaceSubstringOptions(apart, joined)
            texts = compute(function, texts, options=options)
        with contextlib.suppress(pa.ArrowInvalid):
            texts.slice(0, _FEW).cast(to)  # as to fail takes a hundred times longer
            return texts, texts.cast(to)
    return texts, None


def _looks(to: pa.DataType) -> str:
    """How most texts look that can be read as the type."""
    if not pa.types.is_timestamp(to):
        return _NUMBER
    return f"^{_YEAR}-{_DAY}([ T]{_CLOCK})?{_ZONE if to.tz else ''}$"


def _cast_each(texts: pa.Array, to: pa.DataType) -> pa.Array:
    try:
        return texts.cast(to)
    except pa.ArrowInvalid:
        null = pa.scalar(None, to)
        return pa.array([v.cast(to) if _parses(v, to) else null for v in texts], to)


def _parses(value: pa.Scalar, to: pa.DataType) -> bool:
    try:
        value.cast(to)
    except pa.ArrowInvalid:
        return False
    return True
