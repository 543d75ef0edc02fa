"""Money that several runs share: no race, crash or silence ever takes an account beyond its limit."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import real
from tests.memory_store import MemoryStore
from tests.servers.seaweed import WRITER, s3_server  # noqa: F401 - a fixture
from tests.support import Story
from ziggurat import runs
from ziggurat import spec as specs
from ziggurat.accounts import SKEW_S, Account, Book, Reservation, book_from, granted, period_of, shown
from ziggurat.budget import AccountSetting
from ziggurat.engine import Engine
from ziggurat.errors import SpecError
from ziggurat.events import SegmentPlanned
from ziggurat.runs import Interrupted
from ziggurat.sharing import Share, spent_of
from ziggurat.stages import search
from ziggurat.stores import S3Store, StoreError, open_url

NOVEMBER = 1_795_000_000.0
LEASE = 100.0


class Clock:
    def __init__(self, now=NOVEMBER):
        self.now = now

    def __call__(self):
        return self.now


def account(store, run, limit=10.0, clock=None, **changes):
    return Account(store, "team", "2026-11", limit, LEASE, run, clock=clock or Clock(), **changes)


def book(store):
    found = store.get("2026-11.json")
    return book_from(found[0], "test") if found else Book("team", "2026-11", 10.0)


def test_a_period_is_named_by_utc():
    assert [period_of(kind, NOVEMBER) for kind in ("day", "month", "year", "all")] == [
        "2026-11-18", "2026-11", "2026", "all",
    ]  # fmt: skip


def test_a_run_gets_what_it_would_have_if_there_is_enough_and_what_it_needs_if_there_is_not():
    others = Book(
        "team", "2026-11", 10.0, {"other": Reservation(4.0, 5.0)}
    )  # it has told of more than it reserved
    assert granted(others, "me", 10.0, need=1.0, want=3.0) == 3.0
    assert granted(others, "me", 10.0, need=1.0, want=9.0) == 5.0
    assert granted(others, "me", 10.0, need=5.0, want=9.0) == 5.0
    assert granted(others, "me", 10.0, need=5.1, want=9.0) is None


def test_what_a_run_has_not_spent_goes_back_at_its_end():
    store = MemoryStore()
    mine, other = account(store, "mine"), account(store, "other")
    assert mine.reserve(0.0, 2.0, 8.0) == 8.0
    assert other.reserve(0.0, 3.0, 3.0) == 0.0
    assert other.reserve(0.0, 2.0, 3.0) == 2.0
    mine.release(1.5)
    assert other.reserve(0.0, 8.5, 8.5) == 8.5
    assert (book(store).taken, book(store).spent) == (10.0, 1.5)


def test_a_silent_run_keeps_its_reservation_until_its_lease_is_over_and_then_what_its_journal_says():
    store, clock = MemoryStore(), Clock()
    asked = []

    def journal(run, where):
        asked.append((run, where))
        return 3.0

    account(store, "dead", clock=clock, where="file:///runs/dead").reserve(1.0, 9.0, 9.0)
    heir = account(store, "heir", clock=clock, spent_of=journal)
    clock.now += LEASE + SKEW_S
    assert heir.reserve(0.0, 5.0, 5.0) == 0.0
    clock.now += 1.0
    assert heir.reserve(0.0, 8.0, 8.0) == 0.0
    assert heir.reserve(0.0, 7.0, 7.0) == 7.0
    assert set(asked) == {("dead", "file:///runs/dead")}
    assert book(store).runs["dead"].taken == 3.0


def test_a_silent_run_whose_journal_cannot_be_read_keeps_all_it_has():
    store, clock = MemoryStore(), Clock()
    account(store, "dead", clock=clock).reserve(1.0, 9.0, 9.0)
    clock.now += 1e6
    assert account(store, "heir", clock=clock).reserve(0.0, 2.0, 2.0) == 0.0


def test_a_run_that_comes_back_in_time_is_not_buried():
    store, clock = MemoryStore(), Clock()
    dead = account(store, "dead", clock=clock)
    dead.reserve(1.0, 9.0, 9.0)
    clock.now += LEASE + SKEW_S + 1

    def journal(_run, _where):
        dead.renew(1.0)  # between the look and the change
        return 1.0

    assert account(store, "heir", clock=clock, spent_of=journal).reserve(0.0, 5.0, 5.0) == 0.0
    assert book(store).runs["dead"].taken == 9.0


def test_an_answer_that_is_lost_reserves_nothing_twice():
    store = MemoryStore()
    mine = account(store, "mine")

    def lost(_key):
        raise StoreError("the answer was lost")

    store.after = lost
    with pytest.raises(StoreError):
        mine.reserve(0.0, 2.0, 4.0)
    store.after = lambda _key: None
    assert mine.reserve(0.0, 2.0, 4.0) == 4.0
    assert book(store).taken == 4.0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["reserve", "spend", "release", "silence", "renew"]),
            st.floats(0.0, 4.0),
        ),
        max_size=40,
    )
)
@settings(max_examples=200)
def test_whatever_runs_do_the_account_keeps_its_limit(deeds):
    store, clock = MemoryStore(), Clock()
    has, spent, until = [0.0] * 4, [0.0] * 4, [0.0] * 4
    accounts = [
        account(store, f"run-{i}", clock=clock, spent_of=lambda name, _: spent[int(name[-1])])
        for i in range(4)
    ]
    for run, deed, usd in deeds:
        alive = clock.now <= until[run]
        if deed == "silence":
            clock.now += usd * LEASE
        elif deed == "spend" and alive:
            spent[run] = min(has[run], spent[run] + usd)
        elif deed == "release":
            accounts[run].release(spent[run])
            has[run], until[run] = spent[run], 0.0
        else:
            has[run] = accounts[run].reserve(
                spent[run], spent[run] + usd * (deed == "reserve"), spent[run] + 2 * usd
            )
            until[run] = clock.now + LEASE
        assert book(store).taken <= 10.0 + 1e-6
        assert sum(spent) <= 10.0 + 1e-6


def test_threads_that_race_are_granted_all_there_is_and_no_more():
    store, got = MemoryStore(), []

    def take(number):
        mine = account(store, f"run-{number}")
        has = 0.0
        while (more := mine.reserve(0.0, has + 0.25, has + 0.25)) > has:
            has = more
        got.append(has)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == pytest.approx(10.0)
    assert book(store).taken == pytest.approx(10.0)


RACE = """
import sys
from ziggurat.accounts import Account
from ziggurat.stores import open_url
mine = Account(open_url(sys.argv[1]), "team", "2026-11", 10.0, 900.0, sys.argv[2])
has = 0.0
while (more := mine.reserve(0.0, has + 0.25, has + 0.25)) > has:
    has = more
