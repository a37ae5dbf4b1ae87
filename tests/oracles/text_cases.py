"""Makes the fixtures of tests/numerics/tokens.rs: what transformers makes of texts and conversations.

    python3 tests/oracles/text_cases.py           (writes the folder tests/oracles/text; `make oracles` runs it too)

Three small tokenizers with chat templates, built as those of the supported families are: normaliser, split expression,
byte-level BPE, special tokens, post-processor, and templates that use what theirs use. Per family: the ids of every text
and conversation of corpus.py, and what decoding gives. `kept` are the ids of a conversation whose answers were drawn by a
model: everything around the answers as the template renders it, the answers themselves as they were drawn.
Nothing here uses the program under test.
"""

import json
import shutil
from pathlib import Path

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from corpus import GROUPS, Draws, make_conversations, make_texts

assert transformers.__version__ == "5.23.0", transformers.__version__
assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
OUT = Path(__file__).parent / "text"

# The expressions by which the families split text before the merges.
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPLIT = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_SPLIT, LLAMA_SPLIT = SPLIT.replace("DIGITS", ""), SPLIT.replace("DIGITS", "{1,3}")

QWEN2 = r"""{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- endif %}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n<|im_end|>\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nAnswer with care.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for call in message.tool_calls %}
            {%- if call.function is defined %}{%- set call = call.function %}{%- endif %}
            {{- '\n' ~ call.name ~ ' ' ~ (call.arguments | tojson) }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" and (loop.index0 == 0 or messages[loop.index0 - 1].role != "tool") %}
        {{- '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

# Thoughts stay in the answers after the last question only; the last answer gets an empty block if it has none.
QWEN3 = r"""{%- if tools %}
    {%- for tool in tools %}{{- tool | tojson }}{%- endfor %}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set seen = namespace(searching=true, question=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if seen.searching and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set seen.searching = false %}
        {%- set seen.question = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\n' }}
        {%- if loop.index0 > seen.question and (loop.last or thought) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- content }}
        {%- endif %}
        {%- if message.tool_calls %}{{- '\n' ~ (message.tool_calls | tojson) }}{%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA3 = r"""{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}

{#- The system message goes into the header. -#}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if builtin_tools is defined or tools is not none %}{{- "With tools\n" }}{%- endif %}
{{- "Day: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if not tools is none %}
    {%- if messages | length != 0 %}
        {{- messages[0]['content']|trim ~ (tools | tojson(indent=4)) }}
    {%- else %}
        {{- raise_exception("tools need a user message") }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
    {%- elif message.content is mapping or message.content is iterable %}
        {{- message.content | tojson }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
LLAMA_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
                  "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
# Whole words that no sequence of merges gives: only `ignore_merges` finds them.
UNREACHABLE = ["\u0120careful", "Natalia", "\u0120144"]
FAMILIES = {
    "qwen2": dict(template=QWEN2, eos="<|im_end|>", ends=["<|endoftext|>", "<|im_end|>"], config="<|endoftext|>"),
    "qwen3": dict(template=QWEN3, eos="<|im_end|>", ends=["<|endoftext|>", "<|im_end|>"], config="<|im_end|>"),
    "llama3": dict(template=LLAMA3, eos="<|eot_id|>", ends=["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"], config=["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]),
}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def make_backend(split, normaliser, size):
    backend = Tokenizer(models.BPE())
    if normaliser:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated", False), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False, min_frequency=2
    )
    backend.train_from_iterator([text for group in GROUPS for text in group if len(text) < 90] * 2, trainer)
    return backend


def make_tokenizer(family):
    settings = FAMILIES[family]
    if family == "llama3":
        backend = make_backend(LLAMA_SPLIT, False, 600)
        model = json.loads(backend.to_str())
        for word in UNREACHABLE:
            assert word not in model["model"]["vocab"], word
            model["model"]["vocab"][word] = len(model["model"]["vocab"])
        model["model"]["ignore_merges"] = True
        backend = Tokenizer.from_str(json.dumps(model))
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in LLAMA_SPECIALS])
        first = "<|begin_of_text|>"
        backend.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, backend.token_to_id(first))]),
        ])
        bos, pad = first, "<|end_of_text|>"
    else:
        backend = make_backend(QWEN_SPLIT, True, 600)
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]])
        if family == "qwen3":
            backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in ["<think>", "</think>"]])
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
        bos, pad = None, "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=settings["eos"], pad_token=pad, clean_up_tokenization_spaces=False)
    tokenizer.chat_template = settings["template"]
    return tokenizer


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def render(tokenizer, messages, generation, **settings):
    return tokenizer.apply_chat_template(messages, add_generation_prompt=generation, tokenize=False, **settings)


def kept(tokenizer, messages, **settings):
    """The ids of a conversation that was played: turn by turn, what is rendered after an answer up to the next one."""
    place, ids, neutral = "an answer that no template changes", [], []
    for message in messages:
        if message["role"] == "assistant":
            neutral.append({**message, "content": place})
            ids += encode(tokenizer, message["content"])
        else:
            neutral.append(message)
            if message["role"] == "user":
                ids += encode(tokenizer, render(tokenizer, neutral, True, **settings).split(place)[-1])
    return ids


def is_played(messages):
    roles = [m["role"] for m in messages if m["role"] != "system" or m is not messages[0]]
    return len(roles) % 2 == 1 and all(role == ["user", "assistant"][i % 2] for i, role in enumerate(roles))


def conversation_case(tokenizer, messages, **settings):
    whole = tokenizer.apply_chat_template(messages, add_generation_prompt=False, tokenize=True, return_dict=False, **settings)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False, **settings)
    assert prompt[: len(whole)] == whole
    case = {"ids": whole, "opening": prompt[len(whole):]}
    if is_played(messages):
        stream = kept(tokenizer, messages, **settings)
        case["kept"] = None if stream == prompt else stream
    return case


def family_case(family, texts, conversations, folder):
    tokenizer, draws = make_tokenizer(family), Draws(7)
    tokenizer.save_pretrained(folder)
    assert "chat_template" not in json.loads((folder / "tokenizer_config.json").read_text())
    of = tokenizer.convert_tokens_to_ids
    settings = FAMILIES[family]
    config = settings["config"]
    write_json(folder / "config.json", {"model_type": family[:5], "eos_token_id": of(config)})
    write_json(folder / "generation_config.json", {"eos_token_id": [of(token) for token in settings["ends"]]})
    again = PreTrainedTokenizerFast.from_pretrained(folder)
    extra = {"date_string": "1 Jan 2024"} if family == "llama3" else {}
    ids = [encode(again, text) for text in texts]
    noise = [[draws.below(len(again)) for _ in range(1 + draws.below(12))] for _ in range(80)]
    decode = lambda ids: again.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    decoded = {str(i): decode(ids[i]) for i in range(len(texts)) if decode(ids[i]) != texts[i]}
    cases = [conversation_case(again, [{"role": role, "content": texts[i]} for role, i in c], **extra) for c in conversations]
    return {
        "vocab": max(again.get_vocab().values()) + 1, "ends": sorted(of(token) for token in settings["ends"]), "closing": of(settings["eos"]),
        "ids": ids, "decoded": decoded, "noise": [{"ids": ids, "text": decode(ids)} for ids in noise], "conversations": cases,
    }


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    texts = make_texts()
    conversations = make_conversations(texts)
    write_json(OUT / "corpus.json", {"texts": texts, "conversations": conversations})
    for family in FAMILIES:
        case = family_case(family, texts, conversations, OUT / family)
        write_json(OUT / f"{family}.json", case)
        played = [c for c in case["conversations"] if "kept" in c]
        print(f"{family}: {len(texts)} texts, {len(conversations)} conversations, {len(played)} played, {sum(c['kept'] is None for c in played)} of them as the whole is tokenised")


if __name__ == "__main__":
    main()
