//! The grid algebra, with expansions worked by hand.

mod manifest_support;

use manifest_support::{Folder, labels, plan, plan_of, planned, refused};

#[test]
fn a_block_is_a_product_with_the_first_axis_slowest() {
    let text = "[[grid]]\nmask.type = \"random\"\nmask.sparsity = [0.99, 0.999]\nmask.seed = [0, 2001]\noptimizer.lr = [1e-5, 1e-4]\n";
    assert_eq!(
        labels(text),
        [
            "0.99-s0-lr1e-5",
            "0.99-s0-lr1e-4",
            "0.99-s2001-lr1e-5",
            "0.99-s2001-lr1e-4",
            "0.999-s0-lr1e-5",
            "0.999-s0-lr1e-4",
            "0.999-s2001-lr1e-5",
            "0.999-s2001-lr1e-4",
        ]
    );
}

#[test]
fn a_zip_is_one_axis_at_the_place_of_its_first_key() {
    let text = "[[grid]]\nmask.type = \"random\"\nmask.sparsity = 0.9\nmask.seed = [0, 2001, 42]\nseed = [0, 1]\noptimizer.lr = [1e-4, 5e-5, 5e-5]\nzip = [[\"optimizer.lr\", \"mask.seed\"]]\n";
    assert_eq!(
        labels(text),
        [
            "s0-seed0-lr1e-4",
            "s0-seed1-lr1e-4",
            "s2001-seed0-lr5e-5",
            "s2001-seed1-lr5e-5",
            "s42-seed0-lr5e-5",
            "s42-seed1-lr5e-5",
        ]
    );
}

#[test]
fn an_exclusion_matches_partial_points() {
    let text = "[[grid]]\nmask.type = \"random\"\nmask.sparsity = [0.99, 0.999]\nmask.seed = [0, 1]\noptimizer.lr = [1e-5, 1e-4]\nexclude = [{ mask.sparsity = 0.999, optimizer.lr = 0.00001 }, { mask.seed = 1, mask.sparsity = 0.99 }]\n";
    assert_eq!(labels(text), ["0.99-s0-lr1e-5", "0.99-s0-lr1e-4", "0.999-s0-lr1e-4", "0.999-s1-lr1e-4"]);
}

#[test]
fn blocks_are_concatenated_and_equal_runs_merged() {
    // Block 2 repeats (0.99, seed 1); the full block has one run although it inherits a sparsity.
    let text = "[mask]\nsparsity = 0.99\n[[grid]]\nmask.type = \"random\"\nmask.seed = [0, 1]\n[[grid]]\nmask.type = \"random\"\nmask.sparsity = 0.99\nmask.seed = [1, 2]\n[[grid]]\nmask.type = \"full\"\n";
    let plan = planned(text);
    let labels = plan.runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>();
    assert_eq!(labels, ["random-0.99-s0", "random-0.99-s1", "random-0.99-s2", "full"]);
    assert_eq!((plan.merged, plan.merges), (1, vec![(2, 1)]), "block 2 repeats the second run");
    assert_eq!(plan.axes, ["mask.type", "mask.sparsity", "mask.seed"]);
    let axes = |run: usize| serde_json::to_string(&plan.runs[run].axes).expect("JSON");
    assert_eq!(axes(0), r#"[["mask.type","random"],["mask.sparsity",0.99],["mask.seed",0]]"#);
    assert_eq!(axes(3), r#"[["mask.type","full"]]"#);
}

#[test]
fn no_grid_is_one_run() {
    let plan = planned("");
    assert_eq!(plan.runs.len(), 1);
    assert_eq!(plan.runs[0].label, "full");
    assert!(plan.runs[0].axes.is_empty());
}

#[test]
fn a_list_setting_is_swept_by_a_list_of_lists() {
    assert_eq!(labels("[[grid]]\noptimizer.betas = [0.9, 0.95]\nseed = [1, 2]\n"), ["seed1", "seed2"]);
    let swept = labels("[[grid]]\noptimizer.betas = [[0.9, 0.95], [0.9, 0.99]]\n");
    assert_eq!(swept, ["betas0.9_0.95", "betas0.9_0.99"]);
}

#[test]
fn nested_and_dotted_keys_are_the_same() {
    let dotted = planned("[[grid]]\nmask.type = \"random\"\nmask.sparsity = 0.9\nmask.seed = [0, 1]\n");
    let nested = planned("[[grid]]\n[grid.mask]\ntype = \"random\"\nsparsity = 0.9\nseed = [0, 1]\n");
    let inline = planned(
        "grid_free = 0\n"
            .replace(
                "grid_free = 0\n",
                "[[grid]]\nmask = { type = \"random\", sparsity = 0.9, seed = [0, 1] }\n",
            )
            .as_str(),
    );
    let ids = |plan: &tickets::plan::Plan| plan.runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&dotted), ids(&nested));
    assert_eq!(ids(&dotted), ids(&inline));
}

