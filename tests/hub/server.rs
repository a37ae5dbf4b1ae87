//! A small hub on loopback: HTTP/1.1 over `std::net`, the files of one model and of one dataset, and faults on demand.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// The model, the dataset, and the only commit of each.
pub const ID: &str = "tiny/chat";
pub const ROWS: &str = "tiny/rows";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Path and query.
    pub path: String,
    /// Where the range begins that was asked for.
    pub from: Option<usize>,
    /// The header `authorization`.
    pub token: Option<String>,
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Act {
    Serve,
    /// A status without a body, and a header.
    Status(u16, &'static str),
    /// The head says all and only so many bytes of the body come.
    Cut(usize),
    /// Nothing comes.
    Hang,
    /// So many bytes of the body come and then nothing.
    HangAfter(usize),
    /// As many bytes as there should be, but others.
    Wrong,
    /// The file is elsewhere.
    Redirect(String),
    /// All of the file whatever range was asked for.
    WithoutRange,
    /// A part of the file, but another one than was asked for.
    OtherRange,
    /// Something that is no answer of a hub.
    NoJson,
    /// The list of files, without a digest of this one.
    NoDigest(&'static str),
}

type Rule = Box<dyn Fn(&Request, usize) -> Act + Send>;

/// A hub, which serves until the test ends.
#[derive(Clone)]
pub struct Hub {
    pub endpoint: String,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    log: Arc<Mutex<Vec<Request>>>,
    rule: Arc<Mutex<Rule>>,
}

impl Hub {
    /// Serves the files of a folder.
    pub fn of(folder: &Path) -> Self {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path());
        let read = |path: std::path::PathBuf| {
            let name = path.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            (name, fs::read(path).expect("readable"))
        };
        Self::with(entries.map(read).collect())
    }

    /// Serves some files.
    pub fn with(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let rule: Rule = Box::new(|_, _| Act::Serve);
        let hub = Self {
            endpoint,
            files: Arc::new(Mutex::new(files)),
            log: Arc::default(),
            rule: Arc::new(Mutex::new(rule)),
        };
        let served = hub.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let hub = served.clone();
                // A client that went away is no matter of the hub.
                thread::spawn(move || drop(hub.answer(stream)));
            }
        });
        hub
    }

    /// The hub of the tiny chat model.
    pub fn chat() -> Self {
        Self::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/torch/chat"))
    }

    /// From now on requests are answered like this; a rule gets the request and how many of its path came before.
    pub fn acts(&self, rule: impl Fn(&Request, usize) -> Act + Send + 'static) {
        *self.rule.lock().expect("no panic") = Box::new(rule);
    }

    /// The same for requests whose path ends with `name`; others are served.
    pub fn acts_on(&self, name: &'static str, rule: impl Fn(usize) -> Act + Send + 'static) {
        self.acts(
            move |request, before| if request.path.ends_with(name) { rule(before) } else { Act::Serve },
        );
    }

    /// What was asked for, and forgets it.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.log.lock().expect("no panic"))
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        self.files.lock().expect("no panic")[name].clone()
    }

    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.files.lock().expect("no panic").insert(name.into(), bytes.into());
    }

    /// A file of the dataset.
    pub fn put_rows(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.put(&format!("{ROWS}/{name}"), bytes);
    }

    pub fn remove(&self, name: &str) {
        self.files.lock().expect("no panic").remove(name);
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut line, mut request) = (String::new(), None);
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end();
            let found = request.get_or_insert(Request { path: path.clone(), from: None, token: None });
            match line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value)) {
                None if line.is_empty() => break,
                Some((name, value)) if name == "range" => {
                    found.from = value.strip_prefix("bytes=").and_then(|v| v.strip_suffix('-')?.parse().ok());
                }
                Some((name, value)) if name == "authorization" => found.token = Some(value.into()),
                _ => {}
            }
        }
        let request = request.expect("a request");
        let before = {
            let mut log = self.log.lock().expect("no panic");
            let before = log.iter().filter(|earlier| earlier.path == request.path).count();
            log.push(request.clone());
            before
        };
        let act = (self.rule.lock().expect("no panic"))(&request, before);
        self.act(stream, &request, act)
    }

    fn act(&self, mut stream: TcpStream, request: &Request, act: Act) -> std::io::Result<()> {
        let empty = |status: u16, header: &str| {
            format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n{header}\r\n\r\n")
        };
        match act {
            Act::Status(status, header) => return stream.write_all(empty(status, header).as_bytes()),
            Act::Redirect(to) => {
                return stream.write_all(empty(302, &format!("location: {to}")).as_bytes());
            }
            Act::Hang => return hang(&stream),
            _ => {}
        }
        let model = request.path.strip_prefix(&format!("/api/models/{ID}/revision/"));
        let rows = request.path.strip_prefix(&format!("/api/datasets/{ROWS}/revision/"));
        let body = match model.or(rows) {
            Some(_) if matches!(act, Act::NoJson) => b"<html>log in</html>".to_vec(),
            Some(rest) if rest.starts_with("main") || rest.starts_with(COMMIT) => {
                self.listing(rows.is_some(), if let Act::NoDigest(name) = act { name } else { "" })
            }
            _ => {
                let of = |start: String| request.path.strip_prefix(&start);
                let name = of(format!("/{ID}/resolve/{COMMIT}/")).or_else(|| of("/cdn/".into()));
                let rows = of(format!("/datasets/{ROWS}/resolve/{COMMIT}/"));
                let rows = rows.map(|name| format!("{ROWS}/{name}"));
                let name = rows.or_else(|| name.map(str::to_owned)).unwrap_or_default();
                match self.files.lock().expect("no panic").get(&name) {
                    Some(bytes) => bytes.clone(),
                    None => return stream.write_all(empty(404, "x-error-code: EntryNotFound").as_bytes()),
                }
            }
        };
        let whole = body.len();
        let asked = request.from.filter(|_| !matches!(act, Act::WithoutRange));
        let from = match act {
            Act::OtherRange => asked.map(|from| from.saturating_sub(1)),
            _ => asked,
        };
        if from.is_some_and(|from| from >= whole) {
            return stream.write_all(empty(416, &format!("content-range: bytes */{whole}")).as_bytes());
        }
        let mut rest = body[from.unwrap_or(0)..].to_vec();
        if matches!(act, Act::Wrong) {
            for byte in &mut rest {
                *byte = !*byte;
            }
        }
        let (status, range) = match from {
            Some(from) => (206, format!("content-range: bytes {from}-{}/{whole}\r\n", whole - 1)),
            None => (200, String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\naccept-ranges: bytes\r\nconnection: close\r\n{range}\r\n",
            rest.len()
        );
        stream.write_all(head.as_bytes())?;
        match act {
            Act::Cut(bytes) => stream.write_all(&rest[..bytes.min(rest.len())]),
            Act::HangAfter(bytes) => {
                stream.write_all(&rest[..bytes.min(rest.len())])?;
                hang(&stream)
            }
            _ => stream.write_all(&rest),
        }
    }

    /// The files of the dataset or of the model.
    fn listing(&self, rows: bool, without_digest: &str) -> Vec<u8> {
        let files = self.files.lock().expect("no panic");
        let start = format!("{ROWS}/");
        let of_repository = files.iter().filter_map(|(name, bytes)| match name.strip_prefix(&start) {
            Some(name) => rows.then_some((name, bytes)),
            None => (!rows).then_some((name.as_str(), bytes)),
        });
        let sibling = |(name, bytes): (&str, &Vec<u8>)| -> Value {
            let size = bytes.len();
            if name == without_digest {
                return json!({ "rfilename": name });
            }
            let mut file = json!({ "rfilename": name, "size": size, "blobId": git(bytes) });
            if is_large(name) {
                file["lfs"] = json!({ "sha256": sha256(bytes), "size": size, "pointerSize": 127 });
            }
            file
        };
        let siblings: Vec<Value> = of_repository.map(sibling).collect();
        json!({ "id": if rows { ROWS } else { ID }, "sha": COMMIT, "siblings": siblings })
            .to_string()
            .into_bytes()
    }
}

/// Says nothing until the client goes away, for some seconds at most.
fn hang(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut byte = [0];
    std::io::Read::read(&mut &*stream, &mut byte).map(drop)
}

/// Which files are kept apart from git.
pub fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".parquet") || name == "tokenizer.json"
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

pub fn git(bytes: &[u8]) -> String {
    let text = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    hex(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &text).as_ref())
}

/// The name of the blob of a file.
pub fn blob(name: &str, bytes: &[u8]) -> String {
    if is_large(name) { sha256(bytes) } else { git(bytes) }
}
