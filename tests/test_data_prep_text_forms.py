"""CSV as spreadsheets and databases write it: delimiters, encodings, quotes."""

import gzip
import json

import pytest
from any_format import sessions_of, status_of, write_log
from log_sizes import small_sizes

from data_prep.reading import text_files, text_log
from data_prep.reading.quoted_rows import last_row_end, split_rows
from tron_jax.data.sessions import open_prepared

T = 1_700_000_000
ROWS = [("s", "i", "t"), (1, 2, T), (1, 1, T - 1), (2, 1, T + 2), (2, 2, T + 3)]
WHOLE = [(1, [1, 2]), (2, [1, 2])]


def csv_text(delimiter=",", rows=ROWS):
    return "".join(delimiter.join(map(str, row)) + "\n" for row in rows)


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(log, capsys, *args):
    assert status_of(log, log.parent / "refused", "--time=t", *args) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {log}: ")
    return line.removeprefix(f"error: {log}: ")


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.txt"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_shows_the_delimiter(tmp_path, name, delimiter):
    log = write(tmp_path / name, csv_text(delimiter))
    assert sessions_of(log, tmp_path / "out", "--time=t") == WHOLE


def test_a_name_with_the_other_delimiter_in_it(tmp_path):
    rows = [("s", "i", "t", "a;b"), *((*row, 0) for row in ROWS[1:])]
    log = write(tmp_path / "log.csv", csv_text(",", rows))
    assert sessions_of(log, tmp_path / "out", "--time=t") == WHOLE


@pytest.mark.parametrize(("given", "sign"), [(":", ":"), ("tab", "\t"), ("\\t", "\t"),
                                             (" ", " ")])  # fmt: skip
def test_a_delimiter_that_is_given(tmp_path, given, sign):
    log = write(tmp_path / "log.csv", csv_text(sign))
    args = ("--time=t", f"--delimiter={given}")
    assert sessions_of(log, tmp_path / "out", *args) == WHOLE


def test_a_delimiter_that_is_wrong(tmp_path, capsys):
    log = write(tmp_path / "log.csv", csv_text(";"))
    assert refused(log, capsys, "--delimiter=,") == (
        "no column 's' (--session); it has s;i;t"
    )
    for given in ("", "||", '"', "x", "ä"):
        assert status_of(log, tmp_path / "out", f"--delimiter={given}") == 1
        assert f"--delimiter={given}: expected one sign" in capsys.readouterr().err


@pytest.mark.parametrize("delimiter", [";", "|"])
def test_a_missing_column_is_named_by_the_likeliest_delimiter(
    tmp_path, capsys, delimiter
):
    log = write(tmp_path / "log.csv", csv_text(delimiter).replace("i", "item"))
    line = refused(log, capsys)
    assert line == "no column 'i' (--item); it has s, item, t"


def test_a_header_of_bytes_is_no_trouble_for_a_terminal(tmp_path, capsys):
    log = write(tmp_path / "log.csv", b"PK\x03\x04,\x1b[2J\n1,2\n")
    line = refused(log, capsys)
    assert line == r"no column 's' (--session); it has 'PK\x03\x04', '\x1b[2J'"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_line_that_excel_begins_with(tmp_path, capsys, line, end):
    text = f"{line}\n{csv_text(';')}".replace("\n", end)
    log = write(tmp_path / "log.csv", text)
    assert sessions_of(log, tmp_path / "out", "--time=t") == WHOLE
    write(log, f"{text}1;;5{end}")
    assert "row 7, column 'i': empty" in refused(log, capsys)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32",
                                      "utf-8-sig"])  # fmt: skip
@pytest.mark.parametrize("name", ["log.csv", "log.txt", "log.csv.gz", "log.jsonl"])
def test_wider_characters(tmp_path, name, encoding):
    rows = [("s", "i", "t"), *(("ü" * 9, f"漢{n % 2}", T + n) for n in range(500))]
    text = csv_text("\t", rows)
    if name == "log.jsonl":
        fields = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in fields)
    data = text.encode(encoding)
    log = write(tmp_path / name, gzip.compress(data) if name.endswith("z") else data)
    sizes = small_sizes(text_bytes=777)  # that cuts characters
    found = sessions_of(log, tmp_path / "out", "--time=t", sizes=sizes)
    assert found == [("ü" * 9, ["漢0", "漢1"] * 250)]


