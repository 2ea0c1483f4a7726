import math

import made_up_comparison as made_up
import pytest

from experiments.comparing import settings_tables, wording
from experiments.comparing.comparison import Difference, Figure
from experiments.comparing.text_table import format_comparison


def difference(**fields):
    made = Difference("a", "b", "recall@20", 0.01, 0.004, 0.016, 0.01, 0.02, True)
    return made._replace(**fields)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "higher, p = .020 after Holm"),
        ({"value": -0.01}, "lower, p = .020 after Holm"),
        ({"p_holm": 0.0002}, "higher, p < .001 after Holm"),
        ({"p_holm": 0.05}, "no difference shown, p = .050 after Holm"),
        ({"p_holm": 0.04999}, "higher, p = .04999 after Holm"),
        ({"p_holm": 1.0}, "no difference shown, p = 1 after Holm"),
        ({"value": 0.0, "p_holm": 1.0}, "no difference shown, p = 1 after Holm"),
        ({"p_holm": None}, "interval only: not tested"),
        ({"covers_seeds": False}, wording.SESSIONS_ONLY),
        ({"covers_seeds": False, "p_holm": 0.0001}, wording.SESSIONS_ONLY),
    ],
)
def test_says_no_more_than_was_shown(fields, expected):
    assert wording.verdict(difference(**fields)) == expected


def test_no_number_hides_what_it_is():
    assert wording.number(-0.00001, "+.4f") == "0.0000"
    assert wording.number(-0.0123, "+.4f") == f"{wording.MINUS}0.0123"
    assert wording.number(float("nan")) == wording.UNKNOWN
    assert wording.spread(Figure(0.5, None, 1)) == "0.5000"
    assert wording.spread(Figure(0.5, 0.001, 3)) == "0.5000 ± 0.0010"
    assert wording.span((4, 4)) == "4"
    assert wording.span((5000, 4000)) == "4,000\N{EN DASH}5,000"


def test_conclusions_count_each_outcome():
    comparison = made_up.comparison()
    assert wording.conclusions(comparison) == [
        (
            "Recall@20",
            "against drawn_per=event,topk=0: 5 of 5 higher (by 0.0120 to 0.0425)",
        ),
        (
            "MRR@20",
            "against drawn_per=event,topk=0: 3 of 5 higher (by 0.0086 to 0.0153); "
            "no difference shown for 2 of 5",
        ),
    ]


def test_conclusions_on_pairs_take_no_side():
    comparison = made_up.comparison(contrasts="pairs")
    (_, recall), (_, mrr) = wording.conclusions(comparison)
    found = [abs(d.value) for d in comparison.differences if d.key == "recall@20"]
    shown = [size for size in found if 3 * math.exp(-500 * size) < 0.05]
    assert 2 < len(shown) < len(found) == 15
    assert recall == (
        f"{len(shown)} of 15 differ (by {min(shown):.4f} to {max(shown):.4f}); "
        f"no difference shown for {15 - len(shown)} of 15"
    )
    assert "against" not in recall + mrr


def test_one_run_each_has_no_verdict_anywhere():
    comparison = made_up.comparison(seeds=1)
    for _, words in wording.conclusions(comparison):
        assert words.startswith("no verdict on 5 of 5")
    text = format_comparison(comparison, 300)
    assert text.count(wording.SESSIONS_ONLY) == 2
    first, *others = [d for d in comparison.differences if d.key == "recall@20"]
    tested = first._replace(covers_seeds=True, p_holm=0.5)
    mixed = format_comparison(comparison._replace(differences=(tested, *others)), 300)
    assert mixed.count(wording.SESSIONS_ONLY) == len(others)


@pytest.mark.parametrize("width", [80, 120, 300])
@pytest.mark.parametrize("case", [{}, made_up.TWELVE, {"contrasts": "pairs"}])
def test_no_line_is_wider_than_the_terminal(width, case):
    comparison = made_up.comparison(**case)
    text = format_comparison(comparison, width)
    heads = [line for line in text.splitlines() if "difference" in line and ":" in line]
    tables = [line for line in text.splitlines() if line not in heads]
    assert max(map(len, tables)) <= width
    for setting in comparison.settings:
        recall = setting.figures["exact"]["recall@20"]
        assert f"{recall.mean:.4f} ± {recall.deviation:.4f}" in text
    assert "paper: best, the highest Recall@20 on test" in text
    assert "exact: latest" in text


