import errno
import os

import made_up_comparison as made_up
import pytest

from experiments.comparing import report
from tron_jax import files
from tron_jax.errors import UserError


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize("older", [False, True])
def test_a_full_disk_leaves_no_half_of_a_report(tmp_path, monkeypatch, at, older):
    made_up.without_matplotlib(monkeypatch)
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
    made_up.without_matplotlib(monkeypatch)
    (tmp_path / "comparison.csv").mkdir()
    with pytest.raises(UserError, match=r"comparison\.csv: it is a folder"):
        report.write(made_up.comparison(topks=(0,)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.csv"]


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path):
    (tmp_path / "report").write_text("mine")
    with pytest.raises(UserError, match="report: cannot be written: "):
        report.write(made_up.unfinished(made_up.comparison()), tmp_path / "report")
    assert (tmp_path / "report").read_text() == "mine"
