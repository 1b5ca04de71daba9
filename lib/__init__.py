"""The superposition book's library: a map of its rooms. Importing `lib` imports nothing heavy.

Instruments (import these in your own notebook):
    lib.sparse_coders   sparse autoencoders and transcoders: one class, one trainer, every encoder rule
    lib.spd             stochastic parameter decomposition of Linear, Conv2d and Embedding layers
    lib.topoloss        units on cortical sheets, and the loss that makes neighbours alike
    lib.training        the training loop for torch modules: exact resume
    lib.ensembles       many tiny models trained as one batched tensor program
    lib.models          toy models and networks; the one door to torchvision and timm
    lib.activations     capture and patch modules by name; the activation store; what patching units does
    lib.metrics         one pure function per metric, each with its null; intervals and tests
    lib.data            data sets by name, verified against `registry.toml`; never a silent stand-in
    lib.figures         figures: data in, Figure out; `style` is the only place with colours
    lib.rng             named random streams; nothing touches a global generator

Machinery (what turns a chapter into a page):
    lib.params          strict YAML -> frozen parameters
    lib.press           runs a chapter once per distinct (code, parameters, library, rules, versions, device)
    lib.press.runs            runs computed once, by content -> dicts and DataFrames
    lib.press.claims          verdict records and the table of claims
    lib.press.prose           numbers the prose quotes
    lib.press.site            assembles and renders the book
    lib.press.scaffold        the five rooms of a new study
    lib.files         content keys and atomic files; `provenance`: versions and machine; `live`: progress

Studies (`lib.studies.<slug>`): frozen Params and the protocol of one run; the argument is in `book/studies/<slug>.md`.
"""
