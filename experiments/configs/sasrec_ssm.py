"""SASRec SSM: the negatives of L-Negs under a sampled softmax.

    python -m experiments.train --workdir=RUN --config.data.path=DIR \
        --config=experiments/configs/sasrec_ssm.py:diginetica

Paper, Table 2 (Recall@20 / MRR@20): Diginetica 0.516 / 0.169, Yoochoose 0.722 / 0.305,
OTTO 0.432 / 0.201. Measured on Diginetica (seven of its eight test days) on a CPU,
2026-11-27, mean of two seeds: 0.519 / 0.171 in the `paper` protocol and 0.515 / 0.170
in `exact` at the best epoch (experiments/results/diginetica/table2).
"""

from ml_collections import ConfigDict

from experiments.configs import defaults


def get_config(dataset: str = "diginetica") -> ConfigDict:
    config = defaults.published_sasrec(
        dataset, num_uniform=8192, num_in_batch=127, loss="ssm"
    )
    config.model.dropout = 0.1 if dataset == "diginetica" else 0.05
    return config
