//! What can go wrong while a report is made.

use std::path::PathBuf;

use thiserror::Error;

use crate::exit::{Code, Failure};

/// A report that cannot be made.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A file of the results cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of the results does not hold what a report wrote.
    #[error("{file}, line {line}: {what}")]
    Malformed {
        /// The file, relative to the results of the manifest.
        file: &'static str,
        /// 1-based; 0 when the whole file is meant.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A table cannot be built.
    #[error("cannot build the table {table}")]
    Table {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: polars::error::PolarsError,
    },
    /// A figure cannot be drawn.
    #[error("cannot draw figure {figure}: {what}")]
    Chart {
        /// The figure.
        figure: String,
        /// Why.
        what: String,
    },
    /// A mask artifact cannot be understood.
    #[error("mask {id} of {name}: {what}")]
    Mask {
        /// The mask's id.
        id: String,
        /// The mask's readable name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The store refused.
    #[error("cannot collect results from the store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// `--check` found differences.
    #[error("{} of {total} report files would change: {}", files.len(), files.join(", "))]
    Differs {
        /// The files that would change.
        files: Vec<String>,
        /// How many files the report has.
        total: usize,
    },
}

impl ReportError {
    /// Advice, where there is some.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(
                "run `tickets sweep` on the manifest first, or pass the folder with --results".to_owned(),
            ),
            Self::Malformed { .. } => Some(
                "restore the file from git, or run the sweep again: finished runs are not repeated"
                    .to_owned(),
            ),
            Self::Differs { .. } => Some("run `tickets report` without --check to write them".to_owned()),
            _ => None,
        }
    }
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        let code = match &error {
            ReportError::Table { .. } | ReportError::Chart { .. } => Code::Bug,
            _ => Code::Store,
        };
        let hint = error.hint();
        Self::new(code, error, hint)
    }
}
