"""Whether the ids of a log's sessions can be meant."""

from collections.abc import Iterator

from data_prep.clicks.batches import DAY
from data_prep.pipeline.spans import Spans

_MANY = 0.1  # of sessions that last more than a day
_LARGE = 0.01  # of all events, in one session
_FEW = 1_000  # events that a session may have in any log


def doubts_about(spans: Spans) -> Iterator[str]:
    """Says what looks like ids that are used again, or like a placeholder."""
    if spans.days_long > _MANY * spans.sessions:
        share = spans.days_long / spans.sessions
        yield (
            f"{spans.days_long:,} of {spans.sessions:,} sessions ({share:.0%}) last "
            f"more than a day, the longest {spans.longest / DAY:,.1f} days; if ids are "
            "used again, several columns make one (--session=user_id,session_id), and "
            "--session_gap=1800 cuts at pauses of half an hour"
        )
    share = spans.largest / max(1, spans.events)
    if spans.largest > _FEW and share > _LARGE:
        yield (
            f"session {spans.largest_id!r} has {spans.largest:,} of {spans.events:,} "
            f"events ({share:.0%}): a placeholder, or a robot?"
        )
