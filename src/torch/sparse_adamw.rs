//! AdamW on the active entries alone: moments and float32 masters exist for nothing else.
//!
//! In: gathered gradients, one float32 vector per tensor. Out: updated weights. Invariants: entries outside the mask
//! are never written; on the active entries the arithmetic is that of dense AdamW on masked gradients, bit for bit.
//! Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), in the order of operations of torch's single-tensor
//! AdamW: decay first, moments, then `p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)`, to the last bit.
//! With `decay = "study"` the decay is multiplied by the bias-corrected step size, as the study's optimizer does.

use tch::{Kind, Tensor};

use crate::grpo::{Decay, OptimizerSpec};
use crate::sparsity::{Mask, same_model};

use super::{TorchError, Weights};

/// The active entries of one tensor.
#[derive(Debug)]
struct Active {
    /// Flat indices, int32; `None` when every entry is active.
    index: Option<Tensor>,
    /// Float32 values of the active entries. Shares storage with the weight when all are active and it is float32.
    master: Tensor,
    first: Tensor,
    second: Tensor,
    /// Values before training, in the weight's own type: what the run's distance from its base is measured from.
    base: Tensor,
}

/// The optimizer of a run.
#[derive(Debug)]
pub struct SparseAdamW {
    active: Vec<Active>,
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
        let mut active = Vec::with_capacity(weights.tensors.len());
        for (i, tensor) in weights.tensors.iter().enumerate() {
            let flat = tensor.f_detach()?.f_view([-1])?;
            let index = mask
                .map(|mask| -> Result<Tensor, TorchError> {
                    Ok(indices(&mask.indices()[i])?.f_to_device(tensor.device())?)
                })
                .transpose()?;
            let base = match &index {
                Some(index) => flat.f_index_select(0, index)?,
                None => flat.copy(),
            };
            let master = match &index {
                Some(_) => base.f_to_kind(Kind::Float)?.f_detach_copy()?,
                None => flat.f_to_kind(Kind::Float)?,
            };
            let (first, second) = (master.f_zeros_like()?, master.f_zeros_like()?);
            active.push(Active { index, master, first, second, base });
        }
        Ok(Self { active, spec: spec.clone(), steps: 0 })
    }

    /// The active entries of dense gradients, float32.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn gather(&self, gradients: &[Tensor]) -> Result<Vec<Tensor>, TorchError> {
        (0..gradients.len()).map(|i| self.gather_one(i, &gradients[i])).collect()
    }

    /// The active entries of the dense gradient of tensor `i`, float32; the gradient itself where all are active.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn gather_one(&self, i: usize, gradient: &Tensor) -> Result<Tensor, TorchError> {
        let flat = gradient.f_reshape([-1])?;
        let chosen = match &self.active[i].index {
            Some(index) => flat.f_index_select(0, index)?,
            None => flat,
        };
        Ok(chosen.f_to_kind(Kind::Float)?)
    }

    /// One step on gathered gradients, scaled by `scale` (the clip coefficient), at learning rate `lr`.
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
        for ((active, gradient), tensor) in self.active.iter_mut().zip(gathered).zip(&weights.tensors) {
            if active.master.numel() == 0 {
                continue;
            }
            // A coefficient of exactly one is the unclipped step; the product would be the same bits.
            let scaled = gradient.f_mul_scalar(scale)?;
            let _ = active.master.f_mul_scalar_(1.0 - decay)?;
            let _ = active.first.f_lerp_(&scaled, 1.0 - beta1)?;
            // torch's `addcmul` and `addcdiv` take the factor on their first operand, so it may be put there.
            let weighted = scaled.f_mul_scalar(1.0 - beta2)?;
            let _ = active.second.f_mul_scalar_(beta2)?.f_addcmul_(&weighted, &scaled)?;
            let mut denominator = active.second.f_sqrt()?;
            let _ = denominator.f_div_scalar_(second_root)?.f_add_scalar_(self.spec.eps)?;
            let update = active.first.f_mul_scalar(-step_size)?;
            let _ = active.master.f_addcdiv_(&update, &denominator)?;
            active.write(tensor)?;
        }
        Ok(())
    }

    /// Distance of the active entries from the base, against `total` parameters.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn movement(&self, total: usize) -> Result<Movement, TorchError> {
        let _guard = tch::no_grad_guard();
        let mut rows = Vec::with_capacity(self.active.len());
        for active in self.active.iter().filter(|active| active.master.numel() > 0) {
            let moved = active.master.f_sub(&active.base.f_to_kind(Kind::Float)?)?.f_abs_()?;
            let rounded = active
                .master
                .f_to_kind(Kind::BFloat16)?
                .f_ne_tensor(&active.base.f_to_kind(Kind::BFloat16)?)?;
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
        // All tensors' numbers in one transfer.
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
        // In full float32 training the master is the weight itself, so it is kept aside.
        let kept: Vec<Tensor> = self.active.iter().map(|active| active.master.copy()).collect();
        for (active, tensor) in self.active.iter().zip(&weights.tensors) {
            active.place(&active.base, tensor)?;
        }
        let result = body();
        for ((active, kept), tensor) in self.active.iter().zip(&kept).zip(&weights.tensors) {
            active.place(kept, tensor)?;
        }
        result
    }

    /// Values, first and second moments of tensor `i`, as float32 vectors.
    pub fn state(&self, i: usize) -> [&Tensor; 3] {
        let active = &self.active[i];
        [&active.master, &active.first, &active.second]
    }

    /// Puts saved state back, values written through to `weights`.
    ///
    /// # Errors
    /// When a length differs from the mask's.
    pub fn restore(&mut self, weights: &Weights, i: usize, state: &[Tensor; 3]) -> Result<(), TorchError> {
        let _guard = tch::no_grad_guard();
        let active = &mut self.active[i];
        for (own, saved) in [&mut active.master, &mut active.first, &mut active.second].into_iter().zip(state)
        {
            if own.size() != saved.size() {
                let (name, expected, got) = (&weights.parameters[i].name, own.numel(), saved.numel());
                return Err(TorchError::Restore {
                    what: format!("{name}: the mask has {expected} entries, the saved state {got}"),
                });
            }
            own.f_copy_(saved)?;
        }
        active.write(&weights.tensors[i])
    }
}

