"""Sizes that make a small log count as large: many blocks, batches and parts."""

from data_prep.pipeline.parts import MAX_PARTS, PartPlan
from data_prep.programs.log_program import LogSizes
from data_prep.reading.click_log import ReadSizes


def small_sizes(
    text_bytes: int = 1 << 25,
    parquet_rows: int = 1 << 20,
    part_rows: int | None = None,
    on_disk: bool = True,
) -> LogSizes:
    """The parts are those of any log, unless ``part_rows`` is given."""
    read = ReadSizes(text_bytes, parquet_rows)
    if part_rows is None:
        return LogSizes(read)

    def plan(rows: int) -> PartPlan:
        return PartPlan(max(1, min(MAX_PARTS, -(-rows // part_rows))), on_disk)

    return LogSizes(read, plan)
