"""The style keeps its promises: contrast, sizes, one home for colours."""
from __future__ import annotations

import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

from lib.figures import style
from lib.files import PACKAGE, ROOT
from lib.press.ledger import VERDICTS


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2: 0.2126 R + 0.7152 G + 0.0722 B of the linear channels."""
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(color: str, ground: str) -> float:
    dark, light = sorted((luminance(color), luminance(ground)))
    return (light + 0.05) / (dark + 0.05)


def contrast_on_white(color: str) -> float:
    return contrast(color, "#FFFFFF")


def test_contrast_formula_on_known_colours():
    assert contrast_on_white("#FFFFFF") == pytest.approx(1)
    assert contrast_on_white("#000000") == pytest.approx(21)
    assert contrast_on_white("#767676") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("color", style.LINES)
def test_lines_stand_out_on_white(color):
    assert contrast_on_white(color) >= 3


@pytest.mark.parametrize("color", [style.NULL, style.INK])
def test_text_colours_are_readable_on_white(color):
    assert contrast_on_white(color) >= 4.5


def test_no_other_figure_module_names_a_colour():
    others = [p for p in (PACKAGE / "figures").glob("*.py") if p.name != "style.py"]
    found = {p.name: re.findall(r"#[0-9a-fA-F]{6}\b", p.read_text(encoding="utf-8")) for p in others}
    assert not any(found.values()), found


@pytest.mark.parametrize(("width", "inches"), style.WIDTHS.items())
def test_figure_has_the_named_width(width, inches):
    fig, axes = style.figure(width, aspect=0.4, rows=1, cols=2)
    assert fig.get_size_inches() == pytest.approx([inches, 0.4 * inches])
    assert len(axes) == 2 and fig.get_layout_engine() is not None
    assert not mpl.pyplot.get_fignums()


def test_unknown_width_names_the_accepted_ones():
    with pytest.raises(KeyError, match="half, page, wide"):
        style.figure("huge")


def test_symmetric_limits():
    assert style.symmetric_limits([[-3.0, 1.0], [np.nan, np.inf]]) == {"vmin": -3.0, "vmax": 3.0}
    assert style.symmetric_limits([0.0]) == {"vmin": -1.0, "vmax": 1.0}


def test_bands_lines_and_labels_draw():
    fig, ax = style.figure("half", aspect=1)
    ax.plot([0, 1], [0, 1])
    style.null_band(ax, 0.1, 0.2)
    style.null_band(ax, [0.4, 0.5], [0.5, 0.6], x=[0, 1], label=None)
    style.dots(ax, [0.2, 0.3], [0.2, 0.3])
    style.corner_key(ax, 0.98, 0.9, 0.1, {"one": style.BLUE, "two": style.ORANGE})
    for side in ("right", "left", "above", "below"):
        style.direct_label(ax, 0.5, 0.5, side, side=side)
    fig.canvas.draw()
    texts = {t.get_text() for t in ax.texts}
    assert texts == {"null", "right", "left", "above", "below", "one", "two"}
    assert ax.lines[-1].get_linestyle() == "None" and ax.lines[-1].get_alpha() < 1


def test_plain_ticks_are_written_out_and_fewer_on_a_long_axis():
    _, ax = style.figure()
    ax.set(xscale="log", xlim=(0.08, 3))
    for within, expected in ((np.inf, ["0.1", "0.2", "0.5", "1", "2"]), (30, ["0.1", "1"])):
        style.plain_ticks(ax.xaxis, within)
        places = [x for x in ax.xaxis.get_majorticklocs() if 0.08 <= x <= 3]
        assert ax.xaxis.get_major_formatter().format_ticks(places) == expected
        assert not len(ax.xaxis.get_minorticklocs())


def themes() -> dict[str, dict[str, str]]:
    """The variables of the stylesheet's two themes."""
    css = (ROOT / "book/_static/book.css").read_text(encoding="utf-8")
    blocks = re.findall(r'html\[data-theme="(\w+)"\] \{(.*?)\}', css, re.DOTALL)
    return {theme: dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for theme, block in blocks[:2]}


def test_every_verdict_has_a_colour_in_both_themes():
    for theme in themes().values():
        assert {name for name in theme if name.startswith("verdict-")} == {
            "verdict-ground", *(f"verdict-{word.replace(' ', '-')}" for word in VERDICTS)}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["pst-color-background", "book-key"])
@pytest.mark.parametrize("word", VERDICTS)
def test_a_verdict_is_readable_on_its_tinted_ground(theme, ground, word):
    variables = themes()[theme]
    color, share = variables[f"verdict-{word.replace(' ', '-')}"], float(variables["verdict-ground"].rstrip("%")) / 100
    mixed = share * np.array(to_rgb(color)) + (1 - share) * np.array(to_rgb(variables[ground]))
    assert contrast(color, to_hex(mixed)) >= 4.5
