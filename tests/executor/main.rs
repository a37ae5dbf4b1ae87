//! What a sweep does, with a scripted trainer in place of the tensors: order, execution counts, failures, interruption,
//! exact resume. Workers are processes: this test program starts itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up should stop")]
#![expect(clippy::disallowed_methods, reason = "tests make and damage files on purpose")]

mod bench;
mod commands;
mod failures;
mod interruption;
mod order;
mod torture;
mod verify;
mod workers;
