//! Requests: one GET, its redirects, and the answer piece by piece.
//!
//! In: an address, perhaps a position to go on from. Out: the head of the answer, then bytes. Each request runs on a
//! thread of its own, so that whoever waits for it can be asked to stop, and notices when nothing comes. Invariant: the
//! token goes to the hub's own scheme, host and port, and nowhere else.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ureq::http::HeaderMap;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy, config::AutoHeaderValue};

use super::error::shown;
use super::{HubError, Settings};

/// Redirects that are followed.
const REDIRECTS: usize = 8;
/// How often somebody who waits looks up.
const GLANCE: Duration = Duration::from_millis(50);
/// Bytes that are handed on at once, at most.
const PIECE: usize = 256 << 10;

/// Why a request came to nothing.
#[derive(Debug)]
pub enum Fault {
    /// It may go better the next time: what happened, and how long the hub wants to be left alone.
    Passing(String, Option<Duration>),
    /// It will not.
    Lasting(HubError),
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Self {
        Self::Lasting(error)
    }
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    headers: HeaderMap,
}

impl Head {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the hub wants to be left alone, by its own word; half a minute at most.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after")?.trim().parse::<u64>().ok()?;
        Some(Duration::from_secs(seconds.min(30)))
    }

    /// What the hub says about an error, in its own words.
    pub fn says(&self) -> Option<String> {
        let text = self.header("x-error-message")?;
        Some(text.chars().filter(|c| !c.is_control()).take(200).collect())
    }
}

enum Piece {
    Redirected,
    Head(Head),
    Bytes(Vec<u8>),
    End,
    Failed(Fault),
}

/// An answer whose head has come.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pieces: Pieces,
}

impl Answer {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the answer breaks off or pauses for too long, or it was asked to stop.
    pub fn next(&self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<u8>>, Fault> {
        match self.pieces.next(stop)? {
            Piece::Bytes(bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        }
    }

    /// All of a small answer.
    ///
    /// # Errors
    /// As [`Self::next`], and when it is not small.
    pub fn text(&self, stop: &dyn Fn() -> bool, most: usize) -> Result<Vec<u8>, Fault> {
        let mut text = Vec::new();
        while let Some(bytes) = self.next(stop)? {
            text.extend(bytes);
            if text.len() > most {
                return Err(Fault::Passing(format!("the answer has more than {most} bytes"), None));
            }
        }
        Ok(text)
    }
}

struct Pieces {
    from: Receiver<Piece>,
    within: Duration,
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Pieces")
    }
}

impl Pieces {
    fn next(&self, stop: &dyn Fn() -> bool) -> Result<Piece, Fault> {
        let since = Instant::now();
        loop {
            if stop() {
                return Err(HubError::Stopped.into());
            }
            match self.from.recv_timeout(GLANCE) {
                Ok(Piece::Failed(fault)) => return Err(fault),
                Ok(piece) => return Ok(piece),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::Passing("the request ended without an answer".into(), None));
                }
                Err(RecvTimeoutError::Timeout) if since.elapsed() > self.within => {
                    return Err(silent(self.within));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

fn silent(within: Duration) -> Fault {
    Fault::Passing(format!("nothing came for {} seconds", within.as_secs()), None)
}

/// Makes requests.
#[derive(Clone, Debug)]
pub struct Http {
    agent: Agent,
    settings: Settings,
}

impl Http {
    /// For a hub.
    ///
    /// # Errors
    /// When the certificates that are to be trusted cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, HubError> {
        let roots = match &settings.certificates {
            Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
            None => RootCerts::WebPki,
        };
        let longest = settings.answer_within.max(settings.pause_within);
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("tickets/", env!("CARGO_PKG_VERSION")))
            // A position in a file is one in the file as it is.
            .accept_encoding(AutoHeaderValue::Provided(Arc::new("identity".into())))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_resolve(Some(longest))
            .timeout_connect(Some(longest))
            // Later than whoever waits gives up: it is for threads that nobody waits for any more.
            .timeout_per_read(Some(longest + Duration::from_secs(5)))
            .build()
            .new_agent();
        Ok(Self { agent, settings: settings.clone() })
    }

    /// Asks for an address, from a position on when there is one, and waits for the head of the answer. Statuses of errors
    /// are answers.
    ///
    /// # Errors
    /// When no answer comes in time, or it was asked to stop.
    pub fn get(&self, url: &str, from: u64, stop: &dyn Fn() -> bool) -> Result<Answer, Fault> {
        let (to, pieces) = sync_channel(4);
        let (http, url) = (self.clone(), url.to_owned());
        let started =
            std::thread::Builder::new().name("request".into()).spawn(move || http.exchange(url, from, &to));
        started.map_err(|error| Fault::Passing(format!("cannot start a thread: {error}"), None))?;
        let Settings { answer_within, pause_within, .. } = self.settings;
        let mut pieces = Pieces { from: pieces, within: answer_within };
        loop {
            match pieces.next(stop)? {
                Piece::Head(head) => {
                    pieces.within = pause_within;
                    return Ok(Answer { head, pieces });
                }
                Piece::Redirected => {}
                _ => return Err(Fault::Passing("the answer has no head".into(), None)),
            }
        }
    }

    /// The request itself. That nobody listens any more ends it.
    fn exchange(&self, mut url: String, from: u64, to: &SyncSender<Piece>) {
        let own = origin(&self.settings.endpoint);
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(proxy) = self.settings.proxies.of(&url) {
                let Ok(proxy) = Proxy::new(&proxy.address) else {
                    let (name, value) = (proxy.variable, proxy.shown());
                    let what = "it is no address of a proxy";
                    return drop(to.send(Piece::Failed(HubError::Setting { name, value, what }.into())));
                };
                request = request.config().proxy(Some(proxy)).build();
            }
            if let Some(token) = self.settings.token.as_ref().filter(|_| origin(&url) == own) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let answer = match request.call() {
                Ok(answer) => answer,
                Err(error) => return drop(to.send(Piece::Failed(self.fault(&url, error)))),
            };
            let (parts, mut body) = answer.into_parts();
            let head = Head { status: parts.status.as_u16(), headers: parts.headers };
            let moved = matches!(head.status, 301 | 302 | 303 | 307 | 308);
            if let Some(location) = head.header("location").filter(|_| moved) {
                url = match redirected(&url, location) {
                    Ok(next) => next,
                    Err(error) => return drop(to.send(Piece::Failed(error.into()))),
                };
                if to.send(Piece::Redirected).is_err() {
                    return;
                }
                continue;
            }
            if to.send(Piece::Head(head)).is_err() {
                return;
            }
            let mut reader = body.as_reader();
            let mut buffer = vec![0; PIECE];
            loop {
                let piece = match reader.read(&mut buffer) {
                    Ok(0) => return drop(to.send(Piece::End)),
                    Ok(read) => Piece::Bytes(buffer[..read].to_vec()),
                    Err(error) => Piece::Failed(Fault::Passing(broken_off(&error), None)),
                };
                let last = matches!(piece, Piece::Failed(_));
                if to.send(piece).is_err() || last {
                    return;
                }
            }
        }
        let what = format!("it leads on and on, through more than {REDIRECTS} redirects");
        drop(to.send(Piece::Failed(HubError::Answer { url: shown(&url), what }.into())));
    }

