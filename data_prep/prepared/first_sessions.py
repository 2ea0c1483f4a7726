"""The first sessions of a set as lines to read."""

from tron_jax.console.messages import say
from tron_jax.data.catalogue import Catalogue
from tron_jax.data.sessions import Sessions

_LONGEST = 12  # items of a session that are printed


def print_first(
    name: str, sessions: Sessions, catalogue: Catalogue, count: int
) -> None:
    """Prints the first sessions: start, id and items, all as in the raw log."""
    count = min(count, sessions.num_sessions)
    if not count:
        return
    say(f"\nfirst {name} sessions: start (UTC), id, items")
    for row in range(count):
        start = sessions.start_time[row].as_py()
        when = "unknown" if start is None else f"{start:%Y-%m-%d %H:%M:%S}"
        items = sessions.items[sessions.offsets[row] : sessions.offsets[row + 1]]
        shown = [str(catalogue.raw_ids[int(item) - 1]) for item in items[:_LONGEST]]
        more = f" … ({len(items):,} in all)" if len(items) > _LONGEST else ""
        say(f"  {when}  {sessions.ids[row]}:  {' '.join(shown)}{more}")
