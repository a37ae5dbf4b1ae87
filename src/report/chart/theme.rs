//! Colours, sizes and the frame that every panel has.
//!
//! Colours are those of Okabe and Ito, which stay apart for colour-blind readers; markers and dashes say the same again.

use super::super::series::Family;
use super::draw::{Color, Drawing, Point, Type};
use super::scale::Scale;

/// Text.
pub const INK: Color = Color(0x22, 0x26, 0x2b);
/// Secondary text.
pub const MUTED: Color = Color(0x5f, 0x66, 0x6e);
/// Axes.
pub const AXIS: Color = Color(0x8a, 0x91, 0x99);
/// Grid lines.
pub const GRID: Color = Color(0xe6, 0xe8, 0xeb);
/// Curves shown for comparison.
pub const GHOST: Color = Color(0xb9, 0xbe, 0xc4);
/// The page.
pub const PAPER: Color = Color(0xff, 0xff, 0xff);
/// What calls for attention: a partial grid.
pub const ALERT: Color = Color(0xb0, 0x3a, 0x12);

/// Size of tick labels and other small text.
pub const SMALL: f64 = 11.5;
/// Size of axis titles and labels.
pub const NORMAL: f64 = 12.5;
/// Size of titles.
pub const TITLE: f64 = 16.0;

const BLUE: Color = Color(0x00, 0x72, 0xb2);
const VERMILLION: Color = Color(0xd5, 0x5e, 0x00);
const GREEN: Color = Color(0x00, 0x9e, 0x73);
const PURPLE: Color = Color(0xb8, 0x5c, 0x93);
const OTHERS: [Color; 5] = [
    Color(0xd0, 0x8f, 0x00),
    Color(0x3a, 0x9f, 0xd6),
    Color(0x7a, 0x52, 0x30),
    Color(0x6b, 0x6e, 0xcf),
    Color(0x63, 0x79, 0x39),
];

/// A marker's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Disc,
    /// A square.
    Square,
    /// A triangle on its base.
    Triangle,
    /// A square on its corner.
    Diamond,
    /// A triangle on its tip.
    Down,
}

/// How a family looks in every figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Its colour.
    pub color: Color,
    /// Its marker.
    pub marker: Marker,
}

/// The looks of families: a mask type keeps its colour from report to report; further families of a type take others.
pub fn looks(families: &[Family]) -> Vec<Look> {
    let mut used: Vec<Color> = Vec::new();
    let own = |kind: &str| match kind {
        "full" => Some(BLUE),
        "fisher" => Some(VERMILLION),
        "random" => Some(GREEN),
        "magnitude" => Some(PURPLE),
        _ => None,
    };
    let mut spare = OTHERS.iter().copied().cycle();
    families
        .iter()
        .enumerate()
        .map(|(index, family)| {
            let color = own(&family.kind)
                .filter(|color| !used.contains(color))
                .or_else(|| spare.next())
                .unwrap_or(INK);
            used.push(color);
            let marker = match family.kind.as_str() {
                "full" => Marker::Disc,
                "fisher" => Marker::Square,
                "random" => Marker::Triangle,
                "magnitude" => Marker::Diamond,
                _ => {
                    [Marker::Down, Marker::Disc, Marker::Square, Marker::Triangle, Marker::Diamond][index % 5]
                }
            };
            Look { color, marker }
        })
        .collect()
}

/// The look of the `index`-th set of scores.
pub fn look_of_scores(index: usize) -> Look {
    let markers = [Marker::Square, Marker::Disc, Marker::Triangle, Marker::Diamond, Marker::Down];
    let colors = [VERMILLION, BLUE, GREEN, PURPLE];
    let color = colors.iter().chain(&OTHERS).cycle().nth(index).copied().unwrap_or(INK);
    Look { color, marker: markers[index % markers.len()] }
}

/// The shade of the `rank`-th of `count` learning rates: light for low ones, dark for high ones.
pub fn shade(color: Color, rank: usize, count: usize) -> Color {
    if count < 2 {
        return color;
    }
    let place = rank as f64 / (count - 1) as f64;
    if place < 0.5 {
        color.mix(PAPER, 0.55 * (1.0 - 2.0 * place))
    } else {
        color.mix(Color(0, 0, 0), 0.45 * (2.0 * place - 1.0))
    }
}

/// A colour for text: as dark as reading on paper needs.
pub fn legible(color: Color) -> Color {
    let black = Color(0, 0, 0);
    (0..=10)
        .map(|tenth| color.mix(black, f64::from(tenth) / 10.0))
        .find(|ink| ink.luminance() < 0.42)
        .unwrap_or(black)
}

