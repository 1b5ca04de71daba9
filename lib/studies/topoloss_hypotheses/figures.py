"""Figures of cortical sheets and of what topographic training changes; an arm is a topo_weight or a control.

Tables have a row per run or item and the columns arm, seed and what each figure names. `arms` gives their order and
labels; those in `controls` are grey, and their lines broken.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures import style

Arms = Mapping[object, str]
"""Value in the column arm -> label, in order."""


def class_colours(n_classes: int) -> np.ndarray:
    """One colour per class, RGB in 0..1, [n_classes, 3]; ten can be told apart, more run along a scale."""
    if n_classes > 10:
        return style.colormap("turbo")(np.linspace(0.02, 0.98, n_classes))[:, :3]
    colours = np.array([to_rgb(colour) for colour in style.colormap("tab10").colors])
    colours[7] = to_rgb(style.INK)  # its grey is what the book draws nulls in
    return colours[:n_classes]


def preference_image(preferred: np.ndarray, selectivity: np.ndarray, n_classes: int, full: float) -> np.ndarray:
    """Hue = preferred class, lightness = selectivity: white at 0, the class's own colour from `full` on.

    Args:
        preferred: class of each unit, ints [h, w]; selectivity: [h, w], nan drawn white; full: that of the full colour.
    Returns:
        RGB in 0..1, [h, w, 3].
    """
    strength = np.nan_to_num(np.clip(np.asarray(selectivity) / full, 0, 1))[..., None]
    paper = np.array(to_rgb(style.PAPER))
    return paper + strength * (class_colours(n_classes)[preferred] - paper)


def cortical_sheets(
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str], full: float, note: str = ""
) -> Figure:
    """The sheet of every model: a row per arm, a column per seed, a cell per unit, coloured by the class it prefers.

    Args:
        rows: label -> (preferred class, ints [seeds, h, w]; selectivity [seeds, h, w]).
        classes: names; full: selectivity drawn in full colour; note: what selectivity is, beneath the key.
    """
    preferred = next(iter(rows.values()))[0]
    n_seeds, height, width = preferred.shape
    inches = 0.3 + len(rows) * (0.08 + 4.3 / n_seeds * height / width)  # 4.3 of the page's are left to the sheets
    aspect = max(inches, 2.1) / style.WIDTHS["page"]
    fig, axes = style.figure(aspect=aspect, rows=len(rows), cols=n_seeds + 1, squeeze=False,
                             width_ratios=[1] * n_seeds + [0.27 * n_seeds])
    fig.get_layout_engine().set(h_pad=0.03, w_pad=0.03, hspace=0, wspace=0)
    for r, (label, (liked, strength)) in enumerate(rows.items()):
        for s in range(n_seeds):
            axes[r, s].imshow(preference_image(liked[s], strength[s], len(classes), full))
            axes[r, s].set(xticks=[], yticks=[])
            axes[r, s].spines[:].set(visible=True, color=style.GRID)
        axes[r, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8.5)
    for s in range(n_seeds):
        axes[0, s].set_title(f"seed {s}", fontsize=8.5)
    _class_key(fig, axes[:, -1], classes, note)
    fig.numbers = pd.DataFrame([
        (" ".join(label.split()), *place, classes[c], strength[place])
        for label, (liked, strength) in rows.items() for place, c in np.ndenumerate(liked)
    ], columns=("arm", "seed", "row", "column", "class", "selectivity"))
    return fig


def _class_key(fig: Figure, column: np.ndarray, classes: Sequence[str], note: str) -> None:
    """Names in their colours in one tall panel in place of the last column."""
    for ax in column[1:]:
        ax.remove()
    key = column[0]
    key.set_subplotspec(key.get_gridspec()[:, -1])
    key.set_axis_off()
    shown = classes if len(classes) <= 12 else [*classes[:5], "…", *classes[-5:]]
    colours = class_colours(len(classes))
    place = {name: c for c, name in enumerate(classes)}
    for line, name in enumerate(shown):
        colour = colours[place[name]] if name in place else style.INK
        key.text(0, 0.97 - 0.84 * line / max(10, len(shown)), f"■ {name}", color=colour, fontsize=8.5, va="top",
                 transform=key.transAxes)
    key.text(0, 0.03, note, color=style.INK, fontsize=8.5, va="bottom", transform=key.transAxes)


def arm_colours(arms: Arms, controls: Collection = ()) -> dict[object, object]:
    """A colour per arm: grey for controls; black to orange for up to four others, else a scale."""
    weights = [arm for arm in arms if arm not in controls]
    between = {3: [style.BLUE], 4: [style.BLUE, style.GREEN]}.get(len(weights), [])
    few = [style.BLACK, *between, style.ORANGE]
    scale = few if len(weights) <= 4 else style.colormap(style.SEQUENTIAL)(np.linspace(0, 0.82, len(weights)))
    return dict(zip(weights, scale, strict=False)) | {arm: style.NULL for arm in arms if arm in controls}


def arm_dashes(arms: Arms, controls: Collection = ()) -> dict[object, object]:
    """A line style per arm: whole, and for controls dashed, then dotted, so that two greys can be told apart."""
    dashes = [(0, (5, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4))]
    return {arm: "solid" for arm in arms} | dict(zip([arm for arm in arms if arm in controls], dashes, strict=False))


def _key(ax: Axes, lines: Mapping[str, tuple[float, object, object]], loc: str) -> None:
    """Names of lines (label -> height, colour, line style) in the order of their heights, behind pieces of them."""
    ordered = sorted(lines.items(), key=lambda line: -line[1][0])
    pieces = [Line2D([], [], color=colour, linestyle=dash, linewidth=2.2) for _, (_, colour, dash) in ordered]
    ax.legend(pieces, [label for label, _ in ordered], loc=loc, labelcolor="linecolor", handlelength=2.6)


def sparsity_frontier(
    runs: pd.DataFrame, arms: Arms, controls: Collection = (), n_latents: int | None = None
) -> Figure:
    """Active latents over explained variance, a thick line per arm (mean of seeds), named in its order at .9, and a
    thin one per seed; upright lines where arms are compared.

    Args:
        runs: columns arm, seed, fve, l0; one row per coder of a sweep.
        n_latents: of the coder; more than a tenth of them active is shaded as not sparse.
    """
    fig, ax = style.figure(aspect=0.58)
    colours, dashes, lines = arm_colours(arms, controls), arm_dashes(arms, controls), {}
    for arm, label in arms.items():
        sweeps = runs[runs.arm == arm].sort_values("fve").groupby("seed")
        curves = [sweep[["fve", "l0"]].to_numpy() for _, sweep in sweeps]
        behind = 1 if arm in controls else 2
        for curve in curves:
            ax.plot(*curve.T, color=colours[arm], linewidth=0.6, alpha=0.35, zorder=behind)
        x, y = _mean_curve(curves)
        ax.plot(x, y, color=colours[arm], linewidth=2.2, linestyle=dashes[arm], zorder=4 - behind)
        lines[label] = (np.interp(0.9, x, y), colours[arm], dashes[arm])
    for fve in (0.8, 0.9, 0.95):
        ax.axvline(fve, color=style.GRID, linewidth=0.9, zorder=0)
    ax.set(xlabel="explained variance of the activations", ylabel="active latents per image (l0)", yscale="log")
    style.plain_ticks(ax.yaxis)
    if n_latents and ax.get_ylim()[1] > n_latents / 10:
        bottom, top = ax.get_ylim()
        ax.axhspan(n_latents / 10, 1.25 * top, color=style.NULL, alpha=0.12, linewidth=0, zorder=0)
        style.direct_label(ax, ax.get_xlim()[0], np.sqrt(1.25 * top * max(bottom, n_latents / 10)),
                           "not sparse: over a tenth of the latents active", style.NULL)
        ax.set_ylim(bottom, 1.25 * top)
    _key(ax, lines, "lower right")
    return fig


def _mean_curve(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Geometric mean of y over the range of x that all curves reach; the pooled points where there is none."""
    low, high = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
    if not low < high:
        points = np.concatenate(curves)
        return tuple(points[np.argsort(points[:, 0])].T)
    x = np.linspace(low, high, 60)
    return x, np.exp(np.mean([np.interp(x, curve[:, 0], np.log(curve[:, 1])) for curve in curves], axis=0))
