"""``experiments.compare``: which runs it finds, how it pools them, what it says."""

import fcntl
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import tiny
from made_up_results import KEYS, QUIET, build, drawn_ranks, write_run, write_sweep

from experiments import benchmark, keep
from experiments import compare as program
from experiments.comparing import differences, statistics
from experiments.comparing.pictures import pooling
from experiments.comparing.settings import short_names
from experiments.comparing.statistics import REPLICATES
from experiments.configs import stored
from tron_jax.data.sessions import open_prepared
from tron_jax.errors import UserError


def by_key(comparison):
    return {(d.baseline, d.setting, d.key): d for d in comparison.differences}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch, request):
    """A tenth of the replicates, but where they are counted."""
    if request.function is not test_a_difference_is_that_of_slow_loops:
        monkeypatch.setattr(statistics, "REPLICATES", REPLICATES // 10)
        monkeypatch.setattr(differences, "SLICE_REPLICATES", REPLICATES // 20)


@pytest.fixture
def run(capfd):
    """Runs the program: ``(*arguments) -> status, out, err``."""

    def call(*arguments):
        capfd.readouterr()
        status = program.main(["compare", *map(str, arguments)])
        return status, *capfd.readouterr()

    return call


@pytest.fixture(scope="module")
def two_settings(tmp_path_factory, tiny_data):
    """A folder of two settings, of two and three seeds."""
    folder = tmp_path_factory.mktemp("two")
    for topk, seeds in ((4, (0, 1)), (8, (0, 1, 2))):
        for seed in seeds:
            write_run(
                folder / f"topk={topk}" / f"seed={seed}",
                tiny_data,
                seed=100 * topk + seed,
                shift=topk / 20,
                loss__topk=topk,
            )
    return folder


def slow_difference(data, left, right, metric, seed):
    """Mean, interval and p of right - left: lists of ranks, one array a run."""
    session = drawn_ranks(data, 0).session
    num_sessions = session.max() + 1
    values = [[metric(1 + r.higher + r.equal) for r in runs] for runs in (left, right)]
    one, other = (np.mean(runs, axis=0) for runs in values)
    per_session = [
        (np.sum((other - one)[session == s]), np.sum(session == s))
        for s in range(num_sessions)
    ]
    per_session = np.array(per_session)
    draw = np.random.default_rng(seed)
    ratios = []
    for _ in range(REPLICATES):
        drawn = per_session[draw.integers(num_sessions, size=num_sessions)]
        total = drawn.sum(axis=0)
        ratios.append(total[0] / total[1])
    parts = [np.var([v.mean() for v in runs], ddof=1) / len(runs) for runs in values]
    variance = np.var(ratios, ddof=1) + sum(parts)
    degrees = variance**2 / sum(
        part**2 / (len(runs) - 1) for part, runs in zip(parts, values, strict=True)
    )
    value = other.mean() - one.mean()
    error = np.sqrt(variance)
    p = 2 * scipy.stats.t.sf(abs(value) / error, degrees)
    return value, error * scipy.stats.t.ppf(0.975, degrees), p


METRIC = {
    "recall@20": lambda rank: rank <= 20,
    "mrr@20": lambda rank: (rank <= 20) / rank,
    "ndcg@5": lambda rank: (rank <= 5) / np.log2(rank + 1),
}


def test_a_difference_is_that_of_slow_loops(two_settings, tiny_data):
    comparison = build(two_settings)
    assert [s.name for s in comparison.settings] == ["topk=4", "topk=8"]
    assert comparison.baseline == "topk=4"
    assert comparison.swept == {"loss.topk": (4.0, 8.0)}
    data = open_prepared(tiny_data)
    runs = [
        [drawn_ranks(data, 100 * topk + seed, topk / 20) for seed in range(seeds)]
        for topk, seeds in ((4, 2), (8, 3))
    ]
    for key, metric in METRIC.items():
        found = by_key(comparison)["topk=4", "topk=8", key]
        value, half, p = slow_difference(data, *runs, metric, seed=20_230_918)
        assert found.value == pytest.approx(value, rel=1e-9)
        assert found.high - found.value == pytest.approx(half, rel=1e-6)
        assert found.value - found.low == pytest.approx(half, rel=1e-6)
        assert found.covers_seeds
        if key in ("recall@20", "mrr@20"):
            assert found.p == pytest.approx(p, rel=1e-5)
            assert found.p_holm == found.p  # the only test of its family
        else:
            assert (found.p, found.p_holm) == (None, None)


@pytest.mark.portable
def test_swapping_the_baseline_changes_the_sign_alone(two_settings):
    ahead, back = (
        by_key(build(two_settings, baseline=name)) for name in ("topk=4", "topk=8")
    )
    assert len(ahead) == len(back) == len(KEYS.by_key)
    for (one, other, key), found in ahead.items():
        swapped = back[other, one, key]
        assert swapped.value == -found.value
        assert (swapped.low, swapped.high) == (-found.high, -found.low)
        assert swapped.p == found.p


def test_the_order_of_runs_does_not_matter(two_settings):
    paths = sorted(two_settings.glob("*/*"))
    sorted_, reverse = build(*paths), build(*reversed(paths), baseline="topk=4")
    for name, found in by_key(sorted_).items():
        assert by_key(reverse)[name][3:] == pytest.approx(found[3:])


def test_figures_are_means_over_seeds(two_settings):
    comparison = build(two_settings)
    for setting in comparison.settings:
        lines = [
            json.loads((two_settings / path / "evaluation.json").read_text())
            for path in setting.paths
        ]
        for number, protocol in enumerate(("paper", "exact")):
            for key, figure in setting.figures[protocol].items():
                values = [line[number][key] for line in lines]
                assert figure.mean == pytest.approx(np.mean(values))
                assert figure.deviation == pytest.approx(np.std(values, ddof=1))
                assert figure.runs == len(values)
        assert list(setting.figures["exact"]) == list(comparison.keys)
        assert setting.chosen["exact"].steps == (50,) * len(lines)
        assert setting.chosen["exact"].epochs == (2.0,) * len(lines)
        assert setting.chosen["paper"].rule == "best, of a made-up run"


@pytest.mark.portable
def test_equal_runs_do_not_differ(tmp_path, tiny_data):
    for topk in (4, 8):
        for seed in (0, 1):
            folder = tmp_path / f"{topk}-{seed}"
            write_run(folder, tiny_data, seed=seed, loss__topk=topk)
    comparison = build(tmp_path)
    assert len(comparison.settings) == 2
    for found in comparison.differences:
        # Runs of a setting differ by their seeds, so there is an interval around 0.
        assert found.value == 0
        assert found.p == (1 if found.key in ("recall@20", "mrr@20") else None)
        assert found.low == -found.high < 0


def test_the_same_ranks_differ_by_nothing(tmp_path, tiny_data):
    ranks = drawn_ranks(open_prepared(tiny_data), 0)
    for topk in (4, 8):
        for seed in (0, 1):
            folder = tmp_path / f"{topk}-{seed}"
            write_run(folder, tiny_data, seed=seed, ranks=ranks, loss__topk=topk)
    for found in build(tmp_path).differences:
        assert (found.value, found.low, found.high) == (0, 0, 0)
        assert found.p == (1 if found.key in ("recall@20", "mrr@20") else None)


def test_a_single_seed_gets_an_interval_of_the_sessions_and_no_verdict(
    tmp_path, tiny_data
):
    write_run(tmp_path / "a", tiny_data, seed=0)
    write_run(tmp_path / "b", tiny_data, seed=1)
    write_run(tmp_path / "c", tiny_data, seed=0, shift=1, loss__topk=4)
    found = build(tmp_path).differences
    assert len(found) == len(KEYS.by_key)
    assert not any(d.covers_seeds or d.p is not None or d.p_holm for d in found)
    assert all(d.low < d.value < d.high for d in found)


def test_holm_counts_the_tests_of_a_metric(tmp_path, tiny_data):
    for topk in (2, 4, 8):
        for seed in (0, 1):
            folder = tmp_path / f"{topk}-{seed}"
            write_run(folder, tiny_data, seed=topk + 50 * seed, loss__topk=topk)
    to_baseline, pairs = (
        build(tmp_path, compared=how) for how in ("baseline", "pairs")
    )
    assert to_baseline.baseline == pairs.baseline == "topk=2"
    for comparison, size in ((to_baseline, 2), (pairs, 3)):
        for key in ("recall@20", "mrr@20"):
            tests = [d for d in comparison.differences if d.key == key]
            smallest = min(d.p for d in tests)
            assert len(tests) == size
            adjusted = min(d.p_holm for d in tests)
            assert adjusted == pytest.approx(min(1, size * smallest))
        rest = {d.key for d in comparison.differences if d.p_holm is None}
        assert rest == KEYS.by_key.keys() - {"recall@20", "mrr@20"}
    alone = by_key(to_baseline)
    assert all(by_key(pairs)[name][:7] == found[:7] for name, found in alone.items())


def test_the_best_step_is_a_protocol_of_its_own(tmp_path, tiny_data):
    """``evaluate`` writes no line for it where the latest step is the best."""
    for seed in (0, 1):
        write_run(tmp_path / str(seed), tiny_data, seed=seed)
    path = tmp_path / "0" / "evaluation.json"
    paper, exact = json.loads(path.read_text())
    best = exact | {"protocol": "exact_at_best", "step": 25, "recall@20": 0.9}
    path.write_text(json.dumps([paper, exact, best]))
    (setting,) = build(tmp_path).settings
    assert setting.chosen["exact_at_best"].steps == (25, 50)
    last = json.loads((tmp_path / "1" / "evaluation.json").read_text())[1]["recall@20"]
    figure = setting.figures["exact_at_best"]["recall@20"]
    assert figure.mean == pytest.approx((0.9 + last) / 2)
    assert figure.runs == setting.figures["exact"]["recall@20"].runs == 2


def test_a_metric_that_an_older_evaluation_lacks_is_that_of_its_ranks(
    tmp_path, tiny_data
):
    for topk in (4, 8):
        write_run(tmp_path / str(topk), tiny_data, seed=topk, loss__topk=topk)
    before = build(tmp_path)
    path = tmp_path / "8" / "evaluation.json"
    lines = json.loads(path.read_text())
    older = [{k: v for k, v in x.items() if "ndcg" not in k} for x in lines]
    path.write_text(json.dumps(older))
    after = build(tmp_path)
    assert after.keys == before.keys
    exact = [c.settings[1].figures["exact"] for c in (before, after)]
    assert [f.mean for f in exact[1].values()] == pytest.approx(
        [f.mean for f in exact[0].values()]
    )
    assert not any("ndcg" in key for key in after.settings[1].figures["paper"])
    assert after.differences == before.differences


def test_what_is_pooled_and_what_not(tmp_path, tiny_data):
    write_run(tmp_path / "first", tiny_data, seed=0)
    write_run(tmp_path / "second", tiny_data, seed=1, train__log_every_steps=9)
    other = {"made_with": {"program": "another"}}
    write_run(tmp_path / "third", tiny_data, seed=2, **other)
    write_run(tmp_path / "longer", tiny_data, seed=3, epochs=3)
    shutil.copytree(tmp_path / "first", tmp_path / "twin")
    going = {"epochs": 2, "of": 2, "evaluated": False}
    write_run(tmp_path / "going", tiny_data, seed=4, **going)
    names = ("first", "second", "third", "longer", "twin")
    comparison = build(*(tmp_path / name for name in names), tmp_path)
    assert [s.seeds for s in comparison.settings] == [(0, 1), (2,), (3,), (4,)]
    assert len({s.name for s in comparison.settings}) == 4
    assert [s.fields["train.epochs"] for s in comparison.settings] == [*"2232"]
    assert "trained, but not evaluated yet" in comparison.settings[-1].name
    assert len(comparison.warnings) == 2
    warned = "\n".join(comparison.warnings)
    assert re.search(r"third and .*first have the same fields but other pro", warned)
    assert re.search(r"twin is left out: .*first is of the same setting and", warned)


@pytest.mark.parametrize(
    ("commits", "pooled"),
    [(("a", "a"), True), (("a", "b"), False), (("a+", "a+"), False)],
)
def test_without_a_hash_of_the_program_the_commit_decides(
    tmp_path, tiny_data, commits, pooled
):
    for seed, commit in enumerate(commits):
        made_with = {"program": "", "git": commit}
        folder = tmp_path / str(seed)
        write_run(folder, tiny_data, seed=seed, made_with=made_with)
    comparison = build(tmp_path)
    assert len(comparison.settings) == (1 if pooled else 2)
    assert len(comparison.warnings) == (0 if pooled else 1)
    if commits == ("a", "b"):
        assert [s.name for s in comparison.settings] == ["commit=a", "commit=b"]


def test_what_a_run_resumed_with_counts_too(tmp_path, tiny_data):
    write_run(tmp_path / "a", tiny_data, seed=0)
    resumed = {"resumed_with": [{"program": "another"}]}
    write_run(tmp_path / "b", tiny_data, seed=1, made_with=resumed)
    assert [s.seeds for s in build(tmp_path).settings] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ([{"loss__name": "bce"}, {"loss__name": "ssm"}], ["loss=bce", "loss=ssm"]),
        (
            [{"model__dropout": 0.0}, {"model__dropout": 0.25}],
            ["dropout=0", "dropout=0.25"],
        ),
        (
            [
                {"loss__topk": 4, "negatives__mask_hits": False},
                {"loss__topk": 8, "negatives__mask_hits": True},
            ],
            ["mask_hits=false, topk=4", "mask_hits=true, topk=8"],
        ),
        (
            [
                {},
                {
                    "model__dropout": 0.5,
                    "model__hidden_size": 16,
                    "loss__topk": 4,
                    "loss__name": "bce",
                },
            ],
            ["run0", "run1"],
        ),
    ],
)
def test_settings_are_named_by_what_differs(tmp_path, tiny_data, fields, names):
    for number, of_run in enumerate(fields):
        write_run(tmp_path / f"run{number}", tiny_data, **of_run)
    assert [sorted_name(s.name) for s in build(tmp_path).settings] == names
    last = build(tmp_path, baseline=",".join(reversed(names[-1].split(", "))))
    assert sorted_name(last.baseline) == names[-1]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (("topk=4", "topk=8"), ["topk=4", "topk=8"]),  # of values, as of a product
        (("topk=4", "topk=few"), ["topk=4", "topk=few"]),  # not of values alone
        (("topk=few", "topk=few"), ["topk=4", "topk=8"]),  # of two sweeps, say
    ],
)
def test_names_that_an_author_has_given_stay(tmp_path, tiny_data, given, names):
    for number, (topk, name) in enumerate(zip((4, 8), given, strict=True)):
        folder = tmp_path / f"sweep_{number}"
        write_run(folder / "run", tiny_data, loss__topk=topk)
        write_sweep(folder, {"run": name})
    settings = build(*sorted(tmp_path.glob("sweep_*"))).settings
    assert [setting.name for setting in settings] == names


