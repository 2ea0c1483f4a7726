"""Shows what a prepared data set holds, and checks that it is whole.

python -m data_prep.show DIR [--plot=FILE.png] [--sessions=3] [--nocheck]

Prints its counts (and, for a set of the paper, those of Table 1), filters,
split and sources, session lengths and item popularity, and the first sessions with the
user's own ids. Every array is compared with its hash in stats.json and those with the
fingerprint; where one differs, that is an error.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_prep.prepared import histograms
from data_prep.prepared.checks import check_hashes
from data_prep.prepared.first_sessions import print_first
from data_prep.prepared.report import TABLE_1, print_counts
from tron_jax.console.messages import say
from tron_jax.console.program import run
from tron_jax.data.catalogue import Catalogue
from tron_jax.data.sessions import (
    PreparedData,
    catalogue_of,
    open_prepared,
)
from tron_jax.errors import UserError
from tron_jax.files import local_path, require_writable
from tron_jax.reporting.plots import save


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    values = flags.FlagValues()
    flags.DEFINE_string("data", None, "the prepared set; or give DIR", values, True)
    flags.DEFINE_string("plot", None, "PNG of the histograms to write", values)
    flags.DEFINE_integer(
        "sessions", 3, "first sessions of each part to print", 0, flag_values=values
    )
    flags.DEFINE_bool(
        "check", True, "compare everything with its hash", flag_values=values
    )
    return values


def with_flag(argv: Sequence[str]) -> list[str]:
    """Turns the one argument that is no flag, the folder, into ``--data``."""
    program, *rest = argv
    folders = [argument for argument in rest if not argument.startswith("-")]
    if len(folders) != 1:
        return [program, *rest]
    index = rest.index(folders[0])
    return [program, *rest[:index], f"--data={folders[0]}", *rest[index + 1 :]]


def main(values: flags.FlagValues) -> None:
    """Prints and checks a set."""
    plot = values.plot and local_path(values.plot)
    if plot is not None:
        require_writable(plot)
    data = open_prepared(local_path(values.data))
    catalogue = catalogue_of(data)
    names = [name for name in TABLE_1 if name in data.stats.get("name", "").split()]
    say(f"{data.path}: {data.stats.get('name', 'unnamed')}")
    print_counts(data.stats, names[0] if names else None)
    try:
        _print_making(data.stats)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = "filters, split, sources or made are not as FORMAT.md has them"
        raise UserError(f"{data.path / 'stats.json'}: {what}") from error
    checked = check_hashes(data, catalogue) if values.check else 0
    drawn = _histograms(data, catalogue)
    for histogram in drawn:
        say(f"\n{histograms.as_text(histogram)}")
    for name, sessions in (("train", data.train), ("test", data.test)):
        print_first(name, sessions, catalogue, values.sessions)
    if checked:
        say(f"\nwhole: {checked} arrays match their hashes, and those the fingerprint")
    if plot is not None:
        _plot(drawn, plot)


def _print_making(stats: dict[str, Any]) -> None:
    """Says how the set was made, as far as stats.json says."""
    filters = stats.get("filters") or {}
    if filters:
        say(
            f"filters: sessions of at least {filters['min_session_length']} events, "
            f"items of at least {filters['min_item_support']}"
        )
    for step in filters.get("steps", []):
        say(
            f"  {step['step']}: {step['sessions']:,} sessions, {step['events']:,} "
            f"events, {step['items']:,} items"
        )
    split = stats.get("split") or {}
    say(f"split: {_listed(split)}")
    for source in stats.get("sources", []):
        say(
            f"from {source['file']} ({source['role']}, {source['bytes']:,} bytes, "
            f"SHA-256 {source['sha256'][:16]}…)"
        )
    if stats.get("made"):
        say(f"made up: {_listed(stats['made'])}")


def _listed(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def _histograms(data: PreparedData, catalogue: Catalogue) -> list[histograms.Histogram]:
    lengths = [
        histograms.session_lengths(sessions.lengths, name)
        for name, sessions in (("train", data.train), ("test", data.test))
        if sessions.num_sessions
    ]
    return [*lengths, histograms.item_popularity(catalogue.train_events)]


def _plot(drawn: list[histograms.Histogram], path: Path) -> None:
    size = (8, 3 * len(drawn))
    if not save(path, lambda figure: histograms.draw(figure, drawn), size):
        what = "--plot needs matplotlib: pip install 'tron-jax[plots]'"
        raise UserError(what)
    say(f"\nhistograms written to {path}")


if __name__ == "__main__":
    sys.exit(run(main, define_flags(), with_flag(sys.argv)))
