//! Ranges as the values of an axis: `{ logspace = [1e-7, 1e-2, 11] }`, `{ linspace = [0.9, 0.99, 10] }`,
//! `{ range = [0, 20] }`.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Key, Kind};
use super::source::{Issue, Source, Span, counted, nearest};
use super::value::{Value, integer, number};

/// The most values of a range: more is a slip.
pub(super) const MOST: i64 = 1_000_000;

/// The most values that the ranges of a grid have together, so that a few lines cannot fill the memory.
pub(super) const MOST_IN_ALL: i64 = 4_000_000;

const SHAPES: [&str; 3] = ["linspace", "logspace", "range"];

/// Whether a name is that of a range.
pub(super) fn is_shape(name: &str) -> bool {
    SHAPES.contains(&name)
}

const HELP: &str = "a range is { logspace = [first, last, count] }, { linspace = [first, last, count] }, \
                    or { range = [start, stop] } with the stop left out and perhaps a step";

/// The values of a range, when the value is one: a table with one of the names of ranges, or a misspelt one.
pub(super) fn read(
    key: &'static Key,
    value: &Spanned<DeValue<'_>>,
    source: &Arc<Source>,
    budget: &mut i64,
) -> Option<Result<Vec<(Value, Span)>, Issue>> {
    let table = value.get_ref().as_table()?;
    Some(values(key, table, &value.span(), source, budget).and_then(|values| {
        let checked = values.into_iter().map(|found| {
            if in_range(key, &found) {
                Ok((found, value.span()))
            } else {
                Err(Issue::new(source, &value.span(), format!("`{}` = {found} is out of range", key.path))
                    .help(format!("it must be {}", key.kind.allowed())))
            }
        });
        checked.collect()
    }))
}

fn values(
    key: &Key,
    table: &DeTable<'_>,
    span: &Span,
    source: &Arc<Source>,
    budget: &mut i64,
) -> Result<Vec<Value>, Issue> {
    let wrong = |text: String| Issue::new(source, span, text).help(HELP);
    let mut entries = table.iter();
    let (Some((name, value)), None) = (entries.next(), entries.next()) else {
        return Err(wrong(format!("`{}` cannot be {}, a table", key.path, source.excerpt(span))));
    };
    let name = name.get_ref().as_ref();
    if !SHAPES.contains(&name) {
        let meant =
            nearest(name, SHAPES).map(|shape| format!("did you mean `{shape}`? ")).unwrap_or_default();
        let text = format!("`{}` cannot be {}: there is no range `{name}`", key.path, source.excerpt(span));
        return Err(Issue::new(source, span, text).help(format!("{meant}{HELP}")));
    }
    let whole = matches!(key.kind, Kind::Integer(..));
    if !(whole || matches!(key.kind, Kind::Number(_))) {
        let text = format!("`{}` cannot be a range: its values are not numbers", key.path);
        return Err(Issue::new(source, span, text).help(format!("it must be {}", key.kind.allowed())));
    }
    let items =
        value.get_ref().as_array().map(|items| items.iter().map(Spanned::get_ref).collect::<Vec<_>>());
    let shown = source.excerpt(&value.span());
    let wrong = |text: String| Issue::new(source, &value.span(), text).help(HELP);
    let items = items.ok_or_else(|| wrong(format!("`{name}` cannot be {shown}")))?;
    let refused = |count: i128, help: &str| {
        let count = counted(count.max(0).unsigned_abs(), "value");
        wrong(format!("`{name}` = {shown} has {count}")).help(help)
    };
    let mut spend = |count: i64| {
        *budget -= count;
        if *budget < 0 {
            let most = counted(MOST_IN_ALL.unsigned_abs().into(), "value");
            return Err(refused(count.into(), &format!("the ranges of a grid have at most {most} together")));
        }
        Ok(())
    };
    if name == "range" {
        let numbers: Option<Vec<i64>> = items.iter().map(|item| integer(item)).collect();
        let (start, stop, step) = match numbers.as_deref() {
            Some([start, stop]) => (*start, *stop, 1),
            Some([start, stop, step]) if *step > 0 => (*start, *stop, *step),
            Some([_, _, step]) => {
                return Err(wrong(format!("`range` = {shown} has the step {step}, which is not at least 1")));
            }
            _ => {
                return Err(wrong(format!("`range` cannot be {shown}: it takes two or three whole numbers")));
            }
        };
        let count = (i128::from(stop) - i128::from(start) + i128::from(step) - 1) / i128::from(step);
        if count < 1 {
            return Err(refused(count, "it goes up from the start and leaves the stop out"));
        }
        if count > i128::from(MOST) {
            return Err(refused(count, &format!("a range has at most {}", counted(MOST as u128, "value"))));
        }
        spend(count as i64)?;
        let at = |index: i64| start + index * step;
        let make = |x: i64| if whole { Value::Integer(x) } else { Value::Number(x as f64) };
        return Ok((0..count as i64).map(at).map(make).collect());
    }
    if whole {
        return Err(wrong(format!("`{}` has whole values: `{name}` makes others", key.path)));
    }
    let (first, last, count) = match items.as_slice() {
        [first, last, count] => (number(first), number(last), integer(count)),
        _ => (None, None, None),
    };
    let (Some(first), Some(last), Some(count)) = (first, last, count) else {
        return Err(wrong(format!("`{name}` cannot be {shown}: it takes first, last and a whole count")));
    };
    if !(2..=MOST).contains(&count) {
        let most = counted(MOST as u128, "value");
        return Err(refused(count.into(), &format!("it has both ends, so at least 2, and at most {most}")));
    }
    if first == last {
        let text = format!("`{name}` = {shown} begins where it ends");
        return Err(wrong(text).help("its ends differ: write a single value as a value"));
    }
    if name == "logspace" && !(first > 0.0 && last > 0.0) {
        return Err(wrong(format!("`logspace` = {shown} has an end that is not above 0")));
    }
    spend(count)?;
    Ok((0..count)
        .map(|index| Value::Number(point(name == "logspace", first, last, index, count - 1)))
        .collect())
}

