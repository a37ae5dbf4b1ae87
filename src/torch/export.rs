//! A model of the store as the files of a Hugging Face directory.
//!
//! The weights are written in the base's type with `format: pt` and without a tied head; every other file of the base
//! directory is copied as it is.

use crate::data::DataError;
use crate::data::safetensors::to_bytes;
use crate::execute::Context;
use crate::plan::RunSpec;
use crate::store::Store;

use super::failure::RunError;
use super::{SparseAdamW, checkpoint, setup};

/// Files of the base that are copied, where it has them.
const COPIED: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// Names and contents of the directory: of the base of a run, or with `trained` of what the run made of it.
///
/// # Errors
/// When the base or the run is not there or damaged.
pub fn export_files(run: &RunSpec, store: &Store, trained: bool) -> Result<Vec<(String, Vec<u8>)>, RunError> {
    let cx = Context { store, events: &|_| {}, stop: &|| false };
    let folder = setup::base_folder(run, &cx)?;
    let mut files = Vec::new();
    for name in COPIED {
        let path = folder.join(name);
        if path.is_file() {
            let bytes = std::fs::read(&path).map_err(|source| DataError::Read { path, source })?;
            files.push((name.to_owned(), bytes));
        }
    }
    let (model, _) = setup::base(run, &folder, tch::Device::Cpu)?;
    if trained {
        let state = store
            .final_file(run.id.as_str(), checkpoint::STATE_FILE)?
            .ok_or_else(|| RunError::NoArtifact { stage: "run", id: run.id.to_string() })?;
        let mask = setup::mask(run, store, &model)?;
        let mut adam = SparseAdamW::new(&model.weights, mask.as_ref(), &run.config.optimizer)?;
        checkpoint::restore(&state, &model.weights, &mut adam)?;
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    files.push(("model.safetensors".to_owned(), to_bytes(&model.weights.to_raw()?, &metadata)));
    Ok(files)
}
