"""Prints episodes and rewards of alphabet-sort as CPython draws and scores them, for tests/reference, as JSON.

    pip install numpy==2.4.6
    python3 tests/oracles/alphabet_sort_cases.py > tests/oracles/alphabet_sort_cases.json

An implementation of its own of how the environment makes episodes and asks them: CPython's `random`, as one generator that
everything shares, and NumPy for the order that `datasets.shuffle(seed=42)` gives. Rewards are by scoring.py. The same output
on every run; some minutes.

- `rows` is the file of names.
- `episodes`: settings, a seed, and every episode: its row, the word of its key, and for each turn the places of the names as
  shown, the lines of the example, the line above which they are new, and the places of the names in the right order. Places
  count the names of the row without spaces and repeats. `lines` are the right lines of the first episodes of the first case.
- `recycled`: settings and seed, the seed of the evaluation, and which episodes training asks after it.
- `rewards`: settings and a seed, and a line for every transcript: the reward and the score of every turn, by the bits of the
  floats in hexadecimal, but `0` and `1` for those. The transcripts are not kept. They are drawn from the episodes by a
  generator seeded with their number, from the parts under `parts`; the test draws them in the same way. A line ends in `~`
  where a power lies so near the middle of two floats that C libraries may round it either way: CPython takes theirs.
- `powers`: some of those, and what the C library made of them here (glibc; with fused multiply-adds and without it differs).
- `counts`: what there is among the transcripts. `sum` is how many rewards are others with the `sum` of CPython 3.12 and
  later, and `ulps` by how many units in the last place at most; `pow` how many powers are not the nearest float.
"""

import difflib
import math
import random
import sys
from fractions import Fraction

import numpy
from pythons import agreeing, write
from scoring import MARK, TAGS, attempts, bits, compared, compensated, from_the_left, of_turns, ratio, total

assert numpy.__version__ == "2.4.6", numpy.__version__

# Settings: fewest and most turns, fewest and most names of a turn.
DEFAULT, BLOG, ONE, LONG, FULL = (1, 3, 1, 5), (2, 2, 1, 5), (1, 1, 3, 3), (3, 5, 1, 4), (4, 4, 5, 6)
EPISODES = [(DEFAULT, 1337420), (BLOG, 1337420), (BLOG, 2001), (ONE, 0), (LONG, 42), (FULL, 2**32), (DEFAULT, 2**64 - 1)]
RECYCLED = [(BLOG, 1337420, 2001), (BLOG, 1337420, 0), (DEFAULT, 7, 2001), (LONG, 42, 1337420)]
REWARDS = [(DEFAULT, 1337420), (BLOG, 2001), (LONG, 42), (FULL, 5)]
TRANSCRIPTS = 2600
PERIOD = 160

# Names and what stands between their parts.
GIVEN = "Ada Ben Cleo Éva Finn Gwen Ho İpek Jan Łukasz Mei Noor Ølga Per Σofia Ümit 李 ẞara anna o' J. Ⅷ Ǆuro ǅan Žofia".split(" ")
MIDDLE = ["", "", "", " ", "-", "Maria ", "van der ", "de", "\u00a0", "Q. ", "ÀÉ", "'"]
FAMILY = "Adams Bell ÇelikGray Holm İto Jain Khan Lund Moss ΑΣ ΟΔΥΣΣΕΥΣ Straße STRASSE ﬁnn Öz Reid Toth 王 Ⓐb 𝔄ba Ñuñez x".split(" ")
# What completions are made of; the test reads it from the fixture. The first of a list is the usual one.
PARTS = {
    "wraps": [
        "<{own}>\n{body}\n</{own}>",
        "<{own}>{body}</{own}>",
        "<{own}>\n{body}",
        "{body}",
        "<{other}>\n{body}\n</{other}>",
        "<{own}>\n<{own}>\n{body}\n</{own}>\n</{own}>",
        "</{own}><{own}>\n{body}\n</{own}>",
        "<{own}><{other}>\n{body}\n</{other}></{own}>",
        "<{own}></{own}>",
        "<{own}> \t\x1c\u0085\n</{own}>",
        "<{own} >\n{body}\n</{own} >",
        "<{own}>\n{body}\n<{own}/>",
        "<{own}>\n{body}\n</{own}",
        "<{own}>\r\n{body}\r\n</{own}>",
    ],
    "between": ["\n", "\n\n", "\r\n", ", ", "\u0085", "\u2028", "\n \x1f\n"],
    "around": ["", " ", "\t", "\x1c", "\x1d\x1e\x1f", "\u0085", "\u00a0\u3000", "\x0b\x0c", "\u200b", "\r"],
    "talk": ["", "\n", "Sure:\n", "<think>\nhm</think>", "</combined_alphabetical_sorted>", "\u0085Σ "],
    "noise": list("aeinorsAEMS .,-/!\n\n\t") + ["ß", "ẞ", "İ", "ı", "Σ", "ς", "σ", "ﬁ", "𝔄", "🦀", "\u0307", "\u00ad", "\x1c", "\u0085", "\ufeff"],
}


