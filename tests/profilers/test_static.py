"""Parameters, FLOPs and size of models whose numbers can be worked out by hand."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ziggurat.profilers.static import _warn_once, count_flops, static_metrics


def by_name(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> dict[str, float]:
    return {m.metric: m.value for m in static_metrics(build, shape)}


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3, bias=False))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5)
    )


def test_a_perceptron_counts_two_operations_for_each_weight() -> None:
    found = by_name(perceptron, (6,))
    assert found["parameters"] == 6 * 4 + 4 + 2 * 4 + 4 * 3
    assert found["flops"] == 2 * (6 * 4 + 4 * 3)
    assert found["model_size_mb"] == pytest.approx((4 * (48 + 2 * 4) + 8) / 1e6)  # and the running statistics


def test_a_convolution_counts_its_kernel_at_every_place() -> None:
    assert by_name(network, (2, 6, 6))["flops"] == 2 * (4 * 4 * 3 * 2 * 9 + 12 * 5)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0][:, -1]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.mark.parametrize(
    ("build", "flops"),
    [
        (Recurrent, 2 * 5 * 4 * 16 * (8 + 16)),
        (Attention, 2 * 5 * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 2 * 2 * 2 * 5 * 5 * 4),
    ],
)
def test_fused_kernels_hide_no_work_on_either_device(build: Callable[[], nn.Module], flops: int) -> None:
    assert by_name(build, (5, 8))["flops"] == flops
    assert count_flops(build(), torch.zeros(1, 5, 8)) == (flops, [])
    assert torch.backends.mha.get_fastpath_enabled()


class NeedsNumbers(nn.Module):
    """Cannot run on the meta device: it looks at a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if float(x.sum()) <= 0 else x


def test_a_model_that_needs_numbers_is_counted_on_the_cpu() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert by_name(NeedsNumbers, (6,))["flops"] == 2 * 6 * 2
    assert torch.equal(torch.rand(1), expected)


def test_a_model_that_fails_anywhere_raises_its_own_error() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        static_metrics(perceptron, (7,))


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cdist(x, x).sum() + torch.fft.rfft(x).abs().sum()


def test_work_that_is_not_counted_is_named() -> None:
    assert count_flops(Odd(), torch.zeros(1, 5, 8)) == (0, ["aten._cdist_forward", "aten._fft_r2c"])


def test_each_uncounted_operation_is_warned_of_once() -> None:
    _warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        static_metrics(Odd, (5, 8))
        static_metrics(Odd, (5, 8))
    named = [str(c.message).split()[4] for c in caught]
    assert named == ["aten._cdist_forward,", "aten._fft_r2c,"]


@torch.library.custom_op("ziggurat_test::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x @ x


class Custom(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return twice(x)


def test_an_operation_of_the_user_is_named() -> None:
    assert count_flops(Custom(), torch.zeros(4, 4))[1] == ["ziggurat_test.twice"]


class Light(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        x = nn.functional.gelu(nn.functional.layer_norm(x, x.shape[1:])) * 2 + x.softmax(1)
        return nn.functional.avg_pool2d(torch.cat([x, x.flip(2)]), 2).mean((2, 3)).cumsum(0)


def test_light_work_needs_no_warning() -> None:
    assert count_flops(Light(), torch.zeros(1, 2, 4, 4)) == (0, [])


def test_counting_restores_the_mode_of_every_module() -> None:
    model = perceptron().train()
    model[1].eval()
    count_flops(model, torch.zeros(1, 6))
    assert [m.training for m in model] == [True, False, True, True]
