"""Settings that must stand before JAX starts, and what tests share."""

import gc
import importlib.util
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

# Where tests run, and the programs that they start: cpu, cuda, tpu, or device, which is
# whatever accelerator jax finds. Those that prove the numbers there: -m device.
PLATFORM = os.environ.get("TRON_TESTS_PLATFORM", "cpu")
if PLATFORM == "cpu":
    # Tests compile much and compute little, so LLVM need not optimise. To generate
    # fused loops by way of MLIR takes half of the time of a compilation, and to divide
    # a small program among threads an eighth.
    os.environ["XLA_FLAGS"] = (
        "--xla_backend_optimization_level=0 "
        "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters "
        "--xla_cpu_parallel_codegen_split_count=1"
    )
    # For tests of many devices, which run in a process of their own.
    if played := os.environ.get("TRON_TESTS_DEVICES"):
        os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={played}"
else:
    # Room for the processes that tests start, and for the one that may have started us.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    # No kernel is timed to choose the fastest: they run once.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0".strip()
    # What XLA logs would be taken for words of the program under test.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if PLATFORM != "device":
    os.environ["JAX_PLATFORMS"] = PLATFORM

# A machine that has what a device needs and no more lacks what a server needs.
collect_ignore_glob = (
    ["test_serve*"]
    if PLATFORM != "cpu" and importlib.util.find_spec("fastapi") is None
    else []
)

LOGGED = re.compile(
    r"^([IWE]\d{4} |\d{4}-\d\d-\d\d .*: [IWE] |WARNING: All log messages).*\n?", re.M
)

# Tests save thousands of checkpoints, each of many small files, and wait until the disk
# has them. That is half of the time, where there is no memory to have them in.
IN_MEMORY, ROOM = "/dev/shm", 4e9  # they need a gigabyte
TEMPORARY = "PYTEST_DEBUG_TEMPROOT"  # where pytest makes its temporary folders
if os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > ROOM:
    os.environ.setdefault(TEMPORARY, IN_MEMORY)

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# A shell that ignores SIGINT passes that on, to us and to the children of tests.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session):
    # What is imported by now stays: to look through it for garbage takes a twentieth.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_configure(config):
    # ml_collections loads config files in a manner that Python will drop.
    config.addinivalue_line(
        "filterwarnings", "ignore:the load_module:DeprecationWarning"
    )
    if PLATFORM != "cpu":
        refuse_cpu()


def refuse_cpu():
    """Ends the run in one line where there is no accelerator to run it on."""
    from tron_jax import devices
    from tron_jax.errors import UserError

    try:
        found, fallback = devices.describe(), devices.warning_of_fallback()
    except UserError as error:
        raise pytest.UsageError(f"TRON_TESTS_PLATFORM={PLATFORM}: {error}") from None
    if found.startswith("device: CPU"):
        why = fallback or f"jax finds no accelerator; {found}"
        raise pytest.UsageError(f"TRON_TESTS_PLATFORM={PLATFORM}: {why}")


@pytest.fixture
def full_float32():
    """Makes matmuls of float32 those of float32, which no accelerator does unasked."""
    import jax

    with jax.default_matmul_precision("highest"):
        yield


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


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A prepared data set that a run of tests/tiny.py trains on."""
    import tiny

    return tiny.write_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def compilations(tmp_path_factory) -> Path:
    """Where the programs of this session keep what they compiled."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory, tiny_data, compilations):
    """Finished runs, trained once each: ``tiny_runs("rows")`` is a workdir to read."""
    import tiny

    from experiments import train
    from tron_jax.reporting import plots

    made: dict[str, Path] = {}
    plot_run = plots.plot_run

    def run(mode: str) -> Path:
        if mode not in made:
            workdir = tmp_path_factory.mktemp(mode) / "run"
            with (
                tiny.compiled_once(compilations),
                pytest.MonkeyPatch.context() as patch,
            ):
                # The first to ask may be a test whose own runs have no picture.
                patch.setattr(plots, "plot_run", plot_run)
                assert train.main(tiny.command(workdir, tiny_data, mode)) == 0
            made[mode] = workdir
        return made[mode]

    return run


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory, tiny_runs, compilations) -> Path:
    """An exported model, to be read."""
    import tiny

    from experiments import export

    out = tmp_path_factory.mktemp("exported") / "model"
    argv = ["export", f"--workdir={tiny_runs('rows')}", f"--out={out}"]
    with tiny.compiled_once(compilations):
        assert export.main(argv) == 0
    return out


@pytest.fixture(scope="module")
def compiled(compilations, tiny_export):
    """Lets the servers of a module share what they compile."""
    import tiny

    with tiny.compiled_once(compilations):
        yield


@pytest.fixture(scope="session")
def _stopped(tmp_path_factory, tiny_data, compilations) -> Path:
    import tiny

    from experiments import train

    workdir = tmp_path_factory.mktemp("stopped") / "run"
    with tiny.compiled_once(compilations), pytest.MonkeyPatch.context() as patch:
        signal_at(patch, signal.SIGTERM, 33)
        without_plot(patch)
        assert train.main(tiny.command(workdir, tiny_data)) == 128 + signal.SIGTERM
    return workdir


@pytest.fixture
def stopped(tmp_path, _stopped) -> Path:
    """A copy of a run that SIGTERM stopped at step 33 of 50, between two lines."""
    shutil.copytree(_stopped, tmp_path / "stopped")
    return tmp_path / "stopped"


def signal_at(patch: pytest.MonkeyPatch, number: int, at: int) -> None:
    """Sends this process a signal once a step of training has been dispatched."""
    from tron_jax.training import log_windows

    add = log_windows.Recorder.add

    def added(self, step, totals):
        if step == at:
            os.kill(os.getpid(), number)
        add(self, step, totals)

    patch.setattr(log_windows.Recorder, "add", added)


def said(capfd) -> tuple[str, str]:
    """What a program wrote since last asked; not what XLA logs of a device."""
    out, err = capfd.readouterr()
    return out, err if PLATFORM == "cpu" else LOGGED.sub("", err)


def without_plot(patch: pytest.MonkeyPatch) -> None:
    """Spares a run its picture, which takes as long as fifty steps."""
    from tron_jax.reporting import plots

    patch.setattr(plots, "plot_run", lambda metrics, picture: True)


@pytest.fixture
def train(tiny_data, compilations, capfd):
    """Runs the training program: ``(workdir, mode, **fields) -> status, out, err``.

    It draws no plot, unless a test sees to that itself.
    """
    import tiny

    from experiments import train
    from tron_jax.reporting import plots

    plot_run = plots.plot_run

    def call(workdir, mode="rows", *arguments, data=tiny_data, **fields):
        capfd.readouterr()
        argv = [*tiny.command(workdir, data, mode, **fields), *arguments]
        with tiny.compiled_once(compilations), pytest.MonkeyPatch.context() as patch:
            if plots.plot_run is plot_run:
                without_plot(patch)
            status = train.main(argv)
        return status, *said(capfd)

    return call


@pytest.fixture
def evaluate(compilations, capfd):
    """Runs the evaluation program likewise: ``(workdir, *arguments)``."""
    import tiny

    from experiments import evaluate

    def call(workdir, *arguments):
        capfd.readouterr()
        with tiny.compiled_once(compilations):
            status = evaluate.main(["evaluate", f"--workdir={workdir}", *arguments])
        return status, *said(capfd)

    return call
