"""Made-up sets: sizes and lengths as asked, deterministic, and learnable."""

import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_prep import synthetic
from data_prep.made_up.click_model import make_click_model
from data_prep.made_up.profiles import PROFILES
from data_prep.made_up.sessions import draw_model, draw_sessions
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared


def make(out, *args, profile="diginetica"):
    argv = ["synthetic", f"--profile={profile}", f"--out={out}", *args]
    assert run(synthetic.main, synthetic.define_flags(), argv) == 0
    return open_prepared(out)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "set"
    return make(out, "--num_sessions=20000", "--num_items=2000")


def test_size_is_as_asked(demo, tmp_path, capsys):
    assert demo.num_items == 2000
    assert demo.train.num_sessions == 20_000
    assert demo.test.num_sessions == round(20_000 * 18 / 187)
    few = make(tmp_path / "few", "--num_sessions=3", "--num_items=1000")
    assert (few.num_items, few.train.num_sessions, few.test.num_sessions) == (
        1000,
        3,
        1,
    )
    assert "Table 1, diginetica" in capsys.readouterr().out
    table = pq.read_table(few.path / "items.parquet")
    assert table["item"].to_pylist() == table["raw_id"].to_pylist()
    assert table["item"].to_pylist() == list(range(1, 1001))
    clicks = np.bincount(few.train.items, minlength=1001)[1:]
    np.testing.assert_array_equal(table["train_events"], clicks)
    assert sorted(p.name for p in few.path.iterdir()) == [
        "items.parquet",
        "stats.json",
        "test.arrow",
        "train.arrow",
    ]


@pytest.mark.parametrize(
    ("profile", "train", "test"),
    [("diginetica", 4.85, 4.85), ("yoochoose", 3.97, 4.65), ("otto", 15.1, 7.4)],
)
def test_lengths_have_the_profiles_mean(tmp_path, profile, train, test):
    size = 40_000
    args = (f"--num_sessions={size}", "--num_items=50")
    data = make(tmp_path / "a", *args, profile=profile)
    np.testing.assert_allclose(data.train.lengths.mean(), train, rtol=0.03)
    if profile != "yoochoose":  # which has one test session per 520 train sessions
        np.testing.assert_allclose(data.test.lengths.mean(), test, rtol=0.06)
    if profile == "otto":
        assert 300 < data.train.lengths.max() <= 500


def test_lengths_do_not_depend_on_the_catalogue(demo, tmp_path):
    other = make(tmp_path / "other", "--num_sessions=20000", "--num_items=7")
    np.testing.assert_array_equal(other.train.offsets, demo.train.offsets)
    np.testing.assert_array_equal(other.test.offsets, demo.test.offsets)
    seeded = make(
        tmp_path / "seed", "--num_sessions=20000", "--num_items=7", "--seed=1"
    )
    assert (seeded.train.lengths != other.train.lengths).any()


def test_same_flags_same_set(demo, tmp_path):
    again = make(tmp_path / "again", "--num_sessions=20000", "--num_items=2000")
    assert again.fingerprint == demo.fingerprint
    for name in ("train.arrow", "test.arrow", "stats.json"):
        assert (again.path / name).read_bytes() == (demo.path / name).read_bytes()
    args = ("--num_sessions=20000", "--num_items=2000", "--seed=1")
    assert make(tmp_path / "seed", *args).fingerprint != demo.fingerprint


def test_chunks_go_on_where_the_last_one_ends():
    model = draw_model(500, seed=0)
    train, test = (
        list(draw_sessions(model, PROFILES["otto"], (3000, 400), part, 0, 1000))
        for part in (0, 1)
    )
    assert [len(chunk.lengths) for chunk in train + test] == [1000, 1000, 1000, 400]
    assert (train[0].lengths != train[1].lengths).any()
    chunks = train + test
    ids, times = (
        np.concatenate([column.cast("int64") for column in columns])
        for columns in ([c.ids for c in chunks], [c.start_time for c in chunks])
    )
    assert ids.tolist() == list(range(3400))
    assert (np.diff(times) > 0).all()


def test_fingerprint_is_what_format_md_says(demo):
    def sha(*parts):
        return hashlib.sha256(b"".join(parts))

    def ids(values):
        texts = [str(v).encode() for v in values.to_pylist()]
        sizes = np.array([len(t) for t in texts], "<i4")
        return sha(sha(sizes.tobytes()).digest(), sha(*texts).digest()).hexdigest()

    hashes = {"raw_ids": ids(pq.read_table(demo.path / "items.parquet")["raw_id"])}
    for name, part in (("train", demo.train), ("test", demo.test)):
        hashes[f"{name}.items"] = sha(part.items.astype("<i4").tobytes()).hexdigest()
        offsets = part.offsets.astype("<i4").tobytes()
        hashes[f"{name}.offsets"] = sha(offsets).hexdigest()
        times = part.start_time.cast("int64").to_numpy().astype("<i8").tobytes()
        hashes[f"{name}.start_time"] = sha(times).hexdigest()
        hashes[f"{name}.session"] = ids(part.ids)
    assert json.loads((demo.path / "stats.json").read_text())["hashes"] == hashes
    lines = ["tron-prepared-sessions 1", "num_items 2000"]
    lines += [f"{name} {hashes[name]}" for name in sorted(hashes)]
    assert demo.fingerprint == sha("\n".join(lines).encode()).hexdigest()


def test_popularity_is_long_tailed_and_scattered_over_ids(demo):
    clicks = np.bincount(demo.train.items, minlength=2001)[1:]
    popular = np.argsort(-clicks)
    assert clicks[popular[:200]].sum() > 0.3 * clicks.sum()
    assert clicks[popular[1000:]].sum() < 0.3 * clicks.sum()
    assert abs(np.corrcoef(clicks, np.arange(2000))[0, 1]) < 0.1


@pytest.mark.parametrize("num_items", [2, 3, 41, 1000])
def test_neighbours_stay_in_their_cluster(num_items):
    model = make_click_model(num_items, np.random.default_rng(0))
    assert sorted(model.ids) == list(range(1, num_items + 1))
    assert model.neighbours.min() >= 0
    assert model.neighbours.max() < num_items
    ranks = np.arange(num_items)[:, None]
    assert ((model.neighbours - ranks) % model.num_clusters == 0).all()


def test_what_follows_what_can_be_learned(demo):
    """Counting what follows what in train beats popularity by far at Recall@20."""
    train, test = demo.train, demo.test
    follows = np.zeros((2001, 2001), np.float32)
    inside = np.ones(train.num_events - 1, bool)
    inside[train.offsets[1:-1] - 1] = False
    np.add.at(follows, (train.items[:-1][inside], train.items[1:][inside]), 1)
    clicks = np.bincount(train.items, minlength=2001)
    inside = np.ones(test.num_events - 1, bool)
    inside[test.offsets[1:-1] - 1] = False
    inputs, labels = test.items[:-1][inside], test.items[1:][inside]
    scores = follows[inputs] + clicks / clicks.sum()
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    recall = ((scores > own).sum(axis=1) < 20).mean()
    popular = np.argsort(-clicks)[:20]
    assert recall > 0.6
    assert np.isin(labels, popular).mean() < 0.12
