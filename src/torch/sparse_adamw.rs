//! AdamW on the active entries alone: moments and float32 masters exist for nothing else.
//!
//! In: gathered gradients in float32 (`gather.rs`). Out: updated weights. Invariants: entries outside the mask
//! are never written; on the active entries the arithmetic is that of dense AdamW on masked gradients, bit for bit.
//! Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), in the order of operations of torch's single-tensor
//! AdamW: decay first, moments, then `p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`, to the last bit.
//! With `decay = "study"` the decay is multiplied by the bias-corrected step size, as the study's optimizer does.

use tch::{Kind, Tensor};

use crate::grpo::{Decay, OptimizerSpec};
use crate::sparsity::{Mask, same_model};

use super::products::blocks;
use super::{TorchError, Weights};

/// Entries that are computed on at a time, so that what passes by is small.
const PIECE: i64 = 1 << 22;

/// Values and moments of active entries, flat.
#[derive(Debug)]
struct State {
    /// Float32 values. Shares storage with the weight when all entries of it are active and it is float32.
    master: Tensor,
    first: Tensor,
    second: Tensor,
    /// Values before training, in the weight's own type: what the run's distance from its base is measured from.
    base: Tensor,
}

/// The active entries of one tensor.
#[derive(Debug)]
pub(super) struct Span {
    /// Flat indices in the tensor, int32, rising; `None` when every entry is active.
    pub(super) index: Option<Tensor>,
    /// Which state they are in, and where.
    state: usize,
    from: i64,
    pub(super) count: i64,
}

/// The optimizer of a run.
#[derive(Debug)]
pub struct SparseAdamW {
    /// By tensor.
    pub(super) spans: Vec<Span>,
    /// With a mask one for all tensors, so that a step is a few operations; otherwise one per tensor.
    states: Vec<State>,
    spec: OptimizerSpec,
    /// Optimizer steps taken.
    pub steps: u64,
}

/// How far the active entries have moved from the base model. Shares are of **all** parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Movement {
    /// Euclidean norm of the difference.
    pub l2: f64,
    /// Largest absolute difference.
    pub linf: f64,
    /// Share of entries whose float32 value differs.
    pub changed_fp32: f64,
    /// Share whose bfloat16 rounding differs.
    pub changed_bf16: f64,
    /// Share that moved by more than 1e-5 (the tolerance of Mukherjee et al. 2025).
    pub changed_1e5: f64,
}

impl SparseAdamW {
    /// Prepares the optimizer for `weights`; `mask = None` trains everything.
    ///
    /// # Errors
    /// When memory runs out or the mask belongs to another model.
    pub fn new(weights: &Weights, mask: Option<&Mask>, spec: &OptimizerSpec) -> Result<Self, TorchError> {
        if let Some(mask) = mask {
            same_model(mask.tensors(), &weights.sizes())?;
        }
        let _guard = tch::no_grad_guard();
        let (mut spans, mut states, mut bases) = (Vec::new(), Vec::new(), Vec::new());
        let mut from = 0;
        for (i, tensor) in weights.tensors.iter().enumerate() {
            let flat = tensor.f_detach()?.f_view([-1])?;
            if let Some(mask) = mask {
                let index = indices(&mask.indices()[i])?.f_to_device(tensor.device())?;
                let count = index.numel() as i64;
                bases.push(flat.f_index_select(0, &index)?);
                spans.push(Span { index: Some(index), state: 0, from, count });
                from += count;
            } else {
                spans.push(Span { index: None, state: i, from: 0, count: flat.numel() as i64 });
                states.push(State::new(flat.f_to_kind(Kind::Float)?, flat.copy())?);
            }
        }
        if mask.is_some() {
            let base = Tensor::f_cat(&bases, 0)?;
            states.push(State::new(base.f_to_kind(Kind::Float)?.f_detach_copy()?, base)?);
        }
        Ok(Self { spans, states, spec: spec.clone(), steps: 0 })
    }

    /// Whether some entries are not trained.
    pub(super) fn masked(&self) -> bool {
        self.spans.iter().any(|span| span.index.is_some())
    }

