//! Axes: from data to pixels, and where the ticks are.
//!
//! In: the data's range. Out: a [`Scale`] with ticks. Invariant: ticks are inside the domain, ascending, and their
//! labels are distinct.

use super::super::series::{percent, rate, trimmed};

/// Linear or logarithmic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Equal steps are equal differences.
    Linear,
    /// Equal steps are equal ratios.
    Log,
}

/// A tick: its value and its label (minor ticks have none).
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where.
    pub value: f64,
    /// What is written there.
    pub label: Option<String>,
}

/// A mapping from a domain to pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    percent: bool,
}

impl Scale {
    /// Maps `low..high` to the pixels `from..to`. A logarithmic domain must be positive.
    pub fn new(kind: Kind, (low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        Self { kind, low, high, from, to, percent: false }
    }

    /// The same with shares written as percentages.
    #[must_use]
    pub fn percent(self) -> Self {
        Self { percent: true, ..self }
    }

    /// The same domain on other pixels.
    #[must_use]
    pub fn onto(&self, from: f64, to: f64) -> Self {
        Self { from, to, ..self.clone() }
    }

    /// The pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Log => (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln()),
        };
        self.from + share.clamp(-0.05, 1.05) * (self.to - self.from)
    }

    /// The lower end of the domain.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// About `count` labelled ticks.
    pub fn ticks(&self, count: usize) -> Vec<Tick> {
        let mut ticks = match self.kind {
            Kind::Linear => linear_ticks(self.low, self.high, count),
            Kind::Log => log_ticks(self.low, self.high, count),
        };
        if self.percent {
            for tick in &mut ticks {
                tick.label = tick.label.take().map(|_| percent(tick.value));
            }
        }
        ticks
    }
}

/// The step of 1, 2 or 5 times a power of ten that cuts `span` into about `count` parts.
fn nice_step(span: f64, count: usize) -> f64 {
    let raw = span / count.max(1) as f64;
    let power = 10f64.powi(raw.log10().floor() as i32);
    let factor =
        [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= raw * 0.999).unwrap_or(10.0);
    factor * power
}

fn linear_ticks(low: f64, high: f64, count: usize) -> Vec<Tick> {
    let step = nice_step(high - low, count);
    let digits = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last)
        .map(|index| {
            let value = index as f64 * step;
            let label =
                if high.abs().max(low.abs()) >= 1e6 { rate(value) } else { format!("{value:.digits$}") };
            Tick { value, label: Some(label) }
        })
        .collect()
}

fn log_ticks(low: f64, high: f64, count: usize) -> Vec<Tick> {
    let inside = |value: f64| value >= low * (1.0 - 1e-9) && value <= high * (1.0 + 1e-9);
    let decades: Vec<i32> =
        ((low.log10() - 1e-9).floor() as i32..=(high.log10() + 1e-9).ceil() as i32).collect();
    let whole = decades.iter().filter(|&&decade| inside(10f64.powi(decade))).count();
    // Few decades: 1, 2 and 5 are labelled; many: every second, third ... decade.
    let labelled: &[u32] = match whole {
        0 | 1 => &[1, 2, 3, 5, 7],
        2 => &[1, 3],
        _ => &[1],
    };
    let every = whole.div_ceil(count.max(2)).max(1) as i32;
    let mut ticks = Vec::new();
    for decade in decades {
        for digit in 1..10u32 {
            // Parsed, so that 3e-4 is the float that a manifest's 3e-4 is.
            let value: f64 = format!("{digit}e{decade}").parse().unwrap_or_default();
            if inside(value) {
                let named = labelled.contains(&digit) && decade.rem_euclid(every) == 0;
                ticks.push(Tick { value, label: named.then(|| format!("{digit}e{decade}")) });
            }
        }
    }
    if whole > 8 {
        ticks.retain(|tick| tick.label.is_some());
    }
    ticks
}

/// The domain of a linear axis: padded, widened when all values are equal, and from zero when zero is near.
pub fn linear_domain(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = extent(values).unwrap_or((0.0, 1.0));
    let span = high - low;
    if span <= high.abs().max(low.abs()) * 1e-9 {
        let pad = if low == 0.0 { 0.5 } else { low.abs() * 0.25 };
        return (if low >= 0.0 { (low - pad).max(0.0) } else { low - pad }, high + pad);
    }
    let from = if low >= 0.0 && low < 0.6 * high { 0.0 } else { low - 0.06 * span };
    (from, high + 0.06 * (high - from))
}

