"""RecTools' side of rectools_speed.py: trains, and stops after each turn to be asked.

    python -m experiments.benchmarks.peers.rectools_turns --data=DIR --loss=BCE …

A line of JSON asks, and one answers: {"steps": N} makes N steps of the library's own
training loop, loading and bookkeeping included; {"evaluate": true} ranks all
predictions as rectools_sasrec.py does, and then has the library recommend 20 items for
each.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from typing import Any, Self

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer
from rectools.models import SASRecModel

from experiments.benchmarks.peers import rectools_model, rectools_ranks
from experiments.benchmarks.peers.rectools_training import peak_memory_gb
from tron_jax.data.sessions import PreparedData, open_prepared

WARM_UP = 2  # steps before it is ready
EPOCHS = 1000  # more than anyone waits for


class Turns(Callback):
    """Waits for requests after the last step of each turn.

    The next batch is loaded after an answer was given, so in the time of its own turn.
    """

    def __init__(self, data: PreparedData, arguments: argparse.Namespace):
        """Begins with the warm-up as its first turn."""
        self.model: SASRecModel | None = None
        self._data, self._left = data, WARM_UP
        self._queries = rectools_ranks.make_queries(data.test, arguments.length)
        self._sessions, self._start = 0, time.perf_counter()

    def __deepcopy__(self, memo: dict[str, Any]) -> Self:
        """Itself: the library trains with a copy of the trainer."""
        return self

    def on_train_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: Any,
        n: int,
    ) -> None:
        self._left -= 1
        self._sessions += len(batch["x"])
        if self._left:
            return
        seconds = time.perf_counter() - self._start
        answer = {"seconds": seconds, "sessions": self._sessions}
        if trainer.global_step == WARM_UP:
            answer |= {"versions": rectools_model.versions()}
        say(answer)
        for line in sys.stdin:
            request = json.loads(line)
            if "steps" in request:
                self._left, self._sessions = request["steps"], 0
                self._start = time.perf_counter()
                return
            say(self._evaluate())
        raise SystemExit  # nobody asks any more

    def _evaluate(self) -> dict[str, Any]:
        assert self.model is not None
        queries = self._queries
        _, found = rectools_ranks.evaluate(self.model, queries, self._data.num_items)
        start = time.perf_counter()
        self.model.is_fitted = True  # as it says after the training
        for part in rectools_ranks.parts(queries):
            self.model.recommend(
                np.arange(len(part.lengths)),
                rectools_ranks.interactions(part.items, part.lengths),
                k=20,
                filter_viewed=False,
                on_unsupported_targets="ignore",
            )
        self.model.is_fitted = False
        self.model.lightning_model.train()
        return {
            "seconds": found["eval_s"],
            "encode_s": found["encode_s"],
            "recommend_s": time.perf_counter() - start,
            "predictions": len(queries.lengths),
        }


def say(answer: dict[str, Any]) -> None:
    """Prints an answer, with the memory used so far."""
    print(json.dumps(answer | {"peak_memory_gb": peak_memory_gb()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    rectools_model.add_arguments(parser)
    arguments = parser.parse_args()
    rectools_model.complete(arguments)
    data = open_prepared(arguments.data)
    turns = Turns(data, arguments)
    turns.model = rectools_model.make_model(arguments, EPOCHS, [turns])
    dataset = rectools_model.interactions(data.train.items, data.train.lengths)
    with contextlib.suppress(BrokenPipeError):
        turns.model.fit(dataset)


if __name__ == "__main__":
    main()
