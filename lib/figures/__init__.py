"""Figures: data in, matplotlib Figure out. Colours and sizes live in `style`."""
