"""Ids that several columns make together."""

import json
import re
from collections.abc import Sequence

import pyarrow as pa

from data_prep.reading.checked import Checked, compute

_NUMBER = re.compile(r"0|-?[1-9][0-9]*")  # as one would be printed


def join_ids(parts: Sequence[Checked[pa.Array]]) -> pa.Array:
    """Makes an id of those of several columns: the text of a JSON array.

    What is a whole number, or text that spells it as it would be printed, is a number
    in it, so that formats agree.

    Args:
      parts: [rows] of each column, as ``read_ids`` returns them.

    Returns:
      [rows] string by a dictionary; null where a part is.
    """
    written = []
    for number, part in enumerate(parts):
        coded = part.values
        if not pa.types.is_dictionary(coded.type):
            coded = coded.cast(pa.string()).dictionary_encode()
        start = "[" if number == 0 else ""
        end = "]" if number == len(parts) - 1 else ""
        texts = [
            None if text is None else f"{start}{_element(text)}{end}"
            for text in coded.dictionary.to_pylist()
        ]
        written.append(pa.array(texts, pa.string()).take(coded.indices))
    joined = compute("binary_join_element_wise", *written, pa.scalar(","))
    return joined.dictionary_encode()


def _element(text: str) -> str:
    if _NUMBER.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False)
