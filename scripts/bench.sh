#!/usr/bin/env bash
# Times a step of a small model with random weights: scripts/bench.sh PROGRAM [OPTIONS of `tickets bench step`]
set -euo pipefail
program="$1"
shift
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cat >"$folder/config.json" <<'JSON'
{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 128, "intermediate_size": 352,
 "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 408, "rms_norm_eps": 1e-6,
 "rope_theta": 1e4, "tie_word_embeddings": true, "max_position_embeddings": 2048, "hidden_act": "silu"}
JSON
"$program" model random --config "$folder/config.json" --no-tokenizer --dtype float32 --out "$folder/model" >&2
"$program" bench step --model "$folder/model" "$@"