def test_fields_are_named_in_short_where_that_leaves_no_doubt():
    assert short_names(["a.x", "b.x", "a.y", "model.name", "loss.name"]) == {
        "a.x": "a.x",
        "b.x": "b.x",
        "a.y": "y",
        "model.name": "model",
        "loss.name": "loss",
    }


def sorted_name(name):
    return ", ".join(sorted(name.split(", ")))


def test_a_sweep_as_far_as_it_is(tmp_path, tiny_data):
    settings = ("plain", "plain", "hard", "hard")
    runs = {f"{name}/seed={n % 2}": name for n, name in enumerate(settings)}
    write_sweep(tmp_path, runs)
    first, second, third, _ = (tmp_path / name for name in runs)
    write_run(first, tiny_data, seed=0)
    write_run(second, tiny_data, seed=1)
    write_run(third, tiny_data, seed=0, loss__topk=4, evaluated=False, epochs=1, of=2)
    comparison = build(tmp_path)
    assert comparison.title == tmp_path.name
    plain, hard = comparison.settings
    assert (plain.name, plain.seeds) == ("plain", (0, 1))
    assert hard.name == "hard (not finished: 1 of 2 epochs)"
    assert plain.remarks == ()
    assert hard.remarks[0] == "chosen on validation"
    assert "not finished: 1 of 2 epochs" in hard.remarks[1]
    assert hard.figures["exact"]["recall@20"].mean == pytest.approx(0.41)
    assert hard.chosen["exact"].epochs == (1.0,)
    assert comparison.differences == ()
    assert {v.setting for s in comparison.slices for v in s.values} == {"plain"}
    assert any("1 of 4 runs are left out" in line for line in comparison.warnings)
    assert comparison.commands[0].startswith("python -m experiments.sweep --workdir=")
    assert comparison.commands[1:] == ("again",)


