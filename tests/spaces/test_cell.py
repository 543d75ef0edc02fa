import json
import time
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from ziggurat import choices
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.operations import Operation
from ziggurat.profilers.static import count_flops, static_metrics
from ziggurat.protocols import Signature
from ziggurat.spaces import Cell
from ziggurat.spaces.cell_layers import CellModule, FactorizedReduce, ResidualReduction
from ziggurat.spaces.layers import DropPath

CIFAR = Signature((3, 32, 32), 10)
SMALL = Signature((1, 8, 8), 10)
ODD = Signature((2, 7, 10), 3)
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
FACTS = [
    # string, parameters and multiply-adds in millions as NATS-Bench gives them for CIFAR-10 (Dong et al.
    # 2021, arXiv 2009.00437), of cells without parts that do not count
    (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        0.129306,
        15.64737,
    ),
    (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|",
        0.802426,
        113.95137,
    ),
    (
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|none~0|nor_conv_1x1~1|none~2|",
        0.101306,
        11.71521,
    ),
    (BEST, 1.288506, 184.73025),
    (
        "|avg_pool_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|avg_pool_3x3~0|avg_pool_3x3~1|avg_pool_3x3~2|",
        0.559386,
        78.56193,
    ),
    (
        "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
        0.073306,
        7.78305,
    ),
]
DARTS_V2 = {
    # Liu, Simonyan and Yang 2019, arXiv 1806.09055, second order, in the order of its public implementation
    "normal": [
        ["sep_conv_3x3", 0],
        ["sep_conv_3x3", 1],
        ["sep_conv_3x3", 0],
        ["sep_conv_3x3", 1],
        ["sep_conv_3x3", 1],
        ["skip_connect", 0],
        ["skip_connect", 0],
        ["dil_conv_3x3", 2],
    ],
    "normal_concat": [2, 3, 4, 5],
    "reduce": [
        ["max_pool_3x3", 0],
        ["max_pool_3x3", 1],
        ["skip_connect", 2],
        ["max_pool_3x3", 1],
        ["max_pool_3x3", 0],
        ["skip_connect", 2],
        ["skip_connect", 2],
        ["max_pool_3x3", 1],
    ],
    "reduce_concat": [2, 3, 4, 5],
}


def cell(**given):
    return Cell.model_validate({"widths": [4, 6], "repeats": 1, "hyperparameters": {}, **given})


def darts(**given):
    return cell(**{"operations": "darts", "nodes": 2, **given})


SPACES = {
    "nas_bench_201": cell(),
    "darts": darts(),
    "one stage": darts(widths=[4], nodes=3),
    "one node": darts(nodes=1, repeats=[1, 2]),
    "three stages": cell(widths=[4, 4, 7], repeats=[2, 1, 1], nodes=5),
}


@pytest.fixture(params=SPACES, scope="module")
def space(request):
    return SPACES[request.param]


def draw(space, seed):
    return choices.sample(space.choices(), np.random.default_rng(seed))


def everyone(space):
    names, options = zip(*((n, c.values) for n, c in space.choices().items()), strict=True)
    return [Candidate(dict(zip(names, values, strict=True))) for values in product(*options)]


def known(space, candidate, signature=CIFAR):
    return {
        m.metric: m.value for m in static_metrics(lambda: space.build(candidate, signature), signature.shape)
    }


def flops(module, *tensors):
    return count_flops(_Spread(module, tensors), tensors[0])[0]


class _Spread(nn.Module):
    """A module of several tensors as one of a batch."""

    def __init__(self, module, tensors):
        super().__init__()
        self.module, self.tensors = module, tensors

    def forward(self, _):
        return self.module(*self.tensors)


# networks that are known


@pytest.mark.parametrize(("text", "parameters_m", "madds_m"), FACTS)
def test_parameters_and_flops_are_those_of_the_benchmark(text, parameters_m, madds_m):
    found = known(Cell(), Cell().from_string(text))
    assert found["parameters"] / 1e6 == pytest.approx(parameters_m, abs=1e-9)
    # the benchmark counts multiply-adds, and the bias of the last layer beside them
    assert found["flops"] / 2e6 + 10e-6 == pytest.approx(madds_m, abs=1e-9)


def test_parts_that_do_not_count_have_parameters_as_in_the_benchmark_and_no_flops():
    dead_end = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    found = known(Cell(), Cell().from_string(dead_end))
    assert found["parameters"] / 1e6 == pytest.approx(0.073306 + 2 * 0.24304, abs=1e-9)
    assert found["flops"] / 2e6 + 10e-6 == pytest.approx(7.78305, abs=1e-9)


