"""Tables: what a reader sees of a number, a spread, a difference and its interval."""

import pytest
from conftest import cells

from vae_helpers.measures.columns import Column
from vae_helpers.measures.statistics import Difference
from vae_helpers.plotting.tables import comparison_table, number, pipe_table, ranking_table

LOSS = Column("Test loss", 2, "losses_test", ("reconstruction", "kl"))
UNITS = Column("Active latents", 1, "latents", "active_units")
A = {"mean": 1234.567, "sd": 0.126, "seeds": [1.0, 2.0]}
B = {"mean": 3.25, "sd": 12.0, "seeds": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (1234.567, 2, "1,234.57"),
        (-1234.567, 1, "\u22121,234.6"),
        (-0.004, 2, "0.00"),  # no minus before zero
        (-0.006, 2, "\u22120.01"),
        (0.0, 0, "0"),
        (-1000.0, 0, "\u22121,000"),
    ],
)
def test_numbers_have_fixed_decimals_and_a_true_minus(value, decimals, text):
    assert number(value, decimals) == text


def test_a_comparison_has_a_row_per_column():
    table = comparison_table(
        ("VAE", "AE"),
        [
            (LOSS, A, B, Difference(-1.5, -2.0, -1.0, 0.95)),
            (UNITS, B, None, None),
            (UNITS, B, A, Difference(2.0, 2.0, 2.0, 0.95)),  # all seeds agree
        ],
    )
    assert cells(table) == [
        ["", "VAE", "AE", "Difference", "95 % interval"],
        ["Test loss", "1,234.57", "3.25", "\u22121.50", "\u22122.00 to \u22121.00"],
        ["Active latents", "3.2", "\u2013", "\u2013", "\u2013"],
        ["Active latents", "3.2", "1,234.6", "2.0", "\u2013"],
    ]
    assert table._repr_markdown_() == str(table)


def test_a_ranking_has_a_row_per_model_and_a_form_per_column():
    best = Difference(0.5, -0.25, 1.25, 0.99)
    table = ranking_table(
        ["first", "second"],
        [(LOSS, "", [A, B]), (LOSS, "mean", [A, None]), (LOSS, "best", [None, best])],
    )
    assert cells(table) == [
        ["Model", "Test loss", "Test loss", "Test loss minus best"],
        ["first", "1,234.57 \u00b1 0.13", "1,234.57", "\u2013"],
        ["second", "3.25 \u00b1 12.00", "\u2013", "0.50 (\u22120.25 to 1.25)"],
    ]


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (-0.6, 0.4, ["\u22120.10", "\u22120.60 to 0.40"]),
        (0.004, 0.4, ["0.202", "0.004 to 0.400"]),  # no limit but zero reads as zero
        (-0.0004, 0.4, ["0.1998", "\u22120.0004 to 0.4000"]),
        (-0.4, -0.005, ["\u22120.20", "\u22120.40 to \u22120.01"]),
        (0.0, 0.4, ["0.20", "0.00 to 0.40"]),
        (1.001, 1.005, ["1.003", "1.001 to 1.005"]),  # the interval has a width
        (-2.0, 18.0, ["8.0", "\u22122.0 to 18.0"]),  # no more than a wide interval can tell
        (-200.0, 300.0, ["50", "\u2212200 to 300"]),
        (0.0, 1e-30, ["0.000000000", "0.000000000 to 0.000000000"]),  # nine at most
    ],
)
def test_a_difference_gets_the_decimals_that_tell_it_from_zero(low, high, texts):
    table = comparison_table(
        ("a", "b"), [(LOSS, A, B, Difference((low + high) / 2, low, high, 0.95))]
    )
    assert cells(table)[1][3:] == texts


def test_a_pipe_table_is_aligned():
    assert pipe_table(["", "b"], [["long one", "1"], ["x", "22"]]) == (
        "|          | b  |\n|----------|---:|\n| long one | 1  |\n| x        | 22 |"
    )
