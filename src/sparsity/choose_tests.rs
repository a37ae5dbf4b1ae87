//! Masks of every kind on tensors small enough to choose by hand.

use super::choose::*;
use super::*;

fn tensors(sizes: &[usize]) -> Vec<TensorSize> {
    sizes
        .iter()
        .enumerate()
        .map(|(i, &elements)| TensorSize { name: format!("t{i}"), shape: vec![elements] })
        .collect()
}

#[test]
fn random_masks_have_exact_counts_and_depend_on_seed_and_name_alone() {
    let sizes = tensors(&[1000, 50, 8]);
    let mask = random(&sizes, 0.9, 3, MaskRng::Chacha).unwrap();
    assert_eq!(mask.indices().iter().map(Vec::len).collect::<Vec<_>>(), vec![100, 5, 0]);
    assert_eq!(mask, random(&sizes, 0.9, 3, MaskRng::Chacha).unwrap());
    assert_ne!(mask, random(&sizes, 0.9, 4, MaskRng::Chacha).unwrap());
    let alone = random(&sizes[1..2], 0.9, 3, MaskRng::Chacha).unwrap();
    assert_eq!(alone.indices()[0], mask.indices()[1]);
}

#[test]
fn random_masks_are_uniform() {
    // Ten entries, three kept, 3000 seeds: each entry is kept 900 times on average, deviation 25.
    let sizes = tensors(&[10]);
    let mut counts = [0u32; 10];
    for seed in 0..3000 {
        for &index in &random(&sizes, 0.7, seed, MaskRng::Chacha).unwrap().indices()[0] {
            counts[index as usize] += 1;
        }
    }
    assert!(counts.iter().all(|&n| (750..=1050).contains(&n)), "{counts:?}");
}

#[test]
fn independent_masks_overlap_at_chance() {
    let sizes = tensors(&[1_000_000]);
    let masks: Vec<Mask> = (0..2).map(|s| random(&sizes, 0.99, s, MaskRng::Chacha).unwrap()).collect();
    let jaccard = masks[0].overlap(&masks[1]).unwrap().jaccard().unwrap();
    // Chance 0.0050251; the intersection of 10,000 with 10,000 has mean 100 and deviation 10.
    assert!((jaccard - chance_jaccard(0.01, 0.01)).abs() < 0.003, "{jaccard}");
}

#[test]
fn top_k_takes_ties_in_tensor_then_index_order() {
    let sizes = tensors(&[4, 4]);
    let scores = vec![vec![1.0, 5.0, 2.0, 1.0], vec![2.0, 2.0, 9.0, 0.0]];
    // Kept: 9, 5, then of the three 2s the first (t0[2]) and the second (t1[0]).
    let mask = top_k(&sizes, &scores, 0.5, Rounding::Floor).unwrap();
    assert_eq!(mask.indices(), &[vec![1, 2], vec![0, 2]]);
}

#[test]
fn top_k_of_all_equal_scores_is_a_prefix() {
    let mask = top_k(&tensors(&[3, 3]), &[vec![0.0; 3], vec![0.0; 3]], 0.4, Rounding::Ceil).unwrap();
    // ceil(6 * 0.6) = 4.
    assert_eq!(mask.indices(), &[vec![0, 1, 2], vec![0]]);
}

#[test]
fn top_k_refuses_bad_scores() {
    let sizes = tensors(&[2]);
    let not_finite = top_k(&sizes, &[vec![0.0, f32::NAN]], 0.5, Rounding::Floor);
    assert!(matches!(not_finite, Err(SparsityError::NonFiniteScore { index: 1, .. })));
    let short = top_k(&sizes, &[vec![0.0]], 0.5, Rounding::Floor);
    assert!(matches!(short, Err(SparsityError::ScoreCount { .. })));
    let nothing = top_k(&sizes, &[vec![0.0, 1.0]], 0.9, Rounding::Floor);
    assert!(matches!(nothing, Err(SparsityError::Empty { .. })));
}

/// A decoder of two layers.
fn decoder() -> Vec<TensorSize> {
    [
        ("model.embed_tokens.weight", vec![4, 2]),
        ("model.layers.0.self_attn.q_proj.weight", vec![2, 4]),
        ("model.layers.0.input_layernorm.weight", vec![2]),
        ("model.layers.1.mlp.up_proj.weight", vec![2, 4]),
        ("model.layers.1.self_attn.q_proj.bias", vec![2]),
        ("model.norm.weight", vec![2]),
    ]
    .map(|(name, shape)| TensorSize { name: name.into(), shape })
    .into()
}

/// The number of each entry as its score: 0 to 29.
fn rising() -> Vec<Vec<f32>> {
    let mut numbers = (0u8..).map(f32::from);
    decoder().iter().map(|tensor| numbers.by_ref().take(tensor.elements()).collect()).collect()
}

