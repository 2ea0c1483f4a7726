import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tron_jax.evaluation import protocols as ranks_lib
from tron_jax.evaluation.protocols import Ranks


def make_ranks(protocol, session, higher, equal):
    count = len(session)
    return Ranks(
        np.asarray(protocol, np.int8),
        np.asarray(session, np.int32),
        np.arange(1, count + 1, dtype=np.int32),
        np.arange(11, count + 11, dtype=np.int32),
        np.asarray(higher, np.int32),
        np.asarray(equal, np.int32),
    )


RANKS = make_ranks(
    [0, 0, 0, 0, 1, 1, 1, 1, 1],
    [0, 0, 1, 2, 0, 0, 1, 2, 4],
    [0, 4, 9, 30, 0, 4, 9, 30, 0],
    [0, 1, 0, 0, 0, 1, 0, 0, 3],
)


def test_paper_is_a_mean_of_batch_means_with_ties_in_favour():
    summary = ranks_lib.summarise(RANKS, "paper", split="test", paper_batch_size=2)
    assert summary == {
        "split": "test",
        "protocol": "paper",
        "events": 4,
        "recall@5": np.mean([2 / 3, 0]),
        "recall@10": np.mean([1, 0]),
        "recall@20": np.mean([1, 0]),
        "mrr@5": np.mean([(1 + 1 / 5) / 3, 0]),
        "mrr@10": np.mean([(1 + 1 / 5 + 1 / 10) / 3, 0]),
        "mrr@20": np.mean([(1 + 1 / 5 + 1 / 10) / 3, 0]),
    }


def test_exact_is_a_mean_over_events_with_ties_against():
    summary = ranks_lib.summarise(RANKS, "exact", split="validation")
    assert summary["split"] == "validation"
    assert summary["events"] == 5
    assert summary["recall@5"] == 2 / 5
    assert summary["recall@10"] == 4 / 5
    np.testing.assert_allclose(summary["mrr@10"], (1 + 1 / 6 + 1 / 10 + 1 / 4) / 5)


def test_table_shows_both_protocols_and_what_belongs_to_them():
    exact = ranks_lib.summarise(RANKS, "exact", split="test")
    text = ranks_lib.format_summaries(
        {"paper": None, "exact": exact},
        steps={"paper": 1200, "exact": 3400},
        chosen_by={"paper": "highest Recall@20 on test", "exact": "latest"},
        position="from_end",
    )
    lines = text.splitlines()
    assert lines[0].split() == ["test", "paper", "exact"]
    assert lines[1].split() == ["step", "1,200", "3,400"]
    assert lines[2].split() == ["events", "n/a", "5"]
    assert lines[3].split() == ["Recall@5", "n/a", "0.4000"]
    assert "checkpoint (paper): highest Recall@20 on test" in lines
    assert "how many clicks" in lines[-1]
    honest = ranks_lib.format_summaries(
        {"paper": None, "exact": exact},
        steps={"paper": 1, "exact": 1},
        chosen_by={"paper": "-", "exact": "-"},
        position="from_start",
    )
    assert "how many clicks" not in honest


@pytest.mark.parametrize("ids", [list("abcde"), [7, 8, 9, 10, 2**40]])
def test_parquet_holds_both_protocols_by_raw_session(tmp_path, ids):
    path = tmp_path / "ranks.parquet"
    path.write_text("an older one")
    ranks_lib.save(path, RANKS, pa.array(ids))
    assert [file.name for file in tmp_path.iterdir()] == ["ranks.parquet"]
    table = pq.read_table(path).to_pydict()
    assert list(table) == ["protocol", "session", "event", "label", "higher", "equal"]
    assert table["protocol"] == ["paper"] * 4 + ["exact"] * 5
    assert table["session"] == [ids[s] for s in RANKS.session]
    for name in ("event", "label", "higher", "equal"):
        assert table[name] == getattr(RANKS, name).tolist()


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "ranks.parquet"
    ranks_lib.save(path, RANKS, pa.array(list("abcde")))
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        ranks_lib.save(path, RANKS, pa.array(list("abcde")))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["ranks.parquet"]
