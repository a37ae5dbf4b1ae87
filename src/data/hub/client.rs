//! What a hub is asked: which files a commit has, which commit `main` is, and a file from a position on.
//!
//! In: a repository. Out: names, sizes and digests, or an answer to be read. Trouble that may pass is tried again, after
//! pauses that grow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::digest::BlobName;
use super::error::shown;
use super::http::{Answer, Fault, Head, Http};
use super::layout::{Kind, Listed, Pinned, is_commit};
use super::{HubError, Settings};

/// The longest pause between two tries, unless the hub asks for a longer one.
const LONGEST: Duration = Duration::from_secs(8);
/// Bytes of a list of files, at most.
const LIST: usize = 64 << 20;

/// The files of a commit.
#[derive(Clone, Debug)]
pub struct Listing {
    url: String,
    /// By name; `None` is a file of which too little is said to check it.
    files: BTreeMap<String, Option<Remote>>,
}

impl Listing {
    /// Whether the commit has a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).collect()
    }

    /// The names of all files with those of their blobs, where they are known.
    pub fn listed(&self) -> Listed {
        let blob = |file: &Option<Remote>| file.as_ref().map(|file| file.blob.clone());
        self.files.iter().map(|(name, file)| (name.clone(), blob(file))).collect()
    }

    /// A file, where the commit has it.
    ///
    /// # Errors
    /// When it has it, and it could not be checked.
    pub fn get(&self, name: &str) -> Result<Option<&Remote>, HubError> {
        let what = || format!("it gives no digest or no size of {name}, which could not be checked");
        match self.files.get(name) {
            Some(None) => Err(HubError::Answer { url: shown(&self.url), what: what() }),
            Some(file) => Ok(file.as_ref()),
            None => Ok(None),
        }
    }
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub blob: BlobName,
    /// Its bytes.
    pub size: u64,
}

/// The hub.
#[derive(Clone, Debug)]
pub struct Client {
    http: Http,
    settings: Settings,
}

impl Client {
    /// For a hub; nothing is asked yet.
    ///
    /// # Errors
    /// As [`Http::new`].
    pub fn new(settings: &Settings) -> Result<Self, HubError> {
        Ok(Self { http: Http::new(settings)?, settings: settings.clone() })
    }

    /// The files of a commit.
    ///
    /// # Errors
    /// When there is no such repository or commit, it may not be seen, or the hub cannot be reached.
    pub fn files(&self, repo: &Pinned, stop: &dyn Fn() -> bool) -> Result<Listing, HubError> {
        let url = format!("{}?blobs=true", self.revision(repo, &repo.commit));
        let what = format!("repository {}, or no commit {} in it", repo.id, repo.commit);
        let value = self.json(&url, &repo.page(), &what, stop)?;
        let bad = |what: String| HubError::Answer { url: shown(&url), what };
        if value["sha"].as_str().is_some_and(|sha| sha != repo.commit) {
            return Err(bad(format!("it speaks of another commit, {}", value["sha"])));
        }
        let list = value["siblings"].as_array().ok_or_else(|| bad("it is no list of files".into()))?;
        // A name is kept whatever is said of it: what the list names is not absent.
        let named = |file: &Value| Some((file["rfilename"].as_str()?.to_owned(), remote(file)));
        let files: Option<_> = list.iter().map(named).collect();
        let files = files.ok_or_else(|| bad("it lists a file without a name".into()))?;
        Ok(Listing { url, files })
    }

    /// The commit that `main` of a repository is now.
    ///
    /// # Errors
    /// As [`Self::files`].
    pub fn main(&self, repo: &Pinned, stop: &dyn Fn() -> bool) -> Result<String, HubError> {
        let url = self.revision(repo, "main");
        let value = self.json(&url, &repo.page(), &format!("repository {}", repo.id), stop)?;
        let commit = value["sha"].as_str().filter(|sha| is_commit(sha)).map(str::to_owned);
        commit.ok_or_else(|| HubError::Answer { url: shown(&url), what: "it names no commit".into() })
    }

    fn revision(&self, repo: &Pinned, revision: &str) -> String {
        let kind = match repo.kind {
            Kind::Model => "models",
            Kind::Dataset => "datasets",
        };
        format!("{}/api/{kind}/{}/revision/{revision}", self.settings.endpoint, repo.id)
    }

    /// The address of a file.
    pub fn address(&self, repo: &Pinned, name: &str) -> String {
        let kind = match repo.kind {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        };
        let Settings { endpoint, .. } = &self.settings;
        format!("{endpoint}/{kind}{}/resolve/{}/{}", repo.id, repo.commit, encoded(name))
    }

