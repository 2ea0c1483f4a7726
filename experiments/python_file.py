"""A file of Python that a flag names, perhaps with an argument: the user's, or ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tron_jax.errors import UserError

_PACKAGE = Path(__file__).parent


def find(named: str, folder: str) -> str:
    """Finds a file that is not there among those that came with this package.

    Args:
      named: FILE[:argument], FILE being a path, or that of a file of ``experiments`` as
        seen from where that lies, or the name of one in the folder.
      folder: of ``experiments``, such as ``configs``.

    Returns:
      The same with the path of the file that is meant; as it was where there is none.
    """
    path, colon, argument = named.partition(":")
    if _is_file(path):
        return named
    parts = path.removesuffix(".py").replace("/", ".").split(".")
    if parts[0] == _PACKAGE.name:
        del parts[0]
    elif len(parts) == 1:
        parts = [folder, *parts]
    ours = _PACKAGE.joinpath(*parts).with_suffix(".py")
    known = parts[:1] == [folder] and _is_file(ours)
    return f"{ours}{colon}{argument}" if known else named


def _is_file(path: Path | str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # of a name that no file can have
        return False


class PythonFile(NamedTuple):
    """Such a file, run.

    Attributes:
      flag: with what was given, for messages.
      module: what the file defines.
      arguments: of each of its functions: the one that was given, or none.
    """

    flag: str
    module: ModuleType
    arguments: tuple[str, ...]


def run(flag: str, named: str, folder: str) -> PythonFile:
    """Runs a file.

    Args:
      flag: that named it, such as ``--sweep``.
      named: FILE[:argument].
      folder: of ``experiments``, where it may be too, see ``find``.

    Raises:
      UserError: whatever is wrong with the file.
    """
    shown = f"{flag}={named}"
    path, colon, argument = find(named, folder).partition(":")
    if not _is_file(path):
        expected = f"one of experiments/{folder}/"
        raise UserError(f"{flag}: no file {path!r}; expected {expected}")
    spec = importlib.util.spec_from_file_location("named_file", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{shown}: expected a file of Python, name.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file may raise
        raise UserError(f"{shown}: {type(error).__name__}: {error}") from error
    return PythonFile(shown, module, (argument,) if colon else ())


def call(file: PythonFile, function: str) -> Any:
    """Returns what a function of the file returns.

    Raises:
      UserError: if there is no such function, or for whatever it raises.
    """
    if not callable(getattr(file.module, function, None)):
        raise UserError(f"{file.flag}: no function {function} in it")
    try:
        return getattr(file.module, function)(*file.arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file.flag}: {type(error).__name__}: {error}") from error
