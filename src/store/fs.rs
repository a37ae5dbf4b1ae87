//! The file recipes: how files and folders come to be, are replaced and go, so that a crash at any moment does no harm.
//!
//! In: paths and bytes. Out: durable files. Invariants: a file appears under its final name only when its bytes are
//! on the disk (temporary file in the same folder, fsync, atomic publish, fsync of the folder), and the `publish_*`
//! functions never replace anything. A failed fsync is an error and is never retried, because the kernel may have
//! dropped the dirty pages.
//!
//! Source: the recipe of restic's local backend; ALICE (OSDI'14) for what goes wrong without it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::disk::{self, DiskFile};
use super::error::StoreError;
use super::look;
pub use super::look::{
    canonical_path, exists, file_length, link_target, list, modified, read, read_optional,
};
use super::process::{Life, Process};

type Result<T> = std::result::Result<T, StoreError>;

/// Names of temporary files and folders begin with this; what a killed process leaves behind is found by it.
pub const TEMPORARY: &str = ".tmp-";

/// Creates a folder and its parents, durably.
pub fn create_folders(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent(path);
    if !parent.is_dir() {
        create_folders(parent)?;
    }
    match disk::create_folder(path) {
        Ok(()) => sync_folder(parent),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let source = io::Error::from(io::ErrorKind::NotADirectory);
            Err(StoreError::NotAFolder { action: "create", path: path.to_path_buf(), source })
        }
        Err(e) => Err(StoreError::io("create", path, e)),
    }
}

/// Creates the folders from `top`, which exists, down to `path`, durably. Those that exist are forced to the disk as well:
/// whoever made them may have been killed before it could do so.
pub fn create_folders_in(top: &Path, path: &Path) -> Result<()> {
    if path == top || !path.starts_with(top) {
        return create_folders(path);
    }
    let above = parent(path);
    create_folders_in(top, above)?;
    create_folders(path)?;
    sync_folder(above)
}

/// Creates a folder that must not exist yet; `false` when it does.
pub fn create_folder_new(path: &Path) -> Result<bool> {
    match disk::create_folder(path) {
        Ok(()) => sync_folder(parent(path)).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(StoreError::io("create", path, e)),
    }
}

/// Creates an empty temporary folder inside `folder`.
pub fn temporary_folder(folder: &Path) -> Result<PathBuf> {
    loop {
        let path = folder.join(temporary_name());
        if create_folder_new(&path)? {
            return Ok(path);
        }
    }
}

/// Gives a complete file a second name, which costs no space; where the file system has no such names, copies it. Files of
/// artifacts and checkpoints are never written again, so that they are shared does no harm.
pub(super) fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    match disk::link(from, to) {
        Ok(()) => Ok(()),
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported | io::ErrorKind::CrossesDevices
            ) =>
        {
            write_new(to, &read(from)?)
        }
        Err(e) => Err(StoreError::io("link", from, e)),
    }
}

/// Writes a file that must not exist yet and forces it to the disk. The name is forced by [`sync_folder`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = DiskFile::create_new(path).map_err(|e| StoreError::io("create", path, e))?;
    file.append(bytes).map_err(|e| StoreError::io("write", path, e))?;
    file.sync().map_err(|e| StoreError::io("fsync", path, e))
}

/// Writes a file atomically; the last writer wins.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_by_way_of(parent(path), path, bytes)
}

/// The same with the temporary file in another folder of the same file system, where leftovers are looked for.
pub fn replace_by_way_of(folder: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = write_temporary(folder, bytes)?;
    if let Err(e) = disk::rename(&temporary, path) {
        let _ = disk::remove_file(&temporary);
        // The target's folder is a mount of its own.
        if e.kind() == io::ErrorKind::CrossesDevices && folder != parent(path) {
            return replace(path, bytes);
        }
        return Err(StoreError::io("write", path, e));
    }
    sync_folder(parent(path))
}

/// Writes a file atomically unless it exists: the first writer wins. `false` when another was first.
pub fn publish_file(path: &Path, bytes: &[u8]) -> Result<bool> {
    let temporary = write_temporary(parent(path), bytes)?;
    publish_temporary(&temporary, path)
}

/// Gives a temporary file that was forced to the disk its name unless that is taken, and removes the temporary one.
pub(super) fn publish_temporary(temporary: &Path, path: &Path) -> Result<bool> {
    let published = link_new(temporary, path);
    let _ = disk::remove_file(temporary);
    let published = published.map_err(|e| StoreError::io("publish", path, e))?;
    sync_folder(parent(path))?;
    Ok(published)
}

/// Gives `from` the second name `to`; `false` when that name is taken.
fn link_new(from: &Path, to: &Path) -> io::Result<bool> {
    match disk::link(from, to) {
        Ok(()) => Ok(true),
        // On NFS a lost reply makes a link that succeeded look like one that did not: the link count knows better.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(look::is_same_file(from, to)),
        // Some file systems have no hard links.
        Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
            rename_new(from, to)
        }
        Err(e) => Err(e),
    }
}

/// Writes one file atomically, in folders that are made where they are missing; the last writer wins.
///
/// # Errors
/// When it cannot be written; what was there stays.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    create_folders(parent(path))?;
    replace(path, bytes)
}

/// Moves a complete temporary folder to its final name unless that name is taken. The files and the folder must have
/// been forced to the disk before. `false`: another was first, and `from` is still there.
pub fn publish_folder(from: &Path, to: &Path) -> Result<bool> {
    let published = rename_new(from, to).map_err(|e| StoreError::io("publish", to, e))?;
    if published {
        sync_folder(parent(to))?;
    }
    Ok(published)
}

fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    let of = |renamed: io::Result<()>| match renamed {
        Ok(()) => Ok(true),
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::EXIST | Errno::NOTEMPTY)) => Ok(false),
        Err(e) => Err(e),
    };
    let unknown = [Some(Errno::INVAL), Some(Errno::NOSYS), Some(Errno::NOTSUP)];
    match of(disk::rename_new(from, to)) {
        // NFS has no RENAME_NOREPLACE, but a folder never replaces one that has files in it.
        Err(e) if unknown.contains(&Errno::from_io_error(&e)) && from.is_dir() => of(disk::rename(from, to)),
        answer => answer,
    }
}

/// Moves a file or folder within the file system.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    disk::rename(from, to).map_err(|e| StoreError::io("move", from, e))?;
    // The new name first: what loses the power in between has both names rather than none.
    sync_folder(parent(to))?;
    sync_folder(parent(from))
}

/// Sets the time of a file's last change to now, by the clock of the file system.
pub fn touch(path: &Path) -> Result<()> {
    disk::touch(path).map_err(|e| StoreError::io("touch", path, e))
}

/// Removes a file; that it is already gone is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    match disk::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StoreError::io("remove", path, e)),
    }
}

/// Removes a folder with all that is in it; that it is already gone is fine.
///
/// The folder first gets a temporary name, durably, so that a removal that is cut short leaves nothing that looks like a
/// result, after a loss of power neither.
pub fn remove_folder(path: &Path) -> Result<()> {
    let doomed = parent(path).join(temporary_name());
    match disk::rename(path, &doomed) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(StoreError::io("remove", path, e)),
    }
    sync_folder(parent(path))?;
    disk::remove_tree(&doomed).map_err(|e| StoreError::io("remove", &doomed, e))
}

/// Removes a temporary file or folder that a killed process left behind.
pub fn remove_leftover(path: &Path) -> Result<()> {
    let result = if path.is_dir() { disk::remove_tree(path) } else { disk::remove_file(path) };
    match result {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StoreError::io("remove", path, e)),
    }
}

/// Opens a file for appending, creating it, for this process or another one to write to.
pub fn open_append(path: &Path) -> Result<File> {
    append_to(path).map(DiskFile::into_file)
}

/// Opens a file for appending, creating it.
pub(super) fn append_to(path: &Path) -> Result<DiskFile> {
    DiskFile::open_append(path).map_err(|e| StoreError::io("open", path, e))
}

/// Forces a folder's names to the disk.
pub fn sync_folder(path: &Path) -> Result<()> {
    let folder = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
    match disk::sync_folder(path, &folder) {
        Ok(()) => Ok(()),
        // Some network and FUSE file systems cannot fsync a folder; there is nothing better to do on them.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        Err(e) => Err(StoreError::io("fsync", path, e)),
    }
}

/// Finds out whether files can be created in a folder.
pub fn probe_writable(folder: &Path) -> Result<()> {
    let path = write_temporary(folder, b"")?;
    remove_file(&path)
}

fn write_temporary(folder: &Path, bytes: &[u8]) -> Result<PathBuf> {
    loop {
        let path = folder.join(temporary_name());
        match write_new(&path, bytes) {
            Ok(()) => return Ok(path),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                let _ = disk::remove_file(&path);
                return Err(e);
            }
        }
    }
}

/// A name that says who made it; names are created exclusively, so a clash is only retried.
fn temporary_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{TEMPORARY}{}-{}", Process::this().tag(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the process that gave a file or folder its temporary name still lives; `None` for other names.
pub fn life_of_maker(name: &str) -> Option<Life> {
    let tag = name.strip_prefix(TEMPORARY)?.rsplit_once('-')?.0;
    Some(Process::this().life_of_tag(tag))
}

/// Creates an empty temporary file in a folder.
pub fn temporary_file(folder: &Path) -> Result<PathBuf> {
    write_temporary(folder, b"")
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_publisher_wins_and_leaves_no_temporary_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(publish_file(&path, b"first").unwrap());
        assert!(!publish_file(&path, b"second").unwrap());
        assert_eq!(read(&path).unwrap(), b"first");
        replace(&path, b"third").unwrap();
        assert_eq!(read(&path).unwrap(), b"third");
        assert_eq!(list(folder.path()).unwrap(), ["x"]);
    }

    #[test]
    fn a_folder_is_published_once() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("t");
        let one = temporary_folder(folder.path()).unwrap();
        let two = temporary_folder(folder.path()).unwrap();
        assert_ne!(one, two);
        write_new(&one.join("f"), b"1").unwrap();
        assert!(publish_folder(&one, &target).unwrap());
        assert!(!publish_folder(&two, &target).unwrap());
        assert!(two.is_dir());
        assert_eq!(read(&target.join("f")).unwrap(), b"1");
    }

    #[test]
    fn a_path_below_a_file_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        write_new(&file, b"x").unwrap();
        for path in [file.join("a/b"), file.clone()] {
            let error = create_folders(&path).unwrap_err();
            assert!(matches!(error, StoreError::NotAFolder { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_touched_file_is_new_again_and_keeps_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_new(&path, b"bytes").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        File::open(&path).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(modified(&path).unwrap(), Some(long_ago));
        touch(&path).unwrap();
        let age = modified(&path).unwrap().unwrap().elapsed().unwrap_or_default();
        assert!(age.as_secs() < 60, "{age:?}");
        assert_eq!(read(&path).unwrap(), b"bytes");
        assert!(touch(&folder.path().join("absent")).is_err());
    }
}
