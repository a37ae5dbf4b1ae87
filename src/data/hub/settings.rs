//! What the environment says about a hub: the variables of Hugging Face's own tools, with their meaning.
//!
//! In: environment variables, the token file. Out: [`Settings`]. Nothing is asked of a network.
//!
//! Source: the documentation of huggingface_hub, "Environment variables".

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::shown;
use super::{HubError, Proxies};

/// Where to ask when nothing is said.
const ENDPOINT: &str = "https://huggingface.co";
/// Seconds of silence after which a request is given up, when nothing is said.
const PATIENCE: u64 = 10;
/// The most that may be said.
const MOST_PATIENCE: u64 = 604_800;
/// How often something is tried.
const TRIES: u32 = 5;

/// How a hub is reached and where its files are kept.
#[derive(Clone)]
pub struct Settings {
    /// Scheme and host of the hub, without a slash at the end.
    pub endpoint: String,
    /// What opens private and gated repositories.
    pub token: Option<String>,
    /// The folder of the cache that is shared with Hugging Face's other tools.
    pub cache: PathBuf,
    /// Whether no request may be made.
    pub offline: bool,
    /// How long an answer may take to begin.
    pub answer_within: Duration,
    /// How long an answer that has begun may pause.
    pub pause_within: Duration,
    /// How often something is tried.
    pub tries: u32,
    /// The pause before the second try; each further one is twice as long.
    pub retry_after: Duration,
    /// What requests go through.
    pub proxies: Proxies,
    /// Certificates to trust in place of those built in, in PEM.
    pub certificates: Option<PathBuf>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A token belongs in no log.
        let token = self.token.as_ref().map(|_| "...");
        let Self { endpoint, cache, offline, .. } = self;
        out.debug_struct("Settings")
            .field("endpoint", endpoint)
            .field("token", &token)
            .field("cache", cache)
            .field("offline", offline)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// As the environment of this process says.
    ///
    /// # Errors
    /// [`HubError::Setting`] when a variable cannot be meant, or there is no folder for the cache.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(&|name| std::env::var_os(name))
    }

    /// As some variables say.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub fn from_variables(variable: Variables) -> Result<Self, HubError> {
        let text = |name| set(variable, name).map(|value| value.to_string_lossy().into_owned());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            let what = "it must begin with https:// or http://";
            return Err(HubError::Setting { name: "HF_ENDPOINT", value: shown(&endpoint), what });
        }
        let seconds = |name| match text(name) {
            None => Ok(Duration::from_secs(PATIENCE)),
            Some(value) => match value.trim().parse::<u64>() {
                Ok(0) => Ok(Duration::from_secs(PATIENCE)),
                Ok(seconds) if seconds <= MOST_PATIENCE => Ok(Duration::from_secs(seconds)),
                _ => {
                    let what = "it must be a whole number of seconds, 604800 (a week) at most";
                    Err(HubError::Setting { name, value, what })
                }
            },
        };
        let what = "there is neither a home folder (HOME) nor HF_HOME or HF_HUB_CACHE";
        let cache = cache_folder(variable);
        Ok(Self {
            token: token(variable),
            cache: cache.ok_or(HubError::Setting { name: "HF_HUB_CACHE", value: String::new(), what })?,
            offline: is_true(text("HF_HUB_OFFLINE").or_else(|| text("TRANSFORMERS_OFFLINE"))),
            answer_within: seconds("HF_HUB_ETAG_TIMEOUT")?,
            pause_within: seconds("HF_HUB_DOWNLOAD_TIMEOUT")?,
            tries: TRIES,
            retry_after: Duration::from_millis(500),
            proxies: Proxies::from_variables(variable),
            certificates: ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
                .into_iter()
                .find_map(|name| set(variable, name))
                .map(PathBuf::from),
            endpoint,
        })
    }
}

/// Looks a variable up.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A variable that is set to something.
pub(super) fn set(variable: Variables, name: &str) -> Option<OsString> {
    variable(name).filter(|value| !value.is_empty())
}

