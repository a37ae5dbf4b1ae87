//! Steps on the active entries against dense ones, by hand and bit for bit.

use tch::{Device, Kind, Tensor};

use super::{SparseAdamW, Weights};
use crate::grpo::{ClipDomain, Decay, OptimizerSpec, Schedule};
use crate::sparsity::{MaskRng, random};
use crate::torch::weights::tests::tiny;

fn spec() -> OptimizerSpec {
    OptimizerSpec {
        lr: 1e-2,
        schedule: Schedule::CONSTANT,
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0.1,
        decay: Decay::Decoupled,
        clip_norm: 1.0,
        clip_domain: ClipDomain::Masked,
    }
}

fn gradients(weights: &Weights, step: i64) -> Vec<Tensor> {
    tch::manual_seed(step);
    weights.tensors.iter().map(|t| Tensor::randn(t.size(), (Kind::Float, Device::Cpu))).collect()
}

fn bytes(weights: &Weights) -> Vec<Vec<u8>> {
    weights.to_raw().unwrap().into_iter().map(|raw| raw.bytes).collect()
}

#[test]
fn sparse_steps_equal_dense_steps_on_masked_gradients_bit_for_bit() {
    let (sparse, dense) = (Weights::fresh(&tiny(true), 1).unwrap(), Weights::fresh(&tiny(true), 1).unwrap());
    let base = bytes(&sparse);
    let mask = random(&sparse.sizes(), 0.7, 3, MaskRng::Chacha).unwrap();
    let mut ours = SparseAdamW::new(&sparse, Some(&mask), &spec()).unwrap();
    let mut full = SparseAdamW::new(&dense, None, &spec()).unwrap();
    for step in 0..5 {
        let gradients = gradients(&sparse, step);
        ours.step(&sparse, &ours.gather(&gradients).unwrap(), 0.5, 1e-2).unwrap();
        full.step(&dense, &full.gather(&gradients).unwrap(), 0.5, 1e-2).unwrap();
    }
    let (got, want) = (bytes(&sparse), bytes(&dense));
    for (i, indices) in mask.indices().iter().enumerate() {
        for entry in 0..got[i].len() / 4 {
            let range = entry * 4..entry * 4 + 4;
            let reference = if indices.binary_search(&(entry as u32)).is_ok() { &want[i] } else { &base[i] };
            assert_eq!(got[i][range.clone()], reference[range], "tensor {i} entry {entry}");
        }
    }
}

#[test]
fn the_first_step_is_the_hand_worked_one() {
    // One step from moments 0: m/(1-b1) = g, sqrt(v/(1-b2)) = |g|, so p = p (1 - lr wd) - lr sign(g).
    let weights = Weights::fresh(&tiny(true), 2).unwrap();
    let before = f64::try_from(weights.tensors[0].get(3).get(4)).unwrap();
    let gradients = gradients(&weights, 9);
    let sign = f64::try_from(gradients[0].get(3).get(4)).unwrap().signum();
    let mut optimizer = SparseAdamW::new(&weights, None, &spec()).unwrap();
    optimizer.step(&weights, &optimizer.gather(&gradients).unwrap(), 1.0, 1e-2).unwrap();
    let after = f64::try_from(weights.tensors[0].get(3).get(4)).unwrap();
    assert!((after - (before * (1.0 - 1e-3) - 1e-2 * sign)).abs() < 1e-6);
}

#[test]
fn movement_counts_what_moved() {
    let weights = Weights::fresh(&tiny(true), 1).unwrap();
    let mask = random(&weights.sizes(), 0.5, 3, MaskRng::Chacha).unwrap();
    let total = mask.total();
    let mut optimizer = SparseAdamW::new(&weights, Some(&mask), &spec()).unwrap();
    assert_eq!(optimizer.movement(total).unwrap().changed_fp32, 0.0);
    optimizer.step(&weights, &optimizer.gather(&gradients(&weights, 1)).unwrap(), 1.0, 1e-6).unwrap();
    let movement = optimizer.movement(total).unwrap();
    // Every active entry moves by about 1e-6: visible in float32 (norm weights of 1 have spacing 6e-8), not at
    // a tolerance of 1e-5.
    assert!((movement.changed_fp32 - mask.density()).abs() < 0.01, "{movement:?}");
    assert!(movement.changed_bf16 < movement.changed_fp32 && movement.changed_1e5 == 0.0, "{movement:?}");
    assert!((movement.linf - 1e-6).abs() < 2e-7, "{movement:?}");
}

#[test]
fn base_values_come_and_go_and_state_is_restored() {
    for mask in [true, false] {
        let weights = Weights::fresh(&tiny(true), 1).unwrap();
        let mask = mask.then(|| random(&weights.sizes(), 0.5, 3, MaskRng::Chacha).unwrap());
        let base = bytes(&weights);
        let mut optimizer = SparseAdamW::new(&weights, mask.as_ref(), &spec()).unwrap();
        optimizer.step(&weights, &optimizer.gather(&gradients(&weights, 1)).unwrap(), 1.0, 1e-2).unwrap();
        let trained = bytes(&weights);
        let inside = optimizer.with_base(&weights, || Ok(bytes(&weights))).unwrap();
        assert_eq!(inside, base);
        assert_eq!(bytes(&weights), trained);

        let again = Weights::fresh(&tiny(true), 1).unwrap();
        let mut copy = SparseAdamW::new(&again, mask.as_ref(), &spec()).unwrap();
        for i in 0..again.tensors.len() {
            let state = optimizer.state(i).unwrap().map(|tensor| tensor.copy());
            copy.restore(&again, i, &state).unwrap();
        }
        copy.steps = optimizer.steps;
        assert_eq!(bytes(&again), trained);
        for step in 2..4 {
            let gradients = gradients(&weights, step);
            optimizer.step(&weights, &optimizer.gather(&gradients).unwrap(), 1.0, 1e-2).unwrap();
            copy.step(&again, &copy.gather(&gradients).unwrap(), 1.0, 1e-2).unwrap();
        }
        assert_eq!(bytes(&again), bytes(&weights));
    }
}

#[test]
fn rows_of_a_gradient_give_its_entries() {
    let weights = Weights::fresh(&tiny(true), 1).unwrap();
    for sparsity in [0.5, 0.9, 0.996] {
        let mask = random(&weights.sizes(), sparsity, 3, MaskRng::Chacha).unwrap();
        let optimizer = SparseAdamW::new(&weights, Some(&mask), &spec()).unwrap();
        let dense = &gradients(&weights, 4)[0];
        let whole = optimizer.gather_one(0, dense).unwrap();
        // Rows that are listed come as zeros among the others, as where the head is the embedding.
        let listed = Tensor::from_slice(&[0i64, 7, 8, 31, 39]);
        let others = dense.index_fill(0, &listed, 0.0);
        let (_, mut parts) = optimizer.room(Device::Cpu).unwrap();
        for from in (0..40).step_by(16) {
            let rows = others.narrow(0, from, 16.min(40 - from));
            optimizer.gather_rows(0, from, &rows, &mut parts[0]).unwrap();
        }
        let rows = dense.index_select(0, &listed);
        optimizer.gather_listed(0, &dense.size(), &listed, &rows, &mut parts[0]).unwrap();
        assert!(parts[0].equal(&whole), "sparsity {sparsity}");
        let (_, parts) = optimizer.room(Device::Cpu).unwrap();
        optimizer.gather_into(0, dense, &parts[0]).unwrap();
        assert!(parts[0].equal(&whole));
    }
}
