"""Which pairs of networks are shown as misleading, and how they are told."""

import flops_latency
import numpy as np
from flops_latency import Network, Pair

from ziggurat.domain import Candidate


def network(flops: float, p50_ms: float) -> Network:
    return Network("cnn", Candidate({"depth": 1}), "depth=1", flops, p50_ms, 0.01)


class Replayed:
    """A lab whose second measurements are given."""

    def __init__(self, slower: list[float], faster: list[float]) -> None:
        self.medians = (slower, faster)

    def confirmed(self, pair: tuple[Network, Network]) -> tuple[list[float], list[float]]:
        return self.medians


def test_a_pair_has_clearly_fewer_flops_and_is_clearly_slower() -> None:
    few, alike, more = network(1e6, 1.0), network(0.97e6, 0.4), network(4e6, 0.5)
    assert flops_latency.pairs([few, alike, more]) == [(few, more)]


def test_the_most_misleading_pair_comes_first() -> None:
    few, worse, more = network(1e6, 1.0), network(1e6, 3.0), network(4e6, 0.5)
    assert flops_latency.pairs([few, worse, more])[0] == (worse, more)


def test_no_pair_where_latency_follows_flops() -> None:
    assert flops_latency.pairs([network(k * 1e6, k) for k in (1, 2, 4)]) == []


def test_a_pair_is_shown_only_if_its_second_measurements_do_not_meet() -> None:
    few, more = network(1e6, 1.0), network(4e6, 0.5)
    apart, meeting = Replayed([0.9, 1.0], [0.5, 0.8]), Replayed([0.9, 1.0], [0.5, 0.9])
    assert flops_latency.misleading(apart, [few, more], 3) == Pair(few, more, [0.9, 1.0], [0.5, 0.8])
    assert flops_latency.misleading(meeting, [few, more], 3) is None
    assert flops_latency.misleading(apart, [few, more], 0) is None


def test_a_pair_is_told_with_both_differences() -> None:
    told = Pair(network(1e6, 1.0), network(4e6, 0.5), [1.0, 1.2, 1.1], [0.5, 0.55, 0.6]).told()
    assert "75% fewer FLOPs, yet 100% slower" in told
    assert "1.00 MFLOPs, p50 1.1000 ms (1.0000 to 1.2000): depth=1" in told


def test_networks_are_spread_over_the_range_of_flops(tmp_path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(
        "schema_version: 1\nname: f\nspace: {kind: mlp, width: [4, 8, 16, 64, 256, 512]}\n"
        "objectives: [{metric: val_accuracy, reference: 0.1}]\nfidelities: [{epochs: 1}]\n"
        "search: {trials: 4}\n"
        "retrain: {k: 1}\n"
    )
    drawn = flops_latency.Lab(path, 0, []).drawn(12)
    flops = [row[0] for row in drawn]
    assert len(drawn) == 12
    assert flops == sorted(flops)
    assert max(flops) > 20 * min(flops)
    assert np.median(flops) < 0.35 * max(flops)


def test_a_spec_that_is_not_there_is_one_line(capsys) -> None:
    assert flops_latency.main(["nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
