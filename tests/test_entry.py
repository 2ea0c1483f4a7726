"""What a person can get wrong is told in one line, and nothing is lost by it."""

import fcntl
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

from experiments import entry, fitting
from experiments import evaluate as evaluate_program
from experiments import train as train_program
from tron_jax.storage.checkpoints import Checkpoints


def content(folder: Path) -> dict[str, bytes]:
    """All that a folder holds."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("train__batch_size", 13, ["train.batch_size=12, not 13"]),
        ("model__dropout", 0.25, ["model.dropout=0.1, not 0.25"]),
        ("data__validation", 0.1, ["data.validation=0.0, not 0.1"]),
        ("optimizer__item_table", "auto", ["optimizer.item_table=rows, not dense"]),
        ("negatives__mask_hits", "false", ["negatives.mask_hits=True, not False"]),
    ],
)
def test_a_field_that_may_not_change(stopped, train, field, value, words):
    before = content(stopped)
    outcome = train(stopped, **{field: value})
    others = "checkpoint.every_steps, checkpoint.keep_last, data.path, eval.cutoffs, "
    others += "eval.metrics, train.epochs, train.log_every_steps, train.mesh, "
    others += "train.stop_after may change"
    tiny.assert_refused(outcome, str(stopped), *words, others)
    assert content(stopped) == before


def test_other_data_in_the_same_workdir(stopped, tmp_path, train):
    other = tiny.write_data(tmp_path / "other", seed=1)
    before = content(stopped)
    outcome = train(stopped, data=other)
    tiny.assert_refused(outcome, str(stopped), "other data", str(other), "fingerprint")
    assert content(stopped) == before


def test_a_workdir_of_other_files(tmp_path, train):
    (tmp_path / "notes.txt").write_text("mine")
    outcome = train(tmp_path)
    tiny.assert_refused(outcome, str(tmp_path), "no config.json")
    assert content(tmp_path) == {"notes.txt": b"mine"}


def test_a_workdir_in_use(stopped, train):
    before = content(stopped)
    with (stopped / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tiny.assert_refused(train(stopped), str(stopped), "in use")
    assert content(stopped) == before


def test_a_workdir_that_cannot_be_written(tmp_path, train):
    (tmp_path / "file").write_text("mine")
    for path, reason in (("file/run", "Not a directory"), ("file", "File exists")):
        outcome = train(tmp_path / path)
        tiny.assert_refused(outcome, "cannot make workdir", reason)
    assert content(tmp_path) == {"file": b"mine"}


def test_a_damaged_config_json(stopped, train, evaluate):
    whole = json.loads((stopped / "config.json").read_text())
    damaged = [
        *("{", "[]", "{}", "3", '{"provenance": 3}', '{"provenance": {}}'),
        json.dumps({"provenance": whole["provenance"]}),
        json.dumps(whole | {"model": {"position": "from_start"}}),
        json.dumps(whole | {"model": 3}),
    ]
    for text in damaged:
        (stopped / "config.json").write_text(text)
        tiny.assert_refused(train(stopped), "config.json")
        tiny.assert_refused(evaluate(stopped), "config.json")


def test_a_workdir_whose_first_file_was_cut_short(tmp_path, train, monkeypatch):
    """Killed while it wrote its first file, a run can still be started."""
    (tmp_path / "config.json.new").write_text('{"data": ')

    def reached(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit", reached)
    status, _, err = train(tmp_path)
    assert (status, err) == (130, "error: interrupted\n")
    files = [".lock", "config.json", "items.parquet"]
    assert sorted(content(tmp_path)) == files


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--config.train.epoch=3", ["config.train.epoch;", "epochs", "log_every_step"]),
        ("--config.trian.epochs=3", ["config.trian.epochs;", "train", "negatives"]),
        (
            "--config.negatives.uniform_style=batchwise",
            ["negatives.uniform_style is now negatives.drawn_per", "batch for batchw"],
        ),
        ("--config.negatives.drawn_per=batchwise", ["drawn_per", "event, session"]),
        ("--config.train.epochs=many", ["config.train.epochs", "many"]),
        ("--config.train.epochs=1.5", ["config.train.epochs", "1.5"]),
        ("--config.negatives.mask_hits=often", ["config.negatives.mask_hits", "often"]),
        ("--config.model.dropout=low", ["config.model.dropout", "low"]),
        ("--config.train.epochs=0", ["train.epochs is 0", "at least 1"]),
        ("--config.model.dropout=1", ["model.dropout is 1", "at most 0.99"]),
        ("--config.optimizer.learning_rate=nan", ["optimizer.learning_rate is nan"]),
        ("--config.optimizer.learning_rate=inf", ["optimizer.learning_rate is inf"]),
        ("--config.train.order=random", ["train.order", "'random'", "chronological"]),
        ("--config.loss.name=sm", ["loss.name", "'sm'", "ssm", "bpr_max"]),
        ("--config.negatives.num_in_batch=12", ["negatives.num_in_batch", "12", "11"]),
        ("--config.loss.topk=22", ["loss.topk is 22", "21"]),
        ("--config.model.num_heads=3", ["model.num_heads is 3", "hidden_size = 8"]),
        ("--config.data.path=", ["data.path is not set"]),
        ("--config.data.path=/no/such", ["/no/such", "no such folder"]),
        ("--epochs=3", ["epochs"]),
        ("epochs", ["'epochs'"]),
    ],
)
def test_a_wrong_argument(tmp_path, train, argument, words):
    outcome = train(tmp_path / "run", "rows", argument)
    tiny.assert_refused(outcome, *words)
    assert content(tmp_path) == {}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--workdir=W"], ["--config"]),
        (["--config=CONFIGS/smoke.py"], ["--workdir"]),
        (["--config=CONFIGS/smoke.py", "--workdir=W"], ["data.path is not set"]),
        (["--config=CONFIGS/none.py", "--workdir=W"], ["none.py", "no file"]),
        (["--config=CONFIGS/tron_l.py:otta", "--workdir=W"], ["'otta'", "diginetica"]),
        (
            ["--config=CONFIGS/smoke.py:otto", "--workdir=W"],
            ["smoke.py:otto", "no arg"],
        ),
        (["--config=CONFIGS/tron_xl.py:", "--workdir=W"], ["''", "yoochoose"]),
    ],
)
def test_a_wrong_command(tmp_path, capfd, argv, words):
    paths = {
        "CONFIGS": str(tiny.ROOT / "experiments" / "configs"),
        "=W": f"={tmp_path / 'w'}",
    }
    for name, path in paths.items():
        argv = [argument.replace(name, path) for argument in argv]
    status = train_program.main(["train", *argv])
    tiny.assert_refused((status, *capfd.readouterr()), *words)
    assert content(tmp_path) == {}


UNLOCKED = (
    "from experiments.configs import defaults\n"
    "    config = defaults.default_config().unlock()\n    "
)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("return 1 / 0", ["division by zero"]),
        (
            "from experiments.configs import defaults\n"
            "    config = defaults.default_config()\n"
            "    config.negatives.uniform_style = 'batchwise'\n",
            [
                "mine.py: ",
                "negatives.uniform_style is now negatives.drawn_per (ev",
            ],
        ),
        # Fields of one's own need an unlocked config, which takes anything.
        (
            UNLOCKED
            + "config.negatives.uniform_style = 'batchwise'\n    return config",
            ["negatives.uniform_style is now negatives.drawn_per (ev"],
        ),
        (
            UNLOCKED + "config.negatives.drawn_pre = 'event'\n    return config",
            ["unknown config field negatives.drawn_pre", "deduplicate, drawn_per, "],
        ),
        (
            UNLOCKED + "config.mine = 3\n    return config",
            ["unknown config field mine; expected one of: checkpoint, "],
        ),
        (
            UNLOCKED + "config.eval = None\n    return config",
            ["config group eval is None; expected its fields"],
        ),
        (
            UNLOCKED + "return config.to_dict()",
            ["mine.py: get_config returned dict; expected a ConfigDict"],
        ),
        ("pass", ["mine.py: get_config returned NoneType; expected a ConfigDict"]),
    ],
)
@pytest.mark.parametrize("flag", ["--config", "-config"])
def test_a_config_file_at_fault(tmp_path, capfd, flag, lines, words):
    (tmp_path / "mine.py").write_text(f"def get_config():\n    {lines}\n")
    argv = ["train", f"{flag}={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'w'}"]
    status = train_program.main(argv)
    tiny.assert_refused((status, *capfd.readouterr()), *words)


def spoil(data: Path, what: str) -> None:
    stats = data / "stats.json"
    fields = json.loads(stats.read_text())
    if what == "truncated":
        whole = (data / "train.arrow").read_bytes()
        (data / "train.arrow").write_bytes(whole[:-100])
    elif what == "missing":
        (data / "test.arrow").unlink()
    elif what == "version":
        stats.write_text(json.dumps(fields | {"version": 99}))
    elif what == "one item":
        stats.write_text(json.dumps(fields | {"num_items": 1}))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("truncated", ["train.arrow", "bytes"]),
        ("missing", ["test.arrow"]),
        ("version", ["stats.json", "version is 99", "expected 1"]),
        ("one item", ["num_items is 1"]),
    ],
)
def test_prepared_data_at_fault(tmp_path, tiny_data, train, what, words):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    spoil(data, what)
    tiny.assert_refused(train(tmp_path / "run", data=data), str(data), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("field", ["data.validation", "data.without_last"])
def test_no_session_to_hold_out(tmp_path, train, field):
    data = tiny.write_data(tmp_path / "data", train_sessions=1)
    outcome = train(tmp_path / "run", data=data, **{field: 0.5})
    tiny.assert_refused(outcome, f"{field}=0.5: 1 train session, none to spare")
    assert not (tmp_path / "run").exists()


def test_evaluating_what_is_not_there(stopped, tmp_path, tiny_data, evaluate):
    other = tiny.write_data(tmp_path / "other", seed=1)
    (tmp_path / "empty").mkdir()
    before = content(stopped)
    cases = [
        (tmp_path / "none", [], ["none/config.json", "No such file"]),
        (tmp_path / "empty", [], ["empty/config.json", "expected a run's workdir"]),
        (stopped, ["--step=34"], ["no checkpoint of step 34", "25, 28, 33"]),
        (stopped, ["--step=first"], ["--step=first", "best, latest"]),
        (stopped, ["--step=-1"], ["--step=-1"]),
        (stopped, ["--split=validation"], ["no validation sessions"]),
        (stopped, ["--split=train"], ["--split", "train"]),
        (stopped, [f"--data={other}"], [str(other), "not the data set"]),
        (stopped, ["--data=/no/such"], ["/no/such"]),
        (stopped, ["--steps=3"], ["steps"]),
    ]
    for workdir, arguments, words in cases:
        tiny.assert_refused(evaluate(workdir, *arguments), *words)
    assert content(stopped) == before
    assert content(tmp_path / "empty") == {}


def test_evaluating_without_a_checkpoint(stopped, evaluate):
    shutil.rmtree(stopped / "checkpoints")
    tiny.assert_refused(evaluate(stopped), "no checkpoint in", "expected a trained run")


def test_evaluating_a_damaged_checkpoint(stopped, evaluate):
    (stopped / "checkpoints" / "33" / "manifest.json").write_text("{")
    tiny.assert_refused(evaluate(stopped), "33", "damaged", "manifest.json")
    assert not (stopped / "ranks.parquet").exists()


def test_results_that_cannot_be_written(stopped, evaluate):
    (stopped / "ranks.parquet").mkdir()
    tiny.assert_refused(evaluate(stopped), "cannot write", "ranks.parquet")
    assert not (stopped / "evaluation.json").exists()
    assert not list(stopped.glob("*.new"))


def poison(workdir: Path) -> int:
    """Puts NaN into the item table of the newest checkpoint."""
    state, info = tiny.saved(workdir)
    step = int(state.step)
    shutil.rmtree(workdir / "checkpoints" / str(step))
    table = state.items.table.at[:].set(np.nan)
    state = state._replace(items=state.items._replace(table=table))
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(step, state, info)
    return step


def test_a_loss_that_is_not_finite(stopped, train):
    step = poison(stopped)
    steps = Checkpoints(stopped / "checkpoints").steps()
    outcome = train(stopped)
    tiny.assert_refused(
        outcome,
        f"the loss of step {step + 1} is not finite (nan)",
        f"the last good checkpoint is that of step {step}",
    )
    assert Checkpoints(stopped / "checkpoints").steps() == steps
    assert all(np.isfinite(x["loss"]) for x in tiny.lines(stopped) if "loss" in x)


@pytest.mark.parametrize("program", [train_program, evaluate_program])
def test_help(program, capfd):
    assert program.main(["program", "--help"]) == 0
    said, err = capfd.readouterr()
    assert "python -m experiments." in said
    assert "--workdir" in said
    assert err == ""


def test_an_interruption_is_one_line(capfd):
    def program(_):
        raise KeyboardInterrupt

    status = entry.run(program, evaluate_program.flags.FlagValues(), ["x"])
    assert (status, capfd.readouterr().err) == (130, "error: interrupted\n")
