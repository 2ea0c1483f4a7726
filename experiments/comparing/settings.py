"""Which runs are one setting, and what a setting is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.runs import choices, reading
from experiments.runs.reading import SEED, Run
from experiments.workdirs import WITHOUT_EFFECT

MAY_DIFFER = {SEED, *WITHOUT_EFFECT}
DATA, COMMIT = "data", "commit"  # no fields of a config, but runs may differ by them
MOST_IN_NAME = 3  # fields; of settings that differ in more, folders say it better


class Pool(NamedTuple):
    """Runs that differ by their seed alone.

    Attributes:
      name: unique.
      runs: in their order, each of another seed.
      fields: values, as text, of what differs between pools.
    """

    name: str
    runs: list[Run]
    fields: dict[str, str]


def pool(runs: Sequence[Run]) -> tuple[list[Pool], list[str]]:
    """Pools runs by what they share.

    What was evaluated must be their ends, chosen by the same rule, or the same step.
    The program must be the same too: by its hash, or where a run of an older version
    has none, by the commit that made it.

    Args:
      runs: any.

    Returns:
      Pools in the order of their first runs; and warnings.
    """
    warnings: list[str] = []
    pooled: list[list[Run]] = []
    for run in runs:
        alike = [those for those in pooled if _identity(those[0]) == _identity(run)]
        fitting = [those for those in alike if all(_same_code(run, x) for x in those)]
        if not fitting:
            pooled.append([run])
            warnings += _why_apart(run, alike, pooled[:-1])
            continue
        twins = [other for other in fitting[0] if other.seed == run.seed]
        if not twins:
            fitting[0].append(run)
            continue
        warnings.append(
            f"{run.path} is left out: {twins[0].path} is of the same setting and seed"
        )
    differing = _differing([those[0] for those in pooled])
    names = _names(pooled, differing)
    return [
        Pool(name, those, fields)
        for name, those, fields in zip(names, pooled, differing, strict=True)
    ], warnings


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """Each field without its group where that leaves no doubt; model.name is model."""
    short = {}
    for field in fields:
        group, _, leaf = field.rpartition(".")
        short[field] = group if leaf == "name" else leaf
    taken = list(short.values())
    return {
        field: name if taken.count(name) == 1 else field
        for field, name in short.items()
    }


def numeric(runs: Sequence[Run], field: str) -> set[float]:
    """The numbers that a field is set to; none where it is not always one."""
    values = [run.fields.get(field) for run in runs]
    found = {float(v) for v in values if isinstance(v, int | float)}
    always = all(isinstance(v, int | float) for v in values)
    return found if always and not any(isinstance(v, bool) for v in values) else set()


def _identity(run: Run) -> tuple[Any, ...]:
    """What runs of one setting share, besides the program."""
    return choices.state(run), *_fields(run)


def _fields(run: Run) -> tuple[Any, ...]:
    """What was asked for: the data, and fields of the config."""
    fields = {k: v for k, v in run.fields.items() if k not in MAY_DIFFER}
    return run.fingerprint, *sorted((k, _text(v)) for k, v in fields.items())


def _why_apart(
    run: Run, alike: Sequence[Sequence[Run]], others: Sequence[Sequence[Run]]
) -> list[str]:
    """Says why a run is not pooled with one that has the same fields.

    Args:
      run: the first of a new pool.
      alike: pools that it would be in but for its program.
      others: all pools. Where a name says that a run is not at its end, that is enough.
    """
    if alike:
        return [
            f"{run.path} and {alike[0][0].path} have the same fields but other "
            "programs, or nothing says that theirs is the same: not pooled"
        ]
    same = [those[0] for those in others if _fields(those[0]) == _fields(run)]
    settled = [one for one in (run, *same) if not choices.unsettled(one)]
    if len(settled) < 2 or settled[0] is not run:
        return []
    chosen = [choices.rule_of(one, "exact") for one in settled[:2]]
    steps = [one.evaluations["exact"]["step"] for one in settled[:2]]
    return [
        f"{run.path} and {settled[1].path} have the same fields but were evaluated at "
        f"other states ({chosen[0]}: step {steps[0]:,}; {chosen[1]}: step "
        f"{steps[1]:,}): not pooled"
    ]


def commits_of(run: Run) -> str:
    """The commits that made a run, in short; + where files differed from one."""
    return " ".join(
        name[:7] + "+" * name.endswith("+") for name in reading.made_by(run, "git")
    )


def _same_code(one: Run, other: Run) -> bool:
    programs, commits = (
        [reading.made_by(run, key) for run in (one, other)]
        for key in ("program", "git")
    )
    if all(programs):
        return programs[0] == programs[1]
    # Files that differ from the commit may differ from each other too.
    return commits[0] == commits[1] != () and not any("+" in c for c in commits[0])


def _differing(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Of each run the fields that differ between them, as text."""
    data = _names_of_data(runs)
    described = [_described(run, data[run.fingerprint]) for run in runs]
    fields = dict.fromkeys(field for fields in described for field in fields)
    differ = [f for f in fields if len({one.get(f) for one in described}) > 1]
    if len({_identity(run) for run in runs}) == len(runs) and COMMIT in differ:
        differ.remove(COMMIT)  # the fields tell them apart
    return [{field: one.get(field, "") for field in differ} for one in described]