    /// A file from a position on, once: its answer is 200 or 206.
    ///
    /// # Errors
    /// When it is something else, or nothing comes.
    pub fn open(
        &self,
        repo: &Pinned,
        name: &str,
        from: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Answer, Fault> {
        let url = self.address(repo, name);
        let answer = self.http.get(&url, from, stop)?;
        if !(answer.head.status == 416 && from > 0) {
            self.judge(&answer.head, &url, &repo.page(), &format!("file {name} in {repo}"))?;
        }
        Ok(answer)
    }

    fn json(&self, url: &str, page: &str, what: &str, stop: &dyn Fn() -> bool) -> Result<Value, HubError> {
        let mut tries = Tries::new(&self.settings);
        loop {
            let once = || -> Result<Vec<u8>, Fault> {
                let answer = self.http.get(url, 0, stop)?;
                self.judge(&answer.head, url, page, what)?;
                answer.text(stop, LIST)
            };
            match once() {
                Ok(text) => {
                    let bad = |e| HubError::Answer { url: shown(url), what: format!("it is not JSON: {e}") };
                    return serde_json::from_slice(&text).map_err(bad);
                }
                Err(fault) => tries.after(fault, url, 0, stop)?,
            }
        }
    }

    /// What a status means.
    fn judge(&self, head: &Head, url: &str, page: &str, what: &str) -> Result<(), Fault> {
        let url = shown(url);
        let says = head.says().map(|says| format!(": {says}")).unwrap_or_default();
        Err(match head.status {
            200 | 206 => return Ok(()),
            status @ (401 | 403) => {
                let token = self.settings.token.is_some();
                HubError::Refused { repo: page.into(), url, status, token, says }.into()
            }
            404 | 410 => HubError::NotFound { what: format!("{what}{says}"), url }.into(),
            429 => Fault::Passing(format!("too many requests (429){says}"), head.retry_after()),
            status @ (408 | 500..) => {
                Fault::Passing(format!("the hub answers {status}{says}"), head.retry_after())
            }
            status => HubError::Answer { url, what: format!("the hub answers {status}{says}") }.into(),
        })
    }
}

fn remote(value: &Value) -> Option<Remote> {
    let name = value["rfilename"].as_str()?.to_owned();
    let large = &value["lfs"];
    // git's name of a large file is that of the pointer that git keeps in its place.
    let digest = match large {
        Value::Null => value["blobId"].as_str(),
        _ => large["sha256"].as_str().or_else(|| large["oid"].as_str()),
    };
    let size = large["size"].as_u64().or_else(|| value["size"].as_u64())?;
    Some(Remote { name, blob: BlobName::parse(digest?.trim_start_matches("sha256:"))?, size })
}

/// A file name as a part of an address.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Counts tries, and pauses between them.
#[derive(Debug)]
pub struct Tries {
    made: u32,
    most: u32,
    pause: Duration,
    first: Duration,
}

impl Tries {
    /// None so far.
    pub fn new(settings: &Settings) -> Self {
        Self { made: 0, most: settings.tries, pause: settings.retry_after, first: settings.retry_after }
    }

    /// Something was achieved: counting begins anew.
    pub fn reset(&mut self) {
        (self.made, self.pause) = (0, self.first);
    }

    /// Another try failed: waits before the next.
    ///
    /// # Errors
    /// When it was the last, will not go better, or it was asked to stop. `kept` bytes are told.
    pub fn after(
        &mut self,
        fault: Fault,
        url: &str,
        kept: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), HubError> {
        let (what, asked) = match fault {
            Fault::Passing(what, asked) => (what, asked),
            Fault::Lasting(error) => return Err(error),
        };
        self.made += 1;
        if self.made >= self.most {
            return Err(HubError::Trouble { url: shown(url), what, tries: self.made, kept });
        }
        let (since, pause) = (Instant::now(), asked.unwrap_or(self.pause));
        while since.elapsed() < pause {
            if stop() {
                return Err(HubError::Stopped);
            }
            std::thread::sleep(Duration::from_millis(20).min(pause));
        }
        self.pause = (self.pause * 2).min(LONGEST);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_told_with_their_digests() {
        let (git, sha) = ("a".repeat(40), "b".repeat(64));
        let small = json!({ "rfilename": "config.json", "blobId": git, "size": 3 });
        let large =
            json!({ "rfilename": "m", "blobId": git, "size": 9, "lfs": { "sha256": sha, "size": 9 } });
        assert_eq!(remote(&small).unwrap().blob, BlobName::Git(git.clone()));
        assert_eq!(remote(&large).unwrap().blob, BlobName::Sha256(sha));
        for bad in [
            json!({}),
            json!({ "rfilename": "x", "blobId": "../x", "size": 1 }),
            json!({ "rfilename": "x" }),
            json!({ "rfilename": "x", "blobId": git, "size": 3, "lfs": { "size": 9 } }),
        ] {
            assert_eq!(remote(&bad), None, "{bad}");
        }
        assert_eq!(encoded("a b#c%.safetensors"), "a%20b%23c%25.safetensors");
    }
}
