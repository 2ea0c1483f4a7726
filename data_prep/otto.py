"""Prepares OTTO (github.com/otto-de/recsys-dataset) for tron_jax.

python -m data_prep.otto --raw=DIR_WITH_THE_TWO_JSONL --out=DIR [--skip_bad_rows]

The folder holds otto-recsys-train.jsonl and otto-recsys-test.jsonl, each compressed by
gzip (.gz) or not. Only clicks are kept, and sessions of at least two; there is no
filter of rare items, and the split is OTTO's own. Test items that train lacks are
dropped. DIR gets the format of data_prep/FORMAT.md.
"""

import sys
from pathlib import Path

from absl import flags

from data_prep import log_program
from data_prep.pipeline.filtering import Filters
from data_prep.pipeline.preparation import Recipe, print_summary
from data_prep.reading.otto_jsonl import Otto
from tron_jax.console.messages import warn
from tron_jax.console.program import run
from tron_jax.errors import UserError

RECIPE = Recipe("otto", Filters(min_item_support=1), None, {"kind": "given"})


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    return log_program.define_flags(
        "folder with otto-recsys-train.jsonl and otto-recsys-test.jsonl"
    )


def main(values: flags.FlagValues) -> None:
    """Reads, filters, numbers and writes the log."""
    files = _find(Path(values.raw))
    source = log_program.Source(files, Otto, 46, RECIPE)
    done = log_program.prepare_files(source, values)
    forms = [form for form in done.forms if isinstance(form, Otto)]
    for file, form in zip(files, forms, strict=True):
        others = ", ".join(f"{count:,} {kind}" for kind, count in form.others.items())
        print(
            f"{file.name}: {form.sessions:,} sessions, {form.empty:,} without events, "
            f"{form.unclicked:,} more without clicks; left out: {others or 'no event'}"
        )
        if form.unknown:
            kinds = ", ".join(f"{n:,} {kind!r}" for kind, n in form.unknown.items())
            warn(f"{file}: events of unknown type left out: {kinds}")
    read, long = done.finished.counts[:2]
    print(f"sessions of one click left out: {read.sessions - long.sessions:,}")
    print_summary(done.finished, "otto")


def _find(folder: Path) -> list[Path]:
    """Finds the two files."""
    if not folder.exists():
        raise UserError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder with OTTO's two jsonl files")
    found = []
    for name in ("otto-recsys-train.jsonl", "otto-recsys-test.jsonl"):
        paths = [folder / name, folder / f"{name}.gz"]
        present = [path for path in paths if path.exists()]
        if not present:
            raise UserError(f"{folder}: no file {name}, nor {name}.gz")
        found.append(present[0])
    return found


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
