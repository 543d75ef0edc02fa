import numpy as np
import pytest

from ziggurat.strategies.chain import Chain
from ziggurat.strategies.fit import _Problem, subset
from ziggurat.strategies.kernel import Distances, Embedding, Shape, features
from ziggurat.strategies.surrogate import Observation, Surrogate

RUNGS = 3


def pool(size=60, seed=0):
    """Candidates of four choices among three operations; the loss falls with the number of the first."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, size=(size, 4))
    static = np.exp(rng.standard_normal((size, 1)))
    own = 0.05 * rng.standard_normal(size)
    top = np.exp(1.0 - 0.3 * (codes == 0).sum(axis=1) + 0.2 * np.log(static[:, 0]) + own)
    losses = np.stack([top * 3, top * 1.5, top], axis=1)
    return features(size, codes, None, static), losses


def observed(losses, rows, rung):
    return [Observation(int(row), rung, float(losses[row, rung])) for row in rows]


def test_gradient_of_the_fit_equals_finite_differences():
    known, losses = pool(20)
    rows = np.array([*range(15), *range(8), *range(3)])
    rungs = np.array([0] * 15 + [1] * 8 + [2] * 3)
    problem = _Problem(known, Chain(RUNGS), rows, rungs, np.log(losses[rows, rungs]))
    at = problem.centre + 0.1 * np.random.default_rng(0).standard_normal(len(problem.centre))
    _, gradient = problem.loss(at)
    for i in range(len(at)):
        step = np.zeros(len(at))
        step[i] = 1e-5
        slope = (problem.loss(at + step)[0] - problem.loss(at - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_embedding_gives_the_kernel_of_the_distances():
    known, _ = pool(12)
    vector = Shape(4, known.smooth.shape[1]).prior()[0]
    rows = np.arange(12)
    expected = Distances(known, rows).kernel(vector)[0]
    assert Embedding(known, vector).between(rows, slice(None)) == pytest.approx(expected, abs=1e-5)


def test_appended_results_say_the_same_as_a_factor_built_at_once():
    known, losses = pool()
    one, other = Surrogate(known, RUNGS), Surrogate(known, RUNGS)
    results = observed(losses, range(40), 0) + observed(losses, range(10), 1) + observed(losses, range(5), 2)
    for result in results:
        one.update([result])
        one.predict()
    other.update(results)
    for found, expected in zip(one.predict(), other.predict(), strict=True):
        assert found == pytest.approx(expected, abs=1e-3)


def test_predictions_at_the_top_follow_results_of_lower_rungs():
    known, losses = pool()
    model = Surrogate(known, RUNGS)
    model.update(observed(losses, range(40), 0))
    model.update(observed(losses, range(20), 1))
    model.update(observed(losses, range(10), 2))
    mean, sd = model.predict()
    truth = np.log(losses[:, 2])
    assert np.corrcoef(mean[10:], truth[10:])[0, 1] > 0.9
    assert np.abs((mean - truth)[40:] / sd[40:]).mean() < 2.5
    assert sd[:10].mean() < sd[10:20].mean() < sd[40:].mean()


def test_ranks_without_any_features():
    _, losses = pool()
    model = Surrogate(features(60), RUNGS)
    model.update(observed(losses, range(30), 0) + observed(losses, range(6), 2))
    mean, _ = model.predict(np.arange(6, 30))
    assert np.corrcoef(mean, np.log(losses[6:30, 2]))[0, 1] > 0.9
    assert model.doubt == 1.0


def test_doubt_is_small_where_features_explain_the_results():
    known, losses = pool()
    informed, blind = Surrogate(known, RUNGS), Surrogate(known, RUNGS)
    shuffled = np.random.default_rng(1).permutation(losses)
    for model, table in ((informed, losses), (blind, shuffled)):
        model.update(observed(table, range(50), 0) + observed(table, range(25), 2))
    assert informed.doubt < 0.3 < blind.doubt


def test_a_result_at_the_top_moves_the_mean_more_than_one_below():
    known, losses = pool()
    model = Surrogate(known, RUNGS)
    model.update(observed(losses, range(30), 0) + observed(losses, range(8), 2))
    rows = np.arange(40, 60)
    low, top = model.after(rows, 0), model.after(rows, 2)
    sd = model.predict(rows)[1]
    assert (low <= top + 1e-9).all()
    assert (top <= sd + 1e-9).all()
    assert (low > 0).all()


@pytest.mark.parametrize("losses", [[], [3.0], [np.nan, np.nan], [2.0] * 30, [np.inf, 1.0, np.nan, 2.0] * 5])
def test_few_equal_or_diverged_results_leave_finite_predictions(losses):
    known, _ = pool()
    model = Surrogate(known, RUNGS, reference=5.0)
    model.update([Observation(i, 0, loss) for i, loss in enumerate(losses)])
    for found in (*model.predict(), model.after(np.arange(60), 0)):
        assert np.isfinite(found).all()


def test_the_same_results_give_the_same_surrogate():
    known, losses = pool()
    means = []
    for _ in range(2):
        model = Surrogate(known, RUNGS)
        model.update(observed(losses, range(40), 0) + observed(losses, range(9), 2))
        means.append(model.predict()[0])
    assert (means[0] == means[1]).all()


def test_a_moved_surrogate_knows_the_same_of_the_same_candidates():
    known, losses = pool()
    model = Surrogate(known, RUNGS)
    model.update(observed(losses, range(30), 0) + observed(losses, range(5), 2))
    order = np.random.default_rng(2).permutation(60)
    moved = model.moved(
        type(known)(known.codes[order], known.smooth[order], known.moments, known.symbols), np.argsort(order)
    )
    assert moved.predict()[0] == pytest.approx(model.predict()[0][order], abs=1e-4)
    moved.update([Observation(int(np.argsort(order)[40]), 0, float(losses[40, 0]))])
    assert np.isfinite(moved.predict()[0]).all()


def test_subset_keeps_candidates_with_several_results():
    rows = np.array([*range(50), 7, 9])
    rungs = np.array([0] * 50 + [1, 1])
    chosen = subset(rows, rungs, np.arange(52.0), 12)
    assert {7, 9, 50, 51} <= set(chosen.tolist())
    assert len(chosen) <= 12


@pytest.mark.parametrize("count", [3, 7, 12, 30])
def test_asking_in_between_changes_nothing(count):
    known, losses = pool()
    asked, silent = Surrogate(known, RUNGS), Surrogate(known, RUNGS)
    for result in observed(losses, range(count), 0) + observed(losses, range(2), 1):
        asked.update([result])
        asked.predict()
        silent.update([result])
    for found, expected in zip(asked.predict(), silent.predict(), strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