def test_the_baseline_is_the_first_setting_that_has_ranks(tmp_path, tiny_data):
    write_run(tmp_path / "a", tiny_data, loss__topk=4, evaluated=False, epochs=1, of=2)
    write_run(tmp_path / "b", tiny_data, loss__topk=5)
    write_run(tmp_path / "c", tiny_data, loss__topk=6)
    comparison = build(tmp_path)
    running, *finished = (setting.name for setting in comparison.settings)
    assert {(d.baseline, d.setting) for d in comparison.differences} == {(*finished,)}
    assert comparison.baseline == finished[0]
    comparison = build(tmp_path, baseline=running)
    assert comparison.differences == ()
    assert comparison.warnings == (
        f"no differences to {running}, as none of its runs has ranks",
    )


def test_commands_of_single_runs(tmp_path, tiny_data):
    typed = ["experiments.train", "--config=a b.py", f"--workdir={tmp_path / 'a'}"]
    write_run(tmp_path / "a", tiny_data, made_with={"argv": typed})
    assert build(tmp_path / "a").commands == (
        f"python -m experiments.train '--config=a b.py' --workdir={tmp_path / 'a'}",
        f"python -m experiments.evaluate --workdir={tmp_path / 'a'}",
        "again",
    )


def test_commands_of_what_was_kept_need_nothing_that_is_gone(tmp_path, tiny_data):
    kept = tmp_path / "kept" / "x" / "seed=3"
    typed = ["experiments.train", "--config=stored.py:sweep/configs/x__seed=3.json"]
    made_with = {"argv": [*typed, "--workdir=sweep/x/seed=3"]}
    write_run(kept, tiny_data, seed=3, made_with=made_with, kept=True)
    train, evaluate, _ = build(kept).commands
    assert train == (
        f"python -m experiments.train "
        f"--config=experiments/configs/stored.py:{kept / 'config.json'} "
        "--config.data.path=DIR --workdir=sweep/x/seed=3"
    )
    assert evaluate == "python -m experiments.evaluate --workdir=sweep/x/seed=3"
    config = stored.get_config(str(kept / "config.json"))
    assert config.train.seed == 3


