"""Cheap settings: which are tried, what they may be, and the ladder once one is chosen."""

from pathlib import Path

import pytest

from tests import scripts
from tests.real import plain
from tests.support import Story
from ziggurat import proxies, spec
from ziggurat.contexts import make_context
from ziggurat.domain import Fidelity
from ziggurat.errors import SpecError
from ziggurat.events import Decided

LADDER = [{"epochs": 4}, {"epochs": 12}, {"epochs": 36}]


def parsed(ladder=LADDER, rounds=None, **validate):
    changes = {"validate": {"enabled": True, **validate}, "fidelities": ladder}
    if rounds is not None:
        changes["search"] = rounds
    return spec.parse(plain(**changes), "test")


def after(verdict="chosen", **facts):
    story = Story()
    story.add(Decided(proxies.DECISION, verdict, facts=facts))
    return story.history


def test_nothing_is_tried_unless_asked_for():
    assert proxies.listed(parsed()) == ()


def test_the_automatic_list_has_fractions_of_epochs_and_data_the_cheapest_first():
    found = proxies.listed(parsed(proxies="auto"))
    assert [(f.epochs, f.data_fraction) for f in found] == [(1, 1), (2, 0.5), (4, 0.25), (2, 1), (4, 0.5)]
    assert [proxies.cost(f) for f in found] == [1, 1, 1, 2, 2]


def test_one_epoch_can_only_be_had_on_less_data():
    found = proxies.listed(parsed([{"epochs": 1}, {"epochs": 2}], proxies="auto"))
    assert [(f.epochs, f.data_fraction) for f in found] == [(1, 0.25), (1, 0.5)]


def test_a_list_is_tried_by_cost_and_without_the_lowest_rung():
    wanted = [{"epochs": 8}, {"epochs": 4}, {"epochs": 2}, {"epochs": 6, "data_fraction": 0.1}]
    found = proxies.listed(parsed(proxies=wanted))
    assert [f.epochs for f in found] == [6, 2, 8]


@pytest.mark.parametrize(
    ("wanted", "ladder", "words"),
    [
        ([{"epochs": 12}], LADDER, "12 epochs do not lie below the 12 of the second rung"),
        ([{"epochs": 1}], [{"epochs": 4}], "there is only one rung"),
        ("auto", [{"epochs": 4}], "there is only one rung"),
        (
            [{"epochs": 2, "data_fraction": 0.8}],
            [{"epochs": 4, "data_fraction": 0.2}, {"epochs": 9, "data_fraction": 0.5}],
            "data_fraction 0.8 lies above the 0.5 of the second rung",
        ),
        ([{"epochs": 2}, {"epochs": 2}], LADDER, "validate.proxies repeat"),
        ([{"epochs": 0}], LADDER, "validate.proxies[0].epochs"),
        ([{"epoch": 2}], LADDER, "validate.proxies[0].epoch"),
        ("automatic", LADDER, "validate.proxies"),
    ],
)
def test_settings_that_cannot_begin_the_ladder_are_refused(wanted, ladder, words):
    with pytest.raises(SpecError) as error:
        parsed(ladder, proxies=wanted)
    assert words in str(error.value)
    assert "known: none" not in str(error.value)


@pytest.mark.parametrize(("off", "key"), [({"enabled": False}, "enabled"), ({"proxy": False}, "proxy")])
def test_settings_that_nobody_compares_are_refused(off, key):
    with pytest.raises(SpecError, match=f"validate.{key} is false"):
        parsed(proxies="auto", **off)


@pytest.mark.parametrize("words", ["yes", "because so", "12345678901"])
def test_an_override_without_a_reason_is_refused(words):
    with pytest.raises(SpecError, match=r"validate\.override"):
        parsed(override=words)
    assert parsed(override="the table was checked by hand").validation.override


def test_a_chosen_setting_takes_the_place_of_the_lowest_rung():
    history = after(epochs=2, data_fraction=0.5)
    assert proxies.ladder(parsed(), history) == (Fidelity(2, 0.5), Fidelity(12), Fidelity(36))
    assert make_context(parsed(), history, "search").ladder[0] == Fidelity(2, 0.5)


def test_without_a_choice_the_ladder_is_the_specs():
    assert proxies.ladder(parsed(), Story().history) == parsed().ladder()
    assert proxies.ladder(parsed(), after("kept", epochs=4, data_fraction=1.0)) == parsed().ladder()


def test_a_round_with_a_ladder_of_its_own_keeps_it():
    coarse = {"name": "coarse", "trials": 6, "fidelities": [{"epochs": 1}, {"epochs": 6}]}
    both = parsed(rounds=[coarse, {"trials": 6, "fidelities": LADDER}])
    history = after(epochs=2, data_fraction=1.0)
    assert proxies.ladder(both, history, "coarse") == (Fidelity(1), Fidelity(6))
    assert proxies.ladder(both, history, "search")[0] == Fidelity(2)


def test_a_smaller_image_counts_by_its_pixels_and_stays_in_the_ladder():
    found = proxies.listed(parsed(proxies=[{"epochs": 4, "resolution": 0.5}, {"epochs": 2}]))
    assert [proxies.cost(f) for f in found] == [1, 2]
    history = after(epochs=4, data_fraction=1.0, resolution=0.5)
    assert proxies.ladder(parsed(), history)[0] == Fidelity(4, 1.0, 0.5)
    assert proxies.resolutions(parsed(proxies=[{"epochs": 4, "resolution": 0.5}])) == (0.5,)


def test_resolutions_grow_and_scripts_make_their_own_images():
    with pytest.raises(SpecError, match=r"resolution is \[1.0, 0.5, 1.0\], but must not shrink"):
        parsed([{"epochs": 1}, {"epochs": 2, "resolution": 0.5}, {"epochs": 3}])
    own = scripts.plain(Path("train.py"), fidelities=[{"epochs": 1, "resolution": 0.5}, {"epochs": 2}])
    with pytest.raises(SpecError, match=r"with search\.trainer\.kind 'script' no images are at hand"):
        spec.parse(own, "test")


def test_settings_in_words_and_as_yaml():
    assert proxies.words(Fidelity(3, 0.25, 0.5)) == "3 epochs on 0.25 of the data at 0.5 of the resolution"
    assert proxies.yaml(Fidelity(3, 1.0, 0.5)) == "{epochs: 3, resolution: 0.5}"
    assert proxies.words(Fidelity(1)) == "1 epoch"
    assert proxies.words(Fidelity(3, 0.25)) == "3 epochs on 0.25 of the data"
    assert proxies.yaml(Fidelity(3, 0.25)) == "{epochs: 3, data_fraction: 0.25}"
