"""The site: pages, executed notebooks and generated fragments in, `_build/html` out.

Nothing is executed here and nothing comes from the network. Unchanged inputs are recognised by content and left alone;
a build that fails leaves the previous site as it was.

    python -m lib.press.site build|pdf [--profile quick] [--book DIR]

    source  what the site is made of, laid out in `_build/src`
    render  from there to `_build/html`: Jupyter Book with warnings as errors, then one swap
    pdf     from there to `_build/book.pdf`
"""
from lib.press.site.render import build
from lib.press.site.source import Site, SiteError

__all__ = ["Site", "SiteError", "build"]
