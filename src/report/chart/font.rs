//! The bundled font: registration and measures.
//!
//! In: text. Out: widths and places of glyphs. Invariant: only the bundled bytes are consulted, never a system font.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use plotters::prelude::FontStyle;
use plotters::style::register_font;

/// The family name under which the font is registered.
pub const FONT: &str = "Roboto";

/// Regular weight (see assets/fonts/README.md).
pub const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/Roboto-Regular-subset.ttf");

/// Medium weight, used where bold is asked for.
pub const MEDIUM: &[u8] = include_bytes!("../../../assets/fonts/Roboto-Medium-subset.ttf");

/// Height of the font from descender to ascender in units of its em, from its `hhea` table (1900 + 500 of 2048).
/// ab_glyph scales by it.
pub const FONT_HEIGHT: f64 = 2400.0 / 2048.0;

/// Registers the font with plotters, once.
pub fn register() -> Result<(), String> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = REGISTERED.get_or_init(|| {
        register_font(FONT, FontStyle::Normal, REGULAR).is_ok()
            && register_font(FONT, FontStyle::Bold, MEDIUM).is_ok()
    });
    if *registered { Ok(()) } else { Err("the bundled font is not readable".to_owned()) }
}

fn font(bold: bool) -> &'static FontRef<'static> {
    static FONTS: OnceLock<[FontRef<'static>; 2]> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        [REGULAR, MEDIUM].map(|bytes| FontRef::try_from_slice(bytes).expect("the bundled fonts are readable"))
    });
    &fonts[usize::from(bold)]
}

/// Width of a text whose em is `size` high, in the same unit.
pub fn width(text: &str, size: f64, bold: bool) -> f64 {
    let font = font(bold).as_scaled(PxScale::from((size * FONT_HEIGHT) as f32));
    text.chars().map(|c| f64::from(font.h_advance(font.glyph_id(c)))).sum()
}

/// Where the ink of every visible glyph starts, from the start of the text, for an em of `size` pixels.
///
/// plotters 0.3.7 draws a glyph's ink at the pen and so forgets its left bearing, which spaces letters unevenly;
/// bitmaps therefore place every glyph themselves.
pub fn ink_starts(text: &str, size: f64, bold: bool) -> Vec<(char, f64)> {
    let font = font(bold).as_scaled(PxScale::from((size * FONT_HEIGHT) as f32));
    let mut pen = 0.0;
    let mut starts = Vec::new();
    for c in text.chars() {
        if let Some(outline) = font.outline_glyph(font.scaled_glyph(c)) {
            starts.push((c, pen + f64::from(outline.px_bounds().min.x)));
        }
        pen += f64::from(font.h_advance(font.glyph_id(c)));
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_font() {
        // A digit of Roboto Regular is 1151 of 2048 units wide; digits are all alike.
        let digit = 1151.0 / 2048.0;
        assert!((width("0123456789", 10.0, false) - 100.0 * digit).abs() < 1e-3);
        assert!(width("", 10.0, true).abs() < 1e-12);
        assert!(width("wide", 10.0, true) > width("wide", 10.0, false));
    }

    #[test]
    fn spaces_have_width_but_no_ink() {
        let starts = ink_starts("a b", 64.0, false);
        assert_eq!(starts.iter().map(|start| start.0).collect::<String>(), "ab");
        assert!(starts[1].1 > width("a ", 64.0, false) - 1.0);
    }
}
