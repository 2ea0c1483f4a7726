"""The paper's Table 2, and the original GRU4Rec, each trained until it stops rising.

    python -m experiments.sweep --sweep=experiments/sweeps/table2.py:diginetica \
        --data=DIR --workdir=SWEEP
    python -m experiments.compare SWEEP --at=best --out=PAGE \
        --claims=experiments/sweeps/table2.py:diginetica

Published settings; what the comparison is about comes first, with three seeds. A run
ends when its Recall@20 has not risen for five epochs, or after thirty; one that has not
stopped by then has not converged. GRU4Rec+ has the epochs that it was published with.
"""

from ml_collections import ConfigDict

from experiments.configs import (
    defaults,
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
    "tron_l": (tron_l, 3),
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


# The paper's Table 2, Recall@20 and MRR@20 of each data set.
PUBLISHED = {
    "gru4rec": ((0.455, 0.144), (0.725, 0.310), (0.443, 0.205)),
    "sasrec": ((0.454, 0.157), (0.573, 0.216), (0.307, 0.180)),
    "sasrec_m_negs": ((0.464, 0.160), (0.607, 0.234), (0.269, 0.142)),
    "sasrec_l_negs": ((0.467, 0.161), (0.571, 0.211), (0.226, 0.114)),
    "sasrec_bpr_max": ((0.526, 0.175), (0.722, 0.297), (0.377, 0.178)),
    "sasrec_ssm": ((0.516, 0.169), (0.722, 0.305), (0.432, 0.201)),
    "tron_l": ((0.537, 0.182), (0.730, 0.299), (0.460, 0.212)),
    "tron_xl": ((0.541, 0.182), (0.732, 0.302), (0.472, 0.219)),
}


def published(dataset: str = "diginetica") -> dict[str, dict[str, float]]:
    """The paper's figures of a data set, by row and metric."""
    defaults.check_dataset(dataset)
    column = defaults.DATASETS.index(dataset)
    return {
        row: dict(zip(("recall@20", "mrr@20"), figures[column], strict=True))
        for row, figures in PUBLISHED.items()
    }


def claims(dataset: str = "diginetica") -> list[tuple[str, str, str]]:
    """What the paper concludes (§4) of pairs of rows: in words, one row, the other.

    Which of the two is the better one depends on data set and metric, by its figures.
    """
    del dataset
    return [
        ("TRON XL against SASRec SSM", "tron_xl", "sasrec_ssm"),
        ("TRON XL against GRU4Rec+", "tron_xl", "gru4rec"),
        ("TRON XL against SASRec", "tron_xl", "sasrec"),
        ("twice the negatives", "tron_xl", "tron_l"),
        ("negatives per batch, top 100 of them", "tron_l", "sasrec_ssm"),
        ("SASRec SSM against GRU4Rec+", "sasrec_ssm", "gru4rec"),
        ("softmax instead of bce", "sasrec_ssm", "sasrec_l_negs"),
        ("BPR-max instead of softmax", "sasrec_bpr_max", "sasrec_ssm"),
        ("512 negatives under bce", "sasrec_m_negs", "sasrec"),
        ("8,192 negatives under bce", "sasrec_l_negs", "sasrec"),
        ("GRU4Rec+ against SASRec", "gru4rec", "sasrec"),
    ]
