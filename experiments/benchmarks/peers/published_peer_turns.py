"""Turns of the published training: a callback that times steps and then waits."""

import time

from pytorch_lightning import Callback

# part of a step -> the marks between which it lies, in the order of time
PARTS = {
    "wait for the batch": ("resumed", "batch"),
    "forward and loss": ("batch", "zero_grad"),
    "gradients to zero": ("zero_grad", "backward"),
    "backward": ("backward", "backward_end"),
    "optimizer": ("optimizer", "end"),
}

WARM = 20.0


class Finished(Exception):
    """No further turn is asked for."""


def make_turns(requests, answer):
    """A callback that makes turns of steps.

    Args:
      requests: an iterator of {skip, steps}: steps to make untimed, fewer where they
        take more than ``WARM`` seconds, and steps to time.
      answer: is given what was found: first (index of the first timed step), seconds
        [steps], parts {part: seconds of a step, their mean}.
    """
    return _Turns(requests, answer)


class _Turns(Callback):
    def __init__(self, requests, answer):
        self.about = {}
        self._requests, self._answer = requests, answer
        self._marks = {}
        self._skip = self._steps = 0

    def _mark(self, name):
        self._marks[name] = time.perf_counter()

    def _next_turn(self):
        request = next(self._requests, None)
        if request is None:
            raise Finished
        self._skip, self._steps = request["skip"], request["steps"]
        self._timed = []
        self._mark("resumed")
        self._begin = self._marks["resumed"]

    def on_train_start(self, trainer, module):
        self._answer({"ready": True, **self.about})
        self._next_turn()

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self._mark("batch")

    def on_before_zero_grad(self, trainer, module, optimizer):
        self._mark("zero_grad")

    def on_before_backward(self, trainer, module, loss):
        self._mark("backward")

    def on_after_backward(self, trainer, module):
        self._mark("backward_end")

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self._mark("optimizer")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self._mark("end")
        if self._skip:
            warm = self._marks["end"] - self._begin > WARM
            self._skip = 0 if warm else self._skip - 1
        else:
            self._timed.append(dict(self._marks))
            if len(self._timed) == self._steps:
                self._report(batch_idx)
                self._next_turn()
        self._marks["resumed"] = max(self._marks["resumed"], self._marks["end"])

    def _report(self, last):
        self._answer(
            {
                "first": last - self._steps + 1,
                "seconds": [m["end"] - m["resumed"] for m in self._timed],
                "parts": {
                    part: sum(m[end] - m[start] for m in self._timed) / self._steps
                    for part, (start, end) in PARTS.items()
                },
            }
        )
