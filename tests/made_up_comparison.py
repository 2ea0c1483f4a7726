"""Comparisons out of thin air, of any size and with anything missing."""

from __future__ import annotations

import itertools
import math
import sys

from experiments.comparing.comparison import (
    Choice,
    Claim,
    Comparison,
    Curve,
    Difference,
    Figure,
    Setting,
    Slice,
    SliceValue,
)

KEYS = tuple(f"{m}@{k}" for k in (5, 10, 20) for m in ("recall", "mrr", "ndcg"))
SCOPES = ("event", "session", "batch")
SLICES = {
    "position in the session": (["1", "2", "3", "4", "5", "6 to 10", "11 and more"]),
    "popularity of the label": [f"tenth {n}" for n in range(1, 11)],
    "label in the session": ["already", "new"],
}


def figure(mean: float, seeds: int) -> Figure:
    return Figure(mean, None if seeds == 1 else mean / 300, seeds)


def metric(key: str, at: float) -> float:
    name, _, cutoff = key.partition("@")
    share = {"recall": 1.0, "mrr": 0.36, "ndcg": 0.5}[name]
    return at * share * math.log(1 + int(cutoff)) / math.log(21)


def curve(seed: int, at: float, epochs: int, seconds: float) -> Curve:
    ends = tuple(float(epoch) for epoch in range(1, epochs + 1))
    windows = tuple(n / 20 for n in range(1, 20 * epochs + 1))
    wave = 0.002 * (seed - 1)
    return Curve(
        seed=seed,
        epochs=ends,
        seconds=tuple(seconds * end * (1 + seed / 50) for end in ends),
        recall=tuple(at * (1 - 0.4 * math.exp(-end)) + wave for end in ends),
        loss_epochs=windows,
        losses=tuple(
            4 + 3 * math.exp(-w * at * 3) + 0.05 * math.sin(w * 40) for w in windows
        ),
    )


def setting(
    scope: str, topk: int, *, seeds: int, epochs: int = 5, timed: bool = True
) -> Setting:
    at = 0.5 + 0.012 * SCOPES.index(scope) + 0.004 * math.log1p(topk)
    steps, numbers = tuple(1808 * epochs for _ in range(seeds)), range(seeds)
    figures = {key: figure(metric(key, at), seeds) for key in KEYS}
    paper = {key: figure(metric(key, at + 0.004), seeds) for key in KEYS}
    name = f"drawn_per={scope},topk={topk}"
    return Setting(
        name=name,
        fields={"negatives.drawn_per": scope, "loss.topk": str(topk)},
        seeds=tuple(numbers),
        paths=tuple(f"runs/sweep/{name}/seed={n}" for n in numbers),
        commits=tuple("c0ffee1" for _ in numbers),
        figures={"paper": paper, "exact": figures},
        chosen={
            "paper": Choice(
                tuple(1808 * (2 + n % 2) for n in numbers),
                tuple(2.0 + n % 2 for n in numbers),
                "best, the highest Recall@20 on test",
            ),
            "exact": Choice(steps, tuple(float(epochs) for _ in numbers), "latest"),
        },
        sessions_per_s=figure(900.0 + 400 * SCOPES.index(scope) - topk / 2, seeds)
        if timed
        else None,
        seconds_to_best=figure(400.0 - 40 * SCOPES.index(scope), seeds),
        peak_memory_gb=figure(1.2 + topk / 1000, seeds),
        parameters=5_556_200,
        curves=tuple(
            curve(n, at, epochs, 200 - 40 * SCOPES.index(scope)) for n in numbers
        ),
        published={},
        remarks=(),
    )


def difference(base: Setting, other: Setting, key: str, *, tested: bool) -> Difference:
    value = other.figures["exact"][key].mean - base.figures["exact"][key].mean
    covers = len(base.seeds) > 1 and len(other.seeds) > 1
    half = 0.006 if covers else 0.003
    p = math.exp(-abs(value) * 500) if covers else None
    return Difference(
        baseline=base.name,
        setting=other.name,
        key=key,
        value=value,
        low=value - half,
        high=value + half,
        p=p,
        p_holm=min(1.0, 3 * p) if p is not None and tested else None,
        covers_seeds=covers,
    )


