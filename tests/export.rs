//! What comes out again: directories, deltas, and deltas on their base, through the real program.
#![cfg(feature = "torch")]
#![expect(clippy::disallowed_methods, reason = "tests make and damage files on purpose")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

mod common;
#[path = "numerics/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use common::{Bench, only, oracle_python};
use table::{largest, row};
use tickets::data::safetensors::{RawTensor, metadata, parse, to_bytes};

/// The names and contents of a folder's files.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// The ids of a manifest's runs by label.
fn ids(bench: &Bench, manifest: &str) -> BTreeMap<String, String> {
    let plan = bench.run(&["plan", manifest, "--json"]).ends(0).json();
    let word = |run: &Value, key: &str| run[key].as_str().unwrap().to_owned();
    plan["runs"].as_array().unwrap().iter().map(|run| (word(run, "label"), word(run, "id"))).collect()
}

/// A folder with a model of another type, made from a directory of float32 files.
fn narrow(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (name, bytes) in files(from) {
        if name == "model.safetensors" {
            let file = parse(&bytes, Path::new("m")).unwrap();
            let mut tensors = file.tensors();
            tensors.sort_by_key(|(_, view)| view.data().as_ptr() as usize);
            let tensors: Vec<RawTensor> = tensors
                .into_iter()
                .map(|(name, view)| RawTensor {
                    name,
                    dtype: "BF16",
                    shape: view.shape().to_vec(),
                    // Cut off: any bfloat16 numbers serve.
                    bytes: view.data().chunks_exact(4).flat_map(|four| [four[2], four[3]]).collect(),
                })
                .collect();
            fs::write(to.join(name), to_bytes(&tensors, &BTreeMap::new())).unwrap();
        } else if !name.starts_with('.') {
            fs::write(to.join(name), bytes).unwrap();
        }
    }
    let config = fs::read_to_string(to.join("config.json")).unwrap().replace("float32", "bfloat16");
    fs::write(to.join("config.json"), config).unwrap();
}

