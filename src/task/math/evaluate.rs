//! Formulas to what they are compared as.
//!
//! A formula that is worked out is its value: a quotient of two sums of terms. One that still has something to do is kept as
//! it is written, up to the order of terms and factors, so that copying the question (`3\cdot 4+5`, `\binom{8}{3}`,
//! `(x+1)(x-2)` where its expansion is asked for) does not count as answering it. Something to do is: arithmetic between
//! numbers other than a fraction of integers, a mixed number, one power or scientific notation; like terms or factors; a
//! common factor above and below; a root that is a rational number; factorials and binomials. Products of several sums are told from their expansions, and compared factor by
//! factor.

use std::collections::BTreeMap;

use super::polynomial::{Atom, Fraction, Monomial, Poly, Work};
use super::rational::Ratio;
use super::syntax::Expr;

/// A formula in the form that is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Formula {
    /// The value, where it can be had.
    pub value: Option<Fraction>,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Worked out: the value says all.
    Plain,
    /// Likewise, a power of a number: as it is written where it is a part of something that is not worked out.
    Power(String),
    /// A term, and sums with their exponents, each with 1 as its leading coefficient.
    Factored(Fraction, BTreeMap<Fraction, i64>),
    /// As it is written.
    Written(String),
}

impl Formula {
    /// Whether both are the same answer.
    pub fn equals(&self, other: &Self, work: &Work) -> bool {
        match (self.plain(), other.plain()) {
            // A sum below is not the same as none: a quotient that is not carried out.
            (Some(left), Some(right)) => {
                left.as_poly().is_some() == right.as_poly().is_some() && left.equals(right, work)
            }
            _ => self.form == other.form,
        }
    }

    /// The value of a formula that is worked out.
    pub fn plain(&self) -> Option<&Fraction> {
        if matches!(self.form, Form::Plain | Form::Power(_)) { self.value.as_ref() } else { None }
    }

    /// A hundredth of it: what a number of percents stands for.
    pub fn hundredth(&self, work: &Work) -> Option<Self> {
        let hundredth = Fraction::constant(Ratio::new(1, 100)?);
        self.plain()?.times(&hundredth, work).map(plain)
    }

    /// The product with a number or an expression, as an entry of a matrix has it.
    pub fn times(&self, factor: &Self, work: &Work) -> Option<Self> {
        self.plain()?.times(factor.plain()?, work).map(plain)
    }

    fn shape(&self) -> String {
        match (&self.form, &self.value) {
            (Form::Written(text) | Form::Power(text), _) => text.clone(),
            (Form::Plain, Some(value)) => format!("[{value}]"),
            (Form::Plain, None) => String::new(),
            (Form::Factored(unit, factors), _) => {
                let factor = |(factor, times): (&Fraction, &i64)| format!("({factor})^{times}");
                format!("[{unit}]{}", factors.iter().map(factor).collect::<String>())
            }
        }
    }
}

fn plain(value: Fraction) -> Formula {
    Formula { value: Some(value), form: Form::Plain }
}

/// What is left as it is written; the parts in order where their order does not count.
fn written(operation: &str, mut parts: Vec<String>, ordered: bool, value: Option<Fraction>) -> Formula {
    if !ordered {
        parts.sort_unstable();
    }
    Formula { value, form: Form::Written(format!("{operation}({})", parts.join(";"))) }
}

/// The form of a formula; `None` where the numbers or the work get too large.
pub fn evaluate(formula: &Expr, work: &Work) -> Option<Formula> {
    match formula {
        Expr::Number(value) => Some(plain(Fraction::constant(*value))),
        Expr::Symbol(name) => Some(plain(Fraction::of(Poly::name(name)))),
        Expr::Imaginary => Some(plain(Fraction::of(Poly::imaginary()))),
        Expr::Negative(inner) => negative(evaluate(inner, work)?),
        Expr::Sum(terms) => sum(&all(terms, work)?, work),
        Expr::Product(factors) => product(factors, &all(factors, work)?, work),
        Expr::Quotient(top, bottom) => quotient(&evaluate(top, work)?, &evaluate(bottom, work)?, work),
        Expr::Power(base, exponent) => power(&evaluate(base, work)?, &evaluate(exponent, work)?, work),
        Expr::Root(index, inner) => {
            let inner = evaluate(inner, work)?;
            let exponent = Ratio::new(1, i128::from(*index))?;
            match inner.plain() {
                Some(value) => Some(root(value, exponent, work)),
                None => Some(written(&format!("root {index}"), vec![inner.shape()], true, None)),
            }
        }
        Expr::Call(name, arguments) => {
            let arguments = all(arguments, work)?;
            let shapes: Vec<String> = arguments.iter().map(Formula::shape).collect();
            if arguments.iter().all(|argument| argument.plain().is_some()) {
                return Some(plain(Fraction::of(Poly::name(&format!("{name}({})", shapes.join(";"))))));
            }
            Some(written(name, shapes, true, None))
        }
    }
}

fn all(formulas: &[Expr], work: &Work) -> Option<Vec<Formula>> {
    formulas.iter().map(|formula| evaluate(formula, work)).collect()
}