def slices(settings: tuple[Setting, ...]) -> tuple[Slice, ...]:
    made = []
    for by, names in SLICES.items():
        for n, name in enumerate(names):
            values = [
                SliceValue(s.name, at, at - 0.004 * (1 + n), at + 0.004 * (1 + n))
                for s in settings
                for at in [s.figures["exact"]["recall@20"].mean - 0.03 * n]
            ]
            made.append(
                Slice(by, name, 60_858 // 2 ** (n + 1), "recall@20", tuple(values))
            )
    return tuple(made)


def comparison(
    *,
    scopes: tuple[str, ...] = SCOPES,
    topks: tuple[int, ...] = (0, 100),
    seeds: int = 3,
    contrasts: str = "baseline",
    claimed: bool = False,
    **made,
) -> Comparison:
    """Of the settings ``scopes`` x ``topks``; the first is the baseline."""
    settings = tuple(
        setting(scope, topk, seeds=seeds) for topk in topks for scope in scopes
    )
    base, *others = settings
    compared = {
        "baseline": [(base, other) for other in others],
        "chain": list(itertools.pairwise(settings)),
        "pairs": list(itertools.combinations(settings, 2)),
    }[contrasts]
    if claimed:
        settings = tuple(map(with_published, settings))
    whole = Comparison(
        title="sampler_sweep",
        data="diginetica, test: 15,963 sessions, 60,858 predictions",
        keys=KEYS,
        settings=settings,
        baseline=base.name if others else None,
        contrasts=contrasts,
        protocol="exact",
        claims=claims(settings) if claimed else (),
        differences=tuple(
            difference(a, b, key, tested=key in ("recall@20", "mrr@20"))
            for a, b in compared
            for key in KEYS
        ),
        slices=slices(settings),
        swept={"loss.topk": tuple(float(k) for k in sorted(topks))}
        if len(topks) > 1
        else {},
        warnings=(),
        commands=(
            "python -m experiments.sweep --workdir=runs/sweep"
            " --config=experiments/configs/tron_xl.py:diginetica"
            " --over=negatives.drawn_per=event,session,batch"
            " --over=loss.topk=0,100 --seeds=3",
            "python -m experiments.compare runs/sweep --out=report",
        ),
    )
    return whole._replace(**made)


def with_published(made: Setting) -> Setting:
    """The same setting, of which others published rounded figures."""
    exact = made.figures["exact"]
    keys = ("recall@20", "mrr@20")
    return made._replace(published={key: round(exact[key].mean, 3) for key in keys})


def claims(settings: tuple[Setting, ...]) -> tuple[Claim, ...]:
    """Of each setting and the next one, of every outcome that there is."""
    made = []
    for n, (lower, higher) in enumerate(itertools.pairwise(settings)):
        for key in ("recall@20", "mrr@20"):
            found = difference(lower, higher, key, tested=True)
            published = found.value * (-1 if n == 3 else 1)
            open_why = f"{lower.name} not converged after 30 epochs" if n == 1 else ""
            claim = Claim(
                f"claim {n}", higher.name, lower.name, key, published, found, open_why
            )
            made.append(claim if n != 2 else claim._replace(difference=None))
    return tuple(made)


def at_best(made: Setting) -> Setting:
    """The same setting, whose best step is not its latest."""
    better = {key: figure(metric(key, 0.6), len(made.seeds)) for key in KEYS}
    steps = tuple(1808 * 2 for _ in made.seeds)
    rule = "best, the highest Recall@20 on validation"
    choice = Choice(steps, tuple(2.0 for _ in made.seeds), rule)
    return made._replace(
        figures=made.figures | {"exact_at_best": better},
        chosen=made.chosen | {"exact_at_best": choice},
    )


def bare(name: str) -> Setting:
    """A setting of which little more than a name is known, as of an old kept result."""
    return Setting(
        name,
        {},
        (0,),
        (name,),
        (),
        {},
        {},
        None,
        None,
        None,
        None,
        (),
        {},
        ("means only",),
    )


def with_name(name):
    """A comparison in which a name stands everywhere where a name can."""
    whole = comparison(topks=(0,), seeds=2)
    base, other, last = whole.settings
    old = other.name
    renamed = other._replace(
        name=name, fields={"negatives.drawn_per": name}, remarks=(name,)
    )
    return whole._replace(
        title=name,
        data=name,
        warnings=(name,),
        commands=(f"python -m {name}",),
        settings=(base, renamed, last),
        differences=tuple(
            d._replace(setting=name if d.setting == old else d.setting)
            for d in whole.differences
        ),
        slices=tuple(
            part._replace(
                by=name,
                name=name if part.name == "1" else part.name,
                values=tuple(
                    v._replace(setting=name if v.setting == old else v.setting)
                    for v in part.values
                ),
            )
            for part in whole.slices[:3]
        ),
    )


def unfinished(whole):
    """One setting of a comparison, of which no run was evaluated or logged yet."""
    return whole._replace(
        settings=(bare("runs/new"),), baseline=None, differences=(), slices=()
    )


def without_matplotlib(patch) -> None:
    """Has a test run as where the extra ``plots`` is not installed."""
    patch.setitem(sys.modules, "matplotlib", None)
    patch.setitem(sys.modules, "matplotlib.figure", None)


TWELVE = {"topks": (0, 10, 100, 500)}
HOSTILE = '<b>&"|`$x$ _y_ \x07\udcff</script>'