def test_wider_characters_that_are_cut_short(tmp_path, capsys):
    log = write(tmp_path / "log.csv", csv_text().encode("utf-16")[:-1])
    assert refused(log, capsys).startswith("damaged UTF-16: ")


def test_blanks_around_names_mean_nothing_around_ids(tmp_path):
    log = write(tmp_path / "log.csv", csv_text(", ") + f"1 ,2,{T + 9}\n")
    found = sessions_of(log, tmp_path / "out", "--time=t")
    assert found == [(1, [1, 2, 2]), (2, [1, 2])]
    write(log, csv_text(",").replace("s,i", "s, i"))
    assert sessions_of(log, tmp_path / "plain", "--time=t") == WHOLE


def test_quotes_behind_blanks_are_no_part_of_ids(tmp_path):
    text = csv_text(", ").replace("1, 1,", '1, "1",').replace("2, 2,", '"2", "2" ,')
    log = write(tmp_path / "log.csv", text)
    assert sessions_of(log, tmp_path / "out", "--time=t") == WHOLE


def test_blanks_around_ids_alone_are_theirs(tmp_path):
    log = write(tmp_path / "log.csv", csv_text().replace("\n1,", "\n 1,"))
    found = sessions_of(log, tmp_path / "out", "--time=t")
    assert found == [(" 1", [1, 2]), ("2", [1, 2])]


def test_an_id_that_is_blank_beside_names_with_blanks(tmp_path, capsys):
    log = write(tmp_path / "log.csv", csv_text(", ") + f"1,  ,{T}\n")
    assert "row 6, column 'i': empty" in refused(log, capsys)


