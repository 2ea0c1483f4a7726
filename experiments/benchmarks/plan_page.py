"""The page of ``experiments.benchmarks.plan``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.benchmarks import plan_rates
from experiments.benchmarks.plan_rates import H100, V5P, Rates, Step, needed, seconds
from tron_jax.console.messages import readable
from tron_jax.files import replacing

Report = dict[str, Any]
Record = dict[str, Any]


def write(path: Path, report: Report) -> None:
    """Writes the page.

    Args:
      path: of the page.
      report: as in plan.json.
    """
    with replacing(path) as new:
        new.write_text("\n".join(_lines(report)) + "\n")


def step_of(record: Record) -> Step:
    """The step of a record, for the arithmetic."""
    fields = {name: record[name] for name in Step._fields if name != "state"}
    state = record["table"] + record["moments"] + record["encoder"]
    return Step(state=state, **fields)


def _lines(report: Report) -> Iterator[str]:
    points = report["points"]
    most, batch = max(p["num_items"] for p in points), points[0]["sessions"]
    strong = [p for p in points if p["sessions"] == batch]
    largest = [p for p in strong if p["num_items"] == most]
    weak = [
        p
        for p in points
        if p["num_items"] == most and p["sessions"] == batch * p["devices"]
    ]
    yield f"# {most:,} items x {points[0]['width']}, planned and compiled\n"
    yield (
        "Nothing here was measured. The step was compiled from shapes alone for "
        "devices that a CPU plays, as an accelerator would make it (matmuls of all "
        "candidates, the item table by rows), and the times are arithmetic on paper. "
        "Memory of a GPU or TPU is laid out in another way, and its temporaries "
        "differ.\n"
    )
    yield f"```\n{report['command']}\n```\n"
    yield f"jax {report['jax']}. MB and GB are 10^6 and 10^9 bytes.\n"
    yield "## Bytes of each device\n"
    yield f"A batch of {batch} sessions in all; what each device holds and receives:\n"
    yield from _bytes(largest)
    yield "\n## The catalogue\n"
    yield "The same at other numbers of items:\n"
    yield from _bytes(strong)
    yield f"\n{flat(strong)}\n"
    yield "## Time on paper\n"
    yield from _assumptions()
    yield f"\n### Strong scaling: {batch} sessions a step in all\n"
    yield from _times(largest)
    yield f"\n### Weak scaling: {batch} sessions a step for each device\n"
    yield from _times(weak)


def _bytes(records: list[Record]) -> Iterator[str]:
    kinds = sorted({kind for record in records for kind in record["received"]})
    heads = ["devices", "items", "table", "moments", "temporaries", *kinds]
    yield from _head(heads)
    for record in records:
        parts = [record[name] for name in ("table", "moments", "temporaries")]
        received = [record["received"].get(kind, 0) for kind in kinds]
        yield _row(
            f"{record['devices']}",
            f"{record['num_items']:,}",
            *map(readable, parts),
            *(readable(n) if n else "" for n in received),
        )


def flat(records: list[Record]) -> str:
    """Whether what travels, and what is held beside the state, grows with the items."""
    travels, grown = True, 1.0
    for devices in {record["devices"] for record in records}:
        same = [record for record in records if record["devices"] == devices]
        travels &= all(record["received"] == same[0]["received"] for record in same)
        held = [record["temporaries"] for record in same]
        grown = max(grown, max(held) / min(held))
    said = "is the same" if travels else "differs (above)"
    return (
        f"What travels {said} at every number of items; temporaries differ by "
        f"{100 * (grown - 1):.1f} % at most."
    )


def _assumptions() -> Iterator[str]:
    yield (
        "Of each device the time is FLOPs / matmul rate + bytes / memory rate + "
        "network + operations, of which nothing overlaps:\n"
    )
    yield from _head(["", "H100 SXM (one machine)", "TPU v5p", "share assumed"])
    rows = [
        ("float32 matmul (TF32; bfloat16)", "matmul", "TFLOP/s", plan_rates.OF_MATMUL),
        ("memory", "memory", "TB/s", plan_rates.OF_MEMORY),
        ("links of a ring, one way", "link", "TB/s", plan_rates.OF_LINK),
    ]
    for name, field, unit, share in rows:
        rates = (f"{getattr(kind, field) / 1e12:,.3g} {unit}" for kind in (H100, V5P))
        yield _row(name, *rates, f"{share:.0%}")
    for name, field in (
        ("an operation, assumed", "begin"),
        ("a collective, assumed", "begin_collective"),
    ):
        times = (f"{getattr(kind, field) * 1e6:.0f} µs" for kind in (H100, V5P))
        yield _row(name, *times, "")
    yield _row(
        "memory of a device", *(f"{k.room / 1e9:.0f} GB" for k in (H100, V5P)), ""
    )
    yield (
        "\n- FLOPs: XLA's count of the compiled program of one device. A top-k, whose "
        "cost on either is not known here, counts next to nothing in it.\n"
        "- Bytes to and from memory: counted by hand, or twice the temporaries where "
        "that is more (`plan_rates.moved`).\n"
        "- Network: a ring; what a device sends is (D-1)/D of what an all-gather or "
        "all-to-all gives, twice that for an all-reduce, D-1 times for a "
        "reduce-scatter. NVLink's 900 GB/s and the v5p's 1,200 GB/s are both ways and, "
        "of the v5p, on six links, of which a ring uses two. Each collective waits "
        f"{plan_rates.HOP * 1e6:.0f} µs more a hop: D-1 of them on H100, 3(∛D-1) on "
        "the v5p's torus.\n"
        f"- Operations: {plan_rates.OPERATIONS} a step, about as many as the CPU's "
        "program has fusions.\n"
        "- Eight steps a dispatch, so that the host is never waited for; batches lie "
        "on the device. Evaluations and checkpoints are not in it.\n"
        "- A v5p pads rows of 200 to 256 numbers; `each holds` has that."
    )


def _times(records: list[Record]) -> Iterator[str]:
    heads = ["devices", "sessions", "each holds", "matmul", "memory", "network"]
    yield from _head(["", *heads, "operations", "a step", "sessions/s"])
    for rates in (H100, V5P):
        for record in records:
            if record["devices"] <= rates.most:
                yield _time(record, rates)


def _time(record: Record, rates: Rates) -> str:
    step = step_of(record)
    found, holds = seconds(step, rates), needed(step, rates)
    over = "" if holds <= rates.room else ", too much"
    shown = (f"{1e3 * part:.2f} ms" for part in (*found, found.all))
    rounded = float(f"{record['sessions'] / found.all:.2g}")  # it is no measurement
    speed = "" if over else f"{rounded:,.0f}"
    return _row(
        rates.name,
        f"{record['devices']}",
        f"{record['sessions']:,}",
        f"{readable(holds)}{over}",
        *shown,
        speed,
    )


def _head(heads: list[str]) -> Iterator[str]:
    yield _row(*heads)
    yield "|---" * len(heads) + "|"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
