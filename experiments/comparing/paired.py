"""From the ranks of runs to the differences between their settings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.comparing import differences, ranks
from experiments.comparing.contrasts import Contrast
from experiments.comparing.differences import Outcome
from experiments.comparing.settings import Pool
from experiments.comparing.slices import Division, divide
from experiments.comparing.test_parts import Shared


def has_ranks(pool: Pool, protocol: str) -> bool:
    """Whether any run of a setting has predictions one by one."""
    return any(ranks.path_of(run, protocol) for run in pool.runs)


def outcome(
    pools: Sequence[Pool],
    shared: Shared,
    protocol: str,
    families: Sequence[Sequence[Contrast]],
    keys: Sequence[str],
) -> Outcome:
    """Differences and slices of the settings whose runs have ranks.

    Ranks are read one run at a time, and again: those of all may not fit into memory.

    Args:
      pools: the settings.
      shared: the predictions that all have.
      protocol: ``exact`` or ``exact_at_best``.
      families: contrasts of settings; p is adjusted within each.
      keys: of the metrics.
    """
    with_ranks = {
        pool.name: [
            (run, path) for run in pool.runs if (path := ranks.path_of(run, protocol))
        ]
        for pool in pools
    }
    with_ranks = {name: found for name, found in with_ranks.items() if found}
    files = [one for found in with_ranks.values() for one in found]
    divisions: list[Division] = []
    if shared.data is not None:
        tied = np.zeros(len(shared.session), bool)
        for run, path in files:
            read = ranks.read(run, path, protocol)
            tied |= read.tied[shared.index[run.fingerprint]]
        divisions = divide(shared, shared.data, tied)
    grouped = differences.groups(shared, divisions)
    samples = []
    for name, found in with_ranks.items():
        sums = [
            differences.add_up(
                ranks.read(run, path, protocol),
                shared.index[run.fingerprint],
                grouped,
                keys,
                divisions,
            )
            for run, path in found
        ]
        samples.append(differences.sample(name, sums, grouped))
    return differences.compare(samples, families, keys, grouped, divisions)
