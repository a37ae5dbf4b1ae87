//! What is fetched, how it lies in the cache, and what is not asked for again.

use std::fs;

use tickets::data::hub::{HubError, Kind, Pinned, Told, Watch, fetch};

use crate::server::{Act, COMMIT, Hub, Request, sha256};
use crate::support::{Cache, FILES, pinned};

fn names(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.path.rsplit('/').next().expect("a path")).collect()
}

#[test]
fn a_model_is_fetched_as_python_keeps_it_and_not_asked_for_again() {
    let hub = Hub::chat();
    for other in ["pytorch_model.bin", "README.md", "model.gguf", "training_args.bin", "modeling.py"] {
        hub.put(other, "not wanted");
    }
    let cache = Cache::new(&hub);
    let (snapshot, told) = cache.fetch_told();
    assert_eq!(snapshot.expect("fetched").files, FILES);
    cache.holds_all_of(&hub);
    let mut asked = hub.requests();
    assert!(asked.iter().all(|request| request.path.contains(COMMIT) && !request.path.contains("main")));
    asked.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(asked.len(), 1 + FILES.len(), "one list, and every file once: {:?}", names(&asked));
    assert!(asked[0].path.ends_with("?blobs=true") && names(&asked[1..]) == FILES);
    let bytes = FILES.iter().map(|name| hub.file(name).len() as u64).sum::<u64>();
    assert_eq!(told[0], Told::Begin { bytes });
    let last = told.iter().rev().find_map(|told| match told {
        Told::Progress { done, text } => Some((*done, text.clone())),
        _ => None,
    });
    let (done, text) = last.expect("progress");
    assert!(done == bytes && text.contains("/s") && text.contains(" of "), "{done} {text}");
    // The commit has no generation_config.json, and that is known now.
    assert_eq!(cache.fetch().expect("there").files, FILES);
    assert_eq!(hub.requests(), []);
}

#[test]
fn weights_in_several_files_come_with_their_index() {
    let hub = Hub::chat();
    let weights = hub.file("model.safetensors");
    hub.remove("model.safetensors");
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index = serde_json::json!({ "weight_map": { "a": shards[0], "b": shards[1], "c": shards[0] } });
    hub.put("model.safetensors.index.json", index.to_string());
    hub.put(shards[0], weights.clone());
    let cache = Cache::new(&hub);
    let said = cache.fails();
    assert!(said.contains(shards[1]) && said.contains("does not have"), "{said}");
    assert!(!names(&hub.requests()).contains(&shards[0]), "nothing large is fetched in vain");
    hub.put(shards[1], weights[..100].to_vec());
    let files = cache.fetch().expect("complete").files;
    assert!(shards.iter().all(|shard| files.iter().any(|name| name == shard)), "{files:?}");
    assert_eq!(fs::read(cache.file(shards[1])).expect("there"), weights[..100]);
}

