//! Sums of products, and quotients of two of them: what formulas are compared as.
//!
//! A term is a rational number times powers of atoms. An atom is a prime number (its exponent lies between 0 and 1, so that
//! the square root of 12 is 2 times the power 1/2 of 3), the imaginary unit (exponent 1), or a name: a letter, or a whole
//! formula that is looked at no further, such as a sine, named by its text. Each step is an identity, so two formulas with
//! the same form have the same value; the reverse need not hold.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::rational::{Ratio, factors};

/// What terms are products of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// The imaginary unit.
    Imaginary,
    /// A prime number under a root.
    Prime(u128),
    /// A letter, or a formula by its text.
    Name(Rc<str>),
}

/// Powers of atoms, in the order of the atoms; none twice, none with exponent 0.
pub type Monomial = Vec<(Atom, Ratio)>;

/// How much may still be computed: what takes longer has no form, and is compared as text.
#[derive(Debug)]
pub struct Work(Cell<u32>);

impl Default for Work {
    /// For one answer, or one comparison.
    fn default() -> Self {
        Self(Cell::new(20_000))
    }
}

impl Work {
    fn spend(&self, units: usize) -> Option<()> {
        let units = u32::try_from(units).ok()?;
        self.0.set(self.0.get().checked_sub(units)?);
        Some(())
    }
}

/// A sum of terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Poly(BTreeMap<Monomial, Ratio>);

impl Poly {
    /// A number.
    pub fn constant(value: Ratio) -> Self {
        Self::term(Monomial::new(), value)
    }

    /// A letter or another thing that is known by its name alone.
    pub fn name(name: &str) -> Self {
        Self::term(vec![(Atom::Name(name.into()), Ratio::ONE)], Ratio::ONE)
    }

    /// The imaginary unit.
    pub fn imaginary() -> Self {
        Self::term(vec![(Atom::Imaginary, Ratio::ONE)], Ratio::ONE)
    }

    /// One term.
    pub fn term(monomial: Monomial, coefficient: Ratio) -> Self {
        let terms = [(monomial, coefficient)];
        Self(terms.into_iter().filter(|(_, coefficient)| !coefficient.is_zero()).collect())
    }

    /// The terms, in the order of their monomials.
    pub fn terms(&self) -> impl ExactSizeIterator<Item = (&Monomial, Ratio)> {
        self.0.iter().map(|(monomial, coefficient)| (monomial, *coefficient))
    }

    /// The term, when there is exactly one.
    pub fn single(&self) -> Option<(&Monomial, Ratio)> {
        if self.0.len() == 1 { self.terms().next() } else { None }
    }

    /// The number that it is, if it is one.
    pub fn as_constant(&self) -> Option<Ratio> {
        match self.single() {
            None if self.0.is_empty() => Some(Ratio::ZERO),
            Some((monomial, value)) if monomial.is_empty() => Some(value),
            _ => None,
        }
    }

    /// The coefficient of the last term; 0 of nothing.
    pub fn leading(&self) -> Ratio {
        self.0.values().next_back().copied().unwrap_or(Ratio::ZERO)
    }

    /// Every name in it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().flatten().filter_map(|(atom, _)| match atom {
            Atom::Name(name) => Some(&**name),
            _ => None,
        })
    }

    /// The sum.
    pub fn plus(&self, other: &Self, work: &Work) -> Option<Self> {
        work.spend(other.0.len())?;
        let mut sum = self.0.clone();
        for (monomial, coefficient) in &other.0 {
            let value = sum.get(monomial).copied().unwrap_or(Ratio::ZERO).plus(*coefficient)?;
            if value.is_zero() {
                sum.remove(monomial);
            } else {
                sum.insert(monomial.clone(), value);
            }
        }
        Some(Self(sum))
    }

    /// All coefficients times a number.
    pub fn scaled(&self, by: Ratio) -> Option<Self> {
        let scale = |(monomial, value): (&Monomial, Ratio)| Some((monomial.clone(), value.times(by)?));
        let terms: BTreeMap<_, _> = self.terms().map(scale).collect::<Option<_>>()?;
        Some(if by.is_zero() { Self::default() } else { Self(terms) })
    }

    /// The product.
    pub fn times(&self, other: &Self, work: &Work) -> Option<Self> {
        let mut product = BTreeMap::new();
        for left in self.terms() {
            for right in other.terms() {
                work.spend(1 + weight(left.0) + weight(right.0))?;
                let (monomial, value) = multiply(left, right)?;
                let sum = product.get(&monomial).copied().unwrap_or(Ratio::ZERO).plus(value)?;
                product.insert(monomial, sum);
            }
        }
        product.retain(|_, value| !value.is_zero());
        Some(Self(product))
    }

    /// The same times the least term that leaves no letter below.
    pub fn cleared(&self, work: &Work) -> Option<Self> {
        let mut least: BTreeMap<Atom, Ratio> = BTreeMap::new();
        for (atom, exponent) in self.0.keys().flatten().filter(|(_, exponent)| exponent.is_negative()) {
            let known = least.entry(atom.clone()).or_insert(*exponent);
            if known.plus(exponent.negated())?.top() > 0 {
                *known = *exponent;
            }
        }
        let missing = least.into_iter().map(|(atom, exponent)| (atom, exponent.negated()));
        self.times(&Self::term(missing.collect(), Ratio::ONE), work)
    }
}

