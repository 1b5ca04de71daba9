"""The site: pages, executed notebooks and generated fragments in, `_build/html` out.

Nothing is executed here and nothing comes from the network. Unchanged inputs are recognised by content and left alone;
a build that fails leaves the previous site as it was.

    python -m lib.press.site build [--profile quick] [--book DIR]
"""
from lib.press.site.render import build
from lib.press.site.source import Site, SiteError

__all__ = ["Site", "SiteError", "build"]
