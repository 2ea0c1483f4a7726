"""The runs that are timed: configs of Table 2 on made-up sessions.

Lengths of sessions are those of a data set, whatever the number of items; no data are
needed, and building one takes a second.
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from experiments import checks, entry
from experiments.assembly.ways import Ways
from experiments.benchmarks.child_processes import ROOT
from experiments.benchmarks.made_up_sessions import make_sessions
from experiments.benchmarks.workload import Workload, build_workload

# In the order of worth. All configs of Table 2, and GRU4Rec as its authors run it.
CONFIGS = (
    "tron_xl",
    "sasrec",
    "gru4rec",
    "tron_l",
    "sasrec_ssm",
    "sasrec_l_negs",
    "sasrec_m_negs",
    "sasrec_bpr_max",
    "gru4rec_original",
)
AT_OTTO = ("tron_xl", "sasrec", "gru4rec")
ITEMS = {"diginetica": 43_097, "otto": 1_855_603}
SESSIONS = {"diginetica": 186_670, "otto": 200_000}
TINY_ITEMS = {"diginetica": 500, "otto": 2_000}
TINY_SESSIONS = 600
# What a rehearsal shrinks: no field above these.
TINY = {
    "model.hidden_size": 16,
    "model.feedforward_size": 16,
    "model.max_session_length": 8,
    "negatives.num_uniform": 64,
    "negatives.num_popularity": 64,
    "negatives.num_in_batch": 7,
    "loss.topk": 8,
    "train.batch_size": 8,
    "train.steps_per_call": 8,
}


def read_config(
    name: str, dataset: str, fields: dict[str, Any], *, tiny: bool
) -> ConfigDict:
    """A config of experiments/configs with some fields set, and shrunk if tiny."""
    path = ROOT / "experiments" / "configs" / f"{name}.py"
    config = entry.read_config(f"{path}:{dataset}", fields)
    for field, most in TINY.items() if tiny else ():
        group, key = field.split(".")
        config[group][key] = min(config[group][key], most)
    checks.check(config)
    return config


def make(
    name: str,
    dataset: str,
    *,
    tiny: bool,
    num_items: int | None = None,
    fields: dict[str, Any] | None = None,
    ways: Ways | None = None,
) -> Workload:
    """A config's run on made-up sessions.

    Args:
      name: of the config.
      dataset: whose lengths the sessions have.
      tiny: whether for a rehearsal.
      num_items: those of the data set if not given.
      fields: of the config, by path, that are set.
      ways: to compute; None = the best of the backend.

    Returns:
      The run, not compiled.
    """
    fields = dict(fields or {})
    if dataset == "otto":  # also where a rehearsal has few items
        fields.setdefault("optimizer.item_table", "rows")
    config = read_config(name, dataset, fields, tiny=tiny)
    items = num_items or (TINY_ITEMS if tiny else ITEMS)[dataset]
    count = TINY_SESSIONS if tiny else SESSIONS[dataset]
    sessions = make_sessions(dataset, count, items)
    return build_workload(config, items, {"train": sessions}, ways)
