"""The lines of a run for TensorBoard, where tensorboardX is installed.

``metrics.jsonl`` stays the truth. When a run starts or resumes, its event file is
written anew from there, so that TensorBoard shows what the log holds and nothing twice,
even after a kill; from then on each line is added as it comes. Whatever goes wrong with
that is one warning, and training goes on.

Of tensorboardX we take the messages. Its own writer hands them through a queue between
processes to a thread; lines are few, so each goes to the file at once here: a kill
loses nothing, and nothing keeps a process from ending.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tron_jax.console.messages import warn
from tron_jax.reporting.metrics_writer import FIRST_KEYS

Line = Mapping[str, Any]

SUFFIX = ".tron_jax"  # of our event files, which are replaced
# Under which heading figures of training are shown that are not under "train".
HEADINGS = {
    "sessions_per_s": "speed",
    "events_per_s": "speed",
    "epochs_per_hour": "speed",
    "save_s": "speed",
    "save_gb": "speed",
    "peak_memory_gb": "memory",
}


def follow(
    folder: Path,
    lines: Sequence[Line],
    *,
    hyperparameters: Mapping[str, Any],
    results: Iterable[str],
) -> TensorBoard | None:
    """Begins the event file of a run, in place of the one that there was.

    Args:
      folder: of the run, by whose name TensorBoard shows it.
      lines: of ``metrics.jsonl``, that the run goes on from.
      hyperparameters: by name; what is no number, flag or string is shown as text.
      results: tags whose last value is shown beside the hyperparameters.

    Returns:
      What takes the lines to come; None where tensorboardX is not installed, or does
      not work, of which a warning tells.
    """
    try:
        import tensorboardX  # noqa: F401  (and not a part of it, which may be missing)

        return TensorBoard(folder, lines, _about(hyperparameters, results))
    except Exception as error:  # of a full disk, or of versions that do not fit
        if not (isinstance(error, ImportError) and error.name == "tensorboardX"):
            _give_up(error)
        return None


def scalars(line: Line) -> dict[str, float]:
    """The figures of a line by their tags, such as ``test/exact/recall@20``."""
    figures = {
        key: value
        for key, value in line.items()
        if key not in FIRST_KEYS and isinstance(value, int | float)
    }
    if "protocol" in line:
        heading = f"{line['split']}/{line['protocol']}"
        return {f"{heading}/{key}": value for key, value in figures.items()}
    figures["epoch"] = line["epoch"]
    return {f"{HEADINGS.get(key, 'train')}/{key}": x for key, x in figures.items()}


class TensorBoard:
    """An event file that lines of ``metrics.jsonl`` are added to, as one of its sinks.

    Each is there as soon as it is written. The times in it are those of a run without
    pauses, as a line counts its seconds.
    """

    def __init__(self, folder: Path, lines: Sequence[Line], about: Sequence[Any]):
        """Writes a file of what is known so far; raises whatever goes wrong.

        Args:
          folder: where it goes.
          lines: of the run so far.
          about: summaries to begin with.
        """
        self._begun = time.time() - (lines[-1]["time"] if lines else 0.0)
        for old in folder.glob(f"*{SUFFIX}"):
            old.unlink()
        # A TensorBoard that is running goes on to the file of the later name.
        path = folder / f"events.out.tfevents.{time.time_ns()}{SUFFIX}"
        self._file = path.open("xb", buffering=0)
        try:
            head = [self._event(file_version="brain.Event:2"), self._forget()]
            head += [self._event(summary=summary) for summary in about]
            self._add(b"".join([*head, *map(self._line, lines)]))
        except BaseException:
            self._file.close()
            path.unlink()
            raise

    def write(self, line: Line) -> None:
        """Adds a line; where that fails, that is a warning, and no more are added."""
        if self._file.closed:
            return
        try:
            self._add(self._line(line))
        except Exception as error:
            self.close()
            _give_up(error)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _add(self, records: bytes) -> None:
        if self._file.write(records) != len(records):  # a full disk takes what fits
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _line(self, line: Line) -> bytes:
        values = [{"tag": tag, "simple_value": x} for tag, x in scalars(line).items()]
        return self._event(line["time"], step=line["step"], summary={"value": values})

    def _forget(self) -> bytes:
        """Has a TensorBoard that is running drop what it read in the file before."""
        return self._event(session_log={"status": "START"})

    def _event(self, seconds: float = 0.0, **content: Any) -> bytes:
        """A record of the file, some seconds after the run began."""
        from tensorboardX.proto import event_pb2

        messages: Any = event_pb2  # whose classes are made when it is imported
        event = messages.Event(wall_time=self._begun + seconds, **content)
        return _framed(event.SerializeToString())


def _framed(message: bytes) -> bytes:
    """A message as a TFRecord, the format of event files: with length and checksums."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(message))
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, message)]
    return b"".join([length, checks[0], message, checks[1]])


def _about(hyperparameters: Mapping[str, Any], results: Iterable[str]) -> list[Any]:
    """Summaries for the page of hyperparameters: what varies, and this run's values."""
    from tensorboardX.summary import hparams

    plain = {
        name: value if isinstance(value, str | bool | int | float) else str(value)
        for name, value in hyperparameters.items()
    }
    experiment, session_start, _ = hparams(plain, dict.fromkeys(results))
    return [experiment, session_start]


def _give_up(error: Exception) -> None:
    why = str(error)
    if isinstance(error, OSError):
        why = ": ".join(str(x) for x in (error.filename, error.strerror) if x) or why
    why = " ".join(why.split()) or type(error).__name__
    warn(f"TensorBoard does not follow this run: {why}")
