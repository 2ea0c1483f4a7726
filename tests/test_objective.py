"""Selection, schedule, correction and mean, apart from the losses themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_negatives import make_sampler, negatives
from test_steps import ITEMS, SESSIONS, assert_trees_close, make_batch
from tolerances import of_float32

from tron_jax.objectives import candidate_scores, selection
from tron_jax.objectives.log_q import make_log_q
from tron_jax.objectives.losses import LOSSES, LossSettings, make_loss
from tron_jax.objectives.objective import (
    StepData,
    make_objective,
    mean_divisor,
    topk_at,
)
from tron_jax.objectives.settings import Selection
from tron_jax.optimizers.touched import sum_rows, touch
from tron_jax.sampling.sources import make_constants

HIDDEN, TOPK = 8, 6
DRAWS = {"num_uniform": 8, "num_popularity": 5, "num_in_batch": 4}
CASES = [(loss, "none") for loss in sorted(LOSSES)]
CASES += [("ssm", mode) for mode in ("plain", "corrected", "by_source")]
ON_A_DEVICE = {("bpr_max", "none"), ("ssm", "by_source")}
CASES = [
    pytest.param(*case, marks=[pytest.mark.device] if case in ON_A_DEVICE else [])
    for case in CASES
]
# So many, 72, that the hardest 3 are selected in two stages.
MANY = {"num_uniform": 61, "num_popularity": 7, "num_in_batch": 4}


def loss_fn(name, elu=0.0):
    return make_loss(LossSettings(name, 0.1, 0.5, elu, 17, ITEMS))


def log_q(mode, draws=DRAWS):
    return make_log_q(mode, negatives(**draws), ITEMS)


@functools.cache
def example(**more):
    """What an objective is called with, but for the step."""
    batch = jax.tree.map(jnp.asarray, make_batch())
    clicks = np.asarray(batch.items)
    clicks = clicks[clicks > 0]
    constants = make_constants(negatives(**DRAWS), clicks, ITEMS, also_of=["in_batch"])
    constants = jax.tree.map(jnp.asarray, constants)
    fields = {"num_items": ITEMS, "num_sessions": SESSIONS, "seed": 5}
    sample = make_sampler(**(DRAWS | fields | more))

    @jax.jit
    def draw():
        candidates = sample(jnp.int32(0), batch, constants)
        touched = touch(batch.items, batch.labels, candidates.drawn, ITEMS + 1, True)
        rows = jax.random.normal(jax.random.key(1), (ITEMS + 1, HIDDEN))
        hidden = jax.random.normal(jax.random.key(2), (batch.items.size, HIDDEN))
        return candidates, touched, hidden, rows

    candidates, touched, hidden, rows = draw()
    return batch, candidates, touched, constants, hidden, rows


def run(objective, *steps, **more):
    """LossTotals, and gradients by hidden states and rows, at each step (or at 0)."""

    @jax.jit
    def call(step, *arguments):
        *about, hidden, rows = arguments
        gradients, totals = objective(StepData(step, *about), hidden, rows)
        return totals, gradients.hidden, sum_rows(ITEMS + 1, gradients.rows)

    results = [call(jnp.int32(step), *example(**more)) for step in steps or (0,)]
    return results if steps else results[0]


def differentiated(loss, mode, topk, draws=DRAWS):
    """All scored with gradient, top_k differentiated through; mean over events."""
    batch, candidates, touched, constants, hidden, rows = example(**draws)

    @jax.jit
    def mean(hidden, rows):
        scores, _ = candidate_scores.scores(hidden, rows, candidates, touched, batch)
        keep = candidate_scores.kept(candidates, batch, mask_hits=True)
        columns = jnp.broadcast_to(jnp.arange(scores.shape[1]), scores.shape)
        items = candidate_scores.items_of(candidates, batch)
        if topk:
            ordered = jnp.where(keep, scores, jnp.finfo(scores.dtype).min)
            scores, columns = jax.lax.top_k(ordered, topk)
            keep = jnp.take_along_axis(keep, columns, axis=1)
            items = jnp.take_along_axis(items, columns, axis=1)
            scores = jnp.where(keep, scores, 0)
        pos = jnp.sum(hidden * rows[touched.labels], axis=1)
        if mode != "none":
            pos -= log_q(mode, draws).of_labels(constants, batch.labels)
            scores -= log_q(mode, draws).of_candidates(constants, items, columns)
        losses = loss_fn(loss)(pos, scores, keep) * batch.weight
        return losses.sum() / batch.weight.sum()

    return jax.jit(jax.value_and_grad(mean, (0, 1)))(hidden, rows)


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("topk", [TOPK, 0])
@pytest.mark.parametrize(("loss", "mode"), CASES)
def test_has_the_gradient_of_the_loss_differentiated_as_a_whole(loss, mode, topk):
    objective = make_objective(
        loss_fn(loss), Selection(topk=topk, mask_hits=True), log_q=log_q(mode)
    )
    totals, *actual = run(objective)
    value, expected = differentiated(loss, mode, topk)
    rtol, atol = of_float32(1e-4), of_float32(1e-6)
    np.testing.assert_allclose(totals.loss / totals.events, value, rtol=rtol / 10)
    assert_trees_close(actual, list(expected), rtol=rtol, atol=atol)


@pytest.mark.parametrize(("num_uniform", "width"), [(61, 80), (69, 80)])
@pytest.mark.parametrize(("loss", "mode"), [("ssm", "plain"), ("bpr_max", "none")])
def test_so_has_the_objective_that_selects_in_two_stages(
    loss, mode, num_uniform, width
):
    draws = MANY | {"num_uniform": num_uniform}
    assert selection.width(sum(draws.values()), 3) == width
    objective = make_objective(
        loss_fn(loss), Selection(topk=3, mask_hits=True), log_q=log_q(mode, draws)
    )
    totals, *actual = run(objective, **draws)
    value, expected = differentiated(loss, mode, 3, draws)
    np.testing.assert_allclose(totals.loss / totals.events, value, rtol=1e-5)
    assert_trees_close(actual, list(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize(
    "draws",
    [
        pytest.param(DRAWS, marks=pytest.mark.device),
        pytest.param(MANY, marks=pytest.mark.device),
        {"num_uniform": 20, "num_popularity": 0, "num_in_batch": 0},
        {"num_uniform": 0, "num_popularity": 0, "num_in_batch": 9},
        DRAWS | {"in_batch_from": "labels", "mask_session": False},
        DRAWS | {"drawn_per": "session", "max_session_length": 5},
        DRAWS | {"deduplicate": True, "exclude": "batch"},
    ],
    ids=lambda draws: "-".join(map(str, draws.values())),
)
def test_the_gradient_by_matmul_is_the_same(draws):
    """Also where fewer than ``topk`` count, which fills up with columns of any kind."""
    make = lambda **how: make_objective(  # noqa: E731
        loss_fn("ssm"), Selection(topk=TOPK, mask_hits=True), **how
    )
    expected, actual = (run(make(by_matmul=how), **draws) for how in (False, True))
    rtol, atol = of_float32(1e-5), of_float32(1e-7)
    assert_trees_close(actual, expected, rtol=rtol, atol=atol)
    assert np.abs(np.asarray(expected[2])).max() > 1e-3


@pytest.mark.device
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_item_that_is_not_finite_shows_in_the_loss(value):
    objective = make_objective(loss_fn("ssm"), Selection(topk=3, mask_hits=False))
    *about, hidden, rows = example(**MANY)
    data = StepData(jnp.int32(0), *about)
    item = about[1].drawn[0, 7]
    _, totals = jax.jit(lambda rows: objective(data, hidden, rows.at[item].set(value)))(
        rows
    )
    assert jnp.isnan(totals.loss)


def rounded(x):
    return x.astype(jnp.bfloat16).astype(x.dtype)


def in_dtype(dtype, topk=TOPK):
    return make_objective(
        loss_fn("ssm"), Selection(topk=topk, mask_hits=True), dtype=dtype
    )


def test_in_bfloat16_selection_and_loss_are_those_of_what_is_rounded():
    def of_rounded(data, hidden, rows):
        return in_dtype(jnp.float32)(data, rounded(hidden), rounded(rows))

    totals, *gradients = run(in_dtype(jnp.bfloat16))
    expected, *of_expected = run(of_rounded)
    exact, *_ = run(in_dtype(jnp.float32))
    np.testing.assert_allclose(totals.loss, expected.loss, rtol=1e-6)
    assert abs(totals.loss / exact.loss - 1) > 1e-5
    # The gradient's own sums are of what is not rounded.
    for actual, wanted in zip(gradients, of_expected, strict=True):
        assert actual.dtype == jnp.float32
        atol = 2**-8 * float(jnp.abs(wanted).max())
        np.testing.assert_allclose(actual, wanted, rtol=2**-8, atol=atol)
        assert not np.array_equal(actual, rounded(actual))
    lowered = jax.jit(in_dtype(jnp.bfloat16)).lower(*lowered_arguments()).as_text()
    matmuls = [line for line in lowered.splitlines() if "dot_general" in line]
    of_rounded = [line for line in matmuls if line.count("xbf16>") == 2]
    assert len(of_rounded) == 2  # drawn, in-batch
    assert all(
        "-> tensor<64x17xf32>" in line or "64x64xf32" in line for line in of_rounded
    )


@pytest.mark.parametrize(("drawn_per", "topk"), [("session", TOPK), ("batch", 0)])
def test_where_there_is_no_matmul_to_select_by_nothing_is_rounded(drawn_per, topk):
    arguments = lowered_arguments(drawn_per=drawn_per, max_session_length=9)
    texts = [
        jax.jit(in_dtype(dtype, topk)).lower(*arguments).as_text()
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    assert texts[0] == texts[1]


def lowered_arguments(**fields):
    *about, hidden, rows = example(**fields)
    return StepData(jnp.int32(0), *about), hidden, rows


def test_selection_goes_by_raw_scores():
    """The correction changes what is lost, not what is selected."""
    objectives = [
        make_objective(
            loss_fn("ssm"), Selection(topk=1, mask_hits=True), log_q=log_q(mode)
        )
        for mode in ("none", "by_source")
    ]
    (raw, _, by_rows), (corrected, _, other) = map(run, objectives)
    assert raw.loss != corrected.loss
    rows = [np.flatnonzero(np.any(by != 0, axis=1)) for by in (by_rows, other)]
    np.testing.assert_array_equal(*rows)


def test_topk_moves_geometrically_from_its_start_to_its_end():
    for start, end, steps in [(400, 25, 4), (5, 80, 4), (17, 3, 50), (9, 9, 7)]:
        at = [
            int(topk_at(jnp.int32(i), Selection(end, start, steps)))
            for i in range(steps + 3)
        ]
        exact = start * (end / start) ** (np.arange(steps) / steps)
        np.testing.assert_array_equal(at[:steps], np.rint(exact))
        assert at[steps:] == [end] * 3
        moves = np.diff(at) * np.sign(end - start)
        assert (moves >= 0).all()
    assert [int(topk_at(jnp.int32(i), Selection(25, 400, 4))) for i in range(5)] == [
        400,
        200,
        100,
        50,
        25,
    ]
    assert int(topk_at(jnp.int32(0), Selection(25, 400, 0))) == 25
    late = topk_at(jnp.int32(2**31 - 1), Selection(100, 16384, 1_000_000))
    assert int(late) == 100


@pytest.mark.parametrize(("start", "end"), [(12, 3), (3, 12)])
def test_a_schedule_counts_what_a_constant_topk_of_that_step_counts(start, end):
    scheduled = make_objective(
        loss_fn("bpr_max"),
        Selection(topk=end, mask_hits=True, topk_start=start, topk_steps=2),
    )
    at_start, between, at_end, later = run(scheduled, 0, 1, 2, 9)
    assert_trees_close(at_end, later, rtol=0)
    for actual, topk in [(at_start, start), (between, 6), (at_end, end)]:
        constant = make_objective(
            loss_fn("bpr_max"), Selection(topk=topk, mask_hits=True)
        )
        assert_trees_close(actual, run(constant), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("topk", [TOPK, 0])
def test_a_mean_over_the_batch_divides_by_its_size(topk):
    means = [
        make_objective(
            loss_fn("ssm"),
            Selection(topk=topk, mask_hits=True),
            mean_over=over,
            batch_size=32,
        )
        for over in ("events", "batch")
    ]
    (totals, *by_event), (same, *by_batch) = (run(mean) for mean in means)
    assert_trees_close(totals, same, rtol=0)
    scaled = [gradient * totals.events / 32 for gradient in by_event]
    assert_trees_close(by_batch, scaled, rtol=1e-5, atol=1e-8)


def test_an_impossible_mean_is_refused():
    with pytest.raises(ValueError, match="clicks"):
        mean_divisor("clicks", 32)
    with pytest.raises(ValueError, match="size"):
        mean_divisor("batch", None)


@pytest.mark.portable
@pytest.mark.parametrize("topk", [TOPK, 0])
def test_lowers_for_accelerators(topk):
    objective = make_objective(
        loss_fn("ssm", elu=0.5),
        Selection(topk=topk, mask_hits=True, topk_start=9, topk_steps=5),
        log_q=log_q("by_source"),
        mean_over="batch",
        batch_size=32,
    )
    *about, hidden, rows = example()
    traced = jax.jit(objective).trace(StepData(jnp.int32(0), *about), hidden, rows)
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
