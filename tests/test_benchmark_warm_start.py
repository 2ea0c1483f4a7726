"""The report on warm starts: which labels count, and as what."""

import json

import numpy as np
import pytest
import tiny

from experiments import keep
from experiments.benchmarks import warm_start
from tron_jax.data.sessions import open_prepared
from tron_jax.evaluation import rank_file
from tron_jax.storage.checkpoints import Checkpoints

OLD_IDS = [f"item {n}" for n in range(40, 40 + tiny.NUM_ITEMS)]
NEW_IDS = [f"item {n}" for n in range(tiny.NUM_ITEMS)]


@pytest.fixture
def report(tmp_path, train, evaluate, capfd):
    """A warm run, and one from scratch as it is kept; the report, and their folders."""
    data = {
        name: tiny.write_data(tmp_path / name, raw_ids=ids)
        for name, ids in {"old_data": OLD_IDS, "data": NEW_IDS}.items()
    }
    runs = {name: tmp_path / name for name in ("old", "warm", "scratch")}
    fields = {"train__epochs": 1}
    assert train(runs["old"], data=data["old_data"], **fields)[0] == 0
    assert train(runs["scratch"], data=data["data"], **fields)[0] == 0
    fields |= {"init__workdir": runs["old"], "checkpoint__keep_last": 9}
    assert train(runs["warm"], data=data["data"], **fields)[0] == 0
    assert evaluate(runs["scratch"])[0] == 0
    flags = [f"--workdir={runs['scratch']}", f"--out={tmp_path / 'kept'}"]
    assert keep.main(["keep", *flags]) == 0
    named = [f"--run=warm={runs['warm']}", f"--run=scratch={tmp_path / 'kept'}"]
    flags = [
        f"--old={runs['old']}",
        f"--data={data['data']}",
        f"--out={tmp_path / 'o'}",
    ]
    with tiny.compiled_once(tmp_path / "compiled"):
        assert warm_start.main(["warm_start", *named, *flags]) == 0
    return json.loads((tmp_path / "o" / "warm_start.json").read_text()), tmp_path


def slow_recall(path, data, protocol="exact"):
    """Recall@20 of all labels and of those on new items, from ranks.parquet."""
    table = rank_file.pq.read_table(path, filters=[("protocol", "=", protocol)])
    hit = [
        1 + h + e <= 20
        for h, e in zip(
            *(table[n].to_pylist() for n in ("higher", "equal")), strict=True
        )
    ]
    new = [NEW_IDS[label - 1] not in OLD_IDS for label in table["label"].to_pylist()]
    return np.mean(hit), np.mean(np.array(hit)[new]), sum(new)


def test_recall_of_all_clicks_and_of_those_on_new_items(report, evaluate):
    found, place = report
    assert found["labels"]["all"] == open_prepared(place / "data").test.num_events - 300
    assert evaluate(place / "warm", "--step=25")[0] == 0
    for run, step in (("warm", 25), ("scratch", 25)):
        (point,) = (p for p in found["points"] if (p["run"], p["step"]) == (run, step))
        recall, of_new, new = slow_recall(place / run / "ranks.parquet", place)
        assert point["all"][0] == pytest.approx(recall, abs=1e-5)
        assert point["new"][0] == pytest.approx(of_new, abs=1e-5)
        assert found["labels"]["new"] == new > 100
        for value, low, high in (point["all"], point["new"]):
            assert low < value < high
    steps = [p["step"] for p in found["points"] if p["run"] == "warm"]
    assert steps == Checkpoints(place / "warm" / "checkpoints").steps()
    assert steps[0] == 0
    last = found["points"][-1]
    assert (last["baseline"], last["all_difference"]) == (True, [0, 0, 0])
    page = (place / "o" / "warm_start.md").read_text()
    assert str(place) not in page + json.dumps(found)


def test_clicks_on_items_that_a_run_lacks_are_misses():
    """Two sessions that count, of which a run has the second alone, in part."""
    hit, on_new = np.array([True, False, True]), np.array([True, True, False])
    counted = warm_start._of_sessions(hit, on_new, np.array([1, 1, 1]), 2)
    assert counted.tolist() == [[0, 0], [2, 1]]


@pytest.mark.parametrize(
    ("run", "words"), [("warm", "expected NAME=WORKDIR"), ("a=nowhere", "nowhere")]
)
def test_mistakes(tmp_path, tiny_data, tiny_runs, capfd, run, words):
    flags = [f"--old={tiny_runs('rows')}", f"--data={tiny_data}", f"--run={run}"]
    status = warm_start.main(["warm_start", *flags, f"--out={tmp_path / 'out'}"])
    tiny.assert_refused((status, *capfd.readouterr()), words)
    assert not (tmp_path / "out").exists()
