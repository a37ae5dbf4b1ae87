"""The texts and conversations of text_cases.py and real_text.py: written by hand, and drawn by a generator of its own.

Standard library only, the same on every run and in every version of Python.
"""

import unicodedata

ZWJ, ZWNJ, ZWSP, BOM, RLM = "\u200d", "\u200c", "\u200b", "\ufeff", "\u200f"


class Draws:
    """A linear congruential generator: Python's own may change its choices between versions."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def one(self, items):
        return items[self.below(len(items))]


EMPTY_AND_BLANK = [
    "", " ", "  ", "   ", "\t", "\t\t", " \t ", "\n", "\n\n", "\n\n\n", "\r", "\r\n", "\r\n\r\n", "\n\r", " \n", "\n ", " \n \n ",
    "\u00a0", "\u00a0 \u00a0", "\u2003\u2003", "\u3000", "\u2028", "\u2029x", "\u0085", "a\u0085b", "\x0b\x0c", "\x1c\x1d\x1e\x1f", "\x1fa\x1c",
    "a\u00a0b", "a \u00a0 b", "x\u1680y", "x\u180ey",
]
SPACING = [
    " leading", "trailing ", "  two  between  words  ", "tab\tbetween", "\tindented\n\t\tmore\n", "line one\nline two\r\nline three\rline four",
    "ends with a break\n", "ends with two\n\n", "\n\nbegins with two", "a\n \n  \n   b", "a   \n\n   b   \n", "word" + " " * 17 + "word",
    "x" + "\n" * 9 + "y", "x" + "\t" * 8 + "y", "a \t \n \r\n b", "!  ?", " !\n\n", ".\n.\n\n.\r\n", "a.\n\n\nb!\r\n\r\nc", "  123  ", "   \u4e2d  ",
]
LATIN = [
    "Sort these names alphabetically: Zo\u00eb, \u00c9mile, \u00c5sa, Bj\u00f6rn.", "The quick brown fox jumps over the lazy dog.",
    "It's we'll I'd you're they've I'm don't", "IT'S WE'LL I'D YOU'RE THEY'VE I'M DON'T", "'s 'S 't 'T 're 'RE 'Re 've 'm 'll 'LL 'lL 'd 'D",
    "x's'll've", "rock 'n' roll 'tis 'twas", "it\u2019s we\u2019ll", "'\u017f long s, '\u017fx", "\u212aelvin '\u212a", "O'Neil's d'accord l'\u00e9t\u00e9",
    "na\u00efve caf\u00e9 \u00fcber stra\u00dfe \u1e9e", "\u0130stanbul \u0131\u015f\u0131k", "\u01c5 \u01c8 titlecase", "\ufb01 \ufb02 \ufb06 ligatures",
    "Ti\u1ebfng Vi\u1ec7t c\u00f3 d\u1ea5u", "\u0141\u00f3d\u017a, \u017b\u00f3\u0142w, p\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd", "a_b-c.d,e;f:g", "CamelCaseAndsnake_case",
]
COMBINING = [
    "e\u0301", "caf" + "e\u0301" + " au lait", unicodedata.normalize("NFD", "Zo\u00eb \u00c9mile Bj\u00f6rn"), "A\u030a vs \u00c5 vs \u212b", "q\u0307\u0323 vs q\u0323\u0307",
    "s\u0323\u0307", "\u0344", "\u0958", "\u2126 \u03a9", "\u1100\u1161\u11a8 \uac01", unicodedata.normalize("NFD", "\ud55c\uad6d\uc5b4"), "\u0301alone", " \u0301", "1\u0301",
    "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308", "\u0915\u094d\u0937\u093f", "\u0e19\u0e49\u0e33", "\u05e9\u05bc\u05c1\u05b8", "\u0627\u0653 \u0622", "\uf900 \ufa0a \U0002f800",
    "\u00e9" * 3 + "e\u0301" * 3, "\u1e9b\u0323", "\u0374 \u037e \u0387", "\U0001d15e \U0001d1bb",
]
SCRIPTS = [
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u4e2d\u6587 mixed \u82f1\u6587 and 123", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u3002", "\u30ab\u30bf\u30ab\u30ca\u3068\u3072\u3089\u304c\u306a", "\uff76\uff9e\uff77\uff9e \uff11\uff12\uff13",
    "\uc548\ub155\ud558\uc138\uc694 \uc138\uacc4", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u03ba\u03cc\u03c3\u03bc\u03b5", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd", "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "\u1019\u103c\u1014\u103a\u1019\u102c",
    "\u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0", "\u0540\u0561\u0575\u0565\u0580\u0565\u0576", "\u12a0\u121b\u122d\u129b", "\u13e3\u13b3\u13a9", "\u1820\u1821\u1822", "\U00010330\U00010331", "\U0001d538\U0001d552 \U0001d7d8\U0001d7ff", "\U00020000\U0002a6d6",
    "\u0661\u0662\u0663 \u0967\u0968\u0969 \u0e51", "\u2167 \u2160\u2170 \u00bd \u00b2\u00b3 \u2460\u2473", "\u0600\u06dd \u070f", "\u1c80 \ua64a \u1c81", "\u2c2f \ua7c0 \U00016e40",
]
RTL_AND_INVISIBLE = [
    f"zero{ZWSP}width", f"{BOM}begins with a mark", f"a{ZWJ}b{ZWNJ}c", f"{RLM}\u0627\u0644\u0639 abc {RLM}123", "\u202eesrever\u202c", "\u2066iso\u2069late", "soft\u00adhyphen",
    "\u2060joined", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u061c\u0661", "variation \u2764\ufe0f \u2764\ufe0e", "\U000e0041\U000e007f", "\ue000 private \U000f0000", "\ufffd \ufffc \ufffe?",
]
EMOJI = [
    "\U0001f600", "\U0001f44b\U0001f3fd hi", f"\U0001f468{ZWJ}\U0001f469{ZWJ}\U0001f467{ZWJ}\U0001f466", f"\U0001f3f3\ufe0f{ZWJ}\U0001f308", "\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea\U0001f1f7", "1\ufe0f\u20e3 #\ufe0f\u20e3",
    "\U0001f600\U0001f601\U0001f602 lots \U0001f923", f"\U0001f9d1\U0001f3ff{ZWJ}\U0001f680!", "text\U0001f600text", " \U0001f600 ", "\u263a\ufe0f\u2600\u26a1", "\U0001fae8\U0001fadf",
]
DIGITS = [
    "0", "12", "123", "1234", "12345678901234567890", "3.14159", "1,000,000.00", "-42", "+49 (30) 1234-5678", "2024-07-26T12:34:56Z", "0x1F600", "1e-5", "7777777", "v1.2.3-rc4", "50%", "$9.99",
    "a1b2c3", "1a 22bb 333ccc", "\u0661\u0662\u0663\u0664\u0665", "\uff11\uff12\uff13\uff14", "1 2  3   4", "12\u00a0345", "x^2 + y_1 = \\frac{1}{2}", "\u221a2 \u2248 1.4142 \u2260 \u03c0",
]
CODE = [
    "def f(x):\n    return x ** 2  # square\n", "for (int i = 0; i < n; ++i) { a[i] += b[i]; }", "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\\n\"}", "<div class=\"a\">\n\t<p>&nbsp;&amp;</p>\n</div>",
    "SELECT * FROM t WHERE a='x''y' -- comment", "fn main() -> Result<(), Box<dyn Error>> {\n    println!(\"{:?}\", 1..=3);\n}", "```python\nprint('hi')\n```\n", "#!/bin/sh\nset -eu\necho \"$@\" | sed 's/a/b/' >&2\n",
    "https://example.org/a/b?c=d&e=%20f#g", "user.name+tag@mail.example.org", "C:\\path\\to\\file.txt", "a==b!=c<=d>=e&&f||!g", "/* ... */ // ---- ****", "|a|b|\n|--|:-:|\n|1|2|", "{{ braces }} {% and %} {# comment #}", "%s %d {} ${x}", "......", "!!!???", "-- --- ----", "\\\\\\n",
]
SPECIALS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>", "text<|im_end|>text", " <|im_end|> ", "\n<|im_end|>\n", "<|im_end|><|im_end|>", "<|IM_END|> <|im_end>", "<|im_|im_end|>end|>",
    "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>system<|end_header_id|>\n\nx<|eot_id|>", "a<|begin_of_text|>b", "<|end_of_text|><|eom_id|>", "<think>", "</think>", "<think>\nwell\n</think>\n\nso", "<think></think>", "x</think>y",
    "<s> </s> <unk> <pad>", "<|reserved_special_token_1|>", "e<|im_end|>\u0301", "<|im_end|>'s", "[INST] x [/INST] <<SYS>>",
]
ODD = [
    "\x00", "a\x00b", "\x01\x02\x03", "\x7f", "\x1b[31mred\x1b[0m", "bell\x07", "\x08back", "\ufeff", "\uffff", "\U0010ffff", "\U0001ffff", "\xc3\xa9 mojibake \xe2\x82\xac", "\u00c3\u00a9", "\ufffd\ufffd", "\u0120\u010a", "\u0120token", "\u2581piece",
]
LONG = ["a" * 300, "supercalifragilistic" * 12, "\u4e2d" * 80, "ab" * 100, "." * 120, "=" * 65 + "\n", "0" * 90, "\U0001f600" * 25, "e\u0301" * 40, " " * 130, "\n" * 70, "A" * 64 + "b" * 64, "x1" * 50, "\t" * 60 + "end"]
SENTENCES = [
    "You are a careful assistant.", "Be brief.", "Sort the names: Ada, Bob, Carla", "Sort the combined list and mark what is new.", "<list>\nAda\nBob\n</list>", "What is 12 times 12?", "It is 144.", "Thank you!", "Write a haiku about the sea.",
    "Natalia sold 48 clips in April, and half as many in May. How many in all?", "48 / 2 = 24, and 48 + 24 = 72.\n#### 72", "\\boxed{72}", "Please answer in German: wie sp\u00e4t ist es?", "Es ist drei Uhr.", "one", "two", "three",
]
# How a thinking model answers. The last ones are not well-formed.
THOUGHTS = [
    "<think>\nTwelve times twelve.\n</think>\n\nIt is 144.", "<think>\n\n</think>\n\nYes.", "<think>short</think>no break", "<think>\n\n  padded  \n\n</think>\n\n\n\n  padded too\n", "<think>\na\n</think>\nb\n</think>\nc",
    "no opening\n</think>\n\nanswer", "<think>\ncut before its end", "<think><think>\ntwice\n</think></think>\n\nx", "\n\n<think>\nlate\n</think>\n\nanswer", "</think>",
]
GROUPS = [EMPTY_AND_BLANK, SPACING, LATIN, COMBINING, SCRIPTS, RTL_AND_INVISIBLE, EMOJI, DIGITS, CODE, SPECIALS, ODD, LONG, SENTENCES, THOUGHTS]


def mixtures(draws, number):
    """Pieces of the texts above, put together at random."""
    pieces = [text for group in GROUPS if group is not LONG for text in group]
    joints = ["", "", " ", "  ", "\n", "\n\n", "\t", ", ", "\r\n", "\u00a0", "'", "-", "1", "\u0301"]
    return ["".join(draws.one(pieces)[:24] + draws.one(joints) for _ in range(2 + draws.below(4))) for _ in range(number)]


def random_points(draws, number):
    """Code points from everywhere but the surrogates."""
    planes = [(0x20, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x1FFF), (0x2000, 0x2BFF), (0x2C00, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    texts = []
    for _ in range(number):
        ranges = [draws.one(planes) for _ in range(3 + draws.below(9))]
        texts.append("".join(chr(low + draws.below(high - low + 1)) for low, high in ranges))
    return texts


def make_texts():
    draws = Draws(5)
    texts = [text for group in GROUPS for text in group] + mixtures(draws, 60) + random_points(draws, 40)
    return list(dict.fromkeys(texts))


def make_conversations(texts):
    """Lists of (role, index of the text): with and without a system message, ending with either role."""
    draws, index = Draws(6), {text: i for i, text in enumerate(texts)}
    usual = [index[text] for text in SENTENCES]
    thoughts = [index[text] for text in THOUGHTS]
    short = [i for i, text in enumerate(texts) if len(text) < 40]

    def content(role, kind):
        if role == "assistant" and kind == "thinking":
            return draws.one(thoughts if draws.below(3) else usual)
        return draws.one(usual if kind == "plain" or draws.below(3) == 0 else short)

    conversations = []
    for number in range(200):
        kind = ["plain", "thinking", "wild", "wild"][number % 4]
        roles = ["system"] * (draws.below(3) == 0) + ["user", "assistant"] * (1 + draws.below(4))
        if draws.below(4):
            roles = roles[:-1]
        if number % 23 == 22:
            roles.insert(len(roles) - 1, "system")  # one in the middle
        if number % 29 == 28:
            roles.insert(len(roles) - 1, roles[-1])  # the same role twice
        conversations.append([(role, content(role, kind)) for role in roles])
    return conversations