/// Draws a marker.
pub fn marker(drawing: &mut Drawing, (x, y): Point, radius: f64, marker: Marker, color: Color) {
    let r = radius;
    let corners: Vec<Point> = match marker {
        Marker::Disc => {
            drawing.shapes.push(super::draw::Shape::Disc { centre: (x, y), radius: r, color });
            return;
        }
        Marker::Square => vec![(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
        Marker::Triangle => vec![(0.0, -1.15), (1.08, 0.8), (-1.08, 0.8)],
        Marker::Diamond => vec![(0.0, -1.25), (1.1, 0.0), (0.0, 1.25), (-1.1, 0.0)],
        Marker::Down => vec![(0.0, 1.15), (1.08, -0.8), (-1.08, -0.8)],
    };
    let points = corners.into_iter().map(|(dx, dy)| (x + dx * r, y + dy * r)).collect();
    drawing.shapes.push(super::draw::Shape::Area { points, color, alpha: 1.0 });
}

/// Draws a cross: a run that failed.
pub fn cross(drawing: &mut Drawing, (x, y): Point, radius: f64, color: Color) {
    drawing.line(vec![(x - radius, y - radius), (x + radius, y + radius)], 1.8, color);
    drawing.line(vec![(x - radius, y + radius), (x + radius, y - radius)], 1.8, color);
}

/// Draws the title, a subtitle below it (broken into lines that fit) and the mark of a partial grid. Returns the y
/// below them.
pub fn heading(drawing: &mut Drawing, title: &str, subtitle: &str, partial: Option<&str>) -> f64 {
    let width = f64::from(drawing.width);
    drawing.text((16.0, 27.0), title, Type::new(TITLE, INK).bold());
    if let Some(partial) = partial {
        drawing.text((width - 16.0, 27.0), partial, Type::new(NORMAL, ALERT).bold().end());
    }
    let mut y = 27.0;
    for line in wrap(subtitle, NORMAL, width - 32.0) {
        y += 17.5;
        drawing.text((16.0, y), line, Type::new(NORMAL, MUTED));
    }
    y + 12.0
}

/// Breaks text into lines of at most `width` pixels.
pub fn wrap(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if super::font::width(&format!("{line} {word}"), size, false) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The place of a panel's data.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Left edge.
    pub left: f64,
    /// Upper edge.
    pub top: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
    /// The horizontal axis.
    pub x: Scale,
    /// The vertical axis.
    pub y: Scale,
}

/// What a panel's frame shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame<'a> {
    /// Title of the horizontal axis; tick labels are drawn with it.
    pub x_title: Option<&'a str>,
    /// Title of the vertical axis.
    pub y_title: Option<&'a str>,
    /// Whether the vertical axis has tick labels.
    pub y_labels: bool,
}

impl Panel {
    /// A panel on pixels; the scales are moved there.
    pub fn new((left, top): Point, (width, height): Point, x: &Scale, y: &Scale) -> Self {
        let (x, y) = (x.onto(left, left + width), y.onto(top + height, top));
        Self { left, top, width, height, x, y }
    }

    /// The pixel of a data point.
    pub fn at(&self, (x, y): Point) -> Point {
        (self.x.at(x), self.y.at(y))
    }

    /// Draws grid, axes and labels.
    pub fn frame(&self, drawing: &mut Drawing, frame: Frame<'_>) {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        let small = Type::new(SMALL, MUTED);
        for tick in self.y.ticks((self.height / 48.0).round().max(2.0) as usize) {
            let y = self.y.at(tick.value);
            if let Some(label) = tick.label {
                drawing.line(vec![(self.left, y), (right, y)], 1.0, GRID);
                if frame.y_labels {
                    drawing.text((self.left - 7.0, y + SMALL * 0.36), label, small.end());
                }
            } else {
                drawing.line(vec![(self.left - 3.0, y), (self.left, y)], 0.75, AXIS);
            }
        }
        let mut free = f64::NEG_INFINITY;
        for tick in self.x.ticks((self.width / 75.0).round().max(2.0) as usize) {
            let x = self.x.at(tick.value);
            drawing.line(
                vec![(x, bottom), (x, bottom + if tick.label.is_some() { 5.0 } else { 3.0 })],
                1.0,
                AXIS,
            );
            let Some(label) = tick.label.filter(|_| frame.x_title.is_some()) else { continue };
            let half = super::font::width(&label, SMALL, false) / 2.0;
            // A label that would touch its neighbour is left out; its tick stays.
            if x - half > free {
                drawing.text((x, bottom + 8.0 + SMALL), label, small.middle());
                free = x + half + 6.0;
            }
        }
        drawing.line(vec![(self.left, bottom), (right, bottom)], 1.0, AXIS);
        if let Some(title) = frame.x_title {
            let at = (self.left + self.width / 2.0, bottom + 38.0);
            drawing.text(at, title, Type::new(NORMAL, INK).middle());
        }
        if let Some(title) = frame.y_title {
            let at = (self.left - 46.0, self.top + self.height / 2.0);
            drawing.text(at, title, Type::new(NORMAL, INK).middle().upright());
        }
    }
}
