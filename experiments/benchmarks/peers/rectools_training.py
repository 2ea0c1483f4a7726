"""How a training of RecTools' SASRec is followed: logged, evaluated, stopped, kept."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any, Self

from pytorch_lightning import Callback, LightningModule, Trainer

from tron_jax.evaluation.metrics import BEST_KEY
from tron_jax.reporting.metrics_writer import MetricsWriter

Record = dict[str, Any]
# Evaluates the model and returns the line of `exact`, and what else is worth logging.
Evaluate = Callable[[], tuple[Record, Record]]
# (step, line of `exact`, whether it is the best so far, whether it is an epoch's end)
Keep = Callable[[int, Record, bool, bool], None]


class Follower(Callback):
    """Writes a line a window and one an evaluation, as a run of ours does.

    An evaluation takes place at the end of each epoch, and where the training ends. Its
    time is no training time.
    """

    def __init__(
        self,
        writer: MetricsWriter,
        evaluate: Evaluate,
        keep: Keep,
        *,
        every: int,
        stop_after: int,
        minutes: float,
    ):
        """Follows one call of fit.

        Args:
          writer: of metrics.jsonl.
          evaluate: is called with the model as trained so far.
          keep: writes what is to be kept, after each evaluation.
          every: steps a window.
          stop_after: evaluations without a higher Recall@20 that end it; 0 = never.
          minutes: of training and evaluation, after which it ends within an epoch.
        """
        self._writer, self._evaluate, self._keep = writer, evaluate, keep
        self._every, self._stop_after = every, stop_after
        self._seconds = 60 * minutes
        self._window: list[tuple[float, int, int]] = []  # loss, sessions, events
        self._scores: list[float] = []

    def __deepcopy__(self, memo: Record) -> Self:
        """Itself: the library trains with a copy of the trainer."""
        return self

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._start = self._mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: Any,
        n: int,
    ) -> None:
        labels = batch["y"] != 0
        self._window.append((float(outputs["loss"]), len(labels), int(labels.sum())))
        if time.perf_counter() - self._start > self._seconds:
            trainer.should_stop = True
        if len(self._window) == self._every:
            self._log(trainer)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self._window:
            self._log(trainer)
        line, more = self._evaluate()
        self._writer.write(self._where(trainer) | line | more)
        score = line[BEST_KEY]
        is_best = not self._scores or score > max(self._scores)
        self._scores.append(score)
        step = trainer.global_step
        whole = step % trainer.num_training_batches == 0
        self._keep(step, line, is_best, whole)
        say(trainer, f"Recall@20 {score:.4f}  MRR@20 {line['mrr@20']:.4f}", more)
        since = len(self._scores) - 1 - self._scores.index(max(self._scores))
        if 0 < self._stop_after <= since:
            trainer.should_stop = True

    def _where(self, trainer: Trainer) -> Record:
        return {
            "step": trainer.global_step,
            "epoch": epoch_of(trainer),
            "time": time.perf_counter() - self._start,
        }

    def _log(self, trainer: Trainer) -> None:
        """Writes and prints what the steps since the last line did."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        losses, sessions, events = zip(*self._window, strict=True)
        steps, self._window = len(losses), []
        speed = {
            "loss": sum(losses) / steps,
            "sessions_per_s": sum(sessions) / seconds,
            "events_per_s": sum(events) / seconds,
            "epochs_per_hour": 3600 * steps / trainer.num_training_batches / seconds,
            "peak_memory_gb": peak_memory_gb(),
        }
        self._writer.write(self._where(trainer) | speed)
        rate = f"{speed['sessions_per_s']:,.0f} sessions/s"
        say(trainer, f"loss {speed['loss']:.4f}  {rate}", {})


def epoch_of(trainer: Trainer) -> float:
    """Passes over the train sessions so far."""
    return round(trainer.global_step / trainer.num_training_batches, 6)


def peak_memory_gb() -> float:
    """The most main memory that this process has held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def say(trainer: Trainer, what: str, more: Record) -> None:
    """Prints a line of progress."""
    seconds = f"  evaluated in {more['eval_s']:.1f} s" if "eval_s" in more else ""
    where = f"epoch {epoch_of(trainer):7.3f} of {trainer.max_epochs}"
    print(f"{where}  step {trainer.global_step:6,}  {what}{seconds}", flush=True)
