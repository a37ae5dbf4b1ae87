//! Weight files as they may be: what is loaded, and what is refused with which words.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use tch::{Device, Kind};

use tickets::data::TensorFile;
use tickets::data::safetensors::{RawTensor, parse, to_bytes};
use tickets::data::{Architecture, DataError, Family, ModelDir};
use tickets::torch::{TorchError, Weights};

use super::support::architecture;

fn fresh(shape: &Architecture) -> Vec<RawTensor> {
    Weights::fresh(shape, 1).unwrap().to_raw().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test's own folder")]
fn write(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).unwrap();
}

fn config(dir: &Path, shape: &Architecture) {
    write(dir, "config.json", shape.to_config_json(1, 0, "float32").to_string().as_bytes());
}

fn bytes(raw: &[RawTensor]) -> Vec<u8> {
    to_bytes(raw, &BTreeMap::new())
}

/// A folder with one file.
fn folder(shape: &Architecture, raw: &[RawTensor]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), shape);
    write(dir.path(), "model.safetensors", &bytes(raw));
    dir
}

/// A folder with two shards, the index as `edit` leaves it.
fn shards(
    shape: &Architecture,
    raw: &[RawTensor],
    edit: impl Fn(&mut serde_json::Map<String, serde_json::Value>),
) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), shape);
    let mut map = serde_json::Map::new();
    for (part, name) in [&raw[..5], &raw[5..]].into_iter().zip(["a.safetensors", "b.safetensors"]) {
        write(dir.path(), name, &bytes(part));
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), name.into())));
    }
    edit(&mut map);
    let index = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
    write(dir.path(), "model.safetensors.index.json", index.as_bytes());
    dir
}

fn load(dir: &Path, kind: Kind) -> Result<Weights, TorchError> {
    Weights::load(&ModelDir::open(dir)?, kind, Device::Cpu)
}

/// Error and advice, which has to be there.
fn refused(dir: &Path) -> String {
    let error = load(dir, Kind::Float).unwrap_err();
    let TorchError::Data(error) = error else { panic!("{error}") };
    let hint = error.hint().unwrap_or_else(|| panic!("no advice: {error}"));
    assert!(hint.len() > 20, "{hint}");
    format!("{error}; {hint}")
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn every_family_type_and_layout_round_trips() {
    for family in Family::ALL {
        for tied in [true, false] {
            let shape = Architecture {
                family,
                attention_bias: tied || family == Family::Qwen2,
                ..architecture(tied)
            };
            for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
                let mut weights = Weights::fresh_in(&shape, 3, kind).unwrap();
                let dirs = [
                    folder(&shape, &weights.to_raw().unwrap()),
                    shards(&shape, &weights.to_raw().unwrap(), |_| {}),
                ];
                for dir in dirs {
                    let again = load(dir.path(), kind).unwrap();
                    assert_eq!(again.digest().unwrap(), weights.digest().unwrap());
                    let wide = load(dir.path(), Kind::Float).unwrap();
                    for (a, b) in wide.tensors.iter().zip(&mut weights.tensors) {
                        assert!(a.equal(&b.to_kind(Kind::Float)));
                    }
                }
            }
        }
    }
}

