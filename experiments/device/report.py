"""What a part of the check is given, and where it puts what it finds."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

from experiments import workdirs

TASK, FIGURES = "task.json", "figures.json"


class Setting(NamedTuple):
    """What a part is given.

    Attributes:
      folder: of the part alone, for whatever it writes; removed at the end.
      rehearse: whether sizes are tiny.
      data: absolute path of a prepared Diginetica, or None.
      device: its kind; jax of another process may fall back to the CPU.
      ceilings: figures of the part ``ceilings`` on the same device; {} if it did not
        run.
    """

    folder: Path
    rehearse: bool
    data: str | None = None
    device: str = ""
    ceilings: dict[str, Any] = {}  # noqa: RUF012  (never altered)


class Report:
    """The figures of a part, on disk as soon as they are known."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FIGURES
        self.figures: dict[str, Any] = {}
        self.errors: list[str] = []
        self._write()

    def add(self, **figures: Any) -> None:
        """Adds figures by name."""
        self.figures |= figures
        self._write()

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Adds a row to a list of them."""
        self.figures.setdefault(name, []).append(row)
        self._write()

    def fail(self, error: str) -> None:
        """Notes what went wrong; the part counts as failed, its figures stay."""
        self.errors.append(error)
        self._write()

    @contextlib.contextmanager
    def attempt(self, what: str, *, quiet: bool = False) -> Generator[None]:
        """Notes why something failed instead of raising; says how long it took.

        Args:
          what: it is.
          quiet: whether to say so only if it failed.
        """
        start = time.perf_counter()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.fail(f"{what}: {one_line(error)}")
            outcome = "failed"
        else:
            outcome = "done"
        seconds = time.perf_counter() - start
        if outcome == "failed" or not quiet:
            print(f"  {what}: {outcome} in {seconds:.1f} s", flush=True)

    def _write(self) -> None:
        content = {"figures": self.figures, "errors": self.errors}
        workdirs.write_json(self._path, content)


def read_figures(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The figures and errors of a process that ran in a folder; none if it died."""
    try:
        content = json.loads((folder / FIGURES).read_text())
    except (OSError, ValueError):
        return {}, []
    return content["figures"], content["errors"]


def one_line(error: BaseException) -> str:
    """An error's kind and the beginning of what it says."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300]}"


def write_task(setting: Setting, name: str) -> None:
    """Leaves in a part's folder what its process is to do."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    task = setting._asdict() | {"folder": str(setting.folder), "name": name}
    workdirs.write_json(setting.folder / TASK, task)


def read_task(folder: Path) -> tuple[str, Setting]:
    """What ``write_task`` left there."""
    task = json.loads((folder / TASK).read_text())
    name = task.pop("name")
    return name, Setting(**task | {"folder": folder})
