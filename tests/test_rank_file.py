import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tron_jax.evaluation import rank_file
from tron_jax.evaluation.rank_file import Ranks


def make_ranks(session):
    draw = np.random.default_rng(len(session))
    columns = draw.integers(1, 99, (4, len(session)), np.int32)
    return Ranks(np.asarray(session, np.int32), *columns)


RANKS = {"paper": make_ranks([0, 0, 1, 2]), "exact": make_ranks([0, 0, 1, 2, 4])}


@pytest.mark.parametrize("ids", [list("abcde"), [7, 8, 9, 10, 2**40]])
def test_parquet_holds_both_protocols_by_raw_session(tmp_path, ids):
    path = tmp_path / "ranks.parquet"
    path.write_text("an older one")
    rank_file.save(path, RANKS, pa.array(ids))
    assert [file.name for file in tmp_path.iterdir()] == ["ranks.parquet"]
    table = pq.read_table(path).to_pydict()
    assert list(table) == ["protocol", "session", "event", "label", "higher", "equal"]
    assert table["protocol"] == ["paper"] * 4 + ["exact"] * 5
    for name in Ranks._fields:
        columns = [getattr(ranks, name) for ranks in RANKS.values()]
        values = np.concatenate(columns).tolist()
        if name == "session":
            values = [ids[session] for session in values]
        assert table[name] == values


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "ranks.parquet"
    rank_file.save(path, RANKS, pa.array(list("abcde")))
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        rank_file.save(path, RANKS, pa.array(list("abcde")))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["ranks.parquet"]
