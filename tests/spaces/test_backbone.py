"""The last mile on small networks of a user's: weights, frozen blocks, channels, bits and what is shipped."""

import copy
import importlib
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from ziggurat.choices import from_unit, sample
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.exports import export
from ziggurat.profilers.onnx_file import compare, export_onnx
from ziggurat.profilers.static import static_metrics
from ziggurat.protocols import Data, Signature
from ziggurat.spaces import Backbone
from ziggurat.spaces.lastmile import LastMile
from ziggurat.spaces.pruning import kept
from ziggurat.spaces.quantised import Quantised, Rounding
from ziggurat.spaces.rounding import calibrate, quantise, trace

MODULE = """
from torch import nn


class Block(nn.Module):
    def __init__(self, before, after, stride=1, kernel=3):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.norm1, self.act1 = nn.BatchNorm2d(after), nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2, self.act2 = nn.BatchNorm2d(after), nn.ReLU()
        self.short = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else nn.Identity()

    def forward(self, x):
        y = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        return self.act2(y + self.short(x))


class Net(nn.Module):
    def __init__(self, classes, kernel=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.early = Block(8, 8)
        self.wide = nn.Sequential(
            nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.BatchNorm2d(16), nn.ReLU6(),
            nn.Conv2d(16, 12, 1), nn.BatchNorm2d(12),
        )
        self.late = Block(12, 16, 2, kernel)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        x = self.late(self.wide(self.early(self.stem(x))))
        return self.head(self.drop(x.mean((2, 3))))


def network(signature):
    return Net(signature.classes)


def searched(choices, signature):
    return Net(signature.classes, choices["kernel"])


def fixed(width=7):
    assert width == 7
    return Net(7)


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=2)
        self.unused, self.head = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.head(self.two(self.one(x))).mean((2, 3))


def grouped():
    return Grouped()


class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8 * 36, 4)

    def forward(self, x):
        return self.head(self.conv(x).view(len(x), 8 * 36))


def rigid():
    return Fixed()


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * 2


def own():
    return nn.Sequential(Own(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))


def seven():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU())


def numberless():
    return nn.Flatten()


def two_needed(depth, width):
    return nn.Flatten()


def three_needed(depth, width, more):
    return nn.Flatten()


def raising():
    raise KeyError("width")


def nothing():
    return 3
"""
SIGNATURE = Signature((1, 8, 8), 4)
HYPER = {"learning_rate": [0.01]}
BITS = {"layers": ["stem", "early", "wide", "late", "head"], "bits": [32, 8, 4]}


@pytest.fixture
def home(tmp_path, monkeypatch):
    name = f"backbone_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


@pytest.fixture
def make(home, tmp_path):
    """A space of a function, with the weights of a seed in a file unless weights are given."""

    def made(function="network", **more):
        if "weights" not in more and more.get("transfer", True):
            torch.manual_seed(3)
            net = home.Net(4)
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, -1.5, 1.5)
                    nn.init.normal_(module.running_mean)
                    nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.save(net.state_dict(), tmp_path / "net.pt")
            more["weights"] = "net.pt"
        if not {"prune", "quantise", "unfrozen", "choices"} & set(more):
            more["unfrozen"] = [1, 2]
        return Backbone.model_validate(
            {"function": f"{home.__name__}:{function}", "hyperparameters": HYPER, **more}
        )

    return made


def build(space, seed=0, **choices):
    torch.manual_seed(seed)
    lowest = from_unit(space.choices(), [0.0] * len(space.choices()))
    return space.build(Candidate({**lowest.choices, **choices}), SIGNATURE)


def bits(count, **some):
    return {f"bits_{i}": count for i in range(1, 6)} | some


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- weights


def test_weights_are_those_of_the_file_whatever_the_seed(make):
    space = make()
    saved = torch.load("net.pt", weights_only=True)
    for seed in (0, 1):
        state = build(space, seed).network.state_dict()
        assert all(torch.equal(state[n], t) for n, t in saved.items())


