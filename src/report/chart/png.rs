//! From a bitmap to the bytes of a small PNG file.
//!
//! In: pixels. Out: a file with a palette, about half as large as one with full colours: a chart is a few inks and their
//! blends with paper. Invariant: the same pixels give the same bytes.

use std::collections::BTreeMap;

/// Sub-pixels of a pixel of the file, in each direction.
const AVERAGED: u32 = 2;

/// Colours of a palette.
const COLORS: usize = 256;

/// Averages blocks of [`AVERAGED`] by [`AVERAGED`] pixels.
pub fn average(fine: &[u8], width: u32, height: u32) -> (Vec<[u8; 3]>, u32, u32) {
    let (side, w, h) = (AVERAGED as usize, (width / AVERAGED) as usize, (height / AVERAGED) as usize);
    let stride = width as usize * 3;
    let mut pixels = Vec::with_capacity(w * h);
    for y in 0..h {
        for x in 0..w {
            pixels.push([0, 1, 2].map(|channel| {
                let mut sum = 0;
                for row in 0..side {
                    for column in 0..side {
                        sum +=
                            usize::from(fine[(y * side + row) * stride + (x * side + column) * 3 + channel]);
                    }
                }
                ((sum + side * side / 2) / (side * side)) as u8
            }));
        }
    }
    (pixels, w as u32, h as u32)
}

/// Encodes pixels, row by row from the top.
pub fn encode(pixels: &[[u8; 3]], width: u32, height: u32) -> Result<Vec<u8>, String> {
    let (palette, indices) = quantise(pixels);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.concat());
    encoder.set_compression(png::Compression::Best);
    encoder.set_filter(png::FilterType::NoFilter);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&indices))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The most frequent colours, and for every pixel the nearest of them.
fn quantise(pixels: &[[u8; 3]]) -> (Vec<[u8; 3]>, Vec<u8>) {
    let mut counts: BTreeMap<[u8; 3], usize> = BTreeMap::new();
    // Runs of one colour are counted at once: most of a chart is paper.
    for run in pixels.chunk_by(|a, b| a == b) {
        *counts.entry(run[0]).or_default() += run.len();
    }
    let mut palette: Vec<([u8; 3], usize)> = counts.iter().map(|(color, count)| (*color, *count)).collect();
    palette.sort_by_key(|(color, count)| (std::cmp::Reverse(*count), *color));
    palette.truncate(COLORS);
    let palette: Vec<[u8; 3]> = palette.into_iter().map(|(color, _)| color).collect();
    let distance = |a: [u8; 3], b: [u8; 3]| -> i32 {
        [0, 1, 2].map(|channel| (i32::from(a[channel]) - i32::from(b[channel])).pow(2)).iter().sum()
    };
    let nearest: BTreeMap<[u8; 3], u8> = counts
        .keys()
        .map(|color| {
            let index = (0..palette.len()).min_by_key(|&index| distance(palette[index], *color));
            (*color, index.unwrap_or(0) as u8)
        })
        .collect();
    let mut indices = Vec::with_capacity(pixels.len());
    for run in pixels.chunk_by(|a, b| a == b) {
        indices.extend(std::iter::repeat_n(nearest[&run[0]], run.len()));
    }
    (palette, indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_averaged_with_rounding() {
        // Two by two of red 0, 1, 1, 1: 0.75, so 1; green 2, 2, 2, 3: 2.25, so 2.
        let fine = [0, 2, 9, 1, 2, 9, 1, 2, 9, 1, 3, 9];
        assert_eq!(average(&fine, 2, 2), (vec![[1, 2, 9]], 1, 1));
    }

    #[test]
    fn few_colours_survive_exactly_and_rare_ones_go_to_the_nearest() {
        let (palette, indices) = quantise(&[[1, 2, 3], [9, 9, 9], [9, 9, 9]]);
        assert_eq!((palette, indices), (vec![[9, 9, 9], [1, 2, 3]], vec![1, 0, 0]));
        // 256 greys twice and one colour once: it becomes the grey next to it.
        let mut pixels: Vec<[u8; 3]> = (0..=255).flat_map(|grey| [[grey; 3]; 2]).collect();
        pixels.push([100, 100, 103]);
        let (palette, indices) = quantise(&pixels);
        assert_eq!(palette.len(), 256);
        assert_eq!(palette[usize::from(indices[512])], [101, 101, 101]);
    }

    #[test]
    fn files_decode_to_what_was_drawn() {
        let pixels = [[255, 255, 255], [0, 114, 178], [0, 114, 178], [213, 94, 0]];
        let bytes = encode(&pixels, 2, 2).expect("a file");
        let mut decoder = png::Decoder::new(bytes.as_slice());
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().expect("a header");
        let mut data = vec![0; reader.output_buffer_size()];
        reader.next_frame(&mut data).expect("an image");
        assert_eq!(data, pixels.concat());
    }
}
