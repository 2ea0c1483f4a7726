"""Times a run's train step or evaluation, and shows where the time goes.

    python -m experiments.benchmark train --config=experiments/configs/tron_xl.py \
        --config.data.path=DIR [--repeats=60] [--json=FILE]
    python -m experiments.benchmark evaluate --config=… --config.data.path=DIR
    python -m experiments.benchmark recommend --config=… --config.data.path=DIR \
        [--sessions=16384] [--k=20]
    python -m experiments.benchmark train --breakdown [--plot=FILE.png] --config=…
    python -m experiments.benchmark train --against=CHECKOUT --config=…
    python -m experiments.benchmark train --beside=OTHER_CONFIG --config=…
    python -m experiments.benchmark scaling --config=… [--profile=otto] \
        [--num_items=43000,430000,1800000] [--batch_sizes=32,128,512] [--plot=FILE.png]
    python -m experiments.benchmark prepare --format=FORMAT [--num_sessions=N]
    python -m experiments.benchmark serve [--num_items=N | --model=DIR]

`train`: a step, data loading included, and its floor: the matmul of all candidates and
`jax.lax.top_k` over their scores alone, at the step's own shapes. `evaluate`: a pass
over the first test events, and the matmuls of the same blocks alone. `recommend`: the
best items after train sessions, and the encoder and those matmuls alone. The two are
timed in turn in one process, since times of different minutes are incomparable on a
shared machine; read the ratio.

`--breakdown`: the parts of a step (benchmarks/breakdown.py). `--against`: the same
benchmark in another checkout, in turn with this one. `--beside`: the steps of another
config on the same data, in turn with those of this one. `scaling`: time and memory of a
step against the size of the catalogue and of the batch, on made-up sessions. `prepare`:
data_prep on a made-up log, stage by stage (benchmarks/prepare.py). `serve`: a server
under the load of many clients (benchmarks/serving.py).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from experiments import entry, workdirs
from experiments.benchmarks import (
    breakdown,
    charts,
    child_processes,
    evaluation,
    other_checkout,
    other_config,
    prepare,
    recommending,
    scaling,
    scaling_point,
    serving,
    train_step,
)
from experiments.benchmarks.workload import open_workload
from tron_jax.errors import UserError
from tron_jax.files import local_path, require_writable
from tron_jax.reporting.plots import save

Report = dict[str, Any]


class Command(NamedTuple):
    """A benchmark.

    Attributes:
      define_flags: defines its own flags.
      run: measures, and prints the report.
    """

    define_flags: Callable[[flags.FlagValues], None]
    run: Callable[[flags.FlagValues], None]


def main(argv: Sequence[str]) -> int:
    program, *arguments = argv
    name = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    rest = [program, *arguments[1:]] if name else list(argv)
    if name in OTHERS:
        return OTHERS[name].main(rest)
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

    def measure(values: flags.FlagValues) -> None:
        for flag in {"json", "plot"} & {*values}:
            path = getattr(values, flag)
            if path:  # or minutes would be measured for nothing
                require_writable(local_path(path))
        COMMANDS[name].run(values)

    return entry.run(measure, values, rest)


def _refuse(name: str) -> None:
    expected = ", ".join([*COMMANDS, *OTHERS])
    raise UserError(f"benchmark {name or '(nothing)'}: expected one of: {expected}")


def _report(values: flags.FlagValues, command: str, report: Report, table: str) -> None:
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
    if values.plot and not save(
        values.plot, lambda figure: draw(figure, report), (8, height)
    ):
        print("no plot is drawn: matplotlib is not installed; tron-jax[plots] has it")


def _define_train(values: flags.FlagValues) -> None:
    flags.DEFINE_boolean("breakdown", False, "The parts of a step.", values)
    flags.DEFINE_string("plot", None, "PNG of the breakdown.", values)
    flags.DEFINE_string("beside", None, "Another config to time in turn.", values)
    other_checkout.define_flags(values)


def _train(values: flags.FlagValues) -> None:
    if values.plot and not values.breakdown:
        raise UserError("--plot: expected --breakdown beside it")
    if sum(map(bool, (values.against, values.beside, values.breakdown))) > 1:
        raise UserError("--against, --beside, --breakdown: expected one of them")
    if values.against:
        _against("train", values)
        return
    workload = open_workload(values.config)
    if values.beside:
        fields = {"data.path": values.config.data.path}
        other = open_workload(entry.read_config(values.beside, fields))
        report = other_config.measure(workload, other, values.repeats)
        table = other_config.table(report, values.beside)
        _report(values, "train --beside", report, table)
        return
    if values.breakdown:
        report = breakdown.measure(workload, values.repeats)
        table = breakdown.table(report)
        _report(values, "train --breakdown", report, table)
        _plot(values, charts.draw_breakdown, report, 3)
        return
    report = train_step.measure(workload, values.repeats)
    # By its fields experiments.compare finds the setting that the speed is of.
    report |= {
        "fields": workdirs.fields(workload.config),
        "fingerprint": workload.fingerprint,
    }
    _report(values, "train", report, train_step.table(report))


def _evaluate(values: flags.FlagValues) -> None:
    if values.against:
        _against("evaluate", values)
        return
    report = evaluation.measure(open_workload(values.config), values.repeats)
    _report(values, "evaluate", report, train_step.table(report))


def _recommend(values: flags.FlagValues) -> None:
    workload = open_workload(values.config)
    report = recommending.measure(
        workload, values.repeats, values.sessions, min(values.k, workload.num_items)
    )
    _report(values, "recommend", report, train_step.table(report))


def _against(command: str, values: flags.FlagValues) -> None:
    other = other_checkout.checkout(values.against)
    config = child_processes.config_arguments(values)
    arguments = [command, *config, f"--repeats={values.repeats}"]
    report = other_checkout.measure(other, arguments, values.rounds)
    _report(values, f"{command} --against", report, other_checkout.table(report))


def _define_scaling(values: flags.FlagValues) -> None:
    scaling.define_flags(values)
    flags.DEFINE_string("plot", None, "PNG of time and memory.", values)


def _scaling(values: flags.FlagValues) -> None:
    sizes = scaling.axes(values)
    config = child_processes.config_arguments(values)

    def start(point: dict[str, int]) -> scaling.Process:
        named = [f"--{axis}={size}" for axis, size in point.items()]
        return scaling.Process([*config, f"--profile={values.profile}", *named])

    report = scaling.measure(
        sizes, values.config.train.batch_size, start, values.repeats
    )
    report |= {"profile": values.profile, "config": config}
    _report(values, "scaling", report, scaling.table(report))
    _plot(values, charts.draw_scaling, report, 6)


def _point(values: flags.FlagValues) -> None:
    size = (values.num_items, values.batch_size)
    try:
        workload = scaling_point.make_workload(values.config, values.profile, *size)
        for answer in scaling_point.answers(workload, sys.stdin):
            print(json.dumps(answer), flush=True)
    except UserError as error:
        print(json.dumps({"error": str(error)}), flush=True)


COMMANDS = {
    "train": Command(_define_train, _train),
    "evaluate": Command(other_checkout.define_flags, _evaluate),
    "recommend": Command(recommending.define_flags, _recommend),
    "scaling": Command(_define_scaling, _scaling),
    "point": Command(scaling_point.define_flags, _point),  # of scaling
}

OTHERS = {"prepare": prepare, "serve": serving}  # that take no config

if __name__ == "__main__":
    entry.start(main)
