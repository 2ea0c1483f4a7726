"""A pytree of arrays as files, through Orbax, and whether it is worth saving."""

import functools
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from orbax.checkpoint import v1 as ocp

from tron_jax.errors import UserError
from tron_jax.memory import size
from tron_jax.storage import chunks

ORBAX = f"{os.sep}orbax{os.sep}checkpoint{os.sep}"  # in the paths of its files
PIECE = 1 << 26  # bytes of an array that are read at a time
FINITE_BLOCK = 4096  # rows that are tested for NaN and infinity at a time


def start_writing(folder: Path, tree: Any, *, copy: bool) -> ocp.AsyncResponse[None]:
    """Writes the arrays in the background.

    Args:
      folder: absolute; created here.
      tree: pytree of arrays. With ``copy`` the caller may donate them as soon as this
        returns; without, only once ``result()`` has returned, but then no second copy
        of them is ever held.
      copy: whether to copy arrays that lie in host memory. Orbax itself copies those
        of other devices.

    Returns:
      A response whose ``result()`` waits until the folder is complete, or raises.
    """
    _hush_orbax()
    context = ocp.Context()
    context.array.saving.use_compression = False  # weights hardly compress
    context.array.saving.use_ocdbt = False  # else ``read`` cannot go by pieces
    context.array.saving.use_replica_parallel = False  # small arrays: a file each
    with context, jax.transfer_guard("allow"):
        if copy:
            # Orbax keeps views of these, so the next step could not reuse their
            # buffers and would copy them itself. Here the time counts as saving.
            tree = jax.block_until_ready(jax.tree.map(_copy_if_on_host, tree))
        return ocp.save_async(str(folder), tree)


def cut(folder: Path, tree: Any, like: Any) -> None:
    """Takes the rows beyond an array's last one out of what is written.

    Those of the last devices are 0, for each has as many. A chunk on disk is what a
    device holds, and Zarr's last chunks may reach beyond the array: its shape alone
    says where that ends.

    Args:
      folder: what ``start_writing`` wrote, complete.
      tree: what it was given.
      like: the tree with the shapes that the arrays are to have.
    """

    def shorten(path: Any, x: Any, wanted: Any) -> None:
        if x.shape != wanted.shape:
            about = chunks.folder_of(folder, path) / chunks.ABOUT
            content = json.loads(about.read_text())
            content["shape"] = list(wanted.shape)
            about.write_text(json.dumps(content))

    jax.tree_util.tree_map_with_path(shorten, tree, like)


def read(folder: Path, like: Any, piece: int = PIECE, placed: Any = None) -> Any:
    """Returns the arrays, bit for bit.

    Orbax reads an array into host memory and then copies it to the device. Large
    arrays are read here in pieces instead, so that no second copy of them is held, and
    of those that devices share each process reads the rows of its own.

    Args:
      folder: what ``start_writing`` wrote.
      like: the tree with a shape and dtype for each array; a leaf that names a
        sharding is read to it, others to the first device.
      piece: bytes of an array that are read at a time; smaller arrays are left to
        Orbax.
      placed: the tree with the shapes and shardings of arrays on many devices, those
        that are divided by rows perhaps with rows of 0 beyond; None = as in ``like``.

    Returns:
      The tree of arrays.
    """
    _hush_orbax()
    placed = like if placed is None else placed
    own: dict[str, Callable[[], jax.Array]] = {}

    def abstract(path: Any, x: Any, place: Any) -> Any:
        sharding = getattr(place, "sharding", None) or _first_device()
        reader = _reader(folder, path, x, place.shape, sharding, piece)
        if reader is not None:
            own[jax.tree_util.keystr(path)] = reader
            return ocp.PLACEHOLDER
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    wanted = jax.tree_util.tree_map_with_path(abstract, like, placed)
    loaded = ocp.load(str(folder), wanted)

    def complete(path: Any, x: Any, from_orbax: Any) -> jax.Array:
        del x
        reader = own.get(jax.tree_util.keystr(path))
        return from_orbax if reader is None else reader()

    with jax.transfer_guard("allow"):
        return jax.tree_util.tree_map_with_path(complete, like, loaded)


