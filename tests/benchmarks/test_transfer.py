"""The comparison of transfer and from scratch: what its table says of runs that are known."""

import transfer
from transfer import Run

RUNS = [
    Run("transfer", 0, (0.8, 0.9), (1.0, 2.0)),
    Run("transfer", 1, (0.9, 0.9), (2.0, 4.0)),
    Run("from scratch", 0, (0.1, 0.3), (2.0, 4.0)),
    Run("from scratch", 1, (0.2, 0.5), (2.0, 6.0)),
]


def test_target_is_reached_at_the_first_epoch_that_is_as_good():
    assert [run.reached(0.9) for run in RUNS] == [2.0, 2.0, None, None]


def test_table_has_mean_and_spread_over_seeds_for_each_way():
    head, _, first, second = transfer.table(RUNS, 0.9, usd_per_hour=3600.0).splitlines()
    assert "runs that reach 90%" in head
    cells = [c.strip() for c in first.strip("|").split("|")]
    assert cells == [
        "transfer",
        "2 of 2",
        "2.0 ± 0.0",
        "85.0 ± 7.1 %",
        "90.0 ± 0.0 %",
        "3.0 ± 1.4",
        "3.00000 ± 1.41421",
    ]
    assert [c.strip() for c in second.strip("|").split("|")][1:3] == ["0 of 2", "–"]


def test_one_seed_has_no_spread():
    assert transfer.spread([1.0], ".1f") == "1.0"
