//! A hub, a network or a disk that goes wrong: what is said, what is tried again, and that nothing half is taken for whole.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use tickets::data::hub::{HubError, Settings, Told, Watch, fetch};

use crate::server::{Act, Hub};
use crate::support::{Cache, pinned, settings};

#[test]
fn refusals_and_absences_are_told_apart_and_not_tried_again() {
    let list = "?blobs=true";
    for (on, act, phrases) in [
        (
            list,
            Act::Status(401, "x-error-message: Invalid username or password."),
            &[
                "refuses (401: Invalid username",
                "no token was shown",
                "HF_TOKEN",
                "https://huggingface.co/tiny/chat",
            ][..],
        ),
        (
            list,
            Act::Status(404, "x-error-code: RevisionNotFound"),
            &[
                "no repository tiny/chat, or no commit 0123456789abcdef0123456789abcdef01234567 in it (404)",
                "HF_ENDPOINT",
            ],
        ),
        ("config.json", Act::Status(403, ""), &["refuses (403)", "accept its terms"]),
        (
            "config.json",
            Act::Status(404, ""),
            &["no file config.json in tiny/chat at commit 0123456789ab (404)"],
        ),
        (list, Act::Status(418, ""), &["the hub answers 418"]),
        (list, Act::NoJson, &["it is not JSON", "login page"]),
    ] {
        let hub = Hub::chat();
        let cache = Cache::new(&hub);
        hub.acts_on(on, move |_| act.clone());
        let said = cache.fails();
        for phrase in phrases {
            assert!(said.contains(phrase), "`{phrase}` is not in {said}");
        }
        let asked = hub.requests();
        assert_eq!(asked.iter().filter(|request| request.path.ends_with(on)).count(), 1, "{said}");
        assert!(!cache.file("model.safetensors").exists());
        // When it is put right, the same goes on.
        hub.acts(|_, _| Act::Serve);
        cache.fetch().expect("fetched");
        cache.holds_all_of(&hub);
    }
    let hub = Hub::chat();
    let mut cache = Cache::new(&hub);
    cache.settings.token = Some("hf_bad".into());
    hub.acts(|_, _| Act::Status(401, ""));
    let said = cache.fails();
    assert!(said.contains("with the token that it was shown") && !said.contains("hf_bad"), "{said}");
}

#[test]
fn trouble_that_passes_is_passed_over() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    hub.acts(|_, before| match before {
        0 => Act::Status(500, ""),
        1 => Act::Status(503, "retry-after: 0"),
        2 => Act::Status(429, "retry-after: 0"),
        _ => Act::Serve,
    });
    cache.fetch().expect("fetched");
    cache.holds_all_of(&hub);
}

#[test]
fn trouble_that_stays_is_said_after_some_tries() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    hub.acts(|_, _| Act::Status(502, ""));
    let said = cache.fails();
    for phrase in ["the hub answers 502; tried 5 times", "/api/models/tiny/chat", "HTTPS_PROXY"] {
        assert!(said.contains(phrase), "{said}");
    }
    assert_eq!(hub.requests().len(), 5);
    // A port at which nobody listens, and a name that nobody has.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("loopback");
    for (endpoint, phrase) in [
        (format!("http://{closed}"), "no connection"),
        ("http://no-such-host.invalid".to_owned(), "tried 5 times"),
    ] {
        let mut elsewhere = settings(&endpoint, cache.path());
        elsewhere.retry_after = Duration::from_millis(1);
        let error = fetch(&elsewhere, &pinned(), Watch::NOBODY).expect_err("nobody is there");
        assert!(error.to_string().contains(phrase) && error.may_pass(), "{error}");
    }
}

#[test]
fn half_a_file_is_gone_on_with() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    // Three bites of a file of 13320 bytes.
    hub.acts_on("model.safetensors", |before| if before < 2 { Act::Cut(5000) } else { Act::Serve });
    cache.fetch().expect("fetched");
    cache.holds_all_of(&hub);
    let ranges: Vec<_> = hub
        .requests()
        .into_iter()
        .filter(|r| r.path.ends_with("model.safetensors"))
        .map(|r| r.from)
        .collect();
    assert_eq!(ranges, [None, Some(5000), Some(10000)]);
}

