"""How figures and differences are put into words, the same in every output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from experiments.comparing.comparison import Claim, Comparison, Difference, Figure
from experiments.comparing.contrasts import CHAIN
from tron_jax.evaluation.metrics import title

UNKNOWN = "\N{EN DASH}"
UNTIL = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
LEVEL = 0.05  # of the tests: what is below it is called a difference
MAIN = ("recall@20", "mrr@20")  # the metrics of the paper's Table 2
SESSIONS_ONLY = "sessions only: training noise not covered"

SPREAD = "± is the standard deviation of one run."


def cleaned(value: Any) -> Any:
    """Returns a comparison whose every text can be written in any format.

    A folder may be named by bytes that are no text, and by control characters that
    XML cannot hold.
    """
    if isinstance(value, str):
        text = value.encode("utf-8", "backslashreplace").decode("utf-8")
        return "".join(c if c.isprintable() else " " for c in text)
    if isinstance(value, dict):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [cleaned(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def number(value: float | None, form: str = ".4f") -> str:
    """Returns a number with a minus that is as wide as a plus."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = format(value, form)
    if not text.strip("+-0.,%"):  # what rounds to nothing has no sign
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def spread(figure: Figure | None, form: str = ".4f") -> str:
    """Returns a mean, and what one run deviates from it where that is known."""
    if figure is None:
        return UNKNOWN
    if figure.deviation is None:
        return number(figure.mean, form)
    return f"{number(figure.mean, form)} ± {number(figure.deviation, form)}"


def span(values: Sequence[float], form: str = ",.6g") -> str:
    """Returns the one value that all are, or the smallest and the largest."""
    if not values:
        return UNKNOWN
    low, high = number(min(values), form), number(max(values), form)
    return low if low == high else f"{low}{UNTIL}{high}"


def interval(difference: Difference) -> str:
    return f"[{number(difference.low, '+.4f')}, {number(difference.high, '+.4f')}]"


def p_value(p: float | None) -> str:
    """Returns p with three digits, or as many as keep it on its side of the level."""
    if p is None or not math.isfinite(p):
        return UNKNOWN
    if p < 0.001:
        return "< .001"
    digits = 3
    while (round(p, digits) < LEVEL) != (p < LEVEL):
        digits += 1
    return format(p, f".{digits}f").removeprefix("0") if p < 0.9995 else "1"


def differs(difference: Difference) -> bool:
    """Whether a difference may be called one: tested, with training noise covered."""
    p = adjusted(difference)
    return p is not None and p < LEVEL and difference.value != 0


def outcome(difference: Difference) -> str:
    """Says what can be concluded from a difference, and no more."""
    if not difference.covers_seeds:
        return SESSIONS_ONLY
    if difference.p_holm is None:
        return "interval only: not tested"
    if not differs(difference):
        return "no difference shown"
    return "higher" if difference.value > 0 else "lower"


def verdict(difference: Difference) -> str:
    """Returns the outcome with its p, where it has one."""
    p = adjusted(difference)
    if p is None:
        return outcome(difference)
    equals = "p " if p < 0.001 else "p = "
    return f"{outcome(difference)}, {equals}{p_value(p)} after Holm"


def adjusted(difference: Difference) -> float | None:
    """Returns the p that a verdict may go by; None where training noise is left out."""
    return difference.p_holm if difference.covers_seeds else None


def reading(comparison: Comparison) -> str:
    """Says what the differences, their intervals and p are."""
    protocol = protocol_title(comparison.protocol)
    lines = [
        f"Differences are those of {protocol}, over the same predictions.",
        "Intervals cover 95 % and, where both sides have two runs or more, the draw of "
        "test sessions and training noise.",
    ]
    if any(adjusted(d) is not None for d in comparison.differences):
        lines.append(
            "p is two-sided, adjusted by Holm's method for all differences in its "
            f"metric; below {LEVEL} a difference is called higher or lower. That none "
            "is shown does not show that there is none."
        )
    return " ".join(lines)


def of_slices(comparison: Comparison) -> str:
    """Says what the tables and pictures of slices show."""
    protocol = protocol_title(comparison.protocol)
    return (
        f"Of {protocol}, with 95 % intervals of each setting by itself. All saw "
        "the same sessions, so that intervals may overlap where settings differ."
    )


def main_keys(comparison: Comparison) -> list[str]:
    """Which metrics' differences are told first: those tested, or of Table 2."""
    found = [d.key for d in comparison.differences]
    tested = {d.key for d in comparison.differences if d.p_holm is not None}
    keys = [key for key in comparison.keys if key in found]
    return (
        [key for key in keys if key in tested]
        or [key for key in keys if key in MAIN]
        or keys[:1]
    )


def sided(comparison: Comparison) -> bool:
    """Whether each setting is compared with one other alone: a baseline, or the last.

    Of all pairs neither side is the one that is asked about.
    """
    one_baseline = len({d.baseline for d in comparison.differences}) <= 1
    return one_baseline or comparison.contrasts == CHAIN


def contrast(comparison: Comparison, difference: Difference) -> str:
    """Names what is compared; both settings where it may be with several others."""
    if sided(comparison):
        return difference.setting
    return f"{difference.setting} {MINUS} {difference.baseline}"


def compared(comparison: Comparison) -> str:
    """Says what differences are to."""
    if sided(comparison):
        return f"difference to {_compared_with(comparison)}"
    return "differences of all pairs"


