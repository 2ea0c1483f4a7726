"""Times a run's train step or evaluation, and tells where the time goes.

    python -m experiments.benchmark train --config=experiments/configs/tron_xl.py \
        --config.data.path=DIR [--repeats=60] [--json=FILE]
    python -m experiments.benchmark evaluate --config=… --config.data.path=DIR
    python -m experiments.benchmark train --breakdown [--plot=FILE.png] --config=…
    python -m experiments.benchmark train --against=CHECKOUT --config=…
    python -m experiments.benchmark scaling --config=… [--profile=otto] \
        [--num_items=43000,430000,1800000] [--batch_sizes=32,128,512] [--plot=FILE.png]
    python -m experiments.benchmark prepare --format=FORMAT [--num_sessions=N]

`train`: a step, data loading included, beside its floor: the matmul of all candidates
and `jax.lax.top_k` over their scores alone, at the step's own shapes. `evaluate`: a
pass over the first test events beside the matmul over the same blocks alone. Both are
timed in turn in one process, since a shared machine makes times of different minutes
incomparable; read the ratio.

`--breakdown`: the parts of a step (benchmark_breakdown.py). `--against`: the same
benchmark in another checkout, in turn with this one. `scaling`: time and memory of a
step against the size of the catalogue and of the batch, on made-up sessions. `prepare`:
data_prep on a made-up log, stage by stage (benchmark_prepare.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from experiments import (
    benchmark_against,
    benchmark_breakdown,
    benchmark_children,
    benchmark_evaluate,
    benchmark_plots,
    benchmark_point,
    benchmark_prepare,
    benchmark_scaling,
    benchmark_train,
    entry,
    workdirs,
)
from experiments.benchmark_run import open_run
from tron_jax.errors import UserError

Report = dict[str, Any]


class Command(NamedTuple):
    """A benchmark.

    Attributes:
      define_flags: of its own.
      run: prints what it finds.
    """

    define_flags: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues], None]


def main(argv: Sequence[str]) -> int:
    program, *arguments = argv
    name = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    rest = [program, *arguments[1:]] if name else list(argv)
    if name == "prepare":
        return benchmark_prepare.main(rest)
    values = flags.FlagValues()
    if name not in COMMANDS:
        helped = [argument for argument in rest[1:] if "help" in argument]
        return entry.run(lambda _: _refuse(name), values, [program, *helped])
    entry.define_config(values, rest)
    flags.mark_flag_as_required("config", values)
    flags.DEFINE_integer(
        "repeats", 60, "Times to measure.", lower_bound=3, flag_values=values
    )
    flags.DEFINE_string("json", None, "File to write the figures to.", values)
    COMMANDS[name].define_flags(values)
    return entry.run(COMMANDS[name].run, values, rest)


def _refuse(name: str) -> None:
    expected = ", ".join([*COMMANDS, "prepare"])
    raise UserError(f"benchmark {name or '(nothing)'}: expected one of: {expected}")


def _tell(values: flags.FlagValues, command: str, report: Report, table: str) -> None:
    """Prints a report and writes it where it is asked for."""
    print(table)
    if values.json:
        about = {"command": command, "device": jax.devices()[0].device_kind}
        workdirs.write_json(Path(values.json), about | report)


def _plot(
    values: flags.FlagValues,
    draw: Callable[[Any, Report], None],
    report: Report,
    height: float,
) -> None:
    """Draws a report where a picture is asked for."""
    if values.plot and not benchmark_plots.save(
        values.plot, lambda figure: draw(figure, report), height
    ):
        print("no plot is drawn: matplotlib is not installed; tron-jax[plots] has it")


def _define_train(values: flags.FlagValues) -> None:
    flags.DEFINE_boolean("breakdown", False, "The parts of a step.", values)
    flags.DEFINE_string("plot", None, "PNG of the breakdown.", values)
    benchmark_against.define_flags(values)


def _train(values: flags.FlagValues) -> None:
    if values.plot and not values.breakdown:
        raise UserError("--plot: expected --breakdown beside it")
    if values.against:
        if values.breakdown:
            raise UserError("--against and --breakdown: expected one of them")
        _against("train", values)
        return
    run = open_run(values.config)
    if values.breakdown:
        report = benchmark_breakdown.measure(run, values.repeats)
        table = benchmark_breakdown.table(report)
        _tell(values, "train --breakdown", report, table)
        _plot(values, benchmark_plots.draw_breakdown, report, 3)
        return
    report = benchmark_train.measure(run, values.repeats)
    _tell(values, "train", report, benchmark_train.table(report))


def _evaluate(values: flags.FlagValues) -> None:
    if values.against:
        _against("evaluate", values)
        return
    report = benchmark_evaluate.measure(open_run(values.config), values.repeats)
    _tell(values, "evaluate", report, benchmark_train.table(report))


def _against(command: str, values: flags.FlagValues) -> None:
    other = benchmark_against.checkout(values.against)
    config = benchmark_children.config_arguments(values)
    arguments = [command, *config, f"--repeats={values.repeats}"]
    report = benchmark_against.measure(other, arguments, values.rounds)
    _tell(values, f"{command} --against", report, benchmark_against.table(report))


def _define_scaling(values: flags.FlagValues) -> None:
    benchmark_scaling.define_flags(values)
    flags.DEFINE_string("plot", None, "PNG of time and memory.", values)


def _scaling(values: flags.FlagValues) -> None:
    sizes = benchmark_scaling.axes(values)
    config = benchmark_children.config_arguments(values)

    def start(point: dict[str, int]) -> benchmark_scaling.Process:
        named = [f"--{axis}={size}" for axis, size in point.items()]
        return benchmark_scaling.Process(
            [*config, f"--profile={values.profile}", *named]
        )

    report = benchmark_scaling.measure(
        sizes, values.config.train.batch_size, start, values.repeats
    )
    report |= {"profile": values.profile, "config": config}
    _tell(values, "scaling", report, benchmark_scaling.table(report))
    _plot(values, benchmark_plots.draw_scaling, report, 6)


def _point(values: flags.FlagValues) -> None:
    size = (values.num_items, values.batch_size)
    try:
        run = benchmark_point.make_run(values.config, values.profile, *size)
        for answer in benchmark_point.answers(run, sys.stdin):
            print(json.dumps(answer), flush=True)
    except UserError as error:
        print(json.dumps({"error": str(error)}), flush=True)


COMMANDS = {
    "train": Command(_define_train, _train),
    "evaluate": Command(benchmark_against.define_flags, _evaluate),
    "scaling": Command(_define_scaling, _scaling),
    "point": Command(benchmark_point.define_flags, _point),  # of scaling
}

if __name__ == "__main__":
    entry.start(main)
