"""The paper's three data sets: which files each has, and how the paper prepares it.

Source: TRON (arXiv 2307.14906) §3, and what its authors published.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from absl import flags

from data_prep.pipeline.filtering import Filters
from data_prep.pipeline.preparation import PreparedSet, Recipe
from data_prep.pipeline.split import SplitRule
from data_prep.programs import log_program
from data_prep.programs.log_program import LogSizes, prepare_logs
from data_prep.reading.formats import PUBLIC
from data_prep.reading.public_log import PublicLog
from tron_jax.errors import UserError
from tron_jax.files import local_path


class PublicSet(NamedTuple):
    """A public data set.

    raw: help of the flag ``--raw``; find: the files by role, "train" and perhaps
    "test", given that flag; recipe: how the set is made of them.
    """

    raw: str
    find: Callable[[Path], dict[str, Path]]
    recipe: Recipe


def _one_file(path: Path) -> dict[str, Path]:
    return {"train": path}


def _otto_files(folder: Path) -> dict[str, Path]:
    if not folder.exists():
        raise UserError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder with OTTO's two jsonl files")
    found = {}
    for role in ("train", "test"):
        name = f"otto-recsys-{role}.jsonl"
        paths = [folder / name, folder / f"{name}.gz"]
        present = [path for path in paths if path.exists()]
        if not present:
            raise UserError(f"{folder}: no file {name}, nor {name}.gz")
        found[role] = present[0]
    return found


def _last_days(name: str, rule: SplitRule) -> Recipe:
    """The paper's filters, and a split by date."""
    split: dict[str, object] = {"kind": "last_days", "days": rule.days}
    split |= {"judged": rule.judged, "latest": rule.latest}
    return Recipe(name, Filters(), rule, split)


SETS = {
    "diginetica": PublicSet(
        "train-item-views.csv, gzip or not",
        _one_file,
        _last_days("diginetica", SplitRule(judged="first", latest="day", days=7)),
    ),
    "yoochoose": PublicSet(
        "yoochoose-clicks.dat, gzip or not",
        _one_file,
        _last_days("yoochoose", SplitRule(judged="last", latest="start", days=1)),
    ),
    "otto": PublicSet(
        "folder with otto-recsys-train.jsonl and otto-recsys-test.jsonl",
        _otto_files,
        Recipe("otto", Filters(min_item_support=1), None, {"kind": "given"}),
    ),
}


def define_flags(name: str) -> flags.FlagValues:
    """Builds the flags of the program for one of ``SETS``."""
    return log_program.define_flags(SETS[name].raw)


def prepare(
    name: str, values: flags.FlagValues, sizes: LogSizes
) -> tuple[PreparedSet, dict[str, PublicLog]]:
    """Prepares one of ``SETS``; returns it, and the logs that were read, by role."""
    files = SETS[name].find(local_path(values.raw, any_name=True))
    logs = {role: PUBLIC[name](path, sizes.read) for role, path in files.items()}
    return prepare_logs(logs, SETS[name].recipe, values, sizes), logs
