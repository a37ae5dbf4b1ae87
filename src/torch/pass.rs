//! One list of new tokens through the model, over a cache: what is drawn from, for every row.
//!
//! Shape legend: n new tokens, b rows, v vocabulary.

use tch::{Kind, Tensor};

use crate::grpo::SamplingSpec;

use super::attention::{Cache, OverCache};
use super::foreign::CudaGraph;
use super::kernels::decoder::{Draw, Space, suits};
use super::layer::Turned;
use super::list::List;
use super::model::{Room, Scratch};
use super::recorder::Recorder;
use super::sampler::{LARGEST_UNIFORM, draw_at, is_plain};
use super::{Model, TorchError};

/// Tokens that a GPU draws between two looks of the host.
const AHEAD: usize = 16;
/// Steps for which recording one is worth its while, at a guess.
const WORTH_A_GRAPH: i64 = 6;

/// What passes go through.
#[derive(Debug)]
pub struct Pass<'a> {
    model: &'a Model,
    pub recorder: Option<Recorder>,
    scratch: Option<Scratch>,
    space: Space,
    /// Logits of the last pass that drew at once.
    drawn_from: Option<Tensor>,
}

/// Tokens and logprobs, by time, then by row.
pub type Drawn = (Vec<i64>, Vec<f32>);

impl<'a> Pass<'a> {
    pub fn new(model: &'a Model, recorder: Option<Recorder>) -> Self {
        Self { model, recorder, scratch: None, space: Space::default(), drawn_from: None }
    }

    /// How many tokens are drawn before the host looks: one on the CPU, where looking costs nothing.
    pub fn ahead(&self) -> usize {
        if self.model.device().is_cuda() { AHEAD } else { 1 }
    }

    /// Draws after the last new token of every row, at the uniforms by time, then by row; see [`Pass::draw`].
    ///
    /// # Errors
    /// When memory runs out, or a position is beyond the model's.
    pub fn next(
        &mut self,
        cache: &mut Cache,
        list: &List,
        uniforms: &[f64],
        seen: Option<&Tensor>,
        sampling: &SamplingSpec,
    ) -> Result<Drawn, TorchError> {
        let rows = list.slot.len();
        if uniforms.len() != rows || !is_plain(sampling) || !self.at_once(list) || !suits(rows, rows as i64) {
            let logits = self.logits(cache, list)?;
            return self.draw(cache, list, logits, uniforms, seen, sampling);
        }
        let uniforms: Vec<f64> = uniforms.iter().map(|uniform| uniform.min(LARGEST_UNIFORM)).collect();
        let (mut tokens, mut logprobs) = (vec![0; rows], vec![0.0; rows]);
        let size = [rows as i64, self.model.weights.tensors[self.model.head()].size()[0]];
        let logits = match self.drawn_from.take().filter(|logits| logits.size() == size) {
            Some(logits) => logits,
            None => Tensor::f_empty(size, (Kind::Float, self.model.device()))?,
        };
        let draw = Draw {
            temperature: sampling.temperature,
            uniforms: &uniforms,
            tokens: &mut tokens,
            logprobs: &mut logprobs,
        };
        let from = self.note(list);
        self.decode(cache, list, from, Some((&logits, draw)))?;
        self.drawn_from = Some(logits);
        Ok((tokens, logprobs))
    }

    /// Logits after the last new token of every row, `[b, v]`.
    ///
    /// # Errors
    /// When memory runs out, or a position is beyond the model's.
    pub fn logits(&mut self, cache: &mut Cache, list: &List) -> Result<Tensor, TorchError> {
        let model = self.model;
        let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(model.device());
        let (from, n) = (self.note(list), list.tokens.len() as i64);
        let x = if self.at_once(list) {
            self.decode(cache, list, from, None)?;
            self.room(n)?.input(model.architecture().layers).f_narrow(0, from, n)?
        } else {
            let (tokens, positions) = (whole(&list.tokens)?, whole(&list.positions)?);
            let tables = model.rotary.tables(list.rows().longest())?;
            let turned = Turned { positions: &positions, tables: (&tables.0, &tables.1) };
            let (slot, before, start) = (list.slot.clone(), list.before.clone(), list.start.clone());
            let mut over = OverCache::new(model, cache, slot, before, start, 0)?;
            model.run(&tokens, turned, &mut over, self.room(n)?, from)?
        };
        if list.slot.len() == list.tokens.len() {
            return model.logits(&x);
        }
        let ends: Vec<i64> = list.start.iter().skip(1).map(|end| end - 1).collect();
        model.logits(&x.f_index_select(0, &whole(&ends)?)?)
    }

    /// Whether one call of `decode.rs` takes a list.
    fn at_once(&self, list: &List) -> bool {
        self.model.ops.fused && suits(list.slot.len(), list.tokens.len() as i64)
    }

