//! Which files of a dataset's repository hold the rows of a subset and a split: told from their names alone.
//!
//! In: the names of all files of a commit. Out: those that are wanted, in the order in which their rows follow each other.
//! The rules are in docs/tasks.md. Invariant: the answer is a function of the names, and what could be meant in two ways
//! is an error that lists them.

use std::collections::{BTreeMap, BTreeSet};

/// Endings of files that are read, the first one first where a subset has several.
const FORMATS: [&str; 3] = ["parquet", "jsonl", "json"];
/// Files about other files.
const ABOUT: [&str; 5] =
    ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"];
/// Names of splits that are looked for when it is said which there are.
const KNOWN: [&str; 8] = ["train", "training", "test", "testing", "validation", "valid", "val", "dev"];
/// What stands between the words of a name.
const BETWEEN: [char; 4] = ['-', '_', '.', ' '];
/// The subset of files that have no other words in their names.
const DEFAULT: &str = "default";

/// A file that may hold rows.
#[derive(Clone, Debug)]
struct File<'n> {
    name: &'n str,
    folders: Vec<&'n str>,
    /// The file's own name without ending and without its place among several.
    stem: &'n str,
    /// Its place among several, and how many they are.
    shard: Option<(u64, u64)>,
    /// The position of its ending in [`FORMATS`].
    format: usize,
}

/// Chooses the files of a split, and of a subset: of several where it names several, joined with `+`.
///
/// # Errors
/// When there are none, more than one choice, or not all of them: a sentence.
pub(super) fn choose(names: &[&str], subset: Option<&str>, split: &str) -> Result<Vec<String>, String> {
    let files: Vec<File> = names.iter().filter_map(|name| parsed(name)).collect();
    if files.is_empty() {
        return Err(format!("it has no Parquet and no JSON files{}", instead(names)));
    }
    let mut groups: BTreeMap<String, Vec<File>> = BTreeMap::new();
    for file in &files {
        if let Some(group) = group(file, split) {
            groups.entry(group).or_default().push(file.clone());
        }
    }
    if groups.is_empty() {
        let found: BTreeSet<&str> = files.iter().map(split_of).collect();
        return Err(format!("it has no split `{split}`; by the names of its files it has {}", list(found)));
    }
    let wanted = match subset {
        None if groups.len() == 1 => groups.keys().map(String::as_str).collect(),
        None => {
            let found = list(groups.keys());
            return Err(format!("its split `{split}` has several subsets, and none is named: {found}"));
        }
        Some(subset) => subsets(&groups, subset, split)?,
    };
    let mut chosen = Vec::new();
    for name in wanted {
        chosen.extend(of_one_set(&groups[name])?.iter().map(|file| file.name.to_owned()));
    }
    Ok(chosen)
}

/// The names of the groups that `subset` means.
fn subsets<'g>(
    groups: &'g BTreeMap<String, Vec<File>>,
    subset: &str,
    split: &str,
) -> Result<Vec<&'g str>, String> {
    if let Some(found) = one_subset(groups, subset)? {
        return Ok(vec![found]);
    }
    let mut found = Vec::new();
    for part in subset.split('+') {
        let Some(name) = one_subset(groups, part)? else {
            let there = list(groups.keys());
            return Err(format!("it has no subset `{part}` with a split `{split}`; there are {there}"));
        };
        if found.contains(&name) {
            return Err(format!("`{subset}` names the subset `{name}` twice"));
        }
        found.push(name);
    }
    Ok(found)
}

/// The group of this name, else the only one that has it as a part of its path.
fn one_subset<'g>(groups: &'g BTreeMap<String, Vec<File>>, name: &str) -> Result<Option<&'g str>, String> {
    if let Some((found, _)) = groups.get_key_value(name) {
        return Ok(Some(found));
    }
    let within = |group: &&String| format!("/{group}/").contains(&format!("/{name}/"));
    let found: Vec<&String> = groups.keys().filter(within).collect();
    match &found[..] {
        [one] => Ok(Some(one)),
        // A dataset without subsets in a folder `data` is called so by its hub.
        [] if name == DEFAULT => Ok(groups.keys().find(|group| *group == "data").map(String::as_str)),
        [] => Ok(None),
        several => Err(format!("`{name}` is part of several subsets: {}", list(several))),
    }
}

