"""Checkpoints of a run: written while it trains, checked when read, few in number.

A checkpoint is a folder ``checkpoints/<step>/``: the arrays as Orbax writes them, and a
``manifest.json`` with the step, its score, a small JSON ``info``, and the size and
CRC-32 of each file. It is written to ``checkpoints/.unfinished/`` and renamed when
complete, so a folder named after a step was once complete; by the manifest one sees
whether it still is, since Orbax alone does not notice a flipped bit.

Of many processes, which share the folder, each writes, reads and checks its part, by
Orbax and by the files; process 0 alone makes, names and deletes checkpoints, and says
to the others which there are.
"""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
from absl import logging

from tron_jax import files
from tron_jax.errors import UserError
from tron_jax.hosts.peers import Alone, Peers, all_can_hold, first_says
from tron_jax.memory import host_memory, size
from tron_jax.storage import array_files, manifest, staging
from tron_jax.storage.manifest import DamagedCheckpointError, MissingCheckpointError

COPIED_SHARE = 16  # a state of less than a sixteenth of main memory is copied
SMALL_FILES = 1 << 20  # bytes of a checkpoint besides its arrays, at most


class Saved(NamedTuple):
    """One complete save: the state's step, its bytes, and the seconds that it took."""

    step: int
    bytes: int
    seconds: float


