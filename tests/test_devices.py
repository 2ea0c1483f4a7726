"""The device is the one that was asked for, or a line says which it is and why."""

import importlib.metadata
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
import tiny
from conftest import PLATFORM
from test_steps import make_batch, make_step

from tron_jax import devices, memory
from tron_jax.errors import UserError
from tron_jax.training import step_programs
from tron_jax.training.step_programs import compile_steps

JAX = f"jax {jax.__version__}"
H100 = SimpleNamespace(
    platform="gpu",
    device_kind="NVIDIA H100 80GB HBM3",
    client=SimpleNamespace(platform_version="PJRT C API\ncuda 13000"),
)
# What jax may call the platform that the tests were asked to run on.
FOUND = {"cpu": ["cpu"], "cuda": ["gpu"], "tpu": ["tpu"], "device": ["gpu", "tpu"]}


@pytest.mark.device
def test_tests_run_where_they_were_asked_to_and_so_do_their_children():
    here = jax.devices()[0].platform
    assert here in FOUND[PLATFORM]
    assert {device.platform for device in jnp.zeros(3).devices()} == {here}
    code = "import jax; print(jax.devices()[0].platform)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == [here], done.stderr


@pytest.mark.device
def test_the_memory_of_the_device_is_known():
    """As preflight and the last line of a run go by it; a TPU need not say."""
    held = jnp.ones(10**6)
    assert memory.free_memory() > 0
    peak = memory.peak_memory().device
    if jax.default_backend() == "gpu":
        assert peak >= held.nbytes
    assert devices.describe().startswith("device: ")
    assert devices.warning_of_fallback() is None


@pytest.mark.device
def test_a_deterministic_step_makes_the_same_bits_when_compiled_again():
    """Sessions share items, so the gradients of a row are many to add up."""
    step, state = make_step("rows", dropout=0.1, exclude="batch", items=400)
    batches = [jax.device_put(make_batch(seed, items=12)) for seed in range(3)]
    ends = []
    state = jax.device_get(state)
    for _ in range(2):
        programs = compile_steps(step, state, batches[:1], deterministic=True)
        now = jax.device_put(state)
        for batch in batches:
            now, totals = programs(now, batch)
        ends.append((now, totals))
    tiny.assert_same_bits(*ends)


@pytest.mark.parametrize(
    ("backend", "deterministic", "options"),
    [
        ("gpu", True, {"xla_gpu_deterministic_ops": True}),
        ("gpu", False, None),
        ("cpu", True, None),
        ("tpu", True, None),
    ],
)
def test_a_gpu_alone_is_told_to_be_deterministic(
    monkeypatch, backend, deterministic, options
):
    """By an option that this version of XLA knows, or it would not compile."""
    told = []
    compile_ = jax.stages.Lowered.compile

    def compiled(self, compiler_options=None):
        told.append(compiler_options)
        return compile_(self, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    monkeypatch.setattr(step_programs.jax, "default_backend", lambda: backend)
    compile_steps(
        lambda state, batch, constants: (state + batch, None),
        jnp.zeros(2),
        [jnp.ones(2)],
        deterministic=deterministic,
    )
    assert told == [options]


def test_a_run_keeps_whether_it_is_deterministic(stopped, train):
    tiny.assert_refused(
        train(stopped, train__deterministic=True),
        "was trained with train.deterministic=False, not True",
    )


def test_a_line_of_the_device(monkeypatch):
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="cpu")])
    assert devices.describe() == f"device: CPU, {cores} cores, {JAX}"
    monkeypatch.setattr(jax, "devices", lambda: [H100])
    line = "device: NVIDIA H100 80GB HBM3 (cuda)"
    assert devices.describe() == f"{line}, {JAX}"
    monkeypatch.setattr(jax, "devices", lambda: [H100] * 8)
    assert devices.describe() == f"{line}, the first of 8, {JAX}"
    assert devices.warning_of_fallback() is None


@pytest.fixture
def machine(monkeypatch):
    """Pretends: what is installed, what JAX_PLATFORMS says, which GPUs are hidden."""
    before = jax.config.jax_platforms

    def pretend(installed, platforms=None, hidden=None):
        def version(name):
            if name not in installed:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(importlib.metadata, "version", version)
        jax.config.update("jax_platforms", platforms)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if hidden is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="cpu")])

    yield pretend
    jax.config.update("jax_platforms", before)


CUDA = {"jaxlib": "0.11.2", "jax-cuda13-plugin": "0.11.2"}
OLDER = {"jaxlib": "0.11.2", "jax-cuda12-plugin": "0.10.2"}
NO_GPU = "no GPU, no NVIDIA driver, or one too old for the plugin (see nvidia-smi)"


