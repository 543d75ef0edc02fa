"""Runs that are kept in a store: taken by one controller at a time, read by anybody, continued anywhere."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from flows import cli, trial_runs
from tests.real import create, events, plain
from ziggurat import run_places, runs, stores
from ziggurat.domain import RunStatus
from ziggurat.errors import JournalError, RunBusyError, RunTakenError, SpecError
from ziggurat.events import Alert, Amended, RunStarted, StageStarted
from ziggurat.journal_chain import read
from ziggurat.journal_mirror import CHECK_S


def note(name):
    return Alert(name, "info", "title")


def settings(folder, **changes):
    return plain(store={"kind": "directory", "path": str(folder / "store")}, **changes)


def mirrored(run):
    return b"".join(read(run.store)[1])


def on_disk(run):
    return (run.folder / runs.JOURNAL).read_bytes()


@pytest.fixture
def run(tmp_path):
    """A new run on machine `a`."""
    made = create(tmp_path / "a", settings(tmp_path))
    yield made
    made.close()


@pytest.fixture
def elsewhere(run, tmp_path):
    """Takes the run of the store on machine `b`."""
    taken = []

    def take():
        folder = run_places.fetch(run.store.url, tmp_path / "b")
        taken.append(runs.open_run(folder))
        return taken[-1]

    yield take
    for one in taken:
        one.close()


def test_a_new_run_is_in_its_store_with_spec_and_journal(run, tmp_path):
    run.record([note("one")])
    folder = tmp_path / "store" / run.run_id
    assert (folder / "spec.yaml").read_bytes() == (run.folder / "spec.yaml").read_bytes()
    assert mirrored(run) == on_disk(run)
    assert run_places.listed(str(tmp_path / "store")) == [run.run_id]
    assert run_places.listed((tmp_path / "store").as_uri()) == [run.run_id]


def test_without_a_store_nothing_is_mirrored(tmp_path):
    run = create(tmp_path / "runs", plain())
    run.check_stop()
    assert (run.store, run.mirror, run.taken) == (None, None, False)
    run.close()


def test_the_run_goes_on_on_another_machine_and_the_first_controller_stops(run, elsewhere):
    run.record([note("one")])
    other = elsewhere()
    assert [type(e.body) for e in events(other.folder)] == [RunStarted, Alert, RunStarted]
    with pytest.raises(RunTakenError, match="has taken this run; this one stops") as caught:
        run.record([note("late")])
    assert isinstance(caught.value, JournalError)  # so that nothing is written behind it
    assert run.taken
    assert "late" not in run.history.alerts
    other.record([note("two")])
    assert set(other.history.alerts) == {"one", "two"}
    assert mirrored(other) == on_disk(other)


def test_a_controller_that_has_stopped_writes_nothing_more_to_its_disk(run, elsewhere):
    elsewhere()
    with pytest.raises(RunTakenError):
        run.record([note("late")])
    before = on_disk(run)
    with pytest.raises(RunTakenError):
        run.finish(RunStatus.INTERRUPTED)
    assert on_disk(run) == before
    assert not run.durable


def test_what_waits_is_written_when_the_run_is_given_back(run):
    run.record([StageStarted("search")])
    assert mirrored(run) != on_disk(run)
    run.close()
    assert mirrored(run) == on_disk(run)


def test_an_idle_controller_stops_as_well(run, elsewhere):
    run.mirror._clock = lambda: 1e9
    run.check_stop()
    elsewhere()
    run.mirror._clock = lambda: 1e9 + CHECK_S
    with pytest.raises(RunTakenError):
        run.check_stop()


def test_a_run_that_lost_its_directory_goes_on_from_the_store_alone(run, tmp_path):
    run.record([note("one")])
    run.finish(RunStatus.INTERRUPTED)
    before = on_disk(run)
    run.close()
    shutil.rmtree(tmp_path / "a")
    folder = run_places.fetch(run.store.url, tmp_path / "a")
    again = runs.open_run(folder, {"budget.limit_usd": 3.0})
    assert folder == run.folder
    assert on_disk(again).startswith(before)
    assert [type(e.body) for e in events(folder)[-2:]] == [RunStarted, Amended]
    assert again.limit_usd == 3.0
    again.close()


def test_a_run_that_is_driven_on_this_machine_is_not_taken_through_its_store(run):
    folder = run_places.fetch(run.store.url, run.folder.parent)
    with pytest.raises(RunBusyError):
        runs.open_run(folder)
    run.record([note("one")])


def test_a_stale_end_on_disk_is_kept_aside_with_a_warning(run, elsewhere, caplog):
    elsewhere().record([note("two")])
    with pytest.raises(RunTakenError):
        run.record([note("late")])
    run.close()
    again = runs.open_run(run.folder)
    assert "another controller has gone on without the events in" in caplog.text
    assert "late" in (run.folder / "journal.stale-1.jsonl").read_text()
    assert set(again.history.alerts) == {"two"}
    assert mirrored(again) == on_disk(again)
    again.close()


def test_an_outage_interrupts_the_run_once_and_the_disk_has_the_rest(run, tmp_path, caplog):
    run.record([note("one")])
    hidden = tmp_path / "hidden"
    (tmp_path / "store").rename(hidden)
    (tmp_path / "store").write_text("a file where the folder was")
    with pytest.raises(runs.Interrupted, match="the store cannot be written"):
        run.record([note("two")])
    assert caplog.text.count("its directory has what its store lacks") == 1
    run.finish(RunStatus.INTERRUPTED, "the store cannot be written")
    run.check_stop()
    run.close()
    assert set(run.history.alerts) == {"one", "two"}
    with pytest.raises(SpecError, match="cannot be used"):
        runs.open_run(run.folder)
    (tmp_path / "store").unlink()
    hidden.rename(tmp_path / "store")
    again = runs.open_run(run.folder)
    assert set(again.history.alerts) == {"one", "two"}
    assert mirrored(again) == on_disk(again)
    again.close()


def test_a_run_gets_a_store_when_its_spec_names_one_later(tmp_path):
    run = create(tmp_path / "a", plain())
    run.record([note("one")])
    run.close()
    path = run.folder / "spec.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"store": str(tmp_path / "store")}))
    again = runs.open_run(run.folder)
    assert mirrored(again) == on_disk(again)
    assert again.store.get("spec.yaml")[0] == path.read_bytes()
    again.close()


def test_reading_a_run_in_a_store_takes_nothing_and_leaves_nothing(run):
    run.record([note("one")])
    for where in (run.store.url, str(Path(run.store.root))):
        with run_places.reading(where) as folder:
            _, history = runs.look(folder)
        assert set(history.alerts) == {"one"}
        assert history.run_id == run.run_id
        assert not folder.exists()
    run.record([note("two")])
    with run_places.reading(str(run.folder)) as folder:
        assert folder == run.folder


def test_variables_stay_names_in_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", str(tmp_path / "store"))
    raw = plain(store={"kind": "directory", "path": "${PLACE}"})
    expanded = plain(store={"kind": "directory", "path": str(tmp_path / "store")})
    from ziggurat import spec as specs

    run = runs.create(specs.parse(expanded, "test"), raw, tmp_path / "a")
    assert b"${PLACE}" in run.store.get("spec.yaml")[0]
    run.close()
    folder = run_places.fetch(run.store.url, tmp_path / "b")
    assert "${PLACE}" in (folder / "spec.yaml").read_text()


def test_a_store_that_was_copied_elsewhere_goes_on_where_it_was_resumed_from(run, tmp_path, caplog):
    run.record([note("one")])
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    folder = run_places.fetch((tmp_path / "copy" / run.run_id).as_uri(), tmp_path / "b")
    assert "from here on it is kept here" in caplog.text
    other = runs.open_run(folder)
    assert other.store.root == tmp_path / "copy" / run.run_id
    run.record([note("two")])  # the original is another run from now on
    other.close()


def test_the_endpoint_of_the_url_wins_over_the_specs_and_leaves_its_other_settings(tmp_path):
    folder = tmp_path / "small-1"
    folder.mkdir()
    store = {"kind": "s3", "bucket": "bucket", "prefix": "team", "endpoint": "http://old:1", "timeout_s": 7}
    (folder / "spec.yaml").write_text(yaml.safe_dump(plain(store=store)))
    run_places._agree(folder, stores.open_url("s3://bucket/team/small-1"))
    assert yaml.safe_load((folder / "spec.yaml").read_text())["store"] == store
    run_places._agree(folder, stores.open_url("s3://bucket/team/small-1?endpoint=http://new:2"))
    spec, _ = runs.look(folder)
    assert (spec.store.endpoint, spec.store.timeout_s, spec.store.prefix) == ("http://new:2", 7, "team")


def test_a_store_that_does_not_work_leaves_no_run(tmp_path):
    (tmp_path / "store").write_text("no folder")
    with pytest.raises(SpecError, match="cannot be used"):
        create(tmp_path / "a", settings(tmp_path))
    assert not (tmp_path / "a").exists()


def test_a_store_cannot_be_where_run_directories_are(tmp_path):
    with pytest.raises(SpecError, match=r"store\.path .* is where run directories are"):
        create(tmp_path / "store", settings(tmp_path))
    assert not (tmp_path / "store").exists()


def test_a_run_that_came_to_nothing_is_removed_from_its_store_too(run):
    run.close()
    run.remove()
    assert list(run.store.entries()) == []


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("{store}/{near}", "no run .* did you mean"),
        ("ftp://there/run", "names no store"),
        ("s3://bucket/run?color=red", "unknown key 'color' in the URL"),
    ],
)
def test_a_place_without_a_run_is_one_line(run, tmp_path, where, words):
    url = where.format(store=(tmp_path / "store").as_uri(), near=run.run_id[:-1] + "x")
    with pytest.raises(SpecError, match=words) as caught:
        run_places.fetch(url, tmp_path / "b")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b" / run.run_id).exists()


def test_a_long_journal_is_put_together_when_the_run_is_given_back(run, elsewhere):
    for i in range(70):
        run.record([note(f"k{i}")])
    run.close()
    assert [e.key for e in run.store.entries("journal/whole-")] == ["journal/whole-00000071.jsonl"]
    other = elsewhere()
    assert len(other.history.alerts) == 70
    assert json.loads(mirrored(other).splitlines()[-1])["type"] == "run_started"


def test_commands_take_the_place_of_a_run_in_a_store(run, tmp_path, monkeypatch, capsys):
    def said(*words):
        assert (
            cli.guarded(lambda: cli.app([*words], prog_name="ziggurat", standalone_mode=False)) == cli.Exit.OK
        )
        return capsys.readouterr().out

    run.record([note("one")])
    monkeypatch.chdir(tmp_path)
    url = run.store.url
    told = json.loads(said("status", url, "--json"))
    assert (told["run_id"], told["run_dir"], told["status"]) == (run.run_id, url, "running")
    assert told["space_bytes"]["store"]["journal"] > 0
    assert "space, disk: " in said("status", str(run.folder))
    assert said("trials", url) == "nothing to show\n"
    assert json.loads(said("pareto", url, "--json"))["front"] == []
    assert said("runs", str(tmp_path / "store")) == f"{run.run_id}\n"
    assert said("report", url) == f"report-{run.run_id}/index.html\n"
    assert (tmp_path / f"report-{run.run_id}" / "front.json").is_file()
    assert not (run.folder / "report").exists()
    run.record([note("two")])


def test_a_wrong_place_is_bad_input(tmp_path, capsys):
    where = f"{(tmp_path / 'none').as_uri()}/run"
    call = ["resume", where, "--runs-dir", str(tmp_path / "runs")]
    assert (
        cli.guarded(lambda: cli.app(call, prog_name="ziggurat", standalone_mode=False)) == cli.Exit.BAD_INPUT
    )
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_trial_run_of_a_spec_leaves_nothing_in_its_store(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(settings(tmp_path)))
    with trial_runs.scratch(path, []) as engine:
        assert engine.run.store is None
    assert list(stores.Directory(tmp_path / "store" / "check").entries()) == []
    (tmp_path / "bad").write_text("no folder")
    path.write_text(yaml.safe_dump(plain(store=str(tmp_path / "bad"))))
    with pytest.raises(SpecError, match="cannot be used"), trial_runs.scratch(path, []):
        pass
