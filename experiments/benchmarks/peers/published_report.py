"""The figures of published_tron.py as lines of text."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def table(report: Record) -> str:
    """All sections of a report."""
    blocks = [_speeds(report["sections"])]
    blocks += [_details(section) for section in report["sections"]]
    return "\n\n".join(blocks)


def _interval(found: Record) -> str:
    low, high = found["ratio_interval"]
    return f"{found['ratio']:.1f} ({low:.1f}..{high:.1f})"


def _speeds(sections: list[Record]) -> str:
    lines = [
        f"{'':<12}{'items':>11}  {'':<16}{'published':>13}{'ours':>13}  "
        "ratio (90 % interval)"
    ]
    for section in sections:
        name = f"{section['system']:<12}{section['num_items']:>11,}  "
        if train := section.get("train"):
            values = (1e3 * train[side]["seconds"] for side in ("published", "ours"))
            lines.append(name + _row("train step", "ms", values) + _interval(train))
            unit = f"{train['unit']}s/s"
            values = (train[side]["per_s"] for side in ("published", "ours"))
            lines.append(f"{'':<25}" + _row("training", unit, values))
        if found := section.get("evaluate"):
            values = (found[side]["per_1000"] for side in ("published", "ours"))
            lines.append(
                name + _row("1,000 ranked", "s", values, digits=3) + _interval(found)
            )
    return "\n".join(line.rstrip() for line in lines)


def _row(what: str, unit: str, values: Any, digits: int = 1) -> str:
    published, ours = values
    label = f"{what}, {unit}"
    return f"{label:<22}{published:>10,.{digits}f}{ours:>10,.{digits}f}  "


def _details(section: Record) -> str:
    lines = [f"{section['system']}, {section['num_items']:,} items"]
    if error := section.get("stopped"):
        lines.append(f"  stopped: {error}")
    if train := section.get("train"):
        about = train["published"]
        lines.append(
            f"  published, as trained: {about['loader_workers']} loader workers, "
            f"{about['threads']} threads, {_gigabytes(about)} GB and its workers'; "
            f"ours {_gigabytes(train['ours'])} GB"
        )
        lines += _parts(train["published"]["parts"], train["published"]["mean"])
    if parts := section.get("parts"):
        found = parts["published"]
        lines.append("  published, step alone, of batches made beforehand:")
        lines += _parts(found["parts"], found["step"])
        lines.append("  of these, and beside them:")
        lines += _shares(found)
        lines.append("  ours:")
        lines += _parts(parts["ours"]["parts"], parts["ours"]["step"])
    return "\n".join(lines)


def _gigabytes(about: Record) -> str:
    return f"{about['peak_bytes'] / 1e9:.2f}"


def _parts(parts: Record, whole: float) -> list[str]:
    lines = [_part(name, value, whole) for name, value in parts.items()]
    return [*lines, _part("all", whole, whole)]


def _part(name: str, seconds: float, whole: float) -> str:
    return f"    {name:<44}{1e3 * seconds:>10.2f} ms{seconds / whole:>8.1%}"


def _shares(found: Record) -> list[str]:
    step = found["step"]
    lines = [
        _part("gradients as long as the table (dense)", found["table_gradients"], step)
    ]
    if found["without_padding"] is not None:
        lines.insert(0, f"    {'slots used':<44}{found['slots_used']:>21.1%}")
        name = "the step at as many slots as are used"
        lines.insert(1, _part(name, found["without_padding"], step))
    host = found["host"]
    lines += [_part(f"one process: {part}", host[part], step) for part in host]
    return [*lines, _part("one process: a batch", sum(host.values()), step)]
