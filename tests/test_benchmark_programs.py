"""``experiments.benchmark``: breakdown, scaling, another checkout."""

import json
import sys

import numpy as np
import pytest
import tiny

from experiments import benchmark, entry
from experiments.benchmarks import breakdown, other_checkout, scaling_point
from experiments.benchmarks.breakdown import Sample
from experiments.benchmarks.made_up_sessions import make_sessions
from experiments.benchmarks.timing import ratio
from experiments.benchmarks.workload import dispatch_at, open_workload, spread
from tron_jax import memory
from tron_jax.errors import UserError
from tron_jax.reporting import plots

SMOKE = f"--config={tiny.ROOT / 'experiments' / 'configs' / 'smoke.py'}"
PNG = b"\x89PNG"


@pytest.fixture
def run(compilations, capfd):
    """Runs the program: ``(command, *arguments) -> status, out, err``."""

    def call(*arguments):
        capfd.readouterr()
        with tiny.compiled_once(compilations):
            status = benchmark.main(["benchmark", *map(str, arguments)])
        return status, *capfd.readouterr()

    return call


def config(data, mode="rows", **fields):
    _, *arguments = tiny.command("unused", data, mode, **fields)
    return [a for a in arguments if not a.startswith("--workdir")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", SMOKE, "--against=/nowhere"], ["/nowhere", "checkout"]),
        (["train", SMOKE, "--against=.", "--breakdown"], ["--against", "one of"]),
        (["train", SMOKE, "--plot=x.png"], ["--plot", "--breakdown"]),
        (["train", SMOKE, "--repeats=2"], ["repeats"]),
        (["scaling", SMOKE, "--num_items=43k"], ["num_items", "43k"]),
        (["scaling", SMOKE, "--num_items=100,1"], ["num_items", "100,1"]),
        (["scaling", SMOKE, "--batch_sizes=-1"], ["batch_size", "-1"]),
        (["scaling", SMOKE, "--num_items="], ["num_items", "none"]),
        (["scaling", SMOKE, "--profile=short"], ["profile", "short"]),
        (["train"], ["config"]),
        (["swim", SMOKE], ["swim", "train, evaluate, recommend"]),
    ],
)
def test_refuses(run, arguments, words):
    tiny.assert_refused(run(*arguments), *words)


def test_test_sessions_that_may_not_be_looked_at(run, tiny_data):
    fields = {"data.validation": 0.1, "train.evaluate_on": "validation"}
    outcome = run("evaluate", *config(tiny_data, **fields))
    tiny.assert_refused(outcome, "train.evaluate_on is validation; expected all")


def test_ratio_of_medians():
    draw = np.random.default_rng(0)
    noise = draw.uniform(1, 3, 200)  # of the machine, the same for both
    found = ratio(list(2 * noise), list(noise))
    assert found["ratio"] == pytest.approx(2)
    assert found["ratio_interval"] == pytest.approx([2, 2])
    found = ratio(list(draw.normal(3, 0.1, 200)), list(draw.normal(2, 0.1, 200)))
    low, high = found["ratio_interval"]
    assert low < found["ratio"] < high
    assert high - low < 0.1


def test_a_breakdown_leaves_out_what_was_disturbed():
    def samples(small, large, part):
        return [Sample((16,), s, {part: s / 2}) for s in small] + [
            Sample((32,), s, {part: s / 2}) for s in large
        ]

    traced = samples([1, 1, 1, 90], [10, 10, 10, 11], "selection")
    plain = samples([1] * 4, [10] * 4, "selection")
    report = breakdown.summarise(plain, traced)
    # 90 and 11 beside the medians of their own shapes
    assert report["seconds"] == pytest.approx(5.5)
    assert report["parts"] == {"selection": pytest.approx(2.75)}
    assert report["unaccounted"] == pytest.approx(2.75)
    assert report["repeats"] == 8
    table = breakdown.table({"what": "a step", **report}).splitlines()
    assert [line.split()[:4] for line in table[:2]] == [
        ["selection", "2750.00", "ms", "50.0%"],
        ["unaccounted", "2750.00", "ms", "50.0%"],
    ]
    assert table[-2].split() == ["a", "step", "5500.00", "ms", "100.0%"]


def test_breakdown(tmp_path, run, tiny_data):
    figures, picture = tmp_path / "figures.json", tmp_path / "parts.png"
    status, out, err = run(
        *("train", "--breakdown", *config(tiny_data), "--repeats=4"),
        *(f"--json={figures}", f"--plot={picture}"),
    )
    assert status == 0, err
    found = json.loads(figures.read_text())
    assert found["command"] == "train --breakdown"
    total = sum(found["parts"].values()) + found["unaccounted"]
    assert total == pytest.approx(found["seconds"])
    assert 0 < sum(found["parts"].values()) < found["seconds"]
    for part in ("batch building", "sampling", "row read", "selection", "row update"):
        assert found["parts"][part] > 0
        assert part in out
    assert "unaccounted" in out
    assert picture.read_bytes().startswith(PNG)


def test_steps_that_are_made_many_at_a_time(tiny_data, compilations):
    """Measured in whole dispatches, none of which an epoch cuts short."""
    changed = tiny.config(
        tiny_data,
        model__name="gru4rec",
        model__position="from_start",
        loss__topk=0,
        negatives__exclude="none",
        train__order="chronological",
        train__steps_per_call=5,
    )
    with tiny.compiled_once(compilations):
        opened = open_workload(changed)
        _, made = dispatch_at(opened.parts, 0)
        report = breakdown.measure(opened, 20)
    assert made == 5
    assert report["repeats"] == 4  # dispatches
    assert report["parts"]["row update"] > 0
    starts = spread(opened.parts, 4)
    assert [dispatch_at(opened.parts, start)[1] for start in starts] == [5] * 4


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not plots.save(tmp_path / "x.png", lambda figure: None, (8, 3))
    assert not list(tmp_path.iterdir())