print(has)
"""


def race(url, processes):
    """What so many processes get of an account of 10 USD, each in steps of a quarter, as fast as they can."""
    began = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, url, f"run-{n}"], stdout=subprocess.PIPE, text=True, cwd=real.ROOT
        )
        for n in range(processes)
    ]
    return [float(process.communicate(timeout=120)[0]) for process in began]


def test_processes_that_race_on_a_shared_directory_keep_the_limit(tmp_path):
    got = race(f"file://{tmp_path}/team", 4)
    assert sum(got) == pytest.approx(10.0)
    assert book(open_url(f"file://{tmp_path}/team")).taken == pytest.approx(10.0)


@pytest.mark.soak
def test_many_processes_that_race_on_a_shared_directory_keep_the_limit(tmp_path):
    assert sum(race(f"file://{tmp_path}/team", 8)) == pytest.approx(10.0)


@pytest.mark.server
@pytest.mark.s3
@pytest.mark.soak
def test_processes_that_race_on_a_bucket_keep_the_limit(s3_server, monkeypatch):  # noqa: F811 - the fixture
    for name, value in WRITER.environment().items():
        monkeypatch.setenv(name, value)
    place = S3Store(
        bucket=s3_server.bucket, prefix=f"accounts-{time.time_ns()}",
        endpoint=s3_server.endpoint, region=s3_server.region,
    ).open("team")  # fmt: skip
    got = race(place.url, 8)
    assert sum(got) == pytest.approx(10.0)
    assert book(place).taken == pytest.approx(10.0)


def test_an_account_of_another_version_is_refused():
    store = MemoryStore()
    store.put("2026-11.json", json.dumps({"v": 2}).encode())
    with pytest.raises(StoreError, match="look at it by hand"):
        account(store, "mine").reserve(0.0, 1.0, 1.0)


def test_an_account_is_shown_with_what_each_run_has():
    store, clock = MemoryStore(), Clock()
    account(store, "a", clock=clock).reserve(1.0, 4.0, 4.0)
    account(store, "b", clock=clock).release(2.0)
    found = shown(store, "team", None, clock.now)
    assert (found["spent_usd"], found["reserved_usd"], found["left_usd"]) == (3.0, 3.0, 4.0)
    assert [(r["run"], r["state"]) for r in found["runs"]] == [("a", "running"), ("b", "ended")]
    assert shown(store, "team", "2026-11", clock.now + 1e6)["runs"][0]["state"] == "silent"
    with pytest.raises(SpecError, match="it has 2026-11"):
        shown(store, "team", "2026-10", clock.now)
    with pytest.raises(SpecError, match="holds no account"):
        shown(MemoryStore(), "team", None, clock.now)


def table(folder):
    """Thirty trainings of ten seconds each."""
    path = folder / "curves.npz"
    loss = np.linspace(0.1, 1.0, 30)[:, None]
    np.savez(path, val_loss=loss, test_loss=loss, wall_time_s=np.full((30, 1), 10.0), params=np.ones(30))
    return str(path)


def shared(folder, limit, step=None, **budget):
    """A search that costs 10 USD a trial, 300 USD in all, from an account in a directory."""
    store = {"kind": "directory", "path": str(folder / "accounts")}
    team = {"name": "team", "limit_usd": limit, "store": store, "period": "all"}
    return {
        "name": "shared",
        "space": {"kind": "table", "curves": table(folder)},
        "objectives": [{"metric": "val_loss", "reference": 2.0}],
        "fidelities": [{"epochs": 1}],
        "validate": {"enabled": False},
        "retrain": {"enabled": False},
        "tracking": {"enabled": False},
        "search": {"trainer": {"kind": "table"}, "trials": 30, "workers": 2, "searcher": {"kind": "random"}},
        "launcher": {"kind": "simulated", "usd_per_hour": 3600.0},
        "budget": {"account": team | ({"step_usd": step} if step else {}), "stop_margin_s": 0.0, **budget},
    }


def played(run):
    """Search to the end; the verdict and its reason."""
    engine = Engine(run)
    try:
        search(engine)
    finally:
        engine.close()
        run.close()
    end = run.history.stages["search"]
    return end.verdict, end.summary["reason"]


def left_in(folder):
    data, _ = open_url(f"file://{folder}/accounts/team").get("all.json")
    return book_from(data, "test")


def test_a_run_ends_where_the_account_does_and_the_next_one_gets_nothing(tmp_path):
    run = real.create(tmp_path / "runs", shared(tmp_path, 105.0))
    verdict, reason = played(run)
    assert verdict == "stopped_by_budget"
    assert "the account team" in reason
    assert 85.0 <= run.history.spent_usd <= 105.0
    kept = left_in(tmp_path).runs[run.run_id]
    assert (kept.taken, kept.spent, kept.ended) == (*[pytest.approx(run.history.spent_usd)] * 2, True)
    later = real.create(tmp_path / "runs", shared(tmp_path, 105.0))
    assert played(later)[0] == "stopped_by_budget"
    assert run.history.spent_usd + later.history.spent_usd <= 105.0


def test_a_run_that_the_account_has_stopped_goes_on_when_there_is_money_again(tmp_path):
    other = Account(open_url(f"file://{tmp_path}/accounts/team"), "team", "all", 400.0, 900.0, "other")
    assert other.reserve(0.0, 250.0, 250.0) == 250.0
    run = real.create(tmp_path / "runs", shared(tmp_path, 400.0))
    assert played(run)[0] == "stopped_by_budget"
    assert 130.0 <= run.history.spent_usd <= 150.0
    other.release(10.0)
    again = runs.open_run(run.folder)
    assert played(again) == ("ok", "")
    assert 300.0 <= again.history.spent_usd < 310.0
    assert left_in(tmp_path).spent == pytest.approx(10.0 + again.history.spent_usd)


def test_a_run_reserves_ahead_in_steps_and_no_more_than_it_may_need(tmp_path):
    run = real.create(tmp_path / "runs", shared(tmp_path, 1000.0, step=40.0))
    most = []
    run.listeners.append(lambda _e, h: most.append(left_in(tmp_path).taken - h.spent_usd) if h.ends else None)
    assert played(run) == ("ok", "")
    assert 0 < max(most) <= 40.0 + 3 * 10.0
    assert len([d for d in run.history.decisions if d.kind == "account"]) == 1


def test_without_its_store_a_run_starts_nothing_and_can_be_resumed(tmp_path):
    run = real.create(tmp_path / "runs", shared(tmp_path, 1000.0))
    (tmp_path / "accounts").write_text("in the way")
    engine = Engine(run)
    with pytest.raises(Interrupted, match="the account team cannot be asked"):
        search(engine)
    engine.close()
    run.close()
    assert (run.history.spent_usd, run.history.open_segments) == (0.0, {})
    (tmp_path / "accounts").unlink()
    again = runs.open_run(run.folder)
    assert played(again) == ("ok", "")


def test_a_new_period_opens_a_new_account_and_the_old_one_gets_the_rest_back(tmp_path):
    setting = AccountSetting.model_validate(
        {"name": "team", "limit_usd": 10.0, "step_usd": 4.0, "period": "month", "store": str(tmp_path)}
    )
    clock, store = Clock(), MemoryStore()

    def opened(period):
        return Account(store, "team", period, 10.0, 900.0, "mine", clock=clock)

    run = real.create(tmp_path / "runs", shared(tmp_path, 10.0))
    share = Share(setting, opened, clock)
    assert share.ask(run, 1.0)
    real.until(lambda: share.limit(run.history).usd >= 1.0 or share.tend(run, 0.0, 0.0))
    clock.now += 30 * 86_400
    share.tend(run, 0.0, 0.0)
    assert share.limit(run.history).usd == 0.0  # nothing of December is reserved yet
    real.until(lambda: share.limit(run.history).usd >= 2.0 or not share.ask(run, 2.0))
    share.close(run)
    run.close()
    books = {key: book_from(data, key) for key, (data, _) in store.things.items()}
    assert {key: b.runs["mine"].ended for key, b in books.items()} == {
        "2026-11.json": True,
        "2026-12.json": True,
    }


def test_a_run_whose_lease_is_over_may_spend_no_more_than_it_has_begun(tmp_path):
    setting = AccountSetting.model_validate({"name": "team", "limit_usd": 10.0, "store": str(tmp_path)})
    clock, store = Clock(), MemoryStore()
    run = real.create(tmp_path / "runs", shared(tmp_path, 10.0))
    share = Share(setting, lambda p: Account(store, "team", p, 10.0, 900.0, "mine", clock=clock), clock)
    assert share.ask(run, 5.0)
    real.until(lambda: share.limit(run.history).usd >= 5.0 or share.tend(run, 0.0, 0.0))
    clock.now += 901.0
    assert share.limit(run.history).free == 0.0
    share.close(run)
    run.close()


def test_what_a_dead_run_can_have_spent_is_what_its_journal_says_with_what_it_had_begun(tmp_path):
    run = real.create(tmp_path / "runs", shared(tmp_path, 10.0))
    story = Story()
    number = story.propose(run.spec.space.table.candidates[0])
    run.record([story.events[-1].body, SegmentPlanned(story.start(number), 10.0, 7.0)])
    run.close()
    where = run.folder.as_uri()
    assert spent_of(run.run_id, where) == 7.0
    assert spent_of("another", where) is None
    assert spent_of(run.run_id, (tmp_path / "nowhere").as_uri()) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Vision Team"}, "budget.account.name"),
        ({"limit_usd": 0}, "budget.account.limit_usd"),
        ({"limit_usd": None}, "budget.account.limit_usd"),
        ({"step_usd": 11.0}, "lower step_usd"),
        ({"period": "week"}, "budget.account.period"),
        ({"store": None}, "budget.account.store"),
        ({"lease_s": 1}, "budget.account.lease_s"),
        ({"owner": "me"}, "owner"),
    ],
)
def test_a_senseless_account_is_refused(tmp_path, changes, words):
    plain = shared(tmp_path, 10.0)
    plain["budget"]["account"] |= changes
    with pytest.raises(SpecError, match=words):
        specs.parse(plain, "test")


def test_a_key_that_an_account_lacks_is_named_as_the_account_s_own(tmp_path):
    plain = shared(tmp_path, 10.0, limit_usd=5.0)
    del plain["budget"]["account"]["limit_usd"]
    with pytest.raises(SpecError, match=r"budget\.account\.limit_usd: missing"):
        specs.parse(plain, "test")
