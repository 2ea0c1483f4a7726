"""Eight devices that the CPU plays: those are there in a process of their own alone."""

import os
import re
import subprocess
import sys

import jax
import pytest
import tiny

DEVICES = 8
ASKED = "TRON_TESTS_DEVICES"  # the variable by which conftest.py has the CPU play them
many = pytest.mark.skipif(
    jax.device_count() < DEVICES, reason="in a process with eight devices"
)
starts_them = pytest.mark.skipif(
    ASKED in os.environ or jax.default_backend() != "cpu",
    reason="it is that process, or there is no CPU",
)


def assert_passes(file, at_least):
    """Runs the tests of a file in a process that has them."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(file)],
        cwd=tiny.ROOT,
        env=os.environ | {ASKED: str(DEVICES)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    outcomes = "".join(re.findall(r"^([.s]+) *\[", done.stdout, re.M))
    assert outcomes.count("s") == 1  # the test that has started it
    assert outcomes.count(".") >= at_least