def test_from_scratch_is_one_switch(make):
    space = make(
        transfer=False, weights="net.pt", unfrozen=[1], prune={"layers": ["early"], "ratio": [0, 0.5]}
    )
    first, second = build(space, 0), build(space, 1)
    assert not torch.equal(first.network.head.weight, second.network.head.weight)
    assert all(p.requires_grad for p in first.parameters())
    assert "unfrozen" not in space.choices()
    assert "prune_1" in space.choices()


def test_transfer_needs_a_file(make):
    with pytest.raises(
        ValidationError, match="transfer is true, but weights names no file; name one, or set"
    ):
        make(weights=None)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"state_dict": {f"model.{n}": t for n, t in s.items()} | {"other": torch.zeros(1)}},
        lambda s: {
            "state_dict": {f"model.network.{n}": torch.zeros_like(t) for n, t in s.items()}
            | {f"ema.module.network.{n}": t for n, t in s.items()}
        },
    ],
    ids=["state dict", "checkpoint", "prefix", "averaged"],
)
def test_checkpoints_of_usual_forms_are_read(make, wrap):
    make()
    saved = torch.load("net.pt", weights_only=True)
    torch.save(wrap(saved), "wrapped.pt")
    model = build(make(weights="wrapped.pt"))
    assert torch.equal(model.network.early.conv1.weight, saved["early.conv1.weight"])


def test_changed_file_is_read_again(make):
    space = make()
    build(space)
    state = {n: torch.zeros_like(t) for n, t in torch.load("net.pt", weights_only=True).items()}
    torch.save({"state_dict": state}, "net.pt")
    assert not build(space).network.head.weight.any()


def test_classifier_of_other_classes_is_replaced_and_said(make, home):
    torch.save(home.Net(7).state_dict(), "seven.pt")
    for function in ("network", "fixed"):
        space = make(function, weights="seven.pt")
        space.check(SIGNATURE)
        model = build(space)
        assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
        saved = torch.load("seven.pt", weights_only=True)
        assert torch.equal(model.network.early.conv1.weight, saved["early.conv1.weight"])
    assert "the classifier 'head' gave 7 numbers and is replaced by one for 4 classes" in space.notes(
        SIGNATURE
    )
    assert "2 begin afresh, such as head.weight" in make(weights="seven.pt").notes(SIGNATURE)[0]


def test_last_blocks_can_be_searched_by_the_functions_own_choices(make):
    space = make("searched", choices={"kernel": [3, 5]}, unfrozen=[2, 5])
    space.check(SIGNATURE)
    model = build(space, kernel=5)
    saved = torch.load("net.pt", weights_only=True)
    assert model.network.late.conv1.kernel_size == (5, 5)
    assert torch.equal(model.network.early.conv1.weight, saved["early.conv1.weight"])
    assert torch.equal(model.network.late.conv2.weight, saved["late.conv2.weight"])
    with pytest.raises(SpecError) as error:
        make("searched", choices={"kernel": [5]}, unfrozen=[1]).check(SIGNATURE)
    assert "freezes 'late.conv1.weight', but the file has no weights for that" in one_line(error)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"a": torch.zeros(1)}, "and none fits the network"),
        (
            lambda s: {n: t for n, t in s.items() if not n.startswith("late.conv2")},
            "lacks 'late.conv2.weight'",
        ),
        (
            lambda s: {**s, "early.conv1.weight": torch.zeros(2, 2)},
            "'early.conv1.weight' has shape (2, 2), but",
        ),
        (lambda s: {**s, "more.weight": torch.zeros(2)}, "has 'more.weight', which the network has not"),
        (lambda s: [1, 2], "holds a list, not a state dict"),
        (lambda s: {"epoch": 3}, "holds no tensors by name"),
    ],
)
def test_file_that_does_not_fit_gives_one_line(make, change, words):
    space = make()
    torch.save(change(torch.load("net.pt", weights_only=True)), "net.pt")
    with pytest.raises(SpecError) as error:
        space.check(SIGNATURE)
    assert words in one_line(error)
    assert "space.weights" in str(error.value)
    assert "net.pt" in str(error.value)


