//! Reading masks: both forms, models, and everything that can be wrong with a file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::{Form, MaskFile, MasksError, parse, to_bytes};
use crate::data::safetensors::{RawTensor, to_bytes as file_of};
use crate::sparsity::{Mask, TensorSize};

fn size(name: &str, shape: &[usize]) -> TensorSize {
    TensorSize { name: name.into(), shape: shape.into() }
}

/// A tied decoder's names in study order, which is neither the order of the alphabet nor the one of files below.
fn model() -> Vec<TensorSize> {
    vec![
        size("model.embed_tokens.weight", &[3, 2]),
        size("model.layers.0.self_attn.q_proj.bias", &[2]),
        size("model.layers.0.mlp.up_proj.weight", &[2, 2]),
        size("model.norm.weight", &[2]),
    ]
}

fn lists() -> [Vec<i64>; 4] {
    [vec![0, 2, 5], vec![], vec![3], vec![0, 1]]
}

fn mask() -> Mask {
    let lists = lists().map(|list| list.into_iter().map(|index| index as u32).collect());
    Mask::new(model(), lists.into()).unwrap()
}

fn raw(name: &str, dtype: &'static str, shape: &[usize], bytes: Vec<u8>) -> RawTensor {
    RawTensor { name: name.into(), dtype, shape: shape.into(), bytes }
}

fn narrow(name: &str, list: &[i64]) -> RawTensor {
    raw(name, "I32", &[list.len()], list.iter().flat_map(|n| (*n as i32).to_le_bytes()).collect())
}

fn wide(name: &str, list: &[i64]) -> RawTensor {
    raw(name, "I64", &[list.len()], list.iter().flat_map(|n| n.to_le_bytes()).collect())
}

fn bools(size: &TensorSize, list: &[i64], dtype: &'static str) -> RawTensor {
    let bytes = (0..size.elements()).map(|at| u8::from(list.contains(&(at as i64))));
    raw(&size.name, dtype, &size.shape, bytes.collect())
}

/// A file as another program writes it: names of the alphabet's order, no word of ours.
fn foreign(tensor: impl Fn(&TensorSize, &[i64]) -> RawTensor) -> Vec<RawTensor> {
    let mut tensors: Vec<_> = model().iter().zip(lists()).map(|(size, list)| tensor(size, &list)).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

fn parsed(tensors: &[RawTensor], model: Option<&[TensorSize]>) -> Result<MaskFile, MasksError> {
    parse(file_of(tensors, &BTreeMap::new()), Path::new("m.safetensors"), model)
}

/// What is said about a file, with the advice.
fn refused(tensors: &[RawTensor], model: Option<&[TensorSize]>) -> String {
    let error = parsed(tensors, model).unwrap_err();
    format!("{error}; {}", error.hint().unwrap())
}

fn with(shapes: &str, tensors: &[RawTensor], model: Option<&[TensorSize]>) -> Result<MaskFile, MasksError> {
    let metadata = BTreeMap::from([("shapes".to_owned(), shapes.to_owned())]);
    parse(file_of(tensors, &metadata), Path::new("m.safetensors"), model)
}

#[test]
fn what_is_written_describes_itself_and_comes_back() {
    let recipe = json!({ "type": "random", "seed": 3 });
    let bytes = to_bytes(&mask(), &recipe);
    for model in [None, Some(model())] {
        let file = parse(bytes.clone(), Path::new("m"), model.as_deref()).unwrap();
        assert_eq!((file.mask, file.recipe.as_ref(), file.form), (mask(), Some(&recipe), Form::Indices));
        assert!(file.notes.is_empty());
    }
    assert_eq!(bytes, to_bytes(&mask(), &recipe));
}

#[test]
fn every_form_gives_the_same_mask_in_the_order_of_the_model() {
    let model = model();
    for (tensors, form) in [
        (foreign(|size, list| narrow(&size.name, list)), Form::Indices),
        (foreign(|size, list| wide(&size.name, list)), Form::Indices),
        (foreign(|size, list| bools(size, list, "BOOL")), Form::Booleans),
        (foreign(|size, list| bools(size, list, "U8")), Form::Booleans),
    ] {
        assert_ne!(tensors[0].name, model[1].name);
        let file = parsed(&tensors, Some(&model)).unwrap();
        assert_eq!((file.mask, file.form, file.recipe), (mask(), form, None));
        assert!(file.notes.is_empty());
    }
}

#[test]
fn booleans_need_no_model() {
    let mut tensors = foreign(|size, list| bools(size, list, "BOOL"));
    let file = parsed(&tensors, None).unwrap();
    assert_eq!(file.mask, mask());
    assert!(file.notes[0].contains("names tell"), "{:?}", file.notes);
    tensors[0].name = "another.layout".into();
    let file = parsed(&tensors, None).unwrap();
    let names = |mask: &Mask| mask.tensors().iter().map(|size| size.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&file.mask), tensors.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>());
    assert!(file.notes[0].contains("order of the file"), "{:?}", file.notes);
}

