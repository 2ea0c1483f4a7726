"""SASRec M-Negs: 512 uniform and 16 in-batch negatives, binary cross entropy.

    python -m experiments.train --workdir=RUN --config.data.path=DIR \
        --config=experiments/configs/sasrec_m_negs.py:diginetica

Paper, Table 2 (Recall@20 / MRR@20): Diginetica 0.464 / 0.160, Yoochoose 0.607 / 0.234,
OTTO 0.269 / 0.142. MEASURED
"""

from ml_collections import ConfigDict

from experiments.configs import fields


def get_config(dataset: str = "diginetica") -> ConfigDict:
    return fields.published_sasrec(
        dataset, num_uniform=512, num_in_batch=16, loss="bce"
    )
