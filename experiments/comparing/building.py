"""From the folders of runs to a comparison of their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.comparing import (
    claims,
    contrasts,
    figures,
    gathering,
    paired,
    ranks,
    settings,
)
from experiments.comparing.claims import Published
from experiments.comparing.comparison import Claim, Comparison, Figure, Setting
from experiments.comparing.differences import Outcome
from experiments.comparing.paired import has_ranks
from experiments.comparing.settings import Pool
from experiments.comparing.speeds import speeds_of
from experiments.comparing.test_parts import (
    Shared,
    held_out,
    open_sets,
    refuse_different,
    shared_predictions,
    shown,
)
from experiments.runs import choices, reading
from experiments.runs.reading import Run
from tron_jax.data.sessions import PreparedData
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import METRICS
from tron_jax.evaluation.protocols import EXACT_AT_BEST

# By the fewest runs of a setting: how often p is below .05 without a difference, at
# most, where both sides have the same noise and where one has nearly all of it.
FALSE_FINDINGS = {2: ("two", "6.5 %", "12.8 %"), 3: ("three", "5.2 %", "7.7 %")}


def build(
    arguments: Sequence[str],
    *,
    baseline: str | None = None,
    compared: str = contrasts.BASELINE,
    protocol: str = "exact",
    published: str | None = None,
    data: Sequence[str] = (),
    speed: Sequence[str] = (),
    command: str,
) -> Comparison:
    """Compares runs.

    Args:
      arguments: workdirs, sweeps' folders, kept results, and folders above them.
      baseline: name of the setting that the others are compared with; the first.
      compared: which settings are, one of those in ``contrasts``.
      protocol: whose predictions are compared, ``exact`` or ``exact_at_best``.
      published: file that tells what others found, see ``claims``.
      data: folders of prepared sets that are not where the runs had them.
      speed: files that ``experiments.benchmark train --json`` wrote.
      command: that repeats this, as typed.

    Raises:
      UserError: where anything of that is not as it should be.
    """
    of_others = claims.NOTHING if published is None else claims.read(published)
    gathered = gathering.gather(arguments)
    runs = figures.at_best(gathered.runs, wanted=protocol == EXACT_AT_BEST)
    sets, missing = open_sets(runs, data)
    refuse_different(runs, sets)
    sets = shown(runs, sets)
    keys = figures.keys_of(runs)
    runs = [ranks.completed(run, keys) for run in runs]
    pools, pooling = settings.pool(runs)
    base = _baseline(pools, baseline, protocol)
    known = claims.known_as(of_others, {p.name: _worth(p) for p in pools})
    speeds = speeds_of(pools, speed)
    devices = next(_devices(pool) for pool in pools if pool.name == base)
    elsewhere = {pool.name: _elsewhere(pool, devices) for pool in pools}
    kept = [run for pool in pools for run in pool.runs]
    shared, unmatched = shared_predictions(kept, sets)
    outcome = Outcome(((), ()), ())
    if shared is not None:
        ours = [key for key in keys if key.partition("@")[0] in METRICS]
        names = {pool.name for pool in pools if has_ranks(pool, protocol)}
        asked = contrasts.of(compared, [pool.name for pool in pools], base)
        with_ranks = {k: name for k, name in known.items() if name in names}
        families = (
            [pair for pair in asked if names.issuperset(pair)],
            claims.contrasts(of_others, with_ranks),
        )
        outcome = paired.outcome(pools, shared, protocol, families, ours)
    return Comparison(
        title=_title(arguments),
        data=_of_data(kept, sets, shared),
        keys=keys,
        settings=tuple(
            _setting(
                pool,
                keys,
                speeds.get(pool.name),
                elsewhere[pool.name],
                _published(of_others, known, pool),
                protocol,
            )
            for pool in pools
        ),
        baseline=base if len(pools) > 1 else None,
        contrasts=compared,
        protocol=protocol,
        differences=outcome.differences[0],
        claims=_settled(pools, of_others, known, outcome),
        slices=outcome.slices,
        swept=_swept(pools),
        warnings=(
            *gathered.warnings,
            *pooling,
            *_of_one_name(pools, known),
            *(missing if shared is not None else ()),
            *unmatched,
            *_without_baseline(pools, base, compared, protocol),
            *_disturbed([p for p in pools if not elsewhere[p.name]], speeds),
            *_of_few_seeds(pools, outcome),
        ),
        commands=(*dict.fromkeys(gathered.commands), command),
    )


def _of_few_seeds(pools: Sequence[Pool], outcome: Outcome) -> list[str]:
    """Says how far p can be trusted; the figures are ``statistics.estimate``'s."""
    tested = {
        name
        for family in outcome.differences
        for d in family
        if d.p is not None
        for name in (d.setting, d.baseline)
    }
    fewest = min((len(p.runs) for p in pools if p.name in tested), default=0)
    if fewest not in FALSE_FINDINGS:
        return []
    runs, alike, unlike = FALSE_FINDINGS[fewest]
    return [
        f"{runs} runs of a setting tell little of training noise: p is below .05 in up "
        f"to {alike} of cases without a difference, and in up to {unlike} where one "
        "setting has far more of it than the other"
    ]


