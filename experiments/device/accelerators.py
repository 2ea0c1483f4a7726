"""Whether there is an accelerator, and what it is."""

from __future__ import annotations

import importlib.metadata
import os

import jax

from tron_jax.errors import UserError

CUDA_PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")


def accelerator() -> jax.Device:
    """Returns the first accelerator.

    Raises:
      UserError: if there is none; says so specially where CUDA was asked for.
    """
    asked = os.environ.get("JAX_PLATFORMS", "")
    try:
        device = jax.devices()[0]
    except Exception as error:  # jax raises several kinds, an AssertionError among them
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"no accelerator: JAX_PLATFORMS={asked}, but jax cannot start it ({why}); "
            "expected a GPU or TPU, or --rehearse"
        ) from error
    if device.platform != "cpu":
        return device
    plugins = [name for name in CUDA_PLUGINS if _installed(name)]
    fallen = ""
    if plugins and "cpu" not in asked:
        fallen = f"{plugins[0]} is installed, but jax fell back to the CPU; "
    raise UserError(
        f"no accelerator: {fallen}jax found only {device.device_kind}; "
        "expected a GPU or TPU, or --rehearse"
    )


def refuse_other(kind: str) -> None:
    """Raises UserError where jax has another device than before: figures would lie."""
    found = jax.devices()[0].device_kind
    if found != kind:
        raise UserError(f"jax now has {found}, not {kind}")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
