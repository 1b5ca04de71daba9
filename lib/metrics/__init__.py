"""One pure function per metric, each with what it reads on structureless input.

Arrays of NumPy and tensors of torch are taken alike, in a graph and on any device; what comes back is a number or an
array of NumPy, but for `superposition` and `sparsity.samples_since_fired`, which give tensors.

    statistics            intervals and tests whose unit is the seed
    nulls                 draws of a null, a check that they move, and where an observation stands in them
    mixed_effects         effects of conditions when runs share seeds, classes or both
    frontier              sweeps read off at equal cost
    superposition         norms, dimensionality and interference of a toy model's features
    superposition_theory  exact losses of what a tiny toy model can choose from
    polytopes             which features share dimensions, and in what shape
    recovery              which known features a sparse coder found
    sparsity              what a sparse coder costs and keeps
    similarity            how alike two representations are
    spectrum              how many dimensions are really used
    selectivity           how much a unit prefers one class
    monosemanticity       whether the samples a latent fires on look alike
    polysemanticity       whether what a unit fires on splits into clusters that labels tell apart
    tokens                how often a latent fires, and on which tokens
    topography            where things lie on a cortical sheet
"""
