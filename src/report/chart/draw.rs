//! Drawings as plain values, and how they become SVG and PNG through plotters.
//!
//! In: a [`Drawing`], a list of shapes in logical pixels. Out: bytes. Invariant: the same drawing gives the same bytes;
//! no clock, no system font, no environment is consulted.
//!
//! plotters' backends work in whole pixels. Both are therefore driven on a grid [`FINE`] times as dense as the logical
//! one: the SVG states it in its `viewBox`, and the bitmap is averaged down, which also smooths it.

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::prelude::{
    DrawingAreaErrorKind, DrawingBackend, FontStyle, FontTransform, IntoFont, RGBAColor, ShapeStyle,
};
use plotters::style::TextStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::error::ReportError;
use super::font::{self, FONT, FONT_HEIGHT};
use super::png;

/// Sub-pixels of a logical pixel, in each direction.
const FINE: u32 = 4;

/// What plotters' SVG backend divides font sizes by.
const SVG_SIZE: f64 = 1.24;

/// How far below its anchor plotters' SVG backend puts the baseline of text anchored at the top, in em.
const SVG_TOP: f64 = 0.76;

/// An opaque colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

impl Color {
    /// The colour mixed with `share` of `other`.
    #[must_use]
    pub fn mix(self, other: Self, share: f64) -> Self {
        let channel = |a: u8, b: u8| (f64::from(a) * (1.0 - share) + f64::from(b) * share).round() as u8;
        Self(channel(self.0, other.0), channel(self.1, other.1), channel(self.2, other.2))
    }

    /// Relative luminance as the eye weighs it, 0 to 1.
    pub fn luminance(self) -> f64 {
        (0.2126 * f64::from(self.0) + 0.7152 * f64::from(self.1) + 0.0722 * f64::from(self.2)) / 255.0
    }

    /// `#rrggbb`.
    pub fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// A point in logical pixels, y downwards.
pub type Point = (f64, f64);

/// Which end of a text its position names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its start.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// One thing to draw.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through points.
    Line {
        /// The points.
        points: Vec<Point>,
        /// Its width.
        width: f64,
        /// Its colour.
        color: Color,
        /// Opacity, 0 to 1.
        alpha: f64,
        /// Lengths of dash and gap.
        dash: Option<(f64, f64)>,
    },
    /// A filled polygon.
    Area {
        /// The corners.
        points: Vec<Point>,
        /// The fill.
        color: Color,
        /// Opacity, 0 to 1.
        alpha: f64,
    },
    /// A filled disc.
    Disc {
        /// The centre.
        centre: Point,
        /// The radius.
        radius: f64,
        /// The fill.
        color: Color,
    },
    /// A line of text.
    Text {
        /// Where its baseline starts, has its middle or ends.
        at: Point,
        /// The text.
        text: String,
        /// Height of an em.
        size: f64,
        /// The colour.
        color: Color,
        /// What `at` names.
        anchor: Anchor,
        /// Medium instead of regular weight.
        bold: bool,
        /// Turned a quarter, reading upwards.
        upright: bool,
    },
}

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// Width in logical pixels.
    pub width: u32,
    /// Height in logical pixels.
    pub height: u32,
    /// What a reader who cannot see it is told.
    pub alt: String,
    /// The shapes, from back to front.
    pub shapes: Vec<Shape>,
}

impl Drawing {
    /// An empty picture.
    pub fn new(width: u32, height: u32, alt: impl Into<String>) -> Self {
        Self { width, height, alt: alt.into(), shapes: Vec::new() }
    }

    /// Adds a line.
    pub fn line(&mut self, points: Vec<Point>, width: f64, color: Color) {
        self.shapes.push(Shape::Line { points, width, color, alpha: 1.0, dash: None });
    }

    /// Adds a dashed line.
    pub fn dashed(&mut self, points: Vec<Point>, width: f64, color: Color, dash: (f64, f64)) {
        self.shapes.push(Shape::Line { points, width, color, alpha: 1.0, dash: Some(dash) });
    }