#[test]
fn a_file_that_never_ends_well_is_kept_as_a_half_and_said() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    hub.acts_on("model.safetensors", |before| Act::Cut(if before == 0 { 5000 } else { 0 }));
    let said = cache.fails();
    assert!(said.contains("closed in the middle; tried 5 times; 4.9 KiB are here and are kept"), "{said}");
    assert!(!cache.file("model.safetensors").exists());
    let weights = hub.file("model.safetensors");
    assert_eq!(fs::read(cache.incomplete("model.safetensors", &weights)).expect("kept"), weights[..5000]);
    hub.requests();
    hub.acts(|_, _| Act::Serve);
    cache.fetch().expect("fetched");
    cache.holds_all_of(&hub);
    assert!(hub.requests().iter().any(|request| request.from == Some(5000)));
}

#[test]
fn a_hub_that_falls_silent_is_given_up_after_the_limit() {
    for act in [Act::Hang, Act::HangAfter(4000)] {
        let hub = Hub::chat();
        let cache = Cache::new(&hub);
        let silent = act.clone();
        hub.acts_on("model.safetensors", move |before| if before == 0 { silent.clone() } else { Act::Serve });
        let start = Instant::now();
        cache.fetch().expect("fetched at the second try");
        cache.holds_all_of(&hub);
        let took = start.elapsed();
        assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "{took:?}");
        let again = hub.requests().into_iter().filter(|r| r.path.ends_with("model.safetensors")).nth(1);
        let expected = if matches!(act, Act::Hang) { None } else { Some(4000) };
        assert_eq!(again.expect("a second request").from, expected);
    }
}

#[test]
fn it_stops_soon_when_asked_to_and_keeps_what_it_has() {
    let hub = Hub::chat();
    let mut cache = Cache::new(&hub);
    cache.settings.pause_within = Duration::from_mins(1);
    hub.acts_on("model.safetensors", |_| Act::HangAfter(4000));
    let weights = hub.file("model.safetensors");
    let half = cache.incomplete("model.safetensors", &weights);
    let start = Instant::now();
    let stop = || fs::metadata(&half).is_ok_and(|found| found.len() == 4000);
    let error = fetch(&cache.settings, &pinned(), Watch { stop: &stop, tell: &|_| {} }).expect_err("stopped");
    assert!(matches!(error, HubError::Stopped), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(fs::read(&half).expect("kept"), weights[..4000]);
    hub.acts(|_, _| Act::Serve);
    cache.fetch().expect("fetched");
    cache.holds_all_of(&hub);
}

#[test]
fn other_bytes_are_thrown_away_and_asked_for_once_more() {
    for name in ["model.safetensors", "config.json"] {
        let hub = Hub::chat();
        let cache = Cache::new(&hub);
        hub.acts_on(name, |before| if before == 0 { Act::Wrong } else { Act::Serve });
        let (result, told) = cache.fetch_told();
        result.expect("fetched");
        cache.holds_all_of(&hub);
        assert!(told.iter().any(|told| matches!(told, Told::Note(note) if note.contains(name))), "{told:?}");
        // Always others.
        let (hub, cache) = {
            let hub = Hub::chat();
            let cache = Cache::new(&hub);
            (hub, cache)
        };
        hub.acts_on(name, |_| Act::Wrong);
        let said = cache.fails();
        assert!(said.contains(&format!("{name} of tiny/chat")) && said.contains("is expected"), "{said}");
        assert!(!cache.file(name).exists() && !cache.blob(name, &hub.file(name)).exists());
        assert_eq!(cache.halves(), Vec::<String>::new());
        assert_eq!(hub.requests().iter().filter(|request| request.path.ends_with(name)).count(), 2);
    }
}

#[test]
fn a_half_that_is_wrong_or_too_long_is_begun_anew() {
    for half in [vec![7; 5000], vec![7; 13_320], vec![7; 20_000]] {
        let hub = Hub::chat();
        let cache = Cache::new(&hub);
        let weights = hub.file("model.safetensors");
        assert_eq!(weights.len(), 13_320);
        fs::create_dir_all(cache.repository().join("blobs")).expect("writable");
        fs::write(cache.incomplete("model.safetensors", &weights), half).expect("writable");
        cache.fetch().expect("fetched");
        cache.holds_all_of(&hub);
    }
}

#[test]
fn a_hub_that_goes_on_elsewhere_or_not_at_all_is_asked_for_all_of_it() {
    for act in [Act::WithoutRange, Act::OtherRange, Act::Status(416, "")] {
        let hub = Hub::chat();
        let cache = Cache::new(&hub);
        let weights = hub.file("model.safetensors");
        fs::create_dir_all(cache.repository().join("blobs")).expect("writable");
        fs::write(cache.incomplete("model.safetensors", &weights), &weights[..6000]).expect("writable");
        let other = act.clone();
        hub.acts(move |request, _| if request.from.is_some() { other.clone() } else { Act::Serve });
        cache.fetch().expect("fetched");
        cache.holds_all_of(&hub);
    }
}

#[test]
fn a_proxy_is_gone_through_unless_the_hub_is_excepted() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("loopback");
    let through = |without: &'static str| {
        let (endpoint, cache) = (hub.endpoint.clone(), cache.path().to_path_buf());
        let settings = Settings::from_variables(&move |name| match name {
            "HF_ENDPOINT" => Some(endpoint.clone().into()),
            "HF_HUB_CACHE" => Some(cache.clone().into()),
            "HTTP_PROXY" => Some(format!("http://{closed}").into()),
            "NO_PROXY" => Some(without.into()),
            _ => None,
        });
        Settings { retry_after: Duration::from_millis(1), ..settings.expect("settings") }
    };
    let error = fetch(&through("localhost"), &pinned(), Watch::NOBODY).expect_err("nobody listens there");
    assert!(error.may_pass() && hub.requests().is_empty(), "{error}");
    fetch(&through("127.0.0.1"), &pinned(), Watch::NOBODY).expect("fetched");
}