#[test]
fn keys_inherited_by_one_block_and_swept_by_another_are_shown_for_both() {
    let text = "[optimizer]\nlr = 1e-3\n[[grid]]\noptimizer.lr = [1e-4, 1e-5]\n[[grid]]\nseed = [7]\n";
    // Block 2 inherits lr = 1e-3; block 1 has the default seed 0.
    assert_eq!(labels(text), ["lr1e-4-seed0", "lr1e-5-seed0", "lr1e-3-seed7"]);
}

#[test]
fn twins_of_a_short_name_are_told_apart_and_clashing_labels_get_ids() {
    let folder = Folder::new();
    folder.write("a/names.jsonl", "{}");
    folder.write("b/names.jsonl", "{\"names\": []}");
    let text =
        format!("{}[[grid]]\ntask.names = [\"a/names.jsonl\", \"b/names.jsonl\"]\n", manifest_support::HEAD);
    let plan = plan_of(&folder.write("m.toml", text), &[], &[]).expect("planned");
    for run in &plan.runs {
        assert_eq!(run.label, format!("names.jsonl-{}", run.id.short()));
    }
}

#[test]
fn contradictions_are_refused_with_their_place() {
    let block = "[[grid]]\nmask.type = \"random\"\nmask.sparsity = 0.9\nmask.seed = [0, 1]\noptimizer.lr = [1e-4, 1e-5, 1e-6]\n";
    for (line, message, hint) in [
        (
            "zip = [[\"mask.seed\", \"optimizer.lr\"]]",
            "m.toml:9:8: zipped axes differ in length: `mask.seed` has 2, `optimizer.lr` has 3",
            "zipped axes advance together, so they have the same number of values",
        ),
        (
            "zip = [[\"mask.seed\", \"mask.sparsity\"]]",
            "m.toml:9:22: zip names `mask.sparsity`, which is not an axis of the block",
            "a zipped key has a list of values in the same block",
        ),
        (
            "zip = [[\"mask.seed\", \"optimizr.lr\"]]",
            "m.toml:9:22: unknown key `optimizr.lr`",
            "did you mean `optimizer.lr`?",
        ),
        (
            "zip = [[\"mask.seed\"]]",
            "m.toml:9:8: a zip needs at least two keys",
            "zip is a list of lists of keys",
        ),
        (
            "exclude = [{ mask.seed = 3 }]",
            "m.toml:9:12: the exclusion { mask.seed = 3 } matches no point",
            "`mask.seed` is 0, 1",
        ),
        (
            "exclude = [{ grpo.steps = 3 }]",
            "m.toml:9:12: the exclusion { grpo.steps = 3 } matches no point",
            "the block does not set `grpo.steps`",
        ),
        ("exclude = [{}]", "m.toml:9:12: exclude holds {}", "exclude is a list of tables"),
        (
            "exclude = [{ mask.sparsity = 0.9 }]",
            "m.toml:4:1: the exclusions leave nothing of [[grid]] block 1 (m.toml:4)",
            "remove the block, or exclude less",
        ),
        ("seed = []", "m.toml:9:8: the axis `seed` has no values", "an empty axis makes an empty grid"),
        (
            "seed = [1, 2, 1]",
            "m.toml:9:15: the axis `seed` has the value 1 twice",
            "remove one: equal runs are one run",
        ),
        (
            "sampling.top_p = [0.5, 5e-1]",
            "m.toml:9:24: the axis `sampling.top_p` has the value 0.5 twice",
            "remove one",
        ),
        (
            "exec.jobs = [1, 2]",
            "m.toml:9:6: `exec.jobs` cannot be set by a grid block",
            "set it in the [exec] table",
        ),
        ("seed = [1, -1]", "m.toml:9:12: `seed` = -1 is out of range", "a whole number, at least 0"),
        (
            "mask.rounding = \"ceil\"",
            "m.toml:9:17: `mask.rounding` does not apply to `mask.type` = \"random\"",
            "only `mask.type` = \"fisher\", \"gradient\", \"snip\", \"magnitude\" or \"moved\" has it",
        ),
        (
            "fisher.episodes = 8",
            "m.toml:9:19: `fisher.episodes` does not apply to `mask.type` = \"random\"",
            "give those runs a block of their own",
        ),
        (
            "grpo.mask_low = 0.5",
            "m.toml:9:17: `grpo.mask_low` does not apply to `grpo.ratio` = \"clip\"",
            "only `grpo.ratio` = \"mask\" has it",
        ),
        (
            "grpo.group_size = [8, 12]",
            "m.toml:9:23: `grpo.group_size` = 12 does not divide `grpo.rollouts_per_step` = 128",
            "a step's rollouts are whole groups",
        ),
    ] {
        let (text, advice) = refused(&format!("{block}{line}\n"), &[]);
        assert_eq!(text.lines().next(), Some(message), "{line}");
        assert!(advice.contains(hint), "{line}: {advice}");
    }
}

