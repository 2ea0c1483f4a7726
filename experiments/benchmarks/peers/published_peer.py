"""The published code's side of published_tron.py, for an interpreter with PyTorch.

It is given one argument, JSON, and answers lines of JSON with lines of JSON. It imports
nothing of this project, and the published code from a clone of its own; which of its
settings it departs from, published_tron.py lists.
"""

import importlib
import itertools
import json
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import published_peer_parts as parts_of
import torch
from published_peer_turns import Finished, make_turns


def open_channel():
    """Keeps stdout for answers; whatever else is printed goes to stderr."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return channel


def make_program(settings, callbacks=()):
    """Lets the published code build its trainer, model and data loaders.

    Args:
      settings: checkout, config (a file in it), folder, num_items, num_sessions
        {train, test}, precision.
      callbacks: for the trainer.

    Returns:
      A namespace: config, trainer, model, train_loader, test_loader, module (of the
      data set).
    """
    sys.path.insert(0, settings["checkout"])
    path = Path(settings["checkout"], "configs", settings["config"])
    config = json.loads(path.read_text())
    config |= {"accelerator": "cpu", "limit_val_batches": 0}
    name = config["model"]
    train = importlib.import_module(f"src.{name}.train")
    if not isinstance(train.Trainer, _Trainer):
        train.Trainer = _Trainer(train.Trainer, settings, callbacks)
    make = {"sasrec": "train_sasrec", "gru4rec": "train_gru"}[name]
    stats = {
        split: {"num_sessions": count}
        for split, count in settings["num_sessions"].items()
    }
    trainer, model, train_loader, test_loader = getattr(train, make)(
        config, settings["folder"], stats["train"], stats["test"], settings["num_items"]
    )
    return SimpleNamespace(
        config=config,
        trainer=trainer,
        model=model,
        train_loader=train_loader,
        test_loader=test_loader,
        module=importlib.import_module(f"src.{name}.dataset"),
    )


class _Trainer:
    """Stands in for the trainer's class: the published arguments but for a few."""

    def __init__(self, trainer, settings, callbacks):
        self._trainer, self._callbacks = trainer, list(callbacks)
        self._changed = {
            "precision": settings["precision"],
            "default_root_dir": settings["folder"],
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }

    def __call__(self, **arguments):
        callbacks = [*arguments.pop("callbacks"), *self._callbacks]
        return self._trainer(**{**arguments, **self._changed, "callbacks": callbacks})


def about(program):
    """What ran: versions, threads, sizes."""
    import numpy
    import pytorch_lightning

    loader = program.train_loader
    return {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pytorch-lightning": pytorch_lightning.__version__,
            "numpy": numpy.__version__,
        },
        "threads": torch.get_num_threads(),
        "loader_workers": loader.num_workers,
        "prefetched": loader.num_workers * loader.prefetch_factor,
        "batch_size": program.config["batch_size"],
        "config": program.config,
    }


def peak_bytes():
    """The most memory that this process has held, without its loader's workers."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return None


def run_train(settings, requests, answer):
    """Trains by the published trainer; pauses when the steps of a turn are made."""
    turns = make_turns(requests, answer)
    program = make_program(settings, [turns])
    turns.about = about(program)
    try:
        program.trainer.fit(program.model, program.train_loader)
    except Finished:
        return
    raise RuntimeError("its train set ended before the last turn")


def run_parts(settings, requests, answer):
    """Times the parts of its steps on the first batches of the train set."""
    program = make_program(settings)
    answer({"ready": True, **about(program)})
    for request in requests:
        answer(parts_of.measure(program, request["repeats"]))


def run_evaluate(settings, requests, answer):
    """Times its ``validation_step`` on the first batches of the test set."""
    program = make_program(settings)
    model, test_set = program.model.eval(), program.test_loader.dataset
    model.log = lambda *_, **__: None  # outside a trainer there is nowhere to log to
    answer({"ready": True, **about(program)})
    batches = []
    for request in requests:
        if not batches:
            batches = list(
                itertools.islice(
                    parts_of.batches_of(program, test_set), request["steps"]
                )
            )
        seconds = []
        for number, batch in enumerate(batches):
            start = time.perf_counter()
            with torch.inference_mode():
                model.validation_step(batch, number)
            seconds.append(time.perf_counter() - start)
        answer(
            {
                "seconds": sum(seconds),
                "predictions": sum(int(batch["mask"].sum()) for batch in batches),
            }
        )


MODES = {"train": run_train, "parts": run_parts, "evaluate": run_evaluate}


def main():
    """Runs one mode, until the input ends."""
    warnings.filterwarnings("ignore")
    settings = json.loads(sys.argv[1])
    channel = open_channel()

    def answer(record):
        print(json.dumps(record), file=channel, flush=True)

    requests = map(json.loads, sys.stdin)
    MODES[settings["mode"]](settings, requests, answer)
    answer({"peak_bytes": peak_bytes()})


if __name__ == "__main__":
    main()
