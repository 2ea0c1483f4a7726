"""Session-parallel batches as one would tell them: step by step, slot by slot."""

import collections


def steps(counts, num_slots):
    """Yields each step of an epoch: per slot (session, input), or None where idle."""
    queue = collections.deque(range(len(counts)))
    slots = [None] * num_slots
    while True:
        for slot in range(num_slots):
            if slots[slot] is None and queue:
                slots[slot] = (queue.popleft(), 0)
        if not any(slots):
            return
        yield list(slots)
        for slot in range(num_slots):
            if slots[slot] is not None:
                session, i = slots[slot]
                done = i + 1 == counts[session]
                slots[slot] = None if done else (session, i + 1)