def test_missing_unreadable_and_dangerous_files_give_one_line(make, tmp_path):
    with pytest.raises(SpecError, match=r"absent.pt cannot be read .* looked for in"):
        make(weights="absent.pt").check(SIGNATURE)
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(print))
    for name in ("torn.pt", "evil.pt"):
        with pytest.raises(SpecError, match=r"no file of weights that can be read safely") as error:
            make(weights=name).check(SIGNATURE)
        one_line(error)


# ---------------------------------------------------------------- frozen blocks


def test_only_the_last_blocks_learn_and_frozen_norms_stay_as_they_are(make):
    model = build(make(unfrozen=[2, 4]), unfrozen=2)
    trained = {n for n, p in model.network.named_parameters() if p.requires_grad}
    assert {n.split(".")[0] for n in trained} == {"late", "head"}
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    model.eval()
    model.train()
    for _ in range(2):
        model(torch.randn(6, 1, 8, 8)).square().sum().backward()
        optimizer.step()
    after = model.state_dict()
    changed = {n for n in after if not torch.equal(before[n], after[n])}
    assert {n.split(".")[1] for n in changed} == {"late", "head"}
    assert "network.late.norm1.running_mean" in changed
    assert model.network.late.training
    assert not model.network.early.norm1.training
    assert not copy.deepcopy(model).train().network.early.norm1.training


def test_all_blocks_unfrozen_is_an_ordinary_network(make):
    model = build(make(unfrozen=[5])).train()
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_blocks_can_be_named(make):
    space = make(unfrozen=[1], blocks=["stem", "late.conv2", "head"])
    model = build(space.model_copy(update={"blocks": ["stem", "head", "late.conv2"]}))
    assert {n for n, p in model.network.named_parameters() if p.requires_grad} == {"late.conv2.weight"}
    assert not model.train().network.late.norm2.training
    assert model.network.late.training


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"blocks": ["stem", "heat"]}, "space.blocks: the network has no 'heat'; did you mean head"),
        ({"blocks": ["late", "late.conv1"]}, "'late' and 'late.conv1' overlap"),
        ({"blocks": ["drop", "head"]}, "'drop' has nothing to train"),
        (
            {"unfrozen": [6]},
            "unfrozen can be 6, but the network has 5 blocks (stem, early, wide, late, head)",
        ),
    ],
)
def test_impossible_blocks_give_one_line(make, given, words):
    with pytest.raises(SpecError) as error:
        make(**{"unfrozen": [1], **given}).check(SIGNATURE)
    assert words in one_line(error)


# ---------------------------------------------------------------- channels


@pytest.mark.parametrize(
    ("channels", "ratio", "round_to", "stay"),
    [
        (16, 0.25, 1, 12),
        (16, 0.3, 1, 12),
        (10, 0.3, 1, 7),
        (16, 0.3, 8, 16),
        (16, 0.5, 8, 8),
        (3, 0.99, 1, 1),
    ],
)
def test_channels_that_stay_are_as_counted_by_hand(channels, ratio, round_to, stay):
    assert kept(channels, ratio, round_to) == stay


def test_channels_of_the_smallest_weights_go(make):
    space = make(prune={"layers": ["late.conv1"], "ratio": [0, 0.25], "importance": "l1"})
    weight = torch.load("net.pt", weights_only=True)["late.conv1.weight"]
    best = weight.abs().flatten(1).sum(1).argsort()[4:].sort().values
    model = build(space, prune_1=0.25).network
    assert torch.equal(model.late.conv1.weight, weight[best])
    assert model.late.norm1.num_features == model.late.conv2.in_channels == 12


def test_pruning_nothing_changes_nothing(make):
    space = make(prune={"layers": ["late.conv1", "wide"], "ratio": [0, 0.25]})
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(build(space).eval()(x), build(make(unfrozen=[5])).eval()(x))


def test_layers_whose_outputs_are_added_lose_the_same_channels(make):
    model = build(make(prune={"layers": ["stem.0"], "ratio": [0.5]})).network
    assert model.stem[0].out_channels == model.early.conv2.out_channels == model.wide[0].in_channels == 4
    assert model.early.conv1.out_channels == 8
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 4)