def test_sessions_are_the_same_in_any_catalogue():
    few, many = (make_sessions("otto", 500, n) for n in (40, 4_000_000))
    np.testing.assert_array_equal(few.offsets, many.offsets)
    assert few.lengths.min() == 2
    assert few.items.min() >= 1
    assert few.items.max() <= 40
    assert len(np.unique(many.items)) > 0.5 * many.num_events
    assert many.items.max() > 2_000_000  # popular ones lie anywhere
    # Popularity falls as 1 / (rank + 20).
    assert np.bincount(few.items).max() > 2 * np.bincount(few.items)[1:].min()


def test_a_point(tiny_data, compilations):
    changed = tiny.config(tiny_data, mode="dense", negatives__num_in_batch=11)
    with tiny.compiled_once(compilations):
        run = scaling_point.make_workload(changed, "diginetica", 200, 4)
        ready, seconds, memory_used = scaling_point.answers(run, ["5\n"])
    assert run.config.negatives.num_in_batch == 3
    assert run.num_items == 200
    assert ready == {"ready": True}
    assert len(seconds["seconds"]) == 5
    assert min(seconds["seconds"]) > 0
    table = 4 * 201 * 8
    assert memory_used["state_bytes"] > 3 * table
    assert memory_used["peak_bytes"] > 10**7
    assert memory_used["temporary_bytes"] > 0


def test_a_point_that_cannot_fit(tiny_data, compilations, monkeypatch):
    changed = tiny.config(tiny_data, mode="dense", negatives__num_in_batch=11)
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    with tiny.compiled_once(compilations):  # the point of the test before
        run = scaling_point.make_workload(changed, "diginetica", 200, 4)
        with pytest.raises(UserError, match="are free"):
            next(scaling_point.answers(run, []))


def test_scaling(tmp_path, run, tiny_data):
    """A process of its own, which finds its program in the cache: that of a_point."""
    figures = tmp_path / "figures.json"
    fields = {"train__batch_size": 4, "negatives__num_in_batch": 3}
    arguments = [*config(tiny_data, "dense", **fields), "--profile=diginetica"]
    status, out, err = run(
        *("scaling", *arguments, "--num_items=200", "--repeats=6", f"--json={figures}")
    )
    assert status == 0, err
    [point] = json.loads(figures.read_text())["series"]["num_items"]
    assert (point["num_items"], point["batch_size"]) == (200, 4)
    assert point["seconds"] > 0
    assert "temporaries" in out


def test_another_checkout_takes_turns(tmp_path, run, tiny_data, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "benchmark.py").touch()
    calls = []

    def run_in(root, arguments):
        calls.append((root, arguments))
        return {"seconds": 1.0 + len(calls) / 1000 + (root == tmp_path)}

    monkeypatch.setattr(other_checkout, "run_benchmark", run_in)
    figures = tmp_path / "figures.json"
    status, out, err = run(
        *("train", *config(tiny_data), f"--against={tmp_path}", "--rounds=3"),
        f"--json={figures}",
    )
    assert status == 0, err
    roots = [root for root, _ in calls]
    assert roots == [tiny.ROOT, tmp_path] * 4  # one round to compile, three to count
    [arguments] = {tuple(arguments) for _, arguments in calls}
    assert arguments[:2] == ("train", "--config=experiments/configs/smoke.py")
    assert f"--config.data.path={tiny_data}" in arguments
    found = json.loads(figures.read_text())
    assert found["other_seconds"] == pytest.approx(2.006)
    assert found["ratio"] == pytest.approx(1.005 / 2.006)
    assert len(found["samples"]) == 3
    assert str(tmp_path) in out
    same = other_checkout.measure(tiny.ROOT, [], 2)  # against itself
    assert len(same["samples"]) == len(same["other_samples"]) == 2


def test_why_another_checkout_fails(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "benchmark.py").write_text("raise SystemExit('error: too old')")
    with pytest.raises(UserError, match=f"{tmp_path}: too old"):
        other_checkout.run_benchmark(tmp_path, ["train"])


@pytest.mark.parametrize(
    ("memory", "expected"), [(entry.MALLOC, None), ("glibc.malloc.perturb=1",) * 2]
)
def test_figures_of_another_checkout(tmp_path, monkeypatch, memory, expected):
    """It sets the memory up as it wants, unless a person did."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "benchmark.py").write_text(
        "import json, os, sys\n"
        "[path] = [a[7:] for a in sys.argv if a.startswith('--json=')]\n"
        "found = {'in': os.getcwd(), 'memory': os.environ.get('GLIBC_TUNABLES')}\n"
        "json.dump({'seconds': 2, **found}, open(path, 'w'))\n"
    )
    monkeypatch.setenv("GLIBC_TUNABLES", memory)
    found = other_checkout.run_benchmark(tmp_path, ["train"])
    assert found == {"seconds": 2, "in": str(tmp_path), "memory": expected}


@pytest.mark.parametrize("sessions", [50, 400])
def test_recommendations_are_timed_beside_their_matmuls(
    run, tiny_data, tmp_path, sessions
):
    """Of more sessions than there are, some come again."""
    path = tmp_path / "figures.json"
    flags = ["--repeats=3", f"--sessions={sessions}", "--k=3", f"--json={path}"]
    status, printed, err = run("recommend", *config(tiny_data), *flags)
    assert (status, err) == (0, "")
    assert f"best 3 for {sessions} sessions" in printed
    report = json.loads(path.read_text())
    assert report["repeats"] == len(report["samples"]) == 3
    assert report["ratio"] > 0