def test_published_genotype_of_darts_has_exactly_its_parameters():
    space = Cell.model_validate({"operations": "darts", "widths": [36, 72, 144], "repeats": 6})
    candidate = space.from_string(json.dumps(DARTS_V2))
    with torch.device("meta"):
        model = space.build(candidate, CIFAR)
    # without the auxiliary head; the public implementation prints 3.349342 MB for 20 cells of 36 channels
    assert sum(p.numel() for p in model.parameters()) == 3_349_342


def test_benchmark_has_15625_cells_and_six_choices():
    space = Cell.model_validate({"hyperparameters": {}})
    assert list(space.choices()) == [f"edge_{e}" for e in ("0_1", "0_2", "1_2", "0_3", "1_3", "2_3")]
    assert choices.count(space.choices()) == 5**6


# forms as text


def test_string_of_a_cell_names_edges_in_the_order_of_the_benchmark():
    names = dict(zip(("0_1", "0_2", "1_2", "0_3", "1_3", "2_3"), "abcdef", strict=True))
    operations = ["nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "none"]
    chosen = {f"edge_{e}": o for e, o in zip(names, operations, strict=True)}
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
    assert Cell().to_string(Candidate(chosen)) == text


@given(seed=st.integers(0, 10_000), which=st.sampled_from(sorted(SPACES)))
def test_text_of_a_candidate_gives_the_candidate_back(seed, which):
    candidate = draw(SPACES[which], seed)
    assert SPACES[which].from_string(SPACES[which].to_string(candidate)) == candidate


def test_hyperparameters_can_be_added_to_a_cell_from_text():
    candidate = Cell().from_string(BEST, {"learning_rate": 1e-3, "batch_size": 64})
    assert choices.contains(Cell().choices(), candidate)
    assert Cell().to_string(candidate) == BEST


def test_order_of_a_node_s_inputs_in_a_genotype_makes_no_difference():
    space = cell(operations="darts", nodes=4)
    candidate = space.from_string(json.dumps(DARTS_V2))
    assert candidate.choices["reduce_3_inputs"] == "1,2"
    assert candidate.choices["reduce_3_first"] == "max_pool_3x3"
    assert json.loads(space.to_string(candidate))["reduce"][2:4] == [["max_pool_3x3", 1], ["skip_connect", 2]]


WRONG = [
    ("", "1 nodes joined by"),
    ("|none~0|", "has 1 nodes.*has 3"),
    (BEST + "+" + BEST, "has 6 nodes"),
    (BEST.replace("nor_conv_3x3~2", "nor_conv_3x3~1"), "edge 3 of node 3 comes from node 1; it must be 2"),
    (BEST.replace("nor_conv_3x3", "nor_conv_3x4"), "'nor_conv_3x4' is unknown, did you mean nor_conv_3x3"),
    (BEST.replace("skip", "sep"), "sep_connect"),
    (BEST.replace("~0", "-0"), "must be operation~node"),
    (BEST.replace("|nor_conv_3x3~0|+", "nor_conv_3x3~0+"), "between bars"),
    (BEST.replace("|nor_conv_3x3~0|+", "||nor_conv_3x3~0||+"), "node 1"),
    (BEST.replace("|nor_conv_3x3~0|+", "|nor_conv_3x3~0|none~1|+"), "node 1"),
    (BEST.replace("~2", "~٢"), "must be operation~node|must be 2"),
    ("garbage\nof two lines", "garbage of two lines"),
    ("x" * 10_000, r"\.\.\."),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_wrong_string_is_refused_in_one_line(text, words):
    with pytest.raises(SpecError, match=words) as caught:
        Cell().from_string(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


GENOTYPE = {"normal": [["none", 0], ["skip_connect", 1]], "reduce": [["none", 0], ["none", 1]]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "must be a JSON object"),
        ("[" * 100_000, "must be a JSON object"),
        ("[1, 2]", "must be a JSON object"),
        (json.dumps(GENOTYPE | {"more": 1}), "key 'more' is unknown, known: normal, reduce"),
        (json.dumps({"normal": GENOTYPE["normal"]}), "'reduce' is missing or no list"),
        (json.dumps(GENOTYPE | {"reduce": [["none", 0]]}), "'reduce' has 1 entries, it needs 2"),
        (json.dumps(GENOTYPE | {"reduce": [["none", 0], ["none", 0]]}), "both inputs of node 2.*are 0"),
        (json.dumps(GENOTYPE | {"reduce": [["none", 0], ["none", 2]]}), "takes state 2; allowed are 0 to 1"),
        (json.dumps(GENOTYPE | {"reduce": [["none", 0], ["none", True]]}), r"\[operation, source\]"),
        (json.dumps(GENOTYPE | {"reduce": [["none", 0], "none"]}), r"\[operation, source\]"),
        (json.dumps(GENOTYPE | {"reduce": [["none", 0], ["sep_conv_7x7", 1]]}), "did you mean sep_conv"),
        (json.dumps(GENOTYPE | {"normal_concat": [2, 3]}), r"'normal_concat' must be \[2\]"),
    ],
)
def test_wrong_genotype_is_refused_in_one_line(text, words):
    with pytest.raises(SpecError, match=words) as caught:
        darts(nodes=1).from_string(text)
    assert "\n" not in str(caught.value)


def test_genotype_with_reduction_cells_does_not_fit_a_network_without():
    with pytest.raises(SpecError, match="one width has no reduction cells"):
        darts(nodes=1, widths=[4]).from_string(json.dumps(GENOTYPE))


# operations


@given(
    seed=st.integers(0, 10_000), which=st.sampled_from(sorted(SPACES)), shape=st.sampled_from([SMALL, ODD])
)
def test_operations_of_any_candidate_are_among_all_operations(seed, which, shape):
    found = SPACES[which].operations(draw(SPACES[which], seed), shape)
    assert set(found) <= set(SPACES[which].all_operations(shape))
    assert found[0].kind == "stem"
    assert found[-1].kind == "head"


TINY = {
    "edges": cell(operations=["none", "skip_connect", "nor_conv_1x1"], nodes=3),
    "no none": cell(operations=["skip_connect", "nor_conv_1x1"], nodes=4),
    "none and skip": cell(operations=["none", "skip_connect"], skeleton="nas_bench_201", widths=[4, 4]),
    "two nodes": cell(operations=["none", "nor_conv_3x3"], nodes=2),
    "darts": darts(operations=["none", "sep_conv_3x3"]),
    "darts, skip": darts(operations=["skip_connect", "max_pool_3x3"], repeats=[1, 2]),
    "darts, one node": darts(operations=["none", "dil_conv_3x3"], nodes=1, widths=[4, 6, 8], repeats=2),
    "darts, one stage": darts(operations=["none", "skip_connect", "sep_conv_3x3"], widths=[4], nodes=2),
}


@pytest.mark.parametrize("tiny", TINY.values(), ids=list(TINY))
@pytest.mark.parametrize("shape", [SMALL, ODD], ids=["8x8", "7x10"])
def test_all_operations_are_exactly_those_that_some_candidate_has(tiny, shape):
    listed = tiny.all_operations(shape)
    union = set().union(*(tiny.operations(c, shape) for c in everyone(tiny)))
    assert set(listed) == union
    assert len(listed) == len(set(listed)) == len({o.key for o in listed})


def _called(model, x):
    """Kinds of modules with weights or pooling that a forward pass calls."""
    counted = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)
    seen = Counter()

    def note(module, _, __):
        seen[repr(module)] += 1

    for module in model.modules():
        if isinstance(module, counted):
            module.register_forward_hook(note)
    model(x)
    return seen


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), which=st.sampled_from(sorted(SPACES)))
def test_a_model_executes_exactly_its_operations(seed, which):
    space = SPACES[which]
    candidate = draw(space, seed)
    model = space.build(candidate, ODD).eval()
    seen = _called(model, torch.zeros(1, *ODD.shape))
    wanted = Counter()
    total = 0
    for operation in space.operations(candidate, ODD):
        module = space.build_operation(operation).eval()
        tensors = [torch.zeros(1, *operation.shape)] * operation.inputs
        total += flops(module, *tensors)
        wanted += _called(_Spread(module, tensors), tensors[0])
    assert seen == wanted
    assert count_flops(model, torch.zeros(1, *ODD.shape))[0] == total


