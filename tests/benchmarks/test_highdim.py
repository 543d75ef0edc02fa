"""The high-dimensional benchmark: its functions are the published ones, and its command works."""

import json

import highdim
import numpy as np
import pytest


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "theirs"), [("branin-currin", "BraninCurrin"), ("dtlz2", "DTLZ2")])
def test_functions_and_their_best_are_those_of_botorch(name, theirs):
    import torch
    from botorch.test_functions import multi_objective

    problem = highdim.PROBLEMS[name]
    known = getattr(multi_objective, theirs)(**({"dim": 6} if name == "dtlz2" else {}))
    points = np.random.default_rng(0).random((20, problem.active))
    ours = np.array([problem.evaluate(x) for x in points])
    assert ours == pytest.approx(known(torch.tensor(points)).numpy())
    assert problem.best == pytest.approx(known.max_hv)


def test_the_best_of_dtlz2_is_reached_by_its_front():
    problem = highdim.PROBLEMS["dtlz2"]
    front = [problem.evaluate(np.array([x, *[0.5] * 5])) for x in np.linspace(0, 1, 2000)]
    assert highdim.pareto.hypervolume(front, problem.reference) == pytest.approx(problem.best, rel=1e-3)


def test_the_command_prints_a_row_for_each_strategy_and_writes_all_numbers(tmp_path, capsys):
    out = tmp_path / "out.json"
    size = ["--dims", "5", "--batch", "4", "--evaluations", "10", "--seeds", "2"]
    highdim.main([*size, "--strategies", "random", "sobol", "--json", str(out)])
    rows = capsys.readouterr().out.splitlines()
    assert [r.split()[0] for r in rows[2:]] == ["random", "sobol"]
    runs = json.loads(out.read_text())["runs"]
    assert len(runs) == 4
    assert [a["points"] for a in runs[0]["asks"]] == [4, 4, 2]
    assert set(runs[0]["hypervolume"]) == {"4", "8", "10"}