impl std::fmt::Display for Poly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (monomial, value) in self.terms() {
            write!(f, "{}{value}", if value.is_negative() { "" } else { "+" })?;
            for (atom, exponent) in monomial {
                match atom {
                    Atom::Imaginary => write!(f, " i")?,
                    Atom::Prime(prime) => write!(f, " {prime}^{exponent}")?,
                    Atom::Name(name) => write!(f, " <{name}>^{exponent}")?,
                }
            }
        }
        if self.0.is_empty() { write!(f, "0") } else { Ok(()) }
    }
}

/// What it costs to look at a monomial.
fn weight(monomial: &Monomial) -> usize {
    let of = |atom: &Atom| if let Atom::Name(name) = atom { 1 + name.len() / 8 } else { 1 };
    monomial.iter().map(|(atom, _)| of(atom)).sum()
}

/// The product of two terms.
fn multiply(left: (&Monomial, Ratio), right: (&Monomial, Ratio)) -> Option<(Monomial, Ratio)> {
    let mut value = left.1.times(right.1)?;
    let mut monomial = Monomial::with_capacity(left.0.len() + right.0.len());
    let (mut left, mut right) = (left.0.iter().peekable(), right.0.iter().peekable());
    loop {
        let (atom, exponent) = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some((a, _)), Some((b, _))) if a == b => {
                let (one, two) = (left.next()?, right.next()?);
                (&one.0, one.1.plus(two.1)?)
            }
            (Some((a, _)), Some((b, _))) if a < b => left.next().map(|(atom, exponent)| (atom, *exponent))?,
            (Some(_), None) => left.next().map(|(atom, exponent)| (atom, *exponent))?,
            _ => right.next().map(|(atom, exponent)| (atom, *exponent))?,
        };
        let (exponent, factor) = carry(atom, exponent)?;
        value = value.times(factor)?;
        if !exponent.is_zero() {
            monomial.push((atom.clone(), exponent));
        }
    }
    Some((monomial, value))
}

/// The exponent that stays with an atom, and the number that comes out of it.
fn carry(atom: &Atom, exponent: Ratio) -> Option<(Ratio, Ratio)> {
    match atom {
        Atom::Name(_) => Some((exponent, Ratio::ONE)),
        Atom::Imaginary if !exponent.is_whole() => None,
        Atom::Imaginary => {
            let turns = exponent.top().rem_euclid(4);
            let sign = if turns >= 2 { Ratio::whole(-1) } else { Ratio::ONE };
            Some((Ratio::whole(i64::from(turns % 2 == 1)), sign))
        }
        Atom::Prime(prime) => {
            let whole = exponent.floor();
            let rest = exponent.plus(Ratio::new(whole.checked_neg()?, 1)?)?;
            let prime = Ratio::new(i128::try_from(*prime).ok()?, 1)?;
            Some((rest, prime.power(i64::try_from(whole).ok()?)?))
        }
    }
}

/// One sum over another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fraction {
    top: Poly,
    bottom: Poly,
}

impl Fraction {
    /// A sum over 1.
    pub fn of(top: Poly) -> Self {
        Self { top, bottom: Poly::constant(Ratio::ONE) }
    }

    /// A number.
    pub fn constant(value: Ratio) -> Self {
        Self::of(Poly::constant(value))
    }

    /// The sum above.
    pub fn top(&self) -> &Poly {
        &self.top
    }

    /// The sum below.
    pub fn bottom(&self) -> &Poly {
        &self.bottom
    }

    /// The sum, when nothing is below it.
    pub fn as_poly(&self) -> Option<&Poly> {
        (self.bottom.as_constant() == Some(Ratio::ONE)).then_some(&self.top)
    }

    /// The term, when it is only one.
    pub fn as_term(&self) -> Option<(&Monomial, Ratio)> {
        self.as_poly().and_then(Poly::single)
    }

    /// The number that it is, if it is one.
    pub fn as_constant(&self) -> Option<Ratio> {
        self.as_poly().and_then(Poly::as_constant)
    }

    /// One term below goes above; a sum below gets 1 as its leading coefficient.
    fn new(top: &Poly, bottom: &Poly, work: &Work) -> Option<Self> {
        if let Some((monomial, value)) = bottom.single() {
            let inverse = raise(monomial, value, Ratio::whole(-1))?;
            return Some(Self::of(top.times(&inverse, work)?));
        }
        let scale = bottom.leading().inverse()?;
        Some(Self { top: top.scaled(scale)?, bottom: bottom.scaled(scale)? })
    }

