"""Which known data set or format a file is of, judged by its first lines."""

import json
import re

_DIGINETICA = "Diginetica's train-item-views.csv (python -m data_prep.diginetica)"
_YOOCHOOSE = "Yoochoose's yoochoose-clicks.dat (python -m data_prep.yoochoose)"
_OTTO = "OTTO's jsonl (python -m data_prep.otto)"
_BUYS = "Yoochoose's yoochoose-buys.dat, which holds purchases, not clicks"
_HEADERS = (
    (b"sessionid;userid;itemid;timeframe;eventdate", _DIGINETICA),
    (b"sessionid;userid;timeframe;eventdate;", "Diginetica's train-purchases.csv"),
    (b"queryid;sessionid;", "Diginetica's train-queries.csv"),
    (b"queryid;timeframe;", "Diginetica's train-clicks.csv"),
    (b"itemid;categoryid", "Diginetica's product-categories.csv"),
    (b"itemid;pricelog2", "Diginetica's products.csv"),
    (b"session,aid,ts,type", "OTTO as a table, not the original jsonl"),
)
_MAGIC = (
    (b"PAR1", "a Parquet file (python -m data_prep.events)"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"ARROW1", "an Arrow file, as in a prepared set"),
    (b"BZh", "bzip2; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd; unpack it first"),
    (b"<", "a web page; was the download refused?"),
)
_DELIMITERS = ((b",", "commas"), (b";", "semicolons"), (b"\t", "tabs"))
_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^,]*"
_ROWS = (
    (rb"[^,;]+," + _TIME + rb",[^,;]+,[^,;]*", _YOOCHOOSE),
    (rb"[^,;]+," + _TIME + rb",[^,;]+,\d+,\d+", _BUYS),
    (
        rb"[^,;]+;[^,;]*;[^,;]+;\d+;\d{4}-\d\d-\d\d",
        "Diginetica's train-item-views.csv without its header",
    ),
    (
        rb"[^,]*session[^,]*,[^,]*time[^,]*,[^,]*item[^,]*(,.*)?",
        "Yoochoose's clicks with a header, which the original lacks, or a log for "
        "python -m data_prep.events",
    ),
)


def recognise(head: bytes) -> str:
    """Returns the name of the data set or format that a file begins like, or ""."""
    lines = head.split(b"\n")
    first = lines[0].strip()
    plain = first.lower().replace(b"_", b"").replace(b'"', b"")
    if first.startswith(b"{"):
        return _recognise_json(first, complete=len(lines) > 1)
    for text, starts in ((head, _MAGIC), (plain, _HEADERS)):
        for start, name in starts:
            if text.startswith(start):
                return name
    for pattern, name in _ROWS:
        if re.fullmatch(pattern, first) or re.fullmatch(pattern, plain):
            return name
    for delimiter, name in _DELIMITERS:
        if first.count(delimiter) > 1:
            return f"text separated by {name}"
    return ""


def _recognise_json(line: bytes, complete: bool) -> str:
    if re.match(rb'\{\s*"session"\s*:\s*[^,]+,\s*"events"\s*:', line):
        return _OTTO
    if complete:
        try:
            names = ", ".join(map(str, json.loads(line)))
        except ValueError:
            return ""
        return f"JSON lines with the fields {names}"
    return "JSON"