#[test]
fn a_proxy_that_is_none_is_named_without_its_password() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        let settings = Settings::from_variables(&|name| match name {
            "HF_ENDPOINT" => Some(hub.endpoint.clone().into()),
            "HF_HUB_CACHE" => Some(cache.path().into()),
            name if name == variable => Some("http://user:secret@no proxy:x".into()),
            _ => None,
        });
        let error = fetch(&settings.expect("settings"), &pinned(), Watch::NOBODY).expect_err("no address");
        let said = format!("{error} {error:?} {}", error.hint().expect("advice"));
        assert!(said.contains(&format!("{variable}=")) && said.contains("no proxy:x"), "{said}");
        assert!(!said.contains("secret") && !said.contains("user"), "{said}");
        assert_eq!(hub.requests(), []);
    }
}

#[test]
fn redirects_in_a_circle_end() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    hub.acts(|request, _| {
        let circle = || Act::Redirect("config.json?X-Signature=secret".into());
        if request.path.contains("/config.json") { circle() } else { Act::Serve }
    });
    let said = cache.fails();
    assert!(said.contains("/config.json: it leads on and on") && !said.contains("secret"), "{said}");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let hub = Hub::chat();
    let mut cache = Cache::new(&hub);
    let file = cache.path().join("file");
    fs::write(&file, "").expect("writable");
    cache.settings.cache = file.join("hub");
    let error = cache.fetch().expect_err("a folder below a file");
    let said = format!("{error}: {}", std::error::Error::source(&error).expect("a cause"));
    assert!(said.contains("keep a download") && said.contains(&*file.to_string_lossy()), "{said}");
    assert!(error.hint().expect("advice").contains("HF_HOME") && !error.may_pass());
}

#[test]
fn an_encrypted_hub_is_spoken_to_encrypted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let endpoint = format!("https://{}", listener.local_addr().expect("an address"));
    let hello = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut first = [0; 6];
        stream.read_exact(&mut first).expect("a greeting");
        // A fatal alert: handshake failure.
        stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).expect("it listens");
        first
    });
    let cache = tempfile::tempdir().expect("a folder");
    let mut encrypted = settings(&endpoint, cache.path());
    encrypted.retry_after = Duration::from_millis(1);
    let error = fetch(&encrypted, &pinned(), Watch::NOBODY).expect_err("no handshake");
    assert!(error.may_pass() && error.to_string().contains("/api/models/tiny/chat"), "{error}");
    // A record of a handshake, and in it a client's hello.
    let first = hello.join().expect("no panic");
    assert_eq!((first[0], first[1], first[5]), (0x16, 3, 1), "TLS is compiled in");
}
