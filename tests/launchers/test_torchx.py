"""Settings of the TorchX launcher, and the exact requests of all its schedulers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real import plain
from ziggurat import spec
from ziggurat.errors import SpecError
from ziggurat.launchers import TorchX
from ziggurat.launchers.scheduler import Request, Resources

GOLDEN = Path(__file__).parent / "golden"
SECRET = "a-secret-value"
SETTINGS: dict[str, dict[str, Any]] = {
    "local_cwd": {"settings": {"prepend_cwd": True}},
    "local_docker": {
        "image": "registry.example/ziggurat:1",
        "mounts": ["type=volume,src=data,dst=/data,readonly"],
    },
    "slurm": {
        "settings": {
            "partition": "gpu",
            "account": "vision",
            "qos": "normal",
            "time": "1:30:00",
            "constraint": "a100",
        }
    },
    "kubernetes": {
        "image": "registry.example/ziggurat:1",
        "mounts": ["type=volume,src=claim,dst=/data"],
        "settings": {"queue": "research", "namespace": "nas", "service_account": "trainer"},
        "pod": {
            "spec": {
                "nodeSelector": {"pool": "spot"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            }
        },
    },
}


def setting_of(backend: str, **changes: Any) -> TorchX:
    return TorchX.model_validate({"kind": "torchx", "scheduler": backend, **SETTINGS[backend], **changes})


def launcher_error(**launcher: Any) -> str:
    """The one line with which a spec of this launcher is refused."""
    with pytest.raises(SpecError) as caught:
        spec.parse(plain(launcher={"kind": "torchx", **launcher}), "test")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("backend", sorted(SETTINGS))
def test_a_dry_run_is_the_exact_request_without_secrets(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 1000)
    monkeypatch.chdir("/")
    monkeypatch.setenv("PATH", "/nowhere")  # so that nothing can be reached for
    monkeypatch.setattr("torchx.schedulers.slurm_scheduler.version", lambda: (24, 11))
    setting = setting_of(backend)
    request = Request(
        name="zig-digits-20260101-00007-train-0-1-2-0123456789abcdef",
        command=(
            "/opt/venv/bin/python",
            "-m",
            "ziggurat.once",
            "/data/it's/$HOME/${app_id}/run",
            "00007-train-0",
        ),
        resources=Resources(cpus=4, memory_mb=8000, gpus=2),
        time_limit_s=5000.0,
        grace_s=30.0,
        environment={
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "DATABASE": f"postgresql://u:{SECRET}@h/d",
            "OMP_NUM_THREADS": "4",
        },
        folder=Path("/data/run/logs"),
    )
    text = setting.scheduler(Path("/data/run")).plan(request)
    assert SECRET not in text
    golden = GOLDEN / f"{backend}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", sorted(SETTINGS))
def test_two_dry_runs_are_equal(backend: str) -> None:
    scheduler = setting_of(backend).scheduler(Path("/data/run"))
    request = Request("zig-a", ("python", "-m", "x"), Resources(), 60.0, 5.0)
    assert scheduler.plan(request) == scheduler.plan(request)


def test_a_word_that_looks_like_a_macro_stays_as_it_is() -> None:
    for backend in ("local_cwd", "local_docker", "kubernetes"):
        scheduler = setting_of(backend).scheduler(Path("/data/run"))
        request = Request("zig-a", ("python", "${app_id} $$ $HOME"), Resources(), 60.0, 5.0)
        assert "${app_id} $$ $HOME" in scheduler.plan(request)


def test_kubernetes_expands_no_variables_in_our_words() -> None:
    request = Request("zig-a", ("python", "$(HOME)"), Resources(), 60.0, 5.0, {"A": "$(B)"})
    text = setting_of("kubernetes").scheduler(Path("/data/run")).plan(request)
    assert text.count("$$(") == 2


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ({"scheduler": "slrum"}, "local_cwd"),
        ({}, "scheduler: missing"),
        ({"scheduler": "slurm", "settings": {"partitoin": "x"}}, "did you mean partition"),
        ({"scheduler": "slurm", "settings": {"queue": "x"}}, "queue is unknown to slurm; known: "),
        ({"scheduler": "slurm", "settings": {"time": 5400}}, "put it in quotes"),
        ({"scheduler": "slurm", "settings": {"job_dir": "/x"}}, "logs are kept in the run directory"),
        (
            {"scheduler": "slurm", "mounts": ["type=bind,src=/a,dst=/b"]},
            "has no mounts; remove launcher.mounts",
        ),
        ({"scheduler": "slurm", "pod": {"spec": {}}}, "has no pods"),
        ({"scheduler": "local_docker"}, "give launcher.image"),
        (
            {"scheduler": "local_docker", "image": "i", "settings": {"privileged": "yes"}},
            "must be true or false",
        ),
        ({"scheduler": "local_docker", "image": "i", "mounts": ["src=/a"]}, "'src=/a' cannot be read"),
        ({"scheduler": "local_cwd", "image": "i"}, "runs no containers"),
        ({"scheduler": "kubernetes", "image": "i"}, "queue is missing"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(launcher: dict[str, Any], words: str) -> None:
    assert words in launcher_error(**launcher)


def test_numbers_are_taken_where_names_are_meant() -> None:
    assert setting_of("slurm", settings={"account": 1234}).options()["account"] == "1234"


def test_a_spec_with_this_launcher_is_read() -> None:
    parsed = spec.parse(
        plain(launcher={"kind": "torchx", "scheduler": "slurm", "settings": {"partition": "p"}}), "test"
    )
    assert isinstance(parsed.launcher, TorchX)
    assert parsed.launcher.backend == "slurm"
    assert parsed.launcher.model_dump(by_alias=True)["scheduler"] == "slurm"


def test_only_kubernetes_without_mounts_cannot_see_the_run_directory() -> None:
    assert not any(setting_of(b).needs_store for b in SETTINGS)
    assert setting_of("kubernetes", mounts=[]).needs_store


def test_specs_are_read_without_importing_torchx() -> None:
    found = "any(m.split('.')[0] in {'torchx', 'docker'} for m in sys.modules)"
    program = f"import sys, ziggurat.spec; sys.exit({found})"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_machine_without_the_scheduler_is_told_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    monkeypatch.setenv("HOME", str(tmp_path))
    cures = {
        "slurm": "`sinfo` is not on the PATH; start the controller where",
        "local_docker": "Docker does not answer .*; start its service",
        "kubernetes": "Kubernetes is not set up on this machine .*; set KUBECONFIG",
    }
    for backend, words in cures.items():
        with pytest.raises(SpecError, match=words) as caught:
            setting_of(backend).scheduler(tmp_path).check()
        assert "\n" not in str(caught.value)
