"""The superposition book's library: a map of its rooms. Importing `lib` imports nothing heavy.

Arrows run one way: studies and press -> library -> ground. `help(lib.sparse_coders)` lists a room's modules.

Ground (imports nothing above it):
    lib.rng                 named random streams; nothing touches a global generator
    lib.tensors             values as NumPy, a device by name, gradients that are given
    lib.files               digests, a lock, and files that appear whole or not at all
    lib.params              strict YAML -> frozen parameters; strict options of the library's objects
    lib.checkpoints         states of a training in a file, whole or not there
    lib.live                one line of progress
    lib.watch               a display of a training in the terminal, and trackers; off by default
    lib.schedules           the samples of each step, and the factor on a rate at each step
    lib.loop                the one training loop: resume, rows, checkpoints, progress, refusals
    lib.ensembles           many tiny models trained as one batched tensor program
    lib.torchvision_import  the one door to torchvision, and to timm through it: where `import timm` ends in "operator
                            torchvision::nms does not exist", `timm = import_torchvision("timm")` does not

Library (import these in your own notebook):
    lib.data                data sets by name, verified against `registry.toml`; never a silent stand-in
    lib.metrics             one pure function per metric, each with its null; intervals and tests
    lib.models              toy models of superposition, image classifiers, language models
    lib.activations         captured and replaced by module name, kept on disk, patched between inputs
    lib.training            classifiers and language models trained, with exact resume
    lib.topoloss            units on cortical sheets, and the loss that makes neighbours alike
    lib.sparse_coders       sparse autoencoders and transcoders: one class, one trainer, every encoder rule
    lib.spd                 stochastic parameter decomposition of Linear, Conv2d and Embedding layers
    lib.dashboard           a page of a sparse coder's latents on texts
    lib.figures             figures: data in, Figure out; `style` is the only place with colours

Studies (`lib.studies.<slug>`): what one study alone uses. `protocol` has its Params and says what one run is; what
trains stands apart from what measures; the argument stands in `book/studies/<slug>.md`.

Press (`lib.press`): runs each chapter once per distinct (code, parameters, library, rules, versions, device), keeps
runs by content, records verdicts and renders the book.

The spine, twenty files to read first:
    rng.py  params.py  loop.py  ensembles.py
    metrics/statistics.py  metrics/nulls.py  metrics/superposition.py  metrics/recovery.py
    models/toy_superposition.py  activations/hooks.py  topoloss.py  training/trainer.py
    sparse_coders/coder.py  sparse_coders/rules.py  sparse_coders/trainer.py
    spd/components.py  spd/decomposition.py  spd/losses.py
    press/runs.py  press/pages.py
"""