#[test]
fn a_tied_head_is_left_out_and_an_unknown_tensor_is_not() {
    let head = size("lm_head.weight", &[3, 2]);
    for lists in [true, false] {
        let tensor = |size: &TensorSize, list: &[i64]| {
            if lists { narrow(&size.name, list) } else { bools(size, list, "BOOL") }
        };
        let mut tensors = foreign(tensor);
        tensors.push(tensor(&head, &[1, 4]));
        let file = parsed(&tensors, Some(&model())).unwrap();
        assert_eq!(file.mask, mask());
        assert!(file.notes[0].contains("lm_head.weight is left out"), "{:?}", file.notes);
        // In an untied model it counts, and in one without an embedding nobody knows it.
        let untied = [model(), vec![head.clone()]].concat();
        assert_eq!(parsed(&tensors, Some(&untied)).unwrap().mask.active(), mask().active() + 2);
        tensors.retain(|tensor| !tensor.name.contains("embed"));
        let said = refused(&tensors, Some(&model()[1..]));
        assert!(said.contains("its tensor lm_head.weight is not in the model"), "{said}");
        tensors.push(tensor(&size("model.embed_tokens.weight", &[3, 2]), &[]));
        tensors.last_mut().unwrap().name = "module.model.norm.weight".into();
        let said = refused(&tensors, Some(&model()));
        assert!(
            said.contains("module.model.norm.weight is not in the model") && said.contains("prefix"),
            "{said}"
        );
    }
    // Without a model it is a parameter, and that is said.
    let mut tensors = foreign(|size, list| bools(size, list, "BOOL"));
    tensors.push(bools(&head, &[1], "BOOL"));
    let file = parsed(&tensors, None).unwrap();
    assert_eq!(file.mask.tensors().last(), Some(&head));
    assert!(file.notes[1].contains("parameter of its own"), "{:?}", file.notes);
}

#[test]
fn an_absent_tensor_is_an_error_unless_the_file_lists_it() {
    let mut tensors = foreign(|size, list| narrow(&size.name, list));
    tensors.retain(|tensor| !tensor.name.contains("bias"));
    let said = refused(&tensors, Some(&model()));
    assert!(
        said.contains("no tensor model.layers.0.self_attn.q_proj.bias") && said.contains("length 0"),
        "{said}"
    );
    let shapes = super::shapes::to_text(&model());
    for model in [None, Some(model())] {
        assert_eq!(with(&shapes, &tensors, model.as_deref()).unwrap().mask, mask());
    }
    tensors.push(narrow("stranger", &[]));
    let error = with(&shapes, &tensors, None).unwrap_err().to_string();
    assert!(error.contains("stranger is not in its own list of shapes"), "{error}");
}

#[test]
fn indices_without_shapes_need_a_model() {
    let tensors = foreign(|size, list| narrow(&size.name, list));
    let said = refused(&tensors, None);
    assert!(
        said.contains("m.safetensors: it does not say of which shapes") && said.contains("--model"),
        "{said}"
    );
}

#[test]
fn a_list_of_shapes_is_compared_with_the_model() {
    let tensors = foreign(|size, list| narrow(&size.name, list));
    let other = |change: &dyn Fn(&mut Vec<TensorSize>)| {
        let mut other = model();
        change(&mut other);
        with(&super::shapes::to_text(&model()), &tensors, Some(&other)).unwrap_err().to_string()
    };
    let said = other(&|list| list[2].shape = vec![4]);
    assert!(said.contains("up_proj.weight has the shape [2, 2] in the file and [4] in the model"), "{said}");
    let said = other(&|list| drop(list.remove(1)));
    assert!(said.contains("q_proj.bias is in the file's list of shapes and not in the model"), "{said}");
    let said = other(&|list| list.push(size("lm_head.weight", &[3, 2])));
    assert!(said.contains("lm_head.weight is in the model and not in the file's list"), "{said}");
    // The order is the model's.
    let mut turned = model();
    turned.reverse();
    let file = with(&super::shapes::to_text(&turned), &tensors, Some(&model())).unwrap();
    assert_eq!(file.mask, mask());
}

