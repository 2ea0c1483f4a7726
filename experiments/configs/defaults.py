"""Every field of a config, with its unit and the defaults of SASRec and TRON.

The config files beside this one set what their experiment is about.
"""

from ml_collections import ConfigDict, config_dict

DATASETS = ("diginetica", "yoochoose", "otto")


def default_config() -> ConfigDict:
    """All fields; published values where the paper has one for all data sets."""
    config = ConfigDict()
    config.data = _data()
    config.model = _model()
    config.negatives = _negatives()
    config.loss = _loss()
    config.optimizer = _optimizer()
    config.train = _train()
    config.eval = _eval()
    config.checkpoint = _checkpoint()
    config.init = _init()
    return config.lock()  # a misspelt field in a config file is refused


def _data() -> ConfigDict:
    data = ConfigDict()
    data.path = config_dict.placeholder(str)  # folder of a prepared data set
    data.validation = 0.0  # share of train sessions, the latest, held out for tuning
    data.without_last = 0.0  # share of train sessions, the latest, left out altogether
    data.last_days = 0  # of the train sessions only those of the last days; 0 = all
    return data


def _model() -> ConfigDict:
    model = ConfigDict()
    model.name = "sasrec"  # sasrec | gru4rec
    model.hidden_size = 200  # width of embeddings and hidden states
    model.num_layers = 2  # transformer layers; gru4rec has one
    model.num_heads = 1  # attention heads
    model.feedforward_size = 200  # width inside the feed-forward part
    model.max_session_length = 50  # inputs; longer sessions keep their last ones
    model.dropout = 0.05  # probability of dropping
    model.scoring = "dot"  # dot | cosine: the same of vectors of length 1
    model.scale = 10.0  # that a cosine is multiplied by, to be a score
    model.repeats = False  # learn corrections of the scores of a session's last items
    model.position = "from_end"  # from_end (published) | from_start (honest)
    model.init = "published"  # published | original (of gru4rec: Hidasi's own)
    model.compute_dtype = "float32"  # float32 | bfloat16 (slower on a CPU): of the
    #   encoder in training and of the matmul that the hardest are selected by;
    #   parameters, moments, sums and evaluation are float32 in any case
    return model


def _negatives() -> ConfigDict:
    negatives = ConfigDict()
    # num_X: how many negatives an event has of source X (tron_jax/sampling/sources.py)
    negatives.num_uniform = 16384  # drawn with equal chances
    negatives.num_popularity = 0  # drawn by popularity
    negatives.popularity_exponent = 0.5  # their chances: an item's clicks to this power
    negatives.num_in_batch = 127  # clicks of the batch's other sessions
    negatives.drawn_per = "batch"  # event | session | batch: who shares what is drawn
    negatives.exclude = "batch"  # none | session | batch: whose inputs are never drawn
    negatives.in_batch_from = "inputs"  # inputs (published) | labels of those sessions
    negatives.mask_session = True  # no in-batch negatives from the session itself
    negatives.mask_hits = False  # mask candidates that equal the event's label
    negatives.deduplicate = False  # of equal candidates of an event, count only one
    return negatives


def _loss() -> ConfigDict:
    loss = ConfigDict()
    loss.name = "ssm"  # ssm | bce | bpr_max | gbce | full_softmax (of all items)
    loss.topk = 100  # candidates per event that count, the hardest; 0 = all
    loss.topk_start = 0  # where topk begins, to fall (or rise) to it; 0 = constant;
    #   every step costs what the larger of the two does
    loss.topk_steps = 0  # steps until it has
    loss.penalty = 0.0  # weight of bpr_max's score regularisation
    loss.calibration = 0.75  # gbce's t: 0 = none, 1 = unbiased for its sampling rate
    loss.elu = 0.0  # alpha of an ELU that the loss applies to scores; 0 = none
    loss.logq = "none"  # none | plain | corrected | by_source (of gru4rec_original)
    loss.mean_over = "events"  # events | batch: what a batch's loss is divided by
    return loss


