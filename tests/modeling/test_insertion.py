"""Blocks in other people's models: same weights and outputs, and messages that say what to do."""

import copy

import pytest
import torch
import torchvision
from fast_part import first_cases
from helpers import randomise, tiny_cfg
from torch import nn

import nl_detectron
from nl_detectron import insert_nonlocal
from nl_detectron.modeling import build_model, find_blocks

# model, places, and the blocks that result with their channels
TORCHVISION = {
    "resnet18": (["layer3.-2", "layer2.*"], {"layer3.0": 256, "layer2.0": 128, "layer2.1": 128}),
    "regnet_y_400mf": (["trunk_output.block3.-2"], {"trunk_output.block3.block3-4": 208}),
    "mobilenet_v3_small": (["features.-3"], {"features.10": 96}),
}
TIMM = {
    "resnet10t": (["layer3.-1"], {"layer3.0": 256}),
    "regnetx_002": (["s3.-2", "s4.b2"], {"s3.b3": 152, "s4.b2": 368}),  # stages are no Sequentials
    "convnext_atto": (["stages.2.blocks.-2"], {"stages.2.blocks.4": 160}),
}


def make_model(library: str, name: str) -> nn.Module:
    if library == "timm":
        model = pytest.importorskip("timm").create_model(name, num_classes=5)
    else:
        model = torchvision.models.get_model(name, num_classes=5)
    for module in model.modules():  # a fresh norm is nearly the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def name_of_block(layer: str) -> str:
    container, _, child = layer.rpartition(".")
    return f"{container}.nonlocal{'' if child.isdigit() else '_'}{child}"


def run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


@first_cases(
    1,
    "library, name",
    [("torchvision", name) for name in TORCHVISION] + [("timm", name) for name in TIMM],
)
def test_a_model_keeps_weights_and_outputs_until_a_block_is_trained(library, name):
    after, expected = {**TORCHVISION, **TIMM}[name]
    model = make_model(library, name)
    x = torch.rand(2, 3, 96, 128)
    weights, before = copy.deepcopy(model.state_dict()), run(model, x)
    state = torch.get_rng_state()

    assert insert_nonlocal(model, after, pairwise="dot_product") is model
    assert torch.equal(torch.get_rng_state(), state)
    blocks = find_blocks(model)
    found = {block: module.in_channels for block, module in blocks.items()}
    assert found == {name_of_block(layer): c for layer, c in expected.items()}
    assert all(
        block.pairwise_name == "dot_product" and not block.training for block in blocks.values()
    )
    after_insertion = model.state_dict()
    assert all(torch.equal(after_insertion[key], value) for key, value in weights.items())
    assert torch.equal(run(model, x), before)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(key.startswith(tuple(blocks)) for key in missing)

    for block in blocks.values():
        randomise(block, std=0.05)
    trained = run(model, x)
    assert trained.isfinite().all() and not torch.allclose(trained, before)
    again = insert_nonlocal(make_model(library, name), after, pairwise="dot_product")
    again.load_state_dict(model.state_dict())
    assert torch.equal(run(again, x), trained)


@pytest.mark.slow
def test_a_block_is_trained_with_its_model():
    model = insert_nonlocal(make_model("torchvision", "resnet18").train(), ["layer3.-2"])
    block = find_blocks(model)["layer3.nonlocal0"]
    assert block.training and block.inner_channels == 128
    model(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert block.w_z.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_any_sequential_is_taken_by_name(ndim):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[ndim - 1]
    layers = {"stem": conv(2, 6, 3, padding=1), "act": nn.ReLU(), "last": conv(6, 4, 1)}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    x = torch.rand(2, 2, *[4, 8, 8][-ndim:])
    before = run(model, x)
    insert_nonlocal(model, ["act", "last"], reduction=1, norm="BN")
    assert [name for name, _ in model.named_children()] == [
        "stem", "act", "nonlocal_act", "last", "nonlocal_last",
    ]  # fmt: skip
    assert [(b.in_channels, b.inner_channels, b.ndim) for b in find_blocks(model).values()] == [
        (6, 6, ndim),
        (4, 4, ndim),
    ]
    assert torch.equal(run(model.eval(), x), before)


def test_places_are_counted_without_the_blocks_that_are_there():
    model = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(3)))
    insert_nonlocal(model, "-2")
    insert_nonlocal(model, ["-1", "0"])
    names = ["0", "nonlocal0", "1", "nonlocal1", "2", "nonlocal2"]
    assert [name for name, _ in model.named_children()] == names


def test_a_layer_that_is_used_twice_keeps_its_places():
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 1), relu, nn.Conv2d(4, 5, 1), relu)
    x = torch.randn(1, 3, 8, 8)
    before = run(model, x)
    insert_nonlocal(model, ["1", "-1"])
    names = ["0", "1", "nonlocal1", "2", "3", "nonlocal3"]
    assert list(model._modules) == names
    assert [block.in_channels for block in find_blocks(model).values()] == [4, 5]
    assert torch.equal(run(model, x), before)


@pytest.mark.slow
def test_dtype_and_modes_are_the_models():
    model = make_model("torchvision", "resnet18").double().train()
    model.layer1.eval()  # as of a frozen stage
    insert_nonlocal(model, ["layer3.0"], norm="BN")
    statistics = model.bn1.running_mean.clone()
    assert model.training and not model.layer1[0].training and model.layer2[0].training
    assert torch.equal(model.bn1.running_mean, statistics)
    assert {p.dtype for p in find_blocks(model)["layer3.nonlocal0"].parameters()} == {torch.double}


