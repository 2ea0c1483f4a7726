"""Compares runs: a table, differences with their intervals, slices, and a page.

    python -m experiments.compare RUN [RUN ...] [--baseline=NAME] [--data=DIR ...] \
        [--chain] [--pairs] [--at=best] [--claims=FILE[:argument]] \
        [--out=DIR] [--speed=FILE.json,...]

A RUN is a run's workdir, a sweep's folder, a result that experiments.keep kept, or any
folder above. Runs that differ by their seed alone are one setting, a row of the table.

Differences are setting minus baseline (the first one, or NAME), in the protocol
`exact`, over the same predictions; --chain has those of each setting to the one before
it, --pairs those of all. --at=best compares the states of the highest Recall@20, as the
paper does, instead of those at which the runs ended. Their 95 %
intervals cover the draw of test sessions and, where both settings have two runs or
more, training noise; without that there is no verdict. p is adjusted for all
differences in Recall@20, and likewise for those in MRR@20.

--claims is a file such as experiments/sweeps/table2.py, whose functions `published`
and `claims` tell what others found: figures beside ours, and whether claims hold.

Sessions and clicks are looked up in the prepared set, where the runs had it or in
a --data, which may be given once for each set. Speed is of runs that had the machine
for themselves, or of --speed, files that `experiments.benchmark train --json` wrote.
--out writes comparison.html, comparison.md and comparison.csv.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from absl import flags

from experiments import workdirs
from experiments.comparing import report, text_table
from experiments.comparing.building import build
from experiments.comparing.contrasts import BASELINE, CHAIN, PAIRS
from tron_jax.console import program
from tron_jax.console.messages import say
from tron_jax.errors import UserError
from tron_jax.evaluation.protocols import EXACT_AT_BEST
from tron_jax.files import local_path


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()
    flags.DEFINE_string("baseline", None, "Setting to compare with.", values)
    flags.DEFINE_multi_string(
        "data", [], "A prepared set that has moved; once for each.", flag_values=values
    )
    flags.DEFINE_string("out", None, "Folder for the page and its tables.", values)
    flags.DEFINE_bool(
        "chain", False, "Differences to the setting before.", flag_values=values
    )
    flags.DEFINE_bool("pairs", False, "Differences of all pairs.", flag_values=values)
    flags.DEFINE_enum(
        "at", "end", ["end", "best"], "State of each run to compare.", values
    )
    flags.DEFINE_string("claims", None, "File of what others found.", values)
    flags.DEFINE_list(
        "speed", [], "Files of experiments.benchmark train --json.", flag_values=values
    )
    arguments: list[str] = []

    def parse(values: flags.FlagValues, argv: Sequence[str]) -> None:
        expected = "no run; expected RUN [RUN ...]"
        arguments.extend(program.parse_among(values, argv, expected))

    def run(values: flags.FlagValues) -> None:
        compare(values, arguments, argv[1:])

    run.__module__ = __name__  # by which the help is found
    return program.run(run, values, argv, parse=parse)


def compare(
    values: flags.FlagValues, arguments: Sequence[str], typed: Sequence[str]
) -> None:
    """Prints and writes the comparison of runs.

    Args:
      values: parsed flags.
      arguments: the runs.
      typed: all that stood behind the program's name.
    """
    if values.out is not None:
        workdirs.refuse_unwritable(local_path(values.out))
    comparison = build(
        arguments,
        baseline=values.baseline,
        compared=_compared(values),
        protocol=EXACT_AT_BEST if values.at == "best" else "exact",
        published=values.claims,
        data=values.data,
        speed=values.speed,
        command=f"python -m experiments.compare {shlex.join(typed)}",
    )
    unprinted = say(text_table.format_comparison(comparison))
    if values.out is not None:
        for path in report.write(comparison, local_path(values.out)):
            say(f"wrote {path}")
    if unprinted and not isinstance(unprinted, BrokenPipeError):  # by `| head`, say
        raise UserError(f"the comparison cannot be printed: {unprinted.strerror}")


def _compared(values: flags.FlagValues) -> str:
    """Which settings are compared with which."""
    asked = [f"--{flag}" for flag in ("baseline", CHAIN, PAIRS) if values[flag].value]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} were given; expected one of them")
    return CHAIN if values.chain else PAIRS if values.pairs else BASELINE


if __name__ == "__main__":
    sys.exit(main(sys.argv))