fn negative(inner: Formula) -> Option<Formula> {
    let value = inner.value.as_ref().and_then(Fraction::negated);
    let form = match inner.form {
        Form::Plain => Form::Plain,
        Form::Factored(unit, factors) => Form::Factored(unit.negated()?, factors),
        Form::Power(text) => Form::Power(format!("-({text})")),
        Form::Written(text) => Form::Written(format!("-({text})")),
    };
    if form == Form::Plain && value.is_none() { None } else { Some(Formula { value, form }) }
}

fn sum(terms: &[Formula], work: &Work) -> Option<Formula> {
    let zero = Fraction::constant(Ratio::ZERO);
    let mut values = terms.iter().map(|term| term.value.as_ref());
    let value = values.try_fold(zero, |sum, value| sum.plus(value?, work));
    let count = |value: &Fraction| value.as_poly().map(|poly| poly.terms().len());
    let written_terms = terms.iter().map(|term| term.plain().and_then(count)).sum::<Option<usize>>();
    if written_terms.is_some() && written_terms == value.as_ref().and_then(count) {
        return value.map(plain);
    }
    Some(written("+", terms.iter().map(Formula::shape).collect(), false, value))
}

fn product(factors: &[Expr], formulas: &[Formula], work: &Work) -> Option<Formula> {
    let one = Fraction::constant(Ratio::ONE);
    let mut values = formulas.iter().map(|formula| formula.value.as_ref());
    let value = values.try_fold(one, |all, value| all.times(value?, work));
    let unfinished = formulas.iter().any(|formula| matches!(formula.form, Form::Written(_)))
        || !(are_apart(formulas) || is_scientific(factors));
    if unfinished {
        return Some(written("*", formulas.iter().map(Formula::shape).collect(), false, value));
    }
    gather(formulas.iter().map(|formula| (formula, 1)), value, work)
}

/// Whether the factors that are single terms have nothing to be put together: one number, and no letter or root twice.
fn are_apart(formulas: &[Formula]) -> bool {
    let mut numbers = 0;
    // A letter and its root may stay apart: `x \sqrt{x}`.
    let mut atoms: Vec<(&Atom, bool)> = Vec::new();
    for (monomial, _) in formulas.iter().filter_map(|formula| formula.plain()?.as_term()) {
        numbers += usize::from(monomial.is_empty());
        atoms.extend(monomial.iter().map(|(atom, exponent)| (atom, exponent.is_whole())));
    }
    let zero =
        formulas.iter().any(|formula| formula.plain().and_then(Fraction::as_constant) == Some(Ratio::ZERO));
    let count = atoms.len();
    atoms.sort_unstable();
    atoms.dedup();
    numbers <= 1 && atoms.len() == count && !zero
}

/// `6.02 \times 10^{23}`.
fn is_scientific(factors: &[Expr]) -> bool {
    let [first, Expr::Power(base, exponent)] = factors else { return false };
    let whole = |expr: &Expr| match expr {
        Expr::Number(value) => value.is_whole(),
        _ => false,
    };
    let signed = match &**exponent {
        Expr::Negative(inner) => whole(inner),
        other => whole(other),
    };
    matches!(first, Expr::Number(_)) && **base == Expr::Number(Ratio::whole(10)) && signed
}

/// Factors with their exponents, none of them as written: one sum is multiplied out, several are kept apart.
fn gather<'a>(
    factors: impl Iterator<Item = (&'a Formula, i64)>,
    value: Option<Fraction>,
    work: &Work,
) -> Option<Formula> {
    let mut unit = Fraction::constant(Ratio::ONE);
    let mut sums: BTreeMap<Fraction, i64> = BTreeMap::new();
    for (factor, times) in factors {
        let (own, inner) = match &factor.form {
            Form::Factored(unit, sums) => (unit.clone(), sums.clone()),
            _ => split(factor.value.as_ref()?)?,
        };
        unit = unit.times(&own.power(Ratio::whole(times), work)?, work)?;
        for (sum, exponent) in inner {
            *sums.entry(sum).or_default() +=
                exponent.checked_mul(times).filter(|size| size.abs() <= 1_000)?;
        }
    }
    let cancels = sums.values().any(|times| *times == 0);
    let above = sums.values().filter(|times| **times > 0).count();
    let simple = sums.values().all(|times| times.abs() == 1) && above <= 1 && sums.len() - above <= 1;
    if simple && !cancels {
        return value.map(plain);
    }
    if cancels {
        sums.retain(|_, times| *times != 0);
        let left = Formula { value: None, form: Form::Factored(unit, sums) };
        return Some(written("uncancelled", vec![left.shape()], true, value));
    }
    Some(Formula { value, form: Form::Factored(unit, sums) })
}

/// A value as a term, and sums with 1 as their leading coefficient above and below.
fn split(value: &Fraction) -> Option<(Fraction, BTreeMap<Fraction, i64>)> {
    let mut sums = BTreeMap::new();
    // What is below has 1 as its leading coefficient already.
    if value.as_poly().is_none() {
        sums.insert(Fraction::of(value.bottom().clone()), -1);
    }
    let top = value.top();
    if top.terms().len() < 2 {
        return Some((Fraction::of(top.clone()), sums));
    }
    let leading = top.leading();
    let above = Fraction::of(top.scaled(leading.inverse()?)?);
    // The same above and below: still to be cancelled.
    *sums.entry(above).or_insert(0) += 1;
    Some((Fraction::constant(leading), sums))
}

