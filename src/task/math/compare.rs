//! Whether two answers that were read are the same.

use super::polynomial::Work;
use super::structure::Value;

/// Whether both are the same thing.
pub fn same(left: &Value, right: &Value, work: &Work) -> bool {
    match (left, right) {
        (Value::Formula(left), Value::Formula(right)) => left.equals(right, work),
        (Value::Sequence(open, close, left), Value::Sequence(other_open, other_close, right)) => {
            open == other_open && close == other_close && in_order(left, right, work)
        }
        (Value::Bag(left), Value::Bag(right)) => in_any_order(left, right, work),
        (Value::Combined(mark, left), Value::Combined(other, right)) if mark == other => match mark {
            '∖' => in_order(left, right, work),
            _ => in_any_order(left, right, work),
        },
        (Value::Matrix(kind, left), Value::Matrix(other, right)) => {
            let mut rows = left.iter().zip(right);
            kind == other
                && left.len() == right.len()
                && rows.all(|(left, right)| in_order(left, right, work))
        }
        (Value::Measured(unit, left), Value::Measured(other, right)) => {
            unit == other && same(left, right, work)
        }
        (Value::Labelled(label, left), Value::Labelled(other, right)) => {
            let equation = label.equation.is_some() && label.equation == other.equation;
            equation || (label.name == other.name && same(left, right, work))
        }
        (Value::Labelled(label, _), Value::Equation(zero))
        | (Value::Equation(zero), Value::Labelled(label, _)) => label.equation.as_ref() == Some(zero),
        (Value::Sides(sign, left, right), Value::Sides(other, first, second)) => {
            sign == other
                && ((same(left, first, work) && same(right, second, work))
                    || (same(left, second, work) && same(right, first, work)))
        }
        (left, right) => left == right,
    }
}

/// The same as whole answers: what one of them names and the other does not is passed over.
pub fn same_answer(left: &Value, right: &Value, work: &Work) -> bool {
    match (left, right) {
        (
            Value::Labelled(..),
            Value::Labelled(..) | Value::Equation(_) | Value::Sides(..) | Value::Inequality(..),
        )
        | (Value::Equation(_) | Value::Sides(..) | Value::Inequality(..), Value::Labelled(..)) => {
            same(left, right, work)
        }
        (Value::Labelled(_, inner), other) | (other, Value::Labelled(_, inner)) => {
            same_answer(inner, other, work)
        }
        // A set of one, or a list of one, is what is in it.
        (Value::Bag(items), other) | (other, Value::Bag(items))
            if items.len() == 1 && !matches!(other, Value::Bag(_)) =>
        {
            same(&items[0], other, work)
        }
        _ => same(left, right, work),
    }
}

/// The answer with every number divided by 100; `None` where there is something else.
pub fn hundredth(value: &Value, work: &Work) -> Option<Value> {
    let all = |items: &[Value]| items.iter().map(|item| hundredth(item, work)).collect::<Option<Vec<_>>>();
    match value {
        Value::Formula(formula) => formula.hundredth(work).map(Value::Formula),
        Value::Bag(items) => all(items).map(Value::Bag),
        Value::Sequence(open, close, items) => Some(Value::Sequence(*open, *close, all(items)?)),
        Value::Labelled(label, inner) => {
            Some(Value::Labelled(label.clone(), Box::new(hundredth(inner, work)?)))
        }
        _ => None,
    }
}

fn in_order(left: &[Value], right: &[Value], work: &Work) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right, work))
}

/// As many of each on both sides.
fn in_any_order(left: &[Value], right: &[Value], work: &Work) -> bool {
    let mut rest: Vec<&Value> = right.iter().collect();
    left.len() == right.len()
        && left.iter().all(|item| {
            let found = rest.iter().position(|other| same(item, other, work));
            found.is_some_and(|at| {
                rest.swap_remove(at);
                true
            })
        })
}
