//! The study's own masks, from `config.json` alone: its numbers of active entries, the overlaps that it published, and
//! digests of whole masks.
//!
//! The recipe is the study's: `default_rng(seed)`, then `choice(n, int(n * keep), replace=False)` of every parameter in the
//! model's order, a tied head not at all. First draws, digests and overlaps below were made with NumPy 2.4.6; overlaps and
//! some of the numbers are also on record as the study published them.
#![expect(clippy::disallowed_methods, reason = "tests make files of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]

use tickets::data::Architecture;
use tickets::generators::numpy::Generator;
use tickets::sparsity::{Mask, MaskRng, Rounding, TensorSize, kept_count, random};

const SMALL: &[u8] = include_bytes!("../assets/shapes/qwen2.5-0.5b.json");
const LARGE: &[u8] = include_bytes!("../assets/shapes/qwen2.5-1.5b.json");

/// The tensors of a model whose folder holds `config.json` and nothing else.
fn tensors(config: &[u8]) -> Vec<TensorSize> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, config).unwrap();
    let text = std::fs::read(&path).unwrap();
    Architecture::from_config_json(&text, &path.display().to_string()).unwrap().sizes()
}

/// blake3 of all flat indices, tensor after tensor, ascending, as little-endian 32-bit words.
fn digest(mask: &Mask) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    for indices in mask.indices() {
        bytes.clear();
        bytes.extend(indices.iter().flat_map(|index| index.to_le_bytes()));
        hasher.update(&bytes);
    }
    hasher.finalize().to_string()
}

/// First draws on record: config, sparsity, seed, those of the embedding, those of the first layer's query bias.
type Raw = (&'static [u8], f64, u64, [u32; 4], &'static [u32]);

