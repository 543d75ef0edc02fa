"""What the study of population-based training compares, and that it compares at equal cost."""

from pathlib import Path

import pbt
import pytest

from ziggurat import spec as specs
from ziggurat.strategies import Pbt


def spec_of(way: str, folder: Path, *arguments: str) -> specs.Spec:
    path = folder / "pbt.yaml"
    path.write_text(pbt.SPEC)
    given = pbt.parser().parse_args(arguments)
    return specs.read(path, pbt.assignments(way, 3, given))[0]


@pytest.mark.parametrize("way", list(pbt.WAYS))
def test_every_way_has_as_many_places_and_epochs(way: str, tmp_path: Path) -> None:
    spec = spec_of(way, tmp_path, "--population", "6", "--epochs", "12", "--rungs", "4")
    strategy = spec.search.strategy
    places = strategy.population if isinstance(strategy, Pbt) else spec.search.trials
    assert (places, spec.fidelities[-1].epochs, spec.seed) == (6, 12, 3)


def test_the_population_is_looked_at_on_every_rung(tmp_path: Path) -> None:
    spec = spec_of("pbt", tmp_path, "--epochs", "12", "--rungs", "4")
    assert [f.epochs for f in spec.fidelities] == [3, 6, 9, 12]


def test_the_table_gives_the_mean_and_the_gain_over_the_same_seeds() -> None:
    results = [
        pbt.Result(way, seed, 192, 12, accuracy, 0.8, 30.0)
        for way, seed, accuracy in (
            ("pbt", 0, 0.86),
            ("pbt", 1, 0.88),
            ("random", 0, 0.85),
            ("random", 1, 0.85),
        )
    ]
    lines = pbt.table(results)
    assert lines[1].split()[:7] == ["pbt", "87.00", "+-", "1.41", "2.00", "+-", "1.41"]
    assert lines[2].split()[:4] == ["random", "85.00", "+-", "0.00"]


def test_epochs_that_do_not_divide_into_rungs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert pbt.main(["--epochs", "10", "--rungs", "4"]) == 2
    assert "no multiple of --rungs 4" in capsys.readouterr().err