fn choice(sparsity: f64, scope: Scope, unit: Unit) -> Choice {
    Choice { sparsity, rounding: Rounding::Floor, scope, unit }
}

fn made(criterion: Criterion, modules: &str, control: Control, scores: &[Vec<f32>]) -> Mask {
    let spec = Sparse { criterion, modules: Modules::parse(modules).unwrap(), control };
    let mask = choose(&decoder(), &spec, scores, &|| Ok(Vec::new())).unwrap();
    // What is planned is what is made, where rounding to whole units does not come in between.
    let planned = planned_counts(&decoder(), &MaskSpec::Sparse(spec)).unwrap();
    assert!(planned.iter().sum::<u64>() >= mask.active() as u64);
    mask
}

fn ranked(choice: Choice, keep: Keep, modules: &str) -> Vec<Vec<u32>> {
    let by = Score::Magnitude;
    made(Criterion::Scored { by, keep, choice }, modules, Control::None, &rising()).indices().to_vec()
}

fn whole(of: [u32; 6]) -> Vec<Vec<u32>> {
    of.map(|count| (0..count).collect()).into()
}

#[test]
fn every_scope_keeps_its_shares() {
    let half = |scope| ranked(choice(0.5, scope, Unit::Entry), Keep::High, "all");
    // Thirty entries: numbers 15 to 29. The first of them is the last of q_proj, 8 to 15.
    assert_eq!(half(Scope::Global), [vec![], vec![7], vec![0, 1], (0..8).collect(), vec![0, 1], vec![0, 1]]);
    let upper = vec![4, 5, 6, 7];
    assert_eq!(
        half(Scope::PerTensor),
        [upper.clone(), upper.clone(), vec![1], upper.clone(), vec![1], vec![1]]
    );
    // Pools of 8, 10, 10 and 2 entries; of layer 0 the numbers 13 to 17, of layer 1 23 to 27.
    let third = vec![5, 6, 7];
    assert_eq!(half(Scope::PerLayer), [upper, third.clone(), vec![0, 1], third, vec![0, 1], vec![1]]);
    // 2 of every 4 in a row; rows of two keep one, and so do vectors of two.
    let fours = vec![2, 3, 6, 7];
    let pairs = vec![1, 3, 5, 7];
    assert_eq!(half(Scope::PerGroup(4)), [pairs, fours.clone(), vec![1], fours, vec![1], vec![1]]);
    let lowest = ranked(choice(0.75, Scope::PerGroup(4), Unit::Entry), Keep::Low, "attention+mlp");
    assert_eq!(lowest, [vec![], vec![0, 4], vec![], vec![0, 4], vec![], vec![]]);
}

#[test]
fn rows_and_columns_are_chosen_whole() {
    let half = |scope, unit, keep| ranked(choice(0.5, scope, unit), keep, "all");
    // The second row of two; of four the last two; a vector's entries are rows.
    let second = vec![4, 5, 6, 7];
    let rows = [second.clone(), second.clone(), vec![1], second, vec![1], vec![1]];
    assert_eq!(half(Scope::PerTensor, Unit::Row, Keep::High), rows);
    // Columns 2 and 3 of four, 1 of two; a vector is one column, and half a column is none.
    let columns = [vec![1, 3, 5, 7], vec![2, 3, 6, 7], vec![], vec![2, 3, 6, 7], vec![], vec![]];
    assert_eq!(half(Scope::PerTensor, Unit::Column, Keep::High), columns);
    // Rows by their mean over the whole model: 29, 28, 27, 26 (vectors), 23.5 and 19.5 (up_proj), 17, 16; then the row of
    // q_proj with 13.5 would make 18 of 15.
    assert_eq!(half(Scope::Global, Unit::Row, Keep::High), whole([0, 0, 2, 8, 2, 2]));
    // The lowest: the embedding's four rows of two (8), then 9.5 of q_proj (12); 13.5 would make 16.
    assert_eq!(half(Scope::Global, Unit::Row, Keep::Low), whole([8, 4, 0, 0, 0, 0]));
}

#[test]
fn the_lowest_are_the_bottom_of_the_ranking() {
    let low = |modules| ranked(choice(0.8, Scope::Global, Unit::Entry), Keep::Low, modules);
    assert_eq!(low("all"), whole([6, 0, 0, 0, 0, 0]));
    // Of the sixteen entries of matrices in layers three.
    assert_eq!(low("attention+mlp"), whole([0, 3, 0, 0, 0, 0]));
    // Ties go to the first, at both ends.
    let flat: Vec<Vec<f32>> = decoder().iter().map(|tensor| vec![1.0; tensor.elements()]).collect();
    for keep in [Keep::Low, Keep::High] {
        let choice = choice(0.8, Scope::Global, Unit::Entry);
        let criterion = Criterion::Scored { by: Score::Magnitude, keep, choice };
        assert_eq!(made(criterion, "all", Control::None, &flat).indices(), whole([6, 0, 0, 0, 0, 0]));
    }
}

