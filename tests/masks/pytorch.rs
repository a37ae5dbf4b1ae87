//! PyTorch as the reference: files that it wrote are read, and it reads what is exported.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tickets::sparsity::Mask;

use crate::common::{Bench, oracle_python};
use crate::support::{model, opened};
use crate::table::{largest, row};

/// What tests/oracles/mask_cases.py says of its files: name, shape and indices of every parameter, in order.
type Expected = Vec<(String, Vec<usize>, Vec<u32>)>;

fn folder() -> String {
    format!("{}/tests/oracles/masks", env!("CARGO_MANIFEST_DIR"))
}

fn expected() -> Expected {
    let text = fs::read_to_string(format!("{}/expected.json", folder())).expect("a fixture");
    serde_json::from_str(&text).expect("rows")
}

/// In how many tensors a mask differs from what is expected; names, shapes and order must be the same.
fn off(mask: &Mask, expected: &Expected) -> usize {
    let names = mask.tensors().iter().map(|size| (&size.name, &size.shape));
    assert!(names.eq(expected.iter().map(|(name, shape, _)| (name, shape))));
    let lists = mask.indices().iter().zip(expected);
    lists.filter(|(list, (_, _, expected))| *list != expected).count()
}

#[test]
fn pytorch_files_are_read_in_every_form() {
    let bench = Bench::new();
    let (expected, model) = (expected(), model());
    let (mut differences, mut cases) = (Vec::new(), 0);
    for (name, with_model, notes) in [
        ("bools", false, json!(["the tensors are put in the order of the model that their names tell"])),
        ("bools", true, json!([])),
        ("int32", true, json!([])),
        (
            "bytes",
            true,
            json!(["lm_head.weight is left out: in this model it is model.embed_tokens.weight (tied)"]),
        ),
        (
            "int64",
            true,
            json!(["lm_head.weight is left out: in this model it is model.embed_tokens.weight (tied)"]),
        ),
    ] {
        let (file, out) = (format!("{}/{name}.safetensors", folder()), format!("{name}-{with_model}"));
        let mut arguments = vec!["masks", "import", &file, "--out", &out, "--json"];
        if with_model {
            arguments.extend(["--model", &model]);
        }
        let said = bench.run(&arguments).ends(0).json();
        let said: Vec<&str> =
            said["notes"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let said: Vec<&str> =
            said.iter().map(|note| note.strip_prefix(&format!("{file}: ")).expect("the file")).collect();
        assert_eq!(json!(said), notes);
        let mask = opened(&bench, &out).mask;
        differences.push(off(&mask, &expected) as f64);
        cases += expected.len();
    }
    row(
        "masks: tensors of files that PyTorch wrote, in 4 forms (unequal)",
        "torch 2.11.0",
        cases,
        largest(differences),
        0.0,
    );
    // Without the model the tied head counts as a parameter.
    let said = bench
        .run(&["masks", "describe", &format!("{}/bytes.safetensors", folder()), "--json"])
        .ends(0)
        .json();
    assert_eq!(said["masks"][0]["tensors"], expected.len() + 1);
}

#[test]
fn pytorch_reads_what_is_exported() {
    let Some(python) = oracle_python("exported masks were not loaded with PyTorch") else { return };
    let bench = Bench::new();
    let model = model();
    let fixture = format!("{}/int32.safetensors", folder());
    bench.run(&["masks", "export", &fixture, "--out", "m.safetensors", "--model", &model]).ends(0);
    let said = Command::new(&python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/load_mask.py"))
        .args([&bench.path("m.safetensors"), Path::new(&model)])
        .envs([("HF_HUB_OFFLINE", "1"), ("CUDA_VISIBLE_DEVICES", ""), ("PYTHONDONTWRITEBYTECODE", "1")])
        .output()
        .unwrap_or_else(|error| panic!("ORACLE_PYTHON, {python}, cannot be run: {error}"));
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let found: Vec<(String, Vec<u32>)> = serde_json::from_slice(&said.stdout).expect("rows");
    let expected: Vec<_> = expected().into_iter().map(|(name, _, list)| (name, list)).collect();
    let off = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
    assert_eq!(found.len(), expected.len());
    row(
        "exports: tensors of an exported mask as PyTorch loads it (unequal)",
        "torch 2.11.0",
        found.len(),
        off as f64,
        0.0,
    );
}
