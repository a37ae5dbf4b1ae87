//! Rows as they are read: what is taken, and every kind of trouble with file, row and column.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

fn written(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    crate::store::fs::write_new(&path, bytes).unwrap();
    (dir, path)
}

fn row(question: &str, answer: &str) -> QuestionRow {
    QuestionRow { question: question.into(), answer: answer.into() }
}

/// The questions of a file, or what is wrong with it, without the path.
fn questions(name: &str, bytes: &[u8]) -> Result<Questions, String> {
    let (_dir, path) = written(name, bytes);
    read_questions(&[&path], None, None).map_err(|error| told(&error, &path))
}

fn names(name: &str, bytes: &[u8]) -> Result<Vec<Vec<String>>, String> {
    let (_dir, path) = written(name, bytes);
    read_names(&path).map_err(|error| told(&error, &path))
}

fn told(error: &DataError, path: &Path) -> String {
    let said = error.to_string();
    let start = format!("read the rows of {}: ", path.display());
    said.strip_prefix(&start).unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn lines_are_read_in_order_with_the_first_column_that_is_there() {
    let text = "{\"id\": 1, \"problem\": \"1+1\", \"solution\": \"long\", \"answer\": \"2\"}\r\n\n{\"problem\": \" \\u00e9\\n\", \"answer\": \"3\"}";
    let found = questions("q.jsonl", text.as_bytes()).unwrap();
    assert_eq!(found.columns, ["problem", "answer"]);
    assert_eq!(found.rows, [row("1+1", "2"), row(" é\n", "3")]);
    let list = b"\xef\xbb\xbf [\n{\"question\": \"a\", \"solution\": \"b\"}]\n";
    assert_eq!(questions("q.json", list).unwrap().columns, ["question", "solution"]);
    let (_dir, path) = written("q.json", list);
    let same = read_questions(&[&path], Some("solution"), Some("solution")).unwrap();
    assert_eq!(same.rows, [row("b", "b")]);
    let lists = names("n.jsonl", b"{\"names\": [\"Ann Lee\", \"Bo\"]}\n\n{\"names\": [], \"id\": 3}\n");
    assert_eq!(lists.unwrap(), vec![vec!["Ann Lee".to_owned(), "Bo".into()], vec![]]);
}

#[test]
fn files_follow_each_other_and_have_the_same_columns() {
    let (_one, one) = written("1.jsonl", b"{\"question\": \"a\", \"answer\": \"1\"}");
    let (_two, two) = written("2.json", b"[{\"answer\": \"2\", \"question\": \"b\", \"problem\": \"c\"}]");
    let (_none, none) = written("0.jsonl", b"\n");
    let found = read_questions(&[&none, &one, &none, &two], None, None).unwrap();
    assert_eq!(found.rows, [row("a", "1"), row("b", "2")]);
    let (_three, three) = written("3.jsonl", b"{\"problem\": \"c\", \"answer\": \"3\"}");
    let said = told(&read_questions(&[&one, &three], None, None).unwrap_err(), &three);
    assert_eq!(said, "line 1: it has no column `question`; its columns are: problem, answer");
    let mut sizes = Vec::new();
    let seen = |at, bytes: &[u8]| {
        sizes.push((at, bytes.len()));
        Ok::<_, DataError>(())
    };
    questions_of(&[&one, &none], None, None, seen).unwrap();
    assert_eq!(sizes, [(0, 32), (1, 1)]);
    assert!(told(&read_questions(&[&none, &none], None, None).unwrap_err(), &none).contains("no row"));
}

#[test]
fn trouble_in_json_is_told_with_line_and_column() {
    let good = "{\"question\": \"a\", \"answer\": \"b\"}\n";
    for (more, expected) in [
        ("{\"question\": \"a\"}", "line 3: it has no column `answer`; its columns are: question"),
        ("{}", "line 3: it has no column `question`; its columns are: none"),
        ("{\"question\": 7, \"answer\": \"b\"}", "line 3: `question` is a number and not text"),
        ("{\"question\": \"a\", \"answer\": null}", "line 3: `answer` is null and not text"),
        ("{\"question\": \"a\", \"answer\": [\"b\"]}", "line 3: `answer` is a list and not text"),
        ("{\"question\": \" \\n\", \"answer\": \"b\"}", "line 3: `question` is empty"),
        ("[1]", "line 3: it is a list and no object"),
        ("{\"question\": \"a\"", "line 3: EOF while parsing an object at column 16"),
        ("{\"question\": \"a\", \"answer\": \"b\"} x", "line 3: trailing characters at column 34"),
    ] {
        assert_eq!(questions("q.jsonl", format!("{good}\n{more}\n").as_bytes()).unwrap_err(), expected);
    }
    for (text, expected) in [
        (&b"{\"a\": 1}"[..], "line 1: it has no column `question` or `problem`; its columns are: a"),
        (b"[{\"question\": \"a\", \"answer\": \"b\"}, 3]", "row 2: it is a number and no object"),
        (b"{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"\xff\"}", "line 2 is not UTF-8"),
        (b"", "there is no row"),
        (b"[]", "there is no row"),
        (b"question,answer\na,b\n", "line 1: expected value at column 1"),
    ] {
        assert_eq!(questions("q.jsonl", text).unwrap_err(), expected);
    }
    assert!(
        questions("q.json", b"[{\"question\": 1},")
            .unwrap_err()
            .contains("begins as a JSON list and is none")
    );
    for (text, expected) in [
        ("{\"names\": [\"a\"]}\n{\"names\": 3}\n", "line 2: `names` is a number and not a list of strings"),
        ("{\"names\": [\"a\", null]}", "line 1: value 2 of `names` is null and no string"),
        ("{\"other\": []}", "line 1: it has no column `names`; its columns are: other"),
        ("{\"names\": \"a\"}", "line 1: `names` is text and not a list of strings"),
    ] {
        assert_eq!(names("n.jsonl", text.as_bytes()).unwrap_err(), expected);
    }
    let nowhere = read_names(Path::new("/nowhere/n.jsonl")).unwrap_err();
    assert!(nowhere.to_string().contains("/nowhere/n.jsonl"));
}

#[cfg(not(feature = "tables"))]
#[test]
fn parquet_needs_a_feature() {
    assert!(names("n.parquet", b"PAR1").unwrap_err().contains("without the feature `tables`"));
}

#[cfg(feature = "tables")]
mod of_parquet {
    use polars::prelude::*;

    use super::*;

    fn encoded(columns: Vec<Column>, compression: ParquetCompression, group: usize) -> Vec<u8> {
        let height = columns[0].len();
        let mut frame = DataFrame::new(height, columns).unwrap();
        let mut bytes = Vec::new();
        let writer = ParquetWriter::new(&mut bytes).with_compression(compression);
        writer.with_row_group_size(Some(group)).finish(&mut frame).unwrap();
        bytes
    }

    fn plain(columns: Vec<Column>) -> Vec<u8> {
        encoded(columns, ParquetCompression::Uncompressed, 100)
    }

    fn text<'t>(name: &str, values: impl AsRef<[Option<&'t str>]>) -> Column {
        Series::new(name.into(), values.as_ref()).into()
    }

    fn pair() -> Vec<Column> {
        vec![
            Series::new("level".into(), [1_i64, 2, 3]).into(),
            text("problem", [Some("a"), Some("b"), Some("ü")]),
            text("solution", [Some("1"), Some("2"), Some("3")]),
        ]
    }

    #[test]
    fn every_compression_is_read_over_row_groups() {
        let expected = [row("a", "1"), row("b", "2"), row("ü", "3")];
        for compression in [
            ParquetCompression::Uncompressed,
            ParquetCompression::Snappy,
            ParquetCompression::Zstd(None),
            ParquetCompression::Gzip(None),
            ParquetCompression::Brotli(None),
            ParquetCompression::Lz4Raw,
        ] {
            let bytes = encoded(pair(), compression, 2);
            let found = questions("q.parquet", &bytes).unwrap();
            assert_eq!(
                (&found.rows[..], found.columns),
                (&expected[..], ["problem".into(), "solution".into()])
            );
            // The cache's blobs have no ending.
            assert_eq!(questions("blob", &bytes).unwrap().rows, expected);
        }
    }

    #[test]
    fn lists_of_names_are_read() {
        let some = |names: &[&str]| Series::new("".into(), names);
        let lists = Series::new("names".into(), [some(&["A", "B"]), some(&[]), some(&["C"])]);
        let found = names("n.parquet", &plain(vec![lists.into()])).unwrap();
        assert_eq!(found, [vec!["A".to_owned(), "B".into()], vec![], vec!["C".into()]]);
        for (column, expected) in [
            (text("names", [Some("A")]), "its column `names` holds text and not a list of strings"),
            (
                Series::new("names".into(), [Series::new("".into(), [1_i64])]).into(),
                "its column `names` holds lists of values of the type Int64 and not a list of strings",
            ),
            (Series::new("names".into(), [Some(some(&["A"])), None]).into(), "row 2: `names` is null"),
            (
                Series::new("names".into(), [some(&["A"]), Series::new("".into(), [Some("B"), None])]).into(),
                "row 2: value 2 of `names` is null",
            ),
            (text("authors", [Some("A")]), "it has no column `names`; its columns are: authors"),
        ] {
            assert_eq!(names("n.parquet", &plain(vec![column])).unwrap_err(), expected);
        }
    }

    #[test]
    fn trouble_in_parquet_is_told_with_row_and_column() {
        let good = || text("question", [Some("a"), Some("b")]);
        for (columns, expected) in [
            (
                vec![good(), text("x", [None, None])],
                "it has no column `answer` or `solution`; its columns are: question, x",
            ),
            (vec![good(), text("answer", [Some("1"), None])], "row 2: `answer` is null"),
            (vec![good(), text("answer", [Some(" \n"), Some("1")])], "row 1: `answer` is empty"),
            (
                vec![good(), Series::new("answer".into(), [1_i32, 2]).into()],
                "its column `answer` holds values of the type Int32 and not text",
            ),
            (
                vec![good(), Series::new("answer".into(), [true, false]).into()],
                "its column `answer` holds true or false and not text",
            ),
            (
                vec![text("question", [Some("a")]).clear(), text("answer", [Some("1")]).clear()],
                "there is no row",
            ),
        ] {
            assert_eq!(questions("q.parquet", &plain(columns)).unwrap_err(), expected);
        }
        // The rows of the second file are counted from its own beginning.
        let (_one, one) = written("1.parquet", &plain(vec![good(), text("answer", [Some("1"), Some("2")])]));
        let (_two, two) = written("2.parquet", &plain(vec![good(), text("answer", [Some("3"), None])]));
        assert_eq!(
            told(&read_questions(&[&one, &two], None, None).unwrap_err(), &two),
            "row 2: `answer` is null"
        );
    }

    #[test]
    fn a_broken_file_is_an_error_wherever_it_is_broken() {
        let bytes = encoded(pair(), ParquetCompression::Zstd(None), 2);
        for name in ["q.parquet", "blob"] {
            assert!(questions(name, b"PAR1 nonsense").unwrap_err().starts_with("Polars cannot read it: "));
        }
        assert!(questions("q.parquet", b"").is_err());
        for length in (0..bytes.len()).step_by(3) {
            assert!(questions("q.parquet", &bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        // Places in the middle of pages, at some of which Polars panics.
        for (at, flip) in [(201, 0x10), (208, 0x01), (239, 0xff)] {
            let mut other = bytes.clone();
            other[at] ^= flip;
            let said = questions("q.parquet", &other).unwrap_err();
            assert!(said.starts_with("Polars cannot read it: "), "{said}");
        }
    }

    #[test]
    fn many_rows_are_no_trouble() {
        let many: Vec<String> = (0..200_000).map(|at| format!("question number {at} of many")).collect();
        let column = |name: &str| Column::from(Series::new(name.into(), &many));
        let bytes = encoded(vec![column("question"), column("answer")], ParquetCompression::Snappy, 50_000);
        let found = questions("q.parquet", &bytes).unwrap();
        assert_eq!((found.rows.len(), &found.rows[199_999].answer), (200_000, &many[199_999]));
    }
}
