"""Several launchers behind one: which job goes where, when machines start and end, and what they cost."""

from dataclasses import dataclass, field

import pytest

from tests.real import plain
from ziggurat import prices, spec
from ziggurat.contexts import measuring
from ziggurat.domain import Job, JobKind, Recipe
from ziggurat.errors import SpecError
from ziggurat.estimate import estimate
from ziggurat.history import History
from ziggurat.launchers import Local
from ziggurat.launchers.simulated import Simulator
from ziggurat.machines import Machines
from ziggurat.protocols import Progress, Site

BOARD = {"kind": "command", "name": "board", "commands": [["bench"]]}


def parsed(**changes):
    settings = {
        "objectives": [
            {"metric": "val_accuracy", "reference": 0.1},
            {"metric": "latency_p50_ms", "reference": 5.0},
        ],
        "launcher": {"kind": "local", "usd_per_hour": 1.0},
        "retrain": {"launcher": {"kind": "local", "usd_per_hour": 10.0}, "workers": 3, "k": 2, "seeds": 1},
        "devices": [
            {"kind": "torch", "name": "here", "usd_per_hour": 0.5},
            {**BOARD, "usd_per_hour": 2.0, "launcher": {"kind": "local", "usd_per_hour": 0.25}},
        ],
        **changes,
    }
    return spec.parse(plain(**settings), "test")


