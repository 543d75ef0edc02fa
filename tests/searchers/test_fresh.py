"""Drawing candidates that are new and within limits."""

from collections import Counter

from tests.support import CHOICES, Story
from ziggurat import choices as space
from ziggurat.searchers import RandomSearch, fresh


def test_every_candidate_of_a_conditional_space_is_listed_once():
    choices = {
        "depth": space.Values(values=[1, 2]),
        "width": space.Range(min=1, max=8, log=True),
        "second": space.Range(min=0, max=20, step=10, when={"depth": [2]}),
    }
    listed = list(fresh.every(choices))
    assert len(listed) == len(set(listed)) == 8 + 8 * 3 == space.count(choices)
    assert all(space.contains(choices, c) for c in listed)


def test_the_last_candidate_of_a_space_is_found_without_luck():
    choices = {"a": space.Range(min=1, max=1000)}
    story = Story()
    known = {c for c in fresh.every(choices) if c.choices["a"] != 417}
    found = fresh.draw(story.context(choices=choices), known)
    assert found is not None
    assert found.choices["a"] == 417


def test_drawing_asks_for_the_static_metrics_of_new_candidates_only():
    asked = Counter()

    def static(candidates):
        asked.update(candidates)
        return [{"parameters": 1e9} for _ in candidates]

    from ziggurat.domain import Goal, Objective

    limited = (Objective("parameters", Goal.MINIMIZE, reference=1.0, limit=2.0),)
    choices = {"a": space.Range(min=1, max=5)}
    assert RandomSearch().propose(Story().context(choices=choices, static=static, objectives=limited)) is None
    assert len(asked) == 5


def test_mutants_move_away_step_by_step():
    context = Story().context()
    origin = space.sample(CHOICES, context.rng)
    away = [space.distance(CHOICES, origin, m) for m in fresh.mutants(context, origin, 40)]
    assert max(away[:10]) <= 2
    assert max(away[30:]) > 2
