//! Leases: who gets one, who takes one over and when, and that clocks alone decide nothing.

use crate::common::*;
use crate::races::spawn_helper;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tickets::store::{Asked, Lease, Observer, Stage, Store, StoreError, Terms};

const LONG: Terms = Terms { lasts: Duration::from_mins(5) };

fn ask(store: &Store, task: &str, terms: Terms, observer: &mut Observer) -> Asked {
    store.lease(task, "test", terms, observer).unwrap()
}

fn granted(asked: Asked) -> Lease {
    match asked {
        Asked::Granted(lease) => lease,
        Asked::Taken(claim) => panic!("held by {claim:?}"),
    }
}

fn files(store: &Store) -> Vec<String> {
    let entries = fs::read_dir(store.layout().leases()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn set_time(store: &Store, name: &str, time: SystemTime) {
    let file = File::options().write(true).open(store.layout().leases().join(name)).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn a_lease_is_held_by_one_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut observer = store.observer().unwrap();
    let lease = granted(ask(&store, "run-a", LONG, &mut observer));
    match ask(&store, "run-a", LONG, &mut observer) {
        Asked::Taken(claim) => {
            assert_eq!(claim.holder.as_ref().unwrap().pid, std::process::id());
            assert_eq!((claim.generation, claim.purpose.as_str(), claim.terms), (1, "test", LONG));
        }
        Asked::Granted(_) => panic!("two holders"),
    }
    let other = granted(ask(&store, "run-b", LONG, &mut observer));
    assert_eq!(files(&store), ["run-a.1", "run-b.1"]);
    assert_eq!(store.claims().unwrap().len(), 2);
    assert!(lease.renew().unwrap());
    drop((lease, other));
    assert_eq!(files(&store), Vec::<String>::new());
    granted(ask(&store, "run-a", LONG, &mut observer));
    assert!(notices.lock().unwrap().is_empty());
    drop(observer);
    assert!(fs::read_dir(store.layout().leases()).unwrap().next().is_none(), "nothing is left behind");
}

#[test]
fn of_many_who_ask_at_once_one_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    for round in 0..10 {
        let barrier = Barrier::new(8);
        let held: Vec<Option<Lease>> = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut observer = store.observer().unwrap();
                        barrier.wait();
                        match ask(&store, &format!("run-{round}"), LONG, &mut observer) {
                            Asked::Granted(lease) => Some(lease),
                            Asked::Taken(_) => None,
                        }
                    })
                })
                .collect();
            askers.into_iter().map(|asker| asker.join().unwrap()).collect()
        });
        assert_eq!(held.iter().flatten().count(), 1);
    }
}

/// A process that takes a lease and keeps it, renewed or not.
#[test]
fn lease_holder_process() {
    let Ok(folder) = std::env::var("STORE_TEST_LEASE") else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    let terms = Terms { lasts: Duration::from_secs(2) };
    let lease = granted(ask(&store, "run-a", terms, &mut store.observer().unwrap()));
    println!("held");
    let start = Instant::now();
    while start.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(terms.beat());
        println!("renewed {}", lease.renew().unwrap());
    }
}

#[test]
fn a_killed_holder_is_taken_over_at_once_by_exactly_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut child = spawn_helper("leases::lease_holder_process", "STORE_TEST_LEASE", folder.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")));
    let mut observer = store.observer().unwrap();
    assert!(matches!(ask(&store, "run-a", LONG, &mut observer), Asked::Taken(_)));
    child.kill().unwrap();
    // Not waited for yet: a zombie holds nothing.
    let start = Instant::now();
    let barrier = Barrier::new(4);
    let held: Vec<Lease> = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut observer = store.observer().unwrap();
                    barrier.wait();
                    // The kernel needs a moment to end the killed process.
                    while start.elapsed() < Duration::from_secs(1) {
                        match ask(&store, "run-a", LONG, &mut observer) {
                            Asked::Granted(lease) => return Some(lease),
                            Asked::Taken(claim) if claim.generation > 1 => return None,
                            Asked::Taken(_) => std::thread::sleep(Duration::from_millis(5)),
                        }
                    }
                    panic!("the dead holder was never taken over");
                })
            })
            .collect();
        takers.into_iter().filter_map(|taker| taker.join().unwrap()).collect()
    });
    assert_eq!(held.len(), 1);
    assert_eq!(files(&store), ["run-a.2"], "the older generation is gone");
    let said = notices.lock().unwrap().join("\n");
    assert!(said.contains("ended without giving it back"), "{said}");
    child.wait().unwrap();
}