/// A mask on record: sparsity, seed, active entries, digest.
type Golden = (f64, u64, usize, &'static str);

fn masks(config: &[u8], golden: &[Golden]) -> Vec<Mask> {
    let tensors = tensors(config);
    let mut masks = Vec::new();
    for &(sparsity, seed, active, expected) in golden {
        let mask = random(&tensors, sparsity, seed, MaskRng::Numpy).unwrap();
        assert_eq!(mask.active(), active, "sparsity {sparsity}, seed {seed}");
        assert_eq!(digest(&mask), expected, "sparsity {sparsity}, seed {seed}");
        masks.push(mask);
    }
    masks
}

#[test]
fn counts_of_active_entries_are_those_of_the_study() {
    let sparsities = [0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999];
    for (config, total, count, active) in [
        (SMALL, 494_032_768, 290, [4_940_162, 2_470_021, 493_878, 246_939, 49_301, 4_889]),
        (LARGE, 1_543_714_304, 338, [15_436_967, 7_718_399, 1_543_578, 771_690, 154_265, 15_297]),
    ] {
        let tensors = tensors(config);
        assert_eq!((tensors.iter().map(TensorSize::elements).sum::<usize>(), tensors.len()), (total, count));
        let kept = sparsities.map(|sparsity| {
            let kept =
                |tensor: &TensorSize| kept_count(tensor.elements(), sparsity, Rounding::Floor).unwrap();
            tensors.iter().map(kept).sum::<usize>()
        });
        assert_eq!(kept, active);
    }
    // Of the tied embedding at 99 %.
    assert_eq!(kept_count(151_936 * 896, 0.99, Rounding::Floor).unwrap(), 1_361_346);
}

#[test]
fn masks_of_99_percent_and_their_overlaps_are_those_of_the_study() {
    let golden = [
        (0.99, 2001, 4_940_162, "bf67db1a3dbc3d3e55edf1fd4ea28a5210b66a4b3b42a18b153df7ccea3681d3"),
        (0.99, 0, 4_940_162, "124d2ee2bc9c319a1114d55f77cac7c22739757493324f7a875e72de4bac18e9"),
        (0.99, 42, 4_940_162, "32820f2240e0fda91e4a2e46653b85bcbd0c429ddb66d21a9f2a7f480caed183"),
    ];
    let masks = masks(SMALL, &golden);
    for (left, right, intersection, union, published) in [
        (0, 1, 49_292, 9_831_032, "0.005014"),
        (0, 2, 49_477, 9_830_847, "0.005033"),
        (1, 2, 49_402, 9_830_922, "0.005025"),
    ] {
        let overlap = masks[left].overlap(&masks[right]).unwrap();
        assert_eq!((overlap.intersection, overlap.union), (intersection, union));
        assert_eq!(format!("{:.6}", overlap.jaccard().unwrap()), published);
    }
}

#[test]
fn other_seeds_of_99_percent() {
    masks(
        SMALL,
        &[
            (0.99, 10, 4_940_162, "6781cd8c9bedfcacccf1313db29e0849e9aa37cb25c7975a6f3faf72d84fb268"),
            (0.99, 1002, 4_940_162, "cf733c4fe3b878f674e8ec101ca3db0e4ac5eb43f68297cbb27e88fa4ba05604"),
        ],
    );
}

#[test]
fn masks_of_higher_sparsity() {
    masks(
        SMALL,
        &[
            (0.999, 42, 493_878, "84b52816a04445324566933c2934935e32858be77328486b780ff5d998023a4f"),
            (0.999, 0, 493_878, "64da4d001abd5a3f347cb5d67e37a4145de0c676da050997a8b640a881c31cdd"),
            (0.999, 2001, 493_878, "eeb99fe09bf9aafe2017281f62528b6fd1c710ffa4904f8137857c9251147862"),
            (0.9995, 42, 246_939, "f7267a4fe8e21c7e1c5f0bddc568cad042a86363960b166326f15d9f0afd4e5e"),
        ],
    );
    masks(
        LARGE,
        &[
            (0.999, 42, 1_543_578, "de49081dfede1351d7720ca06d8602a4bc3d48df695f1efd4a68d13afa791b5c"),
            (0.9999, 42, 154_265, "fe4dbe26b0d59bd9551f8cba8945c443183028890af3f114c13bac6ac2dd79d4"),
        ],
    );
}

#[test]
fn masks_of_the_larger_model() {
    for golden in [
        (0.99, 0, 15_436_967, "66203556b4fecbe5fb6d42b960cba672894de564115db764ed17732cdbe4b5fd"),
        (0.99, 42, 15_436_967, "f6eed15c89b32d60a2568f34d4fc55066a6f464d761ce77263029d6fe3a4d1db"),
        (0.99, 2001, 15_436_967, "30adc041f26fb20bb7e4cb68f75ba5f3dfd84b590064eab6d982e2cd0691b5c9"),
    ] {
        masks(LARGE, &[golden]);
    }
}

/// The raw draws of all tensors up to the one named, from one generator.
fn raw(config: &[u8], sparsity: f64, seed: u64, until: &str) -> Vec<Vec<u32>> {
    let mut generator = Generator::new(seed);
    let mut drawn = Vec::new();
    for tensor in tensors(config) {
        let kept = kept_count(tensor.elements(), sparsity, Rounding::Floor).unwrap();
        drawn.push(generator.choice(tensor.elements() as u32, kept as u32).unwrap());
        if tensor.name == until {
            return drawn;
        }
    }
    panic!("no tensor {until}");
}

#[test]
fn raw_draws_begin_as_those_of_numpy() {
    let bias = "model.layers.0.self_attn.q_proj.bias";
    let golden: [Raw; 14] = [
        (
            SMALL,
            0.99,
            0,
            [65_692_913, 99_655_635, 65_338_376, 102_585_677],
            &[806, 47, 391, 315, 485, 849, 379, 617],
        ),
        (
            SMALL,
            0.99,
            42,
            [92_771_599, 35_905_101, 76_445_270, 22_915_121],
            &[590, 204, 249, 682, 240, 688, 669, 677],
        ),
        (
            SMALL,
            0.99,
            2001,
            [21_555_338, 102_965_619, 68_474_169, 68_124_872],
            &[848, 221, 694, 129, 73, 197, 399, 228],
        ),
        (SMALL, 0.99, 10, [74_441_473, 55_505_665, 10_405_435, 99_419_552], &[749, 791, 662, 189]),
        (SMALL, 0.99, 1002, [72_362_536, 62_824_152, 127_954_770, 89_806_246], &[47, 181, 206, 757]),
        (SMALL, 0.999, 42, [62_913_229, 7_966_168, 36_502_172, 44_082_189], &[]),
        (SMALL, 0.999, 0, [112_131_590, 132_902_996, 87_956_950, 22_477_233], &[]),
        (SMALL, 0.999, 2001, [63_539_391, 30_556_534, 43_288_111, 75_945_771], &[]),
        (SMALL, 0.9995, 42, [45_587_206, 38_486_705, 29_441_304, 50_269_526], &[]),
        (LARGE, 0.99, 0, [168_156_870, 134_113_967, 63_903_345, 194_123_983], &[234, 1020, 1031, 1054]),
        (LARGE, 0.99, 42, [3_813_959, 140_002_811, 40_729_865, 87_705_791], &[257, 939, 289, 815]),
        (LARGE, 0.99, 2001, [144_086_653, 129_665_043, 109_919_866, 156_387_281], &[1147, 1406, 1474, 709]),
        (LARGE, 0.999, 42, [158_631_212, 126_806_780, 129_357_888, 31_655_920], &[891]),
        (LARGE, 0.9999, 42, [136_077_765, 9_862_096, 118_018_155, 193_120_610], &[]),
    ];
    for (config, sparsity, seed, first, in_bias) in golden {
        let drawn = raw(config, sparsity, seed, bias);
        assert_eq!(drawn[0][..4], first, "sparsity {sparsity}, seed {seed}");
        // An empty list is the whole tensor: nothing of it is kept.
        assert!(drawn[2].starts_with(in_bias), "sparsity {sparsity}, seed {seed}: {:?}", drawn[2]);
        assert_eq!(drawn[2].is_empty(), in_bias.is_empty(), "sparsity {sparsity}, seed {seed}");
    }
}

#[test]
fn the_last_tensor_of_a_mask_is_right_so_all_draws_before_it_were_taken() {
    for (seed, expected) in [
        (0, [731, 821, 396, 333, 315, 473, 629, 817]),
        (42, [454, 151, 211, 359, 96, 370, 630, 817]),
        (2001, [345, 284, 591, 186, 169, 191, 883, 174]),
    ] {
        let drawn = raw(SMALL, 0.99, seed, "model.norm.weight");
        assert_eq!(drawn.last().unwrap()[..], expected, "seed {seed}");
    }
}
