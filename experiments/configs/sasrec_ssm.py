"""SASRec SSM: the negatives of L-Negs under a sampled softmax.

    python -m experiments.train --workdir=RUN --config.data.path=DIR \
        --config=experiments/configs/sasrec_ssm.py:diginetica

Paper, Table 2 (Recall@20 / MRR@20): Diginetica 0.516 / 0.169, Yoochoose 0.722 / 0.305,
OTTO 0.432 / 0.201. Measured on Diginetica (seven of its eight test days) on two CPU
cores, 2026-11-22: 0.454 / 0.139 in the `paper` protocol after 1 epoch, 0.451 / 0.138 in
`exact` after 1 (experiments/results/diginetica/sasrec_ssm).
"""

from ml_collections import ConfigDict

from experiments.configs import defaults


def get_config(dataset: str = "diginetica") -> ConfigDict:
    config = defaults.published_sasrec(
        dataset, num_uniform=8192, num_in_batch=127, loss="ssm"
    )
    config.model.dropout = 0.1 if dataset == "diginetica" else 0.05
    return config
