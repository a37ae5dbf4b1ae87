//! Ids of what was added to masks later: at the old behaviour's values it is in no id, and at others it moves the mask and what
//! stands on it.

#![expect(clippy::disallowed_methods, reason = "a test writes the files that it names")]

mod manifest_support;

use std::collections::BTreeSet;

use manifest_support::{HEAD, plan};
use tickets::plan::RunSpec;

fn only_run(text: &str) -> RunSpec {
    let mut plan = plan(&format!("{HEAD}{text}"), &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(plan.runs.len(), 1);
    plan.runs.remove(0)
}

/// The stages whose ids differ between two tables `[mask]`.
fn moved(left: &str, right: &str) -> Vec<&'static str> {
    let (left, right) = (only_run(&format!("[mask]\n{left}\n")), only_run(&format!("[mask]\n{right}\n")));
    let (a, b) = (&left.stages, &right.stages);
    let pairs = [
        ("base", a.base != b.base),
        ("scores", a.scores != b.scores),
        ("mask", a.mask != b.mask),
        ("trajectory", a.trajectory != b.trajectory),
        ("run", left.id != right.id),
    ];
    pairs.into_iter().filter(|(_, differs)| *differs).map(|(stage, _)| stage).collect()
}

const RUN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn what_a_mask_is_chosen_by_moves_the_mask_and_what_stands_on_it() {
    let random = "type = \"random\"\nsparsity = 0.5\n";
    let fisher = "type = \"fisher\"\nsparsity = 0.5\n";
    let modules = "type = \"modules\"\n";
    let permuted = "control = \"permuted\"\n";
    let grouped = "scope = \"per_group\"\n";
    for (table, more) in [
        (random, "scope = \"global\""),
        (random, "scope = \"per_layer\""),
        (random, "scope = \"per_group\""),
        (random, "unit = \"row\""),
        (random, "unit = \"column\""),
        (random, "modules = \"attention+mlp\""),
        (random, "control = \"complement\""),
        (random, "control = \"permuted\""),
        (fisher, "scope = \"per_tensor\""),
        (fisher, "keep = \"low\""),
        (fisher, "modules = \"-embeddings\""),
        (&format!("{random}{permuted}"), "control_seed = 1"),
        (&format!("{random}{grouped}"), "group = 8"),
        ("type = \"layers\"\n", "modules = \"mlp\""),
    ] {
        assert_eq!(moved(table, &format!("{table}{more}\n")), ["mask", "trajectory", "run"], "{table}{more}");
    }
    let kinds = |kinds: &str| format!("{modules}modules = \"{kinds}\"\n");
    assert_eq!(moved(&kinds("mlp"), &kinds("norms")), ["mask", "trajectory", "run"]);
    let of_run = |run: &str| format!("type = \"moved\"\nsparsity = 0.5\nrun = \"{run}\"\n");
    assert_eq!(moved(&of_run(RUN), &of_run(&RUN.replace('0', "1"))), ["mask", "trajectory", "run"]);
}

#[test]
fn old_behaviour_spelled_out_moves_nothing() {
    let random = "type = \"random\"\nsparsity = 0.5\n";
    let fisher = "type = \"fisher\"\nsparsity = 0.5\n";
    for (table, more) in [
        (random, "scope = \"per_tensor\""),
        (random, "unit = \"entry\""),
        (random, "modules = \"all\""),
        (random, "modules = \"mlp+attention+biases+norms+embeddings\""),
        (random, "control = \"none\""),
        (fisher, "scope = \"global\""),
        (fisher, "keep = \"high\""),
    ] {
        assert_eq!(moved(table, &format!("{table}{more}\n")), Vec::<&str>::new(), "{table}{more}");
    }
    // Two spellings of one set of modules.
    let kinds = |kinds: &str| format!("{random}modules = \"{kinds}\"\n");
    assert_eq!(moved(&kinds("mlp+attention"), &kinds("-norms-biases-embeddings")), Vec::<&str>::new());
}

#[test]
fn types_are_masks_of_their_own_and_share_what_they_are_made_of() {
    let of = |kind: &str| only_run(&format!("[mask]\ntype = \"{kind}\"\nsparsity = 0.5\n"));
    let kinds = ["random", "fisher", "gradient", "snip", "magnitude"];
    let masks: BTreeSet<_> = kinds.iter().map(|kind| of(kind).stages.mask).collect();
    assert_eq!(masks.len(), kinds.len());
    // Absolute gradients serve two types; squares are other scores.
    assert_eq!(of("gradient").stages.scores, of("snip").stages.scores);
    assert_ne!(of("gradient").stages.scores, of("fisher").stages.scores);
    assert!(of("magnitude").stages.scores.is_none());
}

#[test]
fn a_mask_file_is_its_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, header: &str| {
        let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.display().to_string()
    };
    let header = r#"{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}"#;
    let (a, b) = (write("a.safetensors", header), write("b.safetensors", header));
    let other = write("c.safetensors", &header.replace("\"a\"", "\"b\""));
    let file = |path: &str| format!("type = \"file\"\nfile = \"{path}\"\n");
    assert_eq!(moved(&file(&a), &file(&b)), Vec::<&str>::new());
    assert_eq!(moved(&file(&a), &file(&other)), ["mask", "trajectory", "run"]);
    let pair = |kind: &str, other: &str| format!("type = \"{kind}\"\nfile = \"{a}\"\nother = \"{other}\"\n");
    assert_eq!(moved(&pair("union", &b), &pair("union", &other)), ["mask", "trajectory", "run"]);
    assert_eq!(moved(&pair("union", &b), &pair("intersection", &b)), ["mask", "trajectory", "run"]);
}

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    let random = "type = \"random\"\nsparsity = 0.5\n";
    for (table, said) in [
        ("type = \"modules\"", "needs `mask.modules`"),
        ("type = \"modules\"\nmodules = \"heads\"", "`heads` is none of attention, mlp"),
        ("type = \"modules\"\nmodules = \"-attention-mlp-norms-biases-embeddings\"", "it leaves nothing"),
        ("type = \"moved\"\nsparsity = 0.5", "`mask.run` is missing"),
        ("type = \"moved\"\nsparsity = 0.5\nrun = \"12ab\"", "is no id of a run"),
        ("type = \"file\"", "`mask.file` is missing"),
        ("type = \"union\"\nfile = \"there.is.none\"", "`mask.file` cannot be used"),
        (
            &format!("{random}group = 4\nscope = \"global\""),
            "`mask.group` does not apply to `mask.scope` = \"global\"",
        ),
        (&format!("{random}scope = \"per_group\"\ngroup = 3"), "keeps no whole number of `mask.group` = 3"),
        (&format!("{random}scope = \"per_group\"\nunit = \"row\""), "chooses entries, no rows"),
        (&format!("{random}rng = \"numpy\"\nunit = \"row\""), "draws single entries"),
        (&format!("{random}keep = \"low\""), "`mask.keep` does not apply to `mask.type` = \"random\""),
        (&format!("{random}control_seed = 1\ncontrol = \"complement\""), "does not apply to `mask.control`"),
        ("type = \"full\"\ncontrol = \"complement\"", "does not apply to `mask.type` = \"full\""),
    ] {
        let error = plan(&format!("{HEAD}[mask]\n{table}\n"), &[]).expect_err(table).to_string();
        assert!(error.contains(said), "{table}: {error}");
    }
}