#[test]
fn a_delta_on_its_base_is_the_exported_directory_to_the_byte() {
    let bench = Bench::new();
    bench.manifest("grid.toml", "grid = [{ mask.type = ['full', 'random'] }]\noptimizer.lr = 1e-2");
    bench.run(&["export", "grid.toml", "full"]).names(&["not in the store", "sweep"]);
    bench.run(&["sweep", "grid.toml"]).ends(0);
    let base = only(&bench.results().join(".store/base"));
    for (label, id) in ids(&bench, "grid.toml") {
        // By its id alone the run is found in the store, and what is written gets a name of its own.
        let said = bench.run(&["export", &id[..16], "--format", "hf"]).ends(0);
        said.names(&[&id[..12], "entries differ from the base"]);
        let said = bench.run(&["export", &id[..16], "--format", "delta", "--json"]).ends(0).json();
        let delta = format!("{}.delta.safetensors", &id[..12]);
        assert_eq!(said["out"], delta.as_str());
        let made = files(&bench.path(&id[..12]));
        assert_eq!(metadata(&made["model.safetensors"], Path::new("m")).unwrap()["format"], "pt");
        for name in [
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
        ] {
            assert_eq!(made[name], fs::read(base.join(name)).unwrap(), "{name}");
        }
        // The same folder is not written over.
        bench.run(&["export", &id[..16]]).names(&["exists"]);
        bench.run(&["export", &id[..16], "--format", "delta"]).names(&["exists"]);
        fs::rename(bench.path(&id[..12]), bench.path(&label)).unwrap();
        let applied =
            bench.run(&["apply", &delta, "--base", base.to_str().unwrap(), "--json"]).ends(0).json();
        assert_eq!((applied["out"].as_str(), &applied["changed"]), (Some(&id[..12]), &said["changed"]));
        assert_eq!(applied["digest"], said["digest"]);
        assert_eq!(files(&bench.path(&id[..12])), made, "{label}");

        // A tenth of the entries is trained: the file is a good deal smaller than the model.
        let (delta, whole) = (fs::read(bench.path(&delta)).unwrap(), &made["model.safetensors"]);
        let recipe = metadata(&delta, Path::new("d")).unwrap();
        let changed: usize = recipe["changed"].parse().unwrap();
        if label == "full" {
            assert_eq!(recipe["mask"], "full");
            assert!(changed * 10 > whole.len() / 4 * 9, "{changed}");
        } else {
            assert_eq!(recipe["mask"].len(), 64);
            assert!(changed * 100 > whole.len() / 4 * 9 && changed * 10 <= whole.len() / 4, "{changed}");
            assert!(delta.len() * 4 < whole.len(), "{} of {}", delta.len(), whole.len());
        }
    }
    // A mask that is gone is made again, though nothing is written to the store.
    fs::remove_dir_all(bench.results().join(".store/mask")).unwrap();
    bench.run(&["export", "grid.toml", "random", "--out", "again"]).ends(0);
    assert_eq!(files(&bench.path("again")), files(&bench.path("random")));
    assert!(!bench.results().join(".store/mask").exists());
    // One on the other is not what it was made for, nor is a base with a flipped bit.
    let id = ids(&bench, "grid.toml")["random"][..12].to_owned();
    let delta = format!("{id}.delta.safetensors");
    let refused = |base: &str| bench.run(&["apply", &delta, "--base", base, "--out", "other"]).ends(7);
    refused("full").names(&["full is not the base of this delta", "built-in"]);
    fs::create_dir(bench.path("flipped")).unwrap();
    for (name, mut bytes) in files(&base) {
        if name == "model.safetensors" {
            *bytes.last_mut().unwrap() ^= 1;
        }
        fs::write(bench.path("flipped").join(name), bytes).unwrap();
    }
    refused("flipped").names(&["not the base"]);
    let mut damaged = fs::read(bench.path(&delta)).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(bench.path("damaged.delta.safetensors"), &damaged).unwrap();
    fs::write(bench.path("cut.delta.safetensors"), &damaged[..damaged.len() - 3]).unwrap();
    for name in ["damaged", "cut"] {
        let file = format!("{name}.delta.safetensors");
        bench.run(&["apply", &file, "--base", base.to_str().unwrap()]).ends(7).names(&[&file]);
        assert!(!bench.path(name).exists());
    }
    bench.run(&["apply", "full/model.safetensors", "--base", "full"]).ends(7).names(&["no delta"]);
    assert!(!bench.path("other").exists());
}

#[test]
fn a_directory_keeps_the_type_of_its_base_unless_told_otherwise() {
    let bench = Bench::new();
    bench.manifest("first.toml", "grid = [{ mask.type = 'full' }]\ngrpo.steps = 1");
    bench.run(&["sweep", "first.toml"]).ends(0);
    bench.run(&["export", "first.toml", "--base", "--out", "wide"]).ends(0).names(&["wide: 6 files"]);
    narrow(&bench.path("wide"), &bench.path("narrow"));
    let mut table: toml::Table = common::tiny("grid = [{ mask.type = ['full', 'random'] }]").parse().unwrap();
    table.insert("model".into(), toml::Table::from_iter([("path".into(), "narrow".into())]).into());
    bench.write("grid.toml", &table.to_string());
    bench.run(&["sweep", "grid.toml"]).ends(0);
    let dtypes = |folder: &str| {
        let bytes = fs::read(bench.path(folder).join("model.safetensors")).unwrap();
        let file = parse(&bytes, Path::new("m")).unwrap();
        let mut found: Vec<String> =
            file.tensors().iter().map(|(_, view)| format!("{:?}", view.dtype())).collect();
        found.sort();
        found.dedup();
        found
    };
    for run in ["full", "random"] {
        let out = |kind: &str| format!("{run}-{kind}");
        let said = bench.run(&["export", "grid.toml", run, "--out", &out("own")]).ends(0);
        said.names(&["rounded from float32"]);
        assert_eq!(dtypes(&out("own")), ["BF16"]);
        let said =
            bench.run(&["export", "grid.toml", run, "--out", &out("wide"), "--dtype", "float32"]).ends(0);
        assert!(!said.out.contains("rounded"), "{}", said.out);
        assert_eq!(dtypes(&out("wide")), ["F32"]);
        let config = |kind: &str| fs::read_to_string(bench.path(out(kind)).join("config.json")).unwrap();
        assert!(config("own").contains("bfloat16") && !config("wide").contains("bfloat16"));
    }
    bench
        .run(&["export", "grid.toml", "full", "--format", "delta", "--dtype", "float32"])
        .ends(2)
        .names(&["--dtype"]);
}

