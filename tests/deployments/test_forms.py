"""The form of a run's parameters: what Prefect's pages draw of it, and what it changes of a spec."""

import json
from pathlib import Path

import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from flows import continuing, forms, pipeline
from ziggurat import spec as specs
from ziggurat.errors import SpecError

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "examples" / "digits.yaml"


def schema(flow):
    return parameter_schema(flow).model_dump()


def read(**parts):
    return specs.read(SMALL, forms.assignments(**parts))[0]


def test_every_choice_is_of_the_only_kind_that_the_pages_draw():
    text = json.dumps(schema(pipeline.pipeline))
    assert '"oneOf"' not in text
    assert '"discriminator"' not in text


def test_each_searcher_is_a_choice_with_fields_of_its_own():
    found = schema(pipeline.pipeline)["definitions"]
    choices = found["Search"]["properties"]["searcher"]["anyOf"]
    names = [c["$ref"].rsplit("/", 1)[-1] for c in choices if "$ref" in c]
    kinds = {found[name]["properties"]["kind"]["const"] for name in names}
    assert kinds == {"random", "sobol", "evolution", "nsga2", "ax", "reinforce"}
    assert {"type": "null"} in choices, "left as the spec has it"
    assert found["Evolution"]["properties"].keys() > {"kind"}


def test_fields_keep_their_order_on_a_server_that_forgets_that_of_keys():
    found = schema(pipeline.pipeline)["definitions"]["Search"]["properties"]
    assert [found[name]["position"] for name in forms.Search.model_fields] == list(range(len(found)))


def test_every_parameter_says_what_it_is():
    for flow in (pipeline.pipeline, continuing.retrain, continuing.measure, continuing.report):
        assert all("description" in p for p in schema(flow)["properties"].values()), flow.fn.__name__


def test_a_filled_in_form_changes_the_spec():
    found = read(
        search={"searcher": {"kind": "evolution", "population": 8}, "trials": 30},
        retrain={"k": 2, "approval": {"wanted": True}},
        budget={"limit_usd": 2.5},
    )
    assert (found.search.searcher.kind, found.search.searcher.population) == ("evolution", 8)
    assert (found.search.trials, found.retrain.k, found.budget.limit_usd) == (30, 2, 2.5)
    assert found.retrain.approval.wanted
    assert found.retrain.approval.on_timeout == "stop"


def test_an_empty_form_changes_nothing():
    assert read(search=None, retrain={"k": None, "approval": None}, budget={}) == specs.read(SMALL)[0]


def test_a_form_of_another_kind_replaces_the_whole_choice():
    raw = yaml.safe_load(SMALL.read_text())
    assert raw["search"]["stopper"]["kind"] == "asha"
    assert read(search={"stopper": {"kind": "never"}}).search.stopper.kind == "never"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"search": {"trails": 3}}, "search.trails: the form has no such field; it has searcher, stopper"),
        ({"budget": 3}, "budget: is 3, but must be a mapping of plan_usd"),
        ({"search": {"trials": 0}}, "search.trials"),
        ({"search": {"searcher": {"kind": "sobbol"}}}, "search.searcher"),
        ({"search": {"searcher": {"kind": "sobol", "foo": 1}}}, "search.searcher.*foo"),
        ({"budget": {"limit_usd": "much"}}, "budget.limit_usd"),
        ({"retrain": {"approval": {"on_timeout": "wait"}}}, "retrain.approval.on_timeout"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_key(parts, words):
    with pytest.raises(SpecError, match=words) as caught:
        read(**parts)
    assert "\n" not in str(caught.value)
