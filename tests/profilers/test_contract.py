"""What every kind of device does, found through the union of devices."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from tests.profilers.models import Svd, network
from ziggurat.domain import Candidate, Measurement
from ziggurat.errors import SpecError
from ziggurat.profilers import AnyDevice
from ziggurat.profilers.setting import DeviceSetting

READ: TypeAdapter[Any] = TypeAdapter(AnyDevice)
QUICK = {"name": "box", "max_seconds": 0.05, "repetitions": 20, "warmup": 2}
REPLY = "latency_p50_ms=2\nlatency_p90_ms=3\nlatency_p99_ms=4\npeak_memory_mb=1"
SETTINGS: dict[str, dict[str, Any]] = {
    "torch": {},
    "onnxruntime": {},
    "onnxruntime int8": {"precision": "int8"},
    "command": {"commands": [[sys.executable, "-c", f"print({REPLY!r})"]]},
}
"""Of each kind, settings that work on any machine."""
UNITS = {
    "latency_p50_ms": "ms",
    "latency_p90_ms": "ms",
    "latency_p99_ms": "ms",
    "latency_noise": "1",
    "cpu_share": "1",
    "peak_memory_mb": "MB",
    "file_size_mb": "MB",
    "energy_mj": "mJ",
}


def setting(which: str, **changes: object) -> DeviceSetting:
    return READ.validate_python({"kind": which.partition(" ")[0], **QUICK, **SETTINGS[which], **changes})


@pytest.fixture(params=SETTINGS)
def device(request: pytest.FixtureRequest) -> Any:  # noqa: ANN401 - any member of the union
    return setting(request.param)


def test_every_kind_is_tried_here() -> None:
    kinds = READ.json_schema()["discriminator"]["mapping"]
    assert {name.split()[0] for name in SETTINGS} == set(kinds)


def test_a_profile_has_latency_and_memory_with_their_units(device: Any) -> None:  # noqa: ANN401
    device.check()
    example = torch.zeros(1, 1, 8, 8)
    found = {m.metric: m for m in device.profile(network(), example, Candidate({"width": 8}))}
    assert {"latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "peak_memory_mb"} <= set(found)
    assert {n: m.unit for n, m in found.items()} == {n: UNITS[n] for n in found}
    p50, p90, p99 = (found[f"latency_p{p}_ms"].value for p in (50, 90, 99))
    assert 0 < p50 <= p90 <= p99
    assert found["peak_memory_mb"].value > 0
    assert {m.device for n, m in found.items() if n.startswith("latency")} == {"box"}
    assert isinstance(device.noisy(tuple(found.values())), bool)


def test_a_profile_leaves_the_model_as_it_was(device: Any) -> None:  # noqa: ANN401
    model = network().train()
    model[1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    device.profile(model, torch.zeros(1, 1, 8, 8))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_batch_may_be_larger_than_the_example(device: Any) -> None:  # noqa: ANN401
    wide = device.model_copy(update={"batch_size": 3})
    found = wide.profile(network(), torch.zeros(1, 1, 8, 8))
    assert found
    assert dict(wide.fingerprint())["batch_size"] == "3"


def test_a_fingerprint_is_plain_text_and_the_same_each_time(device: Any) -> None:  # noqa: ANN401
    found = dict(device.fingerprint())
    assert json.loads(json.dumps(found)) == found == dict(device.fingerprint())
    assert all(isinstance(v, str) and v for v in found.values())


def test_a_description_is_one_line(device: Any) -> None:  # noqa: ANN401
    text = device.describe()
    assert text
    assert "\n" not in text


def test_a_device_without_a_kind_is_torch() -> None:
    assert READ.validate_python({"threads": 2}).kind == "torch"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "tpu"},
        {"kind": "torch", "precision": "int8"},
        {"kind": "onnxruntime", "dtype": "float32"},
        {"kind": "onnxruntime", "precision": "int8", "provider": "cuda"},
        {"kind": "onnxruntime", "noise_limit": 0},
    ],
)
def test_settings_of_another_kind_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        READ.validate_python(wrong)


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "onnxruntime int8"])
def test_numbers_of_other_settings_have_another_fingerprint(name: str) -> None:
    first = dict(setting(name).fingerprint())
    assert first.items() >= {"threads": "1", "batch_size": "1"}.items()
    assert {"cpu", "cores", "architecture", "system", "library", "precision"} <= set(first)
    changes: tuple[dict[str, object], ...] = ({"threads": 2}, {"batch_size": 2})
    assert all(dict(setting(name, **c).fingerprint()) != first for c in changes)
    assert dict(setting(name, name="other", max_seconds=1.0).fingerprint()) == first


def test_kinds_and_precisions_have_different_fingerprints() -> None:
    found = [dict(setting(name).fingerprint()) for name in SETTINGS]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])


def test_quantised_files_are_smaller_and_counted() -> None:
    sizes = {}
    for name in ("onnxruntime", "onnxruntime int8"):
        one = setting(name)
        found = one.profile(network(32), torch.zeros(1, 1, 8, 8))
        sizes[name] = next(m.value for m in found if m.metric == "file_size_mb")
        assert sizes[name] == len(one.file(network(32), torch.zeros(1, 1, 8, 8))) / 1e6
    assert sizes["onnxruntime int8"] < 0.6 * sizes["onnxruntime"]


def test_memory_grows_with_the_weights() -> None:
    from ziggurat.profilers.onnx_file import export_onnx
    from ziggurat.profilers.onnx_profile import memory_bytes

    big = torch.nn.Linear(1000, 2000)
    small, large = (
        memory_bytes(export_onnx(m, torch.zeros(1, 1000))) for m in (torch.nn.Linear(1000, 10), big)
    )
    assert large - small > 0.8 * 4 * 1000 * 1990
    assert small < 10e6  # Python and the runtime are not in it


def test_latency_alone_has_neither_memory_nor_size() -> None:
    for name in ("torch", "onnxruntime"):
        found = {m.metric for m in setting(name).latency(network(), torch.zeros(1, 1, 8, 8))}
        assert "latency_p50_ms" in found
        assert not found & {"peak_memory_mb", "file_size_mb"}


def test_models_with_several_inputs_can_be_measured() -> None:
    from tests.profilers.models import Sum

    for name in ("torch", "onnxruntime", "onnxruntime int8"):
        example = (torch.zeros(1, 4), torch.zeros(1, 4))
        assert setting(name, batch_size=2).latency(Sum(), example)[0].value > 0


def test_an_operation_that_cannot_be_exported_can_be_measured_by_torch() -> None:
    with pytest.raises(SpecError, match=r"operation aten::linalg_svd .* kind: torch"):
        setting("onnxruntime").profile(Svd(), torch.zeros(1, 1, 8, 8))
    assert setting("torch").profile(Svd(), torch.zeros(1, 1, 8, 8))


def test_an_absent_provider_is_refused_in_one_line() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine's runtime has CUDA")
    with pytest.raises(
        SpecError, match=r"'box' asks for provider 'cuda', but ONNX Runtime here offers .*CPU"
    ):
        setting("onnxruntime", provider="cuda").check()


def test_a_missing_library_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SpecError, match=r"needs onnxruntime, .* pip install onnxruntime, or use kind: torch"):
        setting("onnxruntime").check()


def test_settings_import_none_of_the_libraries() -> None:
    names = ("torch", "onnx", "onnxruntime", "pynvml")
    code = f"import sys, ziggurat.profilers; print([n for n in {names} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_verdict_of_measurements_made_here_is_a_sentence() -> None:
    from ziggurat.profilers.sampling import verdict

    one = setting("onnxruntime")
    found: tuple[Measurement, ...] = one.latency(network(), torch.zeros(1, 1, 8, 8))
    assert "p50 is" in verdict(found, one)
