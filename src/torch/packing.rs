//! Sequences as one list of tokens without padding, where those that begin alike share their beginning.
//!
//! In: rollouts, or the order in which a rollout phase fed tokens to the model. Out: tokens, positions, and which token of the
//! list each token of a sequence is.
//!
//! Shape legend: n tokens of the list.

use tch::{Device, Kind, Tensor};

use super::TorchError;
use super::kernels::Lists;
use super::rollout::Rollout;

/// Groups of sequences: a beginning that all of a group share, then each sequence's own tokens, as indices into a list.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    shared: Vec<i32>,
    shared_start: Vec<i32>,
    sequence_start: Vec<i32>,
    own: Vec<i32>,
    own_start: Vec<i32>,
    group_of: Vec<usize>,
}

impl Sequences {
    /// No group yet.
    pub fn new() -> Self {
        Self { shared_start: vec![0], sequence_start: vec![0], own_start: vec![0], ..Self::default() }
    }

    /// Begins a group with the places of its shared tokens.
    pub fn begin(&mut self, shared: impl IntoIterator<Item = i32>) {
        self.shared.extend(shared);
        self.shared_start.push(self.shared.len() as i32);
        self.sequence_start.push(self.group_of.len() as i32);
    }

    /// Adds a sequence to the last group, with the places of its own tokens.
    pub fn push(&mut self, own: impl IntoIterator<Item = i32>) {
        self.own.extend(own);
        self.own_start.push(self.own.len() as i32);
        self.group_of.push(self.shared_start.len() - 2);
        if let Some(end) = self.sequence_start.last_mut() {
            *end += 1;
        }
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.group_of.len()
    }

    /// Tokens that a sequence shares with its group.
    fn shared_of(&self, sequence: usize) -> &[i32] {
        let group = self.group_of[sequence];
        &self.shared[self.shared_start[group] as usize..self.shared_start[group + 1] as usize]
    }

    fn own_of(&self, sequence: usize) -> &[i32] {
        &self.own[self.own_start[sequence] as usize..self.own_start[sequence + 1] as usize]
    }

    /// The place of token `t` of a sequence; `None` beyond its end.
    pub fn place(&self, sequence: usize, t: usize) -> Option<i32> {
        let shared = self.shared_of(sequence);
        shared.get(t).or_else(|| self.own_of(sequence).get(t - shared.len())).copied()
    }

    /// The longest sequence.
    pub fn longest(&self) -> usize {
        let length = |sequence| self.shared_of(sequence).len() + self.own_of(sequence).len();
        (0..self.len()).map(length).max().unwrap_or(0)
    }

    /// As the kernels take it.
    pub fn lists(&self) -> Lists<'_> {
        Lists {
            shared: &self.shared,
            shared_start: &self.shared_start,
            sequence_start: &self.sequence_start,
            own: &self.own,
            own_start: &self.own_start,
        }
    }

    /// Some of the sequences, and the places of the tokens that they need, rising: what they are counted in from then on.
    pub fn part(&self, chosen: &[usize]) -> (Self, Vec<i64>) {
        let mut needed: Vec<i32> = chosen
            .iter()
            .flat_map(|&sequence| self.shared_of(sequence).iter().chain(self.own_of(sequence)))
            .copied()
            .collect();
        needed.sort_unstable();
        needed.dedup();
        let renamed = |place: &i32| needed.binary_search(place).unwrap_or(0) as i32;
        let (mut part, mut group) = (Self::new(), None);
        for &sequence in chosen {
            if group != Some(self.group_of[sequence]) {
                part.begin(self.shared_of(sequence).iter().map(renamed));
                group = Some(self.group_of[sequence]);
            }
            part.push(self.own_of(sequence).iter().map(renamed));
        }
        (part, needed.into_iter().map(i64::from).collect())
    }

    /// Every sequence in a row of equal length: see [`Padded`].
    pub fn padded(&self, n: i64, device: Device) -> Result<Padded, TorchError> {
        let (rows, longest) = (self.len(), self.longest());
        let mut from = vec![n; rows * longest];
        let mut asked = vec![n; rows * longest];
        let mut back = vec![0i64; n as usize];
        let (mut extra_place, mut extra_token) = (Vec::new(), Vec::new());
        for sequence in 0..rows {
            let first = sequence as i32 == self.sequence_start[self.group_of[sequence]];
            let shared = self.shared_of(sequence);
            for (t, &place) in shared.iter().chain(self.own_of(sequence)).enumerate() {
                let at = sequence * longest + t;
                from[at] = i64::from(place);
                if first || t >= shared.len() {
                    asked[at] = i64::from(place);
                    back[place as usize] = at as i64;
                } else {
                    extra_place.push(at as i64);
                    extra_token.push(i64::from(place));
                }
            }
        }
        let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        Ok(Padded {
            rows: rows as i64,
            longest: longest as i64,
            from: whole(&from)?,
            asked: whole(&asked)?,
            back: whole(&back)?,
            extra: (whole(&extra_place)?, whole(&extra_token)?),
        })
    }
}

