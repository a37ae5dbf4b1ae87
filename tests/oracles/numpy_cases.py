"""Prints what NumPy draws, for src/generators/numpy.rs, as JSON.

    pip install numpy==2.4.6
    python3 tests/oracles/numpy_cases.py > tests/oracles/numpy_cases.json

NumPy itself does all of it: `default_rng(seed)`, `choice(n, k, replace=False)`, `permutation(n)`, `integers`. Long draws are given as sums
modulo 2^64. `weighted` is the sum of (i + 1) * x_i in raw order, so it depends on the order too. `next` is the 32-bit draw
that follows: it depends on how many bits were taken before, and on a half that is left over. The same output on every run.
Takes about a minute and 4 GB.
"""

import json
import random
import sys

import numpy
import numpy as np

assert numpy.__version__ == "2.4.6", numpy.__version__

NAMED = [0, 1, 10, 42, 1002, 2001, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**64 - 1]
# Ends of ranges: where Lemire's method rejects half of all draws, where 32 bits end, where 64 bits end.
LASTS = [0, 1, 2, 9, 9_999, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1, 2**32, 2**33 + 1, 2**63 - 1, 2**63, 2**63 + 1]
LASTS += [2**64 - 2, 2**64 - 1]
EMBEDDINGS = [151_936 * 896, 151_936 * 1536]


def generator(seed):
    return np.random.default_rng(seed)


def choice(rng, n, k):
    return rng.choice(n, k, replace=False)


def next_32(rng):
    return int(rng.integers(0, 2**32 - 1, endpoint=True, dtype=np.uint32))


def weighted(drawn):
    drawn = drawn.astype(np.uint64)
    return int((drawn * np.arange(1, len(drawn) + 1, dtype=np.uint64)).sum(dtype=np.uint64))


def counts(n):
    """Around the branch at n // 50, and the ends."""
    wanted = [0, 1, n // 50 - 1, n // 50, n // 50 + 1, n // 2, n - 1, n]
    return sorted({k for k in wanted if 0 <= k <= n})


def seed_case(seed):
    raw = generator(seed).bit_generator.random_raw(4).tolist()
    rng = generator(seed)
    mixed = [next_32(rng), int(rng.bit_generator.random_raw()), next_32(rng), next_32(rng)]
    return [seed, raw, mixed]


def bounded_case(chance, seed):
    rng, draws = generator(seed), []
    for last in chance.sample(LASTS * 3, 30):
        draws.append([last, int(rng.integers(0, last, endpoint=True, dtype=np.uint64))])
    return [seed, draws]


def list_case(seed, n, k):
    rng = generator(seed)
    return [seed, n, k, choice(rng, n, k).tolist(), next_32(rng)]


def packed_case(seed, n, k):
    rng = generator(seed)
    return [seed, n, k, weighted(choice(rng, n, k)), next_32(rng)]


def permutation_case(seed, n):
    rng = generator(seed)
    drawn = rng.permutation(n)
    return [seed, n, drawn.tolist() if n <= 12 else weighted(drawn), next_32(rng)]


def large_case(seed, n, k):
    rng = generator(seed)
    drawn = choice(rng, n, k)
    ends = [drawn[:8].tolist(), drawn[-8:].tolist()]
    return [seed, n, k, *ends, weighted(drawn), int(drawn.astype(np.uint64).sum(dtype=np.uint64)), next_32(rng)]


def sequence_case(chance, seed):
    rng, tensors = generator(seed), []
    for _ in range(chance.randint(3, 12)):
        n, k = any_size(chance, 20_000)
        tensors.append([n, k, weighted(choice(rng, n, k))])
    return [seed, tensors, next_32(rng)]


def any_size(chance, largest):
    n = int(largest ** chance.random())
    k = chance.choice([chance.randint(0, n), n // 100, n // 50, min(n, n // 50 + 1), min(n, chance.randint(0, 9))])
    return n, k


def main():
    chance = random.Random(20250601)
    some = lambda: chance.getrandbits(64)  # noqa: E731
    seeds = NAMED + [some() for _ in range(5)]
    small = [(seed, n, k) for seed in seeds for n in (1, 2, 3, 7, 10) for k in range(n + 1)]
    small += [(seed, n, k) for seed in seeds for n, k in ((128, 1), (128, 2), (896, 8), (20_000, 3))]
    grid = [(seed, n, k) for seed in seeds for n in (128, 896, 9_999, 10_000, 10_001, 50_000) for k in counts(n)]
    grid += [(some(), *any_size(chance, 100_000)) for _ in range(600)]
    large = [(some(), n, k) for n in (65_537, 1_000_003) for k in (n // 100, n // 50, n // 50 + 1, n // 2, n)]
    large += [(some(), n, k) for n in (4864 * 896, 10_000_019) for k in (1, n // 1000, n // 100, n // 50, n // 50 + 1)]
    large += [(42, n, n // 1000) for n in EMBEDDINGS]
    large += [(some(), 200_000_000, k) for k in (1_000, 2_000_000, 4_000_001)]
    large += [(some(), n, 1_000) for n in (2**30 + 7, 2**31, 2**31 + 11, 3_000_000_000, 2**32 - 1)]
    wide = [(some(), n, k) for n in (2**32, 2**32 + 1, 2**33, 2**40 + 3, 2**62 + 1, 2**63 - 1) for k in (1, 2, 1_000)]
    huge = [(some(), 200_000_000, k) for k in (4_000_000, 100_000_000, 199_999_999, 200_000_000)]
    huge += [(some(), EMBEDDINGS[1], EMBEDDINGS[1] // 50 + 1)]
    result = {
        "seeds": [seed_case(seed) for seed in NAMED + [some() for _ in range(60)] + [some() >> 32 for _ in range(20)]],
        "bounded": [bounded_case(chance, seed) for seed in seeds],
        "lists": [list_case(*case) for case in small],
        "packed": [packed_case(*case) for case in grid],
        "large": [large_case(*case) for case in large],
        "wide": [large_case(*case) for case in wide],
        "huge": [large_case(*case) for case in huge],
        "sequences": [sequence_case(chance, seed) for seed in seeds + [some() for _ in range(134)]],
    }
    # After all others, which stay what they were.
    permuted = [(seed, n) for seed in (42, some()) for n in (0, 1, 2, 3, 7, 12, 513, 9_999, 10_001, 70_000)]
    result["permutations"] = [permutation_case(*case) for case in permuted]
    compact = {"separators": (",", ":")}
    tables = [
        f'"{key}":[\n' + ",\n".join(json.dumps(row, **compact) for row in rows) + "\n]" for key, rows in result.items()
    ]
    print(f'{{"numpy":"{numpy.__version__}",\n' + ",\n".join(tables) + "\n}")
    print({key: len(rows) for key, rows in result.items()}, file=sys.stderr)


if __name__ == "__main__":
    main()
