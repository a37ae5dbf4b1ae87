//! The matrix of mask overlaps.
//!
//! The colour is the ratio to chance, on a logarithmic scale with white at chance: the diagonal is 1 by definition and
//! would swallow any scale of the values themselves.

use super::super::masks::Overlap;
use super::super::result::ResultSet;
use super::draw::{Color, Drawing, Point, Type};
use super::font;
use super::scale::short;
use super::theme::{AXIS, INK, MUTED, PAPER, SMALL, heading};
use crate::sparsity::Chance;

const MORE: Color = Color(0xb3, 0x58, 0x06);
const LESS: Color = Color(0x54, 0x27, 0x88);
const SELF: Color = Color(0xdf, 0xe2, 0xe6);

/// Draws the figure; `None` when there is no pair of masks.
pub fn draw(set: &ResultSet) -> Option<Drawing> {
    let mut names: Vec<&str> = Vec::new();
    for name in set.overlaps.iter().flat_map(|pair| [&pair.a, &pair.b]) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if names.len() < 2 {
        return None;
    }
    let pair = |a: &str, b: &str| {
        set.overlaps.iter().find(|pair| (pair.a == a && pair.b == b) || (pair.a == b && pair.b == a))
    };
    let count = names.len() as f64;
    let cell = (560.0 / count).clamp(18.0, 104.0);
    let label_width = names.iter().map(|name| font::width(name, SMALL, false)).fold(0.0, f64::max) + 12.0;
    let turned = names.iter().any(|name| font::width(name, SMALL, false) > cell - 6.0);
    let matrix = cell * count;
    let (left, right) = (16.0 + label_width, 122.0);
    let width = (left + matrix + right).max(560.0);
    let mut drawing = Drawing::new(width.ceil() as u32, 10, String::new());
    let top =
        heading(&mut drawing, "Overlap of the masks (Jaccard index)", &subtitle(set), set.mark().as_deref());
    let top = if turned { top + label_width } else { top + 18.0 };
    let reach = reach(&set.overlaps);
    for (row, a) in names.iter().enumerate() {
        let y = top + row as f64 * cell;
        let style = Type::new(SMALL, INK);
        drawing.text((left - 8.0, y + cell / 2.0 + SMALL * 0.36), *a, style.end());
        let x = left + row as f64 * cell + cell / 2.0;
        if turned {
            drawing.text((x + SMALL * 0.36, top - 7.0), *a, style.upright());
        } else {
            drawing.text((x, top - 7.0), *a, style.middle());
        }
        for (column, b) in names.iter().enumerate() {
            let at = (left + column as f64 * cell, y);
            if row == column {
                drawing.rect(at, (cell, cell), SELF);
                if cell >= 26.0 {
                    number(&mut drawing, at, cell, "1", None, MUTED);
                }
            } else if let Some(pair) = pair(a, b) {
                let fill = color(ratio(pair), reach);
                drawing.rect(at, (cell, cell), fill);
                let ink = if fill.luminance() < 0.55 { PAPER } else { INK };
                let times = (cell >= 62.0).then(|| format!("{:.2} × chance", ratio(pair)));
                if cell >= 40.0 {
                    number(&mut drawing, at, cell, &value(pair, short4), times.as_deref(), ink);
                } else if cell >= 30.0 {
                    number(&mut drawing, at, cell, &value(pair, short), None, ink);
                }
            }
        }
    }
    for line in 0..=names.len() {
        let offset = line as f64 * cell;
        drawing.line(vec![(left, top + offset), (left + matrix, top + offset)], 1.0, PAPER);
        drawing.line(vec![(left + offset, top), (left + offset, top + matrix)], 1.0, PAPER);
    }
    bar(&mut drawing, (left + matrix + 24.0, top), matrix.min(240.0), reach);
    drawing.height = (top + matrix.max(190.0) + 22.0) as u32;
    drawing.alt = format!("Matrix of the Jaccard indices of {} masks. {}", names.len(), subtitle(set));
    Some(drawing)
}

fn number(drawing: &mut Drawing, at: Point, cell: f64, text: &str, below: Option<&str>, ink: Color) {
    let size = (cell / font::width(text, 1.0, false) * 0.8).min(13.0);
    let middle = at.0 + cell / 2.0;
    let y = at.1 + cell / 2.0 + if below.is_some() { -2.0 } else { size * 0.36 };
    drawing.text((middle, y), text, Type::new(size, ink).middle());
    if let Some(below) = below {
        let size = (cell / font::width(below, 1.0, false) * 0.86).min(10.5);
        drawing.text((middle, y + 15.0), below, Type::new(size, ink).middle());
    }
}

