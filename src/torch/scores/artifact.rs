//! Scores as an artifact of the store: written tensor by tensor, with all that says how they came about.

use serde_json::{Map, Value, json};
use tch::Tensor;

use crate::data::Parameter;
use crate::data::safetensors::header;
use crate::execute::{Context, Event};
use crate::manifest::Dtype;
use crate::plan::{RunSpec, gradient_settings};
use crate::sparsity::{FisherEstimator, FisherSpec, Measure};
use crate::store::{NewArtifact, Stage, canonical};

use super::super::failure::RunError;
use super::super::weights::each_piece;
use super::super::{TorchError, from_hub, setup};
use super::{ScoreSource, Scored, scores};

/// File of a scores artifact: float32, one tensor per parameter.
pub const SCORES_FILE: &str = "scores.safetensors";

/// Makes the scores of a run and publishes them under `id`; `None` when it was asked to stop.
///
/// # Errors
/// When the base or the task cannot be opened, a gradient is not finite, memory runs out, or nothing can be written.
pub fn publish(
    run: &RunSpec,
    id: &str,
    spec: &FisherSpec,
    measure: Measure,
    cx: &Context,
) -> Result<Option<()>, RunError> {
    let device = setup::device(&run.config)?;
    let task = from_hub::task(&run.config.task, run, cx)?;
    let folder = setup::base_folder(run, cx)?;
    let (model, chat) = setup::base(run, &folder, device)?;
    (cx.events)(Event::Phase { name: "scores".into(), steps: spec.episodes });
    let progress = |step, message| (cx.events)(Event::Progress { step, message });
    let parameters = &model.weights.parameters;
    let mut recipe = recipe(run, spec, measure, parameters);
    let (mut made, mut nonzero) = (None, 0);
    let source = ScoreSource { model: &model, chat: &chat, task: &task, config: &run.config, spec, measure };
    let scored = scores(&source, &progress, cx.stop, |tensors| {
        nonzero = count_nonzero(&tensors)?;
        let mut new = cx.store.begin_artifact(Stage::Scores, id)?;
        write(&mut new, parameters, tensors, &recipe)?;
        made = Some(new);
        Ok::<_, RunError>(())
    })?;
    let (Scored::Complete(halves), Some(new)) = (scored, made) else { return Ok(None) };
    if nonzero == 0 {
        let text = "all scores are zero, so a mask of them is only the first entries: no episode had a gradient (in a batch, \
                    rewards have to differ within a group)";
        (cx.events)(Event::Note(text.into()));
    }
    recipe["nonzero"] = nonzero.into();
    recipe["halves"] = halves.map(|halves| halves.to_value()).into();
    new.publish(recipe)?;
    Ok(Some(()))
}

/// Everything that says what the scores are, but for what was measured on them.
fn recipe(run: &RunSpec, spec: &FisherSpec, measure: Measure, parameters: &[Parameter]) -> Value {
    let FisherSpec { estimator, episodes, seed } = *spec;
    let dtype = match run.config.model.dtype {
        Dtype::Float32 => "float32",
        Dtype::Bfloat16 => "bfloat16",
    };
    let loss = match estimator {
        FisherEstimator::Batch => gradient_settings(&run.config).into_iter().collect::<Map<_, _>>().into(),
        FisherEstimator::Sample | FisherEstimator::Model => Value::Null,
    };
    let mut recipe = json!({
        "estimator": estimator.word(),
        "measure": measure.word(),
        "formula": formula(estimator, measure),
        "episodes": episodes,
        "seed": seed,
        "base": run.stages.base,
        "dtype": dtype,
        "loss": loss,
        "tensors": parameters.len(),
        "parameters": parameters.iter().map(Parameter::elements).sum::<usize>(),
    });
    if estimator == FisherEstimator::Model {
        recipe["max_tokens"] = run.config.sampling.max_tokens.into();
    }
    recipe
}

/// What a score is, on one line.
fn formula(estimator: FisherEstimator, measure: Measure) -> String {
    let of = |inner: &str| match measure {
        Measure::Square => format!("({inner})^2"),
        Measure::Absolute => format!("|{inner}|"),
    };
    match estimator {
        FisherEstimator::Batch => {
            format!("{}, g the GRPO gradient of all rollouts, clipped by its norm", of("clip(g)_i"))
        }
        FisherEstimator::Sample => {
            format!("1/N sum_n {}, y_n the reference answer", of("d log p(y_n | x_n) / d theta_i"))
        }
        FisherEstimator::Model => {
            format!("1/N sum_n {}, y_n drawn from p", of("d log p(y_n | x_n) / d theta_i"))
        }
    }
}

