"""Corrections of a session's own items in slow, obvious NumPy, click by click."""

import numpy as np

RECENT, MOST, FASTER = 10, 4, 10.0


def last_clicks(clicks):
    """The last clicks of a session, the last one first, then 0."""
    last = list(clicks)[::-1][:RECENT]
    return last + [0] * (RECENT - len(last))


def corrections(clicks, weights):
    """What is added to the scores of items after a session's clicks, by item."""
    ago, repeats = {}, 0
    for number, item in enumerate(list(clicks)[::-1][:RECENT]):
        if item in ago:
            repeats += 1
        else:
            ago[item] = number
    recency = np.asarray(weights["recency"], float)
    by_number = float(np.asarray(weights["repeats"], float)[min(repeats, MOST)])
    return {item: FASTER * (recency[n] + by_number) for item, n in ago.items()}


def histories(batch):
    """The clicks of each input's session up to the input; none of padding."""
    found = []
    for n, session in enumerate(batch.session):
        first = n
        while first > 0 and batch.session[first - 1] == session:
            first -= 1
        clicks = np.asarray(batch.items[first : n + 1]).tolist()
        found.append(clicks if batch.items[n] > 0 else [])
    return found


def loss(weights, batch, hidden, table, candidates, log_weight):
    """The mean over events whose label is not below all candidates that count.

    hidden: [N, d]; table: [items, d]; candidates: for each event, its scores.
    """
    losses = []
    for n, clicks in enumerate(histories(batch)):
        if not batch.weight[n] or not len(candidates[n]):
            continue
        state, added = np.asarray(hidden[n], float), corrections(clicks, weights)
        scores = {item: state @ table[item] + added[item] for item in added}
        label = int(batch.labels[n])
        of_label = scores.pop(label, state @ table[label])
        if of_label < min(candidates[n]):
            continue
        competing = [of_label, *scores.values()]
        competing += [score + log_weight for score in candidates[n]]
        highest = max(competing)
        total = sum(np.exp(score - highest) for score in competing)
        losses.append(highest + np.log(total) - of_label)
    return sum(losses) / max(len(losses), 1)