def test_ranks_alone_tell_predictions_per_session(tmp_path):
    data = tiny.write_data(tmp_path / "data")
    for topk in (4, 8):
        write_run(tmp_path / "runs" / str(topk), data, seed=topk, loss__topk=topk)
    before = build(tmp_path / "runs")
    assert before.slices
    shutil.rmtree(data)
    after = build(tmp_path / "runs")
    assert after.differences == before.differences
    assert not after.slices


def test_kept_results_compare_as_their_runs_do(tmp_path, tiny_data):
    for kept in (True, False):
        for topk in (4, 8):
            folder = tmp_path / str(kept) / f"topk={topk}"
            write_run(folder, tiny_data, seed=topk, kept=kept, loss__topk=topk)
    runs = build(tmp_path / "False")
    kept = build(tmp_path / "True")
    assert kept.differences == runs.differences
    assert not kept.slices
    assert ["not at hand" in line for line in kept.warnings] == [True]
    with_data = build(tmp_path / "True", data=[str(tiny_data)])
    assert with_data.differences == runs.differences
    assert with_data.slices == runs.slices
    assert not with_data.warnings


def test_results_of_before_have_means_unless_their_data_are_at_hand(
    tmp_path, tiny_data
):
    for topk in (4, 8):
        folder = tmp_path / f"topk={topk}"
        write_run(folder, tiny_data, kept=True, counted=False, loss__topk=topk)
    comparison = build(tmp_path)
    assert len(comparison.settings) == 2
    assert comparison.settings[0].figures["exact"]["recall@20"].runs == 1
    assert (comparison.differences, comparison.slices) == ((), ())
    assert ["means only" in line for line in comparison.warnings] == [True]
    with_data = build(tmp_path, data=[str(tiny_data)])
    assert len(with_data.differences) == len(KEYS.by_key)
    assert not with_data.warnings
    # A run that says which predictions are of one session says it of all.
    write_run(tmp_path / "topk=9", tiny_data, kept=True, loss__topk=9)
    beside = build(tmp_path)
    assert by_key(beside).keys() > by_key(with_data).keys()


