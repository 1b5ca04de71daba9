"""Patching: effects worked out by hand in a linear model, two tails that agree, nulls that read one."""
import numpy as np
import pytest
import torch
from torch import nn

from lib.activations import patching
from lib.activations.sites import open_site, other_class_means, replaced, tail_of, unit_activity
from lib.metrics.nulls import against_null
from lib.metrics.topography import random_sets
from lib.rng import generator, numpy_generator
from lib.studies.topoloss_hypotheses.class_units import published_patching
from lib.torchvision_import import import_torchvision

HEAD = torch.tensor([[1.0, 0, 2], [0, 3, 0]])
IMAGES = torch.tensor([[1.0, 2, 3], [3, 2, 1], [0, 0, 0], [2, 2, 2]])
LABELS = torch.tensor([0, 0, 1, 1])


def rng(*labels):
    return numpy_generator(0, "test", "patching", *labels)


def linear_model(head=HEAD):
    """Three units that copy the image, then logits = head @ units."""
    model = nn.Sequential(nn.Identity(), nn.Linear(head.shape[1], len(head), bias=False)).eval()
    model[1].weight.data = head
    return model


@pytest.fixture
def site():
    return open_site(linear_model(), "0", IMAGES, LABELS)


def build_vit():
    timm = import_torchvision("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.models.vision_transformer.VisionTransformer(
            img_size=8, patch_size=4, in_chans=1, num_classes=3, embed_dim=16, depth=3, num_heads=2,
        )
        for values in net.parameters():
            values.data.normal_(0, 0.3)
    return net.double().eval()


