//! The real program, stopped in the middle of a download: the next one goes on from there, byte for byte.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::commands::Site;
use crate::common::wait_for;
use crate::server::{Act, Hub, blob};

const WEIGHTS: &str = "model.safetensors";

/// Begins a sweep whose download stays in the middle, sends a signal, and checks what is left. The exit code.
fn stopped_by(site: &Site, signal: Signal) -> Option<i32> {
    let half = site
        .repository()
        .join("blobs")
        .join(format!("{}.incomplete", blob(WEIGHTS, &site.hub.file(WEIGHTS))));
    site.hub.acts_on(WEIGHTS, |_| Act::HangAfter(6000));
    let patient = [("HF_HUB_DOWNLOAD_TIMEOUT", "60")];
    let mut command = site.command(&["sweep", "m.toml"], &patient);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started");
    wait_for("half a file", || fs::metadata(&half).is_ok_and(|found| found.len() == 6000));
    let start = Instant::now();
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("a process id");
    kill_process(pid, signal).expect("it lives");
    let status = child.wait().expect("ours");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(fs::read(&half).expect("kept"), site.hub.file(WEIGHTS)[..6000]);
    let snapshot = site.repository().join("snapshots").join(crate::server::COMMIT);
    assert!(!snapshot.join(WEIGHTS).exists(), "half a file has no name");
    status.code()
}

fn goes_on(site: &Site) {
    site.hub.requests();
    site.hub.acts(|_, _| Act::Serve);
    site.run(&["sweep", "m.toml"], &[]).ends(0);
    let requests = site.hub.requests();
    let asked: Vec<_> = requests.iter().filter(|request| request.path.ends_with(WEIGHTS)).collect();
    assert_eq!(asked.iter().map(|request| request.from).collect::<Vec<_>>(), [Some(6000)]);
    let digest = blake3::hash(&site.hub.file(WEIGHTS)).to_hex().to_string();
    assert_eq!(site.checked()["files"][WEIGHTS], digest);
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    let site = Site::new(Hub::chat());
    stopped_by(&site, Signal::KILL);
    goes_on(&site);
}

#[test]
fn ctrl_c_ends_a_download_soon_and_keeps_what_came() {
    let site = Site::new(Hub::chat());
    assert_eq!(stopped_by(&site, Signal::INT), Some(99));
    goes_on(&site);
}