#[test]
fn parts_of_the_model_are_taken_whole() {
    let layers = |side, count| Criterion::Layers { side, count };
    let made = |criterion, modules| made(criterion, modules, Control::None, &[]).indices().to_vec();
    assert_eq!(made(layers(Side::First, 1), "all"), whole([0, 8, 2, 0, 0, 0]));
    assert_eq!(made(layers(Side::Last, 1), "all"), whole([0, 0, 0, 8, 2, 0]));
    assert_eq!(made(layers(Side::Last, 2), "-biases"), whole([0, 8, 2, 8, 0, 0]));
    assert_eq!(made(Criterion::Modules, "norms+embeddings"), whole([8, 0, 2, 0, 0, 2]));
    let spec = Sparse { criterion: layers(Side::First, 3), modules: Modules::ALL, control: Control::None };
    let error = choose::<[Vec<f32>]>(&decoder(), &spec, &[], &|| Ok(Vec::new())).unwrap_err();
    assert_eq!(error, SparsityError::TooFewLayers { asked: 3, there: 2 });
}

#[test]
fn controls_turn_a_mask() {
    let criterion = || Criterion::Scored {
        by: Score::Magnitude,
        keep: Keep::High,
        choice: choice(0.5, Scope::PerTensor, Unit::Entry),
    };
    let plain = made(criterion(), "-norms", Control::None, &rising());
    let others = made(criterion(), "-norms", Control::Complement, &rising());
    assert_eq!(plain.overlap(&others).unwrap().intersection, 0);
    // All but the four entries of norms.
    assert_eq!(plain.active() + others.active(), 26);
    let counts = |mask: &Mask| mask.indices().iter().map(Vec::len).collect::<Vec<_>>();
    let permuted = |seed| made(criterion(), "-norms", Control::Permuted { seed }, &rising());
    assert_eq!(counts(&permuted(1)), counts(&plain));
    assert_ne!(permuted(1), permuted(2));
    assert_eq!(permuted(1), permuted(1));
}

#[test]
fn random_masks_of_other_scopes_have_exact_counts() {
    let counts = |choice: Choice, rng, seed| {
        let mask = made(Criterion::Random { seed, rng, choice }, "all", Control::None, &[]);
        mask.indices().iter().map(Vec::len).collect::<Vec<_>>()
    };
    for seed in 0..20 {
        for rng in [MaskRng::Chacha, MaskRng::Numpy] {
            assert_eq!(counts(choice(0.5, Scope::Global, Unit::Entry), rng, seed).iter().sum::<usize>(), 15);
            let layers = counts(choice(0.5, Scope::PerLayer, Unit::Entry), rng, seed);
            assert_eq!([layers[0], layers[1] + layers[2], layers[3] + layers[4], layers[5]], [4, 5, 5, 1]);
        }
        let chacha = |scope, unit| counts(choice(0.5, scope, unit), MaskRng::Chacha, seed);
        assert_eq!(chacha(Scope::PerGroup(4), Unit::Entry), [4, 4, 1, 4, 1, 1]);
        assert_eq!(chacha(Scope::PerTensor, Unit::Row), [4, 4, 1, 4, 1, 1]);
        assert_eq!(chacha(Scope::PerTensor, Unit::Column), [4, 4, 0, 4, 0, 0]);
        let rows = chacha(Scope::Global, Unit::Row).iter().sum::<usize>();
        assert!((12..=15).contains(&rows), "{rows}");
    }
}

#[test]
fn what_cannot_be_chosen_is_said() {
    let refused = |criterion| {
        let spec = Sparse { criterion, modules: Modules::ALL, control: Control::None };
        choose::<[Vec<f32>]>(&decoder(), &spec, &rising(), &|| Ok(Vec::new())).unwrap_err().to_string()
    };
    let random = |choice, rng| Criterion::Random { seed: 0, rng, choice };
    let said = refused(random(choice(0.99, Scope::PerTensor, Unit::Entry), MaskRng::Chacha));
    assert!(
        said.contains("not one would be trained: a sparsity of 0.99 keeps no entry of any tensor"),
        "{said}"
    );
    let said = refused(random(choice(0.6, Scope::PerGroup(4), Unit::Entry), MaskRng::Chacha));
    assert!(said.contains("leaves no whole number"), "{said}");
    let said = refused(random(choice(0.5, Scope::PerTensor, Unit::Row), MaskRng::Numpy));
    assert!(said.contains("no rows or columns"), "{said}");
    for sparsity in [0.0, 1.0, -0.1, f64::NAN] {
        let said = refused(random(choice(sparsity, Scope::Global, Unit::Entry), MaskRng::Chacha));
        assert!(said.contains("between 0 and 1"), "{said}");
    }
}
