"""From opened logs to a written set: what all programs that read a log do."""

import functools
import operator
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from absl import flags

from data_prep.pipeline.disk import disk_bytes, require_space
from data_prep.pipeline.parts import ItemCodes, Log, PartPlan, Parts, plan_parts
from data_prep.pipeline.preparation import PreparedSet, Recipe, prepare_set
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import (
    ClickLog,
    Kinds,
    ReadSizes,
    WiderKindsError,
    read_ahead,
)
from data_prep.reading.columns import LogColumns
from data_prep.reading.csv_header import CsvForm, read_delimiter
from data_prep.reading.formats import LogForm, open_log
from data_prep.reading.time_formats import read_format
from data_prep.reading.times import UNITS, TimeForm
from tron_jax.console.stages import Stages
from tron_jax.errors import UserError
from tron_jax.files import local_path, new_folder, refuse_taken, require_writable


class LogSizes(NamedTuple):
    """How much of a log is worked on at once.

    read: while it is read; plan: from its rows, about, to the parts it is cut into.
    """

    read: ReadSizes = ReadSizes()
    plan: Callable[[int], PartPlan] = plan_parts


LOG_SIZES = LogSizes()

_MOST_SECONDS = 1e11  # some 3,000 years


def define_flags(raw: str) -> flags.FlagValues:
    """Builds the flags of a program for one raw format, given the help of ``--raw``."""
    values = flags.FlagValues()
    flags.DEFINE_string("raw", None, raw, values, required=True)
    flags.DEFINE_string(
        "out", None, "folder to write; must be new or empty", values, required=True
    )
    add_flags(values)
    return values


def add_column_flags(values: flags.FlagValues) -> None:
    """Adds the flags that say how a log is written, see ``form_of``."""

    def text(name: str, meaning: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, meaning, values, required=required)

    text("session", "column of the session's id; of several, with commas between", True)
    text("item", "column of the item's id", True)
    text("time", "column of the event's time: numbers since 1970, or timestamps")
    flags.DEFINE_float(
        "session_gap",
        None,
        "seconds; a longer pause within a session begins another, named id#1, id#2, …",
        flag_values=values,
    )
    text("order", "column that orders the events of a session; the time if not given")
    flags.DEFINE_enum("time_unit", "s", list(UNITS), "unit of numeric times", values)
    text("time_format", "strptime's form of times that are not as ISO 8601 has them")
    text("delimiter", "sign between columns of CSV; what the header shows if not given")
    flags.DEFINE_bool(
        "quoted_newlines",
        False,
        "values of CSV may hold line breaks within quotes",
        flag_values=values,
    )


def form_of(values: flags.FlagValues) -> LogForm:
    """Returns what the flags of ``add_column_flags`` say of a log.

    Raises:
      UserError: where one of them says nothing that can be.
    """
    written, sign = values.time_format, values.delimiter
    times = TimeForm(
        values.time_unit, None if written is None else read_format(written)
    )
    return LogForm(
        LogColumns(values.session, values.item, values.time, values.order, times),
        CsvForm(None if sign is None else read_delimiter(sign), values.quoted_newlines),
    )


def gap_of(values: flags.FlagValues) -> int | None:
    """Returns the longest pause within a session, in microseconds; None for any.

    Raises:
      UserError: where it is none, or there are no times.
    """
    seconds = values.session_gap if "session_gap" in values else None
    if seconds is None:
        return None
    if not 0 < seconds < _MOST_SECONDS:
        what = "expected a number of seconds above 0"
        raise UserError(f"--session_gap={seconds}: {what}")
    if values.time is None:
        raise UserError("--session_gap needs --time, the column of the events' times")
    return round(seconds * 10**6)


def open_places(
    places: Sequence[str], form: LogForm, sizes: LogSizes = LOG_SIZES
) -> ClickLog:
    """Opens the files, folders or patterns that a flag names, as one log."""
    paths = [local_path(place, any_name=True) for place in places]
    return open_log(paths, form, sizes.read)


def add_skip_flag(values: flags.FlagValues) -> None:
    """Adds the flag that says what becomes of malformed rows."""
    flags.DEFINE_bool(
        "skip_bad_rows",
        False,
        "leave malformed rows out and count them, instead of stopping at the first",
        flag_values=values,
    )


def add_flags(values: flags.FlagValues) -> None:
    """Adds the flags that all programs that prepare a log have."""
    add_skip_flag(values)
    flags.DEFINE_string(
        "timings", None, "JSON file to write each stage's time and memory to", values
    )


def prepare_logs(
    logs: Mapping[str, ClickLog],
    recipe: Recipe,
    values: flags.FlagValues,
    sizes: LogSizes = LOG_SIZES,
    check: Callable[[Log, BadRows], None] | None = None,
) -> PreparedSet:
    """Reads logs, prepares them and writes the set.

    Args:
      logs: "train" and, where it is apart, "test".
      recipe: what to do with them.
      values: the program's flags, those of ``add_flags`` among them.
      sizes: how much to work on at once.
      check: refuses a log once it was read, or remarks what is odd.

    Raises:
      UserError: where the logs, or the folder to write, are not as they should be.
    """
    out = local_path(values.out)
    refuse_taken(out)
    timings = values.timings and local_path(values.timings)
    if timings is not None:
        require_writable(timings)
    rows = sum(log.rows for log in logs.values())
    id_bytes = max(log.id_bytes for log in logs.values())
    require_space(out, disk_bytes(rows, id_bytes))
    bad = BadRows(values.skip_bad_rows)
    stages = Stages(timed=timings is not None)
    try:
        with new_folder(out) as folder:
            log = read_logs(
                logs, folder / "parts", sizes.plan(rows), bad, stages, gap_of(values)
            )
            sources: list[dict[str, object]] = [
                {"role": role, **file}
                for role, one in logs.items()
                for file in one.describe()
            ]
            if check is not None:
                check(log, bad)
            prepared = prepare_set(folder, log, recipe, sources, stages)
        if timings is not None:
            stages.write_timings(timings, prepared.counts[0].events)
    finally:
        stages.close()
        bad.warn()
    return prepared


def read_logs(
    logs: Mapping[str, ClickLog],
    work: Path,
    plan: PartPlan,
    bad: BadRows,
    stages: Stages,
    gap: int | None = None,
) -> Log:
    """Cuts logs into parts, anew where values turn up that are kept otherwise.

    Args:
      logs: "train" and, where it is apart, "test".
      work: folder to make, for what does not stay in memory.
      plan: into how many parts.
      bad: what to do with malformed rows.
      stages: shows what is being done.
      gap: microseconds; a longer pause within a session cuts it; None cuts none.

    Raises:
      UserError: where a log is malformed or has no rows.
    """

    def cut(kinds: Kinds) -> Log:
        work.mkdir()
        items, parts = ItemCodes(), {}
        for role, log in logs.items():
            parts[role] = Parts(items, work, role, plan, gap)
            stages.stage(f"reading {log.path}")
            with (
                closing(parts[role]),
                closing(read_ahead(log.batches(kinds, bad))) as batches,
            ):
                for batch in batches:
                    if len(batch.session):
                        parts[role].append(batch)
                    stages.count(*log.progress())
            if role == "train" and not parts[role].rows:
                raise UserError(f"{log.path}: no rows; expected one row an event")
        return Log(parts["train"], parts.get("test"), items, work)

    kinds = functools.reduce(operator.or_, (log.kinds for log in logs.values()))
    while True:
        try:
            return cut(kinds)
        except WiderKindsError as wider:
            kinds |= wider.kinds
            shutil.rmtree(work)
            bad.clear()