    /// The sum.
    pub fn plus(&self, other: &Self, work: &Work) -> Option<Self> {
        if self.bottom == other.bottom {
            return Self::new(&self.top.plus(&other.top, work)?, &self.bottom, work);
        }
        let left = self.top.times(&other.bottom, work)?;
        let right = other.top.times(&self.bottom, work)?;
        Self::new(&left.plus(&right, work)?, &self.bottom.times(&other.bottom, work)?, work)
    }

    /// The value with the other sign.
    pub fn negated(&self) -> Option<Self> {
        Some(Self { top: self.top.scaled(Ratio::whole(-1))?, bottom: self.bottom.clone() })
    }

    /// The product.
    pub fn times(&self, other: &Self, work: &Work) -> Option<Self> {
        Self::new(&self.top.times(&other.top, work)?, &self.bottom.times(&other.bottom, work)?, work)
    }

    /// `1 / self`; `None` of zero.
    pub fn inverse(&self, work: &Work) -> Option<Self> {
        Self::new(&self.bottom, &self.top, work)
    }

    /// The power with a rational exponent; `None` where no identity that always holds gives one.
    pub fn power(&self, exponent: Ratio, work: &Work) -> Option<Self> {
        if let Some((monomial, value)) = self.as_term() {
            work.spend(if exponent.is_whole() { 1 } else { 100 })?;
            return raise(monomial, value, exponent).map(Self::of);
        }
        let size = exponent.as_small().filter(|size| size.unsigned_abs() <= 64)?;
        let base = if size < 0 { self.inverse(work)? } else { self.clone() };
        (0..size.unsigned_abs()).try_fold(Self::constant(Ratio::ONE), |product, _| product.times(&base, work))
    }

    /// Whether both are the same function: `a / b = c / d` where `a d = b c`.
    pub fn equals(&self, other: &Self, work: &Work) -> bool {
        if self == other {
            return true;
        }
        let cross = |left: &Self, right: &Self| left.top.times(&right.bottom, work);
        cross(self, other).is_some_and(|product| cross(other, self).is_some_and(|other| product == other))
    }
}

impl std::fmt::Display for Fraction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_poly() {
            Some(poly) => write!(f, "{poly}"),
            None => write!(f, "({})/({})", self.top, self.bottom),
        }
    }
}

/// A power of one term.
///
/// With a fraction as its exponent: of a positive number; of a negative number when the root is odd (the real one) or a
/// square root; and of a letter that is alone with positive factors. `\sqrt{x^2}` is not `x`, so all else has no form.
fn raise(monomial: &Monomial, value: Ratio, exponent: Ratio) -> Option<Poly> {
    let mut product = (Monomial::new(), Ratio::ONE);
    let mut by = |atom: Atom, exponent: Ratio| {
        let (exponent, factor) = carry(&atom, exponent)?;
        let power = if exponent.is_zero() { Vec::new() } else { vec![(atom, exponent)] };
        product = multiply((&product.0, product.1), (&power, factor))?;
        Some(())
    };
    if let Some(whole) = exponent.as_small() {
        for (atom, own) in monomial {
            by(atom.clone(), own.times(exponent)?)?;
        }
        return Some(Poly::term(product.0, product.1.times(value.power(whole)?)?));
    }
    let positive = |atom: &Atom| match atom {
        Atom::Prime(_) => true,
        Atom::Imaginary => false,
        Atom::Name(name) => matches!(&**name, "\\pi" | "e"),
    };
    let mut unknown = monomial.iter().filter(|(atom, _)| !positive(atom));
    let first = unknown.next();
    let lone = first.is_none_or(|(atom, own)| *atom != Atom::Imaginary && *own == Ratio::ONE);
    // The sign of a number may not be moved past a letter: the root of -x is not i times the root of x.
    if unknown.next().is_some() || !lone || (value.is_negative() && first.is_some()) || value.is_zero() {
        return None;
    }
    for (atom, own) in monomial {
        by(atom.clone(), own.times(exponent)?)?;
    }
    for (number, sign) in [(value.top().unsigned_abs(), 1), (value.bottom().unsigned_abs(), -1)] {
        for (prime, times) in factors(number) {
            by(Atom::Prime(prime), exponent.times(Ratio::whole(times * sign))?)?;
        }
    }
    if value.is_negative() {
        match exponent.bottom() {
            2 => by(Atom::Imaginary, Ratio::new(exponent.top(), 1)?)?,
            odd if odd % 2 == 1 && exponent.top() % 2 != 0 => product.1 = product.1.negated(),
            odd if odd % 2 == 1 => {}
            _ => return None,
        }
    }
    Some(Poly::term(product.0, product.1))
}