def test_depthwise_convolutions_follow(make):
    model = build(make(prune={"layers": ["wide.0"], "ratio": [0.5]})).network
    assert (model.wide[0].out_channels, model.wide[3].groups, model.wide[6].in_channels) == (8, 8, 8)
    assert model.wide[6].out_channels == 12


def test_block_loses_what_it_shares_with_nobody(make):
    model = build(make(prune={"layers": ["early", "late"], "ratio": [0.5]})).network
    assert (model.early.conv1.out_channels, model.early.conv2.out_channels) == (4, 8)
    assert (model.late.conv1.out_channels, model.late.conv2.out_channels, model.late.short.out_channels) == (
        8,
    ) * 3
    assert model.head.in_features == 8


def test_last_convolutions_are_meant_in_order_without_the_classifier(make):
    space = make("grouped", transfer=False, prune={"layers": "last 2 convs", "ratio": [0.5]})
    assert [n for n in space.choices() if n.startswith("prune")] == ["prune_1", "prune_2"]
    space = make(prune={"layers": "last 2 convs", "ratio": [0.25]})
    with pytest.raises(SpecError, match=r"'late\.conv2' and 'late\.short' share their channels"):
        space.check(SIGNATURE)


def test_order_of_layers_does_not_matter(make):
    choices = {"ratio": [0, 0.5]}
    one = build(
        make(prune={"layers": ["stem.0", "early.conv1", "wide.0"], **choices}), prune_1=0.5, prune_3=0.5
    )
    two = build(
        make(prune={"layers": ["wide.0", "early.conv1", "stem.0"], **choices}), prune_1=0.5, prune_3=0.5
    )
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]), name


def test_untrained_weights_are_pruned_too(make):
    space = make(transfer=False, prune={"layers": ["late"], "ratio": [0.5]})
    space.check(SIGNATURE)
    assert build(space).network.head.in_features == 8


@pytest.mark.parametrize(
    ("function", "layers", "words"),
    [
        ("network", ["head"], "'head' is the classifier"),
        ("network", ["eraly"], "the network has no 'eraly'; did you mean early"),
        ("network", ["drop"], "'drop' (Dropout) holds no layer"),
        ("network", ["early", "early.conv1"], "'early' and 'early.conv1' share layers"),
        ("network", ["stem.0", "early.conv2"], "'stem.0' and 'early.conv2' share their channels"),
        ("network", ["stem"], "no layer in 'stem' can lose channels"),
        ("network", "last 30 convs", "the network has only 9 such layers; write at most 9"),
        ("grouped", ["one"], "'one' shares its channels with a grouped convolution"),
        ("grouped", ["unused"], "'unused' takes no part in what the network computes"),
        ("rigid", ["conv"], "fails on an example of shape (1, 8, 8)"),
    ],
)
def test_layers_that_cannot_lose_channels_are_named(make, function, layers, words):
    more = {} if function == "network" else {"transfer": False}
    with pytest.raises(SpecError) as error:
        make(function, prune={"layers": layers, "ratio": [0.5]}, **more).check(SIGNATURE)
    assert words in one_line(error)


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("count", [8, 4])
def test_rounded_weights_have_few_levels_around_zero_in_each_output(make, count):
    model = build(make(quantise=BITS), **bits(count))
    layers = [m for m in model.modules() if isinstance(m, Quantised)]
    assert len(layers) == 10
    for layer in layers:
        for row, scale in zip(layer.weight.flatten(1), layer.scale(), strict=True):
            levels = row / scale
            assert torch.allclose(levels, levels.round(), atol=1e-3)
            assert levels.abs().max() <= 2 ** (count - 1) - 1 + 1e-3
            assert len(levels.round().unique()) <= 2**count
        assert torch.allclose(layer.weight, layer.layer.weight, atol=float(layer.scale().max()) / 2 + 1e-7)


def test_thirty_two_bits_change_nothing(make):
    x = torch.randn(3, 1, 8, 8)
    plain = build(make(unfrozen=[5])).eval()(x)
    assert torch.equal(build(make(quantise=BITS), **bits(32)).eval()(x), plain)


