"""Training of image classifiers and language models.

    recipe = Recipe(steps=300, batch=128, lr=1e-3)
    history = train(image_model("tiny_vit", 28, 1, 10, seed=0, patch=7), images, labels, recipe, seed=0)
    evaluate(model, test_images, test_labels)

With a topographic loss: `train(model, ..., extra_loss=weighted(TopoLoss(model, "blocks.*.attn.proj"), 2.0))`.
`prepare` turns uint8 images into what a model reads.

    recipe        how to train
    trainer       `train`, on the loop of `lib.loop`
    steps         one model in it
    language      `train_language`, the same for windows of tokens
    batches       images in the order they are seen
    augmentation  what images go through
    evaluation    what a trained model says
"""
from lib.training.augmentation import prepare
from lib.training.batches import image_tensor
from lib.training.evaluation import evaluate, logits
from lib.training.recipe import Recipe
from lib.training.steps import History, weighted
from lib.training.trainer import train

__all__ = ["History", "Recipe", "evaluate", "image_tensor", "logits", "prepare", "train", "weighted"]