/// The files of one set in their order: all shards, all numbered files, or a single one.
fn of_one_set<'f, 'n>(group: &'f [File<'n>]) -> Result<Vec<&'f File<'n>>, String> {
    let format = group.iter().map(|file| file.format).min().unwrap_or(0);
    let mut files: Vec<&File> = group.iter().filter(|file| file.format == format).collect();
    let order = |file: &&'f File<'n>| (file.folders.clone(), number(file.stem), file.shard, file.name);
    files.sort_by_cached_key(order);
    let set = |file: &File| {
        let (stem, numbered) = unnumbered(file.stem);
        format!("{}/{stem}/{numbered}/{:?}", file.folders.join("/"), file.shard.map(|(_, of)| of))
    };
    let sets: BTreeSet<String> = files.iter().map(|file| set(file)).collect();
    let names = || list(files.iter().map(|file| file.name));
    if sets.len() > 1 {
        return Err(format!("several files could be meant: {}", names()));
    }
    if let Some((_, of)) = files.first().and_then(|file| file.shard) {
        let places: Vec<u64> = files.iter().filter_map(|file| Some(file.shard?.0)).collect();
        if places.len() as u64 != of || (0..of).zip(&places).any(|(place, found)| place != *found) {
            return Err(format!("it should have {of} files, and there are {}", names()));
        }
    } else if let Some(pair) = files.windows(2).find(|pair| number(pair[0].stem) == number(pair[1].stem)) {
        return Err(format!("two files have the same number: {} and {}", pair[0].name, pair[1].name));
    }
    Ok(files)
}

/// A file that may hold rows; `None` for others, and for names that are no plain path.
fn parsed(name: &str) -> Option<File<'_>> {
    let mut folders: Vec<&str> = name.split('/').collect();
    // What begins so is hidden, or a tool's own.
    let plain =
        |part: &&str| !part.is_empty() && !part.starts_with(['.', '_']) && !part.contains(['\\', '\0']);
    if !folders.iter().all(plain) || folders.last().is_some_and(|last| ABOUT.contains(last)) {
        return None;
    }
    let (stem, ending) = folders.pop()?.rsplit_once('.')?;
    let format = FORMATS.iter().position(|known| *known == ending)?;
    let (stem, shard) = sharded(stem).map_or((stem, None), |(stem, shard)| (stem, Some(shard)));
    Some(File { name, folders, stem, shard, format })
}

/// A name such as `train-00000-of-00002`, with or without a further hash, taken apart.
fn sharded(stem: &str) -> Option<(&str, (u64, u64))> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let bare = |stem: &'_ str| -> Option<(usize, (u64, u64))> {
        let (rest, of) = stem.rsplit_once("-of-")?;
        let (rest, place) = rest.rsplit_once('-')?;
        (is_number(place) && is_number(of)).then_some(())?;
        Some((rest.len(), (place.parse().ok()?, of.parse().ok()?)))
    };
    let hashless = || {
        let (rest, hash) = stem.rsplit_once('-')?;
        (hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(rest)
    };
    let (length, shard) = bare(stem).or_else(|| bare(hashless()?))?;
    Some((&stem[..length], shard))
}

/// A name without the number at its end, and whether it had one: `part-3` is `part`, `0001` is nothing, `v2` stays.
fn unnumbered(stem: &str) -> (&str, bool) {
    let rest = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    if rest.len() == stem.len() || !(rest.is_empty() || rest.ends_with(BETWEEN)) {
        return (stem, false);
    }
    (rest.trim_end_matches(BETWEEN), true)
}

/// The number at the end of a name, ready to be compared.
fn number(stem: &str) -> Option<(usize, &str)> {
    unnumbered(stem).1.then(|| {
        let start = stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let digits = stem[start..].trim_start_matches('0');
        (digits.len(), digits)
    })
}

