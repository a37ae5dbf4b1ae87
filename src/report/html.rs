//! `index.html`: everything on one page that needs nothing but itself.
//!
//! In: a [`ResultSet`] and its pictures as SVG. Out: HTML. Invariant: no script, no link that leaves the page, no file
//! beside it; fonts and figures are inline, and every text from a manifest or a run is escaped.

use super::chart::draw::escape;
use super::chart::font::{MEDIUM, REGULAR};
use super::chart::theme;
use super::classes;
use super::masks;
use super::put;
use super::result::{ResultSet, State};
use super::scores;
use super::series;
use super::table::{self, TextTable};
use super::view;

/// A figure ready for the page.
pub struct Inline<'a> {
    /// The anchor.
    pub name: &'a str,
    /// The caption.
    pub caption: &'a str,
    /// The SVG.
    pub svg: &'a str,
}

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(set: &ResultSet, summary: &TextTable, figures: &[Inline<'_>]) -> String {
    let title = escape(if set.title.is_empty() { &set.manifest } else { &set.title });
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light\">\n<title>{title}</title>\n<style>\n{}{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<header>\n<h1>{title}</h1>\n",
        faces()
    );
    if !set.question.is_empty() {
        put(&mut html, format_args!("<p class=\"question\">{}</p>\n", escape(&set.question)));
    }
    put(&mut html, format_args!("<p class=\"status\">{}</p>\n</header>\n", badges(set)));

    if let Some(sentence) = classes::sentence(set) {
        put(&mut html, format_args!("<section>\n<h2>Classes</h2>\n<p>{}</p>\n", escape(&sentence)));
        html.push_str(&table(&classes::table(set), &[]));
        put(&mut html, format_args!("<p class=\"note\">{}</p>\n</section>\n", classes::note(set)));
    }
    for view in view::all(set) {
        let best = table::best(&view.set);
        if best.rows.is_empty() {
            continue;
        }
        let heading = escape(&view.heading());
        put(&mut html, format_args!("<section>\n<h2>Best learning rate per mask{heading}</h2>\n"));
        html.push_str(&table(&best, &best_colors(&view.set)));
        let base =
            series::base_score(&view.set).map_or_else(String::new, |base| format!("Base model: {base:.4}. "));
        put(&mut html, format_args!("<p class=\"note\">{base}{}</p>\n</section>\n", table::BEST_NOTE));
    }
    html.push_str("<section>\n<h2>Figures</h2>\n");
    if figures.is_empty() {
        html.push_str("<p class=\"note\">Nothing has been measured yet.</p>\n");
    }
    for (index, figure) in figures.iter().enumerate() {
        put(
            &mut html,
            format_args!(
                "<figure id=\"{}\">\n<div class=\"picture\">\n{}</div>\n<figcaption><b>Figure {}.</b> {}</figcaption>\n\
             </figure>\n",
                figure.name,
                sized(figure.svg),
                index + 1,
                escape(figure.caption)
            ),
        );
    }
    html.push_str("</section>\n");
    html.push_str(&overlaps(set));
    html.push_str(&scores(set));

    let failed: Vec<_> = set.runs.iter().filter(|run| run.state == State::Failed).collect();
    if !failed.is_empty() {
        html.push_str("<section>\n<h2>Failed runs</h2>\n<ul class=\"failures\">\n");
        for run in failed {
            put(
                &mut html,
                format_args!(
                    "<li><code>{}</code>{}: {}</li>\n",
                    escape(&run.label),
                    table::at_step(run),
                    escape(run.reason.as_deref().unwrap_or("no reason recorded"))
                ),
            );
        }
        html.push_str("</ul>\n</section>\n");
    }
    html.push_str("<section>\n<h2>Runs</h2>\n");
    html.push_str(&table(summary, &run_colors(set)));
    html.push_str("<p class=\"note\">An empty cell was not measured or does not apply.</p>\n</section>\n");

    put(
        &mut html,
        format_args!(
            "</main>\n<footer>\n<p>Manifest <code>{}</code>. {}Written from the results alone by <code>{}</code>; the numbers \
         are in <code>summary.csv</code>, <code>metrics.csv</code>, <code>evals.csv</code>, <code>jaccard.csv</code>{} \
         and <code>runs.json</code> beside this page.</p>\n<details>\n<summary>Run ids</summary>\n<ul class=\"ids\">\n",
            escape(&set.manifest),
            escape(&machines(set)),
            escape(&table::command(set)),
            if set.scores.is_empty() { "" } else { ", <code>scores.csv</code>, <code>stability.csv</code>" }
        ),
    );
    for run in &set.runs {
        put(
            &mut html,
            format_args!(
                "<li><code>{}</code> {} ({})</li>\n",
                escape(&run.id),
                escape(&run.label),
                run.state.name()
            ),
        );
    }
    html.push_str("</ul>\n</details>\n</footer>\n</body>\n</html>\n");
    html
}

