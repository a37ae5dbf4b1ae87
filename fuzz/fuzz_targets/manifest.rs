//! Bytes to a plan: a manifest, the file that it may extend, and overrides, parted by the byte 0xFF (never in UTF-8).
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tickets::manifest::load_with;
use tickets::plan::expand;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("tickets-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::env::set_current_dir(&folder).expect("entered");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0xFF);
    let manifest = FOLDER.join("m.toml");
    std::fs::write(&manifest, parts.next().unwrap_or_default()).expect("written");
    std::fs::write(FOLDER.join("base.toml"), parts.next().unwrap_or_default()).expect("written");
    let set = parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>();
    let path = manifest.to_str().expect("UTF-8");
    match load_with(path, &set, &[]).map_err(Into::into).and_then(expand) {
        Ok(plan) => assert!(!plan.runs.is_empty(), "a plan has runs"),
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error says something");
            let _ = (error.render(false), error.hint());
        }
    }
});
