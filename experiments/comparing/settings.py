"""Which runs are one setting, and what a setting is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.comparing import runs as runs_
from experiments.comparing.runs import SEED, Run
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

    The program must be the same too: by its hash, or where a run of an older version
    has none, by the commit that made it.

    Args:
      runs: any.

    Returns:
      Pools in the order of their first runs; and warnings.
    """
    warnings: list[str] = []
    pooled: list[list[Run]] = []
    by_fields: dict[tuple[Any, ...], list[list[Run]]] = {}
    for run in runs:
        alike = by_fields.setdefault(_identity(run), [])
        fitting = [those for those in alike if all(_same_code(run, x) for x in those)]
        if not fitting:
            if alike:
                warnings.append(
                    f"{run.path} and {alike[0][0].path} have the same fields but other "
                    "programs, or nothing says that theirs is the same: not pooled"
                )
            fitting = [[]]
            alike += fitting
            pooled += fitting
        twin = next((x for x in fitting[0] if x.seed == run.seed), None)
        if twin is not None:
            warnings.append(
                f"{run.path} is left out: {twin.path} is of the same setting and seed"
            )
        else:
            fitting[0].append(run)
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
    fields = {k: v for k, v in run.fields.items() if k not in MAY_DIFFER}
    # Runs that still train are at the same epoch or not to be averaged.
    at = None if run.finished else run.evaluations["exact"]["step"]
    return (run.fingerprint, at, *sorted((k, _text(v)) for k, v in fields.items()))


def _same_code(one: Run, other: Run) -> bool:
    programs, commits = (
        [_all(run, key) for run in (one, other)] for key in ("program", "git")
    )
    if all(programs):
        return programs[0] == programs[1]
    # Files that differ from the commit may differ from each other too.
    return commits[0] == commits[1] != () and not any("+" in c for c in commits[0])


def _all(run: Run, key: str) -> tuple[str, ...]:
    """What a run was made with, from its start over each resume."""
    found = (change.get(key) for change in runs_.changes(run.made_with))
    return tuple(dict.fromkeys(str(value) for value in found if value))


def _differing(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Of each run the fields that differ between them, as text."""
    described = [_described(run) for run in runs]
    fields = dict.fromkeys(field for fields in described for field in fields)
    differ = [f for f in fields if len({one.get(f) for one in described}) > 1]
    if len({_identity(run) for run in runs}) == len(runs) and COMMIT in differ:
        differ.remove(COMMIT)  # the fields tell them apart
    return [{field: one.get(field, "") for field in differ} for one in described]


def _described(run: Run) -> dict[str, str]:
    fields = {
        field: _text(value)
        for field, value in run.fields.items()
        if field not in MAY_DIFFER
    }
    commit = " ".join(name[:7] + "+" * name.endswith("+") for name in _all(run, "git"))
    return fields | {DATA: run.fingerprint[:12], COMMIT: commit}


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
    if all(given) and not any("=" in name for name in given):
        names = given
    elif 0 < len(short) <= MOST_IN_NAME:
        names = by_fields
    else:
        names = folders
    names = [
        name if run.finished else f"{name} ({unfinished(run)})".lstrip()
        for name, run in zip(names, firsts, strict=True)
    ]
    return _made_unique(names, [run.path for run in firsts])


def unfinished(run: Run) -> str:
    """How far a run is that still trains."""
    epoch, epochs = run.evaluations["exact"].get("epoch", 0), run.fields["train.epochs"]
    if epoch >= epochs:
        return "trained, but not evaluated yet"
    return f"not finished: {epoch:g} of {epochs:g} epochs"


def _folder_name(run: Run, several: bool) -> str:
    """The folder's own name, without a seed that others of the setting do not have."""
    path = run.folder.absolute()
    name = path.name
    if name.startswith("seed"):
        return path.parent.name
    return name.removesuffix(f"_seed{run.seed}") if several else name


def _made_unique(names: Sequence[str], paths: Sequence[str]) -> list[str]:
    unique: list[str] = []
    for name, path in zip(names, paths, strict=True):
        if names.count(name) > 1:
            name = f"{name} ({path})" if name else path
        unique.append(name)
    return unique
