"""Parameter sweeps: many points of one study, from a laptop to a cluster, each executed once and kept.

    make sweep STUDY=superposition_phases SWEEP=shape                 run what is missing
    python -m lib.press.sweep run|status|collect|keep FILE            the same, with options (`--help`)
    results.table("superposition_phases", "shape")                    the DataFrame, in a notebook

A point is its study with all its parameters; points of two sweeps that are the same are executed once. It lies in
`_build/sweeps/<study>/points/<id>`, which appears by one rename; `work/<id>` is where it is made, `failed/<id>` what is
left of one that failed. Whoever executes a point holds `work/<id>.lock`, which the system frees however its holder
ends: two drivers, on hosts that share the disk as well, never execute one point at the same time.

    plan     a sweep file and its points, and which of them stand
    point    one point executed in a process of its own, put in place or put aside
    measures the numbers of an executed chapter
    engines  where points are executed: slots of this machine
    cluster  the same on a Ray cluster
    drive    all points of a sweep brought up to date
    results  the table of a sweep
    gallery  the page of sweeps
    slots    GPUs shared between processes, those of `make book` as well
    carry    what a machine without a network lacks, and how to carry it there
"""
