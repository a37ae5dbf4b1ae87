//! Learning rates against transformers 5.23.0 and torch 2.11.0, step after step.

use tickets::grpo::{Schedule, Shape};

use super::oracle::numbers;
use super::table::{larger, row};

/// What tests/oracles/schedule_cases.py wrote.
const CASES: &str = include_str!("../oracles/schedules.json");

#[test]
fn rates_are_those_of_transformers_and_torch() {
    let cases: Vec<serde_json::Value> = serde_json::from_str(CASES).unwrap();
    for (against, bound) in [("transformers", 1e-15), ("torch", 1e-14)] {
        let (mut count, mut worst) = (0, 0.0f64);
        for case in cases.iter().filter(|case| case["against"].as_str().unwrap().starts_with(against)) {
            let (floor, whole) =
                (case["final_share"].as_f64().unwrap(), |key: &str| case[key].as_u64().unwrap() as u32);
            let shape = match case["schedule"].as_str().unwrap() {
                "constant" => Shape::Constant,
                "linear" => Shape::Linear { floor },
                _ => Shape::Cosine { floor },
            };
            let schedule = Schedule { warmup_steps: whole("warmup_steps"), shape };
            let (lr, expected) = (case["lr"].as_f64().unwrap(), numbers(&case["rates"]));
            assert_eq!(expected.len(), whole("steps") as usize);
            for (step, expected) in (0..).zip(expected) {
                // torch multiplies the last rate by a factor, so its rounding grows with the steps.
                let got = lr * schedule.share(step, whole("steps"));
                worst = larger(worst, (got - expected).abs() / lr);
                count += 1;
            }
        }
        assert!(count > 500, "{against}: {count}");
        row("learning rates, share of lr", &format!("{against} (see schedules.json)"), count, worst, bound);
    }
}
