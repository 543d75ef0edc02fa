"""What a pruned and quantised network is held against."""

import lastmile
import torch

from ziggurat.choices import Range, Values


def test_the_whole_network_loses_no_channel_and_no_bit() -> None:
    choices = {
        "unfrozen": Values(values=[2, 3]),
        "prune_1": Values(values=[0, 0.5]),
        "bits_1": Values(values=[32, 8, 4]),
        "bits_2": Values(values=[32, 4]),
        "learning_rate": Range(min=0.001, max=0.01, log=True),
    }
    picked = lastmile.whole(choices).choices
    assert {name: picked[name] for name in ("prune_1", "bits_1", "bits_2")} == {
        "prune_1": 0,
        "bits_1": 32,
        "bits_2": 32,
    }
    assert set(picked) == set(choices)


def test_accuracy_counts_the_largest_logit() -> None:
    logits = torch.tensor([[0.1, 0.9], [2.0, -1.0], [0.0, 0.5]])
    assert lastmile.accuracy(logits, torch.tensor([1, 0, 0])) == torch.tensor(2 / 3).item()


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys) -> None:
    assert lastmile.main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