#[test]
fn a_grid_is_never_cut_but_can_be_too_large() {
    let list = (0..400).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let (text, _) =
        refused(&format!("[[grid]]\nseed = [{list}]\neval.seed = [{}]\n", list.replace("0,", "9000,")), &[]);
    assert_eq!(text, "the grid of `m` has 160,000 points, more than the 1,000 runs that it may have");
}

#[test]
fn overriding_a_swept_key_names_the_block() {
    let text = "[[grid]]\nseed = 3\n[[grid]]\noptimizer.lr = [1e-4, 1e-5]\n";
    let (text, _) = refused(text, &["optimizer.lr=1e-6"]);
    assert_eq!(
        text,
        "--set:1:16: `optimizer.lr` is swept by [[grid]] block 2 (m.toml:6), so it cannot be overridden"
    );
}

#[test]
fn runs_are_found_by_label_id_and_prefix() {
    let plan = planned("[[grid]]\noptimizer.lr = [1e-4, 1e-5, 3e-3]\n");
    let run = &plan.runs[1];
    assert_eq!(plan.find("lr1e-5").expect("by label"), run);
    assert_eq!(plan.find(run.id.as_str()).expect("by id"), run);
    assert_eq!(plan.find(run.id.short()).expect("by prefix"), run);
    assert_eq!(plan.find("lr3").expect("by label prefix").label, "lr3e-3");
    let ambiguous = plan.find("lr1").expect_err("two begin like this").to_string();
    assert!(ambiguous.starts_with("`lr1` could be 2 runs of `m`: lr1e-4 ("), "{ambiguous}");
    let missing = plan.find("lr1e5").expect_err("none");
    assert_eq!(missing.to_string(), "`m` has no run `lr1e5`");
    assert!(missing.hint().expect("near ones").contains("lr1e-5"));
    assert!(plan.find("").is_err());
}

#[test]
fn numbers_in_labels_are_as_short_as_they_may_be() {
    // A third of a decade is a factor of 2.154434690...
    let thirds = labels("[[grid]]\noptimizer.lr = { logspace = [1e-4, 1e-3, 4] }\n");
    assert_eq!(thirds, ["lr1e-4", "lr2.15e-4", "lr4.64e-4", "lr1e-3"]);
    let close = labels("[[grid]]\noptimizer.lr = [1.2345e-4, 1.2346e-4]\n");
    assert_eq!(close, ["lr1.2345e-4", "lr1.2346e-4"]);
    let sparse = labels("[[grid]]\nmask.type = \"random\"\nmask.sparsity = [0.9, 0.9994]\n");
    assert_eq!(sparse, ["0.9", "0.9994"]);
}

#[test]
fn ten_thousand_runs_are_planned_in_order() {
    let seeds = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let rates = (1..=100).map(|n| format!("{n}e-6")).collect::<Vec<_>>().join(", ");
    let text = format!(
        "{}[exec]\nmax_runs = 10000\n[[grid]]\nseed = [{seeds}]\noptimizer.lr = [{rates}]\n",
        manifest_support::HEAD
    );
    let started = std::time::Instant::now();
    let plan = plan(&text, &[]).expect("planned");
    assert_eq!(plan.runs.len(), 10_000);
    assert_eq!(plan.runs[101].label, "seed1-lr2e-6");
    // About 0.3 s on one slow core; the bound only catches a change of order.
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