    /// One step on gathered gradients (with a mask those of all tensors in one vector, otherwise one per tensor), scaled by `scale` (the clip coefficient), at learning rate `lr`.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn step(
        &mut self,
        weights: &Weights,
        gathered: &[Tensor],
        scale: f64,
        lr: f64,
    ) -> Result<(), TorchError> {
        let _guard = tch::no_grad_guard();
        self.steps += 1;
        let [beta1, beta2] = self.spec.betas;
        let t = self.steps as f64;
        let step_size = lr / (1.0 - beta1.powf(t));
        let second_root = (1.0 - beta2.powf(t)).sqrt();
        let decay = self.spec.weight_decay
            * match self.spec.decay {
                Decay::Decoupled => lr,
                Decay::Study => step_size,
            };
        for (state, gradient) in self.states.iter_mut().zip(gathered) {
            for (from, count) in blocks(gradient.numel() as i64, PIECE) {
                let piece = |tensor: &Tensor| tensor.f_narrow(0, from, count);
                let (mut master, mut first, mut second) =
                    (piece(&state.master)?, piece(&state.first)?, piece(&state.second)?);
                // A coefficient of exactly one is the unclipped step; the product would be the same bits.
                let scaled = piece(gradient)?.f_mul_scalar(scale)?;
                let _ = master.f_mul_scalar_(1.0 - decay)?;
                let _ = first.f_lerp_(&scaled, 1.0 - beta1)?;
                // torch's `addcmul` and `addcdiv` take the factor on their first operand, so it may be put there.
                let weighted = scaled.f_mul_scalar(1.0 - beta2)?;
                let _ = second.f_mul_scalar_(beta2)?.f_addcmul_(&weighted, &scaled)?;
                let mut denominator = second.f_sqrt()?;
                let _ = denominator.f_div_scalar_(second_root)?.f_add_scalar_(self.spec.eps)?;
                let update = first.f_mul_scalar(-step_size)?;
                let _ = master.f_addcdiv_(&update, &denominator)?;
            }
        }
        self.write(weights)
    }

    /// Distance of the active entries from the base, against `total` parameters.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn movement(&self, total: usize) -> Result<Movement, TorchError> {
        let _guard = tch::no_grad_guard();
        let mut rows = Vec::new();
        let pieces = self.states.iter().flat_map(|state| {
            blocks(state.master.numel() as i64, PIECE).map(move |(from, count)| (state, from, count))
        });
        for (state, from, count) in pieces {
            let (master, base) =
                (state.master.f_narrow(0, from, count)?, state.base.f_narrow(0, from, count)?);
            let moved = master.f_sub(&base.f_to_kind(Kind::Float)?)?.f_abs_()?;
            let rounded = master.f_to_kind(Kind::BFloat16)?.f_ne_tensor(&base.f_to_kind(Kind::BFloat16)?)?;
            let count = |flags: &Tensor| flags.f_sum(Kind::Double);
            rows.push(Tensor::f_stack(
                &[
                    moved.f_mul(&moved)?.f_sum(Kind::Double)?,
                    count(&moved.f_gt(0.0)?)?,
                    count(&rounded)?,
                    count(&moved.f_gt(1e-5)?)?,
                    moved.f_max()?.f_to_kind(Kind::Double)?,
                ],
                0,
            )?);
        }
        let (mut sums, mut linf) = ([0.0f64; 4], 0.0f64);
        // All numbers in one transfer.
        let numbers =
            if rows.is_empty() { Vec::new() } else { Vec::<f64>::try_from(&Tensor::f_cat(&rows, 0)?)? };
        for row in numbers.chunks_exact(5) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            linf = linf.max(row[4]);
        }
        let total = total as f64;
        Ok(Movement {
            l2: sums[0].sqrt(),
            linf,
            changed_fp32: sums[1] / total,
            changed_bf16: sums[2] / total,
            changed_1e5: sums[3] / total,
        })
    }

    /// Runs `body` with the base model's values in place of the trained ones, then puts these back.
    ///
    /// # Errors
    /// When `body` fails or memory runs out.
    pub fn with_base<T>(
        &self,
        weights: &Weights,
        body: impl FnOnce() -> Result<T, TorchError>,
    ) -> Result<T, TorchError> {
        let _guard = tch::no_grad_guard();
        // Where the master is the weight itself it is kept aside.
        let kept: Vec<Option<Tensor>> = self
            .spans
            .iter()
            .zip(&weights.tensors)
            .map(|(span, tensor)| {
                self.is_weight(span, tensor).then(|| self.of(span).master.f_detach_copy()).transpose()
            })
            .collect::<Result<_, _>>()?;
        for (span, tensor) in self.spans.iter().zip(&weights.tensors) {
            span.place(&span.part(&self.of(span).base)?, tensor)?;
        }
        let result = body();
        for ((span, kept), tensor) in self.spans.iter().zip(&kept).zip(&weights.tensors) {
            let values = match kept {
                Some(kept) => kept.shallow_clone(),
                None => span.part(&self.of(span).master)?,
            };
            span.place(&values, tensor)?;
        }
        result
    }

    /// Values, first and second moments of tensor `i`, as float32 vectors that share storage with the optimizer's own.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn state(&self, i: usize) -> Result<[Tensor; 3], TorchError> {
        let span = &self.spans[i];
        let State { master, first, second, .. } = self.of(span);
        Ok([span.part(master)?, span.part(first)?, span.part(second)?])
    }

    /// Puts saved state back, values written through to `weights`.
    ///
    /// # Errors
    /// When a length differs from the mask's.
    pub fn restore(&mut self, weights: &Weights, i: usize, state: &[Tensor; 3]) -> Result<(), TorchError> {
        let _guard = tch::no_grad_guard();
        for (own, saved) in self.state(i)?.iter_mut().zip(state) {
            if own.size() != saved.size() {
                let (name, expected, got) = (&weights.parameters[i].name, own.numel(), saved.numel());
                return Err(TorchError::Restore {
                    what: format!("{name}: the mask has {expected} entries, the saved state {got}"),
                });
            }
            own.f_copy_(saved)?;
        }
        self.write_one(&self.spans[i], &weights.tensors[i])
    }

    fn of(&self, span: &Span) -> &State {
        &self.states[span.state]
    }

    /// Whether the master's storage is the weight's: in full float32 training.
    fn is_weight(&self, span: &Span, tensor: &Tensor) -> bool {
        span.index.is_none() && self.of(span).master.data_ptr() == tensor.data_ptr()
    }

    /// Writes the masters to the weights.
    fn write(&self, weights: &Weights) -> Result<(), TorchError> {
        self.spans.iter().zip(&weights.tensors).try_for_each(|(span, tensor)| self.write_one(span, tensor))
    }

    fn write_one(&self, span: &Span, tensor: &Tensor) -> Result<(), TorchError> {
        if self.is_weight(span, tensor) {
            return Ok(());
        }
        span.place(&span.part(&self.of(span).master)?, tensor)
    }
}

