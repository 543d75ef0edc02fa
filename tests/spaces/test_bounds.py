import pytest

from ziggurat.choices import Between, Range, Values
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.operations import Operation
from ziggurat.spaces import bounds


def listed(*values, **more):
    return Values(values=list(values), **more)


@pytest.mark.parametrize(
    "choice", [listed(1, 3), Range(min=1, max=8), Range(min=2, max=8, log=True), Range(min=1, max=8, step=2)]
)
def test_integers_within_bounds_are_allowed(choice):
    bounds.whole("depth", choice, 1, 8)


@pytest.mark.parametrize(
    "choice",
    [listed(0, 3), listed(True), listed(1.0), listed("1"), Range(min=1.0, max=3.0), Range(min=1, max=9)],
)
def test_anything_else_than_integers_within_bounds_is_refused(choice):
    with pytest.raises(ValueError, match=r"depth can be .*, allowed are integers from 1 to 8"):
        bounds.whole("depth", choice, 1, 8)


def test_upper_bound_of_numbers_is_excluded_and_the_lower_one_if_asked():
    bounds.number("dropout", listed(0, 0.99), 0, 1)
    with pytest.raises(ValueError, match="allowed are numbers from 0 and below 1"):
        bounds.number("dropout", listed(0, 1.0), 0, 1)
    with pytest.raises(ValueError, match="allowed are numbers above 0 and below 1"):
        bounds.number("rate", listed(0.0, 0.5), 0, 1, open_low=True)
    with pytest.raises(ValueError, match="dropout can be"):
        bounds.number("dropout", listed("none"), 0, 1)


def test_one_and_true_are_different_values():
    bounds.among("skip", listed(True, False), (False, True))
    with pytest.raises(ValueError, match="allowed are false, true"):
        bounds.among("skip", listed(0, 1), (False, True))
    with pytest.raises(ValueError, match="allowed are 3, 5"):
        bounds.among("kernel", Range(min=3, max=5), (3, 5))


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("learning_rate", listed(0.0, 0.1)),
        ("learning_rate", listed("fast")),
        ("batch_size", listed(0, 32)),
        ("batch_size", Range(min=8.0, max=64.0)),
        ("weight_decay", listed(-0.1)),
        ("momentum", listed(0.9, 1.0)),
        ("label_smoothing", listed(1.5)),
    ],
)
def test_hyperparameters_that_no_training_can_use_are_refused(name, choice):
    with pytest.raises(ValueError, match=f"hyperparameters.{name} can be"):
        bounds.hyperparameters({name: choice})


def test_unknown_hyperparameters_are_left_to_the_trainer():
    bounds.hyperparameters(
        {"temperature": listed("warm"), "learning_rate": Range(min=1e-4, max=1e-1, log=True)}
    )


def test_levels_above_the_least_depth_are_conditional():
    choice = listed(8, 16)
    made = bounds.repeated("width", choice, Range(min=2, max=4))
    assert {name: c.when for name, c in made.items()} == {
        "width_1": {},
        "width_2": {},
        "width_3": {"depth": Between(min=3)},
        "width_4": {"depth": Between(min=4)},
    }
    assert list(bounds.repeated("width", choice, listed(3))) == ["width_1", "width_2", "width_3"]
    assert not any(c.when for c in bounds.repeated("width", choice, listed(3)).values())


def test_levels_follow_the_depth_that_they_are_told():
    made = bounds.repeated("kernel_2", listed(3, 5), listed(1, 2), "depth_2")
    assert made["kernel_2_2"].when == {"depth_2": Between(min=2)}


def test_options_are_all_values_in_order():
    assert bounds.options("x", listed(3, 1.5, "a")) == [3, 1.5, "a"]
    assert bounds.options("x", Range(min=2, max=5)) == [2, 3, 4, 5]
    assert bounds.options("x", Range(min=8, max=31, step=8)) == [8, 16, 24]
    assert bounds.options("x", Range(min=1, max=9, log=True)) == list(range(1, 10))
    assert bounds.options("x", Range(min=0.0, max=0.3, step=0.1)) == [0.0, 0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match=r"x can be anything from 0\.0 to 1.0, but must have listed values"):
        bounds.options("x", Range(min=0.0, max=1.0))


def test_operations_are_kept_once_and_in_order():
    first, second = Operation("b", (1,)), Operation("a", (1,))
    assert bounds.distinct("toy", iter([first, second, first])) == (first, second)


def test_name_on_both_sides_is_refused():
    with pytest.raises(ValueError, match="'width' is a choice of the architecture and a hyperparameter"):
        bounds.joined({"width": listed(1)}, {"width": listed(2)})


def test_hyperparameter_may_depend_on_the_architecture_but_not_on_nothing():
    bounds.joined({"depth": listed(1, 2)}, {"momentum": listed(0.9, when={"depth": 2})})
    with pytest.raises(ValueError, match="'momentum' depends on 'optimizer', which is not declared"):
        bounds.joined({"depth": listed(1, 2)}, {"momentum": listed(0.9, when={"optimizer": "sgd"})})


def test_candidate_of_another_space_is_refused():
    with pytest.raises(SpecError, match="has no choice 'depth', only width"):
        bounds.chosen(Candidate({"width": 3}), "depth")


def test_choice_for_all_levels_comes_before_the_one_of_a_level():
    assert bounds.levelled(Candidate({"kernel": 3}), "kernel", 2) == 3
    assert bounds.levelled(Candidate({"kernel_1": 5, "kernel_2": 3}), "kernel", 2) == 3
