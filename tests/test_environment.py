"""What a machine sets for all its programs changes no result of ours in silence."""

import contextlib
import json
import os
import shutil
import subprocess

import jax
import numpy as np
import pytest
import tiny

from experiments import fitting, provenance
from experiments import train as train_program
from experiments.assembly import run_parts
from tron_jax import jax_settings, rng

# As JAX reads them of its environment variables: JAX_ENABLE_X64=1 and so on.
DRAWS = {
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_random_seed_offset": 5,
    "jax_enable_x64": True,
}
CHECKS = {
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_transfer_guard": "disallow",
    "jax_disable_jit": True,
}


@contextlib.contextmanager
def set_for_all(settings):
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.fixture
def until_trained(monkeypatch):
    """Lets runs end, complete, where training would begin."""
    monkeypatch.setattr(fitting, "fit", lambda *_: None)


@pytest.mark.parametrize(
    "settings", [CHECKS, *({name: value} for name, value in DRAWS.items())], ids=str
)
def test_a_run_goes_on_as_if_nothing_were_set(stopped, tiny_runs, train, settings):
    unbroken = tiny_runs("rows")
    with set_for_all(settings):
        status, out, err = train(stopped)
    assert (status, err) == (0, "")
    assert "resuming with" not in out
    tiny.assert_same_run(stopped, unbroken)


def test_gru4rec_begins_and_is_evaluated_so(tmp_path, tiny_data, evaluate, monkeypatch):
    # No function may have been traced before, as none is when a program starts.
    monkeypatch.setattr(tiny, "build_once", run_parts.build)
    config = tiny.ROOT / "experiments" / "configs" / "gru4rec.py"
    fields = {"train.batch_size": 12, "model.hidden_size": 8, "train.epochs": 1}
    fields |= {"negatives.num_uniform": 16, "negatives.num_in_batch": 5}
    flags = [f"--config={config}", *tiny.flags({**fields, "data.path": tiny_data})]

    def run(workdir):
        with tiny.compiled_once(tmp_path / "compiled"):
            assert train_program.main(["", f"--workdir={workdir}", *flags]) == 0
        assert evaluate(workdir)[0] == 0
        lines = json.loads((workdir / "evaluation.json").read_text())
        for line in lines:
            del line["checkpoint"]  # when it was saved is in its checksum
        return lines

    plain = run(tmp_path / "plain")
    with set_for_all(DRAWS):
        assert run(tmp_path / "set") == plain
    tiny.assert_same_run(tmp_path / "set", tmp_path / "plain")


def test_variables_of_a_cluster(tmp_path, tiny_data, tiny_runs, compilations):
    """The same by a process of its own, from the first step on."""
    unbroken = tiny_runs("rows")
    argv = tiny.command(tmp_path / "run", tiny_data)
    values = {True: "1", False: "0"}
    variables = {name.upper(): str(values.get(x, x)) for name, x in DRAWS.items()}
    with tiny.compiled_once(compilations):
        done = subprocess.run(
            [*tiny.PYTHON, "-m", "experiments.train", *argv[1:]],
            env=os.environ | variables,
            cwd=tiny.ROOT,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stderr) == (0, "")
    tiny.assert_same_run(tmp_path / "run", unbroken)


@pytest.mark.parametrize("name", ["JAX_ENABLE_X64", "JAX_DEFAULT_PRNG_IMPL"])
def test_a_variable_that_makes_no_sense(name):
    command = [*tiny.PYTHON, "-m", "experiments.evaluate", "--workdir=unused"]
    done = subprocess.run(
        command,
        env=os.environ | {name: "nonsense"},
        cwd=tiny.ROOT,
        capture_output=True,
        text=True,
    )
    tiny.assert_refused((done.returncode, done.stdout, done.stderr), "nonsense")
    assert name in done.stderr.upper()


@pytest.mark.portable
@pytest.mark.parametrize("seed", [0, 1, 7, 2**31 - 1, 2**31, 2**32 - 1])
def test_keys_are_what_jax_makes_unasked(seed):
    """And stay so whatever jax makes."""

    def bits(key):
        with jax_settings.stated():
            return np.asarray(jax.random.bits(key, (5,)))

    folded = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 3)
    expected = bits(jax.random.fold_in(folded, 11))
    np.testing.assert_array_equal(bits(rng.step_key(seed, 11, 3)), expected)
    for name, value in DRAWS.items():
        with set_for_all({name: value}):
            found = bits(rng.step_key(seed, np.int32(11), 3))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("until_trained")
