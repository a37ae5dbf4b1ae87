"""Makes the fixture of overlaps: what two masks have in common, and what chance expects of it, in exact fractions.

    python3 tests/oracles/overlap_cases.py > tests/oracles/overlap_cases.json         (the standard library alone)

`enumerated`: small models. The mean and the variance of the intersection are counted over every second mask that there is,
with its entries anywhere in the model (`uniform`) or with the counts of every tensor fixed (`per_tensor`): no formula is used.
`counts`: counts of large models, by the formulae of the hypergeometric distribution in fractions. The formulae are checked
against the enumeration first.
"""

import json
from decimal import Decimal, getcontext
from fractions import Fraction
from itertools import combinations, product
from math import comb

getcontext().prec = 60


class Draws:
    """A linear congruential generator, so that no version of Python matters."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % bound

    def subset(self, size, count):
        left = list(range(size))
        return sorted(left.pop(self.below(len(left))) for _ in range(count))


def moments(sizes):
    """Mean and variance of a list of equally likely numbers."""
    mean = Fraction(sum(sizes), len(sizes))
    return mean, Fraction(sum(size * size for size in sizes), len(sizes)) - mean * mean


def hypergeometric(a, b, n):
    mean = Fraction(a * b, n)
    return mean, (mean * Fraction(n - a, n) * Fraction(n - b, n - 1) if n > 1 else Fraction(0))


def account(a, b, intersection, mean, variance):
    """What is compared: the mean, the variance, the Jaccard index of the means, the deviation."""
    root = (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()
    off = intersection - mean
    z = Decimal(off.numerator) / Decimal(off.denominator) / root if variance else None
    return {
        "mean": float(mean),
        "variance": float(variance),
        "chance": float(mean / (a + b - mean)) if a + b else None,
        "z": None if z is None else float(z),
    }


def enumerated(sizes, first, second):
    """Two masks as lists of indices per tensor, and every mask that the second could have been."""
    n, a, b = sum(sizes), sum(map(len, first)), sum(map(len, second))
    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    flat = lambda mask: {start + index for start, part in zip(starts, mask) for index in part}
    left, right = flat(first), flat(second)
    anywhere = [len(left & set(other)) for other in combinations(range(n), b)]
    assert len(anywhere) == comb(n, b)
    parts = [
        [len(set(x) & set(other)) for other in combinations(range(size), len(y))]
        for size, x, y in zip(sizes, first, second)
    ]
    within = [sum(each) for each in product(*parts)]
    assert moments(anywhere) == hypergeometric(a, b, n)
    sums = [sum(part) for part in zip(*(hypergeometric(len(x), len(y), size) for size, x, y in zip(sizes, first, second)))]
    assert list(moments(within)) == sums
    intersection = len(left & right)
    return {
        "sizes": sizes,
        "a": first,
        "b": second,
        "intersection": intersection,
        "union": len(left | right),
        "uniform": account(a, b, intersection, *moments(anywhere)),
        "per_tensor": account(a, b, intersection, *moments(within)),
    }


def small(draws):
    sizes = [1 + draws.below(5) for _ in range(1 + draws.below(4))]
    mask = lambda: [draws.subset(size, draws.below(size + 1)) for size in sizes]
    return enumerated(sizes, mask(), mask())


def counted(n, a, b, intersection):
    return {
        "total": n,
        "a": a,
        "b": b,
        "intersection": intersection,
        "uniform": account(a, b, intersection, *hypergeometric(a, b, n)),
    }


def large(draws):
    n = 2 + draws.below(10 ** (1 + draws.below(10)))
    a, b = draws.below(n + 1), draws.below(n + 1)
    low = max(0, a + b - n)
    return counted(n, a, b, low + draws.below(min(a, b) - low + 1))


def main():
    draws = Draws(6)
    cases = {
        "enumerated": [
            enumerated([3, 2], [[], []], [[], []]),
            enumerated([3, 2], [[0, 1, 2], [0, 1]], [[0, 1, 2], [0, 1]]),
            enumerated([3, 2], [[0, 1, 2], []], [[0, 1, 2], []]),
            enumerated([1], [[0]], [[0]]),
            *(small(draws) for _ in range(120)),
        ],
        "counts": [
            # Two masks of 1 % of 494,032,768 entries; of 1 % and 0.1 %; of all.
            counted(494032768, 4940328, 4940328, 49403),
            counted(494032768, 4940328, 494032, 9881),
            counted(494032768, 494032768, 494032768, 494032768),
            *(large(draws) for _ in range(200)),
        ],
    }
    print(json.dumps(cases, separators=(",", ":")).replace('},{"sizes"', '},\n{"sizes"').replace('},{"total"', '},\n{"total"'))


main()
