"""A page that shows each latent of a sparse coder on texts: one file, for a browser or a notebook, without a network.

    from lib.dashboard.page import dashboard, embedded

    path = dashboard(coder, model, texts, "blocks.1")      # open it; or embedded(path) in a cell

    records  what the page shows, as plain data
    page     the file
"""