    /// Adds a filled rectangle.
    pub fn rect(&mut self, (x, y): Point, (w, h): Point, color: Color) {
        let points = vec![(x, y), (x + w, y), (x + w, y + h), (x, y + h)];
        self.shapes.push(Shape::Area { points, color, alpha: 1.0 });
    }

    /// Adds text.
    pub fn text(&mut self, at: Point, text: impl Into<String>, style: Type) {
        let Type { size, color, anchor, bold, upright } = style;
        let text = printable(&text.into());
        self.shapes.push(Shape::Text { at, text, size, color, anchor, bold, upright });
    }

    /// The picture as SVG text.
    pub fn svg(&self, figure: &str) -> Result<String, ReportError> {
        let failed = |what: String| ReportError::Chart { figure: figure.to_owned(), what };
        font::register().map_err(failed)?;
        let mut text = String::new();
        {
            let mut backend = SVGBackend::with_string(&mut text, (self.width * FINE, self.height * FINE));
            self.replay(&mut backend, Text { em: SVG_SIZE, drop: SVG_TOP, by_glyph: false })
                .map_err(failed)?;
            backend.present().map_err(|error| failed(error.to_string()))?;
        }
        let body = text.split_once(">\n").map_or("", |(_, body)| body);
        // What every element repeats is said once, on the root.
        let body = body.replace(" opacity=\"1\"", "").replace(&format!(" font-family=\"{FONT}\""), "");
        let body =
            body.replace(" \"/>", "\"/>").replace(">\n</text>", "></text>").replace("\n</text>", "</text>");
        let alt = escape(&self.alt);
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\" \
             font-family=\"{FONT}, 'Helvetica Neue', Arial, sans-serif\" stroke-linejoin=\"round\">\n\
             <title>{alt}</title>\n{body}",
            self.width,
            self.height,
            self.width * FINE,
            self.height * FINE,
        ))
    }

    /// The picture as a PNG file, at twice the logical resolution.
    pub fn png(&self, figure: &str) -> Result<Vec<u8>, ReportError> {
        let failed = |what: String| ReportError::Chart { figure: figure.to_owned(), what };
        font::register().map_err(failed)?;
        let (width, height) = (self.width * FINE, self.height * FINE);
        let mut fine = vec![255u8; (width * height * 3) as usize];
        {
            let mut backend = BitMapBackend::with_buffer(&mut fine, (width, height));
            // ab_glyph scales by the height of the font, and plotters hangs the baseline half of that below.
            let text = Text { em: FONT_HEIGHT, drop: FONT_HEIGHT / 2.0, by_glyph: true };
            self.replay(&mut backend, text).map_err(failed)?;
            backend.present().map_err(|error| failed(error.to_string()))?;
        }
        let (pixels, width, height) = png::average(&fine, width, height);
        png::encode(&pixels, width, height).map_err(failed)
    }

    /// Draws everything on a backend.
    fn replay<B: DrawingBackend>(&self, backend: &mut B, letters: Text) -> Result<(), String> {
        let place =
            |(x, y): Point| ((x * f64::from(FINE)).round() as i32, (y * f64::from(FINE)).round() as i32);
        let wrong = |error| DrawingAreaErrorKind::<B::ErrorType>::BackendError(error).to_string();
        let paint = |color: Color, alpha: f64| RGBAColor(color.0, color.1, color.2, alpha);
        for shape in &self.shapes {
            match shape {
                Shape::Line { points, width, color, alpha, dash } => {
                    let stroke = (width * f64::from(FINE)).round().max(1.0) as u32;
                    let style =
                        ShapeStyle { color: paint(*color, *alpha), filled: false, stroke_width: stroke };
                    let pieces = match dash {
                        Some(dash) => dashes(points, *dash),
                        None => vec![points.clone()],
                    };
                    for piece in pieces.iter().filter(|piece| piece.len() > 1) {
                        backend.draw_path(piece.iter().copied().map(place), &style).map_err(wrong)?;
                    }
                }
                Shape::Area { points, color, alpha } => {
                    backend
                        .fill_polygon(points.iter().copied().map(place), &paint(*color, *alpha))
                        .map_err(wrong)?;
                }
                Shape::Disc { centre, radius, color } => {
                    let radius = (radius * f64::from(FINE)).round().max(1.0) as u32;
                    backend.draw_circle(place(*centre), radius, &paint(*color, 1.0), true).map_err(wrong)?;
                }
                Shape::Text { at, text, size, color, anchor, bold, upright } => {
                    let em_height = size * f64::from(FINE);
                    let weight = if *bold { FontStyle::Bold } else { FontStyle::Normal };
                    let turn = if *upright { FontTransform::Rotate270 } else { FontTransform::None };
                    let font = (FONT, em_height * letters.em, weight).into_font().transform(turn);
                    let side = match anchor {
                        Anchor::Start => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::End => HPos::Right,
                    };
                    let ink = paint(*color, 1.0);
                    let style = TextStyle::from(font).color(&ink).pos(Pos::new(side, VPos::Top));
                    let lift = size * letters.drop;
                    let at = if *upright { (at.0 - lift, at.1) } else { (at.0, at.1 - lift) };
                    if letters.by_glyph {
                        let start = match anchor {
                            Anchor::Start => 0.0,
                            Anchor::Middle => -font::width(text, *size, *bold) / 2.0,
                            Anchor::End => -font::width(text, *size, *bold),
                        };
                        let style = style.pos(Pos::new(HPos::Left, VPos::Top));
                        for (glyph, ahead) in font::ink_starts(text, *size * f64::from(FINE), *bold) {
                            let ahead = start + ahead / f64::from(FINE);
                            let at = if *upright { (at.0, at.1 - ahead) } else { (at.0 + ahead, at.1) };
                            backend
                                .draw_text(glyph.encode_utf8(&mut [0; 4]), &style, place(at))
                                .map_err(wrong)?;
                        }
                    } else {
                        backend.draw_text(text, &style, place(at)).map_err(wrong)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a backend makes of text.
#[derive(Clone, Copy)]
struct Text {
    /// Its font size for one em.
    em: f64,
    /// Em between the anchor and the baseline.
    drop: f64,
    /// Whether every glyph is placed on its own (see [`font::ink_starts`]).
    by_glyph: bool,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Type {
    /// Height of an em in logical pixels.
    pub size: f64,
    /// The colour.
    pub color: Color,
    /// Which end the position names.
    pub anchor: Anchor,
    /// Medium instead of regular weight.
    pub bold: bool,
    /// Turned a quarter, reading upwards.
    pub upright: bool,
}

impl Type {
    /// Regular text that starts at its position.
    pub const fn new(size: f64, color: Color) -> Self {
        Self { size, color, anchor: Anchor::Start, bold: false, upright: false }
    }

    /// The same, centred.
    #[must_use]
    pub const fn middle(self) -> Self {
        Self { anchor: Anchor::Middle, ..self }
    }

    /// The same, ending at its position.
    #[must_use]
    pub const fn end(self) -> Self {
        Self { anchor: Anchor::End, ..self }
    }

    /// The same in medium weight.
    #[must_use]
    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    /// The same, reading upwards.
    #[must_use]
    pub const fn upright(self) -> Self {
        Self { upright: true, ..self }
    }
}

/// Cuts a line into dashes.
fn dashes(points: &[Point], (dash, gap): (f64, f64)) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    let mut piece: Vec<Point> = Vec::new();
    let (mut drawing, mut left) = (true, dash);
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if drawing && piece.is_empty() {
                piece.push(from);
            }
            if length < left {
                left -= length;
                if drawing {
                    piece.push(to);
                }
                break;
            }
            let share = left / length;
            from = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
            if drawing {
                piece.push(from);
                pieces.push(std::mem::take(&mut piece));
            }
            drawing = !drawing;
            left = if drawing { dash } else { gap };
        }
    }
    if piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

/// Text on one line, without characters that XML cannot say.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Text made safe inside XML and HTML.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML has no way to say these.
            c if c.is_control() && c != '\n' && c != '\t' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
