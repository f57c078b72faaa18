"""False words, by faker: made once per process from a fixed seed, so every copy has the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

LONGEST = 63
"""Bytes of one entry: they travel as an array of PostgreSQL's type ``name``, whose entries have one
length, so that picking one does not walk over those before it."""
BLOCK = 64
"""Every so many bytes of the prose a word begins."""
_SEED = 20_260_630
_ENTRIES = 600
_BLOCKS = 144  # 9 kB


@dataclass(frozen=True)
class Vocabulary:
    """Words to pick from, ASCII throughout."""

    first: tuple[str, ...]
    last: tuple[str, ...]
    street: tuple[str, ...]
    city: tuple[str, ...]
    full: tuple[str, ...]
    """Whole addresses, with postcodes that no post office has given out."""
    prose: str
    """Latin without a meaning, in blocks of BLOCK bytes."""


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """The words of this process."""
    from faker import Faker  # it takes a fifth of a second, and only masking needs it

    faker = Faker("en_US", use_weighting=False)
    faker.seed_instance(_SEED)
    latin = Faker("la")
    latin.seed_instance(_SEED)
    street = _distinct(faker.street_address)
    city = _distinct(faker.city)
    random = Random(_SEED)
    return Vocabulary(
        first=_distinct(faker.first_name),
        last=_distinct(faker.last_name),
        street=street,
        city=city,
        full=tuple(
            f"{street[index]}, {random.choice(city)} {index % 500:05d}"[:LONGEST]
            for index in range(len(street))
        ),
        prose=_prose(sorted({word.lower() for word in latin.words(2000)}), random),
    )


def _distinct(make: Callable[[], str]) -> tuple[str, ...]:
    """_ENTRIES different words, or as many as there are."""
    found: dict[str, None] = {}
    for _ in range(_ENTRIES * 20):
        word = make()
        if word.isascii() and len(word) <= LONGEST:
            found[word] = None
        if len(found) == _ENTRIES:
            break
    return tuple(found)


def _prose(words: list[str], random: Random) -> str:
    by_length: dict[int, list[str]] = {}
    for word in words:
        by_length.setdefault(len(word), []).append(word)
    blocks = []
    for _ in range(_BLOCKS):
        chosen: list[str] = []
        room = BLOCK
        while room:
            # A word and its space must fill the block, or leave room for another.
            fitting = [n for n in by_length if n + 1 == room or n + 4 <= room]
            chosen.append(random.choice(by_length[random.choice(fitting)]))
            room -= len(chosen[-1]) + 1
        blocks.append(" ".join(chosen) + " ")
    return "".join(blocks)
