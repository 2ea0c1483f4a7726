"""What the check runs on: device, driver and versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess

import jax

from experiments.device.accelerators import accelerator
from experiments.device.report import Report, Setting

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
MORE_PACKAGES = ("jax-cuda13-plugin", "jax-cuda12-plugin", "libtpu")
VARIABLES = ("JAX_", "XLA_", "CUDA_", "NVIDIA_TF32", "TF_GPU", "LIBTPU")


def run(setting: Setting, report: Report) -> None:
    """Describes the device; without ``rehearse`` it must be an accelerator."""
    device = jax.devices()[0] if setting.rehearse else accelerator()
    stats = device.memory_stats() or {}
    report.add(
        device=device.device_kind,
        platform=device.platform,
        count=jax.device_count(),
        versions=versions(),
        memory_limit_bytes=stats.get("bytes_limit"),
        backend=str(getattr(device.client, "platform_version", "")).split("\n"),
        driver=_driver(),
        host_cores=os.cpu_count(),
        variables={
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(VARIABLES)
        },
    )


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *MORE_PACKAGES):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _driver() -> str | None:
    """What NVIDIA's tool says of the driver; None where there is no such tool."""
    command = ("nvidia-smi", "--query-gpu=driver_version,memory.total,power.limit")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [*command, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()
    return None
