import csv
import errno
import io
import os
import re
import sys
from html.parser import HTMLParser

import made_up_comparison as made_up
import pytest

from experiments.comparing import csv_file, markdown, report, wording
from experiments.comparing.pictures import gallery, rendering
from tron_jax import files
from tron_jax.errors import UserError

VOID = {"meta", "link", "wbr", "br"}


class Page(HTMLParser):
    """Reads a page, and fails where its elements are not nested as they should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def pictures(self):
        return [attrs for _, attrs in self.elements if attrs.get("role") == "img"]


def without_matplotlib(patch):
    patch.setitem(sys.modules, "matplotlib", None)
    patch.setitem(sys.modules, "matplotlib.figure", None)


def with_name(name):
    """A comparison in which a name stands everywhere where a name can."""
    whole = made_up.comparison(topks=(0,), seeds=2)
    base, other, last = whole.settings
    old = other.name
    renamed = other._replace(
        name=name, fields={"negatives.drawn_per": name}, remarks=(name,)
    )
    return whole._replace(
        title=name,
        data=name,
        warnings=(name,),
        commands=(f"python -m {name}",),
        settings=(base, renamed, last),
        differences=tuple(
            d._replace(setting=name if d.setting == old else d.setting)
            for d in whole.differences
        ),
        slices=tuple(
            part._replace(
                by=name,
                name=name if part.name == "1" else part.name,
                values=tuple(
                    v._replace(setting=name if v.setting == old else v.setting)
                    for v in part.values
                ),
            )
            for part in whole.slices[:3]
        ),
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "not" / "there"
    comparison = made_up.comparison()
    return comparison, folder, report.write(comparison, folder)


def test_writes_what_it_says(written):
    _, folder, paths = written
    there = {path for path in folder.rglob("*") if path.is_file()}
    assert set(paths) == there
    assert [path.name for path in paths[:5]] == [
        "comparison.html",
        "comparison.md",
        "comparison.csv",
        "comparison_differences.csv",
        "comparison_slices.csv",
    ]


@pytest.mark.portable
def test_page_is_well_formed_and_whole(written):
    pytest.importorskip("matplotlib")
    comparison, folder, _ = written
    text = (folder / "comparison.html").read_text()
    page = Page(text)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    refers = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text)
    assert {a or b for a, b in refers} <= set(ids)
    assert len(page.pictures()) == len(gallery.of(comparison)) == 10
    shown = " ".join(page.texts)
    for setting in comparison.settings:
        assert f"{setting.figures['exact']['recall@20'].mean:.4f}" in shown
    for command in comparison.commands:
        assert command in "".join(page.texts)


def test_page_asks_for_nothing(written):
    text = (written[1] / "comparison.html").read_text()
    text = re.sub(r'xmlns(:xlink)?="http://www.w3.org/[^"]*"', "", text)
    assert "//" not in text.replace("//W3C", "")


def test_every_picture_is_told_with_figures(written):
    pytest.importorskip("matplotlib")
    comparison, folder, _ = written
    told = [
        p["aria-label"]
        for p in Page(folder.joinpath(report.PAGE).read_text()).pictures()
    ]
    assert told == [picture.alt for picture in gallery.of(comparison)]
    assert all(re.search(r"\d\.\d", words) for words in told)
    markdown_text = (folder / "comparison.md").read_text()
    images = re.findall(r"^!\[(.*)\]\((.*)\)$", markdown_text, re.M)
    assert len(images) == len(told)
    for words, path in images:
        assert re.search(r"\d\.\d", words)
        assert (folder / path).read_bytes().startswith(b"\x89PNG")


def tables_of(text):
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


@pytest.mark.parametrize("name", ["plain", made_up.HOSTILE])
def test_columns_of_markdown_align(name):
    comparison = wording.cleaned(with_name(name))
    found = tables_of(markdown.render(comparison, {}, None))
    assert len(found) >= 7
    for lines in found:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(bars) == 1, lines


@pytest.mark.portable
def test_csv_comes_back(written):
    comparison, folder, _ = written
    with (folder / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
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


def test_csv_of_differences_comes_back(written):
    comparison, folder, _ = written
    with (folder / "comparison_differences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(comparison.differences)
    for row, d in zip(rows, comparison.differences, strict=True):
        assert (row["baseline"], row["setting"], row["key"]) == d[:3]
        assert [float(row[k]) for k in ("value", "low", "high", "p")] == [*d[3:7]]
        assert row["p_holm"] == ("" if d.p_holm is None else repr(d.p_holm))


def test_no_name_is_markup(tmp_path):
    report.write(with_name(made_up.HOSTILE), tmp_path)
    page = Page((tmp_path / report.PAGE).read_text())
    names = {tag for tag, _ in page.elements}
    assert "b" not in names
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    name = wording.cleaned(made_up.HOSTILE)
    assert "".join(page.texts).count(name) >= 10
    if page.pictures():  # as text in the SVG too
        assert sum(text.strip() == name for text in page.texts) >= 5
    with (tmp_path / "comparison.csv").open(newline="") as file:
        assert name in {row["setting"] for row in csv.DictReader(file)}
    text = (tmp_path / "comparison.md").read_text()
    fence = text.rindex("```\npython")
    assert "<b>" not in text[:fence]
    assert "</script>" not in text[:fence]


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


def unfinished(whole):
    """One setting of a comparison, of which no run was evaluated or logged yet."""
    return whole._replace(
        settings=(made_up.bare("runs/new"),), baseline=None, differences=(), slices=()
    )


CASES = {
    "one setting": made_up.comparison(scopes=("batch",), topks=(0,)),
    "twelve settings": made_up.comparison(**made_up.TWELVE, pairs=True),
    "one run each": made_up.comparison(seeds=1, topks=(0,), slices=()),
    "nothing known": unfinished(made_up.comparison(swept={}, commands=())),
    "no differences": made_up.comparison(
        topks=(0,), differences=(), baseline=None, slices=()
    ),
    "old results beside": made_up.comparison(
        settings=(
            *made_up.comparison(topks=(0,)).settings[:2],
            made_up.bare("results/tron_xl"),
        ),
        slices=(),
    ),
}
PICTURES = {
    "one setting": 6,
    "twelve settings": 10,
    "one run each": 6,
    "nothing known": 0,
    "no differences": 4,
    "old results beside": 6,
}


@pytest.mark.parametrize("case", CASES)
def test_whatever_is_missing_the_rest_is_shown(case, tmp_path):
    pytest.importorskip("matplotlib")
    comparison = CASES[case]
    paths = report.write(comparison, tmp_path)
    page = Page((tmp_path / report.PAGE).read_text())
    assert len(page.pictures()) == PICTURES[case]
    assert sum(path.suffix == ".png" for path in paths) == PICTURES[case]
    assert (tmp_path / report.PICTURES).exists() == bool(PICTURES[case])
    shown = "".join(page.texts)
    assert all(setting.name in shown for setting in comparison.settings)
    assert "nan" not in shown
    assert sum(path.stat().st_size for path in paths) < 1_000_000


def test_without_matplotlib_the_page_says_so(tmp_path, monkeypatch):
    without_matplotlib(monkeypatch)
    paths = report.write(made_up.comparison(topks=(0,)), tmp_path)
    assert {path.suffix for path in paths} == {".html", ".md", ".csv"}
    text = (tmp_path / report.PAGE).read_text()
    assert Page(text).pictures() == []
    for said in (text, (tmp_path / "comparison.md").read_text()):
        assert said.count("matplotlib is not installed") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)


def test_a_report_replaces_the_one_before(tmp_path, monkeypatch):
    other = tmp_path / "notes.csv"
    other.write_text("mine")
    (tmp_path / report.PICTURES).mkdir()
    (tmp_path / report.PICTURES / "loss.png").write_text("an older one")
    (tmp_path / "comparison_slices.csv").write_text("an older one")
    without_matplotlib(monkeypatch)
    alone = made_up.comparison(scopes=("batch",), topks=(0,), slices=())
    paths = report.write(alone, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*paths, other])


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize("older", [False, True])
def test_a_full_disk_leaves_no_half_of_a_report(tmp_path, monkeypatch, at, older):
    without_matplotlib(monkeypatch)
    folder = tmp_path / "runs" / "report"
    if older:
        report.write(made_up.comparison(scopes=("batch",)), folder)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    calls = []

    def sync(path):
        calls.append(path)
        if len(calls) == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(files, "sync", sync)
    with pytest.raises(UserError, match="No space left on device") as raised:
        report.write(made_up.comparison(), folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
    after = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before
    assert folder.exists() == older


def test_a_folder_in_the_way_is_named_before_anything_is_written(tmp_path, monkeypatch):
    without_matplotlib(monkeypatch)
    (tmp_path / "comparison.csv").mkdir()
    with pytest.raises(UserError, match=r"comparison\.csv: it is a folder"):
        report.write(made_up.comparison(topks=(0,)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.csv"]


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(UserError, match="report: cannot be written: "):
        report.write(unfinished(made_up.comparison()), tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"


def test_the_same_comparison_makes_the_same_files():
    pytest.importorskip("matplotlib")
    pictures = gallery.of(made_up.comparison(scopes=("event", "batch"), topks=(0,)))
    again = gallery.of(made_up.comparison(scopes=("event", "batch"), topks=(0,)))
    for first, second in list(zip(pictures, again, strict=True))[::3]:
        assert rendering.svg(first) == rendering.svg(second)
        assert rendering.png(first) == rendering.png(second)


def test_csv_quotes_what_needs_it():
    name = 'a,"b"'
    text = csv_file.figures(with_name(name))
    assert name in {row[0] for row in csv.reader(io.StringIO(text))}
