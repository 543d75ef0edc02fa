"""Who takes a run when several tries of a flow run would."""

import pytest
from prefect.exceptions import Abort

from flows import conducting
from tasks import identity
from ziggurat.errors import RunBusyError


def busy(times):
    """What takes a run: somebody else has it so many times."""
    asked = []

    def take():
        asked.append(1)
        if len(asked) <= times:
            raise RunBusyError("this run is driven by process 7")
        return "the run"

    return take


@pytest.fixture
def further_try(monkeypatch):
    monkeypatch.setattr(identity, "again", lambda: True)
    monkeypatch.setattr(conducting, "PAUSE_S", 0.0)


def test_a_first_try_does_not_wait_for_somebody_elses_run(monkeypatch):
    monkeypatch.setattr(identity, "again", lambda: False)
    with pytest.raises(RunBusyError, match="process 7"):
        conducting._taken(busy(1))


@pytest.mark.usefixtures("further_try")
def test_a_further_try_waits_until_the_one_before_it_lets_go():
    assert conducting._taken(busy(3)) == "the run"


@pytest.mark.usefixtures("further_try")
def test_a_further_try_leaves_the_run_to_one_that_goes_on(monkeypatch):
    monkeypatch.setattr(conducting, "BUSY_S", 0.0)
    with pytest.raises(Abort, match="another try of this flow run goes on"):
        conducting._taken(busy(10**6))
