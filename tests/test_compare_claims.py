"""``experiments.compare``: what others found, and the states that they compared."""

import csv
import re

import made_up_comparison as made_up
import pytest
from made_up_results import build, drawn_ranks, write_run

from experiments import compare as program
from experiments.comparing import differences, statistics, wording
from experiments.comparing.comparison import Claim, Difference
from experiments.comparing.text_table import format_comparison
from tron_jax.data.sessions import open_prepared

FILE = """
def published(name="x"):
    return {
        "strong": {"recall@20": 0.6, "mrr@20": 0.2},
        "weak": {"recall@20": 0.5, "mrr@20": 0.2},
        "away": {"recall@20": 0.4, "mrr@20": 0.3},
    }

def claims(name="x"):
    return [("it helps", "strong", "weak"), ("it helps too", "weak", "away")]
"""


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(statistics, "REPLICATES", 500)
    monkeypatch.setattr(differences, "SLICE_REPLICATES", 400)


@pytest.fixture
def said(tmp_path):
    path = tmp_path / "said.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def runs(tmp_path, tiny_data):
    """Writes runs of ``strong`` and of ``weak``: ``(seeds, **options of strong)``."""

    def write(seeds=range(3), **options):
        for name, shift, more in (("strong", 0.8, options), ("weak", 0.0, {})):
            for seed in seeds:
                write_run(
                    tmp_path / "runs" / name / f"seed={seed}",
                    tiny_data,
                    seed=abs(seed),
                    shift=shift,
                    loss__topk=4 if name == "strong" else 8,
                    # more fields than a name holds, so that folders name the settings
                    negatives__mask_hits=name == "strong",
                    negatives__deduplicate=name == "strong",
                    model__dropout=0.1 if name == "strong" else 0.2,
                    **more,
                )
        return tmp_path / "runs"

    return write


@pytest.mark.parametrize("kept", [False, True])
def test_the_best_states_are_compared_where_asked(tmp_path, tiny_data, kept):
    """Of one run the best state is its last, and has no ranks of its own."""
    data = open_prepared(tiny_data)
    best = {seed: drawn_ranks(data, 70 + seed, shift=1.0) for seed in (0, 1)}
    last = {seed: drawn_ranks(data, seed) for seed in (0, 1)}
    for topk, ranks in ((4, best), (8, last)):
        for seed in (0, 1):
            at_best = (1, ranks[seed]) if topk == 4 and seed == 0 else None
            write_run(
                tmp_path / f"{topk}-{seed}",
                tiny_data,
                seed=seed,
                ranks=last[seed] if at_best else ranks[seed],
                best=at_best,
                scores=[0.5, 0.4] if at_best else None,
                kept=kept,
                loss__topk=topk,
            )
    found = build(tmp_path, protocol="exact_at_best")
    by_key = {d.key: d for d in found.differences}
    for cutoff in (5, 20):
        hits = [
            sum((1 + r.higher + r.equal <= cutoff).mean() for r in ranks.values()) / 2
            for ranks in (best, last)
        ]
        value = by_key[f"recall@{cutoff}"].value
        assert value == pytest.approx(hits[1] - hits[0], abs=1e-12)
    first = found.settings[0].figures["exact_at_best"]["recall@20"]
    assert first.mean == pytest.approx(hits[0])
    assert "those of exact at best" in wording.reading(found)
    at_end = {d.key: d for d in build(tmp_path).differences}
    assert at_end["recall@20"].value != by_key["recall@20"].value


def test_a_chain_compares_each_with_the_one_before(tmp_path, tiny_data):
    for topk in (2, 4, 8):
        for seed in (0, 1):
            folder = tmp_path / f"topk={topk}" / f"seed={seed}"
            write_run(folder, tiny_data, seed=topk + 50 * seed, loss__topk=topk)
    chain = build(tmp_path, compared="chain")
    names = [(d.baseline, d.setting) for d in chain.differences if d.key == "mrr@20"]
    assert names == [("topk=2", "topk=4"), ("topk=4", "topk=8")]
    pairs = build(tmp_path, compared="pairs").differences
    of_pairs = {(d.baseline, d.setting, d.key): d for d in pairs}
    for d in chain.differences:
        assert d[:7] == of_pairs[d[:3]][:7]
    assert wording.compared(chain) == "difference to the setting before"
    assert "topk=8  " in format_comparison(chain, 200)


def claim(published=0.03, open_why="", **found):
    made = Difference("b", "a", "recall@20", 0.02, 0.01, 0.03, 0.001, 0.002, True)
    return Claim(
        "it", "a", "b", "recall@20", published, made._replace(**found), open_why
    )


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        (claim(), "holds"),
        (claim(published=-0.03), "does not hold"),
        (claim(value=-0.02), "does not hold"),
        (claim(published=-0.03, value=-0.02), "holds"),
        (claim(p_holm=0.06), "not shown"),
        (claim(covers_seeds=False), "open: one run on a side"),
        (claim(p=None, p_holm=None), "open: interval only, no test in this metric"),
        (claim(open_why="a not converged"), "open: a not converged"),
        (
            claim()._replace(difference=None),
            "open: predictions that could be compared are missing",
        ),
    ],
)
def test_a_claim_is_settled_by_a_difference_alone(case, outcome):
    assert wording.claim_outcome(case) == outcome


