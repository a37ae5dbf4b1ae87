//! Tasks that are programs of their own: started, asked, heard and ended.
//!
//! In: a command line and requests. Out: episodes, next messages and rewards, each checked. A program speaks one JSON object
//! a line over its standard input and output, as docs/protocol.md says. Requests need no memory, so a worker can be replaced
//! and a request repeated.
//!
//! Invariants: no answer depends on the number of workers; no call waits longer than the time-outs allow; whatever a program
//! starts ends with its worker, and a worker with this process, however this process ends.

mod ending;
mod error;
mod group;
mod lines;
mod log;
mod program;
mod question;
mod reply;
mod settings;
mod stray;
mod wire;
mod worker;

#[cfg(test)]
mod reply_tests;

pub use ending::Ending;
pub use error::{ExternalError, Trouble};
pub use log::Sink;
pub use program::{Only, Program};
pub use reply::{Counts, Hello};
pub use settings::{Settings, quoted};

/// The version of the protocol that this program speaks.
pub const PROTOCOL: u64 = 1;
/// The most episodes or conversations in one request. How a batch is cut does not depend on the number of workers.
pub const MOST_ITEMS: usize = 16;
/// The most bytes of a line of a program.
pub const MOST_BYTES: usize = 16 << 20;
