//! From the store's earlier formats to the present one, in place.
//!
//! In: a store of format 1, in which one sweep at a time worked under a lock and failures lay beside the attempts. Out: a
//! store of format 2. Every step can be repeated, and the format's number is written last, so an upgrade that is cut
//! short is done again. Nothing is upgraded while a program of the earlier format works in the store.

use super::layout::FAILED;
use super::process::{Life, Process};
use super::{Store, StoreError, fs, record};

impl Store {
    /// Brings a store of format 1 to format 2.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while an earlier program works in it.
    pub(super) fn upgrade_from_1(&self) -> Result<(), StoreError> {
        let layout = &self.home.layout;
        let lock = layout.root().join("lock.json");
        if let Some(bytes) = fs::read_optional(&lock)? {
            // A damaged record was written by nobody alive: it was always written whole.
            if let Ok(record) = record::unseal(&bytes, &lock) {
                let holder = Process::from_map(&record);
                if holder.life(Process::this()) != Life::Dead {
                    let Process { pid, host, .. } = holder;
                    return Err(StoreError::Locked { path: layout.results().to_path_buf(), pid, host, lock });
                }
            }
        }
        for run in self.runs()? {
            let failed = layout.run(&run).join(FAILED);
            let Some(bytes) = fs::read_optional(&failed)? else { continue };
            let attempt = record::unseal(&bytes, &failed).ok().and_then(|record| record["attempt"].as_u64());
            let attempt = attempt.and_then(|number| u32::try_from(number).ok()).unwrap_or(0).max(1);
            fs::create_folders(&layout.attempt(&run, attempt))?;
            match fs::rename(&failed, &layout.failure(&run, attempt)) {
                // Another program upgrades it at the same time.
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                moved => moved?,
            }
        }
        fs::remove_file(&lock)?;
        fs::remove_file(&layout.root().join("lock.guard"))
    }
}
