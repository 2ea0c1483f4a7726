"""JSON lines parsed by pyarrow, whatever stands in them."""

import re

import pyarrow as pa
import pyarrow.json

_BLOCK = 1 << 22  # bytes that one core parses at a time
# A row that begins with null, a byte-order mark in front or not.
_NULL_FIRST = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*null")
_NULL_LATER = re.compile(rb"\n(?:[ \t\r]|\xef\xbb\xbf)*null")


def parse_json_lines(data: bytes, schema: pa.Schema) -> pa.Table:
    """Parses whole lines; fields that are not asked for are left out.

    Args:
      data: lines, each a JSON object.
      schema: of the fields to take; one that a line lacks is null.

    Returns:
      The rows: as many as there are lines, where each holds one object.

    Raises:
      pa.ArrowInvalid: if a line is malformed, or null.
    """
    if _NULL_FIRST.match(data) or _NULL_LATER.search(data):
        # As the first row of a block it ends the process (pyarrow 26).
        raise pa.ArrowInvalid("JSON parse error: expected an object, found null")
    return pyarrow.json.read_json(
        pa.BufferReader(data),
        pyarrow.json.ReadOptions(block_size=max(_BLOCK, _longest_line(data))),
        pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore"
        ),
    )


def _longest_line(data: bytes) -> int:
    """A bound on the longest line, which must fit a block of pyarrow's."""
    step = _BLOCK // 4
    ends = [data.rfind(b"\n", 0, end) for end in range(step, len(data) + step, step)]
    return 2 * max(b - a for a, b in zip([0, *ends], [*ends, len(data)], strict=True))
