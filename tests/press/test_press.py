"""The press on a miniature checkout: what runs, what is kept, what is refused."""
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
from checkout import CLAIM, QUICK, judging

from lib.params import ParameterError
from lib.press import jobs, pages
from lib.press.pages import PageError, Request, find_page


def test_run_stores_a_whole_notebook_and_its_results(checkout):
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    book = checkout.notebook()["metadata"]["book"]
    assert book["params"] == {"profile": "quick", "seeds": 2, "rate": 0.5, "mode": "plain", "pause": 0.0}
    assert json.loads(checkout.results.read_text()) == {"answer": 4} == book["results"]
    assert book["facts"]["environment"]["torch"] and book["seconds"] > 0
    assert not list(checkout.root.glob("_build/partial/**/*.ipynb"))
    last = checkout.notebook()["cells"][-1]
    assert last["outputs"][0]["text"] == ["answer 4\n"]


def test_unchanged_page_is_kept_in_well_under_a_second(executed):
    before = executed.output.read_bytes(), executed.output.stat().st_mtime_ns
    start = time.monotonic()
    again = executed.run()
    assert again.stdout == "tiny [quick]: kept\n" and time.monotonic() - start < 1.0
    assert (executed.output.read_bytes(), executed.output.stat().st_mtime_ns) == before


def test_lost_results_are_laid_again_from_the_kept_notebook(executed):
    executed.results.write_text("{ half")
    assert "kept" in executed.run().stdout
    assert json.loads(executed.results.read_text()) == {"answer": 4}


def test_changed_prose_is_merged_without_executing(executed):
    old = executed.notebook()
    text = executed.chapter.read_text().replace("# Tiny", "# Tiny, told better")
    fence = "```{code-cell} ipython3\n"
    executed.chapter.write_text(text.replace(f"{fence}time", f"{fence}:tags: [hide-input]\n\ntime"))
    assert executed.run().stdout == "tiny [quick]: kept, with its new prose\n"
    new = executed.notebook()
    assert "told better" in "".join(new["cells"][0]["source"])
    assert new["cells"][-1]["outputs"] == old["cells"][-1]["outputs"]
    assert new["metadata"]["book"]["finished"] == old["metadata"]["book"]["finished"]
    assert any("hide-input" in c["metadata"].get("tags", []) and "time" in "".join(c["source"]) for c in new["cells"])
    assert executed.run().stdout == "tiny [quick]: kept\n"


@pytest.mark.parametrize("what", ["code", "parameter", "library", "notebook torn"])
def test_what_a_result_depends_on_reruns_it(executed, what):
    if what == "code":
        executed.chapter.write_text(executed.chapter.read_text().replace('print("answer"', 'print("the answer"'))
    elif what == "parameter":
        executed.quick.write_text(executed.quick.read_text().replace("seeds: 2", "seeds: 5"))
    elif what == "library":
        study = executed.root / "lib/studies/tiny/protocol.py"
        study.write_text(study.read_text().replace("2 * x", "2 * x + 1"))
    else:
        executed.output.write_bytes(executed.output.read_bytes()[:400])
    done = executed.run()
    assert "done" in done.stdout, done.stdout + done.stderr
    expected = {"code": 4, "parameter": 10, "library": 5, "notebook torn": 4}[what]
    assert json.loads(executed.results.read_text()) == {"answer": expected}


def test_a_library_file_the_page_cannot_reach_does_not_rerun_it(executed):
    (executed.root / "lib/live.py").write_text('"""Changed."""\n')
    assert executed.run().stdout == "tiny [quick]: kept\n"


def test_int_and_float_spelling_of_a_value_share_a_result(checkout):
    checkout.quick.write_text(checkout.quick.read_text().replace("pause: 0.0", "pause: 0"))
    checkout.run()
    checkout.quick.write_text(checkout.quick.read_text().replace("pause: 0", "pause: 0.0"))
    assert "done" not in checkout.run().stdout