#[test]
fn a_broken_list_of_shapes_is_named() {
    for (text, what) in [
        ("{", "no list of names and shapes"),
        ("[[\"a\", [1]], [\"a\", [2]]]", "a is there twice"),
        ("[[\"a\", [-1]]]", "no list of names and shapes"),
        ("[[\"a\", [65536, 65536]]]", "more entries than an int32 index can name"),
        ("[[\"a\", [9223372036854775807, 9]]]", "more entries"),
    ] {
        let error = with(text, &[narrow("a", &[])], None).unwrap_err();
        assert!(matches!(error, MasksError::BadShapes { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn a_wrong_index_is_named_with_its_place() {
    let name = "model.embed_tokens.weight";
    for (list, position, what, advice) in [
        (vec![0, 6], 1, "index 6 is out of range: the parameter has 6 entries", "of another model"),
        (vec![0, 1, -2_147_483_648], 2, "index -2147483648 is negative", "does not fit int32"),
        (vec![0, 4, 4], 2, "index 4 is there twice", "unique"),
        (vec![5, 3], 1, "index 3 comes after 5", "ascending"),
    ] {
        for tensor in [narrow(name, &list), wide(name, &list)] {
            let mut tensors = foreign(|size, list| narrow(&size.name, list));
            tensors.retain(|tensor| tensor.name != name);
            tensors.push(tensor);
            let said = refused(&tensors, Some(&model()));
            let place = format!("m.safetensors: tensor {name}, position {position}: {what}");
            assert!(said.contains(&place) && said.contains(advice), "{said}");
        }
    }
    let mut tensors = foreign(|size, list| wide(&size.name, list));
    tensors[0] = wide(name, &[1 << 40]);
    assert!(refused(&tensors, Some(&model())).contains("index 1099511627776 is out of range"));
}

#[test]
fn positions_count_over_pieces_of_a_large_file() {
    let large = [size("a", &[1 << 21, 2])];
    let mut list: Vec<i64> = (0..3_000_000).collect();
    assert_eq!(parsed(&[narrow("a", &list)], Some(&large)).unwrap().mask.active(), 3_000_000);
    list[2_500_000] = 7;
    let said = refused(&[narrow("a", &list)], Some(&large));
    assert!(said.contains("position 2500000: index 7 comes after 2499999"), "{said}");
    // Booleans too: 4194304 bytes are one piece, the next begins another.
    let large = size("a", &[5_000_000]);
    let mut tensor = bools(&large, &[4_194_303, 4_194_304, 4_999_999], "BOOL");
    let found = parsed(&[tensor.clone()], None).unwrap();
    assert_eq!(found.mask.indices(), [[4_194_303, 4_194_304, 4_999_999]]);
    tensor.bytes[4_500_000] = 255;
    assert!(refused(&[tensor], None).contains("tensor a, entry 4500000: 255 is neither 0 nor 1"));
}

#[test]
fn other_types_and_shapes_are_refused() {
    let parameter = size("a", &[2, 2]);
    let said = refused(&[raw("a", "F32", &[2, 2], vec![0; 16])], None);
    assert!(said.contains("tensor a has the type F32") && said.contains("mask.bool()"), "{said}");
    let said = refused(&[narrow("a", &[]), bools(&size("b", &[2]), &[], "BOOL")], None);
    assert!(said.contains("tensor a holds indices and tensor b booleans"), "{said}");
    let said = refused(&[raw("a", "I32", &[2, 2], vec![0; 16])], Some(std::slice::from_ref(&parameter)));
    assert!(said.contains("have the shape [2, 2], not one dimension") && said.contains("flatten"), "{said}");
    let said = refused(&[bools(&size("a", &[4]), &[], "BOOL")], Some(&[parameter]));
    assert!(said.contains("tensor a has the shape [4], the parameter [2, 2]"), "{said}");
}

#[test]
fn what_is_no_safetensors_file_or_is_cut_short_is_refused() {
    let bytes = to_bytes(&mask(), &json!({}));
    for end in 0..bytes.len() {
        let error = parse(bytes[..end].to_vec(), Path::new("m.safetensors"), None).unwrap_err();
        assert!(matches!(error, MasksError::NoSafetensors { .. }), "{error}");
        assert!(error.to_string().contains("m.safetensors"), "{error}");
    }
    // Types that weights do not have are measured here.
    let short = file_of(&[raw("a", "BOOL", &[3], vec![0; 2])], &BTreeMap::new());
    let error = parse(short, Path::new("m"), None).unwrap_err().to_string();
    assert!(error.contains("gives tensor a 2 bytes, not what [3] take"), "{error}");
    assert!(super::read(Path::new("nowhere"), None).unwrap_err().to_string().contains("nowhere"));
}

#[test]
fn a_recipe_that_is_no_json_is_kept_as_text() {
    let metadata = BTreeMap::from([("recipe".to_owned(), "by hand".to_owned())]);
    let file = file_of(&[bools(&size("a", &[2]), &[1], "BOOL")], &metadata);
    assert_eq!(parse(file, Path::new("m"), None).unwrap().recipe, Some("by hand".into()));
}
