"""What the parent run is told beside events: parameters, datasets, description."""

import json
from typing import Any

from tests.listeners.conftest import OBJECTIVES
from ziggurat.domain import RunStatus
from ziggurat.events import Alert, Decided, StageFinished, StageStarted
from ziggurat.listeners import mlflow_about
from ziggurat.listeners.mlflow_about import LONGEST_VALUE, MOST_PARAMS, About

ABOUT = About(OBJECTIVES, dataset="digits", source={"kind": "digits", "limit": 600})


def test_a_spec_becomes_flat_parameters_without_what_is_empty() -> None:
    plain = {
        "search": {"trials": 48, "stopper": None, "image": False},
        "objectives": [{"metric": "a", "limit": None}, {"metric": "b"}],
        "widths": [4, 8],
        "tags": {},
        "none": [],
        "note": "",
    }
    assert mlflow_about.params(plain) == {
        "search.trials": "48",
        "search.image": "false",
        "objectives.0.metric": "a",
        "objectives.1.metric": "b",
        "widths": "[4, 8]",
    }


def test_parameters_keep_within_bounds() -> None:
    plain = {"long": "x" * 9000, **{f"k{i}": i for i in range(2000)}}
    found = mlflow_about.params(plain)
    assert len(found) == MOST_PARAMS
    assert len(found["long"]) == LONGEST_VALUE


def looked(run: Any, **facts: Any) -> None:
    """A run whose preflight has found these facts."""
    run.begin()
    run.add(StageStarted("preflight"), StageFinished("preflight", "ok", facts))


def test_the_dataset_is_listed_by_its_parts_with_our_fingerprint(run: Any) -> None:
    looked(run, fingerprint="53fd629db9717511", train=420, validation=90, shape="1x8x8")
    parts = mlflow_about.parts(ABOUT, run.history)
    assert [(p.name, p.context, p.digest) for p in parts] == [
        ("digits train", "training", "53fd629db9717511"),
        ("digits validation", "validation", "53fd629db9717511"),
    ]
    assert json.loads(parts[0].profile) == {"num_rows": 420}
    schema = json.loads(parts[0].schema)["mlflow_tensorspec"]
    assert json.loads(schema["features"])[0]["tensor-spec"] == {"dtype": "float32", "shape": [-1, 1, 8, 8]}
    assert json.loads(parts[0].source) == {"tags": {"kind": "digits", "limit": "600"}}


def test_the_sealed_part_is_listed_once_it_was_opened(run: Any) -> None:
    looked(run, fingerprint="53fd", train=420, validation=90)
    run.add(Decided("unsealed", "open", facts={"looks": 1}))
    assert [p.context for p in mlflow_about.parts(ABOUT, run.history)] == ["training", "validation", "test"]


def test_a_dataset_without_a_fingerprint_is_not_listed(run: Any) -> None:
    assert mlflow_about.parts(ABOUT, run.history) == []
    looked(run, fingerprint="", train=420)
    assert mlflow_about.parts(ABOUT, run.history) == []


def test_a_dataset_under_a_path_is_named_by_it(run: Any) -> None:
    looked(run, fingerprint="53fd")
    about = About(OBJECTIVES, dataset="npz a.npz", source={"path": "/data/a.npz"})
    part = mlflow_about.parts(about, run.history)[0]
    assert (part.source_type, json.loads(part.source)) == ("local", {"uri": "/data/a.npz"})


def test_finalists_are_the_best_seeds_of_their_architectures_best_first(run: Any) -> None:
    run.begin()
    for number, (width, accuracy) in enumerate([(8, 0.9), (16, 0.95), (8, 0.93), (16, 0.91)]):
        run.propose(number, width=width, stage="retrain")
        run.train(number, accuracy=accuracy)
    run.propose(4, width=32, stage="retrain")  # never trained
    assert [t.number for t in mlflow_about.finalists(run.history, ABOUT)] == [1, 2]


def test_the_description_names_the_best_and_links_to_the_comparison(run: Any) -> None:
    run.begin()
    run.propose(0, width=8, stage="retrain")
    run.train(0, accuracy=0.9)
    run.propose(1, width=16, stage="retrain")
    run.train(1, accuracy=0.95)
    note = mlflow_about.note(run.history, ABOUT, "#/compare-runs?x")
    assert "trial 1 (val_accuracy 0.95" in note
    assert "[Compare the 2 finalists](#/compare-runs?x)" in note


def test_tags_of_the_parent_tell_stage_alerts_and_origin(run: Any) -> None:
    run.begin()
    run.add(Alert("slow/1", "warning", "slow"), Alert("cost", "critical", "cost"))
    run.add(Alert("cost", "critical", "cost", state="resolved"), Decided("repeated", "abc123"))
    tags = mlflow_about.tags(run.history)
    assert tags["ziggurat.current_stage"] == "search"
    assert (tags["ziggurat.alerts"], tags["ziggurat.repeated_from"]) == ("slow/1", "abc123")
    run.end(RunStatus.INTERRUPTED)
    assert mlflow_about.tags(run.history)["ziggurat.current_stage"] == "none"