def test_override_has_outputs_of_its_own(executed):
    book = executed.output.read_bytes()
    done = executed.run("-p", "seeds=3")
    assert done.returncode == 0, done.stderr
    assert executed.output.read_bytes() == book
    results = executed.root / "_build/results/quick+seeds=3/tiny.json"
    assert json.loads(results.read_text()) == {"answer": 6}


def test_force_executes_again(executed):
    assert "done" in executed.run("--force").stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("rate: 0.5", "rate: 1e-3"), "rate: input should be a valid number, got '1e-3' (str); YAML reads 1e-3"),
        (("rate: 0.5", "rate: 1e-3"), "write 1.0e-3"),
        (("mode: plain", "mode: off"), "mode: input should be a valid string, got False (bool); YAML reads on/off"),
        (("seeds: 2", "seedz: 2"), "unknown parameter seedz; did you mean seeds? accepted names: profile, seeds, rate"),
        (("seeds: 2", "seeds: 2.5"), "seeds: input should be a valid integer, got 2.5 (float)"),
        (("seeds: 2\n", ""), "missing parameter seeds"),
        (("seeds: 2", "seeds: 2\nseeds: 3"), "key 'seeds' is given twice"),
        (("profile: quick", "profile: full"), "profile: says 'full'; write `profile: quick`"),
        (("seeds: 2", "seeds: [2"), "not readable as YAML"),
    ],
)
def test_bad_parameter_is_refused_before_a_kernel_starts(checkout, change, message):
    checkout.quick.write_text(checkout.quick.read_text().replace(*change))
    refused = checkout.run()
    assert refused.returncode == 2
    assert "params/tiny/quick.yaml: " in refused.stderr and message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (checkout.root / "_build/partial").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tinny"], "tinny: no such page; did you mean tiny? the book has: tiny"),
        (["run", "tiny", "--profile", "huge"], "no such parameter file; here are: quick.yaml"),
        (["run", "tiny", "-p", "seeds"], "expected name=value"),
        (["run", "-p", "seeds=3"], "name the study"),
        (["run", "tiny", "--jobs", "0"], "at least 1"),
    ],
)
def test_bad_request_is_refused(checkout, arguments, message):
    refused = checkout.press(*arguments)
    assert refused.returncode == 2 and message in refused.stderr and "Traceback" not in refused.stderr


def test_failing_cell_is_named_and_the_good_output_untouched(executed):
    good = executed.output.read_bytes(), executed.results.read_bytes()
    executed.quick.write_text(executed.quick.read_text().replace("mode: plain", "mode: fail"))
    failed = executed.run()
    assert failed.returncode == 1
    assert "tiny [quick]: FAILED" in failed.stderr and "AssertionError: asked to fail" in failed.stderr
    assert "assert params.mode" in failed.stderr and "previous output, untouched" in failed.stderr
    partial = executed.root / "_build/partial/quick/tiny.ipynb"
    assert partial.is_file() and str(partial.relative_to(executed.root)) in failed.stderr
    assert (executed.output.read_bytes(), executed.results.read_bytes()) == good


@pytest.mark.parametrize("fixture", ["checkout", "executed"])
def test_cell_that_is_not_python_is_named_before_a_kernel_starts(request, fixture):
    made = request.getfixturevalue(fixture)
    made.chapter.write_text(made.chapter.read_text().replace('print("answer"', 'print "answer"'))
    refused = made.run()
    assert refused.returncode and "Traceback" not in refused.stderr
    assert "book/studies/tiny.md: code cell 5, line 2: " in refused.stderr and 'print "answer"' in refused.stderr


HEADER = """kernelspec:
  display_name: Python 3
  language: python
  name: python3
"""


