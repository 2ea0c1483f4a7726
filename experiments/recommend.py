"""Recommends the next items of the sessions of a log.

    python -m experiments.recommend --model=RUN --sessions=FILE --out=FILE \
        --session=COL --item=COL [--time=COL] [--order=COL] [--k=20] [--per_event]
        [--exclude_seen] [--only=FILE] [--exclude=FILE] [--step=best|latest|N]

FILE of sessions is a log of clicks as for data_prep.events, whose flags of columns and
times are taken here too: CSV, JSON lines or Parquet, a file, a folder or a pattern.
Sessions may have one click, and end with the latest. Every item of the catalogue is
scored, exactly, and the best k are written with the user's own ids: a row for each in
Parquet (.parquet) or JSON lines (.jsonl), with session, rank, item and score; a file
that is there is replaced. --per_event has a list after every click that the model
knows, not only after the last, told apart by `event`, the number of the click. Of a
model whose positions count from a session's end (model.position=from_end), lists before
the last click know how many clicks remain, as its evaluation does.

Clicks on items that the model does not know are left out and counted. A session of
which it knows none gets the most clicked items of training, marked as `popular`.
--exclude_seen leaves out what the session has clicked; --only and --exclude name files
of items (Parquet or CSV with the column --item, or text, an id a line).

The model is that of the run's latest checkpoint, or the best on validation where the
run held some out. Sessions of a log of more than four million clicks come in parts, by
their ids, so that memory is bounded.
"""

from __future__ import annotations

import contextlib
import fnmatch
import tempfile
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from absl import flags

from data_prep.programs import log_program, raw_sessions
from data_prep.programs.raw_sessions import SessionLog
from data_prep.reading.bad_rows import BadRows
from experiments import entry, run_files, workdirs
from experiments.assembly import trained
from experiments.assembly.trained import Trained
from experiments.recommending import clicks, item_ids, lists
from experiments.recommending.clicks import Clicks
from experiments.recommending.lists import Lists
from tron_jax import devices
from tron_jax.console.messages import say, warn
from tron_jax.console.stages import Stages
from tron_jax.errors import UserError
from tron_jax.files import local_path

CLICKS = 1 << 16  # that are worked on together
SIZES = log_program.LOG_SIZES


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()

    def text(name: str, meaning: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, meaning, values, required=required)

    def switch(name: str, meaning: str) -> None:
        flags.DEFINE_bool(name, False, meaning, flag_values=values)

    text("model", "Folder of a run, or of an exported model.", True)
    text("sessions", "Log of the sessions' clicks.", True)
    text("out", "File to write: .parquet or .jsonl.", True)
    log_program.add_column_flags(values)
    flags.DEFINE_integer("k", 20, "Items of a list.", 1, flag_values=values)
    switch("per_event", "A list after every click of a session.")
    switch("exclude_seen", "Leave out what the session has clicked.")
    text("only", "File of the items that may be recommended.")
    text("exclude", "File of items that are not recommended.")
    text("step", "Checkpoint: best, latest or a step.")
    text("data", "The run's data set, for a run that kept no item ids.")
    log_program.add_skip_flag(values)
    return entry.run(run, values, argv)


def run(values: flags.FlagValues) -> None:
    """Recommends by the flags, and says what was done."""
    out = local_path(values.out)
    lists.check(out)
    _refuse_input(out, values)
    workdirs.refuse_unwritable(out.parent)
    log = log_program.open_places([values.sessions], log_program.form_of(values), SIZES)
    model = trained.load(local_path(values.model), values.step, values.data)
    allowed = _allowed(values, model)
    devices.check()
    if values.per_event and model.config.model.position == "from_end":
        warn(
            "positions count from a session's end: lists before the last click know "
            "how many clicks remain"
        )
    bad, stages = BadRows(values.skip_bad_rows), Stages()
    try:
        with (
            _made(out.parent) as folder,
            tempfile.TemporaryDirectory(prefix=".recommend-", dir=folder) as work,
        ):
            read = raw_sessions.read_sessions(
                log, Path(work), bad, stages, SIZES, log_program.gap_of(values)
            )
            stages.stage("recommending")
            counts = _write(out, read, model, allowed, values, stages)
    finally:
        stages.close()
        bad.warn()
    _say(counts, read, out)


def _refuse_input(out: Path, values: flags.FlagValues) -> None:
    """Raises UserError where what is read would be replaced."""
    for flag in ("sessions", "only", "exclude"):
        given = values[flag].value
        there = given is not None and Path(given).exists() and out.exists()
        if there and out.samefile(given):
            raise UserError(f"--out={values.out} is the file of --{flag}")
    if found := run_files.kind(out.parent):  # of whose files it could be one
        raise UserError(f"--out={values.out} is in {found}; expected it elsewhere")
    # Lists have the columns of a log, as which the next command would read them.
    sessions = local_path(values.sessions, any_name=True).resolve()
    out = out.resolve()
    if sessions in out.parents or _covers(sessions.parts, out.parts):
        raise UserError(
            f"--out={values.out} would be one of the files of --sessions; expected it "
            "elsewhere"
        )