def file_of_names():
    """Rows of all lengths: too short ones, repeats that differ by spaces alone, one part, no capital."""
    chance, rows = random.Random(20250917), []
    for _ in range(200):
        length = chance.choice([0, 1, 2, 3, 5, 8, 10, 12, 15, 20, 24, 30])
        row = [chance.choice(GIVEN) + chance.choice(MIDDLE) + chance.choice(FAMILY) for _ in range(length)]
        for _ in range(chance.choice([0, 0, 1, 3]) if row else 0):
            name = chance.choice(row)
            row.insert(chance.randint(0, len(row)), chance.choice([name, name.replace(" ", ""), f" {name} ", name + "  "]))
        rows.append(row)
    return rows


def halves(name):
    """Before and from the second capital, where the first character is none whatever it is."""
    for at, char in enumerate(name):
        if at > 0 and char.isupper():
            return name[:at], name[at:]
    return name, ""


def people(row):
    return list(dict.fromkeys(name.replace(" ", "") for name in row))


def environment(rows, settings, seed):
    """All episodes, with the generator that the process has: it is seeded here, and stands at the end of the list."""
    least_turns, most_turns, least_names, most_names = settings
    random.seed(seed)
    made = []
    for number, row in enumerate(rows):
        names = people(row)
        counts = [random.randint(least_names, most_names) for _ in range(random.randint(least_turns, most_turns))]
        if len(names) < sum(counts):
            continue
        by_first = random.choice([True, False])
        turns, known = [], 0
        for turn, count in enumerate(counts):
            before, known = known, known + count
            shown = list(range(before, known))
            random.shuffle(shown)
            if turn == 0:
                slots = random.randint(least_names, most_names)
                threshold = slots
            else:
                slots = random.randint(least_names, known)
                threshold = random.randint(0, slots - 1)
            order = sorted(range(known), key=lambda at: halves(names[at])[0 if by_first else 1])
            turns.append([shown, slots, threshold, order])
        made.append([number, "FIRST" if by_first else "LAST", turns])
    return made


def right_lines(rows, episode):
    """The right answer to every turn."""
    number, _, turns = episode
    names = people(rows[number])
    lines = []
    for turn, (shown, _, _, order) in enumerate(turns):
        lines.append([names[at] + (MARK if turn > 0 and at in shown else "") for at in order])
    return lines


def recycled(rows, settings, seed, eval_seed):
    """What the process does: makes the training episodes, shuffles them, and after making those of an evaluation draws."""
    count = len(environment(rows, settings, seed))
    pool = numpy.random.default_rng(42).permutation(count).tolist()
    environment(rows, settings, eval_seed)
    return [random.sample(pool, 1)[0] for _ in range(PERIOD)]


# Transcripts. Draws come in the order in which they are written here.


def usually(rng, items, chances):
    """The first, but for one chance of each item among so many."""
    at = rng.randrange(chances)
    return items[at] if at < len(items) else items[0]


def edited(rng, text, times):
    text = list(text)
    for _ in range(times):
        kind, at = rng.randrange(4), rng.randrange(len(text) + 1)
        if kind == 0:
            text.insert(at, rng.choice(PARTS["noise"]))
        elif kind == 1:
            del text[at : at + 1]
        elif kind == 2:
            text[at : at + 1] = rng.choice(PARTS["noise"])
        else:
            to = rng.randrange(len(text) + 1)
            low, high = min(at, to), max(at, to)
            text = text[high:] + text[low:high] + text[:low]
    return "".join(text)


def chosen(rng, expected):
    """Lines that are right, or wrong in a way that models have."""
    kind = rng.randrange(14)
    if kind == 0:
        return rng.sample(expected, len(expected))
    if kind == 1:
        return expected[: rng.randrange(len(expected) + 1)]
    if kind == 2:
        return [line.replace(MARK, "") for line in expected]
    if kind == 3:
        return [line.replace(MARK, "") + MARK for line in expected]
    if kind == 4:
        return [line.upper() for line in expected]
    if kind == 5:
        return [line.lower() for line in expected]
    if kind == 6:
        return expected + [rng.choice(expected)]
    if kind == 7:
        return expected[::-1]
    return expected


def block(rng, turn, expected, edits):
    body = edited(rng, "\n".join(chosen(rng, expected)), edits)
    between = usually(rng, PARTS["between"], 28)
    around = [usually(rng, PARTS["around"], 30), usually(rng, PARTS["around"], 30)]
    body = between.join(around[0] + line + around[1] for line in body.split("\n"))
    own, other = TAGS[min(turn, 1)], TAGS[1 - min(turn, 1)]
    return usually(rng, PARTS["wraps"], 42).replace("{own}", own).replace("{other}", other).replace("{body}", body)


def completion(rng, turn, expected):
    blocks = usually(rng, [1, 2, 2, 3, 4, 0], 12)
    better = rng.randrange(3) > 0
    text = usually(rng, PARTS["talk"], 12)
    for left in range(blocks - 1, -1, -1):
        edits = left * 4 + rng.randrange(3) if better and blocks > 1 else usually(rng, [0, 1, 2, 5, 12, 40], 10)
        text += block(rng, turn, expected, edits) + usually(rng, PARTS["talk"], 12)
    kind = rng.randrange(24)
    if kind == 0:
        return text[: rng.randrange(len(text) + 1)]
    return text.upper() if kind == 1 else text


