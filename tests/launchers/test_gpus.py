"""GPUs of local workers: which one gets which, and what is said where there are too few."""

import os
import re
import signal
import sys
from types import SimpleNamespace

import pytest

from tests.real import begun, create, ended, plain, pool_in, session, train, until, use_models
from ziggurat.domain import JobKind
from ziggurat.errors import SpecError
from ziggurat.launchers import gpus
from ziggurat.stages import places


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("0,1", ["0", "1"]),
        (" 3 , GPU-1a2b ", ["3", "GPU-1a2b"]),
        ("2,-1,3", ["2"]),
        ("MIG-7f", ["MIG-7f"]),
        ("", []),
        ("-1", []),
    ],
)
def test_the_variable_names_the_gpus_as_cuda_reads_it(given, names):
    assert gpus.visible({gpus.VARIABLE: given}) == names


def test_without_the_variable_the_driver_is_asked(monkeypatch):
    ended = []
    driver = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 3,
        nvmlShutdown=lambda: ended.append(1),
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    assert gpus.visible({}) == ["0", "1", "2"]
    assert ended == [1]

    def missing():
        raise RuntimeError("no driver")

    driver.nvmlInit = missing
    assert gpus.visible({}) == []


@pytest.mark.parametrize(
    ("workers", "each", "share", "expected"),
    [
        (2, 0, False, []),
        (0, 1, False, []),
        (2, 1, False, ["5", "6"]),
        (1, 3, False, ["5,6,7"]),
        (4, 1, True, ["5", "6", "7", "5"]),
        (2, 2, True, ["5,6", "7,5"]),
    ],
)
def test_workers_get_gpus_of_their_own_in_turn(workers, each, share, expected):
    assert gpus.shares(workers, each, share=share, environment={gpus.VARIABLE: "5,6,7"}) == expected


def test_too_few_gpus_are_named_with_the_cure():
    few = {gpus.VARIABLE: "0,1,2"}
    with pytest.raises(SpecError, match=r"gpus is 1 for each of 4 workers, but 3 GPUs.*to 3, or set .*share"):
        gpus.shares(4, 1, share=False, environment=few)
    with pytest.raises(
        SpecError, match=r"gpus is 4, but 3 GPUs are visible \(CUDA_VISIBLE_DEVICES is '0,1,2'\)"
    ):
        gpus.shares(1, 4, share=True, environment=few)


TELLS = """
import os
def build(choices):
    raise ValueError("sees " + os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
def shuffled():
    raise ValueError("not asked for")
"""


@pytest.mark.slow
def test_each_worker_sees_its_own_gpu_and_so_does_the_one_in_its_place(tmp_path, monkeypatch):
    use_models(tmp_path, monkeypatch)
    (tmp_path / "user_models.py").write_text(TELLS)
    monkeypatch.setenv(gpus.VARIABLE, "4,9")
    pool = pool_in(tmp_path / "run", 2, resources={"gpus": 1})

    def seen(number: int) -> list[str]:
        until(lambda: pool.free(JobKind.TRAIN) == 2, lambda: pool.wait(0.1))
        jobs = [train(f"0000{number + i}") for i in range(2)]
        for job in jobs:
            begun(pool, job)
        return sorted(re.findall(r"sees \S+", ended(pool, job.key)[0].failure.text)[0] for job in jobs)

    try:
        assert seen(0) == ["sees 4", "sees 9"]
        os.kill(pool.workers[1].pid, signal.SIGKILL)
        until(lambda: pool.free(JobKind.TRAIN) == 1, lambda: pool.wait(0.1))
        assert seen(2) == ["sees 4", "sees 9"]
    finally:
        pool.close()


@pytest.mark.slow
def test_preflight_says_in_one_line_that_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv(gpus.VARIABLE, "")
    run = create(tmp_path, plain(launcher={"kind": "local", "resources": {"gpus": 1}}))
    said = places.launchers(run.spec)
    assert [(c.ok, c.text.partition(" (")[0]) for c in said] == [
        (False, "launcher.resources.gpus is 1, but 0 GPUs are visible")
    ]
    try:
        with pytest.raises(SpecError, match="0 GPUs are visible"), session(run):
            pass
    finally:
        run.close()