/// Maps between the list and rows of equal length, for attention as libtorch has it.
#[derive(Debug)]
pub struct Padded {
    pub rows: i64,
    pub longest: i64,
    /// The token at each place; n, a row of zeros after the last token, where there is none.
    from: Tensor,
    /// The same where the place's query counts: a shared token's does in the first sequence of its group.
    asked: Tensor,
    /// The place of each token.
    back: Tensor,
    /// Further places of shared tokens, and whose they are.
    extra: (Tensor, Tensor),
}

impl Padded {
    /// Rows of equal length, `[rows, longest, width]`.
    pub fn spread(&self, list: &Tensor, only_asked: bool) -> Result<Tensor, TorchError> {
        let width = list.size()[1];
        let zeros = Tensor::f_zeros([1, width], (list.kind(), list.device()))?;
        let index = if only_asked { &self.asked } else { &self.from };
        Ok(Tensor::f_cat(&[list, &zeros], 0)?.f_index_select(0, index)?.f_view([
            self.rows,
            self.longest,
            width,
        ])?)
    }

    /// Back to the list, `[n, width]`; with `sum`, what shared tokens got in every sequence is added up.
    pub fn gather(&self, rows: &Tensor, sum: bool) -> Result<Tensor, TorchError> {
        let flat = rows.f_reshape([self.rows * self.longest, -1])?;
        let mut list = flat.f_index_select(0, &self.back)?;
        if sum && self.extra.0.numel() > 0 {
            let more = flat.f_index_select(0, &self.extra.0)?;
            let _ = list.f_index_add_(0, &self.extra.1, &more)?;
        }
        Ok(list)
    }
}

/// Tokens in a list with their positions, and the sequences that they make.
#[derive(Debug)]
pub struct Feed {
    /// int64 `[n]`.
    pub tokens_n: Tensor,
    /// int64 `[n]`.
    pub positions_n: Tensor,
    pub sequences: Sequences,
}

impl Feed {
    /// The tokens of rollouts up to the last that something is drawn after. Neighbours with the same opening share it.
    ///
    /// # Errors
    /// When a conversation begins with a drawn token, or a token is not in the vocabulary.
    pub fn of(rollouts: &[&Rollout], vocabulary: usize, device: Device) -> Result<Self, TorchError> {
        let (mut tokens, mut positions) = (Vec::new(), Vec::new());
        let mut sequences = Sequences::new();
        let mut opening: Option<&[u32]> = None;
        for rollout in rollouts {
            let first = rollout.drawn.iter().position(|&drawn| drawn).unwrap_or(rollout.tokens.len());
            let last = rollout.drawn.iter().rposition(|&drawn| drawn).unwrap_or(first);
            if first == 0 {
                return Err(TorchError::NoContext);
            }
            let mut add = |part: &[u32], from: usize| {
                let begin = tokens.len() as i32;
                tokens.extend(part.iter().map(|&token| i64::from(token)));
                positions.extend((from..from + part.len()).map(|position| position as i64));
                begin..tokens.len() as i32
            };
            if opening != Some(&rollout.tokens[..first]) {
                opening = Some(&rollout.tokens[..first]);
                sequences.begin(add(&rollout.tokens[..first], 0));
            }
            sequences.push(add(&rollout.tokens[first..last.max(first)], first));
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(TorchError::NoSuchToken { token: token as u32, vocabulary });
        }
        let whole = |values: &[i64]| Tensor::f_from_slice(values)?.f_to_device(device);
        Ok(Self { tokens_n: whole(&tokens)?, positions_n: whole(&positions)?, sequences })
    }

    /// The length of the list.
    pub fn len(&self) -> i64 {
        self.tokens_n.size()[0]
    }
}

/// An empty tensor of rows.
pub(super) fn rows(count: i64, width: i64, kind: Kind, device: Device) -> Result<Tensor, TorchError> {
    Ok(Tensor::f_empty([count, width], (kind, device))?)
}
