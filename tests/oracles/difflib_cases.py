"""Prints what CPython says about the cases of src/task/oracle_tests.rs, as JSON.

    python3 tests/oracles/difflib_cases.py > tests/oracles/difflib_cases.json

Standard library only, and the same output on every run. Floats are given as the 16 hexadecimal digits of their bits.
`ratio` is difflib itself. `reward` is by the rules of scoring.py (several attempts, blank lines, case, power). `text` is
str.lower and str.strip; `upper` are all characters of which str.isupper is true, without those younger than this Python.
"""

import random
import sys
import unicodedata

from pythons import agreeing, write
from scoring import TAGS, bits, ratio, reward

FIRST = "Ada Ben Cleo Dan Eva Finn Gwen Hugo Ida Jan Kofi Lea Mei Noor Olga Per Quinn Rosa Siv Tom Uma Vera Wei Xin".split()
LAST = "Adams Bell Cole Diaz Eide Falk Gray Holm Ito Jain Khan Lund Moss Nash Okoye Park Quist Reid Sato Toth".split()


def some(rng, alphabet, low, high):
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def mutate(rng, text, alphabet, times):
    text = list(text)
    for _ in range(times):
        at = rng.randint(0, len(text))
        kind = rng.randint(0, 3)
        if kind == 0:
            text.insert(at, rng.choice(alphabet))
        elif kind == 1 and text:
            del text[at % len(text)]
        elif kind == 2 and text:
            text[at % len(text)] = rng.choice(alphabet)
        else:
            low, high = sorted((at, rng.randint(0, len(text))))
            text = text[high:] + text[low:high] + text[:low]
    return "".join(text)


def names(rng, count):
    return [rng.choice(FIRST) + rng.choice(LAST) for _ in range(count)]


def ratio_cases(rng):
    cases = [
        ("", ""), ("", "a"), ("a", ""), ("a", "a"), ("a", "b"), ("ab", "ba"), ("tide", "diet"), ("diet", "tide"),
        ("aaaa", "aa"), ("aa", "aaaa"), ("\x00", "\x00\x00"), ("é", "e\u0301"), ("🦀a🦀", "a🦀a"), ("ǅ", "ǆ"),
    ]  # fmt: skip
    for length in (198, 199, 200, 201, 299, 300, 301):
        for often in (2, 3, 4, 5):
            body = [chr(0x4E00 + n) for n in range(length - often)]
            for _ in range(often):
                body.insert(rng.randint(0, len(body)), "z")
            cases.append(("yz" + "".join(body[50:60]) + "zz", "".join(body)))
        cases.append(("x" * 30, "x" * length))
        cases.append(("a" + "x" * 30, "x" * length))
        cases.append(("x" * 250, "x" * length))
    for alphabet in ("a", "ab", "abc\n", "abcdefgh", "añß🦀Σ", "abcdefghijklmnopqrstuvwxyz"):
        for _ in range(25):
            cases.append((some(rng, alphabet, 0, 40), some(rng, alphabet, 0, 40)))
        for _ in range(6):
            cases.append((some(rng, alphabet, 100, 350), some(rng, alphabet, 180, 420)))
        for _ in range(10):
            base = some(rng, alphabet, 1, 80)
            cases.append((mutate(rng, base, alphabet, rng.randint(0, 6)), base))
        for _ in range(5):
            base = some(rng, alphabet, 195, 330)
            cases.append((mutate(rng, base, alphabet, rng.randint(0, 12)), base))
    for count in range(1, 26):
        truth = sorted(names(rng, count))
        for _ in range(3):
            answer = list(truth)
            rng.shuffle(answer)
            answer = answer[: rng.randint(1, count)]
            cases.append(("\n".join(answer).lower(), "\n".join(truth).lower()))
    return cases


