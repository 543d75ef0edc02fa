"""Exported models: they compute what the model computes, or they are refused in one line."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from tests.profilers.models import Attention, Branch, Chance, Pair, Spectrum, Sum, Svd, network
from ziggurat.errors import SpecError
from ziggurat.profilers.onnx_file import TOLERANCE, compare, difference, export_onnx
from ziggurat.profilers.quantize import quantize_int8
from ziggurat.profilers.runtime import open_session, run


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def outputs(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return copy.deepcopy(model).eval()(x).numpy()


def test_a_file_computes_what_the_model_does_in_evaluation_mode() -> None:
    model = network().train()
    file = export_onnx(model, torch.zeros(2, 1, 8, 8))
    x = noise(6, 1, 8, 8)
    np.testing.assert_allclose(run(file, x), outputs(model, x), rtol=1e-4, atol=1e-6)
    assert model.training


def test_any_number_of_examples_goes_through_a_file_of_one_batch_size() -> None:
    model = network()
    file = export_onnx(model, torch.zeros(4, 1, 8, 8))
    assert open_session(file).shapes == ((4, 1, 8, 8),)
    x = noise(9, 1, 8, 8)
    for count in (1, 4, 9):
        np.testing.assert_allclose(run(file, x[:count]), outputs(model, x[:count]), rtol=1e-4, atol=1e-6)


def test_a_model_may_have_several_inputs() -> None:
    a, b = noise(2, 3, seed=1), noise(2, 3, seed=2)
    file = export_onnx(Sum(), torch.zeros(2, 3), torch.zeros(2, 3))
    np.testing.assert_allclose(open_session(file)(a.numpy(), b.numpy()), (a + 2 * b).numpy(), rtol=1e-5)


@pytest.mark.parametrize("model", [Spectrum(), Attention()], ids=lambda m: type(m).__name__)
def test_what_one_exporter_cannot_do_the_other_may(model: nn.Module) -> None:
    x = noise(3, 1, 8, 8)
    np.testing.assert_allclose(
        run(export_onnx(model, torch.zeros(1, 1, 8, 8)), x), outputs(model, x), rtol=1e-3, atol=1e-4
    )
    assert torch.backends.mha.get_fastpath_enabled()


def test_files_tell_nothing_of_this_machine() -> None:
    for model in (Spectrum(), network()):
        assert b".py" not in export_onnx(model, torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Svd(), r"^operation aten::linalg_svd cannot be exported to ONNX; .*kind: torch"),
        (Chance(), r"^the exported file's outputs differ from the model's by .* kind: torch"),
        (Branch(), r"^the exported file's outputs differ from the model's by 3 of the largest, allowed"),
        (Pair(), r"^the model gives a tuple, but .* kind: torch"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    model: nn.Module, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    warnings.simplefilter("error")
    with pytest.raises(SpecError, match=text) as caught:
        export_onnx(model, torch.zeros(1, 1, 8, 8))
    assert len(str(caught.value).splitlines()) == 1
    assert tuple(capfd.readouterr()) == ("", "")


def test_an_export_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    warnings.simplefilter("error")  # pytest restores the filters after each test
    export_onnx(network(), torch.zeros(1, 1, 8, 8))
    export_onnx(Spectrum(), torch.zeros(1, 1, 8, 8))
    assert tuple(capfd.readouterr()) == ("", "")


def test_the_models_own_error_is_not_dressed_up_as_one_of_the_export() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        export_onnx(network(), torch.zeros(1, 2, 8, 8))


def test_a_file_of_another_model_disagrees() -> None:
    model, other = network(), network()
    with torch.no_grad():
        other[-1].bias[0] += 0.5
    x = (torch.zeros(2, 1, 8, 8),)
    file = export_onnx(other, *x, check=False)
    assert compare(other.eval(), file, x) < TOLERANCE
    with pytest.raises(SpecError, match="differ"):
        compare(model.eval(), file, x)


def test_a_difference_is_relative_to_the_largest_output() -> None:
    wanted = np.array([[10.0, -20.0]])
    assert difference(wanted, np.array([[10.1, -20.0]])) == pytest.approx(0.1 / 20)
    assert difference(wanted, np.array([[10.0, np.nan]])) == float("inf")
    assert difference(wanted, wanted[:, :1]) == float("inf")
    assert difference(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0.0
    assert difference(np.zeros(2), np.array([0.0, 0.5])) == 0.5


def test_eight_bits_are_smaller_and_close() -> None:
    model = network(32)
    file = export_onnx(model, torch.zeros(4, 1, 8, 8))
    x = noise(50, 1, 8, 8)
    small = quantize_int8(file, [x[:20], x[20:]])
    assert len(small) < 0.6 * len(file)
    exact, rounded = run(file, x), run(small, x)
    assert 0 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()


def test_ranges_come_from_the_examples_of_calibration() -> None:
    file = export_onnx(network(32), torch.zeros(4, 1, 8, 8))
    x = noise(40, 1, 8, 8)
    exact = run(file, x)
    fitting, narrow = (run(quantize_int8(file, [scale * x]), x) for scale in (1.0, 0.01))
    assert np.abs(fitting - exact).max() < 0.5 * np.abs(narrow - exact).max()


@pytest.mark.parametrize("calibration", [[], [torch.zeros(8, 1, 8, 8)], [np.empty((0, 1, 8, 8))]])
def test_nothing_and_zeros_are_no_examples_to_calibrate_on(calibration: list[object]) -> None:
    file = export_onnx(network(), torch.zeros(4, 1, 8, 8))
    with pytest.raises(SpecError, match="nothing but zeros; give real examples"):
        quantize_int8(file, calibration)


def test_fewer_examples_than_a_batch_are_repeated_for_calibration() -> None:
    file = export_onnx(network(), torch.zeros(4, 1, 8, 8))
    assert len(quantize_int8(file, [noise(3, 1, 8, 8)])) > 0


def test_what_is_no_onnx_file_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^ONNX Runtime cannot run the exported model .* kind: torch"):
        open_session(b"garbage")
