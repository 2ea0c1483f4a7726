"""The device that computes, and whether it is the one that was asked for."""

from __future__ import annotations

import importlib.metadata
import os

import jax
from jax.experimental import topologies

from tron_jax.console.messages import warn
from tron_jax.errors import UserError

# What brings jax to an accelerator: the package, and the platform it is for.
PLUGINS = {"jax-cuda13-plugin": "cuda", "jax-cuda12-plugin": "cuda", "libtpu": "tpu"}
# Names in JAX_PLATFORMS of what jax calls a GPU.
ALIASES = {"gpu": "cuda"}
# For libtpu, which else locks the machine's TPU to this process, and complains on
# stderr that it does not know where it is.
COMPILES_ALONE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def describe() -> str:
    """Returns a line of the device that computes, such as ``device: CPU, 2 cores``.

    Raises:
      UserError: if JAX_PLATFORMS asks for one that cannot be had.
    """
    first, *others = _devices()
    version = f"jax {jax.__version__}"
    if first.platform == "cpu":
        return f"device: CPU, {cores()} cores, {version}"
    named = "cuda" if "cuda" in first.client.platform_version else first.platform
    unused = f", the first of {1 + len(others)}" if others else ""
    return f"device: {first.device_kind} ({named}){unused}, {version}"


def check() -> None:
    """Warns in one line where an accelerator was expected and a CPU computes.

    Raises:
      UserError: if JAX_PLATFORMS asks for a device that cannot be had.
    """
    warning = warning_of_fallback()
    if warning is not None:
        warn(warning)


def warning_of_fallback() -> str | None:
    """Says that jax fell back to the CPU, and likely causes; None where it did not.

    It did if JAX_PLATFORMS names an accelerator, or if that is not set and a plugin for
    one is installed.

    Raises:
      UserError: if JAX_PLATFORMS asks for a device that cannot be had.
    """
    if _devices()[0].platform != "cpu":
        return None
    asked = _asked()
    if asked:
        wanted = [name for name in asked if name != "cpu"]
        found = f"JAX_PLATFORMS={_platforms()}"
    else:
        installed = _installed()
        wanted = [PLUGINS[name] for name in installed]
        found = ", ".join(f"{name} {version}" for name, version in installed.items())
        found = f"{found} is installed"
    if not wanted:
        return None
    return f"{found}, but jax fell back to the CPU: {_likely_cause(wanted[0])}"


def of_topology(name: str) -> list[jax.Device]:
    """Returns the devices of a slice of TPUs, which need not be there to compile for.

    Args:
      name: kind and shape, such as ``v5e:2x4``.

    Raises:
      UserError: if there is no such slice, or no libtpu.
    """
    if "libtpu" not in _installed():
        raise UserError(
            f"topology {name} is one of TPUs, for which only libtpu compiles; "
            "tron-jax[tpu] has it"
        )
    for variable, value in COMPILES_ALONE.items():
        os.environ.setdefault(variable, value)
    try:
        return list(topologies.get_topology_desc(name, "tpu").devices)
    except (RuntimeError, ValueError) as error:
        why = str(error).partition("\n")[0].partition(": ")[2] or error
        raise UserError(
            f"topology {name!r}: {why}; expected one such as v5e:2x4 or v5p:2x2x2"
        ) from error


def _devices() -> list[jax.Device]:
    """The devices of the platform that jax takes, or one line of why there is none."""
    try:
        return jax.devices()
    # Without a GPU, JAX_PLATFORMS=cuda ends in an assertion that says nothing.
    except (RuntimeError, AssertionError) as error:
        asked = [name for name in _asked() if name != "cpu"]
        if not asked:
            raise
        why = str(error).partition("\n")[0].partition(" (set JAX_PLATFORMS")[0]
        raise UserError(
            f"JAX_PLATFORMS={_platforms()}: jax {jax.__version__} has no such device"
            f"{f' ({why})' if why else ''}: {_likely_cause(asked[0])}"
        ) from error


def _platforms() -> str:
    """What JAX_PLATFORMS says, or a program has set since."""
    return getattr(jax.config, "jax_platforms", None) or ""


def _asked() -> list[str]:
    """The platforms that JAX_PLATFORMS names, in order."""
    names = map(str.strip, _platforms().split(","))
    return [ALIASES.get(name, name) for name in names if name]


def _installed() -> dict[str, str]:
    """The version of each plugin that is installed; none is imported."""
    found = {}
    for name in PLUGINS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _likely_cause(platform: str) -> str:
    """Why jax may have found no device of a platform: what can be seen, or a guess."""
    installed = {
        name: version
        for name, version in _installed().items()
        if PLUGINS[name] == platform
    }
    if platform in PLUGINS.values() and not installed:
        return f"jax has no plugin for it here; tron-jax[{platform}] has one"
    if platform != "cuda":
        return "is there one in this machine that no other process holds?"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU"
    jaxlib = importlib.metadata.version("jaxlib")
    for name, version in installed.items():
        if version.split(".")[:3] != jaxlib.split(".")[:3]:  # 0.12.0.1 is of 0.12.0
            return f"{name} {version} is not of jaxlib's version, {jaxlib}"
    return "no GPU, no NVIDIA driver, or one too old for the plugin (see nvidia-smi)"


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
