"""A search under a latency limit, held against random search with its money."""

import json

import edge
import pytest

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


@pytest.mark.slow
def test_random_search_spends_no_more_than_the_search_it_is_compared_with(tmp_path, capsys) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    out = tmp_path / "out.json"
    assert edge.main(["--spec", str(path), "--json", str(out)]) == 0
    first, second = json.loads(out.read_text())
    assert (first["strategy"], second["strategy"]) == ("sobol", "random")
    assert 0 < second["usd"] <= first["usd"]
    assert first["trained"] >= 1
    assert first["breaking"] == second["breaking"] == []
    assert "hypervolume beyond random search" in capsys.readouterr().out
