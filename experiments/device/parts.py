"""The parts of the check, in order of worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.device import (
    accuracy,
    alternatives,
    ceilings,
    device_tests,
    evaluation,
    step_trace,
    steps,
)
from experiments.device.report import Report, Setting


class Part(NamedTuple):
    """A part.

    Attributes:
      run: measures in this process, or starts those that do.
      table: figures as text, whatever there is of them.
      limit: seconds after which it is ended.
      about: what it measures, in a line.
      here: whether ``run`` itself computes on the device.
    """

    run: Callable[[Setting, Report], None]
    table: Callable[[dict[str, Any]], str]
    limit: float
    about: str
    here: bool = False


PARTS = {
    "ceilings": Part(
        ceilings.run,
        ceilings.report_table,
        90,
        "versions; rates of copies, matmuls and launches",
        here=True,
    ),
    "tests": Part(
        device_tests.run,
        device_tests.report_table,
        200,
        "the tests marked `device`, on it",
    ),
    "accuracy": Part(
        accuracy.run,
        accuracy.report_table,
        360,
        "3 epochs of TRON XL against a CPU's, resumed bits",
    ),
    "steps": Part(
        steps.run,
        steps.report_table,
        300,
        "ms a train step of every system, beside its floors",
        here=True,
    ),
    "evaluation": Part(
        evaluation.run,
        evaluation.report_table,
        180,
        "seconds to rank, beside the matmul alone",
        here=True,
    ),
    "trace": Part(
        step_trace.run,
        step_trace.report_table,
        200,
        "where a step of TRON XL goes, kernel by kernel",
    ),
    "alternatives": Part(
        alternatives.run,
        alternatives.report_table,
        420,
        "other ways to compile, select, scatter, update, launch",
    ),
}
