//! `config.json` to a decoder's shape.
//!
//! Both dialects are read: `rope_theta`, `rope_scaling` and `torch_dtype` (transformers 4), `rope_parameters` and `dtype`
//! (transformers 5). Defaults are those of transformers 5.23's configuration classes. Invariant: a key that changes what
//! the model computes is either followed or refused by name.

use serde_json::{Map, Value};

use super::architecture::RopeScaling;
use super::{Architecture, DataError, Family};

/// Larger dimensions are a mistake; below it no product of two dimensions and the layers overflows.
const LARGEST: usize = 1 << 24;
/// More layers are a mistake.
const MOST_LAYERS: usize = 1 << 12;

impl Architecture {
    /// Reads `config.json`; `path` names the file in errors.
    ///
    /// # Errors
    /// When the text is no JSON object, a key is missing or impossible, or the architecture is not supported.
    pub fn from_config_json(text: &[u8], path: &str) -> Result<Self, DataError> {
        let bad = |what: String| DataError::ModelConfig { path: path.into(), what };
        let value: Value = serde_json::from_slice(text).map_err(|e| bad(format!("it is not JSON: {e}")))?;
        let Value::Object(keys) = value else { return Err(bad("it is not a JSON object".into())) };
        let family = family(&keys, path)?;
        shape(family, &keys).map_err(|what| {
            if what.contains("not supported") {
                DataError::UnsupportedFeature { path: path.into(), what, class: family.class() }
            } else {
                bad(what)
            }
        })
    }
}

fn family(keys: &Map<String, Value>, path: &str) -> Result<Family, DataError> {
    let model_type = keys.get("model_type").and_then(Value::as_str);
    if keys.get("model_type").is_none() {
        return Err(DataError::ModelConfig { path: path.into(), what: "key `model_type` is missing".into() });
    }
    let class = keys.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    Family::ALL
        .into_iter()
        .find(|family| {
            model_type == Some(family.model_type()) && class.is_none_or(|class| class == family.class())
        })
        .ok_or_else(|| DataError::UnsupportedModel {
            path: path.into(),
            model_type: model_type.unwrap_or("(none)").into(),
            class: class.unwrap_or("(none)").into(),
        })
}

/// The shape, or what is wrong.
fn shape(family: Family, keys: &Map<String, Value>) -> Result<Architecture, String> {
    let keys = Keys(keys);
    refuse_unsupported(&keys)?;
    let (hidden_size, heads) = (keys.required("hidden_size")?, keys.required("num_attention_heads")?);
    let kv_heads = match (keys.0.get("num_key_value_heads"), family) {
        (Some(Value::Null), _) | (None, Family::Llama) => heads,
        (None, Family::Qwen2 | Family::Qwen3) => 32,
        (Some(_), _) => keys.required("num_key_value_heads")?,
    };
    let head_dim = match (keys.0.get("head_dim"), family) {
        (None, Family::Qwen3) => 128,
        (None | Some(Value::Null), Family::Qwen2 | Family::Llama) if hidden_size % heads == 0 => {
            hidden_size / heads
        }
        (None | Some(Value::Null), Family::Qwen2 | Family::Llama) => {
            return Err(format!("hidden_size {hidden_size} is not a multiple of {heads} heads"));
        }
        (Some(_), _) => keys.required("head_dim")?,
    };
    if !heads.is_multiple_of(kv_heads) || !head_dim.is_multiple_of(2) {
        return Err(format!(
            "{heads} heads of width {head_dim} with {kv_heads} key-value heads: the first must be a multiple of the \
             last and the width even"
        ));
    }
    if heads * head_dim > LARGEST {
        return Err(format!("{heads} heads of width {head_dim} are wider together than {LARGEST}"));
    }
    let layers = keys.required("num_hidden_layers")?;
    if layers > MOST_LAYERS {
        return Err(format!("key `num_hidden_layers` is {layers}, more than {MOST_LAYERS}"));
    }
    full_attention(&keys, layers)?;
    let max_positions = keys.required("max_position_embeddings")?;
    let (rope_theta, rope_scaling) = rope(&keys, max_positions)?;
    Ok(Architecture {
        family,
        vocab_size: keys.required("vocab_size")?,
        hidden_size,
        intermediate_size: keys.required("intermediate_size")?,
        layers,
        heads,
        kv_heads,
        head_dim,
        attention_bias: family == Family::Qwen2 || keys.flag("attention_bias")?,
        rope_theta,
        rope_scaling,
        rms_eps: keys.positive("rms_norm_eps")?.unwrap_or(1e-6),
        tied: keys.flag("tie_word_embeddings")?,
        max_positions,
    })
}