def test_all_metrics_where_they_fit():
    comparison = made_up.comparison()
    assert "Recall@5" in format_comparison(comparison, 400)
    assert "Recall@5" not in format_comparison(comparison, 120)


def test_fields_have_columns_where_names_do_not_spell_them():
    comparison = made_up.comparison()
    head = "setting                     runs"
    assert head in format_comparison(comparison, 120)
    settings = [s._replace(name=f"s{n}") for n, s in enumerate(comparison.settings)]
    renamed = comparison._replace(settings=tuple(settings), differences=())
    text = format_comparison(renamed, 120)
    assert "setting  drawn_per  topk  runs" in text
    assert "s4       session     100     3" in text


def test_columns_align():
    text = format_comparison(made_up.comparison(), 300)
    rows = [line for line in text.splitlines() if line.startswith("drawn_per=")]
    signs = {tuple(n for n, c in enumerate(row) if c == "±") for row in rows[:6]}
    assert len(signs) == 1


def test_what_is_unknown_is_a_dash_and_remarks_are_said():
    whole = made_up.comparison(topks=(0,))
    comparison = whole._replace(
        settings=(whole.settings[0], made_up.bare("results/tron_xl")),
        differences=(),
        warnings=("the train parts differ",),
    )
    lines = format_comparison(comparison, 300).splitlines()
    (row,) = [line for line in lines if line.startswith("results/tron_xl ")]
    assert row.split()[1:] == ["1"] + [wording.UNKNOWN] * (len(row.split()) - 2)
    assert row.count(wording.UNKNOWN) > 10
    assert "results/tron_xl: means only" in lines
    assert "warning: the train parts differ" in lines


def test_names_of_any_bytes_are_text():
    whole = made_up.comparison(topks=(0,))
    comparison = whole._replace(title=made_up.HOSTILE)
    first = format_comparison(comparison, 100).splitlines()[0]
    assert first == '<b>&"|`$x$ _y_  \\udcff</script>'


def test_many_fields_are_named_rather_than_columns():
    whole = made_up.comparison(topks=(0,), differences=())
    many = {f"model.field_{n}": str(n) for n in range(8)}
    settings = tuple(
        s._replace(name=f"run{n}", fields=many) for n, s in enumerate(whole.settings)
    )
    comparison = whole._replace(settings=settings)
    text = format_comparison(comparison, 200)
    assert "setting  runs  " in text
    assert f"they differ in 8 fields: {', '.join(many)}" in text
    table = settings_tables.fields(comparison)
    assert [row[0].text for row in table.rows] == list(many)
    assert [cell.text for cell in table.rows[3][1:]] == ["3"] * 3


def test_exact_at_the_best_step_has_columns_of_its_own():
    whole = made_up.comparison(topks=(0,), differences=())
    first, *others = whole.settings
    comparison = whole._replace(settings=(made_up.at_best(first), *others))
    lines = format_comparison(comparison, 300).splitlines()
    assert any(" exact at best " in line for line in lines)
    rows = [line for line in lines if line.startswith("drawn_per=")]
    assert "  0.6000 ± 0.0020  0.2160 ± 0.0007  3,616  " in rows[0]
    assert [row.split().count(wording.UNKNOWN) for row in rows] == [0, 3, 3]
    assert "exact at best: best, the highest Recall@20 on validation" in lines


def test_several_rules_of_a_protocol_name_their_settings():
    whole = made_up.comparison(scopes=("event", "batch"), topks=(0,), differences=())
    first, second = whole.settings
    stopped = second.chosen["exact"]._replace(rule="step 9,040, as asked")
    second = second._replace(chosen=second.chosen | {"exact": stopped})
    text = format_comparison(whole._replace(settings=(first, second)), 100)
    assert f"exact: latest ({first.name})" in text
    assert f"exact: step 9,040, as asked ({second.name})" in text
    three = (first, second, second._replace(name="a=1, b=2"))
    text = format_comparison(whole._replace(settings=three), 100)
    assert f"exact: step 9,040, as asked ({second.name}; a=1, b=2)" in text