def _worth(pool: Pool) -> tuple[bool, int]:
    """Whether all runs of a setting are finished, and how many there are."""
    return not any(map(_why_open, pool.runs)), len(pool.runs)


def _of_one_name(pools: Sequence[Pool], known: Mapping[str, str]) -> list[str]:
    """Says which of several settings what is published is set beside."""
    remarks = []
    for plain, name in known.items():
        others = [p.name for p in pools if claims.plain_name(p.name) == plain]
        others.remove(name)
        if others:
            remarks.append(
                f"what is published of {plain} is set beside {name}, not beside "
                + "; ".join(others)
            )
    return remarks


def _baseline(pools: Sequence[Pool], asked: str | None, protocol: str) -> str:
    """The name of the baseline, which may be typed without blanks, in any order."""
    if asked is None:
        with_ranks = (pool for pool in pools if has_ranks(pool, protocol))
        return next(with_ranks, pools[0]).name

    def parts(name: str) -> list[str]:
        return sorted(part.strip() for part in name.split(","))

    exact = [pool.name for pool in pools if pool.name == asked]
    alike = [pool.name for pool in pools if parts(pool.name) == parts(asked)]
    for found in (exact, alike):
        if len(found) == 1:
            return found[0]
    names = "; ".join(pool.name for pool in pools)
    raise UserError(f"--baseline={asked}: no such setting; expected one of: {names}")


def _published(of_others: Published, known: Mapping[str, str], pool: Pool) -> dict:
    return next(
        (of_others.figures[k] for k, name in known.items() if name == pool.name), {}
    )


def _settled(
    pools: Sequence[Pool],
    of_others: Published,
    known: Mapping[str, str],
    outcome: Outcome,
) -> tuple[Claim, ...]:
    """What is claimed, and what the runs say of it."""
    by_name = {pool.name: pool.runs for pool in pools}
    why_open = {
        plain: next(filter(None, map(_why_open, by_name[name])), "")
        for plain, name in known.items()
    }
    return claims.settled(of_others, known, outcome.differences[1], why_open)


def _why_open(run: Run) -> str:
    return choices.unsettled(run) or choices.unconverged(run)


def _setting(
    pool: Pool,
    keys: Sequence[str],
    speed: Figure | None,
    elsewhere: str,
    published: Mapping[str, float],
    protocol: str,
) -> Setting:
    """Of a pool; ``elsewhere``: see the function of that name."""
    runs = pool.runs
    timed = [] if elsewhere else runs
    measured = figures.figure(map(figures.sessions_per_s, timed))
    given = speed.mean if speed is not None else None
    curves = [curve for run in runs if (curve := figures.curve(run, given))]
    if elsewhere:
        curves = [curve._replace(seconds=()) for curve in curves]
    return Setting(
        name=pool.name,
        fields=pool.fields,
        seeds=tuple(run.seed for run in runs),
        paths=tuple(run.path for run in runs),
        commits=tuple(map(settings.commits_of, runs)),
        figures=figures.of_protocols(runs, keys),
        chosen=figures.chosen(runs),
        sessions_per_s=speed or measured,
        seconds_to_best=figures.figure(
            figures.seconds_to_best(run, given) for run in timed
        ),
        peak_memory_gb=figures.peak_memory_gb(timed),
        parameters=figures.parameters(runs),
        curves=tuple(curves),
        published=dict(published),
        remarks=(*_remarks(pool, protocol), *filter(None, [elsewhere])),
    )