#[test]
fn tensors_longer_than_a_block_are_whole() {
    // The embedding has 4.4 million numbers, the block of the reader 4.2 million.
    let shape = Architecture { vocab_size: 273_000, layers: 1, ..architecture(true) };
    let weights = Weights::fresh(&shape, 3).unwrap();
    let mut raw = weights.to_raw().unwrap();
    let dir = folder(&shape, &raw);
    assert_eq!(load(dir.path(), Kind::Float).unwrap().digest().unwrap(), weights.digest().unwrap());
    // Wrong numbers in both blocks.
    for at in [5usize, 4_300_000, 4_367_999] {
        raw[0].bytes[4 * at..4 * at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    }
    write(dir.path(), "model.safetensors", &bytes(&raw));
    says(&refused(dir.path()), &["model.embed_tokens.weight", "3 of its 4368000", "first at 5"]);
}

#[test]
fn missing_tensors_are_named_and_counted() {
    let shape = architecture(false);
    let mut raw = fresh(&shape);
    let head = raw.pop().unwrap();
    let dir = folder(&shape, &raw);
    says(&refused(dir.path()), &["lm_head.weight", "model.safetensors", "missing", "tie_word_embeddings"]);
    raw.push(head);
    let norms: Vec<RawTensor> = raw.iter().filter(|t| !t.name.contains("norm")).cloned().collect();
    says(
        &refused(folder(&shape, &norms).path()),
        &["model.layers.0.input_layernorm.weight", "missing, and 4 others are", "config.json"],
    );
    let shape = Architecture { family: Family::Llama, ..shape };
    let plain: Vec<RawTensor> = fresh(&shape).into_iter().filter(|t| !t.name.ends_with("bias")).collect();
    says(
        &refused(folder(&shape, &plain).path()),
        &["q_proj.bias", "and 7 others are", "`attention_bias` = false"],
    );
}

#[test]
fn extra_tensors_are_named_and_counted() {
    let shape = architecture(false);
    let mut raw = fresh(&shape);
    let more = |name: &str| RawTensor { name: name.into(), ..raw[3].clone() };
    let extra = [more("model.layers.0.self_attn.rotary_emb.inv_freq"), more("adapter.a"), more("adapter.b")];
    raw.extend(extra);
    says(&refused(folder(&shape, &raw).path()), &["adapter.a", "no such tensor, and 1 other is unknown"]);
    raw.truncate(raw.len() - 2);
    load(folder(&shape, &raw).path(), Kind::Float).unwrap();
    let raw = fresh(&Architecture { family: Family::Llama, ..shape.clone() });
    let plain = Architecture { family: Family::Llama, attention_bias: false, ..shape.clone() };
    says(&refused(folder(&plain, &raw).path()), &["k_proj.bias", "`attention_bias` = true"]);
    // A model of another family: its norms are unknown.
    let raw = fresh(&Architecture { family: Family::Qwen3, ..plain.clone() });
    says(&refused(folder(&plain, &raw).path()), &["k_norm.weight", "another model than config.json"]);
}

#[test]
fn shapes_and_types_are_checked_before_a_number_is_read() {
    let shape = architecture(false);
    let mut raw = fresh(&shape);
    let head = raw.last_mut().unwrap();
    head.shape.reverse();
    // Not even the NaN before it is found.
    raw[0].bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    says(&refused(folder(&shape, &raw).path()), &["lm_head.weight", "[16, 280]", "[280, 16]", "config.json"]);
    for dtype in ["F64", "I8", "F8_E4M3", "I4"] {
        let mut raw = fresh(&shape);
        raw[2].dtype = dtype;
        says(
            &refused(folder(&shape, &raw).path()),
            &["q_proj.bias", dtype, "F32, BF16 and F16", "dtype=\"bfloat16\""],
        );
    }
}

#[test]
fn numbers_that_are_none_are_counted() {
    let shape = architecture(true);
    let mut raw = fresh(&shape);
    raw[1].bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    raw[1].bytes[16..20].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    says(
        &refused(folder(&shape, &raw).path()),
        &["q_proj.weight", "2 of its 256 numbers", "the first at 2", "diverged"],
    );
    // Finite in the file, too large for the type.
    raw[1].bytes[8..20].copy_from_slice(&[3.4e38f32, 0.0, 0.0].map(f32::to_le_bytes).concat());
    let dir = folder(&shape, &raw);
    load(dir.path(), Kind::Float).unwrap();
    let Err(TorchError::Data(error)) = load(dir.path(), Kind::BFloat16) else { panic!("it does not fit") };
    says(&format!("{error}; {}", error.hint().unwrap()), &["1 of its 256", "`model.dtype` = \"float32\""]);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let shape = architecture(true);
    let raw = fresh(&shape);
    let dir = folder(&shape, &raw);
    let whole = bytes(&raw);
    let refused_with = |bytes: &[u8]| {
        write(dir.path(), "model.safetensors", bytes);
        refused(dir.path())
    };
    says(&refused_with(&whole[..5]), &["model.safetensors", "5 bytes, too few", "again"]);
    says(&refused_with(&whole[..90]), &["model.safetensors", "90 in all"]);
    says(&refused_with(&whole[..whole.len() - 7]), &["model.safetensors", "cut short", "again"]);
    says(
        &refused_with(&[whole.clone(), vec![0; 3]].concat()),
        &["model.safetensors", "longer than its header says"],
    );
    let mut broken = whole.clone();
    broken[9] = b'!';
    says(&refused_with(&broken), &["model.safetensors", "header is broken"]);
    let edited = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    says(&refused_with(&edited("\"F32\"", "12345")), &["describes tensor model.embed_tokens.weight wrongly"]);
    says(&refused_with(&edited("[280,16]", "[281,16]")), &["model.embed_tokens.weight", "[281, 16]"]);
    says(&refused_with(&edited("[0,17920]", "[1,17921]")), &["model.embed_tokens.weight", "byte 1, where 0"]);
    let sharded = shards(&shape, &raw, |_| {});
    let shard = std::fs::read(sharded.path().join("b.safetensors")).unwrap();
    write(sharded.path(), "b.safetensors", &shard[..shard.len() - 1]);
    says(&refused(sharded.path()), &["b.safetensors", "cut short"]);
}

#[test]
fn indices_that_do_not_fit_their_shards_are_refused() {
    let shape = architecture(true);
    let raw = fresh(&shape);
    let first = "model.embed_tokens.weight";
    let with = |value: &str| {
        refused(
            shards(&shape, &raw, |map| {
                map.insert(first.into(), value.into());
            })
            .path(),
        )
    };
    says(&with("c.safetensors"), &["index.json", first, "c.safetensors, which is not there", "again"]);
    says(&with("b.safetensors"), &["b.safetensors", first, "it is in", "a.safetensors"]);
    for outside in ["../model.safetensors", "/etc/passwd", "sub/a.safetensors", "", "..", "a.bin"] {
        says(&with(outside), &["index.json", first, "not a safetensors file of this folder"]);
    }
    let lost = shards(&shape, &raw, |map| {
        map.insert("model.ghost".into(), "a.safetensors".into());
    });
    says(&refused(lost.path()), &["a.safetensors", "model.ghost", "does not have it"]);
    says(&refused(shards(&shape, &raw, serde_json::Map::clear).path()), &["index.json", "empty"]);
    let number = shards(&shape, &raw, |map| {
        map.insert(first.into(), 7.into());
    });
    says(&refused(number.path()), &["index.json", first, "7, not a name"]);
    let twice = shards(&shape, &raw, |_| {});
    write(twice.path(), "b.safetensors", &bytes(&raw[4..]));
    says(&refused(twice.path()), &[&raw[4].name, "a.safetensors too", "b.safetensors"]);
    for text in ["{", "[]", "{\"weight_map\": []}"] {
        write(twice.path(), "model.safetensors.index.json", text.as_bytes());
        says(&refused(twice.path()), &["model.safetensors.index.json"]);
    }
}

#[test]
fn a_second_head_must_be_the_embedding() {
    let shape = architecture(true);
    let mut raw = fresh(&shape);
    raw.push(RawTensor { name: "lm_head.weight".into(), ..raw[0].clone() });
    load(folder(&shape, &raw).path(), Kind::Float).unwrap();
    raw.last_mut().unwrap().bytes[40] ^= 1;
    says(
        &refused(folder(&shape, &raw).path()),
        &[
            "lm_head.weight",
            "1 of its 4480 numbers differ from model.embed_tokens.weight",
            "`tie_word_embeddings`",
            "false",
        ],
    );
    raw.last_mut().unwrap().shape = vec![140, 32];
    says(&refused(folder(&shape, &raw).path()), &["lm_head.weight", "[140, 32]"]);
}

#[test]
fn folders_without_safetensors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), &architecture(true));
    says(&refused(dir.path()), &["model.safetensors or model.safetensors.index.json"]);
    write(dir.path(), "pytorch_model.bin", b"\x80\x02");
    says(&refused(dir.path()), &["pytorch_model.bin", "not read", "save_pretrained", "can run code"]);
}