    /// Notes a list where what is computed is kept; its place there.
    fn note(&mut self, list: &List) -> i64 {
        if self.recorder.as_ref().is_some_and(|recorder| !recorder.has_room(list.tokens.len())) {
            self.recorder = None;
        }
        let noted =
            self.recorder.as_mut().map(|recorder| recorder.note(&list.tokens, &list.positions, &list.owners));
        noted.unwrap_or(0)
    }

    fn decode(
        &mut self,
        cache: &Cache,
        list: &List,
        from: i64,
        draw: Option<(&Tensor, Draw<'_>)>,
    ) -> Result<(), TorchError> {
        let (model, mut space) = (self.model, std::mem::take(&mut self.space));
        let room = self.room(list.tokens.len() as i64)?;
        model.decode(cache, (list.rows(), &list.tokens), (room, from), draw, &mut space)?;
        self.space = space;
        Ok(())
    }

    /// Where a pass over `n` tokens puts what it computes.
    fn room(&mut self, n: i64) -> Result<Room<'_>, TorchError> {
        if let Some(recorder) = &self.recorder {
            return Ok(recorder.room());
        }
        let scratch = match self.scratch.take().filter(|scratch| scratch.len() >= n) {
            Some(scratch) => scratch,
            None => Scratch::new(self.model, n)?,
        };
        Ok(Room::Passing(self.scratch.insert(scratch)))
    }

    /// Draws from `logits` at the uniforms by time, then by row, with nothing asked of the device in between. The rows' new tokens are in
    /// the cache. Where a logit is not finite, no more is the logprob.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn draw(
        &mut self,
        cache: &mut Cache,
        list: &List,
        logits: Tensor,
        uniforms: &[f64],
        seen: Option<&Tensor>,
        sampling: &SamplingSpec,
    ) -> Result<Drawn, TorchError> {
        let model = self.model;
        let uniform_tb = Tensor::f_from_slice(uniforms)?
            .f_view([-1, list.slot.len() as i64])?
            .f_to_device(model.device())?;
        let times = uniform_tb.size()[0];
        let sampler = Sampler { seen, sampling };
        let first = sampler.draw(model, &logits, &uniform_tb.f_get(0)?)?;
        if times == 1 {
            return Ok((Vec::try_from(&first.0)?, Vec::try_from(&first.1)?));
        }
        drop(logits);
        let mut going = Going::new(model, cache, list, first, times)?;
        let (mut tokens, mut logprobs) =
            (vec![going.token_b.f_detach_copy()?], vec![going.logprob_b.f_detach_copy()?]);
        let mut graph = None;
        for time in 1..times {
            going.uniform_b.f_copy_(&uniform_tb.f_get(time)?)?;
            match &graph {
                Some(_) => {}
                // The first step is not like the others; the second has made what they need.
                None if model.graphs && time > 2 && times - time >= WORTH_A_GRAPH => {
                    let room = self.room(going.token_b.size()[0])?;
                    graph = Some(CudaGraph::record(|| going.step(model, room, &sampler, false))?);
                }
                None => {
                    let room = self.room(going.token_b.size()[0])?;
                    going.step(model, room, &sampler, time == 1)?;
                }
            }
            if let Some(graph) = &graph {
                graph.replay()?;
            }
            tokens.push(going.token_b.f_detach_copy()?);
            logprobs.push(going.logprob_b.f_detach_copy()?);
        }
        let flat = |list: &[Tensor]| -> Result<Tensor, TorchError> { Ok(Tensor::f_cat(list, 0)?) };
        Ok((Vec::<i64>::try_from(&flat(&tokens)?)?, Vec::<f32>::try_from(&flat(&logprobs)?)?))
    }
}

/// How tokens are drawn.
struct Sampler<'a> {
    /// Tokens that a row has had, bool `[b, v]`, where that counts.
    seen: Option<&'a Tensor>,
    sampling: &'a SamplingSpec,
}

impl Sampler<'_> {
    fn draw(
        &self,
        model: &Model,
        logits: &Tensor,
        uniform_b: &Tensor,
    ) -> Result<(Tensor, Tensor), TorchError> {
        draw_at(model.ops, logits, uniform_b, self.seen, self.sampling)
    }
}

/// Rows of one token that go on by themselves. What a step takes from the one before lies where it lay then, so that a recorded step
/// is every step.
struct Going<'c> {
    over: OverCache<'c>,
    tables: (Tensor, Tensor),
    /// `[b]` each: the last token and its logprob, the uniform of the next, the place of the last.
    token_b: Tensor,
    logprob_b: Tensor,
    uniform_b: Tensor,
    position_b: Tensor,
}

