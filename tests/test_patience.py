"""When a run evaluates, and when its patience ends, around a step that is made up."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_stopping_early import stops_at

from tron_jax.console.progress import Progress
from tron_jax.objectives.objective import LossTotals
from tron_jax.reporting import metrics_writer, plots
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.log_windows import Recorder, TrainingPlan
from tron_jax.training.loop import Loop
from tron_jax.training.patience import Patience

pytestmark = pytest.mark.portable


@pytest.mark.parametrize(
    ("every", "evaluated"),
    [
        (1.0, [23, 46, 69]),
        (2.0, [46, 69]),  # the last step in any case
        (9.0, [69]),
        (0.5, [12, 23, 35, 46, 58, 69]),
        (0.2, [5, 9, 14, 18, 23, 28, 32, 37, 41, 46, 51, 55, 60, 64, 69]),
        (0.3, [7, 14, 23, 30, 37, 46, 53, 60, 69]),  # nothing right before an end
        (0.9, [23, 46, 69]),
        (1e-9, list(range(1, 70))),
    ],
)
def test_when_a_run_evaluates(every, evaluated):
    plan = TrainingPlan(23, 3, log_every=1000, save_every=1000, evaluate_every=every)
    steps = range(1, plan.last + 1)
    assert [step for step in steps if plan.evaluates(step)] == evaluated
    # A line of the log ends with its epoch at the latest, evaluated or not.
    assert {*evaluated, 23, 46, 69} == {step for step in steps if plan.logs(step)}


def test_longer_runs_evaluate_at_the_same_steps_and_next_saves_are_saves():
    draw = np.random.default_rng(0)
    for _ in range(200):
        per_epoch, save_every = draw.integers(1, 40, 2).tolist()
        every = float(draw.choice([draw.uniform(0.01, 1), 1 / per_epoch, 1, 3]))
        settings = {"log_every": 4, "save_every": save_every, "evaluate_every": every}
        plan = TrainingPlan(per_epoch, 4, **settings)
        longer = TrainingPlan(per_epoch, 9, **settings)
        steps = range(1, plan.last + 1)
        for step in steps:
            assert plan.schedules(step) == longer.schedules(step)
        saves = [step for step in steps if plan.saves(step)]
        assert {step for step in steps if plan.evaluates(step)} <= {*saves}
        for step in range(plan.last):
            later = [save for save in saves if save > step]
            assert plan.next_save(step) == later[0], (plan, step)
            assert plan.saves_after(step, 3) == min(3, len(later))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_ends_as_many_evaluations_after_the_best(stop_after):
    """And the count survives as JSON, wherever it is cut."""
    draw = np.random.default_rng(stop_after)
    ended = 0
    for _ in range(100):
        scores = dict(enumerate((draw.integers(0, 6, 12) / 7).tolist()))
        patience, seen = Patience(stop_after), []
        for score in scores.values():
            if draw.integers(2):
                info = json.loads(json.dumps(patience.info()))
                patience = Patience(stop_after, info)
            assert not patience.ended
            patience.add(score)
            seen.append(score)
            if patience.ended:
                break
        end = len(seen) - 1 if patience.ended else None
        assert end == stops_at(scores, stop_after)
        assert patience.info()["patience"]["best"] == max(seen)
        ended += patience.ended
        # More of it is not at its end, and 0 has none.
        info = patience.info()
        assert info["patience"]["stopped"] == patience.ended
        assert not Patience(stop_after + 1, info).ended
        assert not Patience(0, info).ended
    assert ended > 10


def test_without_a_score_there_is_nothing_to_wait_for():
    patience = Patience(1, {})
    for _ in range(3):
        patience.add(None)
    assert not patience.ended


PER_EPOCH, EPOCHS = 10, 8
LAST = PER_EPOCH * EPOCHS
# By step. Of this seed parts of an epoch find a rise after a fall before they end.
SCORES = np.random.default_rng(1240).permutation(LAST + 1).tolist()


class Killed(BaseException):
    """Nobody expects it."""


class Batches:
    """Dispatches of up to so many steps; a dispatch is the numbers of its steps."""

    steps_per_epoch = PER_EPOCH

    def __init__(self, steps_per_call):
        self.steps_per_call = steps_per_call

    def dispatch_at(self, step, until):
        steps = min(self.steps_per_call, until - step)
        return np.arange(step + 1, step + steps + 1, dtype=np.int32), steps

    def sessions_before(self, step):
        return 12 * step


@jax.jit
def train_step(state, steps):
    def add(sum, step):
        return sum + jnp.sin(step), jnp.abs(jnp.cos(step))

    sum, losses = jax.lax.scan(add, state["sum"], steps.astype(jnp.float32))
    return {"sum": sum}, LossTotals(losses, jnp.ones_like(losses))


def train(folder, steps_per_call=1, every=0.2, stop_after=2, kill=None, stop=None):
    """Starts or resumes; returns the last step. Killed before or after a save."""
    folder.mkdir(exist_ok=True)
    checkpoints, zero = Checkpoints(folder / "checkpoints"), {"sum": jnp.float32(0)}
    start, state, info = checkpoints.restore_newest(zero) or (0, zero, {})
    metrics_writer.truncate_after(folder / "metrics.jsonl", start)
    with checkpoints, metrics_writer.MetricsWriter(folder / "metrics.jsonl") as writer:
        plan = TrainingPlan(PER_EPOCH, EPOCHS, 4, 1000, every)
        batches = Batches(steps_per_call)
        save = checkpoints.save

        def saving(step, *args, **kwargs):
            if kill == ("before", step):
                raise Killed
            spent = save(step, *args, **kwargs)
            if kill == ("after", step):
                raise Killed
            return spent

        checkpoints.save = saving
        loop = Loop(
            plan,
            train_step,
            batches,
            lambda state, step: ([{"score": SCORES[step]}], SCORES[step]),
            checkpoints,
            {},
            Recorder(writer, plan, batches.sessions_before, info),
            Progress("training", LAST, unit="steps"),
            Patience(stop_after, info),
        )
        return loop.run(state, start, stop or (lambda: False))[1]


def evaluated(every, upto=LAST):
    plan = TrainingPlan(PER_EPOCH, EPOCHS, 4, 1000, every)
    return [step for step in range(1, upto + 1) if plan.evaluates(step)]


def left_by(folder):
    checkpoints = Checkpoints(folder / "checkpoints")
    last = checkpoints.latest_step()
    state, info = checkpoints.restore(last, {"sum": jnp.float32(0)})
    best = checkpoints.best_step()
    return tiny.lines(folder), last, best, float(state["sum"]), info["patience"]


@pytest.mark.parametrize(
    ("steps_per_call", "every"), [(1, 0.2), (100, 0.2), (7, 0.5), (7, 1.0), (100, 2.0)]
)
def test_cut_off_anywhere_it_ends_where_it_would_have(tmp_path, every, steps_per_call):
    last = train(tmp_path / "unbroken", every=every)
    scores = {step: SCORES[step] for step in evaluated(every)}
    assert last == stops_at(scores, 2) < LAST
    lines = tiny.lines(tmp_path / "unbroken")
    steps = evaluated(every, last)
    assert [line["step"] for line in lines if "score" in line] == steps

    killed = tmp_path / "killed"
    for step in steps:
        for moment in ("before", "after"):
            with pytest.raises(Killed):
                train(killed, steps_per_call, every, kill=(moment, step))
    assert train(killed, steps_per_call, every) == last
    stopped = tmp_path / "stopped"
    while train(stopped, steps_per_call, every, stop=lambda: True) < last:
        pass
    assert left_by(killed) == left_by(stopped) == left_by(tmp_path / "unbroken")
    assert left_by(killed)[-1]["stopped"]


def test_a_last_step_off_schedule_counts_for_nothing(tmp_path):
    """Or a run with more epochs, which does not evaluate it, would end elsewhere."""
    assert train(tmp_path, every=3.0, stop_after=1) == LAST
    *_, patience = left_by(tmp_path)
    assert SCORES[LAST] < SCORES[60] == patience["best"]
    assert patience["evaluations_since"] == 0
    assert [x["step"] for x in tiny.lines(tmp_path) if "score" in x] == [30, 60, 80]


@pytest.mark.parametrize("every", [0.3, 1.0, 2.0])
def test_windows_of_the_log_are_still_parts_of_one_epoch(every):
    """Which the mean loss of an epoch is made of."""
    plan = TrainingPlan(PER_EPOCH, EPOCHS, 4, 1000, every)
    losses = np.random.default_rng(0).uniform(size=LAST)
    ends = [0, *(step for step in range(1, LAST + 1) if plan.logs(step))]
    lines = [
        {"epoch": end / PER_EPOCH, "loss": losses[start:end].mean()}
        for start, end in itertools.pairwise(ends)
    ]
    starts, ends, means = plots.epoch_means(lines)
    assert (starts, ends) == ([*range(EPOCHS)], [*range(1, EPOCHS + 1)])
    np.testing.assert_allclose(means, losses.reshape(EPOCHS, -1).mean(1), rtol=1e-12)
