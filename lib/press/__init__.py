"""The press: runs each chapter once per distinct (code, parameters, library, rules, versions, device).

    python -m lib.press run                                   every page, quick profile
    python -m lib.press run superposition_phases -p seeds=3   one study, one value changed
    python -m lib.press confirm                               every study on fresh seeds, records kept
    python -m lib.press list | status | keep

Parameters are checked before a kernel starts. Outputs appear whole or not at all: a kill at any moment leaves the
previous execution in place and no kernel behind. Unchanged pages are kept; changed prose is merged over old outputs.

    pages         where a page's rooms are, and what its last execution was made from
    jobs          worker processes: started, watched, ended with all their children
    worker        one page executed by papermill in a process of its own
    keys          the library files that code reaches, and a digest of what they do
    runs          runs computed once, by content; resumable; collected into one table
    lock          one process at a time
    claims        the claims of the book, as checked objects
    verdicts      from measured values to a word: pure functions
    calibration   how often those words are false
    ledger        what a chapter judged, and the records of it
    kept          records kept in the tree; fresh seeds
    prose         numbers the prose quotes
    explore       sliders over a figure, where a reader sits at the notebook
    provenance    versions, device and processor of a result
    display       how far the jobs are, on a terminal or as plain lines
    lab           the book opened in JupyterLab
    sweep         many points of one study, from a laptop to a cluster
    reference     the notebooks that nbval replays
    scaffold      the rooms of a new study, from `template`
    site          pages and executions in, HTML out
    plotly_mime   plotly figures in pages, without the network
"""