#[test]
fn what_is_no_model_is_said() {
    for (missing, has, phrase) in [
        ("model.safetensors", "pytorch_model.bin", "only pickled weights (.bin)"),
        ("model.safetensors", "model-q4.gguf", "only GGUF files"),
        ("tokenizer.json", "x", "it has no tokenizer.json"),
        ("config.json", "x", "it has no config.json"),
    ] {
        let hub = Hub::chat();
        hub.remove(missing);
        hub.put(has, "x");
        let said = Cache::new(&hub).fails();
        assert!(said.contains(phrase) && said.contains("tiny/chat at commit 0123456789ab"), "{said}");
        assert_eq!(hub.requests().len(), 1, "no file is fetched");
    }
    let hub = Hub::chat();
    hub.remove("model.safetensors");
    hub.put("model.safetensors.index.json", r#"{"weight_map": {"a": "../../../evil.safetensors"}}"#);
    assert!(Cache::new(&hub).fails().contains("not a safetensors file of this folder"));
}

#[test]
fn a_file_that_cannot_be_checked_is_said_and_not_marked_as_absent() {
    for name in ["generation_config.json", "config.json", "model.safetensors"] {
        let hub = Hub::chat();
        hub.put("generation_config.json", "{}");
        hub.acts_on("?blobs=true", move |_| Act::NoDigest(name));
        let cache = Cache::new(&hub);
        let said = cache.fails();
        assert!(said.contains(&format!("no digest or no size of {name}")), "{said}");
        assert_eq!(hub.requests().len(), 1, "nothing is fetched in vain");
        // Python's tools believe these marks.
        assert!(!cache.repository().join(".no_exist").exists());
        hub.acts(|_, _| Act::Serve);
        assert_eq!(cache.fetch().expect("fetched").files.len(), 6);
    }
}

#[test]
fn a_cache_that_python_filled_is_used_without_a_request() {
    let hub = Hub::chat();
    let optional = ["generation_config.json", "special_tokens_map.json"];
    for name in optional {
        hub.put(name, "{}");
    }
    let cache = Cache::new(&hub);
    // As `snapshot_download` leaves it: blobs, links, `refs/main`, and nothing about files that do not exist.
    fs::create_dir_all(cache.repository().join("refs")).expect("writable");
    fs::write(cache.repository().join("refs/main"), COMMIT).expect("writable");
    fs::create_dir_all(cache.repository().join("blobs")).expect("writable");
    fs::create_dir_all(cache.file("")).expect("writable");
    for name in FILES.into_iter().chain(optional) {
        let blob = cache.blob(name, &hub.file(name));
        fs::write(&blob, hub.file(name)).expect("writable");
        let target = std::path::Path::new("../../blobs").join(blob.file_name().expect("a name"));
        std::os::unix::fs::symlink(target, cache.file(name)).expect("writable");
    }
    assert_eq!(cache.fetch().expect("there").files.len(), 7);
    assert_eq!(hub.requests(), []);
    // A file less than the commit has is noticed where the hub can be asked, and said where it cannot.
    fs::remove_file(cache.file("generation_config.json")).expect("there");
    let mut offline = cache.settings.clone();
    offline.offline = true;
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |what| told.borrow_mut().push(what);
    let found = fetch(&offline, &pinned(), Watch { stop: &|| false, tell: &tell });
    assert_eq!(found.expect("used").files.len(), 6);
    let told = told.into_inner();
    assert!(matches!(&told[..], [Told::Note(note)] if note.contains("generation_config.json")), "{told:?}");
    assert_eq!(hub.requests(), []);
    // A hub that is not to be had is no reason not to use what is there.
    let mut away = cache.settings.clone();
    away.endpoint = "http://127.0.0.1:9".into();
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |what| told.borrow_mut().push(what);
    let found = fetch(&away, &pinned(), Watch { stop: &|| false, tell: &tell });
    assert_eq!(found.expect("used").files.len(), 6);
    let told = told.into_inner();
    assert!(matches!(&told[..], [Told::Note(note)] if note.contains("no connection")), "{told:?}");
    assert_eq!(cache.fetch().expect("there").files.len(), 7);
    // The blob was there, so only the list was asked for.
    assert_eq!(hub.requests().len(), 1);
    // Newer versions of Python's library leave the list of a commit's files.
    for name in optional {
        fs::remove_file(cache.file(name)).expect("there");
    }
    fs::create_dir_all(cache.repository().join("trees")).expect("writable");
    let names: serde_json::Map<_, _> =
        FILES.iter().map(|name| ((*name).into(), serde_json::json!({}))).collect();
    let tree = serde_json::json!({ "format_version": 1, "files": names });
    fs::write(cache.repository().join(format!("trees/{COMMIT}.json")), tree.to_string()).expect("writable");
    assert_eq!(cache.fetch().expect("there").files, FILES);
    assert_eq!(hub.requests(), []);
}

#[test]
fn a_link_to_another_blob_is_put_right_where_the_commit_s_list_is_at_hand() {
    let hub = Hub::chat();
    let mut cache = Cache::new(&hub);
    let other = "{}\n";
    let astray = |cache: &Cache| {
        let blob = cache.blob("config.json", other.as_bytes());
        fs::write(&blob, other).expect("writable");
        fs::remove_file(cache.file("config.json")).expect("there");
        let target = std::path::Path::new("../../blobs").join(blob.file_name().expect("a name"));
        std::os::unix::fs::symlink(target, cache.file("config.json")).expect("writable");
    };
    cache.fetch().expect("fetched");
    // The hub's list, which is asked for because nothing is known of an optional file.
    astray(&cache);
    fs::remove_dir_all(cache.repository().join(".no_exist")).expect("there");
    cache.fetch().expect("fetched again");
    cache.holds_all_of(&hub);
    // The list that Python's library left, without a request.
    let entry = |name: &str| {
        let (git, bytes) = (crate::server::git(&hub.file(name)), hub.file(name));
        let mut entry = serde_json::json!({ "size": bytes.len(), "blob_id": git });
        if crate::server::is_large(name) {
            (entry["blob_id"], entry["lfs_sha256"]) = ("0".repeat(40).into(), sha256(&bytes).into());
        }
        (name.to_owned(), entry)
    };
    let files: serde_json::Map<_, _> = FILES.into_iter().map(entry).collect();
    let tree = serde_json::json!({ "format_version": 1, "files": files }).to_string();
    fs::create_dir_all(cache.repository().join("trees")).expect("writable");
    fs::write(cache.repository().join(format!("trees/{COMMIT}.json")), tree).expect("writable");
    hub.requests();
    cache.settings.offline = true;
    cache.fetch().expect("as it should be");
    astray(&cache);
    let said = cache.fails();
    assert!(said.contains("config.json is damaged") && hub.requests().is_empty(), "{said}");
    cache.settings.offline = false;
    cache.fetch().expect("fetched again");
    cache.holds_all_of(&hub);
}

#[test]
fn offline_nothing_is_asked_and_what_is_missing_is_named() {
    let hub = Hub::chat();
    let mut cache = Cache::new(&hub);
    cache.settings.offline = true;
    let said = cache.fails();
    for phrase in [
        "config.json, tokenizer.json, model.safetensors missing",
        "HF_HUB_OFFLINE",
        "hf download tiny/chat --revision 0123",
    ] {
        assert!(said.contains(phrase), "{phrase}: {said}");
    }
    cache.settings.offline = false;
    cache.fetch().expect("fetched");
    hub.requests();
    cache.settings.offline = true;
    cache.fetch().expect("there");
    // A damaged file is found by its name, left where it is, and said.
    let blob = cache.blob("config.json", &hub.file("config.json"));
    fs::write(&blob, "{}").expect("writable");
    let said = cache.fails();
    assert!(said.contains("config.json is damaged") && said.contains("unset HF_HUB_OFFLINE"), "{said}");
    assert!(blob.is_file() && hub.requests().is_empty());
    // With the network it is fetched again.
    cache.settings.offline = false;
    cache.fetch().expect("fetched");
    cache.holds_all_of(&hub);
}

#[test]
fn a_link_that_lost_its_blob_and_a_copy_in_place_of_a_link_are_put_right() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    cache.fetch().expect("fetched");
    fs::remove_file(cache.blob("tokenizer.json", &hub.file("tokenizer.json"))).expect("there");
    cache.fetch().expect("fetched again");
    cache.holds_all_of(&hub);
    // Where links are impossible Python keeps copies.
    fs::remove_file(cache.file("config.json")).expect("there");
    fs::write(cache.file("config.json"), hub.file("config.json")).expect("writable");
    hub.requests();
    cache.fetch().expect("there");
    assert_eq!(hub.requests(), []);
}