/// Four significant digits, plainly.
fn short4(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (3 - value.abs().log10().floor() as i32).clamp(0, 8) as usize;
    format!("{value:.digits$}")
}

/// The Jaccard index as text; two empty masks have none.
fn value(pair: &Overlap, text: fn(f64) -> String) -> String {
    pair.jaccard.map_or_else(|| "–".to_owned(), text)
}

fn ratio(pair: &Overlap) -> f64 {
    pair.ratio().unwrap_or(1.0)
}

/// The ratio at which the colours end: the largest distance from chance, at least 2 and at most 100.
fn reach(overlaps: &[Overlap]) -> f64 {
    let distance = |pair: &Overlap| {
        let ratio = ratio(pair);
        if ratio > 0.0 { ratio.max(1.0 / ratio) } else { 1.0 }
    };
    let largest = overlaps.iter().map(distance).fold(2.0, f64::max);
    [2.0, 5.0, 10.0, 20.0, 50.0, 100.0].into_iter().find(|reach| largest <= *reach).unwrap_or(100.0)
}

fn color(ratio: f64, reach: f64) -> Color {
    let share = if ratio > 0.0 { (ratio.ln() / reach.ln()).clamp(-1.0, 1.0) } else { -1.0 };
    PAPER
        .mix(if share > 0.0 { MORE } else { LESS }, share.abs())
        .mix(Color(0xee, 0xf0, 0xf2), 0.35 * (1.0 - share.abs()))
}

/// The key of the colours.
fn bar(drawing: &mut Drawing, (x, y): Point, height: f64, reach: f64) {
    let steps = 48;
    let each = height / f64::from(steps);
    for step in 0..steps {
        let share = 1.0 - 2.0 * (f64::from(step) + 0.5) / f64::from(steps);
        drawing.rect((x, y + f64::from(step) * each), (14.0, each + 0.3), color(reach.powf(share), reach));
    }
    let frame = [(0.0, 0.0), (14.0, 0.0), (14.0, height), (0.0, height), (0.0, 0.0)];
    drawing.line(frame.iter().map(|(dx, dy)| (x + dx, y + dy)).collect(), 0.75, AXIS);
    let style = Type::new(SMALL, MUTED);
    for (share, label) in
        [(0.0, format!("{reach} × chance")), (0.5, "chance".to_owned()), (1.0, format!("chance / {reach}"))]
    {
        drawing.line(vec![(x + 14.0, y + share * height), (x + 18.0, y + share * height)], 1.0, AXIS);
        drawing.text((x + 22.0, y + share * height + SMALL * 0.36), label, style);
    }
}

/// What chance is, in words.
pub fn subtitle(set: &ResultSet) -> String {
    let chances: Vec<f64> = set.overlaps.iter().filter_map(|pair| pair.chance).collect();
    let (low, high) =
        chances.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &c| (low.min(c), high.max(c)));
    let densities: Vec<f64> = set
        .overlaps
        .iter()
        .flat_map(|pair| [(pair.count_a, pair.total), (pair.count_b, pair.total)])
        .map(|(count, total)| count as f64 / total.max(1) as f64)
        .collect();
    let (p, q) = densities.iter().fold((f64::INFINITY, 0.0f64), |(p, q), &d| (p.min(d), q.max(d)));
    // Floors per tensor make densities differ a little; that is still one density to a reader.
    if q - p <= 0.02 * q {
        let spread = set
            .overlaps
            .first()
            .and_then(chance_spread)
            .map_or_else(String::new, |spread| format!(", ± {} % (1 s.d.)", short(100.0 * spread)));
        format!(
            "Chance value of two independent masks: p/(2 − p) = {}{spread} at density p = {}. Colour: ratio to chance.",
            short4(low.midpoint(high)),
            short(p.midpoint(q))
        )
    } else {
        format!(
            "Chance value of two independent masks of densities p and q: pq/(p + q − pq), here {} to {}. \
             Colour: ratio to chance.",
            short4(low),
            short4(high)
        )
    }
}

/// The relative standard deviation of the intersection of two independent masks.
fn chance_spread(pair: &Overlap) -> Option<f64> {
    let Chance { mean, variance } = Chance::of_counts(pair.count_a, pair.count_b, pair.total);
    (variance > 0.0).then(|| variance.sqrt() / mean)
}