NOTES = ['"a\nb"', '"say ""\n"" twice"', "plain", '"\n"', '"a\r\nb,c"', '""']


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("text_bytes", [40, 97, 1 << 20])
def test_line_breaks_within_quotes(tmp_path, capsys, text_bytes, end):
    rows = [(n // 3, n % 2, T + n, NOTES[n % 6]) for n in range(300)]
    text = csv_text(",", [("s", "i", "t", "note"), *rows])
    log = write(tmp_path / "log.csv", text.replace("\n", end))
    sizes = small_sizes(text_bytes=text_bytes)
    args = ("--time=t", "--quoted_newlines")
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    plain = write(
        tmp_path / "plain.csv", csv_text(",", [ROWS[0], *(r[:3] for r in rows)])
    )
    assert found == sessions_of(plain, tmp_path / "plain", "--time=t")
    line = refused(log, capsys)
    assert line.startswith("row 2: expected one row a line; a quote is open")
    assert "(which --quoted_newlines allows)" in line


def test_a_bad_row_among_rows_of_several_lines(tmp_path, capsys):
    text = f's,i,t,n\n1,1,{T},"a\nb"\n1,2,{T},"a\n\nb"\n\n1,,{T},x\n1,2,{T},"\n",5\n'
    log = write(tmp_path / "log.csv", text)
    args = ("--quoted_newlines", "--skip_bad_rows")
    assert "row 8, column 'i': empty" in refused(log, capsys, args[0])
    assert sessions_of(log, tmp_path / "out", "--time=t", *args) == [(1, [1, 2])]
    said = capsys.readouterr().err
    assert "2 malformed rows left out" in said
    assert "row 9: 4 columns expected, 5 found" in said


@pytest.mark.parametrize("text_bytes", [50, 1 << 20])
def test_a_quote_that_stays_open(tmp_path, capsys, text_bytes):
    text = csv_text() + f'2,"2,{T}\n' + "2,1,5\n" * 100
    log = write(tmp_path / "log.csv", text)
    for args in (["--quoted_newlines"], ["--quoted_newlines", "--skip_bad_rows"]):
        sizes = small_sizes(text_bytes=text_bytes)
        assert status_of(log, tmp_path / "out", *args, sizes=sizes) == 1
        line = capsys.readouterr().err
        assert "row 6: a quote is open to the end of the file" in line


def test_a_quote_that_stays_open_for_long(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(text_files, "_LONGEST_LINE", 400)
    log = write(tmp_path / "log.csv", csv_text() + '2,"2\n' + "2,1,5\n" * 200)
    sizes = small_sizes(text_bytes=50)
    assert status_of(log, tmp_path / "out", "--quoted_newlines", sizes=sizes) == 1
    line = capsys.readouterr().err
    assert "line 6: longer than 400 bytes; a quote is open" in line


LONG = ["y" * 9000, '"' + "y" * 9000 + '"', '"' + "y\n" * 4500 + '"']


@pytest.mark.parametrize("text_bytes", [20, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "sep=,\n"])
def test_line_breaks_within_names(tmp_path, capsys, start, end, text_bytes):
    rows = [(s, i, t, "z") for s, i, t in ROWS[1:]]
    text = start + csv_text(",", [("s", "i", "t", '"x\n\ny"'), *rows])
    log = write(tmp_path / "log.csv", text.replace("\n", end))
    args = ("--time=t", "--quoted_newlines")
    sizes = small_sizes(text_bytes=text_bytes)
    plain = write_log(tmp_path / "log.parquet", ROWS[1:])
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    assert found == sessions_of(plain, tmp_path / "plain", args[0])
    write(log, text.replace("\n", end) + f"1,,5,z{end}")
    line = refused(log, capsys, args[1])
    assert line.startswith(f"row {8 + len(start) // 6}, column 'i': empty")


def test_a_quote_that_stays_open_in_the_header(tmp_path, capsys):
    log = write(tmp_path / "log.csv", csv_text().replace("t\n", '"t\n', 1))
    line = refused(log, capsys, "--quoted_newlines")
    assert line == "row 1: a quote in the header is open"


@pytest.mark.parametrize("args", [(), ("--quoted_newlines",)])
@pytest.mark.parametrize("note", LONG)
def test_rows_longer_than_two_blocks_of_pyarrow(
    tmp_path, capsys, monkeypatch, note, args
):
    monkeypatch.setattr(text_log, "CORE_BYTES", 1000)
    rows = [(n // 3, n % 2, T + n, "z") for n in range(300)]
    rows[150] = (*rows[150][:3], note)
    log = write(tmp_path / "log.csv", csv_text(",", [("s", "i", "t", "n"), *rows]))
    if "\n" in note and not args:
        line = refused(log, capsys)
        assert line.startswith("row 152: expected one row a line; a quote is open")
        return
    plain = write_log(tmp_path / "log.parquet", [row[:3] for row in rows])
    found = sessions_of(log, tmp_path / "out", "--time=t", *args)
    assert found == sessions_of(plain, tmp_path / "plain", "--time=t")


@pytest.mark.parametrize(("note", "kept"), [('"5 nail', 91), ('5" nail', 90)])
def test_stray_quotes_far_apart(tmp_path, capsys, monkeypatch, note, kept):
    """What is between them is one row, a sound one where the first opens a value."""
    monkeypatch.setattr(text_log, "CORE_BYTES", 1000)
    rows = [(n // 3, n % 2, T + n, "z") for n in range(900)]
    for n in (90, 800):
        rows[n] = (*rows[n][:3], note)
    log = write(tmp_path / "log.csv", csv_text(",", [("s", "i", "t", "n"), *rows]))
    if kept == 90:
        line = refused(log, capsys, "--quoted_newlines")
        assert line.startswith("row 92: expected one row a line; a quote is open")
    args = ("--time=t", "--quoted_newlines", "--skip_bad_rows")
    found = sessions_of(log, tmp_path / "out", *args)
    left = [row[:3] for row in rows[:kept] + rows[801:]]
    plain = write_log(tmp_path / "log.parquet", left)
    assert found == sessions_of(plain, tmp_path / "plain", "--time=t")


def test_rows_end_where_quotes_are_even():
    text = b'a,"b\nc"\n"x""\n"\n\n"y'
    assert last_row_end(text, False) == (text.rindex(b'"y'), True)
    assert last_row_end(b'1\n2"\n', True) == (5, False)
    assert last_row_end(b"1\n2", True) == (0, True)
    rows, lines = split_rows(text_files.Block(text[:-2], 7, 5))
    assert rows == [b'a,"b\nc"', b'"x""\n"', b""]
    assert lines.tolist() == [7, 9, 11]


def test_a_text_without_a_last_line_end(tmp_path):
    text = f's,i,t,n\n1,1,{T},x\n1,2,{T},"a\nb"'
    log = write(tmp_path / "log.csv", text)
    args = ("--time=t", "--quoted_newlines")
    assert sessions_of(log, tmp_path / "out", *args) == [(1, [1, 2])]
    assert open_prepared(tmp_path / "out").stats["sources"][0]["file"] == "log.csv"
