"""Slow, obvious NumPy in float64: losses of one event, corrections, full softmax."""

import numpy as np
from reference import bce, ssm


def log_sum_exp(x):
    highest = np.max(x)
    return highest + np.log(np.exp(x - highest).sum())


def bpr_max(pos, neg, penalty):
    share = np.exp(neg - log_sum_exp(neg))
    below = (share / (1 + np.exp(neg - pos))).sum()
    return -np.log(below) + penalty * (share * neg**2).sum()


def gbce(pos, neg, calibration, num_candidates, num_items):
    alpha = num_candidates / (num_items - 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    positive = np.log((1 / (1 + np.exp(-pos))) ** beta)
    negative = np.log(1 - 1 / (1 + np.exp(-neg))).sum()
    return -(positive + negative) / (len(neg) + 1)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * (np.exp(x) - 1))


def loss(name, pos, neg, keep, settings, elu_alpha=0.0):
    """[N] losses of events by the negatives that are kept."""
    extra = {
        "bpr_max": [settings["penalty"]],
        "gbce": [settings[x] for x in ("calibration", "num_candidates", "num_items")],
    }
    of_event = {"ssm": ssm, "bce": bce, "bpr_max": bpr_max, "gbce": gbce}[name]
    losses = []
    for event in range(len(pos)):
        p, n = np.float64(pos[event]), np.float64(neg[event][keep[event]])
        if elu_alpha:
            p, n = elu(p, elu_alpha), elu(n, elu_alpha)
        losses.append(of_event(p, n, *extra.get(name, [])) if len(n) else 0.0)
    return np.array(losses)


def expected_draws(counts, *, num_uniform, num_popularity, num_in_batch, exponent):
    """[num_items + 1] how often each item is among an event's candidates; counts too.

    counts[0] belongs to padding and counts nowhere.
    """
    clicks = np.float64(counts[1:])
    expected = np.full(len(clicks), num_uniform / len(clicks))
    expected += num_popularity * clicks**exponent / (clicks**exponent).sum()
    expected += num_in_batch * clicks / clicks.sum()
    return np.append(np.nan, expected)


def full_softmax(hidden, table, labels, weight, divisor):
    """Summed loss, and the gradients of sum / divisor by hidden states and table."""
    hidden, table = np.float64(hidden), np.float64(table)
    total, by_hidden, by_table = 0.0, np.zeros(hidden.shape), np.zeros(table.shape)
    for event, label in enumerate(labels):
        scores = table[1:] @ hidden[event]
        total += weight[event] * (log_sum_exp(scores) - table[label] @ hidden[event])
        error = np.append(0, np.exp(scores - log_sum_exp(scores)))
        error[label] -= 1
        error *= weight[event] / divisor
        by_hidden[event] = error @ table
        by_table += np.outer(error, hidden[event])
    return total, by_hidden, by_table
