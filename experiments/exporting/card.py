"""The model card of an export: what it was trained on, how good it is, at what cost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import provenance
from experiments.assembly import run_parts
from experiments.assembly.trained import Trained
from experiments.comparing import (
    building,
    figures,
    markdown,
    ranks,
    slice_tables,
    statistics,
    wording,
)
from experiments.comparing.comparison import Comparison
from experiments.exporting.rounding import Loss
from experiments.runs import reading
from experiments.runs.reading import Run
from tron_jax.data.sessions import Sessions, open_prepared
from tron_jax.evaluation.metrics import BEST_KEY, METRICS, title
from tron_jax.evaluation.protocols import EXACT_AT_BEST
from tron_jax.files import local_path
from tron_jax.models.repeats import RECENT

TAGS = ("recommender-system", "session-based-recommendation", "jax")
SHOWN = ("recall@20", "mrr@20")  # with intervals
LEAST = 200  # predictions of a slice that is called weak
WEAKEST = 5

INTENDED = """\
To recommend the next item of an ongoing session from its clicks alone, among the items
that it was trained on. It knows nothing of a person beyond the session, of items that
came later, of prices or stock. What was clicked often is recommended often: whoever
serves it should watch what it does to items that are shown rarely."""

LICENCE = """\
The code is MIT. The weights follow from a click log, whose owner says what may be done
with them."""

TABLES = {
    "float32": "(float32)",
    "bfloat16": "(float32, the item table bfloat16)",
    "int8": "(float32, the item table int8, times a factor a row and one a column)",
}
FILES = """\
`weights.safetensors` (float32), `items.parquet` (your own item ids, in the order of the
model's numbers 1, 2, …), `config.json`, `model.stablehlo` and `export.json`, which has
the order of the arguments and a SHA-256 of each file. With jax, flatbuffers,
safetensors and pyarrow alone:

```python
import json, jax, numpy as np, pyarrow.parquet as pq
from jax import export
from safetensors.numpy import load_file

about = json.load(open("export.json"))
weights = load_file("weights.safetensors")
model = export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
raw_ids = pq.read_table("items.parquet")["raw_id"].to_numpy()
number = {raw: n for n, raw in enumerate(raw_ids.tolist(), start=1)}

sessions = [[raw_ids[0]], [raw_ids[4], raw_ids[7]]]  # clicks, the latest last
longest = about["max_clicks"]  # None = any number
cut = [s[-longest:] if longest else s for s in sessions]
items = np.zeros((len(cut), max(map(len, cut))), np.int32)
for row, session in zip(items, cut):
    row[: len(session)] = [number[raw] for raw in session]
lengths = np.array([len(session) for session in cut], np.int32)
scores, best = model.call([weights[name] for name in about["weights"]], items, lengths)
print(raw_ids[np.asarray(best)[:, :20] - 1])
```"""


def write(
    workdir: Path,
    model: Trained,
    data: str | None,
    *,
    table: str = "float32",
    loss: Loss | None = None,
) -> str:
    """Returns the text of the card, in the form of the Hugging Face hub.

    Args:
      workdir: of the run.
      model: that is exported.
      data: the run's prepared set, where it has moved.
      table: what the item table is rounded to.
      loss: what that costs; None = not measured.
    """
    made_with = model.made_with
    run = reading.load(str(workdir))
    compared = None
    if run is not None and run.finished:
        compared = building.build(
            [str(workdir)],
            protocol=_protocol(run, model),
            data=[data] if data else [],
            command="",
        )
    parts = [
        *_head(model, made_with),
        "## Intended use",
        INTENDED,
        "## Training data",
        *_data(model, made_with, compared, data),
        "## Evaluation",
        *_evaluation(model, run, compared),
        *_table_in_fewer_bytes(table, loss),
        "## Training cost",
        _cost(run, made_with),
        "## Licence",
        LICENCE,
        "## How to repeat it",
        *_repeat(model, made_with),
        "## Files, and how to use them",
        FILES.replace("(float32)", TABLES[table]),
    ]
    return "\n\n".join(parts) + "\n"


def of_rounding(table: str, loss: Loss) -> str:
    """Says what rounding the item table costs."""
    figures_ = [
        f"{name}@20 {value:.4f} {change.value:+.4f} [{change.low:+.4f}, "
        f"{change.high:+.4f}]"
        for name, value, change in zip(
            ("Recall", "MRR"), loss.before, loss.change, strict=True
        )
    ]
    return (
        f"The item table in {table} instead of float32 ({loss.predictions:,} "
        f"predictions, exact): {', '.join(figures_)}; the label enters the first 20 of "
        f"{loss.entered:,} predictions and leaves those of {loss.left:,}."
    )


def _table_in_fewer_bytes(table: str, loss: Loss | None) -> Iterator[str]:
    if table == "float32":
        return
    yield f"### Item table in {table}"
    yield (
        "The figures above are of the float32 table. "
        + (
            of_rounding(table, loss)
            if loss
            else "What rounding costs was not measured."
        )
    )


def _protocol(run: Run, model: Trained) -> str:
    """Whose figures are of the exported step, if any are; else ``exact``."""
    best = run.evaluations.get(EXACT_AT_BEST, {}).get("step")
    latest = run.evaluations["exact"]["step"]
    return EXACT_AT_BEST if model.model.step == best != latest else "exact"


def _head(model: Trained, made_with: dict[str, Any]) -> Iterator[str]:
    tags = "\n".join(f"- {tag}" for tag in (*TAGS, model.config.model.name))
    yield f"---\nlibrary_name: tron-jax\nlicense: other\ntags:\n{tags}\n---"
    yield f"# {model.config.model.name} on data {made_with['fingerprint'][:12]}"
    config = model.config
    corrected = (
        f" Scores of the items of the last {RECENT} clicks are corrected by how long "
        "ago they were clicked and how often the session went back."
    ) * config.model.repeats
    yield (
        f"A session-based recommender: `{config.model.name}`, width "
        f"{config.model.hidden_size}, loss `{config.loss.name}`, "
        f"{made_with.get('parameters', 0):,} parameters. State after "
        f"{model.model.step:,} steps ({model.chosen_by}).{corrected}"
    )


def _data(
    model: Trained,
    made_with: dict[str, Any],
    compared: Comparison | None,
    data: str | None,
) -> Iterator[str]:
    clicks = int(model.items.train_events.sum())
    lines = [
        f"- {len(model.items.raw_ids):,} items, {clicks:,} clicks on them in training",
        f"- fingerprint `{made_with['fingerprint']}`",
    ]
    if held_out := model.config.data.validation:
        lines.append(f"- the latest {held_out:.0%} of train sessions were held out")
    place = data or model.config.data.path
    if place and (data or Path(place).exists()):
        prepared = open_prepared(local_path(place))
        if prepared.fingerprint == made_with["fingerprint"]:
            lines += [
                _sessions(split, sessions)
                for split, sessions in run_parts.splits(model.config, prepared).items()
            ]
    if compared is not None and compared.data:
        lines.append(f"- evaluated on {markdown.escaped(compared.data)}")
    yield "\n".join(lines)


def _sessions(split: str, sessions: Sessions) -> str:
    """How many there are, and when they began."""
    line = f"- {split}: {sessions.num_sessions:,} sessions"
    if sessions.start_time.null_count or not sessions.num_sessions:
        return line
    ends = (sessions.start_time[i].as_py().date() for i in (0, -1))
    return f"{line}, begun {' to '.join(map(str, ends))}"


def _evaluation(
    model: Trained, run: Run | None, compared: Comparison | None
) -> Iterator[str]:
    if run is None:
        yield "Not evaluated."
        return
    yield from _table(model, run)
    if compared is None:
        yield (
            "Figures of the state as it was trained; `experiments.evaluate` adds "
            "intervals and slices."
        )
        return
    yield (
        "`paper` is the protocol of the TRON paper; `exact` predicts every click from "
        "its last inputs, over the whole catalogue, with ties against the label. 95 % "
        "intervals are of the draw of test sessions; they and all that follows are of "
        f"{wording.protocol_title(compared.protocol)}."
    )
    if model.config.model.position == "from_end":
        yield (
            "Positions count from a session's end, so in these figures the model sees "
            "how many clicks remain."
        )
    weak = _weakest(compared)
    if weak:
        yield f"It is weakest ({title(BEST_KEY)}) on:\n\n" + "\n".join(weak)
    for by in slice_tables.kinds(compared):
        yield f"### {markdown.escaped(slice_tables.heading(compared, by))}"
        yield markdown.table(slice_tables.of_kind(compared, by))


def _table(model: Trained, run: Run) -> Iterator[str]:
    """Figures of each protocol, of which that of the exported step has intervals."""
    keys = [key for key in figures.keys_of([run]) if key in run.evaluations["exact"]]
    detailed = _protocol(run, model)
    intervals = _intervals(run, [key for key in SHOWN if key in keys], detailed)
    rows = [["protocol", "step", *map(title, keys)]]
    rows.append([":--", *["--:"] * (len(keys) + 1)])
    for protocol, line in run.evaluations.items():
        cells = [f"{line[key]:.4f}" if key in line else wording.UNKNOWN for key in keys]
        if protocol == detailed:
            pairs = zip(keys, cells, strict=True)
            cells = [cell + intervals.get(key, "") for key, cell in pairs]
        rows.append([protocol.replace("_", " "), f"{line['step']:,}", *cells])
    yield "\n".join(f"| {' | '.join(row)} |" for row in rows)
    evaluated = run.evaluations[detailed]["step"]
    if evaluated != model.model.step:
        yield f"**No figures are of the exported step; the last is {evaluated:,}.**"


def _intervals(run: Run, keys: Sequence[str], protocol: str) -> dict[str, str]:
    """The intervals of a protocol as text, where the ranks are at hand."""
    path = ranks.path_of(run, protocol)
    if path is None:
        return {}
    counts = ranks.predictions_per_session(path)
    if counts is None:
        return {}
    session = np.repeat(np.arange(len(counts)), counts)
    rank = ranks.read(run, path, protocol).rank
    values = [_values(key, rank) for key in keys]
    found = statistics.of_means(values, session, len(counts))
    return {
        key: f" [{one.low:.4f}, {one.high:.4f}]"
        for key, one in zip(keys, found, strict=True)
    }


def _values(key: str, rank: np.ndarray) -> np.ndarray:
    name, _, cutoff = key.partition("@")
    return METRICS[name](rank, int(cutoff))


def _weakest(compared: Comparison) -> list[str]:
    """A line for each of the slices with the lowest figures, but for small ones."""
    known = [part for part in compared.slices if part.predictions >= LEAST]
    lowest = sorted(known, key=lambda part: part.values[0].value)[:WEAKEST]
    return [
        f"- {part.by}: {part.name}: {part.values[0].value:.4f} "
        f"({part.predictions:,} predictions)"
        for part in lowest
    ]


def _cost(run: Run | None, made_with: dict[str, Any]) -> str:
    timed = figures.windows(run) if run is not None else []
    seconds = sum(window.seconds for window in timed)
    device = f"{made_with.get('device', 'an unknown device')}"
    cores = made_with.get("cores")
    where = f"{device}, {cores} cores" if cores else device
    if not seconds:
        return f"Trained on {where}; no log tells how long."
    peak = figures.peak_memory_gb([run]) if run is not None else None
    memory = f", {peak.mean:.1f} GB at most" if peak else ""
    return (
        f"{seconds / 60:,.1f} minutes of training on {where}{memory}, evaluation and "
        "saving not counted; the machine may have had other work."
    )


def _repeat(model: Trained, made_with: dict[str, Any]) -> Iterator[str]:
    argv = provenance.without_folders(made_with.get("argv", []))
    commit = made_with.get("git", "unknown")
    yield (
        f"Commit `{commit}`, jax {made_with.get('jax')}, seed "
        f"{model.config.train.seed}; all settings are in `config.json`."
    )
    if argv:
        yield markdown.fenced(f"python -m {shlex.join(argv)}")
