"""The rules by which alphabet-sort scores an answer, restated with difflib, re, str.strip and str.lower doing the work.

Totals are added from left to right, as `sum` did until CPython 3.11; since 3.12 it carries along what rounding loses.
"""

import difflib
import re
import struct

TAGS = ("alphabetical_sorted", "combined_alphabetical_sorted")
MARK = " // new name!"


def bits(value):
    return struct.pack(">d", value).hex()


def ratio(a, b):
    return difflib.SequenceMatcher(None, a, b).ratio()


def compared(content, expected):
    """The two texts that are compared; nothing where the answer is empty."""
    lines = [line.strip() for line in content.split("\n")]
    lines = [line for line in lines if line]
    if not content or not lines:
        return None
    answer = "\n".join(line.strip().lower() for line in lines)
    truth = "\n".join(line.strip().lower() for line in expected)
    return answer, truth


def attempt(content, expected, power):
    texts = compared(content, expected)
    score = ratio(*texts) if texts else 0.0
    return score if power is None or not texts else score**power


def attempts(tag, completion):
    return re.findall(f"<{tag}>(.*?)</{tag}>", completion, re.DOTALL)


def turn(tag, expected, completion, power):
    scores = [attempt(content, expected, power) for content in attempts(tag, completion)]
    if not scores:
        return 0.0
    if all(before < after for before, after in zip(scores, scores[1:])):
        return scores[-1]
    return 0.0


def from_the_left(scores):
    total = 0.0
    for score in scores:
        total += score
    return total


def compensated(scores):
    """What `sum` gives since CPython 3.12 (Neumaier's summation)."""
    total, lost = 0.0, 0.0
    for score in scores:
        grown = total + score
        lost += (total - grown) + score if abs(total) >= abs(score) else (score - grown) + total
        total = grown
    return total + lost


def of_turns(turns, completions, power, per_turn):
    """A score for every turn, whether or not it was answered."""
    answered = list(completions) + [None] * len(turns)
    each = power if per_turn else None
    return [0.0 if text is None else turn(tag, expected, text, each) for (tag, expected), text in zip(turns, answered)]


def total(scores, power, per_turn, summed=from_the_left):
    mean = summed(scores) / len(scores)
    return mean if per_turn else mean**power


def reward(turns, completions, power, per_turn):
    scores = of_turns(turns, completions, power, per_turn)
    return scores, total(scores, power, per_turn)
