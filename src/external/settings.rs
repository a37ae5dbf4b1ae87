//! Which program, how many of it, and how long one may take.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The shortest time that a program has to start.
const LEAST_START: Duration = Duration::from_mins(1);

/// How a program is started and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A command line for `sh`, in which `{program}` stands for the quoted path.
    pub command: String,
    /// The path.
    pub program: Option<PathBuf>,
    /// So many processes of it, at least one.
    pub workers: u32,
    /// The longest time for an answer.
    pub timeout: Duration,
    /// The longest time for the first answer, after the start.
    pub start_timeout: Duration,
}

impl Settings {
    /// Settings with the usual time to start: that of an answer, but no less than a minute.
    pub fn new(
        command: impl Into<String>,
        program: Option<PathBuf>,
        workers: u32,
        timeout: Duration,
    ) -> Self {
        let start_timeout = timeout.max(LEAST_START);
        Self { command: command.into(), program, workers: workers.max(1), timeout, start_timeout }
    }

    /// The command line, with the path in its place.
    pub fn line(&self) -> OsString {
        let Some(program) = &self.program else { return OsString::from(&self.command) };
        let path = quoted(as_path(program).as_os_str());
        let mut line = Vec::new();
        for (at, part) in self.command.split("{program}").enumerate() {
            if at > 0 {
                line.extend_from_slice(path.as_bytes());
            }
            line.extend_from_slice(part.as_bytes());
        }
        OsString::from_vec(line)
    }

    /// The command line for `sh -c`: where it is one plain command the shell makes way for it, so that the process is the
    /// program itself, with its own exit status, signals and pipes.
    pub(super) fn script(&self) -> OsString {
        let line = self.line();
        if !is_plain(line.as_bytes()) {
            return line;
        }
        let mut script = OsString::from("exec ");
        script.push(line);
        script
    }

    /// The command line for a message.
    pub fn shown(&self) -> String {
        self.line().to_string_lossy().into_owned()
    }
}

/// Whether a command line is a single command with its arguments, and that command no part of the shell.
fn is_plain(line: &[u8]) -> bool {
    const OF_THE_SHELL: &str = ". : alias bg break builtin cd command continue eval exec exit export fg getopts hash jobs local \
                                read readonly return set shift source time times trap type ulimit umask unalias unset wait \
                                case do done elif else esac fi for if in then until while function select coproc";
    let mut outside = line.split(|byte| *byte == b'\'').step_by(2).flatten();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:,@%= ".contains(byte);
    let first = line.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let command = !first.is_empty() && !first.contains(&b'=') && !first.contains(&b'\'');
    let own = OF_THE_SHELL.split_whitespace().any(|word| word.as_bytes() == first);
    // Every quote has its end, so that what is not quoted is known.
    let ended = line.split(|byte| *byte == b'\'').count() % 2 == 1;
    command && !own && ended && outside.all(plain)
}

/// A path that a shell takes for a path: not for a command of that name, and not for an option.
fn as_path(path: &Path) -> PathBuf {
    let text = path.as_os_str().as_bytes();
    if [b"/".as_slice(), b"./", b"../"].iter().any(|start| text.starts_with(start)) {
        path.to_path_buf()
    } else {
        Path::new(".").join(path)
    }
}

/// A word for a shell: as it is where that is plain, in single quotes elsewhere.
pub fn quoted(word: &OsStr) -> OsString {
    let bytes = word.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:,@%=".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return word.to_os_string();
    }
    let mut quoted = vec![b'\''];
    for byte in bytes {
        match byte {
            b'\'' => quoted.extend_from_slice(br"'\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &str, program: &str) -> String {
        Settings::new(command, Some(program.into()), 1, Duration::from_secs(1)).shown()
    }

    #[test]
    fn the_path_is_one_word_wherever_it_stands() {
        assert_eq!(line("{program}", "a/b.py"), "./a/b.py");
        assert_eq!(
            line("python3 {program} --log {program}.log", "/x/b.py"),
            "python3 /x/b.py --log /x/b.py.log"
        );
        assert_eq!(line("{program}", "-rf it's $HOME/x"), r"'./-rf it'\''s $HOME/x'");
        assert_eq!(line("{program}", "../x"), "../x");
        assert_eq!(line("python3 -m mine", "x"), "python3 -m mine");
        assert_eq!(quoted(OsStr::new("")), "''");
    }

    #[test]
    fn a_plain_command_takes_the_place_of_its_shell() {
        let plain = |line: &str| Settings::new(line, None, 1, Duration::from_secs(1)).script() != line;
        for line in ["python3 a.py", "./a --n=1", "python3 'it is; $HOME.py' -v", " x"] {
            assert!(plain(line), "{line}");
        }
        for line in [
            "cd a && ./b",
            "A=1 ./b",
            "./a | tee b",
            "./a $HOME",
            "exec ./a",
            ". ./a",
            "./a 2>/dev/null",
            "./a 'b",
            "'./a b'",
            "",
            "./a \"b\"",
            "./a\n./b",
            "time ./a",
            "~/a",
            "./a *",
            "( ./a )",
        ] {
            assert!(!plain(line), "{line}");
        }
    }

    #[test]
    fn a_program_has_a_minute_to_start() {
        let started =
            |seconds| Settings::new("x", None, 0, Duration::from_secs(seconds)).start_timeout.as_secs();
        assert_eq!((started(5), started(90)), (60, 90));
        assert_eq!(Settings::new("x", None, 0, Duration::from_secs(1)).workers, 1);
    }
}