def test_claims_are_beside_what_was_found(runs, said, tmp_path, capfd):
    folder, out = runs(), tmp_path / "page"
    program.main(["compare", str(folder), f"--claims={said}:y", f"--out={out}"])
    found = build(folder, published=f"{said}:y")
    strong, weak = found.settings
    assert strong.published == {"recall@20": 0.6, "mrr@20": 0.2}
    helps, *others = found.claims
    assert (helps.key, round(helps.published, 9)) == ("recall@20", 0.1)
    means = [s.figures["exact"]["recall@20"].mean for s in (strong, weak)]
    assert helps.difference.value == pytest.approx(means[0] - means[1])
    assert wording.claim_outcome(helps) == "holds"
    # Of equal figures nothing is claimed, and of a missing setting nothing is known.
    assert [(c.text, c.key) for c in others] == [
        ("it helps too", "recall@20"),
        ("it helps too", "mrr@20"),
    ]
    assert {wording.claim_outcome(c) for c in others} == {"open: no run of away"}
    printed = capfd.readouterr().out
    assert "what others found" in printed
    for name in ("comparison.html", "comparison.md"):
        text = (out / name).read_text()
        assert "Of 3 claims: 1 holds, 2 are open." in text
        assert "0.600" in text
    with (out / "comparison_claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["outcome"] == "holds"
    assert float(rows[0]["value"]) == helps.difference.value
    assert rows[1]["value"] == ""


def test_p_is_adjusted_for_the_claims_and_not_for_other_differences(runs, said):
    found = build(runs(), published=str(said))
    claimed = found.claims[0].difference
    (shown,) = [d for d in found.differences if d.key == "recall@20"]
    assert claimed.p == pytest.approx(shown.p)
    assert claimed.p_holm == pytest.approx(claimed.p)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"train__stop_after": 2, "epochs": 2},
            "strong not converged after 2 epochs",
        ),
        ({"of": 5}, "strong not finished: 2 of 5 epochs"),
        (
            {"train__stop_after": 1, "epochs": 3, "of": 9, "scores": [0.5, 0.6, 0.5]},
            None,
        ),
    ],
)
def test_what_did_not_converge_leaves_a_claim_open(runs, said, options, why):
    found = build(runs(**options), published=str(said))
    outcome = wording.claim_outcome(found.claims[0])
    assert outcome == (f"open: {why}" if why else "holds")
    remarks = " ".join(found.settings[0].remarks)
    assert (why or "").removeprefix("strong ") in remarks


def test_a_claim_is_about_the_finished_runs_of_a_name(runs, said):
    """Whichever of its runs comes first."""
    runs(seeds=[-3], of=5)
    found = build(runs(), published=str(said))
    names = [setting.name for setting in found.settings if setting.published]
    assert names == ["strong", "weak"]
    assert wording.claim_outcome(found.claims[0]) == "holds"
    (warning,) = [w for w in found.warnings if "set beside strong" in w]
    assert "not beside strong (not finished: 2 of 5 epochs)" in warning


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("published = 1", "no function published"),
        ("def published(): return {}", "no function claims in it"),
        ("def published(): return {'a': {'recall@20': float('nan')}}", "figures by"),
        (
            "def published(): return {'a': {}, 'b': {}}\n"
            "def claims(): return [('x', 'a', 'b')] * 2",
            "each once",
        ),
        ("def published(): return {}\ndef claims(): return ['abc']", "list of"),
        ("def published(): return {'a': 1}", "figures by setting and key"),
        ("def published(): return {'a': {'recall': 1}}", "figures by setting and key"),
        (
            "def published(): return {}\ndef claims(): return [('a', 'b', 'c')]",
            "a claim is about b",
        ),
        (
            "def published(): return {}\ndef claims(): return [('a', 'b')]",
            r"list of \(text, higher, lower\)",
        ),
        ("def published(): return {}\ndef claims(): pass", "list of"),
        ("def published(): return {}\ndef claims(): yield 'a'", "list of"),
        ("1 +", "SyntaxError"),
    ],
)
def test_a_file_of_claims_that_is_none_is_refused_in_a_line(
    runs, tmp_path, content, expected, capfd
):
    path = tmp_path / "said.py"
    path.write_text(content)
    assert program.main(["compare", str(runs()), f"--claims={path}"]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert re.search(expected, printed.err), printed.err


@pytest.mark.parametrize("other", ["--pairs", "--baseline=weak"])
def test_one_kind_of_contrast_at_a_time(runs, capfd, other):
    assert program.main(["compare", str(runs()), "--chain", other]) == 1
    assert "expected one of them" in capfd.readouterr().err


def test_a_chain_is_not_closed_over_what_is_missing(tmp_path, tiny_data):
    for topk in (2, 4, 8, 16):
        for seed in (0, 1):
            folder = tmp_path / f"topk={topk}" / f"seed={seed}"
            write_run(folder, tiny_data, seed=topk + 50 * seed, loss__topk=topk)
            if topk == 4:
                (folder / "ranks.parquet").unlink()
    found = build(tmp_path, compared="chain")
    assert {(d.baseline, d.setting) for d in found.differences} == {
        ("topk=8", "topk=16")
    }
    told = [line for line in found.warnings if "the setting before" in line]
    assert len(told) == 2
    assert told[1].startswith("no difference of topk=8 to topk=4")


def test_every_outcome_is_counted_once():
    text = wording.of_claims(made_up.comparison(claimed=True))
    assert text.startswith(
        "Of 10 claims: 2 hold, 1 does not hold, 3 are not shown, 4 are open. "
    )