/// The value at a place of a range. Ends are exact; values between are rounded to 12 significant digits, so that whole
/// powers of ten are themselves and every platform's logarithm gives the same number.
fn point(log: bool, first: f64, last: f64, index: i64, steps: i64) -> f64 {
    if index == 0 {
        return first;
    }
    if index == steps {
        return last;
    }
    let share = index as f64 / steps as f64;
    let exact = if log {
        let (low, high) = (first.log10(), last.log10());
        10_f64.powf(low + (high - low) * share)
    } else {
        first + (last - first) * share
    };
    // A float with twelve digits always reads back.
    format!("{exact:.11e}").parse().unwrap_or(exact)
}

fn in_range(key: &Key, value: &Value) -> bool {
    match (key.kind, value) {
        (Kind::Integer(low, high), Value::Integer(x)) => (low..=high).contains(x),
        (Kind::Number(range), Value::Number(x)) => range.contains(*x),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logspace_hits_whole_powers_and_both_ends() {
        let values = |first, last, count: i64| {
            (0..count).map(|i| point(true, first, last, i, count - 1)).collect::<Vec<_>>()
        };
        assert_eq!(values(1e-7, 1e-2, 6), [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2]);
        // Half a decade is a factor of the root of ten, 3.16227766017 to twelve digits.
        assert_eq!(values(1e-7, 1e-2, 11)[1], 3.162_277_660_17e-7);
        assert_eq!(values(1e-2, 1e-4, 3), [1e-2, 1e-3, 1e-4]);
    }

    #[test]
    fn linspace_is_even() {
        let values = (0..5).map(|i| point(false, 0.5, 0.9, i, 4)).collect::<Vec<_>>();
        assert_eq!(values, [0.5, 0.6, 0.7, 0.8, 0.9]);
    }
}