def _optimizer() -> ConfigDict:
    optimizer = ConfigDict()
    optimizer.name = "adam"  # adam | adagrad (from accumulators of 0)
    optimizer.learning_rate = 5e-4  # of either
    optimizer.warmup_steps = (
        0  # steps of linear rise to it; a fall begins at step 0, too
    )
    optimizer.schedule = "constant"  # constant | step | linear | cosine: how it falls
    optimizer.schedule_steps = 0  # steps until it has fallen, to stay there
    optimizer.schedule_epochs = 0.0  # the same in epochs; a run writes down the steps
    optimizer.schedule_end = 0.0  # share of it that is left then
    optimizer.b1 = 0.9  # decay of adam's first moment
    optimizer.b2 = 0.999  # decay of adam's second moment
    optimizer.epsilon = 1e-8  # added to the root of the second moment or accumulator
    optimizer.epsilon_in_root = False  # adagrad: added under the root instead
    optimizer.momentum = 0.0  # of adagrad
    optimizer.item_table = "auto"  # dense | rows | auto: rows from 200,000 items on
    return optimizer


def _train() -> ConfigDict:
    train = ConfigDict()
    train.epochs = 10  # passes over the train sessions
    train.batch_size = 128  # sessions; of gru4rec: slots, one event of each a step
    train.steps_per_call = 100  # steps of gru4rec that the device makes in one go
    train.steps_per_group = 0  # the same of sasrec, whose batches of a group are padded
    #   to one length; 0 = 1 on a CPU, where it saves nothing, 8 on an accelerator
    train.order = "chronological"  # chronological (published) | shuffled
    train.seed = 0  # of initial parameters and every draw
    train.evaluate_on = "all"  # all | validation: whether test is looked at, too
    train.evaluate_every = 1.0  # epochs from one evaluation, and its checkpoint, to the
    #   next: a whole number, or a part of an epoch, in whole steps (0.2 = five times an
    #   epoch, the last at its end); the last step of a run is evaluated in any case
    train.stop_after = 0  # evaluations without a higher recall@20, that on validation
    #   or else on test, after which training ends before its last epoch; 0 = never
    train.log_every_steps = 100  # steps a line of metrics.jsonl covers, at most
    train.mesh = 1  # devices that share the item table; 0 = all there are
    train.deterministic = False  # on a GPU: the same bits each time, for some speed
    return train


def _eval() -> ConfigDict:
    # A flag takes a tuple: --config.eval.cutoffs="(1,20)"
    evaluation = ConfigDict()
    evaluation.metrics = ("recall", "mrr", "ndcg")  # of every evaluation, in this
    #   order; hitrate is recall, which is always among them
    evaluation.cutoffs = (5, 10, 20)  # items of a list, of each metric; 20 is always
    #   among them, as the best checkpoint is that of the highest recall@20
    return evaluation


def _checkpoint() -> ConfigDict:
    checkpoint = ConfigDict()
    checkpoint.every_steps = 1000  # steps, besides one at the end of each epoch
    checkpoint.keep_last = 3  # checkpoints, besides the best
    return checkpoint


def _init() -> ConfigDict:
    init = ConfigDict()
    init.workdir = config_dict.placeholder(str)  # of a run to start warm from; items
    #   are matched by their raw ids
    init.step = config_dict.placeholder(str)  # its checkpoint: best, latest or a step;
    #   by default the latest, or the best on validation where it held some out
    init.new_items = "initializer"  # initializer | neighbours: what rows that it lacks
    #   begin as; the mean of the rows clicked in the same sessions
    init.moments = "reset"  # reset | keep: of the optimizer; kept, its count of updates
    #   goes on, and so a warm-up that is over stays over
    return init


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


def published_sasrec(
    dataset: str, *, num_uniform: int, num_in_batch: int, loss: str
) -> ConfigDict:
    """A SASRec row: negatives drawn per session that exclude nothing, all counted."""
    config = published(dataset)
    config.negatives.drawn_per = "session"
    config.negatives.exclude = "none"
    config.negatives.num_uniform = num_uniform
    config.negatives.num_in_batch = num_in_batch
    config.loss.name = loss
    config.loss.topk = 0
    return config


def published_gru4rec(dataset: str) -> ConfigDict:
    """What both GRU4Rec share: slots, one layer of 100 units, Adagrad."""
    check_dataset(dataset)
    config = default_config()
    config.model.name = "gru4rec"
    config.model.hidden_size = 100
    config.model.num_layers = 1
    config.model.max_session_length = 200
    config.model.position = "from_start"  # the model knows no positions
    config.model.dropout = 0.0
    config.negatives.exclude = "none"
    config.negatives.num_uniform = 2048
    config.negatives.num_in_batch = 31
    config.loss.topk = 0
    config.optimizer.name = "adagrad"
    config.optimizer.learning_rate = 0.2
    config.optimizer.item_table = "rows"
    config.train.batch_size = 32
    config.train.log_every_steps = 1000
    config.checkpoint.every_steps = 20_000
    return config