@pytest.mark.parametrize(
    ("installed", "platforms", "hidden", "found", "cause"),
    [
        (CUDA, None, None, "jax-cuda13-plugin 0.11.2 is installed", NO_GPU),
        (CUDA, "", "0", "jax-cuda13-plugin 0.11.2 is installed", NO_GPU),
        (
            CUDA,
            None,
            "",
            "jax-cuda13-plugin 0.11.2 is installed",
            "CUDA_VISIBLE_DEVICES='' hides every GPU",
        ),
        (
            OLDER,
            None,
            None,
            "jax-cuda12-plugin 0.10.2 is installed",
            "jax-cuda12-plugin 0.10.2 is not of jaxlib's version, 0.11.2",
        ),
        (
            {"jaxlib": "0.12.0", "jax-cuda13-plugin": "0.12.0.1"},
            None,
            None,
            "jax-cuda13-plugin 0.12.0.1 is installed",
            NO_GPU,
        ),
        ({"libtpu": "0.0.42"}, None, None, "libtpu 0.0.42 is installed", "is there"),
        (CUDA, "cuda,cpu", None, "JAX_PLATFORMS=cuda,cpu", NO_GPU),
        (
            {},
            "gpu,cpu",
            None,
            "JAX_PLATFORMS=gpu,cpu",
            "jax has no plugin for it here; tron-jax[cuda] has one",
        ),
    ],
)
def test_falling_back_to_the_cpu_is_said_with_its_cause(
    machine, installed, platforms, hidden, found, cause
):
    machine(installed, platforms, hidden)
    start = f"{found}, but jax fell back to the CPU: {cause}"
    assert devices.warning_of_fallback().startswith(start)


@pytest.mark.parametrize(("installed", "platforms"), [(CUDA, "cpu"), ({}, None)])
def test_a_cpu_that_was_asked_for_is_no_fallback(machine, capsys, installed, platforms):
    machine(installed, platforms)
    assert devices.warning_of_fallback() is None
    devices.check()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        # What jax raises: without a GPU, and without one that works.
        (AssertionError(), ""),
        (
            RuntimeError("Unable to initialize backend 'cuda': none (set JAX_PLAT"),
            " (Unable to initialize backend 'cuda': none (set JAX_PLAT)",
        ),
        (
            RuntimeError("No cuda (set JAX_PLATFORMS='' to …)\nmore"),
            " (No cuda)",
        ),
    ],
)
def test_a_device_that_cannot_be_had_is_refused(machine, monkeypatch, error, why):
    def fails():
        raise error

    machine(CUDA, "cuda")
    monkeypatch.setattr(jax, "devices", fails)
    line = f"JAX_PLATFORMS=cuda: {JAX} has no such device{why}: {NO_GPU}"
    for function in (devices.check, devices.describe):
        with pytest.raises(UserError) as refused:
            function()
        assert str(refused.value) == line


def test_training_and_evaluation_warn_of_a_fallback(tmp_path, train, evaluate):
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", "cuda,cpu")
    try:
        outcomes = [train(tmp_path / "run", train__epochs=1)]
        outcomes += [evaluate(tmp_path / "run")]
    finally:
        jax.config.update("jax_platforms", before)
    for status, _, err in outcomes:
        assert status == 0
        assert err.startswith("warning: JAX_PLATFORMS=cuda,cpu, but jax fell back to")
        assert err.count("\n") == 1
    assert outcomes[0][1].startswith("device: CPU, ")


@pytest.mark.portable
def test_training_where_no_device_is_to_be_had_ends_in_one_line(tmp_path, tiny_data):
    """As jax itself behaves where JAX_PLATFORMS names what is not there."""
    workdir = tmp_path / "run"
    command = [*tiny.PYTHON, "-m", "experiments.train"]
    # The group's default depends on the device, which must have been found by then.
    command += tiny.command(workdir, tiny_data, train__steps_per_group=0)[1:]
    environment = {**os.environ, "JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: JAX_PLATFORMS=cuda: {JAX} has no such device")
    assert "Traceback" not in done.stderr
    assert not workdir.exists()


@pytest.mark.parametrize("platform", ["device", "cuda"])
def test_tests_that_find_no_accelerator_end_in_one_line(platform):
    environment = {**os.environ, "TRON_TESTS_PLATFORM": platform}
    environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "pytest", "-m", "device", "tests/test_devices.py"]
    done = subprocess.run(
        command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert f"ERROR: TRON_TESTS_PLATFORM={platform}: " in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert done.stdout == ""