def _covers(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a pattern matches a path, or a folder above it; both by their parts."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_covers(pattern[1:], path[n:]) for n in range(len(path)))
    matches = bool(path) and fnmatch.fnmatchcase(path[0], pattern[0])
    return matches and _covers(pattern[1:], path[1:])


@contextlib.contextmanager
def _made(folder: Path) -> Generator[Path]:
    """Makes a folder, and removes what was made of it where something goes wrong."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _allowed(values: flags.FlagValues, model: Trained) -> np.ndarray:
    """[items + 1] bool, which may be recommended.

    Raises:
      UserError: if fewer are left than a list is to have.
    """
    raw_ids = model.items.raw_ids
    allowed = np.ones(len(raw_ids) + 1, bool)
    if values.only is not None:
        path = local_path(values.only)
        allowed[:] = False
        only = item_ids.read_items("--only", path, values.item, raw_ids, needed=True)
        allowed[only] = True
    if values.exclude is not None:
        path = local_path(values.exclude)
        without = item_ids.read_items(
            "--exclude", path, values.item, raw_ids, needed=False
        )
        allowed[without] = False
    left = int(allowed[1:].sum())
    if values.k > left:
        raise UserError(
            f"--k={values.k}: the model has {len(raw_ids):,} items, of which "
            f"{left:,} may be recommended; expected at most as many"
        )
    return allowed


def _write(
    out: Path,
    log: SessionLog,
    model: Trained,
    allowed: np.ndarray,
    values: flags.FlagValues,
    stages: Stages,
) -> Counter[str]:
    raw_ids = model.items.raw_ids
    counts: Counter[str] = Counter()
    numbers = item_ids.numbers_of(log.items, raw_ids)
    if not numbers.any():
        raise UserError(
            f"{values.sessions}: the model knows none of its items "
            f"({item_ids.examples(log.items)}); its own are such as "
            f"{item_ids.examples(raw_ids)}"
        )
    popular = _most_popular(model, allowed, values.k)
    done = 0
    with lists.writer(out) as write:
        for part in log.sessions:
            for some in clicks.slices(part, numbers, CLICKS):
                made = _recommend(model, some, popular, allowed, values)
                write(lists.rows_of(made, raw_ids, every_event=values.per_event))
                counts["sessions"] += len(some.ids)
                counts["popular"] += int(made.popular.sum())
                counts["unknown"] += int(some.lengths.sum()) - len(some.items)
                filled = int(made.items.any(axis=1).sum())
                counts["lists"] += filled
                counts["empty"] += len(made.items) - filled
                done += int(some.lengths.sum())
                stages.count("clicks", done, log.events)
    return counts


def _most_popular(model: Trained, allowed: np.ndarray, k: int) -> np.ndarray:
    """[k] the most clicked items of training; of equal ones the lower number."""
    order = np.argsort(-model.items.train_events, kind="stable") + 1
    return order[allowed[order]][:k].astype(np.int32)


def _recommend(
    model: Trained,
    some: Clicks,
    popular: np.ndarray,
    allowed: np.ndarray,
    values: flags.FlagValues,
) -> Lists:
    """The lists of some sessions, in their order."""
    every = values.per_event
    found_items = np.zeros((0, values.k), np.int32)
    found_scores = np.zeros((0, values.k), np.float32)
    if len(some.known):
        recommender, params, table, step = model.model
        found_items, found_scores = recommender(
            params,
            table,
            step,
            some.items,
            some.offsets,
            k=values.k,
            allowed=allowed,
            excluded=clicks.seen(some, every_event=every)
            if values.exclude_seen
            else None,
            every_event=every,
        )
    if np.isnan(found_scores).any():
        raise UserError(
            f"{values.model}: the model's scores are no numbers, as of a run that "
            "diverged; expected another --step"
        )
    # A row for each prediction, and one for each session of which nothing is known.
    per_session = np.zeros(len(some.ids), np.int64)
    per_session[some.known] = np.diff(some.offsets) if every else 1
    is_known = per_session > 0
    session = np.repeat(np.arange(len(some.ids)), np.maximum(per_session, 1))
    by_model = is_known[session]
    event = some.lengths[session].astype(np.int32)
    if every:
        event[by_model] = some.event
    items = np.tile(popular, (len(session), 1))
    scores = np.full(items.shape, np.nan, np.float32)
    items[by_model], scores[by_model] = found_items, found_scores
    return Lists(some.ids.take(pa.array(session)), event, items, scores, ~by_model)


def _say(counts: Counter[str], log: SessionLog, out: Path) -> None:
    say(f"wrote {out}: {counts['lists']:,} lists of {counts['sessions']:,} sessions")
    if unknown := counts["unknown"]:
        warn(
            f"{unknown:,} of {log.events:,} clicks were on items that the model does "
            "not know, and were left out"
        )
    if empty := counts["empty"]:
        warn(f"{empty:,} lists would be empty, as all items are excluded from them")
    if popular := counts["popular"]:
        warn(
            f"{popular:,} sessions have no click that the model knows: they got the "
            "most popular items, marked as such"
        )


if __name__ == "__main__":
    entry.start(main)
