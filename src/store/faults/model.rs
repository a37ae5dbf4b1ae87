//! A disk that forgets: what may be left of recorded changes when the power goes.
//!
//! In: changes, in order. Out: folders as they may be found afterwards. What is certain: the bytes of a file at its last
//! fsync, and the names in a folder at that folder's last fsync. All else may have reached the disk or not, in any order
//! and each on its own: names of the same rename too, and the names of files whose bytes did not. Bytes that were not
//! forced may be missing, a prefix, zeros or garbage of the right length. What a failed fsync was about never gets there.
//!
//! This is harsher than ext4, XFS or btrfs are, on purpose: what holds here holds there.

#![expect(clippy::disallowed_methods, reason = "a disk after a loss of power is made by hand")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::dice::Dice;
use super::{Change, Operation};

/// Names in a folder, and what they stand for.
type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug)]
enum Node {
    Folder { now: Names, forced: Names },
    File(Bytes),
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    now: Vec<u8>,
    forced: Vec<u8>,
    /// What the file was since it was last forced, oldest first.
    since: Vec<Vec<u8>>,
    /// Parts that a failed fsync was about.
    lost: Vec<std::ops::Range<usize>>,
}

/// A name that was given or taken and may not be on the disk yet.
#[derive(Clone, Debug)]
struct Renaming {
    operation: usize,
    folder: usize,
    name: String,
    node: Option<usize>,
}

/// The disk while changes are made.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    pending: Vec<Renaming>,
    operations: usize,
}

/// What is left of what was not forced to the disk.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// Nothing of it.
    Nothing,
    /// Every name, and of the bytes none.
    Names,
    /// Every name, and zeros where bytes should be.
    NamesAndZeros,
    /// All of it.
    All,
    /// The names up to some moment, as a journal leaves them, and any bytes.
    Journal,
    /// Any names, and any bytes.
    Any,
}

impl Left {
    pub const CERTAIN: [Self; 4] = [Self::Nothing, Self::Names, Self::NamesAndZeros, Self::All];
    pub const DRAWN: [Self; 2] = [Self::Journal, Self::Any];
}

impl Disk {
    /// A disk on which nothing but the empty folder `root` is, and is certain.
    pub fn new(root: &Path) -> Self {
        let empty = Node::Folder { now: Names::new(), forced: Names::new() };
        Self { root: root.to_path_buf(), nodes: vec![empty], pending: Vec::new(), operations: 0 }
    }

    /// Makes a change.
    pub fn apply(&mut self, change: &Change) {
        self.operations += 1;
        match change {
            Operation::CreateFile(path) => self.create(path, Node::File(Bytes::default())),
            Operation::OpenAppend(path) => {
                if self.find(path).is_none() {
                    self.create(path, Node::File(Bytes::default()));
                }
            }
            Operation::CreateFolder(path) => {
                self.create(path, Node::Folder { now: Names::new(), forced: Names::new() });
            }
            Operation::Append(path, bytes) => self.file(path).set(|now| now.extend(bytes)),
            Operation::Cut(path, length) => self.file(path).set(|now| now.truncate(*length as usize)),
            Operation::SyncFile(path) => self.file(path).force(),
            Operation::SyncFailed(path) => {
                let file = self.file(path);
                let start = file.forced.len().min(file.now.len());
                file.lost.push(start..file.now.len());
            }
            Operation::SyncFolder(path) => self.force_names(path),
            Operation::Link(from, to) => {
                let node = self.find(from);
                self.name(to, node);
            }
            // The store has none: they are made in the cache of downloads, and of those the name is all that counts here.
            Operation::Symlink(_, link) => self.create(link, Node::File(Bytes::default())),
            Operation::Rename(from, to) | Operation::RenameNew(from, to) => {
                let node = self.find(from);
                self.name(to, node);
                self.name(from, None);
            }
            Operation::RemoveFile(path) => self.name(path, None),
            Operation::RemoveTree(path) => self.remove_tree(path),
            Operation::Touch(_) => {}
        }
    }

    fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or_else(|_| panic!("{} is elsewhere", path.display()))
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut at = 0;
        for part in self.relative(path) {
            let Node::Folder { now, .. } = &self.nodes[at] else { return None };
            at = *now.get(part.to_str()?)?;
        }
        Some(at)
    }

    fn file(&mut self, path: &Path) -> &mut Bytes {
        let at = self.find(path).unwrap_or_else(|| panic!("{} is not there", path.display()));
        match &mut self.nodes[at] {
            Node::File(bytes) => bytes,
            Node::Folder { .. } => panic!("{} is a folder", path.display()),
        }
    }

    fn create(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        self.name(path, Some(self.nodes.len() - 1));
    }

    /// Gives a name to a node, or takes it away.
    fn name(&mut self, path: &Path, node: Option<usize>) {
        let folder = self.find(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Node::Folder { now, .. } = &mut self.nodes[folder] else { panic!("a name in a file") };
        match node {
            Some(node) => drop(now.insert(name.clone(), node)),
            None => drop(now.remove(&name).unwrap_or_else(|| panic!("{} is not there", path.display()))),
        }
        self.pending.push(Renaming { operation: self.operations, folder, name, node });
    }

    fn force_names(&mut self, path: &Path) {
        let at = self.find(path).unwrap();
        let Node::Folder { now, forced } = &mut self.nodes[at] else { panic!("a folder that is a file") };
        forced.clone_from(now);
        self.pending.retain(|change| change.folder != at);
    }

    /// One name after the other, and the folder's own last.
    fn remove_tree(&mut self, path: &Path) {
        let at = self.find(path).unwrap();
        if let Node::Folder { now, .. } = &self.nodes[at] {
            for name in now.keys().cloned().collect::<Vec<_>>() {
                self.remove_tree(&path.join(name));
            }
        }
        self.operations += 1;
        self.name(path, None);
    }

    /// Writes down, in the empty folder `target`, what may be found after the power went.
    pub fn lose_power(&self, left: Left, dice: &mut Dice, target: &Path) {
        let mut names: BTreeMap<usize, Names> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            if let Node::Folder { forced, .. } = node {
                names.insert(at, forced.clone());
            }
        }
        let until = dice.below(self.operations + 2);
        let percent = dice.pick(&[10, 50, 90]);
        for change in &self.pending {
            let there = match left {
                Left::Nothing => false,
                Left::Names | Left::NamesAndZeros | Left::All => true,
                Left::Journal => change.operation < until,
                Left::Any => dice.below(100) < percent,
            };
            if there {
                let folder = names.get_mut(&change.folder).unwrap();
                match change.node {
                    Some(node) => drop(folder.insert(change.name.clone(), node)),
                    None => drop(folder.remove(&change.name)),
                }
            }
        }
        // The same file may be found under two names, with the same bytes.
        let mut bytes: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        self.write_folder(0, target, &names, &mut |at, file| {
            bytes.entry(at).or_insert_with(|| file.found(left, dice)).clone()
        });
    }

    fn write_folder(
        &self,
        at: usize,
        path: &Path,
        names: &BTreeMap<usize, Names>,
        found: &mut dyn FnMut(usize, &Bytes) -> Vec<u8>,
    ) {
        for (name, node) in &names[&at] {
            let path = path.join(name);
            match &self.nodes[*node] {
                Node::File(file) => fs::write(path, found(*node, file)).unwrap(),
                Node::Folder { .. } => {
                    fs::create_dir(&path).unwrap();
                    self.write_folder(*node, &path, names, found);
                }
            }
        }
    }
}