class Checkpoints:
    """The checkpoints of one run.

    Keeps the ``keep_last`` newest and the one of the highest score (the earliest of
    equals); the others are deleted once a newer one is complete. Reading never writes,
    so a run can be evaluated while it trains.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep_last: int = 3,
        copy_below: int | None = None,
        piece: int = array_files.PIECE,
        peers: Peers | None = None,
    ):
        """Names the folder; the first save creates it.

        A copy of the state is written while training goes on, or training waits until
        the state itself is written: a large copy may be no faster than the disk (4.3 GB
        took 1.6 to 30 s to copy and 12 to 33 s to write on the same busy machine).

        Args:
          folder: where the checkpoints of the run lie.
          keep_last: how many of the newest stay, besides the best.
          copy_below: a state of fewer bytes is copied, for a larger one training
            waits; by default a sixteenth of main memory.
          piece: bytes of a large array that are read at a time.
          peers: the processes that save and restore together; None = this one alone.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, not {keep_last}")
        self.folder = Path(folder).absolute()  # as Orbax wants it
        self.keep_last = keep_last
        self._peers = peers or Alone()
        share = (host_memory().total or 0) // COPIED_SHARE
        below = all_can_hold(self._peers, share)
        self.copy_below = below if copy_below is None else copy_below
        self.piece = piece
        self.saved: list[Saved] = []  # by this object, complete
        self._damaged: set[int] = set()
        self._writer = staging.Background()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        """Waits for a save under way."""
        try:
            self.wait()
        except Exception as error:
            if kind is None:
                raise
            logging.warning("%s", error)  # must not hide what ended the run

    def steps(self) -> list[int]:
        """Returns the steps of the finished checkpoints, in order, damaged or not."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(int(p.name) for p in self.folder.iterdir() if _is_step(p))
        return []

    def latest_step(self) -> int | None:
        """Returns the newest finished step, None where there is none."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Returns the step of the highest score, the earliest of equals, or None."""
        return _best(self._scores())

    def read_info(self, step: int) -> dict[str, Any]:
        """Returns the ``info`` saved at a step, without reading its arrays."""
        return manifest.read(self._path(step))["info"]

    def checksum(self, step: int) -> int:
        """Returns a number by which the checkpoint of a step is known from any other.

        Raises:
          MissingCheckpointError: if there is none, or it is deleted meanwhile.
          DamagedCheckpointError: if its manifest is not what was saved.
        """
        path = self._path(step)
        try:
            return manifest.checksum(manifest.read(path))
        except DamagedCheckpointError:
            self._path(step)
            raise

    def copies(self, state: Any) -> bool:
        """Returns whether a save copies the arrays (or their shapes) of a state."""
        return size(state) < self.copy_below

    def save(
        self,
        step: int,
        state: Any,
        info: dict[str, Any],
        *,
        score: float | None = None,
        wait: bool = False,
        like: Any = None,
    ) -> float:
        """Saves the state of a step, in the background where it can.

        Waits for a save under way first. Returns once the arrays are copied (or
        written, where they are too large to copy): the caller may then donate them. The
        state of a run at a step is always the same, so an undamaged checkpoint of the
        step stays as it is; only a score that it lacks is added, with its info.

        Args:
          step: the number of updates done.
          state: pytree of arrays.
          info: what belongs to the state but is no array; JSON must be able to hold it.
          score: decides which checkpoint is the best, the highest; None = no candidate.
          wait: return only when the checkpoint is complete.
          like: the tree with the shapes that are saved, where arrays have rows beyond
            for the sake of the devices that share them; None = as they are.

        Returns:
          Seconds that the caller was kept waiting.

        Raises:
          UserError: if this save, or the one before, could not be written.
        """
        start = time.perf_counter()
        self.wait()
        entry = {"format": manifest.FORMAT, "step": step, "score": score, "info": info}
        # A copy, as the caller may change what it passed; refuses NaN, too.
        entry = json.loads(json.dumps(entry, allow_nan=False))
        like = state if like is None else like
        entry["arrays"] = array_files.describe(like)
        with staging.writing(self.folder, step):
            if not first_says(self._peers, "kept", self._keep_existing, entry):
                self._start(entry, state, like)
        if wait:
            self.wait()
        return time.perf_counter() - start

    def check(self) -> None:
        """Raises UserError if a save in the background has failed; never waits."""
        self._writer.check()

    def wait(self) -> None:
        """Waits for a save under way; raises UserError if it failed."""
        self._writer.join()
        self.check()

    def restore(
        self, step: int, like: Any, placed: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reads one checkpoint back, bit for bit.

        Args:
          step: one of ``steps()``.
          like: the state's structure, with the shape and dtype of each array
            (``jax.eval_shape`` of its initialiser); a leaf that names a sharding is
            restored to it, others to the first device.
          placed: the same with the shapes and shardings of a state on many devices;
            None = as in ``like``.

        Returns:
          The state and its info.

        Raises:
          MissingCheckpointError: if there is none, or it is deleted meanwhile.
          DamagedCheckpointError: if it is not what was saved.
          UserError: if it is of another model.
        """
        try:
            return self._read(self._path(step), like, placed)
        except Exception:
            self._path(step)  # raises where the run, still in training, has deleted it
            raise

    def _read(self, path: Path, like: Any, placed: Any) -> tuple[Any, dict[str, Any]]:
        saved = manifest.read_whole(path, self._peers)
        differs = array_files.difference(saved["arrays"], array_files.describe(like))
        if differs:
            raise UserError(f"checkpoint {path} is of another model: {differs}")
        return array_files.read(path, like, self.piece, placed), saved["info"]

    def restore_newest(
        self, like: Any, placed: Any = None
    ) -> tuple[int, Any, dict[str, Any]] | None:
        """Reads the newest whole checkpoint, naming each damaged one in a warning.

        Args:
          like: as for ``restore``.
          placed: as for ``restore``.

        Returns:
          The step, state and info, or None where no checkpoint was ever finished.

        Raises:
          UserError: if all are damaged, or the newest whole one is of another model.
        """
        steps = first_says(self._peers, "steps", self.steps)
        for step in reversed(steps):
            try:
                return step, *self.restore(step, like, placed)
            except DamagedCheckpointError as error:
                self._damaged.add(step)
                older = "" if step == steps[0] else "; using the one before"
                logging.warning("%s%s", error, older)
        if steps:
            raise UserError(
                f"all {len(steps)} checkpoints in {self.folder} are damaged; "
                "remove that folder to start from scratch"
            )
        return None

    def _path(self, step: int) -> Path:
        """Returns the folder of a finished step."""
        path = self.folder / str(step)
        if not path.is_dir():
            known = ", ".join(map(str, self.steps())) or "none"
            raise MissingCheckpointError(
                f"no checkpoint of step {step} in {self.folder}; there are: {known}"
            )
        return path

    def _scores(self) -> dict[int, float]:
        """Returns the score of each step that has one, in order of steps."""
        scores: dict[int, float] = {}
        for step in self.steps():
            if step in self._damaged:
                continue
            with contextlib.suppress(DamagedCheckpointError):
                score = manifest.read(self.folder / str(step))["score"]
                if score is not None:
                    scores[step] = score
        return scores

    def _keep_existing(self, entry: dict[str, Any]) -> bool:
        """Returns whether the step is already saved; one that is damaged goes."""
        path = self.folder / str(entry["step"])
        if not path.exists():
            return False
        try:
            saved = manifest.read_whole(path, Alone())
        except DamagedCheckpointError as error:
            logging.warning("%s; saving it again", error)
            self._delete(entry["step"])
            return False
        if saved["score"] is None and entry["score"] is not None:
            saved |= {"score": entry["score"], "info": entry["info"]}
            manifest.write(path, saved)
            self.delete_surplus()
        return True

    def _start(self, entry: dict[str, Any], state: Any, like: Any) -> None:
        """Copies the state, if it is small enough, and has a thread write it."""
        start, num_bytes, copy = time.perf_counter(), size(state), self.copies(state)
        first_says(self._peers, "room", self._make_room, num_bytes)
        # Each by its own name of the folder that they share.
        staged = staging.place(self.folder, entry["step"])
        response = array_files.start_writing(staged, state, copy=copy)
        if not copy:
            response.result()  # until then the next step must not touch the arrays
        shapes = jax.tree.map(_shape, (state, like))

        def finish() -> None:
            with staging.writing(self.folder, entry["step"]):
                response.result()
                self._complete(staged, entry, *shapes)
            seconds = time.perf_counter() - start
            self.saved.append(Saved(entry["step"], num_bytes, seconds))

        self._writer.start(finish, name=f"save {entry['step']}")

    def _make_room(self, num_bytes: int) -> None:
        """Makes room for a checkpoint; raises OSError where there is none."""
        staging.begin(self.folder)
        files.require_room(self.folder, num_bytes + SMALL_FILES)

    def _complete(
        self, staged: Path, entry: dict[str, Any], written: Any, like: Any
    ) -> None:
        """Checks what all have written, and gives it its name."""

        def listed() -> list[str]:
            array_files.cut(staged, written, like)
            return manifest.files_of(staged)

        names = first_says(self._peers, "written", listed)
        of_files = manifest.checksums(staged, names, self._peers)

        def named() -> None:
            manifest.write(staged, entry | {"files": of_files})
            staging.finish(staged)
            self._damaged.discard(entry["step"])
            self.delete_surplus()

        first_says(self._peers, "named", named)

    def delete_surplus(self) -> None:
        """Deletes all but the newest whole ones and the best."""
        steps = self.steps()
        whole = [step for step in steps if step not in self._damaged]
        keep = {*whole[-self.keep_last :], _best(self._scores())}
        for step in sorted({*steps} - keep):
            self._delete(step)
        staging.clear(self.folder)

    def _delete(self, step: int) -> None:
        staging.delete(self.folder, step)
        self._damaged.discard(step)


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _is_step(path: Path) -> bool:
    return path.name.isdecimal() and path.is_dir()


def _best(scores: dict[int, float]) -> int | None:
    return max(scores, key=lambda step: (scores[step], -step), default=None)
