"""The originals are read by blocks or line by line: both say the same of any line."""

import json

import numpy as np
import pyarrow as pa
import pytest
from test_data_prep_bad_raw_logs import HEADER

from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import Kinds, ReadSizes, WiderKindsError
from data_prep.reading.formats import PUBLIC

IDS = ["7", " 7", "7 ", "\t7", "007", "+7", "-7", "0x10", "7.0", "1e3", "", " ", "ä"]
IDS += ["a b", " a", "a ", "\u00a0a", "a\u3000", "9223372036854775808", "NULL", "nan"]
TIMES = ["5", " 5", "5 ", "+5", "05", "0x10", "5.0", "", "-5", "86400000", "1e3"]
DATES = ["2016-05-09", " 2016-05-09", "2016-05-09 ", "2016-5-9", "20160509"]
DATES += ["2016-02-30", ""]
STAMPS = ["2014-04-07T10:51:09.277Z", "2014-04-07T10:51:09Z", "2014-04-07 10:51:09Z"]
STAMPS += ["2014-04-07T10:51:09", "2014-04-07", "2014-04-07T10:51:09+02:00", ""]
STAMPS += ["2014-04-07T10:51Z", "2014-04-07T10:51:09,5Z", "2014-W15-1", "20140407"]
JSON_IDS = [7, "7", " 7", "7 ", "007", "", " ", "ä", " a", "a ", 7.0, 1e3, True, None]
JSON_IDS += [2**63, -7, [7], "0x10"]
CLICKS = [{"aid": n, "ts": 1659304800025 + n, "type": "clicks"} for n in range(3)]


def diginetica(session="1", item="2", timeframe="3", date="2016-05-09"):
    return f"{session};NA;{item};{timeframe};{date}\n"


def yoochoose(session="1", item="2", stamp=STAMPS[0]):
    return f"{session},{stamp},{item},0\n"


def otto(session=1, aid=2, ts=1659304800025, kind="clicks", other=2):
    odd = {"aid": aid, "ts": ts, "type": kind}
    cart = {"aid": other, "ts": 4, "type": "carts"}
    return json.dumps({"session": session, "events": [odd, *CLICKS, cart]}) + "\n"


LINES = {"diginetica": diginetica, "yoochoose": yoochoose, "otto": otto}
ODD = [("diginetica", {field: one}) for field in ("session", "item") for one in IDS]
ODD += [("diginetica", {"timeframe": one}) for one in TIMES]
ODD += [("diginetica", {"date": one}) for one in DATES]
ODD += [("yoochoose", {field: one}) for field in ("session", "item") for one in IDS]
ODD += [("yoochoose", {"stamp": one}) for one in STAMPS]
ODD += [("otto", {n: one}) for n in ("session", "aid", "other") for one in JSON_IDS]
ODD += [("otto", {"ts": one}) for one in ("5", 5.0, -5, True, None, 2**63)]
ODD += [("otto", {"kind": one}) for one in (None, 5, "", " clicks", "views")]


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "text"])
@pytest.mark.parametrize(("name", "fields"), ODD, ids=str)
def test_both_ways_agree(tmp_path, capsys, name, fields, text):
    """Also where all ids are text, since one of them is."""
    line = LINES[name]
    lines = [line(session=4), line(**fields), line(session=5), line(**fields)]
    lines += [line(session="guest")] * text
    path = tmp_path / "log"
    path.write_text("".join([HEADER] * (name == "diginetica") + lines))
    by_blocks = clicks_of(PUBLIC[name](path, ReadSizes()), capsys)
    by_lines = PUBLIC[name](path, ReadSizes())
    by_lines._read_table = cannot
    assert by_blocks == clicks_of(by_lines, capsys)


def clicks_of(log, capsys):
    """Reads a log; returns its clicks, what else it counted, and what it warned of."""
    kinds, bad = Kinds(), BadRows(skip=True)
    while True:
        bad.clear()
        try:
            batches = list(log.batches(kinds, bad))
            break
        except WiderKindsError as wider:
            kinds |= wider.kinds
    bad.warn()
    found = [
        (batch.session.type, batch.session.to_pylist(), batch.item.to_pylist())
        for batch in batches
    ]
    times = np.concatenate([batch.time for batch in batches]).tolist()
    counted = {name: getattr(log, name, None) for name in ("other_events", "unclicked")}
    return found, times, counted, capsys.readouterr().err


def cannot(data, id_type):
    raise pa.ArrowInvalid("as if")