fn quotient(top: &Formula, bottom: &Formula, work: &Work) -> Option<Formula> {
    let inverse = bottom.value.as_ref().and_then(|value| value.inverse(work));
    let value = top.value.as_ref().and_then(|top| top.times(inverse.as_ref()?, work));
    let shapes = || vec![top.shape(), bottom.shape()];
    let (Some(above), Some(below)) = (top.plain(), bottom.plain()) else {
        if matches!(top.form, Form::Written(_)) || matches!(bottom.form, Form::Written(_)) {
            return Some(written("/", shapes(), true, value));
        }
        return gather([(top, 1), (bottom, -1)].into_iter(), value, work);
    };
    // By nothing.
    inverse?;
    let whole = |number: Ratio| number.is_whole();
    let numbers = above.as_constant().zip(below.as_constant());
    let unfinished = numbers.is_some_and(|(above, below)| !whole(above) || !whole(below))
        || below.as_term().is_some_and(|(monomial, _)| has_common(above, monomial))
        || (below.as_term().is_none() && below == above);
    if unfinished {
        return Some(written("/", shapes(), true, value));
    }
    value.map(plain)
}

/// Whether a term below has something in common with every term above, or the imaginary unit.
fn has_common(above: &Fraction, below: &Monomial) -> bool {
    let Some(above) = above.as_poly() else { return false };
    below.iter().any(|(atom, exponent)| {
        let shares = |monomial: &Monomial| {
            monomial
                .iter()
                .any(|(other, power)| other == atom && !power.is_negative() && !exponent.is_negative())
        };
        let all = above.terms().len() > 0 && above.terms().all(|(monomial, _)| shares(monomial));
        *atom == Atom::Imaginary || all
    })
}

/// A root of a value, or another power with a fraction as its exponent.
fn root(value: &Fraction, exponent: Ratio, work: &Work) -> Formula {
    let Some(root) = value.power(exponent, work) else {
        return plain(Fraction::of(Poly::name(&format!("({value})^{exponent}"))));
    };
    if value.as_constant().is_some() && root.as_constant().is_some() {
        // The root of 16 is still to be taken.
        return written("root", vec![value.to_string(), exponent.to_string()], true, Some(root));
    }
    plain(root)
}

fn power(base: &Formula, exponent: &Formula, work: &Work) -> Option<Formula> {
    let shapes = || vec![base.shape(), exponent.shape()];
    let Some(raised) = exponent.plain() else { return Some(written("^", shapes(), true, None)) };
    let Some(number) = raised.as_constant() else { return symbolic(base, raised, work) };
    let value = base.value.as_ref().and_then(|value| value.power(number, work));
    if number == Ratio::ONE {
        return Some(base.clone());
    }
    if matches!(base.form, Form::Written(_)) {
        return Some(written("^", shapes(), true, value));
    }
    let plain_base = base.plain();
    if let Some(below) = plain_base.filter(|_| !number.is_whole()) {
        return Some(root(below, number, work));
    }
    if let Some(constant) = plain_base.and_then(Fraction::as_constant) {
        // A power of a number is a way to write one, unless it is too large to be had.
        let had = value.is_some() && !constant.is_zero();
        let text = format!("^({})", shapes().join(";"));
        let (value, form) = if had { (value, Form::Power(text)) } else { (None, Form::Written(text)) };
        return Some(Formula { value, form });
    }
    let Some(whole) = number.as_small().filter(|whole| *whole != 0) else {
        return Some(written("^", shapes(), true, value));
    };
    if let Some((monomial, coefficient)) = plain_base.and_then(Fraction::as_term) {
        let lone = matches!(&monomial[..], [(Atom::Name(_), exponent)] if *exponent == Ratio::ONE);
        if lone && coefficient == Ratio::ONE {
            return value.map(plain);
        }
        return Some(written("^", shapes(), true, value));
    }
    if whole == -1 && plain_base.is_some() {
        return value.map(plain);
    }
    gather([(base, whole)].into_iter(), value, work)
}

/// A power whose exponent has letters: a name, times what a number in the exponent makes.
fn symbolic(base: &Formula, exponent: &Fraction, work: &Work) -> Option<Formula> {
    let Some(below) = base.plain() else {
        return Some(written("^", vec![base.shape(), format!("[{exponent}]")], true, None));
    };
    let number = exponent
        .as_poly()
        .and_then(|poly| poly.terms().find(|(monomial, _)| monomial.is_empty()).map(|(_, value)| value));
    let number = number.unwrap_or(Ratio::ZERO);
    let rest = exponent.plus(&Fraction::constant(number.negated()), work)?;
    let name = Fraction::of(Poly::name(&format!("({below})^({rest})")));
    let factor = below.power(number, work)?;
    name.times(&factor, work).map(plain)
}
