"""The history: every event changes it in one place, and a copy can be folded on without the original."""

from typing import get_args

from tests.support import Story
from ziggurat import history
from ziggurat.domain import Candidate
from ziggurat.events import Alert, Body, Event


def test_every_kind_of_event_has_its_place():
    kinds = get_args(get_args(Body)[0])
    assert set(history._HANDLERS) == set(kinds)


def test_a_copy_that_is_folded_further_leaves_the_original_alone():
    told = Story()
    told.propose(Candidate({"width": 8}))
    copy = told.history.copy()
    copy.apply(Event(copy.length, copy.last_utc, copy.run_id, Alert("slow", "warning", "slow")))
    assert copy.alerts.keys() == {"slow"}
    assert not told.history.alerts
    assert copy.length == told.history.length + 1
