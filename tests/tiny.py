"""A run so small that tests can afford to train it many times over."""

import contextlib
import itertools
import json
import os
import resource
import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
from conftest import PLATFORM
from jax.experimental.compilation_cache import compilation_cache

from data_prep.clicks.batches import TIME
from data_prep.prepared.chunks import SessionChunk
from data_prep.prepared.sessions_writer import SessionsWriter
from data_prep.prepared.writer import write_prepared
from experiments import workdirs
from experiments.assembly import run_parts
from experiments.configs import smoke
from tron_jax.files import new_folder
from tron_jax.reporting import metrics_writer
from tron_jax.storage.checkpoints import Checkpoints

ROOT = Path(__file__).resolve().parents[1]
PYTHON = [sys.executable, "-W", "error", "-W", "ignore:the load_module"]
NUM_ITEMS = 300
TRAIN_SESSIONS, TEST_SESSIONS = 300, 300
STEPS_PER_EPOCH = 25

# Sessions have at most 4 inputs, so every batch fits into one block of 48: one shape.
# Of the 301 rows of the item table a step touches 112 at most; the others sleep.
FIELDS = {
    "model.hidden_size": 8,
    "model.feedforward_size": 8,
    "model.num_layers": 1,
    "model.max_session_length": 48,
    "negatives.num_uniform": 16,
    "negatives.num_in_batch": 5,
    "loss.topk": 8,
    "train.batch_size": 12,
    "train.epochs": 2,
    "train.steps_per_group": 1,
    "train.log_every_steps": 4,
    "checkpoint.every_steps": 7,
    # A GPU adds in any order otherwise, and no run would equal another.
    "train.deterministic": PLATFORM != "cpu",
}
MODES = {
    "rows": {"optimizer.item_table": "rows", "train.order": "shuffled"},
    "dense": {"optimizer.item_table": "dense", "train.order": "chronological"},
    "repeats": {
        "optimizer.item_table": "rows",
        "train.order": "shuffled",
        "model.repeats": True,
    },
}
# What differs between two runs that are otherwise equal bit for bit.
CLOCKED = {"time", "sessions_per_s", "events_per_s", "epochs_per_hour", "save_s"} | {
    "save_gb",
    "peak_memory_gb",
}


def write_data(
    folder,
    *,
    seed=0,
    test_sessions=TEST_SESSIONS,
    train_sessions=TRAIN_SESSIONS,
    raw_ids=None,
):
    """Prepares sessions of 2 to 5 clicks, each item followed by one of three others."""
    draw = np.random.default_rng(seed)

    def split(writer, first, count):
        lengths = draw.integers(2, 6, count)
        offsets = np.cumsum([0, *lengths]).astype(np.int32)
        items = np.empty(offsets[-1], np.int32)
        for start, stop in itertools.pairwise(offsets):
            item = draw.integers(NUM_ITEMS)
            for event in range(start, stop):
                items[event] = 1 + item
                item = (item + draw.choice([1, 7, 20])) % NUM_ITEMS
        starts = pa.array((first + np.arange(count)) * 10**6, pa.int64())
        ids = pa.array(first + np.arange(count))
        writer.append(SessionChunk(items, lengths, ids, starts.cast(TIME)))

    about = {"name": "tiny", "filters": {}, "split": {}, "sources": []}
    with (
        new_folder(Path(folder)) as partial,
        contextlib.closing(SessionsWriter(partial, "train")) as train,
        contextlib.closing(SessionsWriter(partial, "test")) as test,
    ):
        split(train, 0, train_sessions)
        split(test, train_sessions, test_sessions)
        raw_ids = range(1, NUM_ITEMS + 1) if raw_ids is None else raw_ids
        write_prepared(partial, train, test, pa.array(list(raw_ids)), about)
    return Path(folder)


def flags(fields):
    return [f"--config.{name}={value}" for name, value in fields.items()]


def command(workdir, data, mode="rows", **fields):
    """The command line of a run; a field's dot is written as two underscores."""
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    fields = {"data.path": data, **FIELDS, **MODES[mode], **changed}
    config = f"--config={ROOT / 'experiments' / 'configs' / 'smoke.py'}"
    return ["train", config, f"--workdir={workdir}", *flags(fields)]


def config(data, mode="rows", **fields):
    """The config of that command."""
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    made = smoke.get_config()
    fields = {"data.path": str(data), **FIELDS, **MODES[mode], **changed}
    for name, value in fields.items():
        group, field = name.split(".")
        made[group][field] = value
    return made


def saved(workdir, step=None):
    """The state of a checkpoint, the newest where no step is given, and its info."""
    config, _ = workdirs.read_config(Path(workdir))
    config.train.mesh = 1  # it is saved as one device has it
    data = run_parts.open_data(config)
    parts = run_parts.build(
        config, data.num_items, run_parts.splits(config, data)["train"]
    )
    checkpoints = Checkpoints(Path(workdir) / "checkpoints")
    step = checkpoints.latest_step() if step is None else step
    return checkpoints.restore(step, jax.eval_shape(parts.init))


def lines(workdir):
    """The lines of the log without what a clock decides."""
    found = metrics_writer.read(Path(workdir) / "metrics.jsonl")
    return [
        {key: value for key, value in line.items() if key not in CLOCKED}
        for line in found
    ]


def assert_same_bits(left, right):
    names = [jax.tree_util.keystr(k) for k, _ in jax.tree.leaves_with_path(left)]
    assert jax.tree.structure(left) == jax.tree.structure(right)
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    for name, (a, b) in zip(names, pairs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name


def assert_same_run(left, right):
    """Two workdirs end with the same arrays and say the same in their logs."""
    assert lines(left) == lines(right)
    last = Checkpoints(Path(left) / "checkpoints").latest_step()
    assert Checkpoints(Path(right) / "checkpoints").latest_step() == last
    assert_same_bits(saved(left)[0], saved(right)[0])


def assert_refused(outcome, *words):
    """A mistake is told in one line, by a status, and by nothing else."""
    status, _, err = outcome
    assert status == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err


@contextlib.contextmanager
def largest_file(size):
    """Makes the disk look full to this process: no file may be larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


_built = {}
_build = run_parts.build


def build_once(config, num_items, train, ways=None):
    """``run_parts.build``, whose pure functions are the same for equal configs.

    So JAX traces and lowers them once for all runs of this process; batches and counts
    of clicks are made anew.
    """
    ways = ways or run_parts.best()
    parts = _build(config, num_items, train, ways)
    fields = config.to_dict()
    del fields["data"], fields["checkpoint"]
    fields["train"] = {
        name: value
        for name, value in fields["train"].items()
        if name not in ("epochs", "log_every_steps", "evaluate_every", "stop_after")
    }
    clicks = (train.items.tobytes(), train.offsets.tobytes())
    key = (json.dumps(fields, sort_keys=True), ways, num_items, *map(hash, clicks))
    first = _built.setdefault(key, parts)
    return parts._replace(
        init=first.init, train_step=first.train_step, evaluator=first.evaluator
    )


@contextlib.contextmanager
def compiled_once(folder):
    """Lets programs that run in here, and their children, share what they compile."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    run_parts.build = build_once
    try:
        yield
    finally:
        run_parts.build = _build
        for name, value in before.items():
            del os.environ[name.upper()]
            jax.config.update(name, value)
        compilation_cache.reset_cache()