class Listed(nn.Module):
    """Takes a list of images, as detectors do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.ReLU())
        )

    def forward(self, images: list[dict]):
        return self.body(torch.stack([image["image"] for image in images]))


def test_channels_of_a_model_that_takes_no_tensor_are_those_of_its_convs():
    assert find_blocks(insert_nonlocal(Listed(), "body.1"))["body.nonlocal1"].in_channels == 6
    detector = build_model(tiny_cfg())
    insert_nonlocal(detector, ["backbone.bottom_up.res4.-2"])
    [block] = find_blocks(detector).values()
    assert block.in_channels == detector.backbone.bottom_up.res4[4].out_channels


def test_an_example_shows_the_channels_where_zeros_do_not():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.PixelShuffle(2), nn.ReLU())

        def forward(self, x, scale):
            return self.body(x * scale["factor"])

    with pytest.raises(
        ValueError, match=r"channels behind 'body.0' cannot be found.*give example="
    ):
        insert_nonlocal(Scaled(), "body.0")
    model = insert_nonlocal(Scaled(), "body.0", example=(torch.rand(1, 8, 4, 4), {"factor": 2}))
    assert find_blocks(model)["body.nonlocal0"].in_channels == 2
    with pytest.raises(ValueError, match=r"example: this model does not take it .*TypeError"):
        insert_nonlocal(Scaled(), "body.1", example=torch.rand(1, 8, 4, 4))


class Transposed(nn.Module):
    def forward(self, x):
        return x.movedim(1, -1)


MISTAKES = {
    "a misspelt stage": (["layr3.-2"], r"no 'layr3' in this model; did you mean layer3"),
    "an unknown stage": (["xyz.0"], r"no 'xyz' in this model, which has layer1 \(2 layers\), lay"),
    "a misspelt layer": (["layer3.bn"], r"no 'layer3.bn' in this model"),
    "a number too large": (["layer3.2"], r"no 'layer3.2'; 'layer3' has 2 layers, 0 to 1"),
    "a number too small": (["layer3.-3"], r"no 'layer3.-3'; 'layer3' has 2 layers, 0 to 1"),
    "a layer without layers": (["relu.0"], r"no 'relu.0'; 'relu' has no layers"),
    "a stage": (["layer3"], r"'layer3' belongs to a ResNet, .*; .*, write 'layer3.-1'"),
    "a conv in a block": (["layer3.0.conv1"], r"after 'layer3.0.conv1' would not run, as BasicBl"),
    "a layer twice": (["layer3.0", "layer3.-2"], r"'layer3.0' is named more than once"),
    "nothing": ([], r'expected names of layers such as \["layer3.-2"\], got \[\]'),
    "numbers": ([3], r"expected names of layers .* got \[3\]"),
    "a number": (3, r"expected names of layers .* got 3"),
}


@pytest.fixture(scope="module")
def resnet():
    return make_model("torchvision", "resnet18")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained_and_changes_nothing(mistake, resnet):
    after, message = MISTAKES[mistake]
    names = [name for name, _ in resnet.named_modules()]
    with pytest.raises(ValueError, match=message):
        insert_nonlocal(resnet, after)
    assert [name for name, _ in resnet.named_modules()] == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairwize": "gaussian"}, r"pairwize: expected options of NonLocalBlock \(inner_chan"),
        ({"reduction": 999}, r"reduction: expected 1 to 256 after 'layer3.0', got 999"),
        ({"norm": "FrozenBN"}, "norm: FrozenBN after W_z"),
        ({"ndim": 3}, "ndim: expected options"),
    ],
)
def test_a_wrong_option_is_explained_and_changes_nothing(options, message, resnet):
    names = list(resnet.state_dict())
    with pytest.raises(ValueError, match=message):
        insert_nonlocal(resnet, ["layer3.0"], **options)
    assert list(resnet.state_dict()) == names and not find_blocks(resnet)


def test_a_second_block_at_a_place_is_refused():
    model = insert_nonlocal(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), "0")
    with pytest.raises(ValueError, match=r"'0' has a block already, 'nonlocal0'; .*find_blocks"):
        insert_nonlocal(model, ["1", "0"])
    assert len(find_blocks(model)) == 1


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Transposed()], r"channels in dimension 1 behind '1', got shapes \(1, 96, 96, 4\) and"),
        ([nn.Flatten()], r"expected a map \(B,C,L\).* behind '1', got shape \(1, 65536\)"),
    ],
)
def test_what_is_no_map_of_channels_is_refused(layers, message):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), *layers)
    with pytest.raises(ValueError, match=message):
        insert_nonlocal(model, "1")


def test_containers_that_run_their_children_otherwise_are_refused():
    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)])

        def forward(self, x):
            return sum(layer(x) for layer in self.layers)

    with pytest.raises(
        ValueError, match=r"'layers.0' belongs to a ModuleList, which does not pass"
    ):
        insert_nonlocal(Summed(), "layers.0")
    with pytest.raises(ValueError, match="expected a plain module, got a DataParallel"):
        insert_nonlocal(nn.DataParallel(nn.Sequential(nn.Conv2d(3, 3, 1))), "module.0")


def test_the_function_is_the_packages_own():
    assert (
        nl_detectron.insert_nonlocal is insert_nonlocal
        and "insert_nonlocal" in nl_detectron.__all__
    )
