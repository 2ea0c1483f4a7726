"""An evaluation as it is printed: the protocols side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tron_jax.evaluation.metrics import title

FROM_END_REMARK = (
    "model.position=from_end: positions reveal how many clicks of a session remain"
)


def format_summaries(
    summaries: Mapping[str, Mapping[str, Any] | None],
    *,
    keys: Iterable[str],
    steps: Mapping[str, int],
    chosen_by: Mapping[str, str],
    position: str | None,
) -> str:
    """Lays the protocols side by side for a person to read.

    Args:
      summaries: of each protocol, or None.
      keys: what to show of the summaries, one line each, such as ``recall@20``.
      steps: the checkpoint that each protocol was taken at; a column for each.
      chosen_by: the rule that chose that checkpoint, in a few words.
      position: ``model.position``, or None where a model has no positions.

    Returns:
      The table, and the remarks that belong to its numbers.
    """
    shown = [dict(summaries.get(protocol) or {}) for protocol in steps]
    keys = list(keys)
    width = max([12, *(len(key) + 2 for key in keys)])
    widths = [max(12, len(protocol) + 2) for protocol in steps]

    def line(name: str, cells: list[str]) -> str:
        right = (f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True))
        return f"{name:<{width}}" + "".join(right)

    def cells(key: str, form: str) -> list[str]:
        return [format(s[key], form) if key in s else "n/a" for s in shown]

    split = next((summary["split"] for summary in shown if summary), "")
    lines = [line(split, list(steps))]
    lines.append(line("step", [f"{step:,}" for step in steps.values()]))
    lines.append(line("events", cells("events", ",")))
    lines += [line(title(key), cells(key, ".4f")) for key in keys]
    for protocol in steps:
        lines.append(f"checkpoint ({protocol}): {chosen_by[protocol]}")
    if position == "from_end":
        lines.append(FROM_END_REMARK)
    return "\n".join(lines)