def test_settings_are_left_as_they_were_found(tmp_path, train):
    """A notebook or a server may compute by others."""
    with set_for_all({"jax_enable_x64": True}):
        assert train(tmp_path / "run")[0] == 0
        assert jax.numpy.arange(2).dtype == "int64"


@pytest.mark.usefixtures("until_trained")
def test_what_a_user_may_set_is_recorded_and_said(stopped, train, monkeypatch):
    made_with = json.loads((stopped / "config.json").read_text())["provenance"]
    assert made_with["prng"] == "threefry2x32, partitionable"
    assert made_with["matmul_precision"] == "default"
    monkeypatch.setenv(
        "XLA_FLAGS", "--xla_of_ours --xla_dump_to=/home/me"
    )  # too late for XLA to read it
    with set_for_all({"jax_default_matmul_precision": "highest"}):
        status, out, err = train(stopped)
    assert (status, err) == (0, "")
    assert "resuming with matmul_precision highest, not default; xla_flags --x" in out
    changed = json.loads((stopped / "config.json").read_text())["provenance"]
    assert changed["matmul_precision"] == "default"
    [resumed] = changed["resumed_with"]
    assert resumed.pop("program") != made_with["program"]
    for circumstance in ("argv", "load"):
        resumed.pop(circumstance, None)
    assert resumed == {"matmul_precision": "highest", "xla_flags": "--xla_of_ours"}
    assert "resuming with matmul_precision default, not highest" in train(stopped)[1]


def commit(folder, *paths):
    def git(*arguments):
        options = ("-c", "user.name=x", "-c", "user.email=x@localhost")
        command = ["git", "-C", str(folder), *options, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True)

    git("init", "-q")
    git("add", "-f", *paths)
    git("commit", "-qm", "x")
    return git("rev-parse", "HEAD").stdout.strip()


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("named", [None, "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"])
def test_the_commit_is_that_of_this_code_alone(tmp_path, monkeypatch, ours, named):
    """Not that of a repository with a virtual environment in it, or of a git hook."""
    source = tmp_path / "repository" / ".venv" / "experiments" / "provenance.py"
    source.parent.mkdir(parents=True)
    shutil.copy(provenance.__file__, source)
    (tmp_path / "repository" / "mine.py").write_text("mine")
    tracked = [".venv"] if ours else ["mine.py"]
    head = commit(tmp_path / "repository", *tracked)
    other = tmp_path / "other"
    other.mkdir()
    (other / "provenance.py").write_text("")
    commit(other, "provenance.py")
    if named:
        places = {
            "GIT_DIR": ".git",
            "GIT_WORK_TREE": "",
            "GIT_INDEX_FILE": ".git/index",
        }
        monkeypatch.setenv(named, str(other / places[named]))
    monkeypatch.setattr(provenance, "__file__", str(source))
    assert provenance._git_commit() == (head if ours else "")


def few_items(tmp_path, **kwargs):
    """Sessions that click on all of three items."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "NUM_ITEMS", 3)
        return tiny.write_data(tmp_path / "few", test_sessions=0, **kwargs)


NO_BATCH = {"negatives__num_in_batch": 0, "loss__topk": 0, "train__epochs": 1}


@pytest.mark.parametrize(
    ("fields", "train_sessions", "said"),
    [
        (NO_BATCH, 24, True),
        ({**NO_BATCH, "loss__name": "bce"}, 24, True),
        ({**NO_BATCH, "negatives__num_popularity": 16}, 24, True),
        ({**NO_BATCH, "negatives__exclude": "none"}, 24, False),
        ({"train__epochs": 1}, 24, False),  # those of the batch are left
        # A batch of one session has no other to take negatives from.
        ({"negatives__num_uniform": 0, "loss__topk": 0, "train__epochs": 1}, 1, True),
        ({"negatives__num_uniform": 0, "loss__topk": 0, "train__epochs": 1}, 24, False),
    ],
)
def test_no_negative_is_left(tmp_path, train, fields, train_sessions, said):
    data = few_items(tmp_path, train_sessions=train_sessions)
    status, _, err = train(tmp_path / "run", "dense", data=data, **fields)
    assert status == 0
    assert ("have no negative left" in err) == said
    assert err.count("\n") == said