def _devices(pool: Pool) -> list[str]:
    """The kinds of device that the runs of a setting were on."""
    found = (device for run in pool.runs for device in reading.made_by(run, "device"))
    return list(dict.fromkeys(found))


def _elsewhere(pool: Pool, devices: Sequence[str]) -> str:
    """Says so where not all was trained on the one device of the baseline."""
    own = _devices(pool)
    if not own or not devices or own == list(devices[:1]):
        return ""
    return (
        f"trained on {' and '.join(own)}, the baseline on {' and '.join(devices)}; so "
        "neither its time nor its memory stands here"
    )


def _remarks(pool: Pool, protocol: str) -> list[str]:
    """What a reader must know of a setting."""
    found = list(dict.fromkeys(run.chosen for run in pool.runs if run.chosen))
    for run in pool.runs:
        named = f"{run.path}: " if len(pool.runs) > 1 else ""
        if why := choices.unsettled(run):
            by = "its last" if run.finished else "the latest"
            by += " evaluation" + " while it trains" * (not run.finished)
            found.append(f"{named}{why}; in the table by {by}, and in no difference")
        elif not ranks.path_of(run, protocol):
            found.append(f"{named}no ranks of {protocol}, so in the table only")
        if why := choices.unconverged(run):
            found.append(f"{named}{why}")
    return found


def _title(arguments: Sequence[str]) -> str:
    """What is compared, by the names of the folders."""
    names = [Path(argument).absolute().name for argument in arguments]
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} folders"


def _of_data(
    runs: Sequence[Run], sets: Mapping[str, PreparedData], shared: Shared | None
) -> str:
    """Of the test part: name, sessions, predictions."""
    first = runs[0]
    found = sets.get(first.fingerprint)
    name = f"data {first.fingerprint[:12]}"
    if found is not None:
        name = f"{found.path.absolute().name} ({first.fingerprint[:12]})"
    sessions = "" if shared is None else f"{shared.num_sessions:,} sessions, "
    if found is not None:
        sessions = f"{found.test.num_sessions:,} sessions, "
    predictions = first.evaluations["exact"]["events"]
    return f"{name}, {held_out(first)[0]}: {sessions}{predictions:,} predictions"


def _swept(pools: Sequence[Pool]) -> dict[str, tuple[float, ...]]:
    """Numeric fields with several values, in ascending order."""
    firsts = [pool.runs[0] for pool in pools]
    values = {field: settings.numeric(firsts, field) for field in pools[0].fields}
    return {
        field: tuple(sorted(found)) for field, found in values.items() if len(found) > 1
    }


def _without_baseline(
    pools: Sequence[Pool], base: str, compared: str, protocol: str
) -> list[str]:
    """Says why nothing can be compared with the baseline that was asked for."""
    names = [pool.name for pool in pools]
    having = [pool.name for pool in pools if has_ranks(pool, protocol)]
    if compared == contrasts.CHAIN and having:
        return [
            f"no difference of {after} to {before}, the setting before, as one of them "
            f"has no ranks of {protocol}"
            for before, after in contrasts.of(compared, names, base)
            if not {before, after} <= {*having}
        ]
    if compared != contrasts.BASELINE or base in having or not having:
        return []
    return [f"no differences to {base}, as none of its runs has ranks"]


def _disturbed(pools: Sequence[Pool], speeds: Mapping[str, Figure]) -> list[str]:
    """Says why figures of time are left out."""
    runs = [run for pool in pools if pool.name not in speeds for run in pool.runs]
    disturbed = [run for run in runs if figures.undisturbed(run) is False]
    if not disturbed:
        return []
    return [
        f"{len(disturbed)} of {len(runs)} runs say nothing of speed, as they ran at a "
        "nice above 0 or beside other work; --speed names files of "
        "experiments.benchmark train --json"
    ]