impl Active {
    /// Writes the masters to the weight.
    fn write(&self, tensor: &Tensor) -> Result<(), TorchError> {
        // Full float32: the master's storage is the weight's, nothing to copy.
        if self.index.is_none() && self.master.data_ptr() == tensor.data_ptr() {
            return Ok(());
        }
        self.place(&self.master, tensor)
    }

    /// Writes `values` to the active entries of the weight.
    fn place(&self, values: &Tensor, tensor: &Tensor) -> Result<(), TorchError> {
        let mut flat = tensor.f_detach()?.f_view([-1])?;
        let values = values.f_to_kind(tensor.kind())?;
        match &self.index {
            Some(index) if index.numel() > 0 => {
                // It takes no narrower index; this one is gone at once.
                let _ = flat.f_index_copy_(0, &index.f_to_kind(Kind::Int64)?, &values)?;
            }
            Some(_) => {}
            None => flat.f_copy_(&values)?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpo::{ClipDomain, Schedule};
    use crate::sparsity::{MaskRng, random};
    use crate::torch::weights::tests::tiny;
    use tch::Device;

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
        let (sparse, dense) =
            (Weights::fresh(&tiny(true), 1).unwrap(), Weights::fresh(&tiny(true), 1).unwrap());
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
                let reference =
                    if indices.binary_search(&(entry as u32)).is_ok() { &want[i] } else { &base[i] };
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
                let state = optimizer.state(i).map(Tensor::copy);
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
}