/// The subset of a file, where it belongs to a split: the words of its name and its folders that are not the split.
fn group(file: &File, split: &str) -> Option<String> {
    let folders = || file.folders.iter().copied().filter(|folder| *folder != split);
    let in_stem = || {
        if file.stem == split {
            return Some("");
        }
        let before = || file.stem.strip_prefix(split)?.strip_prefix(BETWEEN);
        let behind = || file.stem.strip_suffix(split)?.strip_suffix(BETWEEN);
        before().or_else(behind)
    };
    let in_folder = || file.folders.contains(&split).then_some(file.stem);
    let rest = in_stem().or_else(|| unnumbered_split(file.stem, split)).or_else(in_folder)?;
    let rest = unnumbered(rest).0;
    let words: Vec<&str> = folders().chain((!rest.is_empty()).then_some(rest)).collect();
    Some(if words.is_empty() { DEFAULT.into() } else { words.join("/") })
}

/// The words before a split that has a number behind it: `algebra` of `algebra_train_3`.
fn unnumbered_split<'s>(stem: &'s str, split: &str) -> Option<&'s str> {
    match unnumbered(stem) {
        (rest, true) => rest.strip_suffix(split)?.strip_suffix(BETWEEN),
        _ => None,
    }
}

/// What the split of a file is called, for people.
fn split_of<'n>(file: &File<'n>) -> &'n str {
    let known = KNOWN.into_iter().find(|known| file.stem == *known || file.folders.contains(known));
    let known = known
        .or_else(|| KNOWN.into_iter().find(|known| file.shard.is_none() && group(file, known).is_some()));
    known
        .unwrap_or_else(|| Some(unnumbered(file.stem).0).filter(|stem| !stem.is_empty()).unwrap_or(file.stem))
}

/// What a repository without files of rows has, for people.
fn instead(names: &[&str]) -> String {
    let own = |name: &&str| {
        !name.starts_with('.') && !name.to_ascii_lowercase().ends_with(".md") && !name.starts_with("LICENSE")
    };
    let ending = |name: &str| {
        let file = name.rsplit('/').next().unwrap_or_default();
        let (_, ending) = file.split_once('.')?;
        Some(format!(".{ending}"))
    };
    let found: BTreeSet<String> = names.iter().copied().filter(own).filter_map(ending).collect();
    if found.is_empty() { String::new() } else { format!(", only files that end with {}", list(found)) }
}

