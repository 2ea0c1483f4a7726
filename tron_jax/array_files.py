"""A pytree of arrays as files, through Orbax."""

import errno
import logging
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp


def start_writing(folder: Path, tree: Any) -> ocp.AsyncResponse[None]:
    """Copies the arrays and writes them in the background.

    Args:
      folder: made by this; absolute.
      tree: pytree of arrays, free to be donated once this returns.

    Returns:
      A response whose ``result()`` waits until the folder is complete, or raises.
    """
    _hush_orbax()
    context = ocp.Context()
    context.array.saving.use_compression = False  # weights hardly compress
    with context, jax.transfer_guard("allow"):
        # Orbax keeps views of arrays that lie in host memory, which the next step
        # would then have to copy before it may write there. Copied here, the time
        # counts as saving. From other devices Orbax copies by itself.
        copied = jax.block_until_ready(jax.tree.map(_copy_if_on_host, tree))
        return ocp.save_async(str(folder), copied)


def read(folder: Path, like: Any) -> Any:
    """Returns the arrays, bit for bit.

    Args:
      folder: what ``start_writing`` made.
      like: the tree with a shape and dtype for each array; a leaf that names a
        sharding is read to it, others to the first device.
    """
    _hush_orbax()
    first = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def abstract(x: Any) -> jax.ShapeDtypeStruct:
        sharding = getattr(x, "sharding", None) or first
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return ocp.load(str(folder), jax.tree.map(abstract, like))


def describe(tree: Any) -> dict[str, str]:
    """Returns each array's dtype and shape under its path, such as '.params[0]'."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(k): f"{x.dtype}{list(x.shape)}" for k, x in leaves}


def difference(saved: dict[str, str], expected: dict[str, str]) -> str | None:
    """Returns how the first array that differs does, None where all agree.

    Args:
      saved: what ``describe`` returned when the arrays were written.
      expected: the same of the arrays that are asked for.
    """
    for name in [*expected, *saved]:
        was, now = saved.get(name, "absent"), expected.get(name, "absent")
        if was != now:
            return f"{name} is {was}, expected {now}"
    return None


def disk_error(error: BaseException) -> str | None:
    """Returns what the system said, None where an error is no matter of the disk.

    TensorStore passes the system's errors on as text in a ValueError.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    reasons = [os.strerror(code) for code in (*codes, errno.EACCES, errno.ENOTDIR)]
    return next((reason for reason in reasons if reason in str(error)), None)


def _copy_if_on_host(x: Any) -> Any:
    on_host = any(device.platform == "cpu" for device in x.sharding.device_set)
    return jnp.copy(x) if on_host else x


def _hush_orbax() -> None:
    """Keeps Orbax out of the program's log; what fails there is raised as well."""
    log = logging.getLogger("absl")
    if _not_from_orbax not in log.filters:
        log.addFilter(_not_from_orbax)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname
