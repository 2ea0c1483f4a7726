"""Which runs a sweep is made of: a product of values, or what a file says."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments import checks, python_file
from tron_jax.errors import UserError

LONGEST = 120  # characters of a folder's name; file systems take 255 bytes
MOST_SEEDS = 1000

# fields by path -> the config with these
ReadConfig = Callable[[Mapping[str, str]], ConfigDict]


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
      setting: name of what it shares with runs that differ by their seed.
      seed: ``train.seed``.
      config: of the run, its seed set.
      fingerprint: of its data, once they have been opened.
    """

    setting: str
    seed: int
    config: ConfigDict
    fingerprint: str = ""

    @property
    def name(self) -> str:
        """Its folder in that of the sweep."""
        return f"{self.setting}/seed={self.seed}"


class Refused(NamedTuple):
    """A setting that makes no sense, and why."""

    setting: str
    why: str


class Setting(NamedTuple):
    """A config for one seed or more, ``config.train.seed`` being the first."""

    name: str
    config: ConfigDict
    seeds: int


def parse_over(over: Sequence[str]) -> dict[str, list[str]]:
    """Reads ``field=value,value``; a comma within brackets is part of a value.

    Raises:
      UserError: where it is no such thing, or names a field twice.
    """
    swept: dict[str, list[str]] = {}
    for text in over:
        field, equals, values = text.partition("=")
        field = field.removeprefix("config.")
        parts = re.split(r",(?![^(\[]*[)\]])", values)
        if not equals or not all(parts):
            raise UserError(f"--over={text}: expected FIELD=VALUE,VALUE,…")
        if "." not in field:
            raise UserError(f"--over={text}: expected a field, as GROUP.NAME")
        if field in swept:
            raise UserError(f"--over={text}: {field} is swept twice")
        if field == "train.seed":
            raise UserError(f"--over={text}: expected --seeds=N instead")
        if len(set(parts)) < len(parts):
            raise UserError(f"--over={text}: a value stands there twice")
        swept[field] = parts
    return swept


def product(
    swept: Mapping[str, Sequence[str]], read: ReadConfig, *, alone: str, seeds: int
) -> list[Setting]:
    """Every combination of values.

    Args:
      swept: values by field.
      read: makes the config of a combination.
      alone: name of the one setting, where nothing is swept.
      seeds: of each.

    Raises:
      UserError: if there is no such field, or a value has the wrong type.
    """
    leaves = [field.rpartition(".")[2] for field in swept]
    names = {
        field: leaf if leaves.count(leaf) == 1 else field
        for field, leaf in zip(swept, leaves, strict=True)
    }
    settings = []
    for values in itertools.product(*swept.values()):
        fields = dict(zip(swept, values, strict=True))
        parts = [f"{names[field]}={value}" for field, value in fields.items()]
        name = folder_name(",".join(parts) or alone)
        settings.append(Setting(name, read(fields), seeds))
    return settings


def folder_name(text: str) -> str:
    """What may be a folder's name of a text."""
    return re.sub(r"[^\w.,=()+-]+", "_", text)[:LONGEST].strip(".") or "_"


def read_file(named: str, seeds: int | None) -> list[Setting]:
    """Calls ``sweep(argument)`` of a file.

    Args:
      named: FILE[:argument].
      seeds: of each setting, instead of what the file says.

    Raises:
      UserError: whatever is wrong with the file.
    """
    file = python_file.run("--sweep", named, "sweeps")
    found = python_file.call(file, "sweep")
    try:
        settings = [
            Setting(folder_name(name), config, seeds or count)
            for name, (config, count) in found.items()
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{file.flag}: of sweep expected {{name: (config, seeds)}}"
        ) from error
    for setting in settings:
        if not (isinstance(setting.config, ConfigDict) and _is_count(setting.seeds)):
            raise UserError(
                f"--sweep={named}: of {setting.name} expected a pair (config, seeds)"
            )
    return settings


def _is_count(seeds: object) -> bool:
    return type(seeds) is int and 1 <= seeds <= MOST_SEEDS


def runs_of(
    settings: Sequence[Setting], *, seed_by_seed: bool
) -> tuple[list[Run], list[Refused]]:
    """The runs of all settings, and the settings that are refused.

    Args:
      settings: in their order.
      seed_by_seed: whether the first seed of every setting comes before the second of
        any, so that a sweep that is cut short has compared all; else all seeds of a
        setting come before the next setting.

    Raises:
      UserError: where two settings have one name, or there is none.
    """
    names = [setting.name for setting in settings]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two settings would have the folder {twice[0]}")
    if not settings:
        raise UserError("a sweep of no settings; expected at least one")
    refused, sound = [], []
    for setting in settings:
        try:
            checks.check(setting.config)
            checks.check(_seeded(setting, setting.seeds - 1).config)
            sound.append(setting)
        except UserError as error:
            refused.append(Refused(setting.name, str(error)))
    _refuse_equal(sound)
    numbers = [(i, setting) for setting in sound for i in range(setting.seeds)]
    if seed_by_seed:
        numbers.sort(key=lambda number: number[0])  # stable: settings keep their order
    return [_seeded(setting, index) for index, setting in numbers], refused


def _refuse_equal(settings: Sequence[Setting]) -> None:
    """Refuses the same setting under two names, as of 0.1 and .10."""
    names: dict[str, str] = {}
    for setting in settings:
        text = json.dumps(setting.config.to_dict(), sort_keys=True)
        if text in names:
            raise UserError(
                f"{names[text]} and {setting.name} are the same setting; expected one"
            )
        names[text] = setting.name


def _seeded(setting: Setting, index: int) -> Run:
    config = setting.config.copy_and_resolve_references()
    config.train.seed += index
    return Run(setting.name, config.train.seed, config)