fn is_true(value: Option<String>) -> bool {
    value.is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
}

/// The folder of the cache: `HF_HUB_CACHE`, else `hub` in the folder of Hugging Face's tools; `None` without a home.
pub fn cache_folder(variable: Variables) -> Option<PathBuf> {
    ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]
        .into_iter()
        .find_map(|name| set(variable, name))
        .map(|value| expanded(variable, &value))
        .or_else(|| Some(home(variable)?.join("hub")))
}

/// The folder of Hugging Face's tools.
fn home(variable: Variables) -> Option<PathBuf> {
    let user = || Some(PathBuf::from(set(variable, "HOME")?).join(".cache"));
    if let Some(value) = set(variable, "HF_HOME") {
        return Some(expanded(variable, &value));
    }
    let cache = set(variable, "XDG_CACHE_HOME").map(|value| expanded(variable, &value)).or_else(user);
    Some(cache?.join("huggingface"))
}

/// A path in which `~` at the beginning is the home folder.
fn expanded(variable: Variables, value: &OsString) -> PathBuf {
    let path = Path::new(value);
    match (path.strip_prefix("~"), set(variable, "HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_path_buf(),
    }
}

/// `HF_TOKEN`, else the file that `hf auth login` writes.
fn token(variable: Variables) -> Option<String> {
    if is_true(set(variable, "HF_HUB_DISABLE_IMPLICIT_TOKEN").map(|v| v.to_string_lossy().into_owned())) {
        return None;
    }
    let clean = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let written = || {
        let path = set(variable, "HF_TOKEN_PATH").map(|value| expanded(variable, &value));
        let path = path.or_else(|| Some(home(variable)?.join("token")))?;
        std::fs::read_to_string(path).ok()
    };
    let said = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| set(variable, name));
    said.map(|value| value.to_string_lossy().into_owned()).or_else(written).and_then(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Settings, HubError> {
        Settings::from_variables(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        from(variables).unwrap().cache.display().to_string()
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        assert_eq!(cache(&[("HOME", "/h")]), "/h/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/f")]), "/h/f/hub");
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/old");
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")]), "/new");
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HUB_CACHE", "")]), "/h/.cache/huggingface/hub");
        assert!(from(&[]).unwrap_err().to_string().contains("HF_HUB_CACHE"));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    fn a_token_is_the_variable_s_or_the_file_s() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| {
            from(&[&[("HOME", "/h"), ("HF_HOME", home)], more].concat()).unwrap().token
        };
        assert_eq!(token(&[]), None);
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        std::fs::write(folder.path().join("other"), "hf_other").unwrap();
        let other = folder.path().join("other");
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).as_deref(), Some("hf_other"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]).as_deref(), Some("hf_old"));
        let both = [("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", " hf_new ")];
        assert_eq!(token(&both).as_deref(), Some("hf_new"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let settings = from(&[("HOME", "/h"), ("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn offline_and_the_limits_are_as_said() {
        let home = ("HOME", "/h");
        for (value, offline) in [("1", true), ("Yes", true), ("ON", true), ("true", true), ("0", false)] {
            assert_eq!(from(&[home, ("HF_HUB_OFFLINE", value)]).unwrap().offline, offline, "{value}");
            assert_eq!(from(&[home, ("TRANSFORMERS_OFFLINE", value)]).unwrap().offline, offline, "{value}");
        }
        assert!(!from(&[home, ("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).unwrap().offline);
        let settings = from(&[home, ("HF_HUB_ETAG_TIMEOUT", "3"), ("HF_ENDPOINT", "http://h/")]).unwrap();
        assert_eq!((settings.answer_within.as_secs(), settings.pause_within.as_secs()), (3, 10));
        assert_eq!(settings.endpoint, "http://h");
        for (name, value) in [
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "18446744073709551615"),
            ("HF_HUB_ETAG_TIMEOUT", "604801"),
            ("HF_ENDPOINT", "huggingface.co"),
        ] {
            let said = from(&[home, (name, value)]).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains(value), "{said}");
        }
    }
}