@pytest.mark.portable
def test_time_is_that_of_training_in_runs_that_nothing_disturbed(tmp_path, tiny_data):
    write_run(tmp_path / "a", tiny_data, loss__topk=4)  # 4 s an epoch of 300 sessions
    busy = {"made_with": {"load": 3.0}}
    write_run(tmp_path / "b", tiny_data, loss__topk=5, **busy)
    later = {"made_with": {"resumed_with": [{"nice": 19}]}}
    write_run(tmp_path / "c", tiny_data, loss__topk=6, **later)
    write_run(tmp_path / "d", tiny_data, loss__topk=7, made_with={"nice": None})
    config = json.loads((tmp_path / "d" / "config.json").read_text())
    for name in QUIET:  # of an older version
        del config["provenance"][name]
    (tmp_path / "d" / "config.json").write_text(json.dumps(config))
    comparison = build(tmp_path)
    alone, *others = comparison.settings
    assert alone.sessions_per_s.mean == pytest.approx(75)
    assert alone.seconds_to_best.mean == pytest.approx(8)
    assert alone.curves[0].seconds == pytest.approx((4, 8))
    assert alone.curves[0].recall == pytest.approx((0.41, 0.42))
    assert alone.curves[0].losses == pytest.approx((4.9, 4.75, 4.65, 4.5))
    assert alone.peak_memory_gb.mean == pytest.approx(1.2)
    assert [s.sessions_per_s for s in others] == [None] * 3
    assert [s.seconds_to_best for s in others] == [None] * 3
    assert any("2 of 4 runs say nothing of speed" in w for w in comparison.warnings)


