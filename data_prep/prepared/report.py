"""The table of counts that every program ends with."""

from typing import Any

from tron_jax.console.messages import say

# Sessions and events of train and test, and items, as the paper's Table 1 has them; its
# 1.23M test events of OTTO are a slip for 12.3M.
TABLE_1 = {
    "diginetica": ("187k", "906k", "18k", "87k", "43k"),
    "yoochoose": ("7.9M", "31.6M", "15k", "71k", "37k"),
    "otto": ("12.9M", "194.7M", "1.6M", "12.3M", "1.8M"),
}

_HEAD = ("train sessions", "train events", "test sessions", "test events", "items")


def print_counts(stats: dict[str, Any], paper: str | None = None) -> None:
    """Prints the table of the counts in a stats.json, and its fingerprint."""
    print_table(stats, paper)
    say(f"fingerprint {stats['fingerprint']}")


def print_table(stats: dict[str, Any], paper: str | None = None) -> None:
    """Prints the counts in a stats.json, and a row of the paper's Table 1 beneath."""
    counts = [
        stats[name][what]
        for name in ("train", "test")
        for what in ("sessions", "events")
    ]
    counts.append(stats["num_items"])
    rows = [("", *_HEAD), ("prepared", *(f"{count:,}" for count in counts))]
    if paper is not None:
        rows.append((f"Table 1, {paper}", *TABLE_1[paper]))
    for name, *cells in rows:
        say(" ".join([f"{name:<20}", *(f"{cell:>14}" for cell in cells)]))