def _names_of_data(runs: Sequence[Run]) -> dict[str, str]:
    """By fingerprint the folder of the data, or where that is no name the fingerprint.

    What was kept names no folder, and several may have the same name.
    """
    folders: dict[str, set[str]] = {}
    for run in runs:
        path = str(run.fields.get("data.path") or "")
        folders.setdefault(run.fingerprint, set()).add(Path(path).name)
    names = {min(found) for found in folders.values() if len(found) == 1} - {""}
    if len(names) == len(folders):
        return {name: min(found) for name, found in folders.items()}
    return {name: name[:12] for name in folders}


def _described(run: Run, data: str) -> dict[str, str]:
    fields = {
        field: _text(value)
        for field, value in run.fields.items()
        if field not in MAY_DIFFER
    }
    return fields | {DATA: data, COMMIT: commits_of(run)}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"  # 0.0 is 0, as older configs may have it
    if isinstance(value, list | tuple):
        return " ".join(map(_text, value))
    return str(value)


def _names(
    pooled: Sequence[Sequence[Run]], differing: Sequence[Mapping[str, str]]
) -> list[str]:
    """What the settings are called: by a sweep's author, by fields, by folders."""
    firsts = [those[0] for those in pooled]
    given = [run.named for run in firsts]
    short = short_names(list(differing[0])) if differing else {}
    by_fields = [
        ", ".join(f"{short[field]}={value}" for field, value in fields.items())
        for fields in differing
    ]
    folders = [
        _folder_name(run, len(those) > 1)
        for run, those in zip(firsts, pooled, strict=True)
    ]
    if (
        all(given)
        and not all(map(_says_fields, firsts))
        and len({*given}) == len(given)
    ):
        names = given
    elif 0 < len(short) <= MOST_IN_NAME:
        names = by_fields
    else:
        names = folders
    names = [
        f"{name} ({why})".lstrip() if (why := choices.unsettled(run)) else name
        for name, run in zip(names, firsts, strict=True)
    ]
    rules = [choices.rule_of(run, "exact").partition(",")[0] for run in firsts]
    for told in (rules, [run.path for run in firsts]):
        names = _made_unique(names, told)
    return names


def _says_fields(run: Run) -> bool:
    """Whether a sweep named a setting by values of fields, as of a product of them."""
    texts = {(field, _text(value)) for field, value in run.fields.items()}
    pairs = [part.partition("=")[::2] for part in run.named.split(",")]
    return all(
        any(f".{field}".endswith(f".{name}") and value == text for field, text in texts)
        for name, value in pairs
    )


def _folder_name(run: Run, several: bool) -> str:
    """The folder's own name, without a seed that others of the setting do not have."""
    path = run.folder.absolute()
    name = path.name
    if name.startswith("seed"):
        return path.parent.name
    return name.removesuffix(f"_seed{run.seed}") if several else name


def _made_unique(names: Sequence[str], told: Sequence[str]) -> list[str]:
    """Adds to names that are there several times what tells them apart, if it does."""
    unique: list[str] = []
    for name, more in zip(names, told, strict=True):
        same = {t for n, t in zip(names, told, strict=True) if n == name}
        if len(same) > 1:
            name = f"{name} ({more})" if name else more
        unique.append(name)
    return unique
