import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_negatives as reference
from tolerances import of_float32

from tron_jax.objectives import candidate_scores, drawn_scores, selection
from tron_jax.objectives.losses import LOSSES, LossSettings, make_loss
from tron_jax.optimizers.touched import sum_rows, touch
from tron_jax.sampling.sampler import DRAWN_PER


@pytest.mark.device
@pytest.mark.parametrize("seed", range(4))
def test_hardest_equals_sorting_what_is_kept(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(9, 30)).astype(np.float32)
    keep = rng.random((9, 30)) < 0.6
    masked = np.where(keep, scores, selection.LOWEST)
    values, columns, kept = jax.jit(selection.hardest, static_argnums=1)(masked, 7)
    for event in range(9):
        order = np.argsort(-scores[event], kind="stable")
        expected = [column for column in order if keep[event, column]][:7]
        np.testing.assert_array_equal(columns[event], expected)
        np.testing.assert_array_equal(values[event], scores[event, expected])
        assert kept[event].all()


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_scores_that_are_nan_count_and_show_in_the_loss(loss):
    scores = jnp.array([[5.0, jnp.nan, 3.0, selection.LOWEST], [1.0, 2.0, 3.0, 4.0]])
    neg, _, kept = selection.hardest(scores, 3)
    losses = make_loss(LossSettings(loss, penalty=0.1))(jnp.ones(2), neg, kept)
    np.testing.assert_array_equal(jnp.isnan(losses), [True, False])


def test_where_too_few_are_kept_the_rest_is_marked():
    scores = jnp.array([[5.0, 4.0, 3.0, 2.0]])
    keep = jnp.array([[False, True, False, True]])
    values, columns, kept = selection.hardest(
        jnp.where(keep, scores, selection.LOWEST), 3
    )
    np.testing.assert_array_equal(values, [[4, 2, 0]])
    assert set(np.asarray(columns[0])[np.asarray(kept[0])].tolist()) == {1, 3}
    assert kept.sum() == 2
    _, _, none = selection.hardest(jnp.full_like(scores, selection.LOWEST), 2)
    assert not none.any()


ROWS, WIDTH = 31, 6
WAYS = {
    "batch": drawn_scores.shared,
    "event": drawn_scores.gathered_at_once,
    "event in blocks": drawn_scores.gathered,
    "session": drawn_scores.picked,
    "session in blocks": drawn_scores.gathered,
}


def candidates_by(style, batch, pool="inputs", num_drawn=7, num_in_batch=4, seed=0):
    sample = reference.make_sampler(
        num_items=ROWS - 1,
        num_sessions=5,
        max_session_length=12,
        num_uniform=num_drawn,
        drawn_per=style,
        num_in_batch=num_in_batch,
        in_batch_from=pool,
        deduplicate=True,
        seed=seed,
    )
    return jax.jit(sample)(jnp.int32(0), batch)


@functools.partial(jax.jit, static_argnums=(0, 1))
def states(seed=0, events=40):
    keys = jax.random.split(jax.random.key(seed))
    return tuple(
        jax.random.normal(key, (size, WIDTH))
        for key, size in zip(keys, (events, ROWS), strict=True)
    )


