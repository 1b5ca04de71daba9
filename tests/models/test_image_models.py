"""Image classifiers: the sizes the book names, a start from the seed alone, and what they refuse."""
import pytest
import torch

from lib.models.image_models import MODELS, image_model
from lib.topoloss import TopoLoss


def count(model):
    return sum(p.numel() for p in model.parameters())


def vit_parameters(image, channels, classes, patch, d, depth):
    """By hand: patches, class token and positions; per block two norms, qkv, proj and MLP; norm and head."""
    embedding = channels * patch**2 * d + d + d + ((image // patch) ** 2 + 1) * d
    block = 2 * 2 * d + (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d)
    return embedding + depth * block + 2 * d + (d * classes + classes)


def test_sizes_are_those_of_the_papers():
    small = image_model("vit_small", 224, 3, 1000, 0)
    assert count(small) == vit_parameters(224, 3, 1000, 16, 384, 12) == 22_050_664
    tiny = image_model("tiny_vit", 28, 1, 10, 0, patch=7)
    assert count(tiny) == vit_parameters(28, 1, 10, 7, 128, 4)
    assert len(tiny.blocks) == 4 and tiny.blocks[0].attn.num_heads == 4
    # a published ResNet-18 has 11,689,512 parameters for 1,000 classes and a 7 x 7 stem
    assert count(image_model("resnet18", 224, 3, 1000, 0)) == 11_689_512
    assert count(image_model("resnet18", 32, 3, 10, 0)) == 11_689_512 - 990 * 513 - (49 - 9) * 3 * 64


@pytest.mark.parametrize(("name", "options"), [("tiny_vit", {"patch": 4}), ("resnet18", {})])
def test_weights_depend_on_the_seed_alone(name, options):
    before = torch.get_rng_state()
    a = image_model(name, 8, 1, 3, 5, **options)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(17)
    b, c = image_model(name, 8, 1, 3, 5, **options), image_model(name, 8, 1, 3, 6, **options)
    torch.set_rng_state(before)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    drawn = [(x, y) for (n, x), y in zip(a.named_parameters(), c.parameters(), strict=True) if x.std() > 0]
    assert len(drawn) > 10 and not any(torch.equal(x, y) for x, y in drawn)


def test_models_of_one_shape_and_different_names_share_no_draws():
    shape = {"patch": 4, "width": 128, "depth": 1, "heads": 4}
    a, b = (image_model(n, 8, 1, 3, 0, **shape).blocks[0].attn.qkv.weight.detach() for n in ("tiny_vit", "vit_small"))
    assert abs(float(torch.corrcoef(torch.stack((a.flatten(), b.flatten())))[0, 1])) < 5 / a.numel() ** 0.5


@pytest.mark.parametrize(
    ("name", "options"), [("tiny_vit", {"patch": 8}), ("vit_small", {"depth": 1}), ("resnet18", {})]
)
def test_images_become_logits(name, options):
    model = image_model(name, 32, 3, 7, 0, **options)
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_dropout_and_drop_path_are_where_they_are_said_to_be():
    model = image_model("tiny_vit", 8, 1, 3, 0, patch=4, dropout=0.1, drop_path=0.3)
    dropped = {name: m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout) and m.p}
    blocks = [f"blocks.{i}.{place}" for i in range(4) for place in ("attn.proj_drop", "mlp.drop1", "mlp.drop2")]
    assert dropped == dict.fromkeys(["pos_drop", *blocks], 0.1)
    paths = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]
    assert paths == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_the_small_stem_keeps_the_size_of_small_images():
    for side, left in ((64, 64), (68, 17)):
        model = image_model("resnet18", side, 3, 10, 0)
        with torch.no_grad():
            found = model.layer1(model.maxpool(model.conv1(torch.zeros(1, 3, side, side))))
        assert found.shape[-2:] == (left, left)


def test_topographic_layers_are_found_by_name():
    vit, resnet = image_model("tiny_vit", 8, 1, 3, 0, patch=4), image_model("resnet18", 32, 3, 10, 0)
    assert len(TopoLoss(vit, "blocks.*.attn.proj", factor=4).names) == 4
    assert len(TopoLoss(resnet, "layer*.*.conv*", factor=4).names) == 16  # the published 16 convolutions


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("vgg", 8, 1, 3, 0), {}, ValueError, "no image model 'vgg'; there are vit_small, tiny_vit, resnet18"),
        (("tiny_vit", 28, 1, 3, 0), {}, ValueError, "patches of 16 pixels do not tile images of 28"),
        (("tiny_vit", 28, 1, 3, 0), {"patch": 7, "heads": 3}, ValueError, "3 heads do not divide a width of 128"),
        (("tiny_vit", 28, 1, 3, 0), {"patch": 0}, ValueError, "patch must be a whole number of at least 1, got 0"),
        (("tiny_vit", 28, 1, 3, 0), {"patch": 7.0}, ValueError, "patch must be a whole number of at least 1, got 7.0"),
        (("tiny_vit", 28, 1, 3, 0), {"patch": 7, "heads": 0}, ValueError, "heads must be a whole number"),
        (("tiny_vit", 28, 1, 3, 0), {"patch": 7, "depth": 0}, ValueError, "depth must be a whole number"),
        (("tiny_vit", 28, 1, 3, 0), {"patch": 7, "dropout": 2.0}, ValueError, "dropout and drop_path must lie in"),
        (("resnet18", 28, 1, 0, 0), {}, ValueError, "classes must be a whole number of at least 1, got 0"),
        (("resnet18", 28, 1, 3, 0), {"patch": 7}, TypeError, "patch"),
        (("resnet18", 28, 1, 3, 0.0), {}, TypeError, "seed must be an int"),
    ],
)
def test_models_that_cannot_be_are_refused(arguments, options, error, message):
    assert arguments[0] in MODELS or error is ValueError
    with pytest.raises(error, match=message):
        image_model(*arguments, **options)