/// What a family may switch on and this program does not compute.
fn refuse_unsupported(keys: &Keys<'_>) -> Result<(), String> {
    for (key, what) in [("use_sliding_window", "sliding-window attention"), ("mlp_bias", "biases in the MLP")]
    {
        if keys.flag(key)? {
            return Err(format!("{what} (`{key}`) is not supported"));
        }
    }
    for (key, what) in [
        ("quantization_config", "quantised weights"),
        ("per_layer_config", "layers that differ"),
        ("num_experts", "a mixture of experts"),
        ("num_local_experts", "a mixture of experts"),
    ] {
        if keys.given(key).is_some() {
            return Err(format!("{what} (`{key}`) is not supported"));
        }
    }
    match keys.0.get("hidden_act") {
        None => {}
        Some(Value::String(name)) if name == "silu" => {}
        Some(other) => {
            return Err(format!("activation {other} is not supported, only \"silu\" (`hidden_act`)"));
        }
    }
    if let Some(dropout) = keys.given("attention_dropout")
        && dropout.as_f64() != Some(0.0)
    {
        return Err(format!(
            "key `attention_dropout` is {dropout}: training without dropout only, set it to 0.0"
        ));
    }
    Ok(())
}

fn full_attention(keys: &Keys<'_>, layers: usize) -> Result<(), String> {
    let Some(types) = keys.given("layer_types") else { return Ok(()) };
    let list = types.as_array().ok_or_else(|| format!("key `layer_types` is {types}, not a list"))?;
    if let Some(other) = list.iter().find(|kind| kind.as_str() != Some("full_attention")) {
        return Err(format!(
            "layers of type {other} (`layer_types`) are not supported, only \"full_attention\""
        ));
    }
    if list.len() != layers {
        return Err(format!("key `layer_types` has {} entries for {layers} layers", list.len()));
    }
    Ok(())
}

/// Base of the frequencies and their scaling. The same setting may stand at several places (both dialects at once); then
/// they have to agree, because old and new transformers would read different ones.
fn rope(keys: &Keys<'_>, max_positions: usize) -> Result<(f64, Option<RopeScaling>), String> {
    keys.whole_heads("partial_rotary_factor")?;
    let mut thetas = vec![("rope_theta".to_owned(), keys.positive("rope_theta")?)];
    let mut scalings = Vec::new();
    for name in ["rope_parameters", "rope_scaling"] {
        let Some(table) = keys.given(name) else { continue };
        let table = table.as_object().ok_or_else(|| format!("key `{name}` is {table}, not an object"))?;
        if let Some((key, _)) = table.iter().find(|(_, value)| value.is_object()) {
            return Err(format!("rotary settings per type of layer (`{name}.{key}`) are not supported"));
        }
        let table = Keys(table);
        let named = |what: String| format!("{what}, in `{name}`");
        table.whole_heads("partial_rotary_factor").map_err(named)?;
        thetas.push((format!("{name}.rope_theta"), table.positive("rope_theta").map_err(named)?));
        // transformers takes an empty table for none.
        if !table.0.is_empty() {
            scalings.push((name, scaling(&table, keys, max_positions).map_err(named)?));
        }
    }
    let given: Vec<(&str, f64)> =
        thetas.iter().filter_map(|(name, theta)| Some((name.as_str(), (*theta)?))).collect();
    if let Some(other) = given.iter().find(|(_, theta)| *theta != given[0].1) {
        return Err(format!(
            "`{}` is {} and `{}` is {}: remove one of them",
            given[0].0, given[0].1, other.0, other.1
        ));
    }
    if let [(first, a), (second, b)] = scalings.as_slice()
        && a != b
    {
        return Err(format!(
            "`{first}` and `{second}` ask for different rotary scalings: remove one of them"
        ));
    }
    // The class attribute `default_theta` of transformers' configurations.
    Ok((
        given.first().map_or(10_000.0, |(_, theta)| *theta),
        scalings.first().and_then(|(_, scaling)| *scaling),
    ))
}