/// Some words as a list, not too long.
fn list(words: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    const MOST: usize = 12;
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    let shown = words.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = words.len().saturating_sub(MOST);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files chosen, or the sentence.
    fn of(names: &[&str], subset: Option<&str>, split: &str) -> String {
        let mut names = names.to_vec();
        let chosen = choose(&names, subset, split).map(|files| files.join(" "));
        names.reverse();
        assert_eq!(
            choose(&names, subset, split).map(|files| files.join(" ")),
            chosen,
            "the order is nothing"
        );
        chosen.unwrap_or_else(|error| error)
    }

    const GSM8K: [&str; 7] = [
        ".gitattributes",
        "README.md",
        "dataset_infos.json",
        "main/test-00000-of-00001.parquet",
        "main/train-00000-of-00001.parquet",
        "socratic/test-00000-of-00001.parquet",
        "socratic/train-00000-of-00001.parquet",
    ];
    const MATH: [&str; 4] = [
        "algebra/test-00000-of-00001.parquet",
        "algebra/train-00000-of-00001.parquet",
        "counting_and_probability/train-00000-of-00001.parquet",
        "geometry/train-00000-of-00001.parquet",
    ];

    #[test]
    fn files_of_known_layouts_are_found() {
        assert_eq!(of(&GSM8K, Some("main"), "test"), GSM8K[3]);
        assert_eq!(of(&GSM8K, Some("socratic"), "train"), GSM8K[6]);
        assert_eq!(of(&["README.md", "test.jsonl"], None, "test"), "test.jsonl");
        assert_eq!(of(&["README.md", "test.jsonl"], Some("default"), "test"), "test.jsonl");
        let old = [
            "data/train-00001-of-00002-0123456789abcdef.parquet",
            "data/train-00000-of-00002-fedcba9876543210.parquet",
        ];
        assert_eq!(of(&old, None, "train"), format!("{} {}", old[1], old[0]));
        assert_eq!(of(&old, Some("default"), "train"), format!("{} {}", old[1], old[0]));
        assert_eq!(of(&old, Some("data"), "train"), format!("{} {}", old[1], old[0]));
        let converted = ["main/train/0001.parquet", "main/train/0000.parquet", "main/test/0000.parquet"];
        assert_eq!(of(&converted, Some("main"), "train"), "main/train/0000.parquet main/train/0001.parquet");
        assert_eq!(of(&converted, None, "test"), "main/test/0000.parquet");
        for names in [
            ["algebra_train.jsonl", "algebra_test.jsonl"],
            ["train-algebra.json", "test-algebra.json"],
            ["x/train/algebra.json", "x/test/algebra.json"],
        ] {
            assert_eq!(of(&names, Some("algebra"), "train"), names[0]);
            assert_eq!(of(&names, None, "test"), names[1]);
        }
    }

    #[test]
    fn several_subsets_are_joined_in_the_order_that_is_named() {
        let wanted = "geometry+algebra+counting_and_probability";
        assert_eq!(of(&MATH, Some(wanted), "train"), [MATH[3], MATH[1], MATH[2]].join(" "));
        assert_eq!(
            of(&["a+b/train.json", "a/train.json", "b/train.json"], Some("a+b"), "train"),
            "a+b/train.json"
        );
        assert_eq!(
            of(&MATH, Some("algebra+algebra"), "train"),
            "`algebra+algebra` names the subset `algebra` twice"
        );
        let said = of(&MATH, Some("algebra+calculus"), "train");
        assert_eq!(
            said,
            "it has no subset `calculus` with a split `train`; there are algebra, counting_and_probability, geometry"
        );
    }

    #[test]
    fn what_is_not_there_or_could_be_two_things_is_said_with_what_there_is() {
        assert_eq!(
            of(&GSM8K, Some("main"), "dev"),
            "it has no split `dev`; by the names of its files it has test, train"
        );
        assert_eq!(
            of(&GSM8K, None, "test"),
            "its split `test` has several subsets, and none is named: main, socratic"
        );
        let said = of(&["en/a/train.json", "de/a/train.json"], Some("a"), "train");
        assert_eq!(said, "`a` is part of several subsets: de/a, en/a");
        let none = of(&["README.md", "data/train.csv", "math.py", "LICENSE", "x/y.tar.gz"], None, "train");
        assert_eq!(none, "it has no Parquet and no JSON files, only files that end with .csv, .py, .tar.gz");
        assert_eq!(
            of(
                &["state.json", ".x/train.json", "../train.json", "/train.json", "_x/train.json"],
                None,
                "train"
            ),
            "it has no Parquet and no JSON files, only files that end with .json"
        );
        let chat = ["data/train_sft-00000-of-00001.parquet", "data/train_prefs-00000-of-00001.parquet"];
        assert_eq!(of(&chat, None, "train_sft"), chat[0]);
        assert!(of(&chat, None, "train").ends_with("none is named: data/prefs, data/sft"));
        assert!(of(&chat, None, "dev").ends_with("has train_prefs, train_sft"));
    }

    #[test]
    fn files_of_one_set_are_complete_and_in_order() {
        assert_eq!(
            of(&["train_10.jsonl", "train_2.jsonl", "train_1.jsonl"], None, "train"),
            "train_1.jsonl train_2.jsonl train_10.jsonl"
        );
        assert_eq!(
            of(&["a_train_2.json", "a_train_1.json"], Some("a"), "train"),
            "a_train_1.json a_train_2.json"
        );
        assert_eq!(of(&["train.json", "train.parquet", "train.jsonl"], None, "train"), "train.parquet");
        for (names, phrase) in [
            (
                &["train-00000-of-00002.parquet"][..],
                "it should have 2 files, and there are train-00000-of-00002.parquet",
            ),
            (
                &["train-00000-of-00001.parquet", "train-00000-of-00001-0123456789abcdef.parquet"],
                "it should have 1 files",
            ),
            (
                &[
                    "train-00000-of-00001.parquet",
                    "train-00000-of-00002.parquet",
                    "train-00001-of-00002.parquet",
                ],
                "several files could be meant: ",
            ),
            (&["train.json", "train_1.json"], "several files could be meant: train.json, train_1.json"),
            (&["a/train/x.json", "train/a/x.json"], "several files could be meant: "),
            (
                &["train_1.json", "train_01.json"],
                "two files have the same number: train_01.json and train_1.json",
            ),
        ] {
            let said = of(names, None, "train");
            assert!(said.starts_with(phrase), "{said}");
        }
    }
}