def test_gradient_passes_the_rounding(make):
    model = build(make(quantise=BITS), **bits(4)).train()
    model(torch.randn(6, 1, 8, 8)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_range_of_activations_is_a_moving_average_that_evaluation_leaves_alone():
    rounding = Rounding().train()
    rounding(torch.tensor([-1.0, 3.0]))
    assert (float(rounding.low), float(rounding.high)) == (-1.0, 3.0)
    rounding(torch.tensor([1.0, 23.0]))
    assert (float(rounding.low), float(rounding.high)) == pytest.approx((-0.95, 4.0))
    y = rounding.eval()(torch.tensor([-5.0, 0.0, 0.1, 9.0]))
    assert y[1] == 0
    assert y[0] == pytest.approx(-0.95, abs=0.01)
    assert y[3] == pytest.approx(4.0, abs=0.01)
    assert float(rounding.high) == pytest.approx(4.0)


def test_activations_are_rounded_on_both_sides_of_a_layer_but_not_at_the_end(make):
    model = build(make(quantise={"layers": ["early.conv1", "head"], "bits": [8]}))
    names = [n for n, m in model.network.named_modules() if isinstance(m, Rounding)]
    assert names == ["stem.2.1", "early.act1.1", "head.input"]


def test_frozen_blocks_still_observe_their_activations(make):
    model = build(make(quantise=BITS, unfrozen=[1]), **bits(8)).train()
    before = model.network.early.act1[1].high.clone()
    model(3 * torch.randn(4, 1, 8, 8))
    assert not torch.equal(before, model.network.early.act1[1].high)
    assert not model.network.early.norm1.training


def test_size_counts_the_bits_of_every_weight(make):
    space = make(quantise=BITS)

    def size(**choices):
        return next(
            m.value
            for m in static_metrics(lambda: build(space, **choices), SIGNATURE.shape)
            if m.metric == "model_size_mb"
        )

    full = size(**bits(32))
    stem = 8 * 9
    extra = 12 * 2  # two ranges: of the input, and of what comes out
    assert (full - size(**bits(32, bits_1=8))) * 1e6 == pytest.approx(stem * 3 - 8 * 4 - extra)
    assert (full - size(**bits(32, bits_1=4))) * 1e6 == pytest.approx(stem * 3.5 - 8 * 4 - extra)
    assert size(**bits(4)) < size(**bits(8)) < full


@pytest.mark.parametrize("count", [8, 4])
def test_what_is_shipped_computes_what_was_trained_and_the_exported_file_agrees(make, count):
    space = make(quantise=BITS, prune={"layers": ["late"], "ratio": [0.25]})
    model = build(space, **bits(count))
    model.train()
    for _ in range(5):
        model(torch.randn(16, 1, 8, 8))
    model.eval()
    shipped = model.deployed()
    x = torch.randn(32, 1, 8, 8)
    with torch.no_grad():
        wanted, found = model(x), shipped(x)
    assert torch.allclose(wanted, found, atol=0.05 * float(wanted.abs().max()))
    assert float((wanted - found).abs().mean()) < 0.005 * float(wanted.abs().mean())
    assert not [m for m in shipped.modules() if isinstance(m, nn.BatchNorm2d)]
    file = export_onnx(model, torch.zeros(1, 1, 8, 8))
    assert compare(shipped, file, (torch.zeros(1, 1, 8, 8),), 0.1) < 0.1
    assert len(file) < 25_000 + sum(p.numel() for p in model.parameters())
    assert isinstance(model.network.stem[0], Quantised)


def test_finished_model_with_bits_is_written_as_files(make, tmp_path):
    model = build(make(quantise=BITS), **bits(8, bits_2=32)).eval()
    x, y = torch.randn(40, 1, 8, 8), torch.arange(40) % 4
    _, decided = export(model, Data(x, y, x, y, SIGNATURE), tmp_path, 3)
    assert (decided.verdict, decided.reason) == ("onnx and pt2", "")
    assert decided.facts["onnx_bytes"] < 0.7 * decided.facts["pt2_bytes"]


def test_file_runs_rounded_layers_in_integers(make):
    import onnx
    import onnxruntime

    model = build(make(quantise=BITS), **bits(8)).eval()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = "optimised.onnx"
    options.log_severity_level = 3
    file = export_onnx(model, torch.zeros(1, 1, 8, 8))
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load("optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == 9
    assert not {"Conv", "FusedConv"} & set(kinds)
    weights = [i for i in onnx.load_from_string(file).graph.initializer if i.name.endswith("levels")]
    assert {i.data_type for i in weights} == {onnx.TensorProto.INT8}


def test_model_with_bits_can_be_copied_saved_and_captured(make):
    model = build(make(quantise=BITS, unfrozen=[2]), **bits(8)).eval()
    x = torch.randn(3, 1, 8, 8)
    torch.save(model, io.BytesIO())
    other = copy.deepcopy(model)
    assert torch.equal(other(x), model(x))
    assert other._frozen[0] in set(other.modules())
    program = torch.export.export(model, (x,), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
    assert torch.allclose(program.module()(x), model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("function", "quantise", "words"),
    [
        (
            "network",
            {"layers": ["haed"]},
            "space.quantise.layers: the network has no 'haed'; did you mean head",
        ),
        ("network", {"layers": ["drop"]}, "'drop' (Dropout) holds no layer"),
        ("network", {"layers": ["late", "late.conv2"]}, "'late' and 'late.conv2' share layers"),
        ("network", {"layers": "last 2 linears"}, "the network has only 1 such layers"),
        ("own", {"layers": ["0"]}, "'0' is a Own, which computes something of its own"),
    ],
)
def test_layers_that_cannot_be_rounded_are_named(make, function, quantise, words):
    more = {} if function == "network" else {"transfer": False}
    with pytest.raises(SpecError) as error:
        make(function, quantise=quantise, **more).check(SIGNATURE)
    assert words in one_line(error)


# ---------------------------------------------------------------- the whole


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_any_candidate_trains_a_step_and_counts_the_same_without_numbers(make, seed):
    space = make(
        unfrozen={"min": 1, "max": 5},
        prune={"layers": ["early", "wide", "late"], "ratio": [0, 0.25, 0.6], "round_to": 2},
        quantise=BITS,
    )
    candidate = sample(space.choices(), np.random.default_rng(seed))
    model = space.build(candidate, SIGNATURE).train()
    loss = model(torch.randn(6, 1, 8, 8)).square().sum()
    loss.backward()
    assert loss.isfinite()
    with torch.device("meta"):
        empty = space.build(candidate, SIGNATURE)
    assert all(t.is_meta for t in empty.state_dict().values())
    assert [p.shape for p in empty.parameters()] == [p.shape for p in model.parameters()]
    assert empty.size_bytes() == model.size_bytes()


def test_choices_come_in_order_and_from_low_to_high(make):
    space = make(unfrozen=[2, 5], prune={"layers": ["early", "late"], "ratio": [0.5, 0]}, quantise=BITS)
    assert list(space.choices()) == ["unfrozen", "prune_1", "prune_2", *bits(0), "learning_rate"]
    assert space.choices()["prune_1"].values == [0, 0.5]
    assert space.choices()["bits_5"].values == [4, 8, 32]


def test_notes_say_what_is_loaded_and_that_four_bits_are_run_as_eight(make):
    loaded, four = make(quantise=BITS).notes(SIGNATURE)
    assert loaded == "55 of 55 tensors come from net.pt"
    assert "4-bit weights count in model_size_mb alone" in four
    assert make(transfer=False, quantise={"layers": ["head"], "bits": [8]}).notes(SIGNATURE) == [
        "from scratch: no weights are loaded and nothing is frozen"
    ]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("two_needed", "without a convolution or a linear layer"),
        (
            "three_needed",
            "cannot be called with (signature), without arguments, or with (choices, signature)",
        ),
        ("raising", "raised KeyError: 'width'; fix the function"),
        ("nothing", "returned a int; return an nn.Module"),
        ("numberless", "without a convolution or a linear layer"),
        ("absent", "has no 'absent'"),
    ],
)
def test_function_without_a_network_gives_one_line(make, function, words):
    with pytest.raises(SpecError) as error:
        make(function, transfer=False, quantise={"layers": ["head"]}).check(SIGNATURE)
    assert words in one_line(error)


def test_network_of_another_output_gives_one_line(make):
    make("seven", transfer=False, quantise={"layers": ["1"]}).check(SIGNATURE)
    with pytest.raises(SpecError, match="fails on an example of shape"):
        make("seven", transfer=False, quantise={"layers": ["1"]}).check(Signature((1, 9, 9), 4))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prune": {"layers": ["a"], "ratio": [0, 1.0]}}, "ratio can be one of"),
        ({"prune": {"layers": ["a"], "ratio": [-0.1]}}, "allowed are numbers from 0 and below 1"),
        ({"prune": {"layers": [], "ratio": [0]}}, "layers is empty"),
        ({"prune": {"layers": ["a", "a"], "ratio": [0]}}, "layers names 'a' twice"),
        ({"prune": {"layers": "a", "ratio": [0]}}, "write 'last 3 convs'"),
        ({"prune": {"layers": ["a"], "ratio": [0], "round_to": 0}}, "round_to"),
        ({"quantise": {"layers": ["a"], "bits": [8, 6]}}, "allowed are 32, 8, 4"),
        ({"quantise": {"layers": ["a"], "bits": {"min": 4, "max": 8}}}, "allowed are 32, 8, 4"),
        ({"quantise": {"layers": ["a"], "bits": {"values": [8], "when": {"x": 1}}}}, "remove 'when'"),
        ({"unfrozen": [0]}, "unfrozen can be one of"),
        ({"unfrozen": [3], "blocks": ["a", "b"]}, "allowed are integers from 1 to 2"),
        (
            {"choices": {"prune_1": [1]}, "prune": {"layers": ["a"], "ratio": [0]}},
            "name of a choice of the space",
        ),
        ({}, "the space is empty; give prune, quantise, unfrozen or choices"),
        ({"quantize": {"layers": ["a"]}}, "quantize"),
    ],
)
def test_impossible_declarations_are_refused_when_the_spec_is_read(given, words):
    with pytest.raises(ValidationError, match=words):
        Backbone.model_validate({"function": "a:b", "weights": "w.pt", **given})


