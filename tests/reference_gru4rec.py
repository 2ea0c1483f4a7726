"""Slow, obvious NumPy for GRU4Rec, its optimizer and its evaluation, in float64."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(params, x, state):
    """One step of one slot: input and state [hidden] -> new state [hidden]."""
    layers = params["params"]

    def gates(x, name):
        kernel, bias = (np.float64(layers[name][key]) for key in ("kernel", "bias"))
        return np.split(x @ kernel + bias, 3)

    of_input, of_state = gates(np.float64(x), "inputs"), gates(state, "state")
    reset = sigmoid(of_input[0] + of_state[0])
    update = sigmoid(of_input[1] + of_state[1])
    new = np.tanh(of_input[2] + reset * of_state[2])
    return (1 - update) * new + update * state


def hidden_states(params, rows):
    """States of a session from its first input on, and the 1 that meets the bias."""
    state = np.zeros(rows.shape[1] - 1)
    states = []
    for row in rows:
        state = gru(params, row[:-1], state)
        states.append(np.append(state, 1))
    return np.array(states)


def adagrad(parameters, updates, rate, *, epsilon, in_root, momentum, sparse):
    """Adagrad from 0; updates: one gradient a step.

    sparse: an element without a gradient keeps its velocity and stays where it is.
    """
    parameters = np.array(parameters, np.float64)
    squares, velocity = np.zeros_like(parameters), np.zeros_like(parameters)
    for step, gradient in enumerate(updates):
        for at in np.ndindex(parameters.shape):
            g = gradient[at]
            if g == 0 and sparse:
                continue
            squares[at] += g**2
            root = np.sqrt(squares[at] + (epsilon if in_root else 0))
            root += 0 if in_root else epsilon
            moved = rate(step) * g / root if g else 0
            velocity[at] = momentum * velocity[at] - moved
            parameters[at] += velocity[at]
    return parameters


def slots_replayed(counts, num_slots):
    """Runs sessions through slots, one step at a time.

    Returns for each step the (slot, session, input) of every busy slot, and the number
    of steps before a free slot first finds the queue empty.
    """
    queue = list(range(len(counts)))
    slots, steps, full = [None] * num_slots, [], None
    while True:
        for slot in range(num_slots):
            if slots[slot] is None or slots[slot][1] == counts[slots[slot][0]]:
                slots[slot] = [queue.pop(0), 0] if queue else None
                if slots[slot] is None and full is None:
                    full = len(steps)
        if not any(slots):
            return steps, full
        steps.append([(n, *busy) for n, busy in enumerate(slots) if busy])
        for busy in filter(None, slots):
            busy[1] += 1
