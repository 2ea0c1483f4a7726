import sys
from pathlib import Path

import made_up_comparison as made_up
import pytest

from experiments.comparing import report

sys.path.append(str(Path(__file__).parent / "browser"))
import check_page
import chromium

PROGRAM = chromium.find()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    comparison = made_up.comparison(topks=(0,), slices=())
    remark = made_up.HOSTILE
    first, *others = comparison.settings
    settings = (first._replace(remarks=(remark,), sessions_per_s=None), *others)
    return report.write(comparison._replace(settings=settings, title=remark), folder)[0]


needs_chromium = pytest.mark.skipif(
    PROGRAM is None, reason=f"no Chromium: none of {', '.join(chromium.NAMES)}"
)


@needs_chromium
def test_a_reader_can_use_the_page(page, tmp_path):
    counts = check_page.check(PROGRAM, page, tmp_path)
    assert counts["tables"] == 7
    for name in ("phone.png", "desktop.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@needs_chromium
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("sign * (", "(", "descending"),
        ("</main>", '<p style="width: 50em">wide</p></main>', "wider than the screen"),
        ("</main>", '<img src="http://127.0.0.1:9/x.png"></main>', "console|request"),
        ("</script>", "lost();</script>", "a script failed"),
    ],
)
def test_the_check_sees_what_is_wrong(page, tmp_path, old, new, words):
    broken = tmp_path / "broken.html"
    text = page.read_text()
    at = text.rindex(old)
    broken.write_text(text[:at] + new + text[at + len(old) :])
    with pytest.raises(chromium.Wrong, match=words):
        check_page.check(PROGRAM, broken)
