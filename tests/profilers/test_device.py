"""Latency and memory on this machine."""

import gc
import shutil
import time

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ziggurat.domain import Measurement
from ziggurat.errors import SpecError
from ziggurat.profilers import TorchDevice
from ziggurat.profilers.memory import peak_bytes


class Counting(nn.Module):
    """Counts its runs and keeps what the last one was like."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 6))
        self.seconds = seconds

    runs = 0
    seen: tuple[object, ...] = ()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Counting.runs += 1
        Counting.seen = (
            tuple(x.shape),
            x.dtype,
            self.training,
            torch.get_num_threads(),
            torch.is_grad_enabled(),
        )
        until = time.perf_counter() + self.seconds
        while time.perf_counter() < until:
            pass
        return x @ self.weight


@pytest.fixture(autouse=True)
def fresh() -> None:
    Counting.runs, Counting.seen = 0, ()


def by_name(found: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {m.metric: m for m in found}


def test_a_profile_has_all_metrics_with_unit_device_and_samples() -> None:
    setting = TorchDevice(name="laptop", repetitions=30, max_seconds=0.1)
    found = by_name(setting.profile(Counting(), torch.zeros(1, 6)))
    assert {n: m.unit for n, m in found.items() if n != "energy_mj"} == {
        "latency_p50_ms": "ms",
        "latency_p90_ms": "ms",
        "latency_p99_ms": "ms",
        "latency_noise": "1",
        "cpu_share": "1",
        "peak_memory_mb": "MB",
    }
    assert {m.device for m in found.values()} == {"laptop"}
    p50, p90, p99 = (found[f"latency_p{p}_ms"] for p in (50, 90, 99))
    assert 0 < p50.value <= p90.value <= p99.value
    assert (p50.samples or 0) >= 30
    assert 0 < found["cpu_share"].value <= 1
    assert p50.spread is not None


def test_runs_are_in_evaluation_mode_with_the_asked_batch_type_and_threads() -> None:
    model, threads = Counting().train(), torch.get_num_threads()
    setting = TorchDevice(batch_size=3, threads=2, dtype="bfloat16", warmup=5, max_seconds=0.1)
    found = by_name(setting.latency(model, torch.zeros(1, 6)))
    assert Counting.seen == ((3, 6), torch.bfloat16, False, 2, False)
    assert Counting.runs == 5 + (found["latency_p50_ms"].samples or 0)
    assert (model.training, model.weight.dtype) == (True, torch.float32)
    assert torch.get_num_threads() == threads
    assert gc.isenabled()


def test_images_keep_their_shape_in_a_measured_batch() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), Counting())
    net[2].weight = nn.Parameter(torch.zeros(2 * 4 * 4, 1))
    TorchDevice(batch_size=5, max_seconds=0.1).profile(net, torch.zeros(1, 1, 6, 6))
    assert Counting.seen[0] == (5, 32)


def test_a_slow_model_still_gives_twenty_samples_and_no_more() -> None:
    found = by_name(TorchDevice(max_seconds=0.02, warmup=1000).profile(Counting(0.004), torch.zeros(1, 6)))
    assert found["latency_p50_ms"].samples == 20
    assert found["latency_p50_ms"].value >= 4
    assert Counting.runs < 40


def test_memory_is_the_weights_and_the_most_that_is_alive_at_once() -> None:
    model = nn.Sequential(nn.Linear(10, 100, bias=False), nn.ReLU(), nn.Linear(100, 5, bias=False))
    weights, batch = 4 * (1000 + 500), 4 * 2 * 10
    hidden = 4 * 2 * 100
    assert peak_bytes(model, torch.zeros(2, 10)) == weights + batch + 2 * hidden  # before and after the ReLU


def test_memory_of_a_deep_model_does_not_add_up_over_its_layers() -> None:
    def deep(layers: int) -> int:
        return peak_bytes(nn.Sequential(*[nn.ReLU() for _ in range(layers)]), torch.zeros(1, 1000))

    assert deep(2) == deep(20) == 3 * 4000


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_an_absent_gpu_is_refused_in_one_line() -> None:
    with pytest.raises(SpecError, match=r"'edge' asks for device 'cuda:1', but torch sees 0 CUDA devices"):
        TorchDevice(name="edge", device="cuda:1").check()
    with pytest.raises(SpecError):
        TorchDevice(device="cuda").profile(Counting(), torch.zeros(1, 6))


def test_the_cpu_is_always_there() -> None:
    TorchDevice().check()


def test_what_worked_before_kinds_still_does() -> None:
    plain = {"kind": "torch", "device": "cpu", "threads": 2, "dtype": "bfloat16", "usd_per_hour": 1.5}
    setting = TorchDevice.model_validate(plain)
    assert setting.model_dump(include=set(plain)) == plain
    assert setting.describe().startswith("torch eager on cpu, bfloat16, 2 threads, batch of 1, ")


def test_a_missing_compiler_is_refused_in_one_line() -> None:
    from torch._inductor import config

    words = r"no C\+\+ compiler is here .*no-such-compiler.*use compile: false"
    with config.patch("cpp.cxx", (None, "no-such-compiler")), pytest.raises(SpecError, match=words):
        TorchDevice(compile=True).check()
    with config.patch("cpp.cxx", (None, "no-such-compiler")):
        TorchDevice().check()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
def test_a_compiled_model_is_measured_and_nothing_stays_compiled() -> None:
    setting = TorchDevice(compile=True, max_seconds=0.1)
    found = by_name(setting.profile(nn.Sequential(nn.Linear(6, 6), nn.ReLU()), torch.zeros(1, 6)))
    assert found["latency_p50_ms"].value > 0
    assert setting.describe().startswith("torch compiled on cpu")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("false") is None, reason="no program that always fails")
def test_what_cannot_be_compiled_is_refused_in_one_line() -> None:
    from torch._inductor import config

    model = nn.Sequential(nn.Linear(6, 13), nn.ReLU(), nn.Linear(13, 7))
    setting = TorchDevice(compile=True, max_seconds=0.1)
    broken = config.patch({"cpp.cxx": (None, "false"), "force_disable_caches": True})
    with (
        broken,
        pytest.raises(SpecError, match=r"torch.compile fails on the model .*; use compile: false or"),
    ):
        setting.profile(model, torch.zeros(1, 6))


@pytest.mark.parametrize(
    "wrong", [{"device": "gpu"}, {"dtype": "int8"}, {"usd_per_hour": -1}, {"repetitions": 3}, {"name": ""}]
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TorchDevice.model_validate(wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_is_measured_by_events(dtype: str) -> None:
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    setting = TorchDevice.model_validate({"device": "cuda", "dtype": dtype, "batch_size": 8})
    found = by_name(setting.profile(model, torch.zeros(1, 512)))
    assert 0 < found["latency_p50_ms"].value < 50
    size = {"float32": 4}.get(dtype, 2)
    assert found["peak_memory_mb"].value >= size * (512 * 512 + 512 * 10 + 8 * 512) / 1e6
    assert next(model.parameters()).device.type == "cpu"
