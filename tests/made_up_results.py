"""Folders of runs that nobody trained, as workdirs or as they are kept."""

import json
from pathlib import Path

import numpy as np
import tiny

from experiments.comparing import building
from tron_jax.data.sessions import open_prepared
from tron_jax.evaluation import rank_file
from tron_jax.evaluation.histories import consecutive
from tron_jax.evaluation.metrics import reported
from tron_jax.evaluation.protocols import summarise
from tron_jax.evaluation.rank_file import Ranks

KEYS = reported(("recall", "mrr", "ndcg"), (5, 10, 20))
ABOUT = ("step", "chosen_by")
QUIET = {"nice": 0, "load": 0.5, "cores": 2}


def build(*paths, **options):
    """The comparison of runs."""
    return building.build([str(path) for path in paths], command="again", **options)


def predictions(data):
    """What ``exact`` predicts of a prepared set: session, event, label."""
    test = data.test
    counts = test.lengths.astype(np.int64) - 1
    session = np.repeat(np.arange(len(counts)), counts)
    event = consecutive(np.ones(len(counts), np.int64), counts)
    return session, event, test.items[test.offsets[session] + event]


def drawn_ranks(data, seed, shift=0.0):
    """Ranks of all predictions, of sessions that are easy or hard, with some ties."""
    session, event, label = predictions(data)
    draw = np.random.default_rng(seed)
    of_session = np.random.default_rng(99).normal(size=session.max() + 1)[session]
    hardness = of_session + draw.normal(size=len(session)) + 2.5 - shift
    higher = np.floor(np.exp(np.clip(hardness, -5, 5))).astype(np.int32)
    equal = (draw.random(len(session)) < 0.05).astype(np.int32)
    return Ranks(session, event, label, higher, equal)


def log_lines(exact, paper, *, scores, judge, steps=25, seconds=4.0, sessions=300):
    """Of a run whose epochs take ``seconds`` each, in two windows, and evaluated.

    Args:
      exact: line of the evaluation.
      paper: line of the evaluation.
      scores: Recall@20 at each epoch, on the split that the best step goes by.
      judge: that split; test is evaluated too, and better at each epoch.
      steps: of an epoch.
      seconds: of an epoch.
      sessions: of an epoch.
    """
    epochs, lines = len(scores), []
    for epoch in range(1, epochs + 1):
        for step in (steps * epoch - 15, steps * epoch):
            lines.append(
                {
                    "step": step,
                    "epoch": round(step / steps, 6),
                    "time": 10.0 * step,
                    "loss": 5.0 - step / 100,
                    "sessions_per_s": sessions / seconds,
                    "events_per_s": 3 * sessions / seconds,
                    "epochs_per_hour": 3600 / seconds,
                    "peak_memory_gb": 1 + epoch / 10,
                }
            )
        for split in dict.fromkeys((judge, "test")):
            score = scores[epoch - 1] if split == judge else 0.4 + epoch / 100
            for line in (paper, exact):
                figures = {k: v for k, v in line.items() if k not in ABOUT}
                about = {"step": steps * epoch, "epoch": float(epoch), "time": 11.0}
                own = {"split": split, "recall@20": score}
                lines.append(about | figures | own)
    return lines


def write_run(
    folder,
    data_path,
    *,
    seed=0,
    shift=0.0,
    ranks=None,
    evaluated=True,
    kept=False,
    counted=True,
    epochs=2,
    made_with=None,
    of=None,
    at=None,
    rule="latest",
    scores=None,
    best=None,
    **fields,
):
    """Writes the files of a run.

    Args:
      folder: of the run, to be made.
      data_path: the prepared set.
      seed: of the run, and of its ranks where none are given.
      shift: how much easier than usual the sessions are to it.
      ranks: of its predictions.
      evaluated: whether ``evaluate`` has run.
      kept: write what ``keep`` keeps; else a workdir.
      counted: whether what is kept tells predictions per session.
      epochs: of the run, all done.
      made_with: more of its provenance.
      of: epochs that it should have, if not these.
      at: epoch at which ``exact`` was evaluated; the last.
      rule: that chose it; None is left out, as by an older version.
      scores: Recall@20 at each epoch, on the split that the best step goes by.
      best: (epoch, ranks) of its best state, where that is not the one of ``exact``.
      fields: of its config, a dot written as two underscores.
    """
    data = open_prepared(data_path)
    folder = Path(folder)
    folder.mkdir(parents=True)
    fields |= {"train__seed": seed, "train__epochs": of or epochs}
    config = tiny.config("" if kept else data_path, **fields).to_dict()
    about = {"fingerprint": data.fingerprint, "git": "c0ffee", "program": "p"}
    content = config | {"provenance": about | QUIET | (made_with or {})}
    (folder / "config.json").write_text(json.dumps(content))
    ranks = drawn_ranks(data, seed, shift) if ranks is None else ranks
    validated = bool(fields.get("data__validation"))  # then both are at the best step
    exact, paper = (
        {"step": 25 * epoch}
        | ({"chosen_by": chosen_by} if chosen_by else {})
        | summarise(ranks, name, split="test", reported=KEYS)
        for name, epoch, chosen_by in (
            ("exact", at or epochs, rule),
            ("paper", at if validated and at else epochs, "best, of a made-up run"),
        )
    )
    lines = log_lines(
        exact,
        paper,
        scores=scores or [0.4 + epoch / 100 for epoch in range(1, epochs + 1)],
        judge="validation" if validated else "test",
    )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    if not evaluated:
        return folder
    evaluations, by_protocol = [paper, exact], {"paper": ranks, "exact": ranks}
    if best is not None:
        epoch, by_protocol["exact_at_best"] = best
        line = summarise(best[1], "exact", split="test", reported=KEYS)
        line |= {"protocol": "exact_at_best", "chosen_by": "best, of a made-up run"}
        evaluations.append({"step": 25 * epoch} | line)
    (folder / "evaluation.json").write_text(json.dumps(evaluations))
    if kept:
        columns = {"higher": ranks.higher, "equal": ranks.equal}
        if best is not None:
            columns |= {"best_higher": best[1].higher, "best_equal": best[1].equal}
        if counted:
            columns["predictions"] = np.bincount(ranks.session)
        kept_columns = {k: v.astype(np.uint32) for k, v in columns.items()}
        np.savez_compressed(folder / "ranks.npz", **kept_columns)
    else:
        rank_file.save(folder / "ranks.parquet", by_protocol, data.test.ids)
    return folder


def write_sweep(folder, runs, entries=None, **content):
    """Writes the list of a sweep.

    Args:
      folder: of the sweep.
      runs: names of settings by the folders of their runs.
      entries: more of what is said of some of the runs.
      content: more of what is said of the sweep.
    """
    content = content | {
        "format": "tron-sweep",
        "version": 1,
        "argv": ["experiments.sweep", f"--workdir={folder}", "--seeds=2"],
        "runs": {
            name: {"folder": name, "seed": 0, "setting": setting, "fields": {}}
            | ({"chosen": "chosen on validation"} if setting == "hard" else {})
            | (entries or {}).get(name, {})
            for name, setting in runs.items()
        },
    }
    (folder / "sweep.json").write_text(json.dumps(content))
