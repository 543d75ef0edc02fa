"""Mobile inverted bottlenecks: against published networks, and every operation against every candidate."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from ziggurat.choices import check, contains, count, sample
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.operations import Operation
from ziggurat.profilers.onnx_file import export_onnx
from ziggurat.profilers.static import static_metrics
from ziggurat.protocols import Signature
from ziggurat.searchers.fresh import every
from ziggurat.spaces import Mbconv, mbconv
from ziggurat.spaces.layers import DropPath
from ziggurat.spaces.mbconv_layers import InvertedBottleneck, SqueezeExcite
from ziggurat.spaces.scaling import Scaling

FASHION, PHOTOS = Signature((1, 28, 28), 10), Signature((3, 224, 224), 1000)
RATES = {"learning_rate": [0.1, 0.01]}


def stage(expansion, width, depth, stride, kernel=3, squeeze_excite=0.0):
    return {
        "expansion": expansion,
        "width": width,
        "depth": depth,
        "stride": stride,
        "kernel": kernel,
        "squeeze_excite": squeeze_excite,
    }


MOBILE_NET_V2 = {
    "stem": 32,
    "stem_stride": 2,
    "stages": [
        stage(1, 16, 1, 1),
        stage(6, 24, 2, 2),
        stage(6, 32, 3, 2),
        stage(6, 64, 4, 2),
        stage(6, 96, 3, 1),
        stage(6, 160, 3, 2),
        stage(6, 320, 1, 1),
    ],
    "head": 1280,
    "activation": "relu6",
    "hyperparameters": RATES,
}
"""Table 2 of Sandler et al. 2018."""

EFFICIENT_NET = {
    **MOBILE_NET_V2,
    "stages": [
        stage(1, 16, 1, 1, 3, 0.25),
        stage(6, 24, 2, 2, 3, 0.25),
        stage(6, 40, 2, 2, 5, 0.25),
        stage(6, 80, 3, 2, 3, 0.25),
        stage(6, 112, 3, 1, 5, 0.25),
        stage(6, 192, 4, 2, 5, 0.25),
        stage(6, 320, 1, 1, 3, 0.25),
    ],
    "activation": "silu",
    "dropout": 0.2,
}
"""Table 1 of Tan & Le 2019, the network B0."""

SMALL = {
    "stem": [4, 8],
    "stages": [
        {**stage([1, 3], 8, [1, 2], [1, 2]), "kernel": [3, 5]},
        stage(2, [8, 12], 1, 2, squeeze_excite=[0, 0.25]),
    ],
    "head": [0, 16],
    "activation": ["relu", "silu"],
    "scaling": {"coefficient": [0, 1]},
    "hyperparameters": {},
}
"""Few enough candidates to go through all of them; with a block that only scaling adds."""


def space(**given):
    return Mbconv.model_validate(given)


def only(one, **chosen):
    """A candidate of a space, drawn, with some choices set."""
    drawn = sample(one.choices(), np.random.default_rng(0)).choices
    return Candidate({**drawn, **chosen})


def statics(one, candidate, signature):
    found = static_metrics(lambda: one.build(candidate, signature), signature.shape)
    return {m.metric: m.value for m in found}


def blocks(model):
    return [m for m in model if isinstance(m, InvertedBottleneck)]


def test_mobile_net_v2_has_its_published_parameters_and_multiply_adds():
    one = space(**MOBILE_NET_V2)
    found = statics(one, only(one), PHOTOS)
    assert found["parameters"] == 3_504_872
    assert found["flops"] == 2 * 300_774_272


@pytest.mark.parametrize(
    ("scaling", "parameters"),
    [
        ({}, 5_288_548),
        ({"coefficient": 1, "depth": 1.1, "width": 1.0, "resolution": 240 / 224}, 7_794_184),
        ({"coefficient": 1}, 9_109_994),
        ({"coefficient": 1, "depth": 1.4, "width": 1.2}, 12_233_232),
        ({"coefficient": 2, "depth": 1.4**0.5, "width": 1.2**0.5}, 12_233_232),
    ],
)
def test_efficient_nets_b0_to_b3_have_their_published_parameters(scaling, parameters):
    one = space(**EFFICIENT_NET, scaling=scaling)
    assert statics(one, only(one), PHOTOS)["parameters"] == parameters


def test_network_without_a_choice_has_only_hyperparameters():
    assert list(space(**MOBILE_NET_V2).choices()) == ["learning_rate"]
    with pytest.raises(ValidationError, match="the space is empty"):
        space(**{**MOBILE_NET_V2, "hyperparameters": {}})


def test_widths_are_rounded_to_eights_but_never_below_nine_tenths():
    scaling = Scaling()
    assert [scaling.widened(w, 1) for w in (16, 24, 32, 40, 80, 112, 192, 320, 1280)] == [
        16, 24, 32, 48, 88, 120, 208, 352, 1408,
    ]  # fmt: skip
    assert [scaling.widened(w, 0) for w in (3, 12, 50)] == [3, 12, 50]
    assert scaling.widened(0, 2) == 0


@given(width=st.integers(1, 4096), phi=st.floats(0.1, 9))
def test_any_scaled_width_is_a_near_multiple_of_eight(width, phi):
    exact = width * 1.1**phi
    found = Scaling().widened(width, phi)
    assert found % 8 == 0
    assert found >= 0.9 * exact
    assert found <= max(8, exact + 8)


def test_depths_are_rounded_up_and_whole_products_are_kept():
    assert [Scaling(depth=1.1).deepened(d, 1) for d in (1, 2, 3, 4, 10, 20)] == [2, 3, 4, 5, 11, 22]
    assert [Scaling(depth=2**0.5).deepened(d, 2) for d in (1, 2, 3)] == [2, 4, 6]
    assert [Scaling(depth=1.2).deepened(d, 0) for d in (1, 2, 3)] == [1, 2, 3]


def test_images_are_resized_inside_the_model():
    one = space(scaling={"coefficient": [0, 2], "resolution": 1.5})
    model = one.build(only(one, coefficient=2), FASHION).eval()
    seen = []
    model[1].register_forward_hook(lambda module, given, left: seen.append(given[0].shape))
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert seen == [(2, 1, 63, 63)]
    assert isinstance(one.build(only(one, coefficient=0), FASHION)[0], nn.Sequential)


def test_block_is_residual_exactly_where_nothing_changes():
    one = space(stem=8, stages=[stage(2, 8, 2, 1), stage(2, 16, 2, 1), stage(2, 16, 2, 2)])
    model = one.build(only(one), FASHION)
    assert [b.drop_path is not None for b in blocks(model)] == [True, True, False, True, False, True]


def test_block_whose_branch_is_dropped_is_the_identity():
    one = space(stem=8, stages=[stage(2, 8, 1, 1)])
    block = blocks(one.build(only(one), FASHION))[0].train()
    x = torch.randn(2, 8, 5, 5)
    assert not torch.equal(block(x), x)
    paths = [m for m in block.modules() if isinstance(m, DropPath)]
    paths[0].rate = 1.0
    assert torch.equal(block(x), x)


def test_squeezed_channels_are_a_share_of_the_input_and_the_gate_is_a_number_from_zero_to_one():
    one = space(stem=16, stages=[stage(6, 8, 1, 1, squeeze_excite=0.25)], activation=["relu", "hard_swish"])
    for activation, gate in (("relu", nn.Sigmoid), ("hard_swish", nn.Hardsigmoid)):
        model = one.build(only(one, activation=activation), FASHION)
        (found,) = [m for m in model.modules() if isinstance(m, SqueezeExcite)]
        assert [tuple(m.weight.shape[:2]) for m in found.weigh if isinstance(m, nn.Conv2d)] == [
            (4, 96),
            (96, 4),
        ]
        assert isinstance(found.weigh[-1], gate)
        x = torch.rand(3, 96, 4, 4)
        assert ((found(x) >= 0) & (found(x) <= x)).all()


def test_block_without_expansion_has_no_widening_layer():
    one = space(stem=8, stages=[stage([1, 3], 8, 1, 1, kernel=5)])
    kernels = {
        e: [m.kernel_size[0] for m in one.build(only(one, expansion_1=e), FASHION)[1].modules()
            if isinstance(m, nn.Conv2d)] for e in (1, 3)
    }  # fmt: skip
    assert kernels == {1: [5, 1], 3: [1, 5, 1]}


def test_signal_neither_dies_nor_explodes_in_a_deep_network():
    torch.manual_seed(0)
    one = space(stages=[stage(6, 24, 6, 1, 5, 0.25), stage(6, 48, 6, 2)], activation="relu")
    model = one.build(only(one), FASHION).train()
    x = torch.randn(8, 1, 28, 28, requires_grad=True)
    model(x).square().mean().backward()
    norms = [p.grad.norm() for n, p in model.named_parameters() if n.endswith("branch.0.weight")]
    assert 0.01 < max(norms) / min(norms) < 100


def test_dropout_is_that_of_the_candidate_and_no_operation():
    one = space(dropout=[0.0, 0.3])
    few, many = only(one, dropout=0.0), only(one, dropout=0.3)
    assert one.build(many, FASHION)[-1].dropout.p == 0.3
    assert one.operations(few, FASHION) == one.operations(many, FASHION)


def test_choices_named_in_per_block_are_made_for_each_block():
    plain = {"stem": 8, "stages": [{**stage(2, 8, [1, 3], 1), "kernel": [3, 5]}, stage(2, 16, 2, 2)]}
    one = space(**plain, per_block=["kernel", "expansion"], scaling={"coefficient": 1, "width": 1.0})
    assert list(one.choices())[:4] == ["depth_1", "kernel_1_1", "kernel_1_2", "kernel_1_3"]
    shallow = only(one, depth_1=1, kernel_1_1=5)
    # a coefficient of 1 makes 2 blocks of 1, and 4 of 3
    assert kernels(one, Candidate({k: v for k, v in shallow.choices.items() if k[-1] not in "23"})) == [
        5,
        5,
        3,
        3,
        3,
    ]
    deep = only(one, depth_1=3, kernel_1_1=5, kernel_1_2=3, kernel_1_3=5)
    assert kernels(one, deep) == [5, 3, 5, 5, 3, 3, 3]


def kernels(one, candidate):
    found = [dict(o.arguments).get("kernel") for o in one.operations(candidate, FASHION)]
    return [k for k in found if k]


@pytest.mark.parametrize("per_block", [[], ["kernel", "expansion", "squeeze_excite"]])
def test_operations_of_all_candidates_together_are_all_operations(per_block):
    one = space(**SMALL, per_block=per_block)
    signature = Signature((3, 9, 6), 5)
    listed = list(every(one.choices()))
    assert len(listed) == count(one.choices())
    found = {o for c in listed for o in one.operations(c, signature)}
    listed_once = one.all_operations(signature)
    assert set(listed_once) == found
    assert len(listed_once) == len(found) == len({o.key for o in found})


@pytest.mark.parametrize("per_block", [[], ["kernel", "squeeze_excite"]])
def test_operations_of_random_candidates_are_among_all_operations(per_block):
    stages = [
        {"width": {"min": 8, "max": 32, "step": 8}, "depth": {"min": 1, "max": 4}},
        {"width": [24, 40], "stride": [1, 2], "expansion": [1, 2.5, 6]},
        {"width": [48, 96], "depth": [1, 3], "stride": 2, "kernel": [3, 5, 7]},
    ]
    one = space(stages=stages, per_block=per_block, scaling={"coefficient": [0, 0.5, 1, 2]}, stem=[8, 16])
    possible = set(one.all_operations(FASHION))
    check(one.choices())
    for seed in range(300):
        candidate = sample(one.choices(), np.random.default_rng(seed))
        assert contains(one.choices(), candidate)
        assert possible.issuperset(one.operations(candidate, FASHION))


@pytest.mark.parametrize("size", [(28, 28), (9, 6), (13, 2)])
def test_each_operation_gets_the_shape_that_it_states(size):
    one = space(stages=[stage(2, 8, 2, 1), stage(2, 16, [1, 2], 2)], scaling={"coefficient": [0, 1, 2]})
    signature = Signature((3, *size), 4)
    for seed in range(10):
        candidate = sample(one.choices(), np.random.default_rng(seed))
        x = torch.zeros(1, *signature.shape, device="meta")
        for operation in one.operations(candidate, signature):
            assert x.shape[1:] == operation.shape
            x = one.build_operation(operation).to("meta")(x)


def test_depthwise_convolutions_start_as_wide_as_others():
    torch.manual_seed(0)
    one = space(stages=[stage(6, 64, 1, 1, kernel=5)], stem=64)
    depthwise = next(m for m in one.build(only(one), FASHION).modules() if getattr(m, "groups", 1) > 1)
    assert float(depthwise.weight.detach().std()) == pytest.approx((2 / 25) ** 0.5, rel=0.05)


def test_depth_that_is_never_above_one_has_no_second_block():
    one = space(stem=8, stages=[stage(2, 16, 1, 1)], activation="relu")
    assert [o.shape for o in one.all_operations(FASHION) if o.kind == "mbconv"] == [(8, 28, 28)]


def test_keys_of_operations_can_be_read():
    one = space(stem=8, stages=[stage(3, 16, 1, 2)], head=0, activation="relu", scaling={"coefficient": 1})
    assert [o.key for o in one.operations(only(one), FASHION)] == [
        "resize 1x28x28 height=32 width=32",
        'stem 1x32x32 width=8 stride=1 activation="relu"',
        'mbconv 8x32x32 kernel=3 expansion=3 squeeze_excite=0.0 width=16 stride=2 activation="relu"',
        'mbconv 16x16x16 kernel=3 expansion=3 squeeze_excite=0.0 width=16 stride=1 activation="relu"',
        "head 16x16x16 width=0 classes=10",
    ]


def test_operation_of_another_space_is_refused():
    with pytest.raises(SpecError, match="operation 'sep_conv_3x3 8x4x4' is none of space 'mbconv'"):
        space().build_operation(Operation("sep_conv_3x3", (8, 4, 4)))


def test_candidate_of_another_space_is_refused():
    with pytest.raises(SpecError, match="has no choice 'activation', only depth"):
        space().operations(Candidate({"depth": 3}), FASHION)


@pytest.mark.parametrize(
    ("shape", "strides", "place"),
    [
        ((1, 8, 8), [2, 2, 2, 2], r"space.stages\[3\].stride can be 2, .*1 x 1 already"),
        ((1, 8, 8), [2, [1, 2], 2, 2], r"space.stages\[3\].stride"),
        ((3, 28, 2), [2, 1, 2, 1], r"space.stages\[2\].stride can be 2, .*14 x 1 already"),
        ((3, 1, 1), [1, 1, 1, 1], None),
        ((1, 8, 8), [2, 1, 2, 2], None),
    ],
)
def test_stride_on_less_than_two_pixels_is_refused_before_anything_is_built(shape, strides, place):
    one = space(stages=[stage(2, 8, 1, stride) for stride in strides])
    signature = Signature(shape, 3)
    if place is None:
        one.check(signature)
        assert one.build(only(one), signature).eval()(torch.zeros(2, *shape)).shape == (2, 3)
        return
    for action in (one.check, one.all_operations, lambda s: one.build(only(one), s)):
        with pytest.raises(SpecError, match=place) as caught:
            action(signature)
        assert "\n" not in str(caught.value)
        assert str(shape) in str(caught.value)


def test_stem_may_be_the_one_that_shrinks_too_much():
    with pytest.raises(SpecError, match=r"space\.stem_stride can be 2"):
        space(stem_stride=[1, 2]).check(Signature((1, 1, 9), 2))


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 2, 3, 4)])
def test_data_that_are_no_images_are_refused(shape):
    for action in (space().check, lambda s: space().operations(only(space()), s)):
        with pytest.raises(SpecError, match=r"space.kind is 'mbconv'.*use space.kind mlp"):
            action(Signature(shape, 10))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kernel": [3, 4]}, r"stages\[1\].kernel can be one of \[3, 4\], allowed are 3, 5, 7"),
        ({"kernel": 1}, r"stages\[1\].kernel can be one of \[1\]"),
        (
            {"expansion": [0.5, 1]},
            r"stages\[1\].expansion can be .*, allowed are numbers from 1 and below 32",
        ),
        ({"expansion": {"min": 1.0, "max": 6.0}}, r"stages\[1\].expansion .*must have listed values"),
        ({"squeeze_excite": [0, 1.0]}, r"stages\[1\].squeeze_excite can be .* from 0 and below 1"),
        ({"squeeze_excite": "yes"}, r"stages\[1\].squeeze_excite can be one of \['yes'\]"),
        ({"stride": 3}, r"stages\[1\].stride can be one of \[3\], allowed are 1, 2"),
        ({"depth": [0, 1]}, r"stages\[1\].depth can be .* integers from 1 to 20"),
        ({"width": {"min": 8.0, "max": 16.0}}, r"stages\[1\].width can be anything"),
        ({"width": {"values": [8], "when": {"depth_1": 2}}}, r"stages\[1\].width has the condition"),
    ],
)
def test_impossible_stages_are_refused_with_their_place(changed, words):
    with pytest.raises(ValidationError, match=words):
        space(stages=[stage(2, 8, 1, 1), {**stage(2, 8, 1, 1), **changed}])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"activation": "swish"}, "activation can be .*, allowed are relu, relu6, hard_swish, silu, gelu"),
        ({"stem": 0}, "stem can be"),
        ({"stem_stride": 4}, "stem_stride can be"),
        ({"head": -1}, "head can be"),
        ({"dropout": 1.0}, "dropout can be"),
        ({"stages": []}, "stages"),
        ({"stages": [{"depth": 1}]}, "width"),
        ({"per_block": ["width"]}, "per_block"),
        ({"scaling": {"coefficient": [-1, 0]}}, r"scaling.coefficient can be .* from 0 and below 10"),
        ({"scaling": {"coefficient": {"min": 0.0, "max": 2.0}}}, "scaling.coefficient .*listed values"),
        ({"scaling": {"width": 0.9}}, "scaling"),
        ({"hyperparameters": {"width_1": [1, 2]}}, "'width_1' is a choice of the architecture"),
    ],
)
def test_impossible_settings_are_refused_when_the_spec_is_read(changed, words):
    with pytest.raises(ValidationError, match=words):
        space(**changed)


@pytest.mark.parametrize("activation", mbconv.ACTIVATION_NAMES)
def test_model_and_its_exported_file_agree(activation):
    one = space(
        stages=[stage(1, 16, 1, 1, 3, 0.25), stage(3, 24, 1, 2, 5)],
        activation=activation,
        scaling={"coefficient": 1, "resolution": 1.2},
    )
    model = one.build(only(one), FASHION).eval()
    assert len(export_onnx(model, torch.zeros(1, 1, 28, 28))) > 1000


def test_listing_without_end_is_refused():
    wide = {"width": {"min": 1, "max": 8192}}
    with pytest.raises(SpecError, match="space 'mbconv' has more than 50000 operations"):
        space(stages=[wide, wide]).all_operations(FASHION)


def test_flops_about_double_with_each_step_of_the_coefficient():
    one = space(**EFFICIENT_NET, scaling={"coefficient": [0, 2]})
    few, many = (statics(one, only(one, coefficient=phi), PHOTOS)["flops"] for phi in (0, 2))
    # depth * width^2 * resolution^2 is close to 2; rounding depths up adds to it
    assert many / few == pytest.approx(4, rel=0.4)


def test_maps_follow_weights_whose_channels_lie_last():
    model = space().build(only(space()), FASHION).eval()
    seen = []
    model[1].register_forward_hook(lambda module, given, left: seen.append(left))
    model(torch.randn(2, 1, 28, 28))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
