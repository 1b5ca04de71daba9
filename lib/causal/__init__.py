"""What a part of a model causes: patched units, effects of one layer on another, graphs of components."""
