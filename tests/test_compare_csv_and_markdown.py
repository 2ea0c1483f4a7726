import csv
import io
import re

import made_up_comparison as made_up
import pytest

from experiments.comparing import csv_file, markdown, wording


def tables_of(text):
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


@pytest.mark.parametrize("name", ["plain", made_up.HOSTILE])
def test_columns_of_markdown_align(name):
    comparison = wording.cleaned(made_up.with_name(name))
    found = tables_of(markdown.render(comparison, {}, None))
    assert len(found) >= 7
    for lines in found:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(bars) == 1, lines


@pytest.mark.portable
def test_csv_comes_back():
    comparison = made_up.comparison()
    rows = list(csv.DictReader(io.StringIO(csv_file.figures(comparison))))
    found = {(r["setting"], r["protocol"], r["key"]): r for r in rows}
    assert len(found) == len(rows)
    for setting in comparison.settings:
        for protocol, figures in setting.figures.items():
            for key, figure in figures.items():
                row = found.pop((setting.name, protocol, key))
                assert float(row["mean"]) == figure.mean
                assert float(row["deviation"]) == figure.deviation
                assert int(row["runs"]) == figure.runs
                steps = tuple(map(int, row["steps"].split()))
                assert steps == setting.chosen[protocol].steps
                assert row["chosen_by"] == setting.chosen[protocol].rule
                assert {f: row[f] for f in setting.fields} == setting.fields
        for name in ("sessions_per_s", "seconds_to_best", "peak_memory_gb"):
            row = found.pop((setting.name, "", name))
            assert float(row["mean"]) == getattr(setting, name).mean
        assert int(found.pop((setting.name, "", "parameters"))["mean"]) == 5_556_200
    assert found == {}


def test_csv_of_differences_comes_back():
    comparison = made_up.comparison()
    rows = list(csv.DictReader(io.StringIO(csv_file.differences(comparison))))
    assert len(rows) == len(comparison.differences)
    for row, d in zip(rows, comparison.differences, strict=True):
        assert (row["baseline"], row["setting"], row["key"]) == d[:3]
        assert [float(row[k]) for k in ("value", "low", "high", "p")] == [*d[3:7]]
        assert row["p_holm"] == ("" if d.p_holm is None else repr(d.p_holm))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("mask_hits=true", "mask_hits=true"),
        ("_x_", r"\_x\_"),
        ("p < .001", "p < .001"),
        ("<b>", "&lt;b>"),
        ("&lt;", "&amp;lt;"),
        ("# x", r"\# x"),
        ("[+0.1, +0.2]", "[+0.1, +0.2]"),
        ("[x](http:)", r"[x\](http:)"),
    ],
)
def test_escapes_what_markdown_would_read(text, expected):
    assert markdown.escaped(text) == expected


def test_a_fence_is_longer_than_what_it_holds():
    assert markdown.fenced("a ``` b").startswith("````\n")


def test_csv_quotes_what_needs_it():
    name = 'a,"b"'
    text = csv_file.figures(made_up.with_name(name))
    assert name in {row[0] for row in csv.reader(io.StringIO(text))}