def transcript(number, lines):
    """Power, whether it is of every turn, the lines of its episode and the completions; `lines` are those of all episodes."""
    rng = random.Random(number)
    expected = rng.choice(lines)
    power, per_turn = rng.randint(1, 8), rng.randrange(4) > 0
    answered = usually(rng, [len(expected), len(expected) + 1, rng.randrange(len(expected) + 1)], 24)
    said = [completion(rng, at, expected[min(at, len(expected) - 1)]) for at in range(answered)]
    return power, per_turn, expected, said


class Counts:
    """What there is among transcripts."""

    def __init__(self):
        keys = "transcripts turns zero one between unanswered attempts better nested long autojunk unicode sum ulps pow"
        self.found = dict.fromkeys(keys.split(), 0)
        self.near = []

    def add(self, power, per_turn, turns, said, scores):
        found = self.found
        found["transcripts"] += 1
        found["turns"] += len(turns)
        found["unanswered"] += max(len(turns) - len(said), 0)
        for score in scores:
            found["zero" if score == 0 else "one" if score == 1 else "between"] += 1
        for (tag, expected), text, score in zip(turns, said, scores):
            contents = attempts(tag, text)
            found["attempts"] += len(contents) > 1
            found["better"] += len(contents) > 1 and score > 0
            found["nested"] += any(f"<{tag}>" in content for content in contents)
            texts = compared(contents[-1], expected) if contents else None
            if texts and len(texts[1]) >= 200:
                found["long"] += 1
                found["autojunk"] += ratio(*texts) != plain_ratio(*texts)
            if texts:
                found["unicode"] += not texts[0].isascii()
        self.sums(power, per_turn, scores)
        return self.powers(power, per_turn, turns, said, scores)

    def powers(self, power, per_turn, turns, said, scores):
        """Whether a power of this transcript is one that C libraries may round either way."""
        if per_turn:
            tried = [(content, lines) for (tag, lines), text in zip(turns, said) for content in attempts(tag, text)]
            bases = [ratio(*texts) for texts in (compared(*pair) for pair in tried) if texts]
        else:
            bases = [from_the_left(scores) / len(scores)]
        near = False
        for base in bases:
            exact = Fraction(base) ** power
            nearest = float(exact)
            self.found["pow"] += base**power != nearest
            to_middle = Fraction(1, 2) - abs(exact - Fraction(nearest)) / Fraction(math.ulp(nearest))
            if to_middle < Fraction(1, 32):
                near = True
                self.near.append((float(to_middle), bits(base), power, bits(base**power)))
        return near

    def sums(self, power, per_turn, scores):
        one, other = (total(scores, power, per_turn, summed) for summed in (from_the_left, compensated))
        own = compensated if sys.version_info >= (3, 12) else from_the_left
        assert sum(scores) == own(scores), "the built-in sum is what it is said to be"
        steps = abs(int(bits(one), 16) - int(bits(other), 16))
        self.found["sum"] += steps > 0
        self.found["ulps"] = max(self.found["ulps"], steps)


def plain_ratio(a, b):
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


def short(value):
    return "0" if value == 0 else "1" if value == 1 else bits(value)


def rewards(rows, group, settings, seed, counts):
    """A line for every transcript of a group."""
    lines = [right_lines(rows, episode) for episode in environment(rows, settings, seed)]
    found = []
    for number in range(group * TRANSCRIPTS, (group + 1) * TRANSCRIPTS):
        power, per_turn, expected, said = transcript(number, lines)
        turns = [(TAGS[min(at, 1)], lines) for at, lines in enumerate(expected)]
        scores = of_turns(turns, said, power, per_turn)
        near = counts.add(power, per_turn, turns, said, scores)
        found.append(" ".join(short(value) for value in [total(scores, power, per_turn), *scores]) + "~" * near)
    return found


def main():
    rows, counts = file_of_names(), Counts()
    episodes = [{"settings": settings, "seed": seed, "list": environment(rows, settings, seed)} for settings, seed in EPISODES]
    values = {
        "parts": PARTS,
        "rows": rows,
        "episodes": episodes,
        "lines": [right_lines(rows, episode) for episode in episodes[0]["list"][:20]],
        "recycled": [[*case, recycled(rows, *case)] for case in RECYCLED],
        "rewards": [
            {"settings": settings, "seed": seed, "lines": rewards(rows, group, settings, seed, counts)}
            for group, (settings, seed) in enumerate(REWARDS)
        ],
        "powers": [list(power) for _, *power in sorted(set(counts.near))[:100]],
        "counts": counts.found,
    }
    print(counts.found, {str(case["settings"]): len(case["list"]) for case in episodes}, file=sys.stderr)
    write(agreeing(__file__, values), values, rows=("rows", "episodes", "lines", "recycled", "rewards"))


if __name__ == "__main__":
    main()
