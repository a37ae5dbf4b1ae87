//! Arbitrary bytes and arbitrary TOML: no panic, no hang, no plan without runs.

mod manifest_support;

use manifest_support::Folder;
use proptest::prelude::*;
use proptest::test_runner::Config;
use tickets::manifest::{KEYS, load_with};
use tickets::plan::expand;

proptest! {
    #![proptest_config(Config { cases: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let folder = Folder::new();
        let _ = load_with(&folder.write("m.toml", bytes), &[], &[]).map(expand);
    }

    #[test]
    fn arbitrary_toml_never_panics(text in document(), set in "[ -~]{0,40}") {
        let folder = Folder::new();
        let path = folder.write("m.toml", &text);
        match load_with(&path, &[], &[]).map_err(Into::into).and_then(expand) {
            Ok(plan) => prop_assert!(!plan.runs.is_empty()),
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(error.render(false).is_none_or(|text| !text.is_empty()));
            }
        }
        let _ = load_with(&path, &[set], &[]).map(expand);
    }
}

/// Text that looks like a manifest: known, misspelt and odd keys, with all kinds of values, in tables and blocks.
fn document() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        6 => prop::sample::select(KEYS.iter().map(|key| key.path.to_owned()).collect::<Vec<_>>()),
        1 => prop::sample::select(vec!["mask", "grid", "zip", "exclude", "title", "extends", "model.pretrain", "\"a b\"", "x.y.z"])
            .prop_map(str::to_owned),
    ];
    let plain = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-5_i64..300).prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|x| format!("{x:?}").replace("NaN", "nan")),
        (0.0..1.0_f64).prop_map(|x| format!("{x:?}")),
        prop::sample::select(vec![
            "true",
            "\"fisher\"",
            "\"random\"",
            "\"full\"",
            "\"é\"",
            "1979-05-27",
            "[[1, 2], [3, 4]]",
            "{ mask.seed = 1 }"
        ])
        .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        3 => plain.clone(),
        1 => prop::collection::vec(plain, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
    ];
    let line = (key, value).prop_map(|(key, value)| format!("{key} = {value}\n"));
    let block =
        prop::collection::vec(line.clone(), 0..6).prop_map(|lines| format!("[[grid]]\n{}", lines.concat()));
    let blocks = prop::collection::vec(block, 0..3);
    (any::<bool>(), prop::collection::vec(line, 0..6), blocks).prop_map(|(head, lines, blocks)| {
        let head = if head { "model.pretrain = {}\ntask.type = \"alphabet_sort\"\n" } else { "" };
        format!("{head}{}{}", lines.concat(), blocks.concat())
    })
}

#[test]
fn the_deepest_and_longest_texts_are_refused_in_time() {
    let folder = Folder::new();
    for text in [
        format!("x = {}", "[".repeat(200_000)),
        format!("x = {}1{}", "{a = ".repeat(50_000), "}".repeat(50_000)),
        format!("{}a = 1", "a.".repeat(200_000)),
        format!("[{}a]", "a.".repeat(200_000)),
        (0..100_000).map(|n| ["k", &n.to_string(), " = 1\n"].concat()).collect::<String>(),
        format!("[[grid]]\nseed = [{}]", "1, ".repeat(500_000)),
        "[[grid]]\n".repeat(100_000),
    ] {
        let path = folder.write("m.toml", text);
        assert!(load_with(&path, &[], &[]).map_err(Into::into).and_then(expand).is_err());
    }
}
