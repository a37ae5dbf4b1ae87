//! What the store does when files are damaged, processes are killed and two do the same at once.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]
#![expect(clippy::disallowed_methods, reason = "tests make and damage files on purpose")]

mod common;
mod damage;
mod every_file;
mod leases;
mod mounts;
mod opening;
mod races;
