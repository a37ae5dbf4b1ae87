"""Makes a folder for the test `real_text`: real vocabularies and templates, and what transformers makes of them.

    python3 tests/oracles/real_text.py FOLDER        (`make parity REAL=1` does this and runs the test)

Nothing of it is kept in the repository. The vocabularies come from packages on PyPI: Qwen's byte pairs from `dashscope`,
Llama 3's from `llama-models`. The templates are those that `trl` has for its own tests. Per template of a supported
family: ids of the corpus and of all conversations; per vocabulary: ids of every code point in five contexts. For all other
templates of trl: the rendered text of all conversations, where transformers renders them; those whose text depends on the
day are left out.
"""

import base64
import json
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path

import trl
from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.utils import chat_template_utils

from corpus import make_conversations, make_texts
from text_cases import conversation_case, encode, render, write_json

assert trl.__version__ == "1.16.0", trl.__version__
PACKAGES = ["dashscope==2.0.2", "llama-models==0.3.0"]
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
#         name in trl: (vocabulary, whether texts and code points are compared as well)
FAMILIES = {
    "qwen2_5": ("qwen", True), "qwen3": ("qwen", False), "qwen3_instruct_2507": ("qwen", False),
    "qwen2_5_training": ("qwen", False), "qwen3_training": ("qwen", False),
    "llama3": ("llama", True), "llama3_1": ("llama", False), "llama3_2": ("llama", False), "llama3_training": ("llama", False),
}
QWEN_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN_MARKS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
LLAMA_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
                  "<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>",
                  "<|eot_id|>", "<|python_tag|>"]
DATE = "26 Jul 2024"  # the one that Llama's templates have for themselves
STEP = 32


class Converter(TikTokenConverter):
    """Reads the file itself: the package tiktoken is not needed for that."""

    @staticmethod
    def load_tiktoken_bpe(path):
        pairs = (line.split() for line in Path(path).read_bytes().splitlines() if line)
        return {base64.b64decode(token): int(rank) for token, rank in pairs}


def fetch(folder):
    wheels = folder / "packages"
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *PACKAGES], check=True)
    files = {"qwen": "dashscope/resources/qwen.tiktoken", "llama": "llama_models/llama3/tokenizer.model"}
    for name, inside in files.items():
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                if inside in archive.namelist():
                    (folder / f"{name}.tiktoken").write_bytes(archive.read(inside))
    shutil.rmtree(wheels)
    return {name: folder / f"{name}.tiktoken" for name in files}


def qwen(path):
    vocab, merges = Converter().extract_vocab_merges_from_model(str(path))
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None)
    backend = tokenizer.backend_tokenizer
    ids = {len(vocab) + i: token for i, token in enumerate(QWEN_SPECIALS)}
    state = json.loads(backend.to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokens = [{"id": i, "content": token, "special": True, **flags} for i, token in ids.items()]
    state["added_tokens"] = tokens
    backend = type(backend).from_str(json.dumps(state))
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in QWEN_MARKS])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False)
    assert made.convert_tokens_to_ids(["!", *QWEN_SPECIALS]) == [0, 151643, 151644, 151645]
    return made