@pytest.mark.portable
def test_times_on_another_device_are_left_out(tmp_path, tiny_data):
    write_run(tmp_path / "a", tiny_data, loss__topk=4, made_with={"device": "cpu"})
    write_run(tmp_path / "b", tiny_data, loss__topk=5, made_with={"device": "H900"})
    comparison = build(tmp_path)
    here, there = comparison.settings
    assert here.sessions_per_s is not None
    assert here.peak_memory_gb is not None
    assert not here.remarks
    assert (there.sessions_per_s, there.seconds_to_best) == (None, None)
    assert there.peak_memory_gb is None
    assert "trained on H900, the baseline on cpu" in there.remarks[-1]
    assert not any("nothing of speed" in line for line in comparison.warnings)
    by_time = {s.name: pooling.recall(s.curves, by_time=True) for s in (here, there)}
    assert [len(lines) for lines in by_time.values()] == [1, 0]
    assert len(pooling.recall(there.curves, by_time=False)) == 1
    # Another seed of the first, elsewhere, leaves the first without figures of time.
    mixed = {"device": "cpu", "resumed_with": [{"device": "H901"}]}
    write_run(tmp_path / "c", tiny_data, seed=1, loss__topk=4, made_with=mixed)
    here, _ = build(tmp_path).settings
    assert (here.sessions_per_s, here.peak_memory_gb) == (None, None)
    assert "trained on cpu and H901, the baseline on cpu and H901" in here.remarks[-1]
    # Of one device, whatever it is called, all times stand.
    turned = build(tmp_path / "b")
    assert turned.settings[0].sessions_per_s is not None


def test_speed_of_a_benchmark_finds_its_setting(tmp_path, tiny_data):
    for topk in (4, 8):
        made_with = {"made_with": {"nice": 19}}
        write_run(tmp_path / f"{topk}", tiny_data, loss__topk=topk, **made_with)
    config = json.loads((tmp_path / "8" / "config.json").read_text())
    fields = {f"{g}.{n}": v for g, of in config.items() for n, v in of.items()}
    fields |= {"train.epochs": 77, "train.seed": 5, "data.path": "elsewhere"}
    speed = tmp_path / "speed.json"
    data = open_prepared(tiny_data).fingerprint
    report = {"fields": fields, "fingerprint": data, "sessions_per_s": 123.0}
    speed.write_text(json.dumps(report))
    first, second = build(tmp_path, speed=[str(speed)]).settings
    assert (first.sessions_per_s, first.seconds_to_best) == (None, None)
    assert second.sessions_per_s == (123.0, None, 1)
    # A file that is older than a field of today's configs goes by its default.
    older = {k: v for k, v in fields.items() if k != "model.scoring"}
    speed.write_text(json.dumps(report | {"fields": older}))
    _, second = build(tmp_path, speed=[str(speed)]).settings
    assert second.sessions_per_s == (123.0, None, 1)
    assert second.seconds_to_best.mean == pytest.approx(600 / 123)
    assert second.curves[0].seconds == pytest.approx((300 / 123, 600 / 123))
    speed.write_text(json.dumps(report | {"fingerprint": "of other data"}))
    with pytest.raises(UserError, match="its config or data are of none"):
        build(tmp_path, speed=[str(speed)])


