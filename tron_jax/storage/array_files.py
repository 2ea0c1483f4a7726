"""A pytree of arrays as files, through Orbax."""

import contextlib
import errno
import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from orbax.checkpoint import v1 as ocp

from tron_jax.memory import size

PIECE = 1 << 26  # bytes of an array that are read at a time


def start_writing(folder: Path, tree: Any, *, copy: bool) -> ocp.AsyncResponse[None]:
    """Writes the arrays in the background.

    Args:
      folder: made by this; absolute.
      tree: pytree of arrays. Where they are copied, they are free to be donated once
        this returns; else once the result is there, and until then nothing is held
        of them a second time.
      copy: copy arrays that lie in host memory. From other devices Orbax copies.

    Returns:
      A response whose ``result()`` waits until the folder is complete, or raises.
    """
    _hush_orbax()
    context = ocp.Context()
    context.array.saving.use_compression = False  # weights hardly compress
    context.array.saving.use_ocdbt = False  # else ``read`` cannot go by pieces
    with context, jax.transfer_guard("allow"):
        if copy:
            # Orbax keeps views of these, and the next step would have to copy what it
            # may not overwrite. Copied here, the time counts as saving.
            tree = jax.block_until_ready(jax.tree.map(_copy_if_on_host, tree))
        return ocp.save_async(str(folder), tree)


def read(folder: Path, like: Any) -> Any:
    """Returns the arrays, bit for bit.

    Orbax reads an array into the host's memory and has the device copy it; of large
    ones this holds no more than a piece beside the array itself.

    Args:
      folder: what ``start_writing`` made.
      like: the tree with a shape and dtype for each array; a leaf that names a
        sharding is read to it, others to the first device.
    """
    _hush_orbax()
    first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    in_pieces: dict[str, Path] = {}

    def abstract(path: Any, x: Any) -> Any:
        sharding = getattr(x, "sharding", None) or first
        data = _plain_file(folder, path, x)
        if data is not None and len(sharding.device_set) == 1:
            in_pieces[jax.tree_util.keystr(path)] = data
            return ocp.PLACEHOLDER
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    wanted = jax.tree_util.tree_map_with_path(abstract, like)
    loaded = ocp.load(str(folder), wanted)

    def complete(path: Any, x: Any, from_orbax: Any) -> jax.Array:
        data = in_pieces.get(jax.tree_util.keystr(path))
        if data is None:
            return from_orbax
        return _read_in_pieces(data, x, getattr(x, "sharding", None) or first)

    with jax.transfer_guard("allow"):
        return jax.tree_util.tree_map_with_path(complete, like, loaded)


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


def _plain_file(folder: Path, path: Any, x: Any) -> Path | None:
    """The file of a large array that holds it as it lies in memory, if there is one.

    Zarr's codec ``sharding_indexed`` puts an index behind the data: 16 bytes that say
    where its only chunk starts and how long it is, and 4 of checksum.
    """
    if x.ndim == 0 or size(x) < PIECE:
        return None
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    data = folder / "state" / name / "c" / "/".join("0" * x.ndim)
    with contextlib.suppress(OSError), data.open("rb") as file:
        if file.seek(0, os.SEEK_END) == size(x) + 20:
            file.seek(-20, os.SEEK_END)
            start, count = np.frombuffer(file.read(16), "<u8")
            if (start, count) == (0, size(x)):
                return data
    return None


def _read_in_pieces(path: Path, like: Any, sharding: jax.sharding.Sharding) -> Any:
    """Fills an array on the device, which owns it: it may be donated without a copy."""
    row = size(like) // like.shape[0]
    rows = min(max(PIECE // row, 1), like.shape[0])
    whole = jnp.zeros(like.shape, like.dtype, device=sharding)
    with path.open("rb") as file:
        for start in range(0, like.shape[0], rows):
            # The last piece, of the same shape, reads some rows again.
            start = min(start, like.shape[0] - rows)
            piece = np.empty(rows * row, np.uint8)
            file.seek(start * row)
            if file.readinto(piece.data) < len(piece):
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            values = piece.view(like.dtype).reshape(rows, *like.shape[1:])
            values, at = jax.device_put((values, np.int32(start)), sharding)
            # Waiting, for pieces would pile up in memory otherwise.
            whole = _replace_rows(whole, values, at).block_until_ready()
    return whole


@functools.partial(jax.jit, donate_argnums=0)
def _replace_rows(whole: jax.Array, rows: jax.Array, at: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(whole, rows, at, 0)


def _on_host(x: Any) -> bool:
    return any(device.platform == "cpu" for device in x.sharding.device_set)


def _copy_if_on_host(x: Any) -> Any:
    return jnp.copy(x) if _on_host(x) else x


def _hush_orbax() -> None:
    """Keeps Orbax out of the program's log; what fails there is raised as well."""
    log = logging.getLogger("absl")
    if _not_from_orbax not in log.filters:
        log.addFilter(_not_from_orbax)
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}checkpoint{os.sep}" not in record.pathname


class _Unraisable(NamedTuple):
    """Silent about writes that still end after one that failed ended the save."""

    otherwise: Callable[[Any], object]

    def __call__(self, found: Any) -> None:
        late = isinstance(found.exc_value, RuntimeError)
        if not (late and str(found.exc_value) == "Event loop is closed"):
            self.otherwise(found)