impl State {
    fn new(master: Tensor, base: Tensor) -> Result<Self, TorchError> {
        Ok(Self { first: master.f_zeros_like()?, second: master.f_zeros_like()?, master, base })
    }
}

impl Span {
    /// Its part of a state's tensor.
    fn part(&self, whole: &Tensor) -> Result<Tensor, TorchError> {
        Ok(whole.f_narrow(0, self.from, self.count)?)
    }

    /// Writes `values` to the active entries of the weight.
    fn place(&self, values: &Tensor, tensor: &Tensor) -> Result<(), TorchError> {
        let mut flat = tensor.f_detach()?.f_view([-1])?;
        match &self.index {
            Some(index) if index.numel() > 0 => {
                // It takes no narrower index; this one is gone at once.
                let values = values.f_to_kind(tensor.kind())?;
                let _ = flat.f_index_copy_(0, &index.f_to_kind(Kind::Int64)?, &values)?;
            }
            Some(_) => {}
            None => flat.f_copy_(values)?,
        }
        Ok(())
    }
}

/// Flat indices as int32. Those of a tensor of more than 2^31 entries have none.
fn indices(list: &[u32]) -> Result<Tensor, TorchError> {
    let narrow: Result<Vec<i32>, _> = list.iter().map(|&index| i32::try_from(index)).collect();
    let narrow =
        narrow.map_err(|_| TorchError::Op { message: "a tensor has more than 2^31 entries".into() })?;
    Ok(Tensor::f_from_slice(&narrow)?)
}
