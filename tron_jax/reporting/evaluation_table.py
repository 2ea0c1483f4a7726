"""An evaluation as it is printed: both protocols side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tron_jax.evaluation.metrics import title
from tron_jax.evaluation.protocols import PROTOCOLS

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
    """Lays both protocols side by side for a person to read.

    Args:
      summaries: of each protocol, or None.
      keys: what to show of the summaries, one line each, such as ``recall@20``.
      steps: the checkpoint that each protocol was taken at.
      chosen_by: the rule that chose that checkpoint, in a few words.
      position: ``model.position``, or None where a model has no positions.

    Returns:
      The table, and the remarks that belong to its numbers.
    """
    shown = [dict(summaries.get(protocol) or {}) for protocol in PROTOCOLS]
    keys = list(keys)
    width = max([12, *(len(key) + 2 for key in keys)])

    def line(name: str, cells: list[str]) -> str:
        return f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells)

    def cells(key: str, form: str) -> list[str]:
        return [format(s[key], form) if key in s else "n/a" for s in shown]

    split = next((summary["split"] for summary in shown if summary), "")
    lines = [line(split, list(PROTOCOLS))]
    lines.append(line("step", [f"{steps[protocol]:,}" for protocol in PROTOCOLS]))
    lines.append(line("events", cells("events", ",")))
    lines += [line(title(key), cells(key, ".4f")) for key in keys]
    for protocol in PROTOCOLS:
        lines.append(f"checkpoint ({protocol}): {chosen_by[protocol]}")
    if position == "from_end":
        lines.append(FROM_END_REMARK)
    return "\n".join(lines)
