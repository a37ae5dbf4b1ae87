//! Between the last layer's output and logprobs, forward and back, where the vocabulary's logits exist for a chunk alone.
//!
//! The gradient of the vocabulary's matrix is the largest of all tensors'. A sink that takes rows gets it a block of rows at a time,
//! each complete for all parts of the batch, so that it is never whole; that costs the logits once more.
//!
//! Shape legend: n tokens of a list, m loss tokens, u tokens that predict some of them, c rows of the vocabulary, h hidden, v vocabulary.

use tch::{Kind, Tensor};

use crate::data::{BACK_TOKENS, LOGIT_BYTES, ROW_ENTRIES};

use super::kernels::back::HeadBack;
use super::layer::place;
use super::products::blocks;
use super::tape::{Part, Sink, Tape};
use super::{Model, TorchError};

const LOGITS: i64 = LOGIT_BYTES as i64;
/// Rows of the vocabulary that are taken together, at least; entries of them, at most.
const ROWS: i64 = 512;
const ENTRIES: i64 = if cfg!(test) { 1 << 8 } else { ROW_ENTRIES as i64 };
/// Tokens whose gradients go through the last norm together.
const TOKENS: i64 = 2048;

/// Whose logprobs a loss is made of.
#[derive(Debug)]
pub struct Targets {
    /// Place in the list of the token that predicts each target, int64 `[m]`.
    pub source_m: Tensor,
    /// int64 `[m]`.
    pub target_m: Tensor,
    /// Divides the logits.
    pub temperature: f64,
}

/// What is known of targets, float32 `[m]` each, in nats.
#[derive(Debug)]
pub struct Scored {
    pub logprob: Tensor,
    /// Of the distributions that they were drawn from.
    pub entropy: Tensor,
    /// Logs of the sums of exponentials of the divided logits.
    lse: Tensor,
}