#[test]
fn a_frozen_holder_is_taken_over_in_time_and_learns_it_when_it_wakes() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let mut child = spawn_helper("leases::lease_holder_process", "STORE_TEST_LEASE", folder.path());
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("held")));
    let mut observer = store.observer().unwrap();
    // A holder that renews is never taken over, however long one watches.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert!(matches!(ask(&store, "run-a", LONG, &mut observer), Asked::Taken(_)));
        std::thread::sleep(Duration::from_millis(100));
    }
    kill_process(pid, Signal::STOP).unwrap();
    let frozen = Instant::now();
    let lease = loop {
        match ask(&store, "run-a", LONG, &mut observer) {
            Asked::Granted(lease) => break lease,
            Asked::Taken(_) => std::thread::sleep(Duration::from_millis(50)),
        }
        assert!(frozen.elapsed() < Duration::from_secs(6), "a frozen holder is never taken over");
    };
    assert!(frozen.elapsed() > Duration::from_millis(1500), "taken over after {:?}", frozen.elapsed());
    kill_process(pid, Signal::CONT).unwrap();
    assert!(
        lines.any(|line| line.contains("renewed false")),
        "the holder that wakes finds that it has lost it"
    );
    assert!(lease.renew().unwrap(), "and the new holder keeps it");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_clock_that_jumps_takes_nothing_from_a_holder_that_renews() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let terms = Terms { lasts: Duration::from_secs(2) };
    let mut observer = store.observer().unwrap();
    let lease = granted(ask(&store, "run-a", terms, &mut observer));
    let hour = Duration::from_hours(1);
    for jump in [SystemTime::now() - hour, SystemTime::now() + hour] {
        // The clock was moved by an hour; the lease was renewed before that, and will be again in time.
        set_time(&store, "run-a.1", jump);
        assert!(matches!(ask(&store, "run-a", terms, &mut observer), Asked::Taken(_)));
        std::thread::sleep(terms.beat());
        assert!(matches!(ask(&store, "run-a", terms, &mut observer), Asked::Taken(_)));
        assert!(lease.renew().unwrap());
        assert!(matches!(ask(&store, "run-a", terms, &mut observer), Asked::Taken(_)));
    }
    // A holder that no longer renews loses it, even when its last renewal lies in the future.
    set_time(&store, "run-a.1", SystemTime::now() + hour);
    assert!(matches!(ask(&store, "run-a", terms, &mut observer), Asked::Taken(_)));
    std::thread::sleep(terms.lasts + Duration::from_millis(100));
    let next = granted(ask(&store, "run-a", terms, &mut observer));
    assert!(!lease.renew().unwrap());
    drop(lease);
    assert!(next.renew().unwrap(), "the one that lost it does not give back what is another's");
}

#[test]
fn damaged_and_newer_leases_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (store, notices) = open(folder.path());
    let mut observer = store.observer().unwrap();
    let lease = granted(ask(&store, "run-a", LONG, &mut observer));
    let path = store.layout().leases().join("run-a.1");
    let text = fs::read_to_string(&path).unwrap();
    for damage in [String::new(), text[..text.len() / 2].to_owned(), text.replace("run-a", "run-b")] {
        fs::write(&path, damage).unwrap();
        let next = granted(ask(&store, "run-a", LONG, &mut observer));
        assert_eq!(files(&store), ["run-a.2"]);
        drop(next);
        fs::write(&path, &text).unwrap();
    }
    assert!(!notices.lock().unwrap().is_empty());
    fs::write(&path, text.replace("\"format\":1", "\"format\":9")).unwrap();
    let newer = store.lease("run-a", "test", LONG, &mut observer).unwrap_err();
    assert!(matches!(newer, StoreError::Newer { found: 9, .. }), "{newer:?}");
    drop(lease);
}

#[test]
fn leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path());
    let observer = store.observer().unwrap();
    let base = store.layout().stage(Stage::Base);
    let own = fs::read_dir(store.layout().leases()).unwrap().next().unwrap().unwrap().file_name();
    let own = own.to_string_lossy().into_owned();
    let mut parts: Vec<String> = own.split('-').map(str::to_owned).collect();
    let start = parts.len() - 2;
    parts[start] = (parts[start].parse::<u64>().unwrap() + 1).to_string();
    let (dead, foreign) = (parts.join("-"), format!(".tmp-00000000-{}", &own[14..]));
    fs::create_dir(base.join(&dead)).unwrap();
    fs::write(base.join(&dead).join("half"), b"half").unwrap();
    for name in [&own, &foreign] {
        fs::write(base.join(name), b"half").unwrap();
    }
    store.remove_leftovers();
    assert!(!base.join(&dead).exists());
    assert!(base.join(&own).exists() && base.join(&foreign).exists());
    drop(observer);
}
