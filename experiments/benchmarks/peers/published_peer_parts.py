"""Where a step of the published code spends its time, on batches made beforehand.

The step is its own `training_step`, cut in two where the encoder ends: the gradient of
the loss is taken first with respect to the encoder's output, then through the encoder.
"""

import itertools
import time
from contextlib import contextmanager

import torch

SAMPLERS = {
    "uniform negatives": ("sample_uniform", "sample_uniform_negatives_with_shape"),
    "in-batch negatives": ("sample_in_batch_negatives",),
}
BATCHES = 4  # different ones at most


def batches_of(program, data_set):
    """Yields the batches of a data set, in its order, made in this process."""
    if program.config["model"] == "gru4rec":
        for batch in data_set:
            yield data_set.dynamic_collate([batch])
        return
    size = program.config["batch_size"]
    for first in range(0, len(data_set) - size + 1, size):
        yield data_set.dynamic_collate([data_set[first + i] for i in range(size)])


def measure(program, repeats):
    """Times parts of the step.

    Args:
      program: what ``make_program`` returned.
      repeats: steps to measure, after two that are not.

    Returns:
      Seconds, means: host {part: of a batch, in one process}, parts {part: of a step},
      step (their sum), table_gradients (part of both backwards), without_padding (the
      step at as many columns as the batch's sessions have on average; None where there
      is no padding); and slots_used, a share.
    """
    host, batches = _host(program, max(2, min(repeats, BATCHES)))
    model = program.model.train()
    model.log = lambda *_, **__: None
    optimizer = model.configure_optimizers()
    padded = program.config["model"] == "sasrec"
    whole, cropped, tables = [], [], []
    for number, batch in zip(range(repeats + 2), itertools.cycle(batches)):
        step = _step_parts(model, optimizer, batch)
        narrow = _step_parts(model, optimizer, _crop(batch)) if padded else {}
        table = _table_gradients(model, batch)
        if number >= 2:
            whole.append(step)
            cropped.append(sum(narrow.values()))
            tables.append(table)
    parts = {part: _mean([step[part] for step in whole]) for part in whole[0]}
    return {
        "host": host,
        "parts": parts,
        "step": sum(parts.values()),
        "table_gradients": _mean(tables),
        "without_padding": _mean(cropped) if padded else None,
        "slots_used": _mean([float(batch["mask"].mean()) for batch in batches]),
    }


def _mean(values):
    return sum(values) / len(values)


def _step_parts(model, optimizer, batch):
    """Makes one step; returns the seconds of each part."""
    gru = "keep_state" in batch
    optimizer.zero_grad()
    marks = [time.perf_counter()]
    if gru:
        inputs = batch["clicks"], model.current_state, batch["keep_state"]
        hidden, state = model.forward(*inputs)
    else:
        hidden = model.forward(batch["clicks"], batch["mask"])
    marks.append(time.perf_counter())
    leaf = hidden.detach().requires_grad_()
    model.forward = lambda *_: (leaf, state) if gru else leaf
    loss = model.training_step(batch, 0)
    del model.forward
    marks.append(time.perf_counter())
    loss.backward()
    marks.append(time.perf_counter())
    hidden.backward(leaf.grad)
    marks.append(time.perf_counter())
    optimizer.step()
    marks.append(time.perf_counter())
    names = (
        "encoder forward",
        "scores of all candidates, selection, loss",
        "backward through all candidates",
        "encoder backward",
        "optimizer, on the whole table",
    )
    return {
        name: end - start
        for name, (start, end) in zip(names, itertools.pairwise(marks), strict=True)
    }


def _crop(batch):
    """The same number of sessions and (nearly) of clicks, without padding."""
    mask = batch["mask"]
    columns = max(1, round(float(mask.sum()) / len(mask)))
    short = {name: batch[name][:, -columns:] for name in ("clicks", "labels", "mask")}
    short["mask"] = torch.ones_like(short["mask"])
    if batch["uniform_negatives"].dim() == 3:  # of each event
        short["uniform_negatives"] = batch["uniform_negatives"][:, -columns:]
    return {**batch, **short}


def _table_gradients(model, batch):
    """Seconds of the gradients of the looked up rows, as long as the whole table."""
    names = ("clicks", "labels", "uniform_negatives", "in_batch_negatives")
    rows = [model.item_embedding(batch[name]) for name in names]
    gradients = [torch.ones_like(row) for row in rows]
    model.item_embedding.weight.grad = None
    start = time.perf_counter()
    torch.autograd.backward(rows, gradients)
    return time.perf_counter() - start


def _host(program, num):
    """Makes batches; returns the seconds of one, by part, and the batches."""
    spent = dict.fromkeys(SAMPLERS, 0.0)
    batches = []
    with _timed_samplers(program.module, spent):
        made = batches_of(program, program.train_loader.dataset)
        next(made)
        for part in spent:
            spent[part] = 0.0
        start = time.perf_counter()
        batches = list(itertools.islice(made, num))
        whole = time.perf_counter() - start
    rest = {"reading, parsing, tensors": whole - sum(spent.values())}
    return {part: seconds / num for part, seconds in {**spent, **rest}.items()}, batches


@contextmanager
def _timed_samplers(module, spent):
    """Adds up the seconds of the functions that draw negatives."""

    def timed(part, function):
        def call(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            spent[part] += time.perf_counter() - start
            return result

        return call

    before = {
        name: getattr(module, name) for names in SAMPLERS.values() for name in names
    }
    for part, names in SAMPLERS.items():
        for name in names:
            setattr(module, name, timed(part, before[name]))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)
