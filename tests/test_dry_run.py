"""`ziggurat run --dry-run` and the preflight's checks of launchers and store: what would be asked of whom."""

import json
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import cli, dry_run
from tests.real import plain
from ziggurat import spec as specs
from ziggurat.errors import SpecError
from ziggurat.launchers import AwsBatch, Local
from ziggurat.stages import places

DOCS = Path(__file__).parents[1] / "docs/launchers.md"
IMAGE = "ghcr.io/somebody/ziggurat:0.1.0"
ROLE = "arn:aws:iam::123456789012:role/ziggurat-job"
BATCH = {"kind": "aws_batch", "queue": "spot", "image": IMAGE, "region": "eu-central-1"}
BUCKET = {"kind": "s3", "bucket": "bucket", "prefix": "runs"}


@pytest.fixture
def spec_file(tmp_path, monkeypatch):
    """Writes a spec into a working directory of its own."""
    monkeypatch.chdir(tmp_path)

    def write(**changes: Any) -> Path:
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(plain(**changes)), encoding="utf-8")
        return Path("spec.yaml")

    return write


@pytest.fixture(autouse=True)
def no_network_and_no_processes(monkeypatch):
    """Whatever a dry run would reach for or start is an error."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a dry run reaches for {args} {kwargs}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("subprocess.Popen.__init__", refuse)


def planned(path: Path, *sets: str) -> list[dry_run.Planned]:
    return dry_run.requests(path, sets, Path("runs"))


def test_a_local_run_shows_the_commands_of_its_workers_and_what_they_are_given(spec_file, tmp_path):
    found = planned(spec_file())
    assert [(p.launcher, p.kind, p.job) for p in found] == [
        ("launcher", "local", "search"),
        ("launcher", "local", "retraining"),
        ("launcher", "local", "measuring on local"),
    ]
    command, _, given = found[0].request.partition(" < ")
    folder = tmp_path.resolve() / "runs" / "small-dry-run"
    assert command.split()[0] == sys.executable
    assert command.endswith(f" {folder} worker-0")
    assert found[2].request.partition(" < ")[0].endswith(f" {folder} service")
    job = json.loads(given)
    assert (job["key"], job["kind"], job["to_rung"]) == ("00000-train-0-0", "train", 0)
    assert set(job["candidate"]["choices"]) >= {"depth", "learning_rate"}


def test_every_launcher_of_a_spec_shows_its_own_request(spec_file):
    own = {**BATCH, "queue": "boards"}
    found = planned(
        spec_file(
            launcher=BATCH,
            store=BUCKET,
            retrain={"k": 1, "epochs": 2, "launcher": {**BATCH, "queue": "gpus", "resources": {"gpus": 4}}},
            devices=[
                {"kind": "torch", "name": "here"},
                {"kind": "torch", "name": "board", "launcher": own},
                {"kind": "torch", "name": "laptop", "launcher": {"kind": "local"}},
            ],
        )
    )
    assert [(p.launcher, p.kind) for p in found] == [
        ("launcher", "aws_batch"),
        ("retrain.launcher", "aws_batch"),
        ("launcher", "aws_batch"),
        ("devices[1].launcher", "aws_batch"),
        ("devices[2].launcher", "local"),
    ]
    requests = [p["request"] for p in dry_run.plain(found)]
    queues = [requests[i]["aws_batch"]["submit_job"]["jobQueue"] for i in (0, 1, 3)]
    assert queues == ["spot", "gpus", "boards"]
    command = requests[0]["aws_batch"]["submit_job"]["containerOverrides"]["command"]
    assert command[:3] == ["python", "-m", "ziggurat.once"]
    assert command[3].startswith("s3://bucket/runs/small-dry-run")
    assert command[4] == "00000-train-0-0"
    gpus = requests[1]["aws_batch"]["submit_job"]["containerOverrides"]["resourceRequirements"][-1]
    assert gpus == {"type": "GPU", "value": "4"}
    assert " service < " in requests[2], "the run's own device is measured by the service on this machine"
    assert " device.laptop-service < " in requests[4]


def test_the_value_of_a_variable_is_never_printed(spec_file, monkeypatch):
    monkeypatch.setenv("WHATEVER", 'hunter"2')
    batch = {**BATCH, "environment": {"PLAIN": "a${WHATEVER}", "SHORT": "1"}}
    told = dry_run.text(planned(spec_file(launcher=batch, store=BUCKET)))
    assert "hunter" not in told
    assert '"value": "a${WHATEVER}"' in told
    assert '"value": "1"' in told


def test_nothing_is_written_or_imported_for_it(spec_file, tmp_path, capsys):
    path = spec_file(launcher=BATCH, store=BUCKET)
    before = set(sys.modules)
    assert cli.guarded(lambda: cli.app(["run", str(path), "--dry-run"], standalone_mode=False)) == 0
    assert capsys.readouterr().out.startswith("nothing is started")
    assert [p.name for p in tmp_path.iterdir()] == ["spec.yaml"]
    assert {m.partition(".")[0] for m in set(sys.modules) - before} & {"prefect", "torch", "boto3"} == set()


def test_json_holds_the_requests_as_data(spec_file, capsys):
    path = spec_file(launcher=BATCH, store=BUCKET)
    argv = ["run", str(path), "--dry-run", "--json", "--set", "retrain.enabled=false"]
    assert cli.guarded(lambda: cli.app(argv, standalone_mode=False)) == 0
    found = json.loads(capsys.readouterr().out)
    assert [p["job"] for p in found] == ["search", "measuring on local"]
    assert found[0]["request"]["aws_batch"]["submit_job"]["jobQueue"] == "spot"


def test_the_same_spec_gives_the_same_requests(spec_file):
    path = spec_file(launcher=BATCH, store=BUCKET)
    assert planned(path) == planned(path)
    other = planned(path, "seed=1")
    assert [p.key for p in other] == [p.key for p in planned(path)]


def test_machines_that_see_no_run_directory_need_a_store(spec_file):
    with pytest.raises(
        SpecError, match="launcher: machines of kind 'aws_batch' do not see the run directory"
    ):
        planned(spec_file(launcher=BATCH))


def checked(**changes: Any) -> list[tuple[bool | None, str]]:
    return [(c.ok, c.text) for c in places.launchers(specs.parse(plain(**changes), "test"))]


def test_the_preflight_has_a_check_for_every_launcher(monkeypatch):
    asked: list[str] = []

    def check(self: AwsBatch) -> None:
        asked.append(self.queue)
        if self.queue == "gpus":
            raise SpecError("launcher.queue: no queue 'gpus' in eu-central-1; known: spot")

    monkeypatch.setattr(AwsBatch, "check", check)
    found = checked(
        launcher=BATCH,
        store=BUCKET,
        retrain={"k": 1, "launcher": {**BATCH, "queue": "gpus"}},
        devices=[{"kind": "torch", "launcher": {"kind": "local"}}],
    )
    assert asked == ["spot", "gpus"]
    size = re.search(r"a request of (\d+) characters was written, not sent", found[0][1])
    assert size is not None
    assert int(size[1]) > 500
    assert [(ok, text.partition(" (")[0]) for ok, text in found] == [
        (True, "launcher: 'aws_batch' takes jobs"),
        (False, "retrain.launcher.queue: no queue 'gpus' in eu-central-1; known: spot"),
        (True, "devices[0].launcher: 1 workers of 1 threads"),
    ]


def test_a_launcher_that_no_stage_uses_is_not_asked():
    retrain = {"enabled": False, "launcher": BATCH}
    assert [ok for ok, _ in checked(retrain=retrain)] == [True]


def test_the_preflight_finds_a_missing_store(monkeypatch):
    monkeypatch.setattr(AwsBatch, "check", lambda self: None)
    found = checked(launcher=BATCH)
    assert found[0][0] is False
    assert "set store to where they can read and write" in found[0][1]


@pytest.mark.parametrize(
    ("launcher", "workers", "ok"),
    [
        ({"threads": 1}, 1, True),
        ({"threads": 256}, 2, None),
        ({"memory_limit_mb": 1e9}, 1, None),
        ({"memory_limit_mb": 256}, 1, True),
    ],
)
def test_more_threads_or_memory_than_there_are_is_a_warning(launcher, workers, ok):
    search = {"trials": 6, "workers": workers}
    assert [verdict for verdict, _ in checked(launcher={"kind": "local", **launcher}, search=search)] == [ok]


def test_the_warning_names_the_key_and_the_cure():
    found = places._local(Local(threads=256), "retrain.launcher", 2)
    assert found.text.startswith("retrain.launcher: 2 workers of 256 threads share ")
    assert found.cure == "lower retrain.launcher.threads or the workers to go faster"


class Kept:
    """A store that works or does not."""

    url = "s3://bucket/runs/small"

    def __init__(self, error: str = "", ahead_s: float | None = 0.0) -> None:
        self.error, self.ahead_s = error, ahead_s

    def utc(self) -> float | None:
        return None if self.ahead_s is None else time.time() + self.ahead_s

    def check(self) -> None:
        if self.error:
            raise SpecError(self.error)


def test_the_store_is_checked_if_there_is_one():
    assert places.store(None) == []
    found = [(c.name, c.ok) for c in places.store(Kept())]  # type: ignore[arg-type]
    assert found == [("store", True), ("clock", True)]
    (broken,) = places.store(Kept("store: no bucket 'bucket'; make it"))  # type: ignore[arg-type]
    assert (broken.ok, broken.text) == (False, "store: no bucket 'bucket'; make it")


@pytest.mark.parametrize(("ahead_s", "ok"), [(0, True), (-5, True), (60, None), (-60, None), (None, True)])
def test_clocks_that_differ_are_told_with_the_cure(ahead_s, ok):
    _, clock = places.store(Kept(ahead_s=ahead_s))  # type: ignore[arg-type]
    assert (clock.name, clock.ok) == ("clock", ok)
    if ok is None:
        assert "differ by 59 s" in clock.text or "differ by 58 s" in clock.text
        assert clock.cure.startswith("set this machine's clock")


def blocks() -> list[dict[str, Any]]:
    """The YAML in the page about launchers that sets one."""
    found = re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    parsed = [yaml.safe_load(block) for block in found]
    return [block for block in parsed if isinstance(block, dict) and "launcher" in block]


@pytest.mark.parametrize("block", blocks(), ids=lambda block: str(block["launcher"].get("kind")))
def test_yaml_of_the_page_about_launchers_is_valid(block):
    specs.parse({**plain(store="/shared/store"), **block}, "docs/launchers.md")