    fn fault(&self, url: &str, error: ureq::Error) -> Fault {
        let what = match error {
            ureq::Error::Timeout(_) => return silent(self.settings.answer_within),
            ureq::Error::HostNotFound => "the name of the host is not known (no network, or no DNS)".into(),
            ureq::Error::Io(error) => format!("no connection: {error}"),
            ureq::Error::ConnectProxyFailed(what) => format!("the proxy refuses: {what}"),
            ureq::Error::Rustls(error) => format!("no encrypted connection: {error}"),
            other => other.to_string(),
        };
        // A certificate that does not serve now does not serve in a moment.
        if what.contains("certificate") || what.contains("Certificate") {
            let what = format!("{what} (REQUESTS_CA_BUNDLE names certificates to trust)");
            return HubError::Trouble { url: shown(url), what, tries: 1, kept: 0 }.into();
        }
        Fault::Passing(what, None)
    }
}

fn broken_off(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return "the connection was closed in the middle".into();
    }
    format!("the connection broke in the middle: {error}")
}

fn certificates(path: &std::path::Path) -> Result<Vec<ureq::tls::Certificate<'static>>, HubError> {
    let text = std::fs::read(path).map_err(|source| HubError::Read { path: path.into(), source })?;
    let found: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        let value = path.display().to_string();
        let what = "the file holds no certificate in PEM";
        return Err(HubError::Setting { name: "REQUESTS_CA_BUNDLE", value, what });
    }
    Ok(found)
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_lowercase();
    let scheme = scheme.to_lowercase();
    let standard = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}", authority.strip_suffix(standard).unwrap_or(&authority))
}

/// The address that a redirect leads to, which is as encrypted as the one that it comes from.
fn redirected(url: &str, location: &str) -> Result<String, HubError> {
    let next = joined(url, location);
    if url.starts_with("https://") && !next.starts_with("https://") {
        let what = format!("it leads to {}, which is not encrypted", shown(&next));
        return Err(HubError::Answer { url: shown(url), what });
    }
    Ok(next)
}

/// Where a redirect leads.
fn joined(from: &str, location: &str) -> String {
    let location = location.split('#').next().unwrap_or_default();
    let start = from.find("://").map_or(0, |at| at + 3);
    if location.to_lowercase().starts_with("http://") || location.to_lowercase().starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{}{}", &from[..start.saturating_sub(2)], location)
    } else {
        let path = from[start..].find(['/', '?']).map_or(from.len(), |at| start + at);
        if location.starts_with('/') {
            return format!("{}{location}", &from[..path]);
        }
        let plain = from[path..].split('?').next().unwrap_or_default();
        let folder = plain.rfind('/').map_or("/", |at| &plain[..=at]);
        format!("{}{folder}{location}", &from[..path])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        for (url, expected) in [
            ("https://HF.co/a", "https://hf.co"),
            ("https://hf.co:443", "https://hf.co"),
            ("http://hf.co:443/", "http://hf.co:443"),
            ("http://127.0.0.1:8000/x?y", "http://127.0.0.1:8000"),
        ] {
            assert_eq!(origin(url), expected);
        }
        assert_ne!(origin("https://hf.co.evil.org/"), origin("https://hf.co/"));
        assert_ne!(origin("https://hf.co@evil.org/"), origin("https://hf.co/"));
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from = "https://h:1/a/b?c";
        for (location, expected) in [
            ("https://x/y#z", "https://x/y"),
            ("//x/y", "https://x/y"),
            ("/y?z", "https://h:1/y?z"),
            ("y", "https://h:1/a/y"),
        ] {
            assert_eq!(joined(from, location), expected);
        }
        assert_eq!(joined("https://h", "/y"), "https://h/y");
        assert_eq!(redirected(from, "/y?z").unwrap(), "https://h:1/y?z");
        let said = redirected("https://h/a?sig=secret", "http://x/y?sig=secret").unwrap_err().to_string();
        assert!(said.contains("http://x/y,") && !said.contains("secret"), "{said}");
    }
}
