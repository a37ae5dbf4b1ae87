//! What commands, characters and words mean: the tables of the notation.

/// What a command or a character does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing that counts: a space, a size.
    Nothing,
    /// The group behind it is text.
    Text,
    /// The group behind it is upright: words and units.
    Roman,
    /// `\left` and `\right`.
    Side,
    /// `\begin`.
    Begins,
    /// `\end`.
    Ends,
    /// Takes a group along into nothing.
    Skips,
    /// A mark.
    Mark(char),
    /// An opening bracket.
    Open(char),
    /// A closing bracket.
    Close(char),
    /// `\\`.
    Row,
    /// A degree sign.
    Degree,
    /// A percent sign.
    Percent,
    /// A currency.
    Money(char),
    /// A raised digit.
    Raised(u8),
    /// A thing with a name, with its backslash.
    Thing(String),
}

/// What a command means, by its name without the backslash.
pub fn command(name: &str) -> Meaning {
    match name {
        "text" | "mbox" | "hbox" | "textrm" | "textbf" | "textit" | "textnormal" | "textsf" | "texttt"
        | "emph" => Meaning::Text,
        "mathrm" | "operatorname" | "rm" | "mathsf" => Meaning::Roman,
        "left" | "right" => Meaning::Side,
        "begin" => Meaning::Begins,
        "end" => Meaning::Ends,
        "hspace" | "vspace" | "hphantom" | "phantom" | "label" | "tag" => Meaning::Skips,
        "!" | "," | ";" | ":" | ">" | " " | "/" | "(" | ")" | "[" | "]" | "quad" | "qquad" | "thinspace"
        | "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "nolimits" | "big" | "Big" | "bigg"
        | "Bigg" | "bigl" | "bigr" | "Bigl" | "Bigr" | "biggl" | "biggr" | "Biggl" | "Biggr" | "middle"
        | "mathbf" | "bf" | "mathit" | "boldsymbol" | "bm" | "mathnormal" | "boxed" | "fbox" | "strut"
        | "protect" | "" => Meaning::Nothing,
        "dfrac" | "tfrac" | "cfrac" | "frac" => thing("\\frac"),
        "binom" | "dbinom" | "tbinom" => thing("\\binom"),
        "cdot" | "times" | "ast" | "star" => Meaning::Mark('*'),
        "div" => Meaning::Mark('/'),
        "pm" => Meaning::Mark('±'),
        "mp" => Meaning::Mark('∓'),
        "le" | "leq" | "leqslant" => Meaning::Mark('≤'),
        "ge" | "geq" | "geqslant" => Meaning::Mark('≥'),
        "lt" => Meaning::Mark('<'),
        "gt" => Meaning::Mark('>'),
        "ne" | "neq" => Meaning::Mark('≠'),
        "in" => Meaning::Mark('∈'),
        "cup" => Meaning::Mark('∪'),
        "cap" => Meaning::Mark('∩'),
        "setminus" | "backslash" => Meaning::Mark('∖'),
        "mid" | "vert" | "lvert" | "rvert" => Meaning::Mark('|'),
        "colon" => Meaning::Mark(':'),
        "prime" => Meaning::Mark('\''),
        "&" => Meaning::Mark('&'),
        "#" => Meaning::Mark('#'),
        "_" => Meaning::Mark('_'),
        "{" | "lbrace" => Meaning::Open('{'),
        "}" | "rbrace" => Meaning::Close('}'),
        "langle" => Meaning::Open('⟨'),
        "rangle" => Meaning::Close('⟩'),
        "lfloor" => Meaning::Open('⌊'),
        "rfloor" => Meaning::Close('⌋'),
        "lceil" => Meaning::Open('⌈'),
        "rceil" => Meaning::Close('⌉'),
        "lbrack" => Meaning::Open('['),
        "rbrack" => Meaning::Close(']'),
        "\\" | "cr" => Meaning::Row,
        "circ" | "degree" => Meaning::Degree,
        "%" => Meaning::Percent,
        "$" => Meaning::Money('$'),
        "pounds" => Meaning::Money('£'),
        "euro" => Meaning::Money('€'),
        "varnothing" | "emptyset" => thing("\\emptyset"),
        "varphi" => thing("\\phi"),
        "vartheta" => thing("\\theta"),
        "varepsilon" => thing("\\epsilon"),
        other => thing(&format!("\\{other}")),
    }
}

fn thing(name: &str) -> Meaning {
    Meaning::Thing(name.to_owned())
}

/// What a character beyond ASCII means, where it stands for a command.
pub fn character(c: char) -> Option<Meaning> {
    Some(match c {
        '−' | '–' | '—' => Meaning::Mark('-'),
        '×' | '·' | '⋅' | '∗' => Meaning::Mark('*'),
        '÷' => Meaning::Mark('/'),
        '±' => Meaning::Mark('±'),
        '≤' | '≥' | '≠' | '∈' | '∪' | '∩' | '∖' | '∓' => Meaning::Mark(c),
        '⟨' | '⌊' | '⌈' => Meaning::Open(c),
        '⟩' | '⌋' | '⌉' => Meaning::Close(c),
        '’' | '′' => Meaning::Mark('\''),
        '°' => Meaning::Degree,
        '£' | '€' => Meaning::Money(c),
        '²' => Meaning::Raised(2),
        '³' => Meaning::Raised(3),
        '√' => thing("\\sqrt"),
        '∞' => thing("\\infty"),
        '∅' => thing("\\emptyset"),
        'π' => thing("\\pi"),
        'θ' => thing("\\theta"),
        'α' => thing("\\alpha"),
        'β' => thing("\\beta"),
        'γ' => thing("\\gamma"),
        'λ' => thing("\\lambda"),
        'φ' => thing("\\phi"),
        'ω' => thing("\\omega"),
        '\u{200b}' | '\u{feff}' | '\u{2060}' => Meaning::Nothing,
        _ => return None,
    })
}

