"""A model's activations: captured and replaced through hooks, kept on disk, patched between inputs.

    hooks     capture and replace by module name
    store     activations on disk that training reads by row
    sites     one layer of a classifier opened: its units, the network above it
    language  a language model's tokens: harvested, and spliced back
    patching  what patching sets of units does to the classes, against random and matched sets
"""
from lib.activations.hooks import capture, match_modules, patch
from lib.activations.store import ActivationStore, Statistics, StoreError, build, open_store

__all__ = [
    "ActivationStore", "Statistics", "StoreError", "build", "capture", "match_modules", "open_store", "patch",
]