def test_operations_give_the_shapes_that_the_next_ones_take():
    space = darts(operations=["skip_connect", "sep_conv_5x5"])
    shapes = {o.key: o for o in space.all_operations(ODD)}
    assert "skip_connect 6x7x10 stride=2" in shapes
    assert "preprocess 8x7x10 width=6 stride=1" in shapes
    assert "preprocess 8x7x10 width=6 stride=2" in shapes
    assert "concat 6x4x5 inputs=2" in shapes
    assert "sum 6x4x5 inputs=2" in shapes
    assert not [key for key in shapes if key.startswith(("none", "zeros"))]
    for operation in shapes.values():
        out = space.build_operation(operation).eval()(*[torch.zeros(2, *operation.shape)] * operation.inputs)
        assert out.isfinite().all()
        stride = dict(operation.arguments).get("stride", 1)
        if len(operation.shape) == 3 and operation.kind != "head":
            assert out.shape[2:] == tuple(-(-side // stride) for side in operation.shape[1:])


def test_operations_of_the_benchmark_s_networks_take_microseconds():
    space = Cell()
    pool = [draw(space, seed) for seed in range(50)]
    best = min(_seconds(lambda: [space.operations(c, CIFAR) for c in pool]) for _ in range(5))
    assert best / len(pool) < 1e-3  # about 45 microseconds on a quiet machine


def _seconds(action):
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def test_repeated_cells_are_listed_as_often_as_they_occur():
    counts = Counter(o.kind for o in Cell().operations(Cell().from_string(BEST), CIFAR))
    assert counts == {"stem": 1, "nor_conv_3x3": 75, "sum": 30, "residual_reduction": 2, "head": 1}


def test_cell_that_nothing_reads_is_not_executed():
    # the normal cells read the output before the last one, so every other cell leads nowhere
    space = darts(operations=["none", "sep_conv_3x3"], nodes=1, widths=[4], repeats=3)
    candidate = Candidate({"normal_2_first": "sep_conv_3x3", "normal_2_second": "none"})
    counts = Counter(o.kind for o in space.operations(candidate, SMALL))
    assert counts == {"stem": 1, "preprocess": 2, "sep_conv_3x3": 2, "head": 1}
    model = space.build(candidate, SMALL)
    runs = [m.runs for m in model.modules() if isinstance(m, CellModule)]
    assert runs == [True, False, True]
    frozen = [not any(p.requires_grad for p in m.parameters()) for m in model.cells]
    assert frozen == [False, True, False]
    called = []
    for place, module in enumerate(model.cells):
        module.register_forward_hook(lambda *_, place=place: called.append(place))
    model(torch.zeros(2, *SMALL.shape))
    assert called == [0, 2]


def test_exactly_what_runs_can_be_trained(space):
    for seed in range(8):
        model = space.build(draw(space, seed), SMALL)
        model(torch.randn(4, *SMALL.shape)).sum().backward()
        for name, p in model.named_parameters():
            assert (p.grad is not None) == p.requires_grad, name


def test_poolings_of_one_state_are_run_once_and_added_twice():
    space = cell(widths=[4])
    twice = space.from_string(
        "|avg_pool_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"
    )
    counts = Counter(o.kind for o in space.operations(twice, SMALL))
    assert counts == {"stem": 1, "avg_pool_3x3": 1, "sum": 1, "head": 1}
    model = space.build(twice, SMALL).eval()
    x = torch.randn(2, 4, 8, 8)
    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(model.cells[0](x, x), 2 * pool(x))


def test_sums_of_the_same_results_are_made_once():
    space = cell(widths=[4], nodes=5)
    text = (
        "|avg_pool_3x3~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|none~2|"
        "+|none~0|none~1|nor_conv_3x3~2|nor_conv_3x3~3|"
    )
    counts = Counter(o.kind for o in space.operations(space.from_string(text), SMALL))
    assert counts == {"stem": 1, "avg_pool_3x3": 1, "sum": 2, "nor_conv_3x3": 2, "head": 1}


def test_skip_connection_passes_on_what_was_dropped_before_it():
    space = cell(widths=[4])
    text = "|avg_pool_3x3~0|+|avg_pool_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|"
    model = space.build(space.from_string(text), SMALL).train()
    for path in (m for m in model.modules() if isinstance(m, DropPath)):
        path.rate = 1.0
    assert not model.cells[0](*[torch.ones(2, 4, 8, 8)] * 2).any()


# layers


@pytest.mark.parametrize("shape", [(4, 8, 8), (5, 7, 9), (4, 8, 7), (4, 2, 3)])
def test_reductions_halve_maps_and_round_up(shape):
    x = torch.randn(2, *shape)
    size = tuple((side + 1) // 2 for side in shape[1:])
    assert FactorizedReduce(shape, 7)(x).shape == (2, 7, *size)
    assert ResidualReduction(shape, 6)(x).shape == (2, 6, *size)


def test_factorized_reduction_looks_at_odd_pixels_with_its_second_half():
    layer = FactorizedReduce((1, 3, 3), 2).eval()
    nn.init.ones_(layer.even.weight)
    nn.init.ones_(layer.odd.weight)
    x = torch.arange(9.0).reshape(1, 1, 3, 3) + 1
    even, odd = layer(x)[0] * (1 + 1e-5) ** 0.5
    assert even.round().tolist() == [[1, 3], [7, 9]]
    assert odd.round().tolist() == [[5, 0], [0, 0]]


def test_average_beside_an_odd_border_is_of_the_pixels_that_are_there():
    layer = ResidualReduction((1, 3, 3), 2)
    assert layer.shortcut[0](torch.ones(1, 1, 3, 3)).tolist() == [[[[1, 1], [1, 1]]]]


def test_activation_comes_before_the_convolution():
    module = Cell().build_operation(Operation("nor_conv_3x3", (4, 8, 8), (("stride", 1),)))
    assert [type(m) for m in module] == [nn.ReLU, nn.Conv2d, nn.BatchNorm2d]


@pytest.mark.parametrize(
    ("kind", "kernel", "dilation", "convolutions"),
    [
        ("sep_conv_3x3", 3, 1, 2),
        ("sep_conv_5x5", 5, 1, 2),
        ("dil_conv_3x3", 3, 2, 1),
        ("dil_conv_5x5", 5, 2, 1),
    ],
)
def test_separable_convolutions_come_twice_and_dilated_ones_reach_twice_as_far(
    kind, kernel, dilation, convolutions
):
    module = darts().build_operation(Operation(kind, (4, 9, 9), (("stride", 2),)))
    deep = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == 4]
    assert [(m.kernel_size[0], m.dilation[0]) for m in deep] == [(kernel, dilation)] * convolutions
    assert [m.stride[0] for m in deep] == [2, 1][:convolutions]


def test_paths_can_be_dropped_on_edges_that_compute_something():
    model = cell(widths=[4]).build(cell().from_string(BEST), SMALL).train()
    paths = [m for m in model.modules() if isinstance(m, DropPath)]
    assert len(paths) == 5
    for path in paths:
        path.rate = 1.0
    x = torch.randn(3, *SMALL.shape)
    assert torch.equal(model.cells[0](None, model.stem(x)), model.stem(x))


def test_cell_without_a_way_through_builds_and_its_network_learns_no_more_than_a_constant():
    space = cell(widths=[4, 6])
    dead = space.from_string("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
    model = space.build(dead, SMALL).eval()
    logits = model(torch.randn(5, *SMALL.shape))
    assert torch.equal(logits, logits[:1].expand(5, -1))
    kinds = [o.kind for o in space.operations(dead, SMALL)]
    assert kinds == ["stem", "zeros", "residual_reduction", "zeros", "head"]


# export


def _nodes(module, tensors, path):
    import onnx

    torch.onnx.export(module.eval(), tensors, path, dynamo=False, verbose=False)
    graph = onnx.load(path).graph
    return Counter(n.op_type for n in graph.node if n.op_type in KINDS)


KINDS = {"Conv", "AveragePool", "MaxPool", "GlobalAveragePool", "Gemm", "Add", "Concat", "Mul", "Slice"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", ["nas_bench_201", "darts"])
def test_exported_model_holds_the_nodes_of_its_operations_and_no_others(which, tmp_path):
    space = SPACES[which]
    candidate = draw(space, 5)
    exported = _nodes(space.build(candidate, ODD), (torch.zeros(1, *ODD.shape),), tmp_path / "model.onnx")
    parts = Counter(space.operations(candidate, ODD))
    wanted = Counter()
    for operation, times in parts.items():
        tensors = tuple(torch.zeros(1, *operation.shape) for _ in range(operation.inputs))
        one = _nodes(space.build_operation(operation), tensors, tmp_path / "part.onnx")
        wanted += Counter({kind: times * n for kind, n in one.items()})
    assert exported == wanted


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [{"nodes": 3}, {"operations": "darts", "nodes": 1}], ids=list("nd"))
@pytest.mark.parametrize("dynamo", [False, True])
def test_exported_model_answers_as_torch_does(given, dynamo, tmp_path):
    import onnxruntime

    space = cell(**given)
    torch.manual_seed(0)
    model = space.build(draw(space, 7), ODD).eval()
    x = torch.randn(1, *ODD.shape)
    torch.onnx.export(model, (x,), tmp_path / "m.onnx", dynamo=dynamo, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    answer = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(answer, model(x).detach().numpy(), atol=1e-4)


# bad input


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"operations": "dart"}, "which is no set, did you mean darts"),
        ({"operations": []}, "operations is empty"),
        ({"operations": ["sep_conv_3x4"]}, "'sep_conv_3x4' is unknown, did you mean sep_conv_3x3"),
        ({"operations": ["nor_conv_3x3", "sep_conv_3x3"]}, "one set, but are mixed"),
        ({"operations": ["none", "skip_connect"]}, "in both sets; add skeleton"),
        ({"operations": ["nor_conv_3x3"] * 2}, "repeat"),
        ({"operations": ["none"], "skeleton": "darts"}, "passes nothing on"),
        ({"operations": "darts", "skeleton": "nas_bench_201"}, "skeleton is 'nas_bench_201'"),
        ({"operations": ["sep_conv_3x3"], "skeleton": "nas_bench_201"}, "'sep_conv_3x3' is unknown"),
        ({"nodes": 1}, "nodes is 1, allowed for nas_bench_201 are 2 to 8"),
        ({"nodes": 9}, "nodes"),
        ({"operations": "darts", "nodes": 0}, "nodes"),
        ({"widths": []}, "widths"),
        ({"widths": [1]}, "widths"),
        ({"widths": [8.0]}, "widths"),
        ({"repeats": 0}, "repeats"),
        ({"repeats": [1, 2, 3], "widths": [8, 16]}, "repeats has 3 numbers for 2 widths"),
        ({"stem": 8}, "stem is 8.*keep the width"),
        ({"hyperparameters": {"edge_0_1": [1, 2]}}, "'edge_0_1' is a choice of the architecture"),
    ],
)
def test_impossible_settings_are_refused_when_the_spec_is_read(given, words):
    with pytest.raises(ValidationError, match=words):
        Cell.model_validate(given)


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 2, 3, 4)])
def test_data_that_are_no_images_are_refused(shape):
    with pytest.raises(SpecError, match=r"space.kind is 'cell'.*use space.kind mlp"):
        cell().check(Signature(shape, 10))