/// How the masks overlap, in numbers.
fn overlaps(set: &ResultSet) -> String {
    masks::table(set).map_or_else(String::new, |(rows, note)| {
        format!(
            "<section>\n<h2>Overlap of the masks</h2>\n{}<p class=\"note\">{}</p>\n</section>\n",
            table(&rows, &[]),
            escape(&note)
        )
    })
}

/// What masks were chosen by.
fn scores(set: &ResultSet) -> String {
    if set.scores.is_empty() {
        return String::new();
    }
    let mut html = format!("<section>\n<h2>Scores</h2>\n<p>{}</p>\n", scores::LEAD);
    html.push_str(&table(&scores::table(set), &[]));
    html.push_str("<ul class=\"ids\">\n");
    for fact in scores::facts(set) {
        put(&mut html, format_args!("<li><code>{}</code>: {}</li>\n", escape(&fact.id), escape(&fact.text)));
    }
    html.push_str("</ul>\n");
    let stability = scores::stability(set);
    if !stability.rows.is_empty() {
        html.push_str(&table(&stability, &[]));
        put(&mut html, format_args!("<p class=\"note\">{}</p>\n", scores::STABILITY_NOTE));
    }
    html.push_str("</section>\n");
    html
}

/// An SVG as the page holds it: never larger than drawn, and on a phone not smaller than can be read.
fn sized(svg: &str) -> String {
    let svg = svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    let width =
        svg.split("width=\"").nth(1).and_then(|rest| rest.split('"').next()).and_then(|w| w.parse().ok());
    let width: u32 = width.unwrap_or(920);
    svg.replacen("<svg ", &format!("<svg style=\"max-width:{width}px;min-width:{}px\" ", width * 3 / 4), 1)
}

/// On what the finished runs ran, from their completion markers.
fn machines(set: &ResultSet) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for done in set.runs.iter().filter_map(|run| run.done.as_ref()) {
        let word = |key: &str| done.get(key).map(series::plain);
        let (Some(device), Some(libtorch)) = (word("device"), word("libtorch")) else { continue };
        let threads = match word("threads").as_deref() {
            None => String::new(),
            Some("1") => ", 1 thread a run".to_owned(),
            Some(several) => format!(", {several} threads a run"),
        };
        let kind = format!("{device}, libtorch {libtorch}{threads}");
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() { String::new() } else { format!("Ran on {}. ", kinds.join("; ")) }
}

fn badges(set: &ResultSet) -> String {
    let mut html = match set.partial() {
        Some(partial) => format!("<span class=\"badge partial\">{partial}</span>"),
        None => format!("<span class=\"badge complete\">complete, {} runs</span>", set.runs.len()),
    };
    if set.partial().is_some() {
        for state in State::ALL {
            let count = set.count(state);
            if count > 0 {
                put(&mut html, format_args!(" <span class=\"badge {0}\">{count} {0}</span>", state.name()));
            }
        }
    }
    if let Some(count) = set.mixed_classes() {
        put(
            &mut html,
            format_args!(" <span class=\"badge partial\">runs of {count} classes are mixed</span>"),
        );
    }
    html
}

/// The colour of each row's mask family.
fn run_colors(set: &ResultSet) -> Vec<String> {
    let families = series::families(set);
    let looks = theme::looks(&families);
    let mut colors = vec![String::new(); set.runs.len()];
    for (family, look) in families.iter().zip(&looks) {
        for &run in &family.runs {
            colors[run] = look.color.hex();
        }
    }
    colors
}

fn best_colors(set: &ResultSet) -> Vec<String> {
    let families = series::families(set);
    let looks = theme::looks(&families);
    let scored = families.iter().zip(&looks).filter(|(family, _)| family.best(set).is_some());
    scored.map(|(_, look)| look.color.hex()).collect()
}

fn table(table: &TextTable, colors: &[String]) -> String {
    let class = |numeric: bool| if numeric { " class=\"n\"" } else { "" };
    let mut html = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
    for (name, numeric) in table.header.iter().zip(&table.numeric) {
        put(&mut html, format_args!("<th{}>{}</th>", class(*numeric), escape(name)));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (index, row) in table.rows.iter().enumerate() {
        html.push_str("<tr>");
        for (place, (cell, numeric)) in row.iter().zip(&table.numeric).enumerate() {
            let dot = colors.get(index).filter(|color| place == 0 && !color.is_empty());
            let dot = dot.map_or_else(String::new, |color| format!("<i style=\"background:{color}\"></i>"));
            put(&mut html, format_args!("<td{}>{dot}{}</td>", class(*numeric), escape(cell)));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

fn faces() -> String {
    [(400, REGULAR), (700, MEDIUM)]
        .map(|(weight, bytes)| {
            format!(
                "@font-face{{font-family:Roboto;font-weight:{weight};src:url(data:font/ttf;base64,{})}}\n",
                base64(bytes)
            )
        })
        .concat()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            u32::from_be_bytes([0, chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)]);
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_the_standard_vectors() {
        // RFC 4648, section 10.
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
