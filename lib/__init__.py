"""The superposition book's library: a map of its rooms. Importing `lib` imports nothing heavy.

Instruments (import these in your own notebook):
    lib.ensembles       many tiny models trained as one batched tensor program
    lib.models          toy models and networks
    lib.metrics         superposition, similarity, statistics: one pure function per metric, each with its null
    lib.data            data sets by name, verified against `registry.toml`; never a silent stand-in
    lib.figures         figures: data in, Figure out; `style` is the only place with colours
    lib.rng             named random streams; nothing touches a global generator

Machinery (what turns a chapter into a page):
    lib.params          strict YAML -> frozen parameters
    lib.press           runs a chapter once per distinct (code, parameters, library, data, versions, device)
    lib.runs            cached, resumable collections of runs -> one DataFrame
    lib.claims          verdict records and the table of claims
    lib.site            assembles and renders the book
    lib.content         content keys and atomic files

Studies (`lib.studies.<slug>`): frozen Params and the protocol of one run; the argument is in `book/studies/<slug>.md`.
"""