impl Bytes {
    fn set(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.now);
        self.since.push(self.now.clone());
    }

    fn force(&mut self) {
        self.forced.clone_from(&self.now);
        for part in &self.lost {
            let end = part.end.min(self.forced.len());
            self.forced[part.start.min(end)..end].fill(0);
        }
        self.since.clear();
    }

    /// What may be found of it.
    fn found(&self, left: Left, dice: &mut Dice) -> Vec<u8> {
        let filled = |bytes: &[u8], fill: &mut dyn FnMut() -> u8| {
            let sure = self.forced.len().min(bytes.len());
            let mut filled = self.forced[..sure].to_vec();
            filled.resize_with(bytes.len(), fill);
            filled
        };
        match left {
            Left::NamesAndZeros => filled(&self.now, &mut || 0),
            Left::All if self.lost.is_empty() => self.now.clone(),
            Left::Nothing | Left::Names | Left::All => self.forced.clone(),
            Left::Journal | Left::Any => {
                let Some(version) = self.since.get(dice.below(self.since.len())) else {
                    return self.forced.clone();
                };
                let sure = self.forced.len().min(version.len());
                let length = sure + dice.below(version.len() - sure + 1);
                match dice.below(5) {
                    0 => self.forced.clone(),
                    1 => filled(version, &mut || 0),
                    2 => filled(version, &mut || dice.number() as u8),
                    3 if self.lost.is_empty() => version[..length].to_vec(),
                    _ if self.lost.is_empty() => version.clone(),
                    _ => self.forced.clone(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(disk: &Disk, left: Left) -> Vec<(String, Vec<u8>)> {
        let target = tempfile::tempdir().unwrap();
        disk.lose_power(left, &mut Dice::new(1), target.path());
        let files = walkdir::WalkDir::new(target.path()).sort_by_file_name().into_iter().map(Result::unwrap);
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let name = entry.path().strip_prefix(target.path()).unwrap().display().to_string();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    #[test]
    fn only_what_was_forced_is_certain() {
        let root = Path::new("root");
        let at = |name: &str| root.join(name);
        let mut disk = Disk::new(root);
        disk.apply(&Operation::CreateFile(at("a")));
        disk.apply(&Operation::Append(at("a"), b"12".to_vec()));
        disk.apply(&Operation::SyncFile(at("a")));
        assert!(found(&disk, Left::Nothing).is_empty(), "the bytes are there, but the name is not");
        disk.apply(&Operation::SyncFolder(root.to_path_buf()));
        disk.apply(&Operation::Append(at("a"), b"34".to_vec()));
        let a = |bytes: &[u8]| ("a".to_owned(), bytes.to_vec());
        assert_eq!(found(&disk, Left::Nothing), [a(b"12")]);
        assert_eq!(found(&disk, Left::NamesAndZeros), [a(b"12\0\0")]);
        assert_eq!(found(&disk, Left::All), [a(b"1234")]);
        disk.apply(&Operation::SyncFailed(at("a")));
        disk.apply(&Operation::SyncFile(at("a")));
        assert_eq!(
            found(&disk, Left::All),
            [a(b"12\0\0")],
            "a second fsync does not bring back what the first lost"
        );
        disk.apply(&Operation::Rename(at("a"), at("b")));
        assert_eq!(found(&disk, Left::Nothing)[0].0, "a");
        assert_eq!(found(&disk, Left::Names)[0].0, "b");
    }

    #[test]
    fn a_folder_that_was_not_forced_takes_what_is_in_it_along() {
        let root = Path::new("root");
        let mut disk = Disk::new(root);
        disk.apply(&Operation::CreateFolder(root.join("f")));
        disk.apply(&Operation::CreateFile(root.join("f/x")));
        disk.apply(&Operation::SyncFolder(root.join("f")));
        assert!(found(&disk, Left::Nothing).is_empty());
        disk.apply(&Operation::SyncFolder(root.to_path_buf()));
        assert_eq!(found(&disk, Left::Nothing).len(), 1);
        disk.apply(&Operation::RemoveTree(root.join("f")));
        assert_eq!(found(&disk, Left::Nothing).len(), 1);
        assert!(found(&disk, Left::Names).is_empty());
    }
}
