"""Several devices and machines in one run of real processes, from the preflight to the cards."""

import json
import os
import sys

import onnxruntime
import pytest

from tests import real
from ziggurat import stages
from ziggurat.domain import JobKind, RunStatus
from ziggurat.errors import SpecError
from ziggurat.runs import Run

pytestmark = pytest.mark.slow
MEASURE = real.ROOT / "examples" / "device" / "measure.py"
COMMANDS = [[sys.executable, str(MEASURE), "${onnx_file}", "--repetitions", "${repetitions}"]]
LOG = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2] + str(hash(open(sys.argv[1], 'rb').read())))"


def settings(**board):
    return real.plain(
        fidelities=[{"epochs": 1}],
        search={"trials": 1, "workers": 1},
        retrain={"k": 1, "seeds": 1, "epochs": 1},
        devices=[
            {"kind": "torch", "repetitions": 20, "warmup": 2, "max_seconds": 0.2},
            {"kind": "command", "name": "board", "commands": COMMANDS, "repetitions": 25, **board},
        ],
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run in which the board is measured by machines of its own."""
    place = tmp_path_factory.mktemp("devices")
    launcher = {"kind": "local", "usd_per_hour": 2.0}
    copy = [sys.executable, "-c", LOG, "${onnx_file}", f"{place}/sent-"]
    plain = settings(launcher=launcher, usd_per_hour=3.0, commands=[copy, *COMMANDS])
    run = real.create(place / "runs", plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{real.ROOT}")
        with real.session(run) as here:
            real.whole(here)
            here.write_report(RunStatus.COMPLETED)
    return run


def model(run):
    return run.history.of_stage("retrain")[0]


def test_every_device_measures_the_model_where_it_belongs(ran):
    static = model(ran).static
    assert static["latency_p50_ms"].device == "local"
    assert static["latency_p50_ms@board"].device == "board"
    assert static["latency_p50_ms@board"].samples == 25
    handles = {s.job.key.split("-")[2]: s.handle for s in ran.history.successes(JobKind.PROFILE)}
    assert handles["board"].startswith("device.board/local:")
    assert handles["local"].startswith("local:")
    logs = {p.name for p in (ran.folder / "logs").iterdir()}
    assert logs == {"service.log", "worker-0.log", "device.board-service.log"}


def test_measuring_is_charged_at_the_price_of_machine_and_device(ran):
    board = next(s for s in ran.history.successes(JobKind.PROFILE) if s.job.device == "board")
    assert board.end.cost_usd == pytest.approx(board.end.seconds * 5.0 / 3600, rel=1e-4)
    found = ran.history.stages["preflight"].summary["measure_s.board"]
    assert 0 < found < 60
    assert board.forecast_usd == pytest.approx(found * 5.0 / 3600, rel=0.01)


def test_the_trained_weights_are_what_the_device_gets(ran):
    home = ran.folder / "trials" / f"{model(ran).number:05d}"
    sent = {p.read_bytes() for p in ran.folder.parents[1].glob("sent-*")}
    assert (home / "model.onnx").read_bytes() in sent
    assert len(sent) == 2  # and the small one of the preflight


def test_the_exported_model_is_as_good_as_the_trained_one_and_has_a_card(ran):
    trial = model(ran)
    home = ran.folder / "trials" / f"{trial.number:05d}"
    assert trial.value("onnx_accuracy") == pytest.approx(trial.value("val_accuracy"), abs=0.012)
    onnxruntime.InferenceSession(home / "model.onnx")
    card = json.loads((home / "model_card.json").read_text())
    assert [f["kind"] for f in card["files"]] == ["onnx", "pt2"]
    assert set(card["devices"]) == {"local", "board"}
    page = (ran.folder / "report" / "index.html").read_text()
    assert f'href="../trials/{trial.number:05d}/model_card.md"' in page
    assert (ran.folder / "report" / f"../trials/{trial.number:05d}/model_card.md").is_file()
    assert "by the launcher &#39;local&#39; of its own" in page


def test_devices_that_do_not_work_end_the_run_before_money_is_spent(tmp_path):
    plain = settings(retries=0, commands=[[sys.executable, "-c", "print('hello')"]])
    lost = {"kind": "command", "name": "phone", "commands": [["adbx"]], "launcher": {"kind": "local"}}
    run = real.create(tmp_path / "runs", {**plain, "devices": [*plain["devices"], lost]})
    with real.session(run) as here, pytest.raises(SpecError) as caught:
        stages.preflight(here.engine)
    board, phone = str(caught.value).splitlines()
    assert "device 'board': command 1" in board
    assert "printed no measurement but 'hello" in board
    assert "'phone' needs the program 'adbx'" in phone
    assert not run.history.segments
