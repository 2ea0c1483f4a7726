"""The losses on TRON XL's negatives, each with the settings that belong to it.

    python -m experiments.sweep --sweep=experiments/sweeps/losses.py:diginetica \
        --data=DIR --workdir=SWEEP [--seeds=3]

No product of values: BPR-max has a penalty of its own, and the full softmax neither
negatives to choose from nor hits to mask.
"""

from ml_collections import ConfigDict

from experiments.configs import tron_xl

PENALTIES = {"diginetica": 0.1, "yoochoose": 0.125, "otto": 0.03}  # as published


def sweep(dataset: str = "diginetica") -> dict[str, tuple[ConfigDict, int]]:
    """Three seeds of each loss, labels that were drawn as negatives masked."""
    settings = {}
    for name in ("ssm", "bce", "gbce", "bpr_max", "full_softmax"):
        config = tron_xl.get_config(dataset)
        config.loss.name = name
        config.negatives.mask_hits = name != "full_softmax"
        if name == "bpr_max":
            config.loss.penalty = PENALTIES[dataset]
        if name == "full_softmax":
            config.negatives.num_uniform = config.negatives.num_in_batch = 0
            config.loss.topk = 0
        settings[name] = (config, 3)
    return settings