fn count_nonzero(tensors: &[Tensor]) -> Result<u64, TorchError> {
    let mut count = 0;
    for tensor in tensors {
        count += i64::try_from(tensor.f_count_nonzero(None)?)? as u64;
    }
    Ok(count)
}

/// Writes the file of the scores; each tensor goes when it is written.
fn write(
    new: &mut NewArtifact<'_>,
    parameters: &[Parameter],
    tensors: Vec<Tensor>,
    recipe: &Value,
) -> Result<(), RunError> {
    let metadata = [("format".to_owned(), "pt".to_owned()), ("recipe".to_owned(), canonical(recipe))].into();
    let described = parameters
        .iter()
        .map(|found| (found.name.as_str(), "F32", found.shape.as_slice(), found.elements() * 4));
    let head = header(described, &metadata);
    new.file(SCORES_FILE, |file| {
        file.append(&head)?;
        for (parameter, tensor) in parameters.iter().zip(tensors) {
            each_piece(&parameter.name, &tensor, &mut |bytes| Ok::<_, RunError>(file.append(bytes)?))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::safetensors::{parse, to_bytes};
    use crate::store::Store;
    use crate::torch::Weights;
    use crate::torch::raw;
    use crate::torch::weights::PIECE;
    use crate::torch::weights::tests::tiny;

    #[test]
    fn the_file_is_that_of_all_tensors_at_once() {
        let weights = Weights::fresh(&tiny(true), 3).unwrap();
        let mut parameters = weights.parameters;
        let mut tensors = weights.tensors;
        // One that does not lie in order, as gradients of products may, and one of more than a piece.
        let at = parameters.iter().position(|found| found.shape.len() == 2).unwrap();
        tensors[at] = tensors[at].transpose(0, 1).contiguous().transpose(0, 1);
        assert!(!tensors[at].is_contiguous());
        parameters.push(Parameter { name: "long".into(), shape: vec![PIECE as usize + 5] });
        tensors.push(tch::Tensor::arange(PIECE + 5, (tch::Kind::Float, tch::Device::Cpu)));

        let recipe = json!({"b": 1, "a": {"z": 0.1, "y": null}});
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut new = store.begin_artifact(Stage::Scores, "s1").unwrap();
        let copies = tensors.iter().map(tch::Tensor::shallow_clone).collect();
        write(&mut new, &parameters, copies, &recipe).unwrap();
        let file = new.publish(recipe).unwrap().read(SCORES_FILE).unwrap();

        let all = parameters.iter().zip(&tensors);
        let all = all.map(|(found, tensor)| raw(&found.name, &found.shape, tensor).unwrap());
        let text = r#"{"a":{"y":null,"z":0.1},"b":1}"#;
        let metadata =
            [("format".to_owned(), "pt".to_owned()), ("recipe".to_owned(), text.to_owned())].into();
        assert!(file == to_bytes(&all.collect::<Vec<_>>(), &metadata), "the same bytes");
        let parsed = parse(&file, Path::new(SCORES_FILE)).unwrap();
        let last = parsed.tensor("long").unwrap();
        assert_eq!(last.data()[last.data().len() - 4..], (PIECE as f32 + 4.0).to_le_bytes());
    }

    #[test]
    fn every_estimator_says_what_it_is() {
        use FisherEstimator::{Batch, Model, Sample};
        let texts =
            [Batch, Sample, Model].map(|of| [Measure::Square, Measure::Absolute].map(|m| formula(of, m)));
        assert_eq!(texts[0][1], "|clip(g)_i|, g the GRPO gradient of all rollouts, clipped by its norm");
        assert_eq!(texts[1][0], "1/N sum_n (d log p(y_n | x_n) / d theta_i)^2, y_n the reference answer");
        assert_eq!(texts[2][0], "1/N sum_n (d log p(y_n | x_n) / d theta_i)^2, y_n drawn from p");
        let all = texts.concat().into_iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(all.len(), 6);
    }
}
