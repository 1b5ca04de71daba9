"""Records kept in the tree, and studies confirmed on fresh seeds."""
import json
import shutil
from types import SimpleNamespace

import pytest
from checkout import CLAIM, Checkout, judging, make_checkout, until_quiet

from lib import files
from lib.press import kept
from lib.press.claims import SETTLING, ClaimError
from lib.press.pages import Page, profiles

FRESH = "book/kept/fresh_seeds/tiny.json"
STALE = "import json; from lib.press.kept import kept; print(json.dumps({{i: r.stale for i, r in kept({!r}).items()}}))"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A checkout whose one study judges one claim, and what its commands said: refused, run and kept, confirmed."""
    made = make_checkout(tmp_path_factory.mktemp("kept").resolve())
    (made.root / "book/claims.yml").write_text(CLAIM)
    judging(made)
    refused = made.press("keep", "mine", "tiny", "--run", "quick")
    ran, confirmed = made.run(), made.press("confirm")
    said = SimpleNamespace(refused=refused, ran=ran, confirmed=confirmed, kept=made.press("keep", "quick"))
    return made, said


@pytest.fixture
def judged(once, tmp_path):
    """A copy of it."""
    shutil.copytree(once[0].root, tmp_path, dirs_exist_ok=True)
    yield from until_quiet(Checkout(tmp_path.resolve()))


def stale(checkout, label: str) -> dict[str, bool]:
    """Claim id -> whether its record kept under `label` is stale, as the pages of this checkout see it."""
    done = checkout.python("-c", STALE.format(label))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_records_are_kept_with_what_they_were_made_from(once, judged):
    made, said = once
    assert said.refused.returncode == 2
    assert "tiny [quick]: no execution; run: python -m lib.press run tiny --profile quick" in said.refused.stderr
    assert said.kept.stdout == "tiny [quick]: kept as book/kept/quick/tiny.json\n", said.ran.stderr + said.kept.stderr
    mine = judged.press("keep", "mine", "--run", "quick")
    assert mine.stdout == "tiny [quick]: kept as book/kept/mine/tiny.json\n", mine.stderr
    record = json.loads((judged.root / "book/kept/mine/tiny.json").read_text())
    assert record["records"] == json.loads(made.results.read_text())["records"]
    assert record["records"][0]["word"] == "reproduced"
    made = record["run"]
    assert made["environment"]["torch"] and made["code"] and made["profile"] == "quick" and made["broken"] == []


@pytest.mark.parametrize("what", ["rule", "parameter", "prose", "code"])
def test_a_changed_rule_or_parameter_marks_a_kept_record_stale(judged, what):
    claims = judged.root / "book/claims.yml"
    if what == "rule":
        claims.write_text(CLAIM.replace("margin: 0.5", "margin: 0.7"))
    elif what == "prose":
        claims.write_text(CLAIM.replace("Something", "Anything"))
    elif what == "parameter":
        judged.quick.write_text(judged.quick.read_text().replace("rate: 0.5", "rate: 0.6"))
    else:
        judged.chapter.write_text(judged.chapter.read_text().replace('print("answer"', 'print("the answer"'))
    keep = "import sys; from lib.press.__main__ import main; sys.exit(main(['keep', 'quick', 'tiny']))"
    done = judged.python("-c", f"{STALE.format('quick')}; {keep}")
    assert json.loads(done.stdout.splitlines()[0]) == {"TI-1": what in ("rule", "parameter")}
    if what != "prose":
        named = {"rule": "claims", "parameter": "values", "code": "page, code"}[what]
        assert done.returncode == 2 and f"tiny [quick]: {named} changed since; run: " in done.stderr


@pytest.mark.parametrize(("label", "message"), [
    ("fresh_seeds", "fresh_seeds keeps a profile that judges, with another root seed alone; run: make confirm"),
    ("long", "long keeps runs of that profile as it is; choose another label"),
    ("../elsewhere", "a label is a word of small letters, digits and _"),
])
def test_a_label_says_nothing_that_its_run_is_not(judged, label, message):
    before = sorted(judged.root.glob("book/kept/*"))
    refused = judged.press("keep", label, "--run", "quick")
    assert refused.returncode == 2 and message in refused.stderr
    assert sorted(judged.root.glob("book/kept/*")) == before and not (judged.root / "book/elsewhere").exists()


DAMAGES = [
    (lambda text: text[:100], "Expecting|Unterminated|delimiter"), (lambda text: "[]", "valid dictionary"),
    (lambda text: text.replace('"seed": 1', '"seeds": 1'), "run.overrides has no root seed"),
    (lambda text: text.replace('"run"', '"ran"'), "run Field required"),
    (lambda text: text.replace('"deciding": 0', '"deciding": 7'), "part 7 of 1 does not exist"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_kept_file_is_told_with_its_remedy(judged, monkeypatch, damage, message):
    path = judged.root / FRESH
    path.write_text(damage(path.read_text()))
    monkeypatch.setattr(files, "ROOT", judged.root)
    with pytest.raises(ClaimError, match=f"{FRESH}: not kept records .*({message}).*; restore it: git checkout -- "):
        kept.fresh(Page("tiny"))


def test_a_damaged_kept_file_is_one_line_to_a_command(judged):
    (judged.root / FRESH).write_text("[]")
    refused = judged.press("confirm")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused.stderr
    assert f"{FRESH}: not kept records" in refused.stderr


def test_a_claim_that_is_gone_moves_the_seed_on_and_breaks_nothing(judged):
    (judged.root / "book/claims.yml").write_text(CLAIM.replace("TI-1", "TI-2"))
    assert stale(judged, "fresh_seeds") == {}
    assert "quick+seed=2" in judged.press("confirm").stdout and stale(judged, "fresh_seeds") == {"TI-2": False}


def test_a_study_is_confirmed_on_seeds_that_no_rule_has_seen(once, judged):
    done = once[1].confirmed
    assert done.returncode == 0 and f"tiny [quick+seed=1]: kept as {FRESH}" in done.stdout, done.stdout + done.stderr
    record = json.loads((judged.root / FRESH).read_text())
    assert record["run"]["overrides"] == {"seed": 1} and record["records"][0]["word"] == "reproduced"
    assert judged.press("confirm").stdout.startswith("tiny [quick+seed=1]: kept\n")
    judged.quick.write_text(judged.quick.read_text().replace("rate: 0.5", "rate: 0.6"))
    assert "quick+seed=1" in judged.press("confirm").stdout
    (judged.root / "book/claims.yml").write_text(CLAIM.replace("margin: 0.5", "margin: 0.6"))
    assert "quick+seed=2" in judged.press("confirm").stdout
    assert json.loads((judged.root / FRESH).read_text())["run"]["overrides"] == {"seed": 2}
    assert stale(judged, "fresh_seeds") == {"TI-1": False}


def test_every_profile_that_settles_is_one_of_a_study():
    assert set(SETTLING) <= set(profiles())


def test_a_longer_profile_may_be_what_confirms_and_is_run_again_then(judged):
    long = judged.quick.with_name("long.yaml")
    long.write_text(judged.quick.read_text().replace("profile: quick", "profile: long"))
    ran = judged.press("run", "tiny", "--profile", "long", "-p", "seed=1")
    made = judged.press("keep", "fresh_seeds", "tiny", "--run", "long+seed=1")
    assert f"tiny [long+seed=1]: kept as {FRESH}" in made.stdout, ran.stderr + made.stderr
    assert json.loads((judged.root / FRESH).read_text())["run"]["profile"] == "long"
    assert judged.press("confirm").stdout.startswith("tiny [long+seed=1]: kept\n")
    (judged.root / "book/claims.yml").write_text(CLAIM.replace("margin: 0.5", "margin: 0.6"))
    assert "long+seed=2" in judged.press("confirm").stdout
    refused = judged.press("keep", "fresh_seeds", "tiny", "--run", "long")
    assert refused.returncode == 2


def test_checks_that_break_on_fresh_seeds_are_kept_in_the_record(judged):
    check = "\n```{code-cell} ipython3\n:tags: [check]\n\nassert params.seed == 0, params.seed\n```\n"
    judged.chapter.write_text(judged.chapter.read_text() + check)
    done = judged.press("confirm")
    assert done.returncode == 0 and "1 check does not hold" in done.stdout
    assert json.loads((judged.root / FRESH).read_text())["run"]["broken"] == ["cell 8: AssertionError: 1"]
