"""A search under a latency limit, held against random search with its money."""

import edge

from tests.support import Story
from ziggurat import spec as specs
from ziggurat.domain import Candidate, Fidelity

SPEC = """\
schema_version: 1
name: small
data: {kind: digits, image: false}
space:
  kind: mlp
  depth: [1, 2]
  width: [8, 16, 512]
  dropout: 0.0
  activation: relu
  norm: none
  hyperparameters: {learning_rate: [0.01], batch_size: [64]}
objectives:
  - {metric: val_accuracy, reference: 0.1}
  - {metric: latency_p50_ms, reference: 1.0, limit: 0.5}
fidelities: [{epochs: 1}, {epochs: 2}]
search: {searcher: {kind: sobol}, stopper: {kind: asha, type: promotion}, trials: 4, workers: 1}
devices: [{kind: onnxruntime, name: here, max_seconds: 0.2}]
launcher: {kind: local, usd_per_hour: 1.0}
"""


def found(strategy: str, volume: float, breaking: list[float]) -> edge.Found:
    return edge.Found(strategy, 0, 0.01, 8, 3, 5, 4, 0.9, volume, breaking, 1)


def test_the_table_counts_what_breaks_the_limit() -> None:
    head, first, second = edge.table([found("frontier", 0.5, []), found("random", 0.4, [0.6, 0.7])])
    assert first.split()[-2:] == ["0", "1"]
    assert second.split()[-2:] == ["2", "1"]
    assert len(head.split()) == len(first.split())


def test_a_missing_spec_is_one_line(capsys, tmp_path) -> None:
    assert edge.main(["--spec", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_random_search_gets_the_money_of_the_search_and_trains_everything_in_full(tmp_path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    given = edge.assignments(3, ["search.trials=5"])
    spec, _ = specs.read(path, given)
    other, _ = specs.read(path, [*given, *edge.rival(spec, 0.0125)])
    assert (spec.search.searcher.kind, spec.search.trials, spec.budget.limit_usd) == ("sobol", 5, None)
    assert (other.search.searcher.kind, other.search.stopper.kind) == ("random", "never")
    assert (other.search.trials, other.budget.limit_usd) == (12, 0.0125)
    assert [f.epochs for f in other.fidelities] == [2]
    same = ("seed", "space", "objectives", "devices", "data")
    assert all(getattr(spec, key) == getattr(other, key) for key in same)
    assert not any(part.enabled for part in (spec.retrain, spec.validation, spec.tracking))


def test_what_was_trained_is_measured_again_and_held_against_the_limit(tmp_path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    story = Story(ladder=(Fidelity(1), Fidelity(2)))
    fixed = {"learning_rate": 0.01, "batch_size": 64, "dropout": 0.0, "activation": "relu", "norm": "none"}
    for width in (8, 16, 512):
        number = story.propose(Candidate({"depth": 1, "width_1": width, **fixed}), {edge.LATENCY: 0.01})
        story.finish(number, val_accuracy=0.8)
    story.propose(Candidate({"depth": 2, "width_1": 8, "width_2": 8, **fixed}))  # never trained
    for limit, broken in ((100.0, 0), (1e-7, 3)):
        spec, _ = specs.read(path, [f"objectives.1.limit={limit}"])
        found = edge.judged(spec, story.history, "sobol")
        assert (found.trials, found.trained, len(found.breaking)) == (4, 3, broken)