def test_a_speed_is_what_the_benchmark_writes(tmp_path, tiny_data, compilations):
    speed = tmp_path / "speed.json"
    _, *arguments = tiny.command("none", tiny_data, loss__topk=5, train__epochs=9)
    arguments = [a for a in arguments if not a.startswith("--workdir")]
    with tiny.compiled_once(compilations):
        argv = ["benchmark", "train", *arguments, "--repeats=3", f"--json={speed}"]
        assert benchmark.main(argv) == 0
    report = json.loads(speed.read_text())
    for topk in (4, 5):
        write_run(tmp_path / f"{topk}", tiny_data, seed=3, loss__topk=topk)
    first, second = build(tmp_path, speed=[str(speed)]).settings
    assert first.sessions_per_s.mean == pytest.approx(75)
    # 300 train sessions in 25 steps
    assert second.sessions_per_s.mean == pytest.approx(12 / report["seconds"])


def test_a_run_that_was_trained_and_evaluated(
    tiny_runs, tiny_data, tmp_path, evaluate, run
):
    shutil.copytree(tiny_runs("rows"), tmp_path / "rows")
    assert evaluate(tmp_path / "rows")[0] == 0
    write_run(tmp_path / "other", tiny_data, loss__topk=5)
    arguments = [f"--workdir={tmp_path / 'rows'}", f"--out={tmp_path / 'kept'}"]
    assert keep.main(["keep", *arguments]) == 0
    out = tmp_path / "out"
    status, text, err = run(tmp_path / "kept", tmp_path / "other", f"--out={out}")
    assert (status, err) == (0, "")
    assert "sessions only" in text
    for name in ("comparison.html", "comparison.md", "comparison.csv"):
        assert (out / name).stat().st_size
    comparison = build(tmp_path / "rows", tmp_path / "other")
    lines = json.loads((tmp_path / "rows" / "evaluation.json").read_text())
    figures = comparison.settings[0].figures
    for line in lines:
        for key, figure in figures[line["protocol"]].items():
            assert figure.mean == line[key]
    assert len(comparison.settings[0].curves[0].epochs) == 2
    assert comparison.settings[0].parameters
    assert "300 sessions, " in comparison.data


@pytest.fixture
def one(tmp_path, tiny_data):
    return write_run(tmp_path / "one", tiny_data, loss__topk=5)


@pytest.mark.portable
def test_a_single_run_is_a_table_without_differences(one, run):
    status, out, err = run(one)
    assert (status, err) == (0, "")
    assert "Recall@20" in out
    assert "difference" not in out


def test_a_run_without_evaluation_is_refused(tmp_path, tiny_data, one, run):
    write_run(tmp_path / "two", tiny_data, evaluated=False)
    outcome = run(one, tmp_path / "two")
    tiny.assert_refused(outcome, "two", "no evaluation.json", "experiments.evaluate")