@pytest.mark.parametrize(
    ("shape", "most", "small"), [((1, 8, 8), 4, "1x1"), ((3, 28, 5), 4, "4x1"), ((1, 1, 9), 1, "1x9")]
)
@pytest.mark.parametrize("operations", ["darts", "nas_bench_201"])
def test_images_too_small_for_the_reductions_are_refused(shape, most, small, operations):
    fits = cell(operations=operations, widths=[4] * most)
    fits.check(Signature(shape, 10))
    assert fits.build(draw(fits, 0), Signature(shape, 10)).eval()(torch.zeros(1, *shape)).shape == (1, 10)
    for action in (lambda s: s.check, lambda s: s.all_operations):
        with pytest.raises(
            SpecError, match=f"widths has {most + 1} stages.*{small} in stage {most}"
        ) as caught:
            action(cell(operations=operations, widths=[4] * (most + 1)))(Signature(shape, 10))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"edge_0_1": "nor_conv_5x5"}, "edge_0_1 'nor_conv_5x5', did you mean nor_conv"),
        ({"edge_0_1": 3}, "edge_0_1 '3', known: none"),
    ],
)
def test_candidate_with_an_unknown_operation_is_refused(changed, words):
    candidate = Candidate({**cell().from_string(BEST).choices, **changed})
    for action in (cell().build, cell().operations):
        with pytest.raises(SpecError, match=words):
            action(candidate, SMALL)


def test_candidate_of_another_space_is_refused():
    with pytest.raises(SpecError, match="no choice 'edge_0_1'"):
        cell().build(Candidate({"depth": 3}), SMALL)
    chosen = {f"normal_2_{w}": "none" for w in ("first", "second")}
    wrong = Candidate(
        {**chosen, **{f"normal_3_{w}": "none" for w in ("first", "second")}, "normal_3_inputs": "1,1"}
    )
    with pytest.raises(SpecError, match="normal_3_inputs '1,1', allowed are 0,1; 0,2; 1,2"):
        darts(widths=[4]).operations(wrong, SMALL)