def test_norm_that_is_not_of_the_outputs_is_not_folded():
    class Sequences(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm, self.head = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(16, 2)

        def forward(self, x):
            return self.head(self.norm(self.linear(x)).flatten(1))

    network, x = Sequences(), torch.randn(5, 4, 4)
    nn.init.uniform_(network.norm.weight, 0.5, 2.0)
    network.eval()
    rounded = quantise(network, {"linear": 8, "head": 8}, trace(network, x[:1]))
    assert [norm for _, norm in rounded] == [None, None]
    calibrate(network, (4, 4))
    model = LastMile(network, [], rounded).eval()
    assert torch.allclose(model(x), model.deployed()(x), atol=1e-6)


def test_modules_that_run_twice_and_in_place_activations_are_rounded_in_the_right_places():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm, self.act = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
            self.two, self.shared, self.head = nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x):
            x = self.act(self.norm(self.one(x)))
            x = self.shared(self.two(x))
            x = self.shared(self.two(x))
            return self.head(x.mean((2, 3)))

    network, x = Twice(), torch.randn(3, 1, 2, 2)
    rounded = quantise(network, {"one": 8, "two": 8, "head": 8}, trace(network, x[:1]))
    names = [n for n, m in network.named_modules() if isinstance(m, Rounding)]
    assert names == ["one.input", "act.1", "two.input", "head.input"]
    assert [norm is network.norm for _, norm in rounded] == [True, False, False]
    calibrate(network, (1, 2, 2))
    model = LastMile(network, [], rounded).eval()
    assert torch.allclose(model(x), model.deployed()(x), atol=1e-6)