def llama(path):
    converter = Converter(vocab_file=str(path), extra_special_tokens=LLAMA_SPECIALS + [f"<|reserved_special_token_{i}|>" for i in range(3, 248)])
    backend = converter.converted()
    first = "<|begin_of_text|>"
    template = processors.TemplateProcessing(single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, 128000)])
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=first, eos_token="<|eot_id|>", clean_up_tokenization_spaces=False)
    assert made.convert_tokens_to_ids([first, "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]) == [128000, 128001, 128008, 128009]
    assert len(made) == 128256
    return made


def code_points(tokenizer):
    """Every code point of the planes that are in use, twice in a row and next to letters, spaces, digits and quotes."""
    blocks = [*range(0, 0x32400, STEP), *range(0xE0000, 0xE0200, STEP), *range(0x10FFE0, 0x110000, STEP)]
    texts = []
    for first in blocks:
        points = [chr(c) for c in range(first, first + STEP) if not 0xD800 <= c < 0xE000]
        texts.append("".join(f"x{c}{c} {c}1{c}'{c}\n" for c in points))
    return {"first": blocks, "ids": tokenizer(texts, add_special_tokens=False)["input_ids"]}


def as_messages(texts, conversation):
    return [{"role": role, "content": texts[i]} for role, i in conversation]


def case_or_refusal(tokenizer, messages):
    try:
        return conversation_case(tokenizer, messages, date_string=DATE)
    except Exception as error:  # of the template, or of what it assumes
        return {"refused": str(error)}


def family_case(name, tokenizer, texts, conversations, folder):
    vocabulary, whole = FAMILIES[name]
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer.save_pretrained(folder)
    ends = [151643, 151645] if vocabulary == "qwen" else [128001, 128008, 128009]
    write_json(folder / "generation_config.json", {"eos_token_id": ends})
    case = {"vocab": max(tokenizer.get_vocab().values()) + 1, "ends": ends, "closing": tokenizer.eos_token_id,
            "conversations": [case_or_refusal(tokenizer, as_messages(texts, c)) for c in conversations]}
    if whole:
        ids = [encode(tokenizer, text) for text in texts]
        back = [tokenizer.decode(i, skip_special_tokens=False, clean_up_tokenization_spaces=False) for i in ids]
        case.update(ids=ids, decoded={str(i): text for i, text in enumerate(back) if text != texts[i]}, noise=[], code_points=code_points(tokenizer))
    return case


def follows_the_day(tokenizer, source):
    """Whether a template renders another text on another day."""
    texts, now = set(), chat_template_utils.datetime
    for year in (2001, 2002):
        chat_template_utils.datetime = type("Day", (), {"now": staticmethod(lambda: datetime(year, 2, 3))})
        texts.add(render(tokenizer, [{"role": "user", "content": "a"}], True, chat_template=source, date_string=DATE))
    chat_template_utils.datetime = now
    return len(texts) > 1


def other_templates(tokenizer, texts, conversations):
    """Text of conversations by templates of any family; none where transformers refuses."""
    cases, dated = {}, []
    for path in sorted(TEMPLATES.glob("*.jinja")):
        source, rendered = path.read_text(encoding="utf-8"), []
        if follows_the_day(tokenizer, source):
            dated.append(path.stem)
            continue
        for conversation in conversations:
            try:
                rendered.append(render(tokenizer, as_messages(texts, conversation), True, chat_template=source, date_string=DATE))
            except Exception:  # a template's own refusal, or a variable that it needs
                rendered.append(None)
        if any(text is not None for text in rendered):
            cases[path.stem] = {"source": source, "texts": rendered}
    return {"bos": tokenizer.bos_token or "", "eos": tokenizer.eos_token, "cases": cases, "dated": dated}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = fetch(folder)
    tokenizers = {"qwen": qwen(files["qwen"]), "llama": llama(files["llama"])}
    texts = make_texts()
    conversations = make_conversations(texts)
    write_json(folder / "corpus.json", {"texts": texts, "conversations": conversations})
    for name, (vocabulary, _) in FAMILIES.items():
        case = family_case(name, tokenizers[vocabulary], texts, conversations, folder / name)
        write_json(folder / f"{name}.json", case)
        refused = [c["refused"] for c in case["conversations"] if "refused" in c]
        print(f"{name}: {len(conversations)} conversations, {len(refused)} refused", *sorted(set(refused)), sep="\n    ")
    others = other_templates(tokenizers["llama"], texts, conversations)
    write_json(folder / "templates.json", others)
    print(f"{len(others['cases'])} templates rendered, of {len(list(TEMPLATES.glob('*.jinja')))}; by the day: {others['dated']}")


if __name__ == "__main__":
    main()