/// Two characters of ASCII that are one relation.
pub fn pair(text: &str) -> Option<char> {
    match text {
        "<=" => Some('≤'),
        ">=" => Some('≥'),
        "!=" => Some('≠'),
        _ => None,
    }
}

/// Greek letters and the like: commands that stand for a quantity.
pub fn is_quantity(command: &str) -> bool {
    const NAMES: &[&str] = &[
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda",
        "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma",
        "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell", "infty",
    ];
    NAMES.contains(&command.trim_start_matches('\\'))
}

/// The name of a function of one argument, by its command or the word that people type for it.
pub fn function(name: &str) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
        "log", "ln", "lg", "exp", "det", "gcd", "lcm", "max", "min",
    ];
    NAMES.iter().find(|known| **known == name.trim_start_matches('\\')).copied()
}

/// The command that a typed word stands for.
pub fn typed(word: &str) -> Option<&'static str> {
    match word {
        "sqrt" => Some("\\sqrt"),
        "pi" => Some("\\pi"),
        "infty" | "infinity" | "inf" => Some("\\infty"),
        "theta" => Some("\\theta"),
        "alpha" => Some("\\alpha"),
        "beta" => Some("\\beta"),
        _ => None,
    }
}

/// Words that look like products of letters.
pub fn is_word(run: &str) -> bool {
    matches!(
        run.to_ascii_lowercase().as_str(),
        "no" | "yes" | "odd" | "all" | "any" | "not" | "one" | "two" | "is"
    )
}

/// Units that are written without `\text`: those that are no product of letters that anyone would write.
pub fn is_typed_unit(run: &str) -> bool {
    const UNITS: &[&str] = &[
        "mm", "cm", "km", "kg", "ft", "lbs", "oz", "hrs", "min", "sec", "mph", "sq", "day", "days", "week",
        "weeks", "month", "months", "year", "years", "unit", "units", "square", "cubic", "degree", "degrees",
        "radians", "dollar", "dollars", "cent", "cents", "percent", "pct", "point", "points", "people",
    ];
    UNITS.contains(&run) || known_unit(&run.to_lowercase()).is_some_and(|short| short != run && run.len() > 3)
}

/// Whether a word in text behind a number is a unit, whatever it counts; not what changes the number.
pub fn is_unit(word: &str) -> bool {
    const OTHERS: &[&str] = &[
        "hundred",
        "thousand",
        "million",
        "billion",
        "trillion",
        "dozen",
        "half",
        "halves",
        "third",
        "thirds",
        "quarter",
        "quarters",
        "fourths",
        "fifths",
        "tenths",
        "hundredths",
        "thousandths",
        "squared",
        "cubed",
        "factorial",
        "times",
        "plus",
        "minus",
        "over",
        "divided",
        "less",
        "more",
        "not",
        "no",
        "base",
        "mod",
        "modulo",
        "th",
        "st",
        "nd",
        "rd",
        "to",
        "by",
        "is",
        "if",
        "for",
        "where",
        "remainder",
        "choose",
    ];
    if word.chars().count() == 1 {
        "mgshLlNJWV".contains(word)
    } else {
        !OTHERS.contains(&&*word.to_lowercase())
    }
}

/// The one spelling of the word of a unit.
pub fn unit(word: &str) -> String {
    let lower = word.to_lowercase();
    let known = known_unit(&lower).unwrap_or_else(|| match lower.strip_suffix('s') {
        Some(one) if one.chars().count() >= 3 => one,
        _ => &lower,
    });
    known.to_owned()
}

fn known_unit(word: &str) -> Option<&'static str> {
    Some(match word {
        "millimeter" | "millimeters" | "millimetre" | "millimetres" => "mm",
        "centimeter" | "centimeters" | "centimetre" | "centimetres" => "cm",
        "meter" | "meters" | "metre" | "metres" => "m",
        "kilometer" | "kilometers" | "kilometre" | "kilometres" => "km",
        "gram" | "grams" => "g",
        "kilogram" | "kilograms" => "kg",
        "liter" | "liters" | "litre" | "litres" => "l",
        "milliliter" | "milliliters" | "millilitre" | "millilitres" => "ml",
        "inch" | "inches" => "in",
        "foot" | "feet" => "ft",
        "yard" | "yards" => "yd",
        "mile" | "miles" => "mi",
        "pound" | "pounds" | "lbs" => "lb",
        "ounce" | "ounces" => "oz",
        "hour" | "hours" | "hr" | "hrs" => "h",
        "minute" | "minutes" | "mins" => "min",
        "second" | "seconds" | "sec" | "secs" => "s",
        "sq" => "square",
        "cu" => "cubic",
        "percents" | "percentage" | "pct" => "percent",
        _ => return None,
    })
}
