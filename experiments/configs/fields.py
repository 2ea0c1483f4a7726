"""Every field of a config, with its unit and the defaults of SASRec and TRON.

The config files beside this one set what their experiment is about.
"""

from ml_collections import ConfigDict, config_dict

DATASETS = ("diginetica", "yoochoose", "otto")


def default_config() -> ConfigDict:
    """All fields; published values where the paper has one for all data sets."""
    config = ConfigDict()

    data = config.data = ConfigDict()
    data.path = config_dict.placeholder(str)  # folder of a prepared data set
    data.validation = 0.0  # share of train sessions, the latest, held out for tuning

    model = config.model = ConfigDict()
    model.hidden_size = 200  # width of embeddings and hidden states
    model.num_layers = 2  # transformer layers
    model.num_heads = 1  # attention heads
    model.feedforward_size = 200  # width inside the feed-forward part
    model.max_session_length = 50  # inputs; longer sessions keep their last ones
    model.dropout = 0.05  # probability of dropping
    model.position = "from_end"  # from_end (published) | from_start (honest)

    negatives = config.negatives = ConfigDict()
    negatives.uniform_style = "batchwise"  # who shares the uniform negatives
    negatives.num_uniform = 16384  # per batch
    negatives.num_in_batch = 127  # per session, inputs of the other sessions
    negatives.exclude = "batch"  # none | batch: whose inputs are never uniform ones
    negatives.mask_hits = False  # mask candidates that equal the event's label

    loss = config.loss = ConfigDict()
    loss.name = "ssm"  # ssm | bce | bpr_max
    loss.topk = 100  # candidates per event that count, the hardest; 0 = all
    loss.penalty = 0.0  # weight of bpr_max's score regularisation

    optimizer = config.optimizer = ConfigDict()
    optimizer.learning_rate = 5e-4  # of Adam
    optimizer.warmup_steps = 0  # steps of linear rise to it
    optimizer.b1 = 0.9  # decay of the first moment
    optimizer.b2 = 0.999  # decay of the second moment
    optimizer.epsilon = 1e-8  # added to the root of the second moment
    optimizer.item_table = "auto"  # dense | rows | auto: rows from 200,000 items on

    train = config.train = ConfigDict()
    train.epochs = 10  # passes over the train sessions
    train.batch_size = 128  # sessions
    train.order = "chronological"  # chronological (published) | shuffled
    train.seed = 0  # of initial parameters and every draw
    train.log_every_steps = 100  # steps a line of metrics.jsonl covers, at most

    checkpoint = config.checkpoint = ConfigDict()
    checkpoint.every_steps = 1000  # steps, besides one at the end of each epoch
    checkpoint.keep_last = 3  # checkpoints, besides the best
    return config.lock()  # a misspelt field in a config file is refused


def check_dataset(dataset: str) -> None:
    """Raises ValueError unless the argument after the config's colon is a data set."""
    if dataset not in DATASETS:
        raise ValueError(
            f"unknown data set {dataset!r} after the config's colon; "
            f"expected one of: {', '.join(DATASETS)}"
        )


def published(dataset: str) -> ConfigDict:
    """What all transformer rows of Table 2 share on a data set (paper §3)."""
    check_dataset(dataset)
    config = default_config()
    config.train.epochs = 100 if dataset == "diginetica" else 10
    return config