/// The domain of a logarithmic axis: the positive values, padded by a share of their span in decades.
pub fn log_domain(values: impl Iterator<Item = f64>, pad: f64) -> Option<(f64, f64)> {
    let (low, high) = extent(values.filter(|value| *value > 0.0))?;
    let decades = (high / low).log10();
    let margin = 10f64.powf((decades * pad).max(0.3));
    Some((low / margin, high * margin))
}

/// The least and the greatest finite value.
pub fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// A number for a reader: three significant digits.
pub fn short(value: f64) -> String {
    if value == 0.0 || (0.001..1000.0).contains(&value.abs()) {
        let digits = 2 - value.abs().max(1e-3).log10().floor() as i32;
        trimmed(value, digits.clamp(0, 5) as usize)
    } else {
        rate(value)
    }
}

/// Moves labels apart: the nearest positions to `wanted` with at least `gap` between neighbours, inside `low..high`
/// where they fit. The order is kept.
pub fn spread(wanted: &[f64], gap: f64, (low, high): (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Labels that collide become one block, centred on the mean of what its members want.
    let mut blocks: Vec<(Vec<usize>, f64)> = Vec::new();
    let start = |members: usize, centre: f64| {
        let extent = (members - 1) as f64 * gap;
        (centre - extent / 2.0).min(high - extent).max(low)
    };
    for index in order {
        blocks.push((vec![index], wanted[index]));
        while let [.., (above, upper), (below, lower)] = &blocks[..] {
            let end = start(above.len(), *upper) + (above.len() - 1) as f64 * gap;
            if start(below.len(), *lower) >= end + gap {
                break;
            }
            let weight = (above.len() as f64, below.len() as f64);
            let centre = (upper * weight.0 + lower * weight.1) / (weight.0 + weight.1);
            let members = [above.as_slice(), below.as_slice()].concat();
            blocks.truncate(blocks.len() - 2);
            blocks.push((members, centre));
        }
    }
    let mut placed = vec![0.0; wanted.len()];
    for (members, centre) in blocks {
        let first = start(members.len(), centre);
        for (rank, index) in members.into_iter().enumerate() {
            placed[index] = first + rank as f64 * gap;
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().filter_map(|tick| tick.label.as_deref()).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(labels(&linear_ticks(0.0, 0.47, 5)), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(labels(&linear_ticks(0.0, 150.0, 3)), ["0", "50", "100", "150"]);
        assert_eq!(labels(&linear_ticks(-1.0, 1.0, 4)), ["-1.0", "-0.5", "0.0", "0.5", "1.0"]);
    }

    #[test]
    fn log_ticks_name_decades_and_fewer_when_there_are_many() {
        assert_eq!(labels(&log_ticks(5e-5, 2e-2, 6)), ["1e-4", "1e-3", "1e-2"]);
        assert_eq!(labels(&log_ticks(5e-4, 5e-3, 6)), ["5e-4", "7e-4", "1e-3", "2e-3", "3e-3", "5e-3"]);
        assert_eq!(labels(&log_ticks(1e-12, 1.0, 6)).len(), 5);
    }

    #[test]
    fn domains_hold_degenerate_data() {
        assert_eq!(linear_domain([0.4, 0.4].into_iter()), (0.300_000_000_000_000_04, 0.5));
        assert_eq!(linear_domain([0.0].into_iter()), (0.0, 0.5));
        assert_eq!(linear_domain(std::iter::empty()), (0.0, 1.06));
        assert_eq!(log_domain([0.0, -1.0].into_iter(), 0.1), None);
    }

    #[test]
    fn labels_are_moved_apart_and_kept_inside() {
        assert_eq!(spread(&[10.0, 50.0], 10.0, (0.0, 100.0)), [10.0, 50.0]);
        // 20 and 22 collide: centre 21, so 16 and 26.
        assert_eq!(spread(&[22.0, 20.0], 10.0, (0.0, 100.0)), [26.0, 16.0]);
        assert_eq!(spread(&[99.0, 100.0, 98.0], 10.0, (0.0, 100.0)), [90.0, 100.0, 80.0]);
        assert!(spread(&[], 10.0, (0.0, 1.0)).is_empty());
    }
}