fn scaling(table: &Keys<'_>, keys: &Keys<'_>, max_positions: usize) -> Result<Option<RopeScaling>, String> {
    let kind = table.given("rope_type").or_else(|| table.given("type"));
    match kind.map(|kind| kind.as_str().ok_or(kind)) {
        None | Some(Ok("default")) => return Ok(None),
        Some(Ok("llama3")) => {}
        Some(Ok(other)) => {
            return Err(format!(
                "rotary scaling \"{other}\" is not supported, only \"default\" and \"llama3\""
            ));
        }
        Some(Err(other)) => return Err(format!("key `rope_type` is {other}, not a string")),
    }
    let number = |key: &str| table.positive(key)?.ok_or_else(|| format!("key `{key}` is missing"));
    let original = "original_max_position_embeddings";
    // Beside the table it counts more than in it (transformers); below, both must agree.
    let places: Vec<usize> = [keys, table]
        .into_iter()
        .filter(|place| place.given(original).is_some())
        .map(|place| place.required(original))
        .collect::<Result<_, _>>()?;
    if let [outer, inner] = places[..]
        && outer != inner
    {
        return Err(format!("key `{original}` is {inner}, but {outer} beside the table: remove one of them"));
    }
    let scaling = RopeScaling {
        factor: number("factor")?,
        low_freq_factor: number("low_freq_factor")?,
        high_freq_factor: number("high_freq_factor")?,
        original_positions: places.first().copied().unwrap_or(max_positions),
    };
    if scaling.factor < 1.0 {
        return Err(format!("key `factor` is {}, less than 1", scaling.factor));
    }
    if scaling.low_freq_factor >= scaling.high_freq_factor {
        return Err(format!(
            "key `low_freq_factor` is {}, not less than `high_freq_factor`, {}",
            scaling.low_freq_factor, scaling.high_freq_factor
        ));
    }
    Ok(Some(scaling))
}

/// The keys of an object, read with their types checked.
struct Keys<'a>(&'a Map<String, Value>);

impl<'a> Keys<'a> {
    /// A key that is there and not null.
    fn given(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A dimension.
    fn required(&self, key: &str) -> Result<usize, String> {
        let value = self.0.get(key).ok_or_else(|| format!("key `{key}` is missing"))?;
        let positive = value
            .as_u64()
            .filter(|&n| n > 0)
            .ok_or_else(|| format!("key `{key}` is {value}, not a positive integer"))?;
        usize::try_from(positive)
            .ok()
            .filter(|&n| n <= LARGEST)
            .ok_or_else(|| format!("key `{key}` is {value}, more than {LARGEST}"))
    }

    /// A number above zero, where it is given.
    fn positive(&self, key: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let number = value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        number.map(Some).ok_or_else(|| format!("key `{key}` is {value}, not a number above 0"))
    }

    /// A switch; off where it is not given.
    fn flag(&self, key: &str) -> Result<bool, String> {
        let Some(value) = self.given(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| format!("key `{key}` is {value}, not true or false"))
    }

    /// Refuses rotations of a part of the heads.
    fn whole_heads(&self, key: &str) -> Result<(), String> {
        match self.given(key) {
            None => Ok(()),
            Some(part) if part.as_f64() == Some(1.0) => Ok(()),
            Some(part) => Err(format!("rotating a part of each head (`{key}` = {part}) is not supported")),
        }
    }
}

#[cfg(test)]
#[path = "model_config_tests.rs"]
mod tests;
