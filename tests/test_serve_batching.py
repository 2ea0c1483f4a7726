"""What arrives within a moment is worked on together, and never too much of it."""

import threading
import time

import pytest

from tron_jax.serving.batching import Batcher, Full, Late


class Worker:
    """Doubles values, remembers what came together, and waits where told to."""

    def __init__(self):
        self.batches = []
        self.may = threading.Event()
        self.may.set()
        self.busy = threading.Event()

    def __call__(self, values):
        self.batches.append(values)
        self.busy.set()
        assert self.may.wait(30)
        if "bad" in values:
            raise ValueError("bad")
        return [2 * value for value in values]


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def batcher(worker):
    made = Batcher(worker, most=4, room=6, wait=0.0)
    yield made
    worker.may.set()
    made.close()


def held(batcher, worker):
    """Keeps the thread busy with a first value."""
    worker.may.clear()
    first = batcher.submit([100], 60)
    assert worker.busy.wait(30)
    return first


def results(futures):
    return [future.result(30) for future in futures]


def test_what_waits_is_done_together_in_order(batcher, worker):
    first = held(batcher, worker)
    rest = [*batcher.submit([1, 2], 60), *batcher.submit([3, 4, 5], 60)]
    worker.may.set()
    assert results(first + rest) == [200, 2, 4, 6, 8, 10]
    assert worker.batches == [[100], [1, 2, 3, 4], [5]]


def test_the_queue_is_bounded_and_takes_all_or_none(batcher, worker):
    first = held(batcher, worker)
    rest = batcher.submit([1, 2, 3, 4, 5], 60)
    with pytest.raises(Full):
        batcher.submit([6, 7], 60)
    assert len(batcher) == 5
    worker.may.set()
    results(first + rest)
    assert [value for batch in worker.batches for value in batch] == [
        100,
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_failure_is_that_of_its_batch(batcher, worker):
    first = held(batcher, worker)
    bad = batcher.submit(["bad", 1], 60)
    worker.may.set()
    results(first)
    for future in bad:
        with pytest.raises(ValueError, match="bad"):
            future.result(30)
    assert results(batcher.submit([3], 60)) == [6]


def test_nobody_waits_for_what_is_late_or_cancelled(batcher, worker):
    first = held(batcher, worker)
    late, gone = *batcher.submit([1], -1), *batcher.submit([2], 60)
    assert gone.cancel()
    kept = batcher.submit([3], 60)
    worker.may.set()
    assert results(first + kept) == [200, 6]
    with pytest.raises(Late):
        late.result(30)
    assert worker.batches == [[100], [3]]


def test_the_first_waits_for_others(worker):
    batcher = Batcher(worker, most=3, room=9, wait=60.0)
    futures = [*batcher.submit([1], 99), *batcher.submit([2, 3], 99)]
    assert results(futures) == [2, 4, 6]
    last = batcher.submit([4], 99)
    batcher.close()
    assert results(last) == [8]
    assert worker.batches == [[1, 2, 3], [4]]


def test_a_thread_that_hangs_or_has_ended_is_seen(worker):
    batcher = Batcher(worker, most=3, room=9, wait=0.0)
    assert not batcher.stuck(0)
    first = held(batcher, worker)
    assert batcher.stuck(0)
    assert not batcher.stuck(60)
    worker.may.set()
    results(first)
    batcher.close()
    assert batcher.stuck(60)


def test_nothing_is_taken_once_closed(worker):
    batcher = Batcher(worker, most=3, room=9, wait=0.001)
    assert results(batcher.submit([1], 99)) == [2]
    batcher.close()
    with pytest.raises(Full):
        batcher.submit([1], 99)


def test_clocks_say_how_long_the_first_has_waited(worker):
    now = time.monotonic()
    ticks = iter([now, now + 61, now + 61, now + 61])
    batcher = Batcher(worker, most=3, room=9, wait=60.0, clock=lambda: next(ticks))
    assert results(batcher.submit([1], 99)) == [2]
    batcher.close()
