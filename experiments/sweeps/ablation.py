"""From SASRec to TRON XL by one change at a time, and two steps beyond.

    python -m experiments.sweep --sweep=experiments/sweeps/ablation.py:diginetica \
        --data=DIR --workdir=SWEEP [--seeds=2]
    python -m experiments.compare SWEEP --chain --out=PAGE

Each setting keeps the changes of those before it, and trains for two epochs. --chain
compares each with the one before it: what a change is worth where it stands, which may
be another worth elsewhere.
"""

from ml_collections import ConfigDict

from experiments.configs import sasrec, tron_xl

EPOCHS = 2

Changes = dict[str, object]  # values by the paths of their fields


def sweep(dataset: str = "diginetica") -> dict[str, tuple[ConfigDict, int]]:
    """Every setting of the path, in its order."""
    config = sasrec.get_config(dataset)
    config.train.epochs = EPOCHS
    settings = {"sasrec": (config, 1)}
    for name, changes in _steps(dataset).items():
        config = config.copy_and_resolve_references()
        config.update_from_flattened_dict(changes)
        settings[name] = (config, 1)
    return settings


def _steps(dataset: str) -> dict[str, Changes]:
    """What each setting has that the one before it has not."""
    start, end = sasrec.get_config(dataset), tron_xl.get_config(dataset)
    rate, dropout = end.optimizer.learning_rate, end.model.dropout
    steps: dict[str, Changes] = {
        f"learning_rate={rate:g}": {"optimizer.learning_rate": rate},
        f"dropout={dropout:g}": {"model.dropout": dropout},
        "ssm": {"loss.name": "ssm"},
        "512_negatives": {"negatives.num_uniform": 512},
        "drawn_per_session": {"negatives.drawn_per": "session"},
        # What one session shall not draw, the others of a batch may.
        "drawn_per_batch": {
            "negatives.drawn_per": "batch",
            "negatives.exclude": "none",
        },
        "16384_negatives": {"negatives.num_uniform": 16384},
        "in_batch": {"negatives.num_in_batch": 127},
        "exclude_batch": {"negatives.exclude": "batch"},
        "tron_xl": {"loss.topk": 100},
        "mask_hits": {"negatives.mask_hits": True},
        "from_start": {"model.position": "from_start"},
    }
    if start.model.dropout == dropout:
        del steps[f"dropout={dropout:g}"]
    return steps
