"""Checkpoints of processes that the disk or a signal cuts short."""

import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from tron_jax.errors import UserError
from tron_jax.storage.checkpoints import Checkpoints


# 300 kB stops the arrays; 100 bytes the small files as well.
@pytest.mark.parametrize("limit", [300_000, 100])
def test_full_disk_leaves_the_former_ones(tmp_path, limit):
    state = [jnp.arange(100_000, dtype=jnp.float32), jnp.int32(1)]
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {"at": 1}, score=1.0, wait=True)
    with tiny.largest_file(limit):
        checkpoints.save(2, state, {"at": 2})
        with pytest.raises(UserError) as caught:
            checkpoints.wait()
    message = f"cannot write checkpoint {tmp_path}/2: File too large"
    assert str(caught.value) == message
    checkpoints.check()  # it is raised once
    assert checkpoints.restore_newest(jax.eval_shape(lambda: state))[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    checkpoints.save(2, state, {}, wait=True)
    assert checkpoints.steps() == [1, 2]


KILLED = """
import itertools, sys
import jax, jax.numpy as jnp
from absl import logging
from tron_jax.storage.checkpoints import Checkpoints

logging.set_verbosity(logging.INFO)
make = jax.jit(lambda step: [jnp.full(300_000, step, jnp.float32), jnp.int32(step)])
like = jax.eval_shape(make, 0)
checkpoints = Checkpoints(sys.argv[1], keep_last=2)
newest = checkpoints.restore_newest(like)
step = newest[0] if newest else 0
print(step, flush=True)
while True:
    step += 1
    checkpoints.save(step, make(step), {"at": step}, score=-abs(step - 3.0))
"""


def test_killed_at_any_moment(tmp_path):
    rng = np.random.default_rng(0)
    like = [
        jax.ShapeDtypeStruct((300_000,), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.int32),
    ]
    newest = 0
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert int(child.stdout.readline()) == newest
        checkpoints = Checkpoints(tmp_path, keep_last=2)
        deadline = time.monotonic() + 60
        while (checkpoints.latest_step() or 0) < newest + 2:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.04))
        child.send_signal(signal.SIGKILL)
        _, noise = child.communicate(timeout=60)
        assert noise == ""
        steps = checkpoints.steps()
        # Between a rename and the deletion that follows there is one more.
        assert len(steps) <= 4
        for step in steps:
            state, info = checkpoints.restore(step, like)
            assert info == {"at": step}
            np.testing.assert_array_equal(state[0], np.float32(step))
        assert max(steps) >= newest + 2
        newest = max(steps)
        assert newest < 3 or 3 in steps
    assert newest > 3
    assert {path.name for path in tmp_path.iterdir()} <= {
        *map(str, steps),
        ".unfinished",
    }