def answers(rng, tag, expected):
    """One completion of a kind that models write, or might."""
    other = TAGS[1 - TAGS.index(tag)]

    def block(lines, tag=tag):
        return f"<{tag}>\n" + "\n".join(lines) + f"\n</{tag}>"

    shuffled = rng.sample(expected, len(expected))
    prefix = expected[: rng.randint(0, len(expected))]
    kinds = [
        lambda: block(expected),
        lambda: block(shuffled),
        lambda: block(prefix),
        lambda: block(expected + shuffled[:1]),
        lambda: "Sure!\n" + block(shuffled) + "\nDone.",
        lambda: block([line.upper() for line in expected]),
        lambda: block([" \t" + line + "\x1f\r" for line in expected] + ["", "  "]),
        lambda: block([line.replace(" // new name!", "") for line in expected]),
        lambda: block([line.split(" //")[0] + " // new name!" for line in expected]),
        lambda: block(prefix) + block(expected),
        lambda: block(shuffled) + "\n\n" + block(expected),
        lambda: block(expected) + block(expected),
        lambda: block(expected) + block(shuffled),
        lambda: block(["zzz"]) + block(prefix) + block(expected),
        lambda: block(expected) + f"<{tag}>\n" + "\n".join(shuffled),
        lambda: f"<{tag}>\n" + "\n".join(expected),
        lambda: f"<{tag}>\n<{tag}>\n" + "\n".join(expected) + f"\n</{tag}>\n</{tag}>",
        lambda: f"</{tag}>" + block(expected),
        lambda: f"<{tag}>" + block(shuffled, other) + f"</{tag}>",
        lambda: block(expected, other),
        lambda: block(shuffled, other) + block(expected),
        lambda: f"<{tag}></{tag}>",
        lambda: f"<{tag}> \n\t\x1c\n</{tag}>",
        lambda: f"<{tag}>" + ", ".join(expected) + f"</{tag}>",
        lambda: block([mutate(rng, line, "abc \nXYZ", 2) for line in expected]),
        lambda: "\n".join(expected),
        lambda: "",
        lambda: block(expected).replace("\n", "\r\n"),
        lambda: block(expected).upper(),
        lambda: block([f"Name{n + 1}" for n in range(len(expected))]),
    ]
    return rng.choice(kinds)()


def reward_cases(rng):
    cases = []
    for _ in range(150):
        known, turns, completions = [], [], []
        for at in range(rng.randint(1, 3)):
            new = names(rng, rng.randint(1, 5))
            if rng.random() < 0.15:
                new[0] = rng.choice(["ΑΣ", "İpekÖz", "ÉvaÉtienne", "Straße", "李Wei", "O'Neil-ΣΑΣ"])
            marks = {name: " // new name!" if at else "" for name in new}
            known = sorted(known + [name for name in new if name not in known])
            expected = [name + marks.get(name, "") for name in known]
            turns.append((TAGS[min(at, 1)], expected))
            if rng.random() < 0.95:
                completions.append(answers(rng, *turns[-1]))
        power, per_turn = rng.choice([1, 2, 3, 4, 5, 8]), rng.random() < 0.6
        scores, total = reward(turns, completions, power, per_turn)
        cases.append({
            "power": power, "per_turn": per_turn, "turns": turns, "completions": completions,
            "scores": [bits(score) for score in scores], "total": bits(total),
        })  # fmt: skip
    return cases


def text_cases(rng):
    cases = ["", " ", "ΑΣ", "ΑΣΑ", "Σ", "aΣ", "a.Σ b", "Σa", "ΑΣ\u0301", "ΑΣ\u0301Α", "İI", "ẞß", "ǄǅǆΌ", "ÅÅK", "Ⅷ", "Ⓐ", "𐐀𐓏"]
    cases += [chr(c) + "A" + chr(c) for c in (*range(0x21), 0x7F, 0x85, 0xA0, 0xAD, 0x1680, 0x180E)]
    cases += [chr(c) + "A" + chr(c) for c in (*range(0x2000, 0x2010), 0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)]
    cases += [some(rng, "ΣΑα.'\u00ad\u0301 aA1İ", 1, 12) for _ in range(60)]
    return cases


def every():
    """Every character that this Python knows, without surrogates."""
    known = (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    return [char for char in known if unicodedata.category(char) != "Cn"]


def whole():
    """All that lower-casing changes, apart from each other, and all that is stripped."""
    cased = " ".join(char for char in every() if char.lower() != char)
    blank = "".join(char for char in every() if not char.strip())
    return [cased, f"{blank}a{blank}b{blank}"]


def main():
    rng = random.Random(20250101)
    values = {
        "ratio": [[a, b, bits(ratio(a, b))] for a, b in ratio_cases(rng)],
        "reward": reward_cases(rng),
        "text": [[text, text.lower(), text.strip()] for text in text_cases(rng) + whole()],
        "upper": "".join(char for char in every() if char.isupper()),
    }
    versions = agreeing(__file__, values)
    write(versions, {"unicode": unicodedata.unidata_version, **values}, rows=("ratio", "reward", "text"))


if __name__ == "__main__":
    main()