@dataclass
class Started:
    """What launchers were started and closed: (role, workers), in order; the launchers by role."""

    started: list[tuple[str, int]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    simulators: dict[str, Simulator] = field(default_factory=dict)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Simulated machines in the place of processes."""
    log = Started()

    def launch(self: Local, site: Site) -> Simulator:
        made = Simulator(site.workers, site.perform, site.utc)
        end = made.close

        def close(*, leave: bool = False) -> None:
            log.closed.append(f"{site.role} left" if leave else site.role)
            end()

        monkeypatch.setattr(made, "close", close)
        log.started.append((site.role, site.workers))
        log.simulators[site.role] = made
        return made

    monkeypatch.setattr(Local, "launch", launch)
    return log


def machines(tmp_path, settings=None):
    return Machines(settings or parsed(), tmp_path, lambda job: Progress(True, 2.0, payload=job.key), 0.0)


def job(key, kind=JobKind.TRAIN, **changes):
    return Job(key, kind, "any", **changes)


SEARCH, FULL = job("s"), job("r", recipe=Recipe.RETRAIN)
HERE, AWAY = job("h", JobKind.PROFILE, device="here"), job("a", JobKind.PROFILE, device="board")


def test_each_job_goes_to_the_launcher_of_its_role(tmp_path, seen):
    own = machines(tmp_path)
    handles = [own.start(j) for j in (SEARCH, FULL, HERE, AWAY, job("x", JobKind.EXPORT))]
    places = [h.rpartition("/")[0] for h in handles]
    assert places == ["", "retrain", "", "device.board", ""]
    for key in "hasrx":  # what takes no time first
        own.wait(99.0)
        assert own.poll(key).payload == key


def test_launchers_wait_for_the_stage_that_needs_them_and_end_with_it(tmp_path, seen):
    own = machines(tmp_path)
    own.prepare("search")
    assert seen.started == [("", 2)]  # the first device is the run's own
    own.release()
    assert seen.closed == []
    own.prepare("retrain")
    assert seen.started[1:] == [("retrain", 3)]
    assert own.free(JobKind.TRAIN) == 3
    own.start(FULL)
    assert own.free(JobKind.TRAIN) == 2
    own.release()
    assert seen.closed == ["retrain"]
    assert own.free(JobKind.TRAIN) == 2  # of the run's launcher again
    own.prepare("measure")
    assert seen.started[2:] == [("device.board", 0)]
    assert (own.free_on("here"), own.free_on("board")) == (1, 1)
    own.start(AWAY)
    assert (own.free_on("here"), own.free_on("board")) == (1, 0)
    own.close()
    assert sorted(seen.closed[1:]) == ["", "device.board"]


def test_a_search_on_a_device_behind_a_launcher_starts_it(tmp_path, seen):
    devices = [{**BOARD, "launcher": {"kind": "local"}}]
    machines(tmp_path, parsed(devices=devices)).prepare("search")
    assert [role for role, _ in seen.started] == ["", "device.board"]


def test_without_launchers_of_their_own_everything_is_the_runs(tmp_path, seen):
    own = machines(tmp_path, parsed(devices=[BOARD], retrain={"k": 1}))
    for stage in ("preflight", "search", "retrain", "measure"):
        own.prepare(stage)
    assert [own.start(j).count("/") for j in (SEARCH, FULL, AWAY)] == [0, 0, 0]
    assert seen.started == [("", 2)]


def test_what_does_not_run_here_has_taken_no_time_and_cannot_be_cancelled(tmp_path, seen):
    own = machines(tmp_path)
    assert own.elapsed("nothing") == 0.0
    own.cancel("nothing", 1.0)
    own.start(FULL)
    own.release()
    assert own.elapsed("r") == 0.0


def test_a_launcher_that_cannot_be_closed_does_not_keep_the_others_open(tmp_path, seen, monkeypatch):
    own = machines(tmp_path)
    own.prepare("measure")
    monkeypatch.setattr(seen.simulators["device.board"], "close", lambda leave: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        own.close()
    assert seen.closed == [""]


def test_each_job_is_charged_at_the_price_of_its_launcher_and_its_device():
    settings = parsed()
    found = [prices.usd_per_hour(settings, j) for j in (SEARCH, FULL, HERE, AWAY)]
    assert found == [1.0, 10.0, 1.5, 2.25]
    assert prices.dearest_usd_per_hour(settings, "search") == 1.5
    assert prices.dearest_usd_per_hour(settings, "validate") == 1.0
    assert prices.dearest_usd_per_hour(settings, "retrain") == 10.0
    assert prices.dearest_usd_per_hour(settings, "measure") == 2.25


def test_the_forecast_of_retraining_is_at_its_own_price_and_workers():
    rows = {row.stage: row for row in estimate(parsed(), History())}
    full = rows["retrain"]
    assert full.usd == pytest.approx(full.seconds * 10 / 3600)
    assert full.wall_s == pytest.approx(full.seconds / 2)  # two models: one of the three workers is idle
    search, one = rows["search"], measuring(parsed(), History(), JobKind.PROFILE, "here")
    trained_s = search.seconds - search.trials * one.seconds
    assert search.usd == pytest.approx(trained_s / 3600 + search.trials * one.usd)


def test_where_a_device_is_measured_is_said():
    assert "by the launcher 'local' of the run" in prices.described(parsed(), "here")
    assert "by the launcher 'local' of its own" in prices.described(parsed(), "board")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retrain": {"workers": 2}}, "retrain: workers is 2, but without retrain.launcher"),
        ({"retrain": {"launcher": {"kind": "simulated"}}}, "retrain: launcher.kind 'simulated' has no mach"),
        (
            {"devices": [{**BOARD, "launcher": {"kind": "simulated"}}]},
            "launcher.kind 'simulated' has no mach",
        ),
        ({"devices": [{**BOARD, "launcher": {"kind": "slurmy"}}]}, "unknown 'slurmy'"),
    ],
)
def test_machines_that_cannot_be_are_refused(changes, words):
    with pytest.raises(SpecError) as caught:
        parsed(**changes)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_another_controller_has_taken_is_left_to_it_by_all_launchers(tmp_path, seen):
    own = machines(tmp_path)
    own.prepare("measure")
    own.close(leave=True)
    assert sorted(seen.closed) == [" left", "device.board left"]


def test_a_job_that_still_runs_is_taken_up_by_the_launcher_of_its_role(tmp_path, seen, monkeypatch):
    own = machines(tmp_path)
    own.prepare("retrain")
    asked = []

    def find(job: Job, handle: str = "") -> Progress:
        asked.append(handle)
        return Progress(False, 1.0)

    monkeypatch.setattr(seen.simulators["retrain"], "find", find)
    monkeypatch.setattr(seen.simulators["retrain"], "elapsed", lambda _: 7.0)
    assert own.elapsed(FULL.key) == 0.0
    found = own.find(FULL, "retrain/1234")
    assert found is not None
    assert not found.done
    assert asked == ["1234"]
    assert own.elapsed(FULL.key) == 7.0
