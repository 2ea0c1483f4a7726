"""Settings that must stand before JAX starts, and what tests share."""

import os
from pathlib import Path

import numpy as np
import pytest

# Tests that need several devices or the GPU start a process of their own.
os.environ["JAX_PLATFORMS"] = "cpu"

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The raw logs beside the checkout, which a clean clone elsewhere lacks."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data in {REAL_DATA}")
    return REAL_DATA


@pytest.fixture(scope="session")
def golden_file():
    """Loads arrays of tests/golden, by file name; where they are from: its README."""

    def load(name):
        with np.load(Path(__file__).parent / "golden" / name) as arrays:
            return dict(arrays)

    return load