/// Bytes of a small model, whole.
fn small() -> &'static (Vec<u8>, usize) {
    static SMALL: std::sync::OnceLock<(Vec<u8>, usize)> = std::sync::OnceLock::new();
    SMALL.get_or_init(|| {
        let bytes = bytes(&fresh(&Architecture { layers: 1, ..architecture(true) }));
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        (bytes, header)
    })
}

/// Both readers on a file; they agree on whether it is one.
fn both(bytes: &[u8]) -> (Result<usize, DataError>, bool) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "m.safetensors", bytes);
    let path = dir.path().join("m.safetensors");
    (TensorFile::open(&path).map(|file| file.entries().len()), parse(bytes, &path).is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// A flipped bit never panics. What the reference crate refuses is refused, but for types that it does not know.
    #[test]
    fn flipped_bits_in_a_header_never_panic(share in 0.0f64..1.0, bit in 0u8..8, more in 0u8..3) {
        let (bytes, header) = small();
        let mut bytes = bytes.clone();
        let mut at = (share * *header as f64) as usize;
        for _ in 0..=more {
            bytes[at % header] ^= 1 << bit;
            at = at * 7919 + 13;
        }
        let (ours, reference) = both(&bytes);
        prop_assert!(!reference || ours.is_ok(), "{ours:?}");
        if let Err(error) = ours {
            prop_assert!(error.to_string().contains("m.safetensors"));
        }
    }

    /// A file that was cut anywhere is refused, and so is one with something behind it.
    #[test]
    fn other_lengths_are_refused(share in 0.0f64..1.0, more in 1usize..40) {
        let (bytes, _) = small();
        let cut = &bytes[..(share * bytes.len() as f64) as usize];
        for wrong in [cut.to_vec(), [bytes.clone(), vec![0; more]].concat()] {
            let (ours, reference) = both(&wrong);
            prop_assert!(ours.is_err() && !reference);
        }
    }
}