@pytest.mark.usefixtures("full_float32")
@pytest.mark.portable
@pytest.mark.parametrize(
    "pool", [pytest.param("inputs", marks=pytest.mark.device), "labels"]
)
@pytest.mark.parametrize("way", WAYS)
def test_scores_and_their_gradients_equal_those_of_an_einsum(way, pool, monkeypatch):
    """By every strategy, and in blocks that do not divide the groups."""
    monkeypatch.setattr(drawn_scores, "ROWS_AT_A_TIME", 2 * 7)
    monkeypatch.setattr(drawn_scores, "cheapest", lambda *shapes: WAYS[way])
    batch = jax.tree.map(jnp.asarray, reference.make_batch(0))
    candidates = candidates_by(way.split()[0], batch, pool)
    hidden, rows = states()
    weights = np.random.default_rng(9).normal(size=(40, 11)).astype(np.float32)
    weights = jnp.asarray(weights * np.asarray(batch.weight)[:, None])

    def scores(hidden, rows):
        chosen = rows[candidate_scores.items_of(candidates, batch)]
        return jnp.einsum("nd,ncd->nc", hidden, chosen)

    @jax.jit
    def plain(hidden, rows):
        expected, back = jax.vjp(scores, hidden, rows)
        return expected, *back(weights)

    @jax.jit
    def ours(hidden, rows):
        touched = touch(batch.items, batch.labels, candidates.drawn, ROWS, True)
        scores, backward = candidate_scores.scores(
            hidden, rows, candidates, touched, batch
        )
        by_hidden, by_rows = backward(weights)
        return scores, by_hidden, sum_rows(ROWS, by_rows)

    expected, *of_plain = plain(hidden, rows)
    found, *gradients = ours(hidden, rows)
    real = np.asarray(batch.weight) > 0
    found, expected = np.asarray(found)[real], np.asarray(expected)[real]
    rtol, atol = of_float32(1e-4), of_float32(1e-5)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
    for actual, wanted in zip(gradients, of_plain, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("num_drawn", "num_in_batch"), [(7, 4), (7, 0), (0, 4), (93, 4)]
)
@pytest.mark.parametrize("style", DRAWN_PER)
def test_what_is_selected_is_what_was_scored(style, num_drawn, num_in_batch):
    """Scores to select by, rows and items agree with each other and the slow loop."""
    raw = reference.make_batch(1)
    batch = jax.tree.map(jnp.asarray, raw)
    hidden, rows = states(1)
    pool = "labels"

    @jax.jit
    def select(batch, hidden, rows):
        candidates = candidates_by(style, batch, pool, num_drawn, num_in_batch)
        touched = touch(batch.items, batch.labels, candidates.drawn, ROWS, False)
        touched_rows = rows if touched.ids is None else rows[touched.ids]
        arguments = (hidden, touched_rows, candidates, touched, batch)
        found = candidate_scores.masked_scores(*arguments, mask_hits=True, topk=3)
        _, columns, _ = selection.hardest(found, 3)
        numbers = candidate_scores.rows_of(columns, candidates, touched, batch)
        return (
            candidates,
            found,
            candidate_scores.scores(*arguments)[0],
            candidate_scores.kept(candidates, batch, mask_hits=True),
            columns,
            touched.items(numbers),
            touched_rows[numbers],
        )

    outcome = jax.tree.map(np.asarray, select(batch, hidden, rows))
    candidates, found, scored, keep, columns, items, chosen = outcome
    found, beyond = np.split(found, [num_drawn + num_in_batch], axis=1)
    assert beyond.shape[1] == (15 if num_drawn == 93 and style == "batch" else 0)
    assert (beyond == selection.LOWEST).all()
    for event in np.flatnonzero(raw.weight):
        ids, _ = reference.candidates_of(event, style, raw, candidates, pool)
        scores = np.asarray(rows)[ids] @ np.asarray(hidden)[event]
        np.testing.assert_allclose(scored[event], scores, rtol=1e-4, atol=1e-5)
        wanted = np.where(keep[event], scores, selection.LOWEST)
        np.testing.assert_allclose(found[event], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(items[event], np.array(ids)[columns[event]])
        np.testing.assert_array_equal(chosen[event], np.asarray(rows)[items[event]])
    assert not keep.all()


@pytest.mark.parametrize(
    ("events", "rows", "groups", "way"),
    [
        (512, 43_098, (1, 8192), "batch"),
        (512, 43_098, (512, 1), "event"),
        (512, 43_098, (512, 0), "batch"),
        (512, 43_098, (128, 512), "session in blocks"),
        (512, 43_098, (128, 8192), "session"),
        (2300, 1_050_000, (128, 8192), "session in blocks"),
        (512, 43_098, (512, 8192), "session"),
    ],
)
def test_the_cheapest_way_is_chosen_by_shape(events, rows, groups, way):
    assert drawn_scores.cheapest(events, rows, groups) is WAYS[way]


def test_memory_of_many_negatives_of_each_session_is_bounded(monkeypatch):
    """Neither their rows nor scores of all rows are ever there at once."""
    monkeypatch.setattr(drawn_scores, "ROWS_AT_A_TIME", 1024)
    events, rows, sessions, k, width = 64, 60_000, 16, 1024, 32

    def both(hidden, rows, numbers, group, members, by_scores):
        drawn = drawn_scores.DrawnRows(numbers, group, members)
        scores, backward = drawn_scores.gathered(hidden, rows, drawn)
        return scores, backward(by_scores)

    shapes = [(events, width), (rows, width), (sessions, k), (events,), (sessions, 8)]
    types = [np.float32, np.float32, np.int32, np.int32, np.int32]
    arguments = [jax.ShapeDtypeStruct(*x) for x in zip(shapes, types, strict=True)]
    by_scores = jax.ShapeDtypeStruct((events, k), np.float32)
    compiled = jax.jit(both).lower(*arguments, by_scores).compile()
    gathered = sessions * k * width * 4
    assert compiled.memory_analysis().temp_size_in_bytes < 0.5 * gathered


@pytest.mark.portable
@pytest.mark.parametrize("way", WAYS)
def test_every_way_lowers_for_gpu_and_tpu(way, monkeypatch):
    monkeypatch.setattr(drawn_scores, "ROWS_AT_A_TIME", 2 * 7)
    batch = jax.tree.map(jnp.asarray, reference.make_batch(0))
    candidates = candidates_by(way.split()[0], batch)

    def both(hidden, rows, by_scores):
        group = candidates.groups(batch.session)
        drawn = drawn_scores.DrawnRows(candidates.drawn, group, candidates.members)
        scores, backward = WAYS[way](hidden, rows, drawn)
        return scores, backward(by_scores)

    traced = jax.jit(both).trace(*states(), jnp.zeros((40, 7)))
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
