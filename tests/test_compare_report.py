import csv
import re
from html.parser import HTMLParser

import made_up_comparison as made_up
import pytest

from experiments.comparing import report, wording
from experiments.comparing.pictures import gallery, rendering

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


def test_no_name_is_markup(tmp_path):
    report.write(made_up.with_name(made_up.HOSTILE), tmp_path)
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


CASES = {
    "one setting": made_up.comparison(scopes=("batch",), topks=(0,)),
    "twelve settings": made_up.comparison(**made_up.TWELVE, contrasts="pairs"),
    "one run each": made_up.comparison(seeds=1, topks=(0,), slices=()),
    "nothing known": made_up.unfinished(made_up.comparison(swept={}, commands=())),
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
    made_up.without_matplotlib(monkeypatch)
    paths = report.write(made_up.comparison(topks=(0,)), tmp_path)
    assert {path.suffix for path in paths} == {".html", ".md", ".csv"}
    text = (tmp_path / report.PAGE).read_text()
    assert Page(text).pictures() == []
    for said in (text, (tmp_path / "comparison.md").read_text()):
        assert said.count("matplotlib is not installed") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)


def test_a_report_replaces_the_one_before(tmp_path, monkeypatch):
    other = tmp_path / "comparison_notes.csv"
    other.write_text("mine")
    (tmp_path / report.PICTURES).mkdir()
    (tmp_path / report.PICTURES / "loss.png").write_text("an older one")
    (tmp_path / "comparison_slices.csv").write_text("an older one")
    made_up.without_matplotlib(monkeypatch)
    alone = made_up.comparison(scopes=("batch",), topks=(0,), slices=())
    paths = report.write(alone, tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*paths, other])


def test_the_same_comparison_makes_the_same_files():
    pytest.importorskip("matplotlib")
    pictures = gallery.of(made_up.comparison(scopes=("event", "batch"), topks=(0,)))
    again = gallery.of(made_up.comparison(scopes=("event", "batch"), topks=(0,)))
    for first, second in list(zip(pictures, again, strict=True))[::3]:
        assert rendering.svg(first) == rendering.svg(second)
        assert rendering.png(first) == rendering.png(second)