def describe(tree: Any) -> dict[str, str]:
    """Returns each array's dtype and shape under its path, such as '.params[0]'."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(k): f"{x.dtype}{list(x.shape)}" for k, x in leaves}


def difference(saved: dict[str, str], expected: dict[str, str]) -> str | None:
    """Compares saved arrays with those that a program expects.

    Args:
      saved: what ``describe`` returned when the arrays were written.
      expected: what it returns for those that are expected.

    Returns:
      The first array that differs and how, or None where all agree.
    """
    for name in [*expected, *saved]:
        was, now = saved.get(name, "absent"), expected.get(name, "absent")
        if was != now:
            return f"{name} is {was}, expected {now}"
    return None


def all_finite(tree: Any) -> jax.Array:
    """Returns whether all floats of a pytree are finite.

    ``isfinite(x).all()`` over several arrays materialises a boolean array as long as
    each of them (1.1 GB for a table of 1.8 million rows and its moments), and so do
    sums of x * 0; a maximum of |x| loses NaN on a CPU. Block by block it takes no
    memory and a third of the time.

    Args:
      tree: pytree of arrays; those of integers are ignored.

    Returns:
      A boolean scalar.
    """
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.array([_is_finite(leaf) for leaf in leaves]).all()


def _first_device() -> jax.sharding.Sharding:
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _reader(
    folder: Path,
    path: Any,
    x: Any,
    shape: tuple[int, ...],
    sharding: jax.sharding.Sharding,
    piece: int,
) -> Callable[[], jax.Array] | None:
    """Reads an array by its rows; None where that is left to Orbax."""
    divided = len(sharding.device_set) > 1 and not sharding.is_fully_replicated
    if not divided and (size(x) < piece or len(sharding.device_set) > 1):
        return None
    rows = chunks.open_rows(chunks.folder_of(folder, path), x.shape, x.dtype)
    if rows is not None:
        if divided:
            return lambda: _read_divided(rows, shape, sharding, piece)
        return lambda: _read_in_pieces(rows, 0, shape, sharding, piece)
    if divided:
        raise UserError(
            f"checkpoint {folder}: {jax.tree_util.keystr(path)} is not stored by rows; "
            "expected what this program writes"
        )
    return None


def _read_divided(
    rows: chunks.Rows,
    shape: tuple[int, ...],
    sharding: jax.sharding.Sharding,
    piece: int,
) -> jax.Array:
    """Fills the parts of the devices of this process, one after the other."""
    parts = []
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        first, stop, _ = (index or (slice(None),))[0].indices(shape[0])
        there = jax.sharding.SingleDeviceSharding(device)
        parts.append(
            _read_in_pieces(rows, first, (stop - first, *shape[1:]), there, piece)
        )
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _read_in_pieces(
    rows: chunks.Rows,
    first: int,
    shape: tuple[int, ...],
    sharding: jax.sharding.Sharding,
    piece: int,
) -> jax.Array:
    """Fills an array that the device owns, so that it can be donated without a copy.

    Args:
      rows: on disk.
      first: of them that the array has.
      shape: of the array, whose rows beyond the last on disk are 0.
      sharding: of one device.
      piece: bytes that are read at a time.
    """
    # Made there; ``jnp.zeros`` would make it on the first device and copy it.
    zeros = jax.jit(lambda: jnp.zeros(shape, rows.dtype), out_shardings=sharding)
    whole = zeros()
    there = min(shape[0], max(rows.count - first, 0))
    step = min(max(piece // max(rows.row_bytes, 1), 1), there)
    for start in range(0, there, max(step, 1)):
        # The last piece, of the same shape, reads some rows again.
        start = min(start, there - step)
        values = rows.read(first + start, step)
        values, at = jax.device_put((values, np.int32(start)), sharding)
        # Wait, or pieces would pile up in memory.
        whole = _replace_rows(whole, values, at).block_until_ready()
    return whole


@functools.partial(jax.jit, donate_argnums=0)
def _replace_rows(whole: jax.Array, rows: jax.Array, first_row: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(whole, rows, first_row, 0)


def _is_finite(x: jax.Array) -> jax.Array:
    if x.ndim == 0 or len(x) <= FINITE_BLOCK:
        return jnp.isfinite(x).all()

    def block(i: jax.Array, finite: jax.Array) -> jax.Array:
        start = jnp.minimum(i * FINITE_BLOCK, len(x) - FINITE_BLOCK)
        return (
            finite
            & jnp.isfinite(lax.dynamic_slice_in_dim(x, start, FINITE_BLOCK)).all()
        )

    return lax.fori_loop(0, -(-len(x) // FINITE_BLOCK), block, jnp.bool_(True))


def _on_host(x: Any) -> bool:
    return any(device.platform == "cpu" for device in x.sharding.device_set)


def _copy_if_on_host(x: Any) -> Any:
    if isinstance(x, np.ndarray):  # made to be saved, as that of a mesh
        return x
    return jnp.copy(x) if _on_host(x) else x


def _hush_orbax() -> None:
    """Keeps Orbax's messages out of the log; its failures are raised anyway."""
    for name, keep in (("absl", _not_from_orbax), ("asyncio", _not_of_orbax)):
        log = logging.getLogger(name)
        if keep not in log.filters:
            log.addFilter(keep)
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return ORBAX not in record.pathname


def _not_of_orbax(record: logging.LogRecord) -> bool:
    """Drops asyncio's word of writes that failed besides the one that was raised."""
    trace = record.exc_info[2] if record.exc_info else None
    frames = [] if trace is None else traceback.extract_tb(trace)
    return not any(ORBAX in frame.filename for frame in frames)


class _Unraisable(NamedTuple):
    """Ignores Orbax's writes that end only after a failed one has ended the save."""

    otherwise: Callable[[Any], object]

    def __call__(self, found: Any) -> None:
        late = isinstance(found.exc_value, RuntimeError)
        if not (late and str(found.exc_value) == "Event loop is closed"):
            self.otherwise(found)
