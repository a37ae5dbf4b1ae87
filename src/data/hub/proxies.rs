//! Which proxy a request goes through, by the usual variables: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
//!
//! In: variables and an address. Out: a proxy's address or none. As with curl and Python, a lower-case variable counts
//! before an upper-case one, and a name in `NO_PROXY` stands for what ends with it as well.

use super::settings::{Variables, set};

/// The proxies of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    plain: Option<String>,
    encrypted: Option<String>,
    without: Vec<String>,
}

impl Proxies {
    /// As some variables say.
    pub(super) fn from_variables(variable: Variables) -> Self {
        let either = |name: &str| {
            let found = set(variable, name).or_else(|| set(variable, &name.to_uppercase()));
            found.map(|value| value.to_string_lossy().into_owned())
        };
        let without = either("no_proxy").unwrap_or_default();
        Self {
            plain: either("http_proxy").or_else(|| either("all_proxy")),
            encrypted: either("https_proxy").or_else(|| either("all_proxy")),
            without: without
                .split(',')
                .map(|name| name.trim().to_lowercase())
                .filter(|n| !n.is_empty())
                .collect(),
        }
    }

    /// The proxy for an address.
    #[cfg(feature = "torch")]
    pub(super) fn of(&self, url: &str) -> Option<&str> {
        let (scheme, rest) = url.split_once("://")?;
        let proxy = if scheme.eq_ignore_ascii_case("https") { &self.encrypted } else { &self.plain };
        let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?.to_lowercase();
        let host = match authority.strip_prefix('[') {
            Some(six) => six.split(']').next()?,
            None => authority.split(':').next()?,
        };
        proxy.as_deref().filter(|_| !self.without.iter().any(|name| covers(name, host, &authority)))
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
    fn a_proxy_is_chosen_by_the_scheme() {
        let both =
            from(&[("HTTPS_PROXY", "http://s"), ("http_proxy", "http://p"), ("ALL_PROXY", "http://a")]);
        assert_eq!(both.of("https://h/x"), Some("http://s"));
        assert_eq!(both.of("http://h/x"), Some("http://p"));
        assert_eq!(from(&[("all_proxy", "http://a")]).of("https://h"), Some("http://a"));
        assert_eq!(from(&[("https_proxy", "l"), ("HTTPS_PROXY", "u")]).of("https://h"), Some("l"));
        assert_eq!(from(&[("HTTPS_PROXY", "")]).of("https://h"), None);
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