def _compared_with(comparison: Comparison) -> str:
    if comparison.contrasts == CHAIN:
        return "the setting before"
    return comparison.differences[0].baseline


def shortened(fields: Sequence[str]) -> dict[str, str]:
    """Returns each field without its group, where that leaves no doubt."""
    last = [field.rpartition(".")[2] for field in fields]
    return {
        field: name if last.count(name) == 1 else field
        for field, name in zip(fields, last, strict=True)
    }


def cut(name: str, most: int = 56) -> str:
    """Returns a name, or both its ends where a picture has no room for more."""
    half = most // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half + 1 :]}"


def conclusions(comparison: Comparison) -> list[tuple[str, str]]:
    """Says for each of the main metrics, in words, what its differences show."""
    return [
        (title(key), _conclusion(comparison, found))
        for key in main_keys(comparison)
        for found in [[d for d in comparison.differences if d.key == key]]
    ]


def _conclusion(comparison: Comparison, found: list[Difference]) -> str:
    tested = [d for d in found if adjusted(d) is not None]
    different = [d for d in tested if differs(d)]
    groups = {"differ": different}  # of pairs neither side is the baseline
    against = ""
    if sided(comparison):
        groups = {
            "higher": [d for d in different if d.value > 0],
            "lower": [d for d in different if d.value < 0],
        }
        against = f"against {_compared_with(comparison)}: " if different else ""
    parts = [
        f"{len(group)} of {len(tested)} {words} ({_by_how_much(comparison, group)})"
        for words, group in groups.items()
        if group
    ]
    if undecided := len(tested) - len(different):
        parts.append(f"no difference shown for {undecided} of {len(tested)}")
    if uncovered := sum(not d.covers_seeds for d in found):
        parts.append(
            f"no verdict on {uncovered} of {len(found)}, which have one run on a side: "
            "their intervals cover the draw of sessions, not training noise"
        )
    return against + "; ".join(parts) if parts else "not tested"


def _by_how_much(comparison: Comparison, found: list[Difference]) -> str:
    """Names a few differences, and of many the range."""
    found = sorted(found, key=lambda d: abs(d.value))
    if len(found) <= 2:
        named = (f"{contrast(comparison, d)} by {_size(d)}" for d in found)
        return " and ".join(named)
    return f"by {_size(found[0])} to {_size(found[-1])}"


def _size(difference: Difference) -> str:
    return number(abs(difference.value))


HOLDS, HOLDS_NOT, NOT_SHOWN, OPEN = "holds", "does not hold", "not shown", "open"
# What is said of one claim, and of several.
COUNTED = {
    HOLDS: (HOLDS, "hold"),
    HOLDS_NOT: (HOLDS_NOT, "do not hold"),
    NOT_SHOWN: (f"is {NOT_SHOWN}", f"are {NOT_SHOWN}"),
    OPEN: (f"is {OPEN}", f"are {OPEN}"),
}


def claim_outcome(claim: Claim) -> str:
    """Says whether a claim of others holds, or what leaves it open."""
    if claim.open:
        return f"{OPEN}: {claim.open}"
    if claim.difference is None:
        return f"{OPEN}: predictions that could be compared are missing"
    if not claim.difference.covers_seeds:
        return f"{OPEN}: one run on a side"
    if claim.difference.p_holm is None:
        return f"{OPEN}: interval only, no test in this metric"
    if not differs(claim.difference):
        return NOT_SHOWN
    same = (claim.difference.value > 0) == (claim.published > 0)
    return HOLDS if same else HOLDS_NOT


def of_claims(comparison: Comparison) -> str:
    """Says how many of the claims hold, and how to read their table."""
    said = [claim_outcome(c).partition(":")[0] for c in comparison.claims]
    told = [
        f"{said.count(outcome)} {words[said.count(outcome) > 1]}"
        for outcome, words in COUNTED.items()
        if outcome in said
    ]
    return (
        f"Of {len(said)} claims: {', '.join(told)}. Each is about one metric: the "
        "difference between two settings as published, and as found here in "
        f"{protocol_title(comparison.protocol)}, its p adjusted by Holm's method for "
        f"all claims in that metric. What {HOLDS_NOT} is the other way round here; "
        f"what is {NOT_SHOWN} may be so, but these runs do not tell."
    )


def rules(comparison: Comparison) -> list[str]:
    """Says for each protocol which rule chose the state that was evaluated."""
    lines = []
    for protocol in protocols(comparison):
        chosen: dict[str, list[str]] = {}
        for setting in comparison.settings:
            if choice := setting.chosen.get(protocol):
                chosen.setdefault(choice.rule, []).append(setting.name)
        if len(chosen) == 1:
            lines.append(f"{protocol_title(protocol)}: {next(iter(chosen))}")
        lines += [
            f"{protocol_title(protocol)}: {rule} ({'; '.join(names)})"
            for rule, names in chosen.items()
            if len(chosen) > 1
        ]
    return lines


def remarks(comparison: Comparison) -> list[str]:
    """Returns what a reader must know of single settings, a line each."""
    return [f"{s.name}: {remark}" for s in comparison.settings for remark in s.remarks]


def protocols(comparison: Comparison) -> list[str]:
    """Which protocols any setting has, ``exact`` first."""
    known = ("exact", "exact_at_best", "paper")
    found = {name for setting in comparison.settings for name in setting.figures}
    return [name for name in known if name in found] + sorted(found - {*known})


def protocol_title(protocol: str) -> str:
    return protocol.replace("_", " ")