def test_a_run_in_training_is_used_as_far_as_it_is(tmp_path, tiny_data, one, run):
    two = write_run(tmp_path / "two", tiny_data, evaluated=False, epochs=1, of=3)
    with open(two / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, out, err = run(one, two)
        assert (status, err) == (0, "")
        assert "not finished: 1 of 3 epochs" in out
        (two / "metrics.jsonl").unlink()
        tiny.assert_refused(run(one, two), "two", "in training", "no epoch")


def test_other_data_are_refused(tmp_path, tiny_data, one, run):
    other = tiny.write_data(tmp_path / "data", seed=1)
    write_run(tmp_path / "two", other)
    outcome = run(one, tmp_path / "two")
    tiny.assert_refused(outcome, "the test parts differ", "one", "two")
    shutil.rmtree(other)
    outcome = run(one, tmp_path / "two")
    tiny.assert_refused(outcome, "the test parts differ", "one", "two", "data.path")
    outcome = run(tmp_path / "two", f"--data={tiny_data}")
    tiny.assert_refused(outcome, "--data", "fingerprint", "expected that of the runs")


def test_an_unknown_baseline_lists_the_names(tmp_path, tiny_data, one, run):
    write_run(tmp_path / "two", tiny_data, loss__topk=6)
    outcome = run(one, tmp_path / "two", "--baseline=topk=7")
    tiny.assert_refused(outcome, "--baseline=topk=7", "topk=5; topk=6")


NAN = '[{"protocol": "exact", "step": 50, "events": 803, "recall@20": NaN}]'
DAMAGE = [
    ("evaluation.json", '[{"protocol": "exact", "step": 50}]'),
    ("evaluation.json", NAN),
    ("ranks.parquet", "no Parquet"),
    ("metrics.jsonl", '{"step": 1, "epo\n{"step": 2}\n'),
    ("config.json", "{}"),
]


@pytest.mark.parametrize(("name", "content"), DAMAGE)
def test_a_damaged_file_is_named(tmp_path, one, run, name, content):
    (one / name).write_text(content)
    words = ["line 1"] if name == "metrics.jsonl" else []
    tiny.assert_refused(run(one), name, *words)
    tiny.assert_refused(run(tmp_path), name, *words)


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_damaged_ranks_that_were_kept_are_named(tmp_path, tiny_data, run, content):
    kept = write_run(tmp_path / "kept", tiny_data, kept=True)
    if content is None:
        np.savez(kept / "ranks.npz", higher=np.zeros(3), predictions=np.zeros(3))
    else:
        (kept / "ranks.npz").write_bytes(content)
    tiny.assert_refused(run(kept), "ranks.npz")
    tiny.assert_refused(run(kept, f"--data={tiny_data}"), "ranks.npz")


def test_ranks_of_another_evaluation_are_refused(one, tmp_path, tiny_data, run):
    other = write_run(tmp_path / "other", tiny_data, seed=1)
    shutil.copy(other / "ranks.parquet", one / "ranks.parquet")
    tiny.assert_refused(run(one), "ranks.parquet", "evaluation.json")


@pytest.mark.parametrize("kept", [True, False])
def test_ranks_of_too_few_predictions_are_refused(tmp_path, tiny_data, run, kept):
    ranks = drawn_ranks(open_prepared(tiny_data), 0)
    fewer = type(ranks)(*(column[:-4] for column in ranks))
    short = write_run(tmp_path / "short", tiny_data, kept=kept, ranks=fewer)
    outcome = run(short, f"--data={tiny_data}")
    tiny.assert_refused(outcome, "short has 799 predictions", "its data have 803")


def test_what_is_no_run_is_refused(tmp_path, one, run):
    (tmp_path / "empty").mkdir()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{")
    tiny.assert_refused(run(one, tmp_path / "empty"), "empty", "no run in it")
    tiny.assert_refused(run(one, tmp_path / "gone"), "gone", "no such folder")
    tiny.assert_refused(run(tmp_path / "sweep"), "sweep.json", "damaged")
    tiny.assert_refused(run(), "no run", "RUN")
    tiny.assert_refused(run("gs://bucket/run"), "URL")
    tiny.assert_refused(run(one, "--speed=gone.json"), "gone.json")
    (tmp_path / "old.json").write_text('{"seconds": 1}')
    tiny.assert_refused(run(one, f"--speed={tmp_path / 'old.json'}"), "fields")
    tiny.assert_refused(run(one, f"--out={one / 'config.json'}"), "config.json")
    tiny.assert_refused(run(one, "--out="), "an empty path")
    tiny.assert_refused(run(one, "--claims="), "--claims: no file")


def test_a_page_is_written_though_the_table_cannot_be_printed(
    one, tmp_path, run, monkeypatch
):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        outcome = run(one, f"--out={tmp_path / 'out'}")
    tiny.assert_refused(outcome, "cannot be printed", "No space left on device")
    assert (tmp_path / "out" / "comparison.html").exists()


def test_as_a_command(one):
    command = [*tiny.PYTHON, "-m", "experiments.compare", one]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Recall@20" in done.stdout


@pytest.mark.parametrize(("seeds", "said"), [((2, 3), True), ((3, 3), False)])
def test_how_far_p_can_be_trusted_is_said(tmp_path, tiny_data, seeds, said):
    for topk, count in zip((4, 8), seeds, strict=True):
        for seed in range(count):
            folder = tmp_path / f"topk={topk}" / f"seed={seed}"
            write_run(folder, tiny_data, seed=seed, loss__topk=topk)
    warnings = build(tmp_path, data=[str(tiny_data)]).warnings
    assert any("two runs of a setting tell little" in line for line in warnings) is said
