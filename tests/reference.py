"""Slow, obvious NumPy: what the fast code must equal."""

import numpy as np


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def ssm(pos, neg):
    """Sampled softmax of one event over the negatives that count."""
    if not len(neg):
        return 0.0
    logits = np.append(neg, pos)
    highest = logits.max()
    return highest + np.log(np.exp(logits - highest).sum()) - pos


def bce(pos, neg):
    if not len(neg):
        return 0.0
    return softplus(-pos) + softplus(neg).mean()


LOSSES = {"ssm": ssm, "bce": bce}


def batch_loss(batch, hidden, table, candidates, loss, *, topk, mask_hits):
    """Mean loss of a batch, event by event, in float64.

    candidates: drawn ids, whether they count, in-batch places and keep per session.
    """
    drawn, drawn_keep, places, places_keep = candidates
    total = count = 0.0
    for event in range(len(batch.items)):
        if batch.weight[event] == 0:
            continue
        session, label = batch.session[event], batch.labels[event]
        ids = list(drawn[0]) if drawn_keep else []
        for place, keep in zip(places[session], places_keep[session], strict=True):
            if keep:
                ids.append(batch.items[place])
        if mask_hits:
            ids = [item for item in ids if item != label]
        state = np.asarray(hidden[event], np.float64)
        negatives = np.sort([float(state @ table[item]) for item in ids])
        if topk:
            negatives = negatives[-topk:]
        total += LOSSES[loss](float(state @ table[label]), negatives)
        count += 1
    return total / count


def packed(sessions, rows, *, max_session_length, position):
    """Items, labels, session numbers and positions of a batch, one by one."""
    stream = []
    for number, row in enumerate(rows):
        clicks = list(sessions[row])[-(max_session_length + 1) :]
        inputs = len(clicks) - 1
        for i in range(inputs):
            shift = max_session_length - inputs if position == "from_end" else 0
            stream.append((clicks[i], clicks[i + 1], number, i + shift))
    return [np.array(column) for column in zip(*stream, strict=True)]


def dense_adam(table, gradients, rate, b1=0.9, b2=0.999, epsilon=1e-8):
    """Adam in float64; gradients: one array or None per step; rate: of step from 0."""
    table = np.array(table, np.float64)
    mu, nu = np.zeros_like(table), np.zeros_like(table)
    for step, gradient in enumerate(gradients, start=1):
        gradient = np.zeros_like(table) if gradient is None else gradient
        mu = b1 * mu + (1 - b1) * gradient
        nu = b2 * nu + (1 - b2) * gradient**2
        mu_hat, nu_hat = mu / (1 - b1**step), nu / (1 - b2**step)
        table = table - rate(step - 1) * mu_hat / (np.sqrt(nu_hat) + epsilon)
    return table


def sasrec(params, inputs, position):
    """Hidden states of one sequence in float64: embeddings [n, hidden], positions [n].

    One head; the parameters of ``make_sasrec``.
    """
    params = params["params"]

    def dense(x, layer):
        return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])

    def norm(x, layer):
        centred = x - x.mean(1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
        return centred / deviation * np.float64(layer["scale"]) + layer["bias"]

    n, hidden = inputs.shape
    x = np.float64(inputs) * np.sqrt(hidden) + params["positions"][position]
    layer = 0
    while f"attention_{layer}" in params:
        attention = params[f"attention_{layer}"]
        normed = norm(x, params[f"attention_norm_{layer}"])
        query, key, value = np.split(dense(normed, attention["qkv"]), 3, axis=1)
        mixed = np.zeros_like(x)
        for i in range(n):
            score = key[: i + 1] @ query[i] / np.sqrt(hidden)
            weight = np.exp(score - score.max())
            mixed[i] = weight @ value[: i + 1] / weight.sum()
        x = x + dense(mixed, attention["out"])
        feedforward = params[f"feedforward_{layer}"]
        normed = norm(x, params[f"feedforward_norm_{layer}"])
        inner = np.maximum(dense(normed, feedforward["in"]), 0)
        x = x + dense(inner, feedforward["out"])
        layer += 1
    return norm(x, params["final_norm"])