@pytest.mark.parametrize("header", ["", "kernelspec:\n  display_name: Other\n  language: R\n  name: conda-env-other\n"])
def test_a_page_runs_in_this_environment_whatever_its_header_and_the_users_kernels_say(checkout, monkeypatch, header):
    broken = checkout.root / "home/.local/share/jupyter/kernels/python3/kernel.json"
    broken.parent.mkdir(parents=True)
    broken.write_text(json.dumps({"argv": ["/bin/false"], "display_name": "broken", "language": "python"}))
    monkeypatch.setenv("HOME", str(checkout.root / "home"))
    text = checkout.chapter.read_text().replace(HEADER, header)
    checkout.chapter.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    done = checkout.run()
    assert done.returncode == 0, done.stderr
    assert checkout.notebook()["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("cell", [":load: part.py\n", "---\nload: part.py\n---\n"])
def test_code_taken_from_another_file_is_refused(checkout, cell):
    checkout.chapter.write_text(checkout.chapter.read_text() + f"\n```{{code-cell}} ipython3\n{cell}```\n")
    refused = checkout.run()
    assert refused.returncode and "Traceback" not in refused.stderr
    assert "book/studies/tiny.md: a cell has `:load: part.py`; write its code in the cell, or import" in refused.stderr


CELL = "```{code-cell} ipython3\nx = 1\n```\n"
READ = {  # cell as an editor may write it -> what it runs and its tags
    ":tags: [check]\n\nx = 1": ["check"], ":tags: [check]\nx = 1": ["check"], ':tags: ["hide-input", check]\n\nx = 1':
    ["hide-input", "check"], "---\ntags: [check]\nmystnb:\n  number_source_lines: true\n---\nx = 1": ["check"],
    "---\ntags:\n- check\n- hide-input\n---\nx = 1": ["check", "hide-input"], ":name: a\n:number-lines:\n\nx = 1": [],
}
BEGINS = ["```{code-cell} ipython3", "```{code-cell} python", "```{code-cell}", "~~~{code-cell} ipython3",
          "`````{code-cell} ipython3"]
NEVER_RUN = [f"- a\n\n{textwrap.indent(CELL, '  ')}", f"````{{note}}\n{CELL}````\n", CELL.replace("```", ":::"),
             CELL.replace("{", " {"), CELL.replace("code-c", "code-C"), f"Text {CELL}", f"<div>\n{CELL}</div>\n",
             f"````{{note}}\n```\na\n```\n{CELL}````\n", textwrap.indent(CELL, "    "),
             f"`a` and ``b``:\n{CELL.replace('```', ':::')}"]
ONLY_SHOWN = [f"````md\n{CELL}````\n", f"~~~~\n{CELL}~~~~\n", f"<!--\n\n{CELL}-->\n", f"Write `` {CELL[:24]} ``.\n",
              f"````{{code-block}} md\n{CELL}````\n", f"`````{{note}}\n````md\n{CELL}````\n`````\n", f"% {CELL[:23]}\n",
              "So `:::{code-cell}`.\n", f"- a\n\n  ````md\n{textwrap.indent(CELL, '  ')}  ````\n"]


def page_of(monkeypatch, folder, text):
    monkeypatch.setattr(pages, "ROOT", folder)
    header = f"---\njupytext:\n  text_representation: {{extension: .md, format_name: myst}}\n{HEADER}---\n\n# T\n\n"
    (folder / "a.md").write_bytes((header + text).encode("utf-8-sig"))
    return pages.read_page(folder / "a.md").cells


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("begin", BEGINS)
@pytest.mark.parametrize("cell", READ)
def test_a_cell_is_read_however_it_is_written(monkeypatch, tmp_path, cell, begin, ends):
    text = f"{begin}\n{cell}\n{re.match('[`~]+', begin)[0]}\n\n% a comment\n\n+++ {{}}\n\nText.\n".replace("\n", ends)
    [code] = [cell for cell in page_of(monkeypatch, tmp_path, text) if cell.cell_type == "code"]
    assert code.source == "x = 1" and code.metadata.get("tags", []) == READ[cell]


@pytest.mark.parametrize("text", NEVER_RUN)
def test_a_cell_that_would_never_run_is_refused_where_it_stands_and_runs_as_it_is_told(monkeypatch, tmp_path, text):
    with pytest.raises(PageError, match=r"a.md: .*\{code-.ell\} ipython3 would never be run.*; begin it with") as e:
        page_of(monkeypatch, tmp_path, text)
    assert "\n" not in str(e.value)
    assert [cell.cell_type for cell in page_of(monkeypatch, tmp_path, CELL)] == ["markdown", "code"]


@pytest.mark.parametrize("text", ONLY_SHOWN)
def test_a_cell_that_a_page_only_shows_is_text(monkeypatch, tmp_path, text):
    cells = page_of(monkeypatch, tmp_path, f"{text}\n{CELL}")
    assert [(cell.cell_type, cell.source.count("{code-cell}")) for cell in cells] == [("markdown", 1), ("code", 0)]


@pytest.mark.parametrize("header", ["a: b: c\n", "a: [b\n", "\tjupytext: {}\n", "jupytext: 3\n"])
def test_a_header_that_is_no_yaml_is_blamed_itself(monkeypatch, tmp_path, header):
    monkeypatch.setitem(globals(), "HEADER", header)
    with pytest.raises(PageError, match=r"^a.md: its header: .*; copy the lines between --- from another page$"):
        page_of(monkeypatch, tmp_path, CELL)


@pytest.mark.parametrize("options", [":tags: check\n", "---\ntags: [check\n---\n", ":tags: [1]\n"])
def test_options_of_a_cell_that_are_none_are_one_line(monkeypatch, tmp_path, options):
    with pytest.raises(PageError, match=r"^a.md: .*; write options of a cell as in `:tags: \[check\]`$"):
        page_of(monkeypatch, tmp_path, CELL.replace("x = 1", f"{options}\nx = 1"))


def test_a_page_of_another_encoding_is_refused_by_name(checkout):
    checkout.chapter.write_bytes(checkout.chapter.read_bytes().replace(b"# Tiny", b"# T\xefny"))
    refused = checkout.run()
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "book/studies/tiny.md: not UTF-8 at byte" in refused.stderr and "save it as UTF-8" in refused.stderr


@pytest.mark.parametrize("twice", [False, True])
def test_a_study_has_exactly_one_parameters_cell(checkout, twice):
    tag = ":tags: [parameters]\n"
    cells = f"{tag}\nx = 1\n```\n\n```{{code-cell}} ipython3\n{tag}" if twice else ""
    checkout.chapter.write_text(checkout.chapter.read_text().replace(tag, cells))
    refused = checkout.run("-p", "seeds=7")
    assert refused.returncode == 1 and "needs one code cell tagged `parameters`, has" in refused.stderr
    assert not list(checkout.root.glob("_build/executed/**/*.ipynb"))


def test_a_claim_left_without_a_verdict_fails_the_run(checkout):
    (checkout.root / "book/claims.yml").write_text(CLAIM)
    failed = checkout.run()
    assert failed.returncode == 1 and "tiny.md: no verdict was recorded for TI-1" in failed.stderr


def test_what_decides_a_claim_reruns_its_study_alone_and_prose_nothing(checkout):
    claims = checkout.root / "book/claims.yml"
    claims.write_text(CLAIM)
    judging(checkout)
    assert "done" in checkout.run().stdout
    other = CLAIM.replace("TI-1", "TL-1").replace("tiny", "topoloss_hypotheses")
    claims.write_text(CLAIM.replace("than nothing.", "than nothing, all say.").replace("why: half", "why: so") + other)
    assert checkout.run().stdout == "tiny [quick]: kept\n"
    claims.write_text(CLAIM.replace("margin: 0.5", "margin: 0.6"))
    assert "kept" not in checkout.run().stdout


def test_a_claim_that_is_none_is_one_line(checkout):
    (checkout.root / "book/claims.yml").write_text(CLAIM.replace(", margin: 0.5", ""))
    refused = checkout.run()
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "book/claims.yml: TI-1: parts.0: something: effect needs a margin" in refused.stderr


def test_a_readers_own_values_may_break_a_check_and_lose_nothing(executed):
    text = executed.chapter.read_text()
    check = "```{code-cell} ipython3\nassert params.mode"
    assert check in text
    tagged = "```{code-cell} ipython3\n:tags: [check]\n\nassert params.mode"
    executed.chapter.write_text(text.replace(check, tagged) + "\n```{code-cell} ipython3\nprint('the end')\n```\n")
    explored = executed.run("-p", "mode=fail")
    assert explored.returncode == 0, explored.stderr
    assert "tiny [quick+mode=fail]: done; 1 check does not hold with these values:" in explored.stdout
    assert "cell 7: AssertionError: asked to fail" in explored.stdout
    notebook = json.loads((executed.root / "_build/executed/quick+mode=fail/tiny.ipynb").read_text())
    assert notebook["cells"][-1]["outputs"][0]["text"] == ["the end\n"]
    assert [o["output_type"] for o in notebook["cells"][-2]["outputs"]] == ["error"]
    assert notebook["metadata"]["book"]["broken"] == ["cell 7: AssertionError: asked to fail"]
    again = executed.run("-p", "mode=fail")
    assert again.returncode == 0 and "[quick+mode=fail]: kept; 1 check does not hold with these values:" in again.stdout
    (executed.root / "params/tiny/mine.yaml").write_text(QUICK.replace("quick", "mine").replace("plain", "fail"))
    assert "does not hold" in executed.run("--profile", "mine").stdout
    executed.quick.write_text(QUICK.replace("plain", "fail"))
    assert executed.run().returncode == 1  # the book's own values must hold


def test_an_instrument_runs_once_for_all_profiles_and_a_study_without_one_stands_in(checkout):
    instrument = checkout.root / "book/instruments/tool.md"
    instrument.parent.mkdir()
    start = checkout.chapter.read_text().split("```{code-cell}")[0]
    instrument.write_text(f"{start}```{{code-cell}} ipython3\n1 + 1\n```\n")
    (checkout.root / "params/other").mkdir()
    (checkout.root / "params/other/long.yaml").write_text("profile: long\n")
    (checkout.root / "book/studies/other.md").write_text(instrument.read_text())
    (checkout.root / "lib/studies/other").mkdir()
    (checkout.root / "lib/studies/other/protocol.py").write_text(
        "from lib.params import Params as Base\n\nclass Params(Base):\n    profile: str\n")
    tagged = ":tags: [parameters]\n\nprofile = 'quick'"
    (checkout.root / "book/studies/other.md").write_text(instrument.read_text().replace("1 + 1", tagged))
    ran = checkout.press("run", "--profile", "long")
    assert ran.returncode == 0, ran.stderr
    assert "tiny: has no profile long; quick stands in" in ran.stdout and "other [long]: done" in ran.stdout
    assert "tiny [quick]: done" in ran.stdout and "instruments/tool [quick]: done" in ran.stdout
    again = checkout.press("run", "instruments/tool", "tiny", "--profile", "quick").stdout
    assert again == "instruments/tool [quick]: kept\ntiny [quick]: kept\n"
    typo = checkout.press("run", "--profile", "lnog")
    assert typo.returncode == 2 and "no study has a profile 'lnog'; there are: long, quick" in typo.stderr


@pytest.mark.parametrize("fault", ["protocol missing", "protocol broken", "no Params", "parameters missing"])
def test_a_missing_room_is_named(checkout, fault):
    protocol = checkout.root / "lib/studies/tiny/protocol.py"
    if fault == "protocol missing":
        protocol.unlink()
    elif fault == "parameters missing":
        checkout.quick.unlink()
    else:
        protocol.write_text("def broken(:" if fault == "protocol broken" else "double = None")
    refused = checkout.run()
    room = "params/tiny/quick.yaml" if fault == "parameters missing" else "lib/studies/tiny/protocol.py"
    assert refused.returncode == 2 and room in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize("text", ['{"metadata": {"book": {"key": "x"}}}', '{"metadata": {"book": {"facts": {}}}}'])
def test_an_executed_notebook_that_is_none_is_stale(executed, text):
    executed.output.write_text(text)
    assert "done" in executed.run().stdout


@pytest.mark.parametrize("source", ["x = 1", "not Python"])
def test_an_execution_edited_by_hand_is_stale_and_once_remade_stands(executed, source):
    notebook = executed.notebook()
    [cell] = [cell for cell in notebook["cells"] if "time.sleep" in "".join(cell["source"])]
    cell["source"] = [source]
    executed.output.write_text(json.dumps(notebook))
    assert "stale (execution)" in executed.press("status").stdout
    assert "done" in executed.run().stdout and executed.run().stdout == "tiny [quick]: kept\n"


def test_status_goes_on_past_a_broken_page(executed):
    executed.quick.unlink()
    status = executed.press("status")
    assert status.returncode == 0 and "broken" in status.stdout and "no such parameter file" in status.stdout


def test_list_and_status(checkout):
    assert checkout.press("list").stdout.split() == ["tiny", "quick"]
    checkout.run()
    assert "stands" in checkout.press("status").stdout
    checkout.quick.write_text(checkout.quick.read_text().replace("seeds: 2", "seeds: 4"))
    assert "stale" in checkout.press("status").stdout


def test_papermill_by_hand_works_too(checkout):
    chapter, out = checkout.chapter, checkout.root / "out.ipynb"
    line = (
        f"{sys.executable} -m jupytext --to ipynb -o - {chapter} | "
        f"{sys.executable} -m papermill - {out} -f {checkout.quick} -k python3 --cwd {checkout.root} --no-progress-bar"
    )
    environment = {**os.environ, "BOOK_RESULTS": f"{checkout.root}/r.json", "PYTHONPATH": str(checkout.root)}
    command = ["bash", "-euo", "pipefail", "-c", line]
    done = subprocess.run(command, capture_output=True, text=True, cwd=checkout.root, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads((checkout.root / "r.json").read_text()) == {"answer": 4}


@pytest.mark.parametrize("what", ["library", "values"])
def test_what_changed_while_a_page_waited_is_told_and_not_run(executed, what):
    good = executed.output.read_bytes()
    book = executed.notebook()["metadata"]["book"]
    job = {"page": "tiny", "profile": "quick", "overrides": {}, "values": book["params"], "facts": book["facts"]}
    job["facts"] |= {what: "as it was"}
    (executed.root / "job.json").write_text(json.dumps(job))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")}
    worker = subprocess.Popen([sys.executable, "-m", "lib.press.worker", "job.json"], cwd=executed.root, text=True,
                              env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    event = json.loads(worker.stdout.read())
    assert worker.wait() == 1 and event["what"] == f"tiny: {what} changed while it waited; run it again"
    assert executed.output.read_bytes() == good


def test_a_gpu_that_is_not_here_is_refused_at_the_door(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    request = Request(find_page("topoloss_hypotheses"), "smoke", {"device": "cuda"})
    with pytest.raises(ParameterError, match="smoke.yaml with -p: device: no CUDA device .* write device: auto or cpu"):
        request.checked_values()
    assert Request(request.page, "smoke", {"device": "auto"}).checked_values()["device"] == "auto"


def test_pages_side_by_side_are_spread_over_the_gpus(monkeypatch, tmp_path):
    """Of four pages on three GPUs the fourth shares the first; with one GPU there is nothing to choose."""
    given = []

    def started(job, facts, job_file, variables):
        job.state, job.process = "running", SimpleNamespace(stdout=[])
        given.append(variables.get("CUDA_VISIBLE_DEVICES"))

    monkeypatch.setattr(jobs, "start", started)
    for seen, expected in (("0,1,3", ["0", "1", "3", "0"]), ("2", [None] * 4)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
        press = jobs.Press([jobs.Job(SimpleNamespace(facts={}), {}) for _ in range(4)], 4)
        press._start_waiting(tmp_path)
        assert given == expected
        given.clear()
