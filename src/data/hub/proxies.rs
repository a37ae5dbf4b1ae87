//! Which proxy a request goes through, by the usual variables: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
//!
//! In: variables and an address. Out: a proxy's address or none. As with curl and Python, a lower-case variable counts
//! before an upper-case one, and a name in `NO_PROXY` stands for what ends with it as well.

use super::settings::{Variables, set};

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Named {
    /// The variable that names it.
    pub variable: &'static str,
    /// Its address, perhaps with a name and a password.
    pub address: String,
}

impl Named {
    /// The address without a name and password, also where it is no proper one.
    pub fn shown(&self) -> String {
        let Some((before, host)) = self.address.rsplit_once('@') else { return self.address.clone() };
        match before.split_once("://") {
            Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                format!("{scheme}://{host}")
            }
            _ => host.to_owned(),
        }
    }
}

impl std::fmt::Debug for Named {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}={:?}", self.variable, self.shown())
    }
}

/// The proxies of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    plain: Option<Named>,
    encrypted: Option<Named>,
    without: Vec<String>,
}

impl Proxies {
    /// As some variables say.
    pub(super) fn from_variables(variable: Variables) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                let address = set(variable, name)?.to_string_lossy().into_owned();
                Some(Named { variable: name, address })
            })
        };
        let without = first(&["no_proxy", "NO_PROXY"]).map(|found| found.address).unwrap_or_default();
        Self {
            plain: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            encrypted: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            without: without
                .split(',')
                .map(|name| name.trim().to_lowercase())
                .filter(|n| !n.is_empty())
                .collect(),
        }
    }

    /// The proxy for an address.
    #[cfg(feature = "torch")]
    pub(super) fn of(&self, url: &str) -> Option<&Named> {
        let (scheme, rest) = url.split_once("://")?;
        let proxy = if scheme.eq_ignore_ascii_case("https") { &self.encrypted } else { &self.plain };
        let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?.to_lowercase();
        let host = match authority.strip_prefix('[') {
            Some(six) => six.split(']').next()?,
            None => authority.split(':').next()?,
        };
        proxy.as_ref().filter(|_| !self.without.iter().any(|name| covers(name, host, &authority)))
    }
}

#[cfg(feature = "torch")]
fn covers(name: &str, host: &str, authority: &str) -> bool {
    let name = name.trim_start_matches("*.").trim_start_matches('.');
    name == "*"
        || name == host
        || name == authority
        || host.strip_suffix(name).is_some_and(|before| before.ends_with('.'))
}

#[cfg(all(test, feature = "torch"))]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_variables(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_password_is_not_shown() {
        for (address, shown) in [
            ("http://user:se/cr@et@h:1", "http://h:1"),
            ("user:secret@h:1", "h:1"),
            ("http://user:x://secret@h", "http://h"),
            ("user:secret://x@h", "h"),
            ("http://h:1/", "http://h:1/"),
        ] {
            let proxies = from(&[("all_proxy", address)]);
            assert_eq!(proxies.of("http://h").map(Named::shown).as_deref(), Some(shown), "{address}");
            assert!(!format!("{proxies:?}").contains("user"), "{proxies:?}");
        }
    }

    #[test]
    fn a_proxy_is_chosen_by_the_scheme() {
        let address =
            |proxies: Proxies, url| proxies.of(url).map(|found| (found.variable, found.address.clone()));
        let is = |variables: &[(&str, &str)], url, expected: Option<(&'static str, &str)>| {
            let expected = expected.map(|(name, value)| (name, value.to_owned()));
            assert_eq!(address(from(variables), url), expected);
        };
        let all = [("HTTPS_PROXY", "http://s"), ("http_proxy", "http://p"), ("ALL_PROXY", "http://a")];
        is(&all, "https://h/x", Some(("HTTPS_PROXY", "http://s")));
        is(&all, "http://h/x", Some(("http_proxy", "http://p")));
        is(&[("all_proxy", "http://a")], "https://h", Some(("all_proxy", "http://a")));
        is(&[("https_proxy", "l"), ("HTTPS_PROXY", "u")], "https://h", Some(("https_proxy", "l")));
        is(&[("HTTPS_PROXY", "")], "https://h", None);
    }

    #[test]
    fn what_is_named_goes_without() {
        for (without, url, goes_through) in [
            ("hf.co", "https://hf.co/a", false),
            ("hf.co", "https://cdn.hf.co/a", false),
            ("hf.co", "https://nothf.co/a", true),
            (".hf.co, *.x.org", "https://a.x.org:8443/", false),
            ("*", "https://h", false),
            ("127.0.0.1,localhost", "http://127.0.0.1:80/", false),
            ("127.0.0.1:81", "http://127.0.0.1:80/", true),
            ("::1", "http://[::1]:80/", false),
            ("", "http://h", true),
        ] {
            let proxies = from(&[("ALL_PROXY", "http://p"), ("NO_PROXY", without)]);
            assert_eq!(proxies.of(url).is_some(), goes_through, "{without} {url}");
        }
    }
}
