//! What can be wrong with a manifest, its layers, and the files it names.

use std::path::PathBuf;

use super::draw;
use super::source::{self, Issue};
use crate::exit::{Code, Failure};

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Neither a path nor a name under `manifests/`.
    #[error("there is no manifest `{argument}`")]
    NotFound {
        /// As the user wrote it.
        argument: String,
        /// The names under `manifests/`.
        available: Vec<String>,
    },
    /// A folder where a file was expected.
    #[error("{} is a folder, not a manifest", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The manifests in it.
        available: Vec<String>,
    },
    /// Nothing but white space in the file.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Not text.
    #[error("{}:{line}:{column}: not UTF-8 text", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first wrong byte, from 1.
        line: usize,
        /// Column of the first wrong byte, from 1.
        column: usize,
    },
    /// Larger than any manifest.
    #[error("{} has {bytes} bytes, more than the {limit} that a manifest may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The largest size.
        limit: u64,
    },
    /// The operating system refuses.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Its reason.
        #[source]
        source: std::io::Error,
    },
    /// An environment variable that is not UTF-8.
    #[error("environment variable {name} is not UTF-8 text")]
    Environment {
        /// The variable.
        name: String,
    },
    /// The merged layers do not fit the typed configuration although every value was checked: a bug.
    #[error("the settings of {} do not fit together", path.display())]
    Extract {
        /// The manifest.
        path: PathBuf,
        /// figment's account of it.
        #[source]
        source: Box<figment::Error>,
    },
    /// Everything that points into a text.
    #[error("{}", list(.0))]
    Invalid(Vec<Issue>),
}

/// The places and texts of issues, one a line.
pub(crate) fn list(issues: &[Issue]) -> String {
    issues.iter().map(Issue::to_string).collect::<Vec<_>>().join("\n")
}

/// The advice on issues: of a single one its own, of several one line each that has any.
pub(crate) fn advice(issues: &[Issue]) -> Option<String> {
    if let [issue] = issues {
        return issue.help.clone();
    }
    let lines = issues.iter().filter_map(|issue| {
        let help = issue.help.as_ref()?;
        let (line, _) = issue.source.position(issue.span.start);
        Some(format!("line {line}: {help}"))
    });
    let lines = lines.collect::<Vec<_>>();
    (!lines.is_empty()).then(|| lines.join("\n        "))
}

impl From<Issue> for ManifestError {
    fn from(issue: Issue) -> Self {
        Self::Invalid(vec![issue])
    }
}

impl ManifestError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { argument, available } => Some(match available.as_slice() {
                [] => "give a path, or a name under manifests/ (there is none here)".into(),
                names => {
                    let meant = source::nearest(argument, names.iter().map(String::as_str));
                    let meant = meant.map(|name| format!("did you mean `{name}`? ")).unwrap_or_default();
                    format!("{meant}available under manifests/: {}", names.join(", "))
                }
            }),
            Self::Folder { available, .. } if !available.is_empty() => {
                Some(format!("it holds {}", available.join(", ")))
            }
            Self::Folder { .. } => Some("give the path of a TOML file".into()),
            Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput => {
                Some("a manifest is a file that can be read twice: not a pipe, not a device".into())
            }
            Self::TooLarge { .. } => Some("write long axes as ranges, such as { range = [0, 1000] }".into()),
            Self::Environment { .. } => Some("set it anew, or ignore the environment with --no-env".into()),
            Self::Empty { .. } => Some("the smallest manifest has [task] and [model] tables".into()),
            Self::NotUtf8 { .. } => Some("save the file in the UTF-8 encoding".into()),
            Self::Extract { .. } => Some("this is a bug in tickets: please report the manifest".into()),
            Self::Invalid(issues) => advice(issues),
            Self::Unreadable { .. } => None,
        }
    }

    /// The issues that point into a text, when there are any.
    pub fn issues(&self) -> &[Issue] {
        match self {
            Self::Invalid(issues) => issues,
            _ => &[],
        }
    }

    /// The error with the source underlined and the advice below it, when it points into a text.
    pub fn render(&self, color: bool) -> Option<String> {
        match self {
            Self::Invalid(issues) => Some(draw::render(issues, color)),
            _ => None,
        }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let code = if matches!(error, ManifestError::Extract { .. }) { Code::Bug } else { Code::Manifest };
        let hint = error.hint();
        Self::new(code, error, hint)
    }
}