impl Tape {
    /// Logprobs of targets and entropies of their distributions.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn scored(&self, model: &Model, targets: &Targets) -> Result<Scored, TorchError> {
        let _guard = tch::no_grad_guard();
        let (mut logprobs, mut entropies, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for (from, count) in chunks(model, targets) {
            let source = targets.source_m.f_narrow(0, from, count)?;
            let logits = model.logits(&self.last().f_index_select(0, &source)?)?;
            let target = targets.target_m.f_narrow(0, from, count)?;
            let own = logits.f_gather(1, &target.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
            let (logprob, entropy, _) = model.ops.targets(logits, targets.temperature, &target, None)?;
            sums.push(own.f_div_scalar(targets.temperature)?.f_sub(&logprob)?);
            logprobs.push(logprob);
            entropies.push(entropy);
        }
        let whole = |list: &[Tensor]| match list {
            [] => Tensor::f_zeros([0], (Kind::Float, model.device())),
            list => Tensor::f_cat(list, 0),
        };
        Ok(Scored { logprob: whole(&logprobs)?, entropy: whole(&entropies)?, lse: whole(&sums)? })
    }

    /// The output of the last layer, `[n, h]`.
    fn last(&self) -> &Tensor {
        &self.output
    }
}

/// Chunks of targets whose logits are [`LOGITS`] bytes at most.
fn chunks(model: &Model, targets: &Targets) -> impl Iterator<Item = (i64, i64)> + use<> {
    let v = model.architecture().vocab_size as i64;
    blocks(targets.target_m.numel() as i64, LOGITS / (4 * v))
}

/// The vocabulary's gradients on their way.
#[derive(Debug)]
pub enum Vocabulary {
    /// Of the head, whole: `[v, h]`; `None` where that is a matrix of its own, which has gone.
    Whole(Option<Tensor>),
    /// The head's went to the sink, but for rows of tokens that are embedded too.
    Rows {
        /// Tokens of the lists, rising; int64.
        used: Vec<i64>,
        used_u: Tensor,
        /// Of these rows, `[used, h]`; zeros where the head is a matrix of its own.
        sums: Tensor,
    },
}

/// Logprobs and entropies by part, the gradients by the last layer's output by part, those of the vocabulary.
type Back = (Vec<(Tensor, Tensor)>, Vec<Tensor>, Vocabulary);

/// From slopes to the gradient by the last layer's output, `[n, h]` of every part; `norm`, that of the last norm, is added to.
///
/// # Errors
/// When memory runs out, and those of `sink`.
pub fn head_back(
    model: &Model,
    parts: &[Part],
    norm: &mut Tensor,
    sink: &mut dyn Sink,
) -> Result<Back, TorchError> {
    if sink.takes_rows(model.weights.tensors[model.head()].numel()) {
        return by_rows(model, parts, norm, sink);
    }
    let (kind, device) = place(model);
    let mut head = Tensor::f_zeros(model.weights.tensors[model.head()].size(), (Kind::Float, device))?;
    let (mut measured, mut dxs) = (Vec::new(), Vec::new());
    for part in parts {
        let dx = Tensor::f_zeros(part.tape.last().size(), (kind, device))?;
        measured.push(whole(model, part, &dx, &mut head, norm)?);
        dxs.push(dx);
    }
    if !model.architecture().tied {
        sink.put(model.head(), head)?;
        return Ok((measured, dxs, Vocabulary::Whole(None)));
    }
    Ok((measured, dxs, Vocabulary::Whole(Some(head))))
}

impl Vocabulary {
    /// Adds the embedding's gradients, and hands on what has not gone yet.
    ///
    /// # Errors
    /// When memory runs out, and those of `sink`.
    pub fn finish(
        self,
        model: &Model,
        tokens: &[&Tensor],
        dxs: &[Tensor],
        sink: &mut dyn Sink,
    ) -> Result<(), TorchError> {
        match self {
            Self::Whole(sums) => {
                let size = model.weights.tensors[0].size();
                let mut sums = match sums {
                    Some(sums) => sums,
                    None => Tensor::f_zeros(size, (Kind::Float, model.device()))?,
                };
                for (tokens, dx) in tokens.iter().zip(dxs) {
                    model.ops.add_rows(&mut sums, tokens, dx)?;
                }
                sink.put(0, sums)
            }
            Self::Rows { used, used_u, mut sums } => {
                for (tokens, dx) in tokens.iter().zip(dxs) {
                    let places: Vec<i64> = Vec::<i64>::try_from(*tokens)?
                        .iter()
                        .map(|token| used.partition_point(|other| other < token) as i64)
                        .collect();
                    let places = Tensor::f_from_slice(&places)?.f_to_device(model.device())?;
                    model.ops.add_rows(&mut sums, &places, dx)?;
                }
                sink.put_listed(0, &used_u, &sums)
            }
        }
    }
}

/// In chunks of targets, all rows of the vocabulary at once.
fn whole(
    model: &Model,
    part: &Part,
    dx: &Tensor,
    head: &mut Tensor,
    norm: &mut Tensor,
) -> Result<(Tensor, Tensor), TorchError> {
    let (kind, device) = place(model);
    let products = model.ops.products;
    let (matrix, weight) = (&model.weights.tensors[model.head()], &model.weights.tensors[model.last_norm()]);
    let targets = &part.targets;
    let m = targets.target_m.numel() as i64;
    let options = (Kind::Float, device);
    let (logprobs, entropies) = (Tensor::f_empty([m], options)?, Tensor::f_empty([m], options)?);
    // Several targets may have one source: a group's first tokens. Their gradients are added up in float32.
    let mut wide =
        if kind == Kind::Float { dx.shallow_clone() } else { Tensor::f_zeros(dx.size(), options)? };
    if model.ops.fused && HeadBack::suits(matrix.size()[0]) {
        let head_t = matrix.f_tr()?.f_contiguous()?;
        for (from, count) in blocks(m, BACK_TOKENS as i64) {
            let cut = |tensor: &Tensor| tensor.f_narrow(0, from, count);
            let source = cut(&targets.source_m)?;
            let x = part.tape.last().f_index_select(0, &source)?;
            let dx = x.f_empty_like()?;
            HeadBack {
                eps: model.architecture().rms_eps,
                temperature: targets.temperature,
                x: &x,
                targets: &cut(&targets.target_m)?,
                slopes: &cut(&part.slope_m)?,
                norm: weight,
                head: matrix,
                head_t: &head_t,
                dx: &dx,
                logprobs: &cut(&logprobs)?,
                entropies: &cut(&entropies)?,
                sums: [norm, head],
            }
            .run()?;
            model.ops.add_rows(&mut wide, &source, &dx)?;
        }
        return Ok((logprobs, entropies));
    }
    for (from, count) in chunks(model, targets) {
        let cut = |tensor: &Tensor| tensor.f_narrow(0, from, count);
        let source = cut(&targets.source_m)?;
        let x = part.tape.last().f_index_select(0, &source)?;
        let normed = model.last_normed(&x)?;
        let logits = products.forward_wide(&normed, matrix)?;
        let (logprob, entropy, dlogits) = model.ops.targets(
            logits,
            targets.temperature,
            &cut(&targets.target_m)?,
            Some(&cut(&part.slope_m)?),
        )?;
        cut(&logprobs)?.f_copy_(&logprob)?;
        cut(&entropies)?.f_copy_(&entropy)?;
        let Some(dlogits) = dlogits else { continue };
        let dlogits = dlogits.f_to_kind(kind)?;
        products.add_outer(head, &dlogits, &normed)?;
        let dnormed = normed;
        products.back(&dlogits, matrix, false, &dnormed)?;
        drop(dlogits);
        let dx = x.f_empty_like()?;
        model.ops.norm_back(&dnormed, &x, weight, model.architecture().rms_eps, &dx, false, norm)?;
        model.ops.add_rows(&mut wide, &source, &dx)?;
    }
    if kind != Kind::Float {
        dx.shallow_clone().f_copy_(&wide)?;
    }
    Ok((logprobs, entropies))
}

/// In blocks of the vocabulary's rows, all targets of all parts in each.
fn by_rows(
    model: &Model,
    parts: &[Part],
    norm: &mut Tensor,
    sink: &mut dyn Sink,
) -> Result<Back, TorchError> {
    let (kind, device) = place(model);
    let (tied, h) = (model.architecture().tied, model.architecture().hidden_size as i64);
    let products = model.ops.products;
    let matrix = &model.weights.tensors[model.head()];
    let mut used = Vec::new();
    for part in parts {
        used.extend(Vec::<i64>::try_from(&part.tape.feed.tokens_n)?);
    }
    used.sort_unstable();
    used.dedup();
    let mut ends = Vec::new();
    for part in parts {
        let known = if part.scored.is_some() { None } else { Some(part.tape.scored(model, &part.targets)?) };
        ends.push(End::new(model, part, known)?);
    }
    let m: i64 = parts.iter().map(|part| part.targets.target_m.numel() as i64).sum();
    let rows = (LOGITS / 4 / m.max(1)).max(ROWS).min(ENTRIES / h).max(1);
    let mut of_used = Vec::new();
    for (row, count) in blocks(matrix.size()[0], rows) {
        let block = matrix.f_narrow(0, row, count)?;
        let mut sums = Tensor::f_zeros([count, h], (Kind::Float, device))?;
        for (part, end) in parts.iter().zip(&mut ends) {
            let Some(scored) = part.scored.as_ref().or(end.scored.as_ref()) else { continue };
            for (from, length) in blocks(part.targets.target_m.numel() as i64, LOGITS / 4 / count.max(h)) {
                let cut = |tensor: &Tensor| tensor.f_narrow(0, from, length);
                let source = cut(&part.targets.source_m)?;
                let normed = model.last_normed(&part.tape.last().f_index_select(0, &source)?)?;
                let logits = products.forward_wide(&normed, &block)?;
                let slope = cut(&part.slope_m)?.f_div_scalar(part.targets.temperature)?.f_unsqueeze(1)?;
                let target = cut(&part.targets.target_m)?.f_sub_scalar(row)?;
                let lse = cut(&scored.lse)?;
                let dlogits = slopes(logits, part.targets.temperature, &lse, &slope, &target)?;
                let dlogits = dlogits.f_to_kind(kind)?;
                products.add_outer(&mut sums, &dlogits, &normed)?;
                let dnormed = Tensor::f_empty([length, h], (Kind::Float, device))?;
                products.back(&dlogits, &block, false, &dnormed)?;
                model.ops.add_rows(&mut end.dnormed, &cut(&end.place_m)?, &dnormed)?;
            }
        }
        if tied {
            // Rows that are embedded too are not complete yet.
            let within = used.partition_point(|&token| token < row)
                ..used.partition_point(|&token| token < row + count);
            let local: Vec<i64> = used[within].iter().map(|token| token - row).collect();
            let local = Tensor::f_from_slice(&local)?.f_to_device(device)?;
            of_used.push(sums.f_index_select(0, &local)?);
            let _ = sums.f_index_fill_(0, &local, 0.0)?;
        }
        sink.put_rows(model.head(), row, &sums)?;
    }
    let (mut measured, mut dxs) = (Vec::new(), Vec::new());
    for (part, end) in parts.iter().zip(ends) {
        dxs.push(end.through_norm(model, part, norm)?);
        if let Some(scored) = part.scored.as_ref().or(end.scored.as_ref()) {
            measured.push((scored.logprob.shallow_clone(), scored.entropy.shallow_clone()));
        }
    }
    let sums = if tied {
        Tensor::f_cat(&of_used, 0)?
    } else {
        Tensor::f_zeros([used.len() as i64, h], (Kind::Float, device))?
    };
    let used_u = Tensor::f_from_slice(&used)?.f_to_device(device)?;
    Ok((measured, dxs, Vocabulary::Rows { used, used_u, sums }))
}

/// Gradients by a block of logits: `slope [m, 1]` times (1 where the target is, less the probability). `target [m]` is counted from
/// the block's first row.
fn slopes(
    logits: Tensor,
    temperature: f64,
    lse: &Tensor,
    slope: &Tensor,
    target: &Tensor,
) -> Result<Tensor, TorchError> {
    let mut logits = logits;
    if temperature != 1.0 {
        let _ = logits.f_div_scalar_(temperature)?;
    }
    let count = logits.size()[1];
    let mut slopes = logits.f_sub_(&lse.f_unsqueeze(1)?)?.f_exp_()?.f_mul_(&slope.f_neg()?)?;
    let inside = target.f_ge(0)?.f_logical_and(&target.f_lt(count)?)?.f_unsqueeze(1)?;
    let column = target.f_clamp(0, count - 1)?.f_unsqueeze(1)?;
    // One target a row: written, not added, which has an order everywhere.
    let own = slopes.f_gather(1, &column, false)?.f_add(&slope.f_mul(&inside)?)?;
    Ok(slopes.f_scatter_(1, &column, &own)?)
}

/// A part's end of the stream, while the vocabulary's rows go by.
struct End {
    /// Tokens of the list that predict something, each once, int64 `[u]`; and which of them each target has, int64 `[m]`.
    source_u: Tensor,
    place_m: Tensor,
    /// Gradient by the normed outputs of these tokens, float32 `[u, h]`.
    dnormed: Tensor,
    /// Where the part does not know it.
    scored: Option<Scored>,
}

impl End {
    fn new(model: &Model, part: &Part, scored: Option<Scored>) -> Result<Self, TorchError> {
        let sources = Vec::<i64>::try_from(&part.targets.source_m)?;
        let mut unique = sources.clone();
        unique.sort_unstable();
        unique.dedup();
        let places: Vec<i64> =
            sources.iter().map(|source| unique.partition_point(|other| other < source) as i64).collect();
        let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(model.device());
        let h = model.architecture().hidden_size as i64;
        let dnormed = Tensor::f_zeros([unique.len() as i64, h], (Kind::Float, model.device()))?;
        Ok(Self { source_u: whole(&unique)?, place_m: whole(&places)?, dnormed, scored })
    }

    /// Through the last norm: the gradient by the last layer's output, `[n, h]`.
    fn through_norm(&self, model: &Model, part: &Part, norm: &mut Tensor) -> Result<Tensor, TorchError> {
        let (kind, device) = place(model);
        let weight = &model.weights.tensors[model.last_norm()];
        let mut dx = Tensor::f_zeros(part.tape.last().size(), (kind, device))?;
        for (from, count) in blocks(self.source_u.numel() as i64, TOKENS) {
            let source = self.source_u.f_narrow(0, from, count)?;
            let x = part.tape.last().f_index_select(0, &source)?;
            let dnormed = self.dnormed.f_narrow(0, from, count)?.f_to_kind(kind)?;
            let own = x.f_empty_like()?;
            model.ops.norm_back(&dnormed, &x, weight, model.architecture().rms_eps, &own, false, norm)?;
            let _ = dx.f_index_copy_(0, &source, &own)?;
        }
        Ok(dx)
    }
}