impl<'c> Going<'c> {
    /// Behind a first drawn token, for `times` in all.
    fn new(
        model: &Model,
        cache: &'c mut Cache,
        list: &List,
        (token_b, logprob_b): (Tensor, Tensor),
        times: i64,
    ) -> Result<Self, TorchError> {
        let rows = list.slot.len() as i64;
        let (slot, before, start) = (list.slot.clone(), list.behind(), (0..=rows).collect());
        let longest = before.iter().max().map_or(0, |last| last + times);
        let position_b = Tensor::f_from_slice(&before)?.f_to_device(model.device())?;
        Ok(Self {
            over: OverCache::new(model, cache, slot, before, start, times - 2)?,
            tables: model.rotary.tables(longest.min(model.architecture().max_positions as i64))?,
            token_b: token_b.f_contiguous()?,
            logprob_b: logprob_b.f_contiguous()?,
            uniform_b: Tensor::f_zeros([rows], (Kind::Double, model.device()))?,
            position_b,
        })
    }

    /// Passes the last token through the model and draws the next.
    fn step(
        &mut self,
        model: &Model,
        room: Room<'_>,
        sampler: &Sampler<'_>,
        first: bool,
    ) -> Result<(), TorchError> {
        if !first {
            self.over.advance()?;
            let _ = self.position_b.f_add_scalar_(1)?;
        }
        if let Some(seen) = sampler.seen {
            let _ = seen.shallow_clone().f_scatter_value_(1, &self.token_b.f_unsqueeze(1)?, 1)?;
        }
        let turned = Turned { positions: &self.position_b, tables: (&self.tables.0, &self.tables.1) };
        let x = model.run(&self.token_b, turned, &mut self.over, room, 0)?;
        let logits = model.logits(&x)?;
        let (token_b, logprob_b) = sampler.draw(model, &logits, &self.uniform_b)?;
        self.token_b.f_copy_(&token_b)?;
        self.logprob_b.f_copy_(&logprob_b)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::Weights;
    use crate::torch::recorder::Owner;
    use crate::torch::weights::tests::tiny;

    const SAMPLING: SamplingSpec = SamplingSpec {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.3,
        max_tokens: 6,
    };

    #[test]
    fn tokens_drawn_in_a_row_are_those_drawn_one_by_one() {
        // What a GPU does between two looks of the host, by the step that a graph records, on the CPU.
        let mut weights = Weights::fresh(&tiny(true), 5).unwrap();
        weights.tensors.iter_mut().for_each(|tensor| *tensor = &*tensor * 20.0);
        let model = Model::new(weights).unwrap().unfused();
        let prompts = [vec![1i64, 2, 3], vec![4]];
        let uniform_tb = [0.9, 0.1, 0.3, 0.7, 0.2, 0.95, 0.55, 0.45];
        let begin = |pass: &mut Pass<'_>, cache: &mut Cache| {
            let mut list = List::default();
            for (row, prompt) in prompts.iter().enumerate() {
                list.push(Owner::Row(row), row, 0, prompt.iter().copied());
            }
            let seen = Tensor::zeros([2, 40], (Kind::Bool, tch::Device::Cpu));
            list.mark(&seen).unwrap();
            (pass.logits(cache, &list).unwrap(), seen, list)
        };
        let at = |time: usize, tokens: &[i64]| {
            let mut list = List::default();
            for (row, prompt) in prompts.iter().enumerate() {
                list.push(Owner::Row(row), row, prompt.len() + time, [tokens[row]]);
            }
            list
        };
        let _guard = tch::no_grad_guard();
        let (mut pass, mut cache) = (Pass::new(&model, None), Cache::new(&model, 2, 32).unwrap());
        let (logits, seen, list) = begin(&mut pass, &mut cache);
        let (tokens, logprobs) =
            pass.draw(&mut cache, &list, logits, &uniform_tb, Some(&seen), &SAMPLING).unwrap();

        let mut cache = Cache::new(&model, 2, 32).unwrap();
        let (mut logits, seen, mut list) = begin(&mut pass, &mut cache);
        for time in 0..4 {
            let uniform = &uniform_tb[2 * time..2 * time + 2];
            let (one, logprob) =
                pass.draw(&mut cache, &list, logits, uniform, Some(&seen), &SAMPLING).unwrap();
            assert_eq!(one, tokens[2 * time..2 * time + 2], "time {time}");
            for (a, b) in logprob.iter().zip(&logprobs[2 * time..]) {
                assert!((a - b).abs() < 1e-4, "time {time}: {a} {b}");
            }
            list = at(time, &one);
            list.mark(&seen).unwrap();
            logits = pass.logits(&mut cache, &list).unwrap();
        }
        assert_ne!(tokens[..2], tokens[2..4]);
    }
}
