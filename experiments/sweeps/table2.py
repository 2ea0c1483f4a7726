"""The paper's Table 2, and the original GRU4Rec, each trained until it stops rising.

    python -m experiments.sweep --sweep=experiments/sweeps/table2.py:diginetica \
        --data=DIR --workdir=SWEEP

Published settings; what the comparison is about comes first, with three seeds. A run
ends when its Recall@20 has not risen for five epochs, or after thirty; one that has not
stopped by then has not converged. GRU4Rec+ has the epochs that it was published with.
"""

from ml_collections import ConfigDict

from experiments.configs import (
    gru4rec,
    gru4rec_original,
    sasrec,
    sasrec_bpr_max,
    sasrec_l_negs,
    sasrec_m_negs,
    sasrec_ssm,
    tron_l,
    tron_xl,
)

MOST_EPOCHS, STOP_AFTER = 30, 5
ROWS = {
    "tron_xl": (tron_xl, 3),
    "sasrec_ssm": (sasrec_ssm, 3),
    "gru4rec": (gru4rec, 3),
    "tron_l": (tron_l, 1),
    "sasrec_bpr_max": (sasrec_bpr_max, 1),
    "sasrec": (sasrec, 1),
    "sasrec_m_negs": (sasrec_m_negs, 1),
    "sasrec_l_negs": (sasrec_l_negs, 1),
    "gru4rec_original": (gru4rec_original, 1),
}


def sweep(dataset: str = "diginetica") -> dict[str, tuple[ConfigDict, int]]:
    """Every row, in the order in which they are wanted."""
    settings = {}
    for name, (module, seeds) in ROWS.items():
        config = module.get_config(dataset)
        if name != "gru4rec":
            config.train.epochs = MOST_EPOCHS
            config.train.stop_after = STOP_AFTER
        settings[name] = (config, seeds)
    return settings