def build_resnet():
    timm = import_torchvision("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("resnet18", num_classes=3, in_chans=1).double().eval()


VIT, RESNET = build_vit(), build_resnet()


def pictures(n=6, side=8):
    return torch.randn(n, 1, side, side, generator=generator(0, "test", "pictures"), dtype=torch.float64)


def test_other_class_means_by_hand(site):
    # class 0 is patched with the mean of (0, 0, 0) and (2, 2, 2), class 1 with that of (1, 2, 3) and (3, 2, 1)
    assert other_class_means(site).tolist() == [[1, 1, 1], [2, 2, 2]]
    assert unit_activity(site).tolist() == IMAGES.tolist()


def test_logit_changes_by_hand(site):
    value = torch.tensor([1.0, 1, 1])
    changes = patching.logit_changes(site, [[0, 2], [1, 2]], value, torch.tensor([0, 1]), batch=3)
    # image (1, 2, 3): units 0, 2 move by (0, -2), so logit 0 by -4; units 1, 2 by (-1, -2), logits by -4 and -3
    assert changes[:, 0].tolist() == [[-4, 0], [-4, -3]]
    # image (3, 2, 1): units 0, 2 move by (-2, 0); units 1, 2 by (-1, 0)
    assert changes[:, 1].tolist() == [[-2, 0], [0, -3]]
    half = patching.logit_changes(site, [[0, 2]], value, torch.tensor([0]), scale=[0.5])
    assert half[0, 0].tolist() == [-2, 0]


def test_effects_and_push_by_hand(site):
    values, sets = other_class_means(site), [[0], [2], [1]]
    assert patching.patch_effects(site, sets, values, 0) == pytest.approx([(0 + 2) / 2, (4 + 0) / 2, 0])
    assert patching.patch_effect_matrix(site, sets, values)[:, 1] == pytest.approx([0, 0, (6 + 0) / 2])
    assert patching.push(site, [[0, 2], [1, 2]], values, 0) == pytest.approx([2, 3**0.5])  # squares 0+4, 4+0; 1+4, 1+0


def test_contrast_and_top_sets_by_hand():
    activity = np.array([[2.0, 0, 5], [4, 0, 5], [0, 0, 5], [0, 6, 5]])
    scores = patching.contrast(activity, [0, 0, 1, 1], 2)
    sd = np.std([2, 4, 0, 0]), np.std([0, 0, 0, 6])
    assert scores == pytest.approx(np.array([[3 / sd[0], -3 / sd[1], 0], [-3 / sd[0], 3 / sd[1], 0]]))
    assert patching.top_sets(scores, 2).tolist() == [[0, 2], [1, 2]]
    assert patching.top_sets([[1, 1, 1]], 2).tolist() == [[0, 1]]  # ties to the lower index
    for dtype in (bool, np.uint8, np.float32):
        assert patching.top_sets(np.array([0, 0, 1], dtype), 2).tolist() == [2, 0]


@pytest.mark.parametrize("model, name, side", [(VIT, "blocks.0", 8), (VIT, "blocks.2", 8), (RESNET, "layer2", 32)])
def test_the_rest_of_the_model_equals_the_whole_model_with_its_output_replaced(model, name, side):
    images, labels = pictures(side=side), torch.tensor([0, 1, 2, 0, 1, 2])
    quick = open_site(model, name, images, labels, batch=4)
    assert torch.equal(quick.logits, torch.cat([model(images[:4]), model(images[4:])]).detach())
    slow = quick._replace(tail=replaced(model, name))
    sets = random_sets(quick.n_units, 5, 3, rng(name))
    found, expected = (patching.logit_changes(s, sets, other_class_means(s)[1], batch=7) for s in (quick, slow))
    assert found.shape == (3, 6, 3) and found.abs().max() > 1e-3
    assert (found - expected).abs().max() < 1e-10


def test_many_sets_at_once_are_one_set_at_a_time_through_a_plain_hook():
    images, labels = pictures(), torch.tensor([0, 1, 2, 0, 1, 2])
    site = open_site(VIT, "blocks.1", images, labels)
    value, sets = other_class_means(site)[0], random_sets(16, 4, 3, rng("hook"))
    found = patching.logit_changes(site, sets, value)
    for own, changes in zip(sets, found, strict=True):
        def edit(module, inputs, output, own=own):
            output[..., own] = value[:, own]  # all tokens
            return output
        handle = VIT.blocks[1].register_forward_hook(edit)
        with torch.no_grad():
            assert (VIT(images) - site.logits - changes).abs().max() < 1e-10
        handle.remove()


def test_a_convolutions_units_are_its_channels_at_all_places():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model[0].weight.data = torch.tensor([1.0, -2]).reshape(2, 1, 1, 1)
    images = torch.tensor([[[[1.0, 3]]], [[[5, 5]]]])
    site = open_site(model, "0", images, torch.tensor([0, 1]))
    assert site.n_units == 2 and unit_activity(site).tolist() == [[2, -4], [5, -10]]
    # class 0 is patched with image 1: channel 0 goes from a mean of 2 to 5, channel 1 from -4 to -10
    assert patching.patch_effects(site, [[0], [1]], other_class_means(site), 0) == pytest.approx([3, 0])
    assert patching.patch_effects(site, [[0], [1]], other_class_means(site), 1) == pytest.approx([0, 6])
    assert patching.push(site, [[0]], other_class_means(site), 0) == pytest.approx([((4**2 + 2**2) / 2) ** 0.5])


def planted(n_classes=4, per_class=6, noise=0.3):
    """Class c drives units 4c..4c+3 and logit c sums them; the other units hardly touch it, half of them are noise."""
    labels = np.repeat(np.arange(n_classes), per_class)
    head = 0.1 * rng("head").normal(size=(n_classes, 32))
    for c in range(n_classes):
        head[c, 4 * c : 4 * c + 4] = 1
    images = (head[labels] > 0.9) + noise * rng("planted").normal(size=(len(labels), 32))
    model = linear_model(torch.tensor(head)).double()
    return open_site(model, "0", torch.tensor(images), torch.tensor(labels))


def test_units_that_carry_the_class_score_high_on_all_three():
    site = planted()
    sets = patching.top_sets(patching.contrast(unit_activity(site), site.labels, 4), 4)
    assert np.sort(sets).tolist() == [[4 * c + i for i in range(4)] for c in range(4)]
    table = patching.causal_scores(site, sets, n_random=40, rng=rng("controls"))
    assert (table.sufficiency > 3).all() and (table.purity > 3).all()
    assert (table.matched < table.sufficiency).all()  # these units also move further than random ones
    matrix = patching.patch_effect_matrix(site, sets, other_class_means(site))
    assert table.effect.to_numpy() == pytest.approx(np.diag(matrix))
    assert table.elsewhere[0] == pytest.approx(matrix[0, 1:].mean())
    assert table.purity[0] == pytest.approx(matrix[0, 0] / table.elsewhere[0])
    assert np.allclose(np.exp(table.log_matched), table.matched)


def test_random_units_score_one():
    site, found = planted(noise=1.0), []
    for draw in range(12):
        sets = random_sets(32, 8, 4, rng("null", str(draw)))
        found.append(patching.causal_scores(site, sets, n_random=30, rng=rng("controls", str(draw))))
    ratios = np.stack([table.sufficiency for table in found])  # [draws, classes]
    logs = np.log(ratios)
    assert abs(ratios.mean() - 1) < 0.2 and ratios.std() > 0.1
    assert -0.8 < logs.mean() < -0.1  # the log of a mean exceeds the mean of logs: a null read on logs lies below 0


def test_specificity_of_random_units_is_one_where_purity_shows_the_scale_of_the_logits():
    scale = np.array([1.0, 2, 4, 1, 0.5])
    head = torch.tensor(scale[:, None] * rng("scaled").normal(size=(5, 64)))
    images, labels = torch.tensor(rng("scaled images").normal(size=(200, 64))), torch.arange(200) % 5
    site, found = open_site(linear_model(head).double(), "0", images, labels), []
    for draw in range(60):
        sets = random_sets(64, 8, 5, rng("scaled", str(draw)))
        found.append(patching.causal_scores(site, sets, 20, rng=rng("scaled controls", str(draw))))
    mean = sum(found) / len(found)  # of each class
    expected = scale / ((scale.sum() - scale) / 4)  # by scales alone: 4 / 1.125 for the largest
    assert mean.purity.to_numpy() == pytest.approx(expected, rel=0.35)
    assert mean.purity_random.to_numpy() == pytest.approx(mean.purity.to_numpy(), rel=0.25)
    assert mean.specificity.to_numpy() == pytest.approx(np.ones(5), abs=0.25) and abs(mean.specificity.mean() - 1) < 0.1


def test_specificity_by_hand():
    site = planted()
    sets, values = random_sets(32, 4, 4, rng("by hand")), other_class_means(site)
    table = patching.causal_scores(site, sets, 6, rng=rng("by hand controls"))
    controls = random_sets(32, 4, 6, rng("by hand controls"))
    own, null = patching.patch_effect_matrix(site, sets, values), patching.patch_effect_matrix(site, controls, values)
    one = (own[1, 1] / null[:, 1].mean()) / np.mean([own[1, c] / null[:, c].mean() for c in (0, 2, 3)])
    assert table.specificity[1] == pytest.approx(one) and table.log_specificity[1] == pytest.approx(np.log(one))
    each = null[:, 1] / null[:, [0, 2, 3]].mean(1)
    assert table.purity_random[1] == pytest.approx(each.mean()) and table.random[1] == pytest.approx(null[:, 1].mean())


def test_random_sets_that_push_nothing_do_not_count_where_pushes_are_matched():
    labels = np.repeat([0, 1], 20)
    images = rng("silent").normal(size=(40, 32))
    images[:, 4:] = 0  # 28 of 32 units are silent, so that most random sets push nothing
    site = open_site(linear_model(torch.ones(2, 32)).double(), "0", torch.tensor(images), torch.tensor(labels))
    table = patching.causal_scores(site, [[0, 4], [1, 5]], 40, rng=rng("silent controls"))
    assert np.isfinite(table[["pushed", "matched", "log_matched"]]).all(axis=None) and (table.pushed > 0).all()
    images[:, 2:] = 0
    site = open_site(linear_model(torch.ones(2, 32)).double(), "0", torch.tensor(images), torch.tensor(labels))
    values = other_class_means(site)
    assert np.isnan(patching._pushed(site, np.array([0]), np.array([[3], [4]]), values, 0, 512)).all()


def test_equal_push_undoes_what_only_size_does():
    """Units that differ in size alone: the ratio sees the size, the matched ratio does not."""
    size = np.r_[np.full(4, 3.0), np.ones(28)]
    labels = np.repeat([0, 1], 40)
    images = rng("size").normal(size=(80, 32)) * size
    head = torch.tensor(rng("head").choice([-1.0, 1], size=(2, 32)))
    site = open_site(linear_model(head).double(), "0", torch.tensor(images), torch.tensor(labels))
    table = patching.causal_scores(site, [[0, 1, 2, 3]] * 2, n_random=60, rng=rng("controls"))
    assert (table.sufficiency > 1.8).all() and (abs(table.matched - 1) < 0.2).all()


def test_the_published_ratio_selects_where_it_patches_and_one_control_makes_it_jump():
    site = planted()
    values, activity = other_class_means(site), unit_activity(site)

    def published(*labels):
        return published_patching(site, values, activity, 4, (1, site.n_units), rng=rng(*labels)).published_ratio

    own = patching.top_sets(activity[:6].mean(0), 4)
    control = random_sets(site.n_units, 4, 1, rng("published"))
    of_set, of_control = (patching.patch_effects(site, sets, values, 0)[0] for sets in (own[None], control))
    assert published("published")[0] == pytest.approx(of_set / of_control)
    again = [published("again", str(i)).mean() for i in range(20)]
    assert np.std(again) > 0.2 and against_null(np.mean(again), again).p_value > 0.3


@pytest.mark.parametrize("what, message", [
    (lambda site: patching.patch_effects(site, [[3]], other_class_means(site), 0),
     r"sets must be ints \[n_sets, k\] below 3"),
    (lambda site: patching.patch_effects(site, [[0]], other_class_means(site)[:, :2], 0),
     r"value must be \(3,\), got \(2,\)"),
    (lambda site: patching.patch_effects(site, [[0]], torch.zeros(9, 3), 5), "no image of class 5"),
    (lambda site: patching.causal_scores(site, [[0]], rng=rng()), "one set for each of 2 classes"),
    (lambda site: other_class_means(site._replace(labels=torch.zeros(4))), "at least two classes"),
    (lambda site: open_site(linear_model().train(), "0", IMAGES, LABELS), "training mode"),
    (lambda site: open_site(linear_model(), "*", IMAGES, LABELS), "must name one module"),
    (lambda site: open_site(linear_model(), "0", IMAGES, LABELS[:2]), "4 images do not fit 2 labels"),
    (lambda site: tail_of(VIT, "blocks.9"), "no module matches"),
    (lambda site: patching.contrast(IMAGES, LABELS, 3), "each of 3 classes"),
    (lambda site: patching.contrast([[0, 1], [np.nan, 1]], [0, 1], 2), "activity has 1 non-finite values"),
    (lambda site: patching.top_sets([1.0], 2), "k must be in 1..1"),
])
def test_what_cannot_be_patched_is_refused(site, what, message):
    with pytest.raises(ValueError, match=message):
        what(site)
