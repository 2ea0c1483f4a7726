"""A user's file of Python that a flag names, perhaps with an argument."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tron_jax.errors import UserError


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


def run(flag: str, named: str, expected: str) -> PythonFile:
    """Runs a file.

    Args:
      flag: that named it, such as ``--sweep``.
      named: FILE[:argument].
      expected: in words, for a message.

    Raises:
      UserError: whatever is wrong with the file.
    """
    path, colon, argument = named.partition(":")
    shown = f"{flag}={named}"
    if not Path(path).is_file():
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
