"""What lies in the folder of an exported model, written whole and checked when read.

weights.safetensors  item table, every row up to date, and encoder; float32 unless the
                     table was asked for in fewer bytes
items.parquet        the user's own ids of the items, and their clicks in training
config.json          all settings and the provenance, without paths
model.stablehlo      the scorer for any device, by jax.export; weights are arguments
model.onnx           the same for onnxruntime, weights within; if asked for
MODEL_CARD.md        what it was trained on, how good it is, how to repeat it
export.json          version, sizes, the order of the arguments, SHA-256 of the rest
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from tron_jax.data.catalogue import ITEMS, Catalogue, read_catalogue
from tron_jax.errors import UserError
from tron_jax.serving import onnx_graph, stablehlo
from tron_jax.serving.scorer import Weights
from tron_jax.serving.tables import Int8Table

FORMAT, VERSION = "tron-export", 1
ABOUT = "export.json"
WEIGHTS = "weights.safetensors"
STABLEHLO = "model.stablehlo"
ONNX = "model.onnx"
CARD = "MODEL_CARD.md"
NEEDED = (WEIGHTS, ITEMS, "config.json")
MISSING = "pip install 'tron-jax[export]' has what reads and writes exported models"


class Exported(NamedTuple):
    """An exported model.

    Attributes:
      about: what export.json says.
      weights: arrays by their names: ``params/…``, and ``table`` or ``table/…``.
      items: its catalogue.
    """

    about: dict[str, Any]
    weights: dict[str, np.ndarray]
    items: Catalogue


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported model, whole or not."""
    return (folder / ABOUT).is_file()


def seal(folder: Path, about: Mapping[str, Any]) -> None:
    """Writes export.json, with the hash of each file that is there by now."""
    files = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    content = {"format": FORMAT, "version": VERSION, **about, "files": files}
    (folder / ABOUT).write_text(json.dumps(content, indent=2) + "\n")


def require_packages(*, onnx: bool) -> None:
    """Raises UserError where what writes an export is not installed."""
    _safetensors()
    if onnx and importlib.util.find_spec("onnx") is None:
        raise UserError(onnx_graph.MISSING)
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError(f"flatbuffers is not installed; {MISSING}")


def save_weights(path: Path, weights: Weights) -> None:
    """Writes the weights as safetensors, by their names."""
    arrays = map(np.ascontiguousarray, jax.tree.leaves(weights))
    named = zip(stablehlo.names(weights), arrays, strict=True)
    _safetensors().save_file(dict(named), path)
    path.chmod(0o644)  # which it leaves to its owner alone


def weights_of(exported: Exported) -> Weights:
    """The weights as the encoder and the scorer take them."""
    tree: dict[str, Any] = {}
    for name, array in exported.weights.items():
        _put(tree, name.split("/"), array)
    table = tree["table"]
    return Weights(
        tree["params"], Int8Table(**table) if isinstance(table, dict) else table
    )


def _put(tree: dict[str, Any], path: list[str], array: np.ndarray) -> None:
    *above, last = path
    for name in above:
        tree = tree.setdefault(name, {})
    tree[last] = array


def read(folder: Path) -> Exported:
    """Reads a model and checks that it is whole.

    Raises:
      UserError: if it is of another version, or a file is missing or has changed.
    """
    about = _read_about(folder / ABOUT)
    _check(folder, about["files"])
    weights = _safetensors().load_file(folder / WEIGHTS)
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise UserError(f"{folder / WEIGHTS} holds numbers that are not finite")
    return Exported(about, weights, read_catalogue(folder / ITEMS, about["num_items"]))


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text())
        found = about["format"], about["version"]
        _ = about["step"] + about["num_items"], about["chosen_by"] + about["model"]
        _ = about["files"].items()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if found != (FORMAT, VERSION):
        raise UserError(
            f"{path} is of format {found[0]} {found[1]}; expected {FORMAT} {VERSION}"
        )
    return about


def _check(folder: Path, files: Mapping[str, str]) -> None:
    """Raises UserError where a file is missing or is not what was written."""
    missing = [n for n in (*NEEDED, *files) if not (folder / n).is_file()]
    missing += [name for name in NEEDED if name not in files]
    if missing:
        raise UserError(f"{folder} is not whole: no {missing[0]}; copy it again")
    with ThreadPoolExecutor(4) as pool:
        found = dict(
            zip(files, pool.map(_sha256, map(folder.joinpath, files)), strict=True)
        )
    for name, digest in files.items():
        if found[name] != digest:
            raise UserError(
                f"{folder / name} is not what was exported (SHA-256 differs); copy it "
                "again"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise UserError(f"safetensors is not installed; {MISSING}") from error
    return safetensors.numpy
