"""Prints what CPython's `random` draws, for src/generators/python.rs, as JSON.

    python3 tests/oracles/random_cases.py > tests/oracles/random_cases.json

Standard library only, and the same output on every run. Seeds are given by their digits to the base 2^32, lowest first, and
floats by the 16 hexadecimal digits of their bits. Long shuffles and samples are given as the sum of (i + 1) * x_i modulo
2^64. `next` is the 32-bit draw that follows a case: another one when too many or too few bits were taken.
"""

import math
import random
import struct

from pythons import agreeing, write

NAMED = [0, 1, 7, 42, 2001, 1337420, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**53 + 1, 2**63, 2**64 - 1]
# Of up to 702 digits: more than the state has words.
WIDE = [2**64, 2**64 + 7, 2**96 - 1, 3**100, 2**19937 - 1, 2**19968, 7**8000, -5, -(2**40)]
BOUNDS = [1, 2, 3, 4, 5, 7, 8, 9, 100, 255, 256, 257, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**40, 2**63, 2**64 - 1]


def bits(value):
    return struct.pack(">d", value).hex()


def digits(seed):
    left, found = abs(seed), []
    while left or not found:
        found.append(left & 0xFFFFFFFF)
        left >>= 32
    return found


def packed(drawn):
    return drawn if len(drawn) <= 12 else sum((at + 1) * x for at, x in enumerate(drawn)) % 2**64


def seed_case(seed):
    rng = random.Random(seed)
    first = [rng.getrandbits(32) for _ in range(4)]
    for _ in range(1300):
        rng.getrandbits(32)
    return [digits(seed), first, rng.getrandbits(32)]


def call(chance, rng):
    """One call of a kind, its arguments and what it returned."""
    kind = chance.choice(["bits", "below", "randint", "random", "choice", "shuffle", "sample"])
    if kind == "bits":
        count = chance.choice([0, 1, 5, 31, 32, 33, 48, 63, 64])
        return [kind, count, rng.getrandbits(count)]
    if kind == "below":
        bound = chance.choice([chance.choice(BOUNDS), chance.randint(1, 50)])
        return [kind, bound, rng.randrange(bound)]
    if kind == "randint":
        low = chance.choice([0, 1, chance.randint(0, 9), chance.getrandbits(40)])
        high = low + chance.choice([0, 1, 4, chance.randint(0, 99), chance.getrandbits(36)])
        return [kind, low, high, rng.randint(low, high)]
    if kind == "random":
        return [kind, bits(rng.random())]
    if kind == "choice":
        count = chance.choice([1, 2, chance.randint(1, 1000)])
        return [kind, count, rng.choice(range(count))]
    if kind == "shuffle":
        items = list(range(chance.choice([0, 1, 2, 3, 12, 200])))
        rng.shuffle(items)
        return [kind, len(items), packed(items)]
    count = chance.choice([0, 1, 2, 5, 6, 20, 21, 22, 84, 85, 86, 300, 5000])
    kept = chance.choice([0, 1, 4, 5, 6, 7, 21, 22, 85, count // 2, count])
    kept = min(count, kept)
    return [kind, count, kept, packed(rng.sample(range(count), kept))]


def case(chance, seed):
    rng = random.Random(seed)
    calls = [call(chance, rng) for _ in range(40)]
    return [digits(seed), calls, rng.getrandbits(32)]


def sample_size(kept):
    """The rule of `sample` for the most items of which it makes a list."""
    size = 21
    if kept > 5:
        size += 4 ** math.ceil(math.log(kept * 3, 4))
    return size


def samples(chance):
    """On both sides of where `sample` stops making a list."""
    cases = []
    for kept in (1, 5, 6, 21, 22, 85, 86, 341, 342):
        for count in {sample_size(kept) + by for by in (-1, 0, 1)}:
            seed = chance.getrandbits(64)
            rng = random.Random(seed)
            cases.append([digits(seed), [["sample", count, kept, packed(rng.sample(range(count), kept))]], rng.getrandbits(32)])
    return cases


def main():
    chance = random.Random(20250901)
    some = [chance.getrandbits(chance.choice([16, 32, 48, 64])) for _ in range(87)]
    values = {
        "seeds": [seed_case(seed) for seed in NAMED + WIDE + some],
        "calls": [case(chance, seed) for seed in NAMED + some] + samples(chance),
    }
    write(agreeing(__file__, values), values, rows=("seeds", "calls"))


if __name__ == "__main__":
    main()
