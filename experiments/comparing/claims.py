"""What others published of the settings that are compared, and whether it holds here.

A file of Python, such as ``experiments/sweeps/table2.py``, says it: ``published``
returns figures by setting and key, ``claims`` pairs of settings of which one is said to
be better. What the claim is in a metric follows from the published figures.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments import python_file
from experiments.comparing.comparison import Claim, Difference
from experiments.comparing.contrasts import Contrast
from experiments.runs import reading
from tron_jax.errors import UserError

ROUNDING = 1e-9  # differences of published figures below it are none


class Said(NamedTuple):
    """One claim, of any metric.

    Attributes:
      text: in a few words.
      higher: the setting that is said to be better.
      lower: the other.
    """

    text: str
    higher: str
    lower: str


class Published(NamedTuple):
    """What a file says.

    Attributes:
      figures: by setting, then by key.
      claims: in their order.
    """

    figures: dict[str, dict[str, float]]
    claims: list[Said]


NOTHING = Published({}, [])


def read(named: str) -> Published:
    """Calls ``published(argument)`` and ``claims(argument)`` of a file.

    Args:
      named: FILE[:argument].

    Raises:
      UserError: whatever is wrong with the file.
    """
    file = python_file.run("--claims", named, "sweeps")
    figures = python_file.call(file, "published")
    if not _are_figures(figures):
        raise UserError(
            f"{file.flag}: of published expected figures by setting and key, such as "
            "{'tron_xl': {'recall@20': 0.541}}"
        )
    claims = _claims(file)
    for name in (name for claim in claims for name in (claim.higher, claim.lower)):
        if name not in figures:
            raise UserError(
                f"{file.flag}: a claim is about {name}, of which published has no "
                "figures"
            )
    return Published(figures, claims)


def _claims(file: python_file.PythonFile) -> list[Said]:
    found = python_file.call(file, "claims")
    given = found if isinstance(found, list | tuple) else [None]
    rows = [one for one in given if isinstance(one, tuple | list) and len(one) == 3]
    claims = [Said(*map(str, one)) for one in rows]
    if len(claims) < len(given) or len(set(claims)) < len(claims):
        raise UserError(
            f"{file.flag}: of claims expected a list of (text, higher, lower), each "
            "once"
        )
    return claims


def _are_figures(found: Any) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(by_key, Mapping)
        and all(
            reading.is_metric(str(key))
            and isinstance(value, numbers.Real)
            and math.isfinite(value)
            for key, value in by_key.items()
        )
        for by_key in found.values()
    )


def known_as(
    published: Published, worth: Mapping[str, tuple[bool, int]]
) -> dict[str, str]:
    """By the name that the file gives a setting, that of the comparison.

    Args:
      published: what is known of settings.
      worth: by their names in the comparison, perhaps with more in brackets, whether
        they are finished, and their number of runs. Of several that the file means, it
        is the one worth most.
    """
    found: dict[str, str] = {}
    for name in sorted(worth, key=lambda name: worth[name], reverse=True):
        plain = plain_name(name)
        if plain in published.figures:
            found.setdefault(plain, name)
    return found


def plain_name(name: str) -> str:
    """The name of a setting without what a comparison has added in brackets."""
    return name.partition(" (")[0]


def contrasts(published: Published, known: Mapping[str, str]) -> list[Contrast]:
    """The pairs of settings that claims are about, as far as both are there.

    Args:
      published: what is claimed.
      known: names of settings that can be compared, by those in the file.
    """
    return [
        (known[claim.lower], known[claim.higher])
        for claim in published.claims
        if {claim.lower, claim.higher} <= known.keys()
    ]


def settled(
    published: Published,
    known: Mapping[str, str],
    differences: Sequence[Difference],
    why_open: Mapping[str, str],
) -> tuple[Claim, ...]:
    """Sets what was found beside each claim and metric.

    Args:
      published: what is claimed.
      known: names of all settings by those in the file.
      differences: of ``contrasts``.
      why_open: why a setting, by its name in the file, says nothing final; "" where it
        does; a setting that is not there is missing.
    """
    found = {(d.baseline, d.setting, d.key): d for d in differences}
    return tuple(
        Claim(
            said.text,
            said.higher,
            said.lower,
            key,
            value,
            found.get((known.get(said.lower, ""), known.get(said.higher, ""), key)),
            "; ".join(dict.fromkeys(_why_open(said, why_open))),
        )
        for said in published.claims
        for key, value in _claimed(published, said)
    )


def _claimed(published: Published, said: Said) -> Iterator[tuple[str, float]]:
    """Yields each metric in which the published figures differ, and by how much."""
    higher, lower = (published.figures[name] for name in (said.higher, said.lower))
    for key in higher:
        if key in lower and abs(higher[key] - lower[key]) > ROUNDING:
            yield key, float(higher[key] - lower[key])


def _why_open(said: Said, why_open: Mapping[str, str]) -> Iterator[str]:
    for name in (said.higher, said.lower):
        if name not in why_open:
            yield f"no run of {name}"
        elif why_open[name]:
            yield f"{name} {why_open[name]}"