#[test]
fn transformers_loads_what_is_exported_and_generates_the_same() {
    let Some(python) = oracle_python("exports were not loaded with transformers") else { return };
    let bench = Bench::new();
    bench.manifest("grid.toml", "grid = [{ mask.type = 'random' }]\noptimizer.lr = 1e-2");
    bench.run(&["sweep", "grid.toml"]).ends(0);
    bench.run(&["export", "grid.toml", "random", "--out", "trained"]).ends(0);
    bench.run(&["export", "grid.toml", "random", "--out", "half", "--dtype", "bfloat16"]).ends(0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/load_export.py");
    for (folder, dtype) in [("trained", "float32"), ("half", "bfloat16")] {
        // No network and no GPU, as scripts/oracles.sh runs it.
        let said = Command::new(&python)
            .arg(&script)
            .arg(bench.path(folder))
            .arg(dtype)
            .envs([("HF_HUB_OFFLINE", "1"), ("CUDA_VISIBLE_DEVICES", ""), ("PYTHONDONTWRITEBYTECODE", "1")])
            .output()
            .unwrap_or_else(|error| panic!("ORACLE_PYTHON, {python}, cannot be run: {error}"));
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let expected: Value = serde_json::from_slice(&said.stdout).unwrap();
        let tokens = expected["tokens"].as_array().unwrap();
        let list = tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let got = bench.run(&["logprobs", "--model", folder, "--tokens", &list, "--json"]).ends(0).json();
        let numbers = |value: &Value| {
            value["logprobs"].as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>()
        };
        let (got, expected) = (numbers(&got), numbers(&expected));
        assert_eq!((got.len(), expected.len()), (tokens.len() - 1, tokens.len() - 1));
        let worst = largest(got.iter().zip(&expected).map(|(a, b)| (a - b).abs()));
        // scripts/parity.py knows the row by its first word.
        let what =
            format!("exports: logprobs of an exported run and of what transformers generates, {dtype} files");
        row(&what, "transformers 5.23.0", got.len(), worst, 1e-5);
    }
}

#[test]
fn logprobs_need_no_tokenizer_and_name_what_is_wrong() {
    let bench = Bench::new();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/torch/tied_gqa4");
    let model = model.to_str().unwrap();
    let said = bench.run(&["logprobs", "--model", model, "--tokens", "1,2,3", "--json"]).ends(0);
    assert_eq!(said.out.lines().count(), 1);
    let json = said.json();
    assert_eq!(json["logprobs"].as_array().unwrap().len(), 2);
    assert!(json["logprobs"][0].as_f64().unwrap() < 0.0);
    let said = bench.run(&["logprobs", "--model", model, "--tokens", "1, 2, 3"]);
    said.ends(0).names(&["mean of 2"]);
    assert_eq!(
        bench.run(&["logprobs", "--model", model, "--tokens", "7", "--json"]).ends(0).out,
        "{\"logprobs\":[]}\n"
    );
    bench.run(&["logprobs", "--model", model, "--tokens", "1,48"]).ends(7).names(&["token 48", "47"]);
    bench.run(&["logprobs", "--model", model, "--tokens", "1,x"]).ends(2).names(&["x"]);
    bench
        .run(&["logprobs", "--model", "nowhere", "--tokens", "1,2"])
        .ends(7)
        .names(&["nowhere", "config.json"]);
}
