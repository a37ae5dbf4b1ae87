//! Comparisons fail on what is no number: a model that computes NaN must not pass for one that is exact.

use std::panic::catch_unwind;

use tch::{Kind, Tensor};

use super::oracle::{json, logits, model, tensors};
use super::steps::apart;
use super::support::{distance, relative};
use super::table::{larger, largest, row};

/// What is no number, where a number should be.
const NONE: [f64; 3] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];

fn fails(comparison: impl FnOnce() -> f64 + std::panic::UnwindSafe) -> bool {
    catch_unwind(comparison).is_err()
}

#[test]
fn differences_that_are_not_finite_fail() {
    let tensor = |entry: f64| Tensor::from_slice(&[1.0, entry, 2.0]);
    for none in NONE {
        assert!(fails(|| larger(0.0, none)) && fails(|| larger(none, 0.0)), "{none}");
        assert!(fails(|| largest([1e-9, none, 2e-9])) && fails(|| largest([none])), "{none}");
        // Once on either side, and on both, where infinities cancel to NaN.
        for (left, right) in [(none, 0.0), (0.0, none), (none, none)] {
            assert!(fails(|| distance(&tensor(left), &tensor(right))), "{left} {right}");
            assert!(fails(|| relative(&[tensor(left)], &[tensor(right)])), "{left} {right}");
            assert!(fails(|| apart(&[1.0, left], &[1.0, right], 1.0)), "{left} {right}");
        }
        assert!(fails(|| {
            row("nothing", "nothing", 1, none, 1.0);
            0.0
        }));
        assert!(fails(|| {
            row("nothing", "nothing", 1, 0.0, none);
            0.0
        }));
    }
}

#[test]
fn differences_are_the_largest() {
    let tensor = |entry: f64| Tensor::from_slice(&[1.0, entry, 2.0]);
    assert_eq!(largest([0.25, 0.5, 0.125]), 0.5);
    assert_eq!(largest([]), 0.0);
    assert_eq!(distance(&tensor(0.5), &tensor(1.0)), 0.5);
    assert_eq!(relative(&[tensor(0.5), tensor(3.0)], &[tensor(1.0), tensor(2.0)]), 0.5);
    assert_eq!(apart(&[0.5, 3.0], &[1.0, 2.0], 1.0), 0.5);
    assert!(fails(|| {
        row("nothing", "nothing", 1, 2.0, 1.0);
        0.0
    }));
}

#[test]
fn a_model_that_is_a_little_wrong_is_beyond_the_bounds() {
    // Some cases agree with transformers to the bit, so what a small error does is shown beside it.
    let name = "families/qwen2_gqa3";
    let (right, wrong) = (model(name, Kind::Float), model(name, Kind::Float));
    let expected = tensors(&format!("{name}/expected.safetensors"));
    let input = &json(&format!("{name}/inputs.json"))["inputs"][0];
    tch::no_grad(|| {
        let places = wrong.weights.parameters.iter().zip(&wrong.weights.tensors);
        let (_, norm) = places.into_iter().find(|(parameter, _)| parameter.name.contains("norm")).unwrap();
        let _ = norm.get(0).g_mul_scalar_(1.01);
    });
    assert!(distance(&logits(&right, input), &expected["0/float32"]) <= 1e-4);
    assert!(distance(&logits(&wrong, input), &expected["0/float32"]) > 1e-4);
}