#[test]
fn a_token_is_shown_to_the_hub_and_to_nobody_else() {
    let (hub, other) = (Hub::chat(), Hub::chat());
    let mut cache = Cache::new(&hub);
    cache.settings.token = Some("hf_secret".into());
    let elsewhere = other.endpoint.clone();
    hub.acts(move |request, _| match request.path.rsplit('/').next() {
        // To another server, by way of this one, and to a relative path here.
        Some("model.safetensors") => Act::Redirect(format!("{elsewhere}/cdn/model.safetensors")),
        Some("tokenizer.json") if !request.path.starts_with("/cdn") => {
            Act::Redirect("/cdn/tokenizer.json".into())
        }
        _ => Act::Serve,
    });
    cache.fetch().expect("fetched");
    cache.holds_all_of(&hub);
    let (here, there) = (hub.requests(), other.requests());
    assert!(here.iter().all(|request| request.token.as_deref() == Some("Bearer hf_secret")), "{here:?}");
    assert!(here.iter().any(|request| request.path == "/cdn/tokenizer.json"));
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].token, None);
}

#[test]
fn a_range_survives_a_redirect() {
    let (hub, other) = (Hub::chat(), Hub::chat());
    let cache = Cache::new(&hub);
    let weights = hub.file("model.safetensors");
    fs::create_dir_all(cache.repository().join("blobs")).expect("writable");
    fs::write(cache.incomplete("model.safetensors", &weights), &weights[..1000]).expect("writable");
    let elsewhere = other.endpoint.clone();
    hub.acts_on("model.safetensors", move |_| Act::Redirect(format!("{elsewhere}/cdn/model.safetensors")));
    cache.fetch().expect("fetched");
    cache.holds_all_of(&hub);
    assert_eq!(other.requests()[0].from, Some(1000));
}

#[test]
fn two_that_fetch_at_once_fetch_once() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    std::thread::scope(|scope| {
        let fetched: Vec<_> = (0..3).map(|_| scope.spawn(|| cache.fetch().expect("fetched"))).collect();
        for thread in fetched {
            drop(thread.join().expect("no panic"));
        }
    });
    cache.holds_all_of(&hub);
    let asked = hub.requests();
    let weights = asked.iter().filter(|request| request.path.ends_with("model.safetensors")).count();
    assert_eq!(weights, 1, "{:?}", names(&asked));
}

#[test]
fn datasets_have_their_own_addresses() {
    let hub = Hub::chat();
    let cache = Cache::new(&hub);
    let rows = Pinned { kind: Kind::Dataset, ..pinned() };
    let error = fetch(&cache.settings, &rows, Watch::NOBODY).expect_err("the hub has no datasets");
    assert!(matches!(error, HubError::NotFound { .. }), "{error}");
    assert!(hub.requests()[0].path.starts_with("/api/datasets/tiny/chat/revision/"));
    assert_eq!(sha256(b"hello\n"), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
}
