//! Notes what the program is made from, builds what C++ there is, and tells the linker where libtorch will be at run time.
//!
//! What it is made from: the commit, whether the source differs from it, the compiler, the profile; `src/provenance.rs` has
//! them from the environment of the compiler. This runs again whenever a file that goes into the program is changed, or the
//! commit that is checked out, and these build the program anew in any case. So the mark of a changed source is never an old
//! one.
//!
//! With the feature `torch`: an rpath to `$LIBTORCH/lib`, so that the binary runs without `LD_LIBRARY_PATH`;
//! `src/torch/shim.cpp` and `meter.cpp`, linked in; and `libtickets_cuda.so` beside the binary, when the CUDA headers are there.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    source::note();
    #[cfg(feature = "torch")]
    torch::build();
}

mod source {
    use std::env;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// What goes into the program.
    const MADE_FROM: [&str; 5] = ["build.rs", "Cargo.toml", "Cargo.lock", "src", "assets"];
    const UNKNOWN: &str = "unknown";

    pub fn note() {
        for path in MADE_FROM {
            println!("cargo:rerun-if-changed={path}");
        }
        let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
        let (commit, changed) = match commit(&folder) {
            Some(commit) => (commit, changed(&folder)),
            None => (UNKNOWN.to_owned(), None),
        };
        let changed = changed.map_or(UNKNOWN, |changed| if changed { "yes" } else { "no" });
        let rustc = env::var_os("RUSTC").and_then(|rustc| said(Command::new(rustc).arg("--version")));
        // OUT_DIR is <target>/<profile>/build/<package>-<hash>/out.
        let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        let profile = out.ancestors().nth(3).and_then(Path::file_name).map(|name| name.to_string_lossy());
        let opt_level = env::var("OPT_LEVEL").unwrap_or_else(|_| UNKNOWN.to_owned());
        let profile = format!("{}, opt-level {opt_level}", profile.as_deref().unwrap_or(UNKNOWN));
        let target = env::var("TARGET").unwrap_or_else(|_| UNKNOWN.to_owned());
        // Not TICKETS_...: `cargo run` hands these on to the program, which reads such names as settings.
        for (name, value) in [
            ("COMMIT", commit.as_str()),
            ("CHANGED", changed),
            ("RUSTC", rustc.as_deref().unwrap_or(UNKNOWN)),
            ("PROFILE", &profile),
            ("TARGET", &target),
        ] {
            println!("cargo:rustc-env=PROVENANCE_{name}={value}");
        }
    }

    /// The commit that is checked out, when `folder` is the root of a repository; this script runs again when it moves.
    fn commit(folder: &Path) -> Option<String> {
        let root = said(git(folder).args(["rev-parse", "--show-toplevel"]))?;
        // Source that was unpacked inside some other repository is not of that one's commit.
        if Path::new(&root).canonicalize().ok()? != folder.canonicalize().ok()? {
            return None;
        }
        let branch = said(git(folder).args(["symbolic-ref", "--quiet", "HEAD"]));
        // The log moves with every commit; without one, the branch does, or the file of all branches.
        let names = ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
        for name in names {
            let path = said(git(folder).args(["rev-parse", "--git-path", name]));
            // A path that is not there would have this run each time.
            if let Some(path) = path.map(|path| folder.join(path)).filter(|path| path.exists()) {
                println!("cargo:rerun-if-changed={}", path.display());
            }
        }
        said(git(folder).args(["rev-parse", "HEAD"]))
    }

    /// Whether what goes into the program differs from the commit.
    fn changed(folder: &Path) -> Option<bool> {
        let arguments = ["--no-optional-locks", "status", "--porcelain", "--untracked-files=all", "--"];
        let found = git(folder).args(arguments).args(MADE_FROM).output().ok()?;
        found.status.success().then_some(!found.stdout.is_empty())
    }

    fn git(folder: &Path) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(folder);
        command
    }

    /// What a command says, when it succeeds.
    fn said(command: &mut Command) -> Option<String> {
        let output = command.output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (!text.is_empty() && !text.contains('\n')).then_some(text)
    }
}

#[cfg(feature = "torch")]
#[expect(clippy::exit, reason = "a build script that cannot go on says why and stops")]
#[expect(clippy::disallowed_methods, reason = "a build script has no store")]
mod torch {
    use std::path::{Path, PathBuf};
    use std::process::{Command, exit};
    use std::{env, fs};

    const LINKED: [&str; 2] = ["src/torch/shim.cpp", "src/torch/meter.cpp"];
    const KERNELS: [&str; 6] = [
        "src/torch/kernels/tensors.cpp",
        "src/torch/kernels/rows.cpp",
        "src/torch/kernels/attention.cpp",
        "src/torch/kernels/decoder.cpp",
        "src/torch/kernels/back.cpp",
        "src/torch/kernels/head.cpp",
    ];
    const CUDA: [&str; 2] = ["src/torch/cuda_memory.cpp", "src/torch/cuda_graph.cpp"];
    const HEADERS: [&str; 7] = [
        "src/torch/guarded.h",
        "src/torch/kernels/lanes.h",
        "src/torch/kernels/parts.h",
        "src/torch/kernels/cached.h",
        "src/torch/kernels/tiles.h",
        "src/torch/kernels/logits.h",
        "src/torch/kernels/outer.h",
    ];
    const CUDA_LIBRARY: &str = "libtickets_cuda.so";

    pub fn build() {
        for name in ["LIBTORCH", "TICKETS_CACHE", "XDG_CACHE_HOME", "HOME", "CUDA_HOME"] {
            println!("cargo:rerun-if-env-changed={name}");
        }
        for file in LINKED.iter().chain(&CUDA).chain(&KERNELS).chain(&HEADERS) {
            println!("cargo:rerun-if-changed={file}");
        }
        let libtorch = libtorch();
        // As single arguments, because a comma in the path would split `-Wl,-rpath,PATH`.
        for argument in ["-Xlinker", "-rpath", "-Xlinker"] {
            println!("cargo:rustc-link-arg={argument}");
        }
        println!("cargo:rustc-link-arg={}", libtorch.join("lib").display());

        let mut compiler = cc::Build::new();
        compiler.cpp(true).std("c++17").pic(true);
        for include in ["include", "include/torch/csrc/api/include"] {
            compiler.flag("-isystem").flag(libtorch.join(include));
        }
        // The two are compiled side by side.
        let cuda = start_cuda_library(&compiler, &libtorch);
        compiler.files(LINKED).compile("tickets_shim");
        kernels(&libtorch);
        if let Some(cuda) = cuda {
            cuda.finish();
        }
    }

    /// Loops over numbers: the compiler's best, whatever the profile, and libtorch's own threads.
    fn kernels(libtorch: &Path) {
        let mut compiler = cc::Build::new();
        compiler.cpp(true).std("c++17").pic(true).opt_level(3).flag("-fopenmp").flag("-Wno-psabi");
        compiler.flag("-fno-math-errno").flag("-fno-trapping-math");
        compiler.flag("-isystem").flag(libtorch.join("include"));
        compiler.files(KERNELS).compile("tickets_kernels");
        // The OpenMP that libtorch itself has loaded, so that there is one pool of threads.
        let own =
            fs::read_dir(libtorch.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
        let names = own.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        match names.filter(|name| name.starts_with("libgomp")).min() {
            Some(name) => {
                println!("cargo:rustc-link-arg=-L{}", libtorch.join("lib").display());
                println!("cargo:rustc-link-arg=-l:{name}");
            }
            None => println!("cargo:rustc-link-arg=-lgomp"),
        }
    }

    fn libtorch() -> PathBuf {
        let value = env::var_os("LIBTORCH").filter(|value| !value.is_empty());
        let folder = value.and_then(|value| fs::canonicalize(value).ok());
        match folder {
            Some(folder) if folder.join("lib/libtorch_cpu.so").exists() => folder,
            _ => {
                eprintln!("error: LIBTORCH does not name a libtorch 2.11.0 folder");
                eprintln!("hint: run `make build`, or `export LIBTORCH=$(python3 scripts/libtorch.py)`");
                exit(1);
            }
        }
    }

    /// The first folder that has both the headers of the CUDA runtime and the `crt` ones that they include.
    fn cuda_include(libtorch: &Path) -> Option<PathBuf> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The same cache folder as in scripts/libtorch.py.
        let cache = variable("TICKETS_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("tickets")))
            .or_else(|| variable("HOME").map(|folder| folder.join(".cache/tickets")));
        let candidates = [
            cache.map(|folder| folder.join("cuda-include-13.0/include")),
            Some(libtorch.join("../nvidia/cu13/include")),
            variable("CUDA_HOME").map(|folder| folder.join("include")),
        ];
        let found = candidates.iter().flatten().find(|folder| {
            folder.join("cuda_runtime_api.h").exists() && folder.join("crt/host_defines.h").exists()
        });
        if found.is_none() {
            // A path that is not there makes cargo run this again next time, when it may be.
            for folder in candidates.iter().flatten() {
                println!("cargo:rerun-if-changed={}", folder.display());
            }
        }
        found.cloned()
    }

    struct CudaLibrary {
        command: Command,
        child: std::process::Child,
        built: PathBuf,
        placed: PathBuf,
    }

    fn start_cuda_library(compiler: &cc::Build, libtorch: &Path) -> Option<CudaLibrary> {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        // OUT_DIR is <target>/<profile>/build/<package>-<hash>/out; the binary goes to <target>/<profile>.
        let placed = out.ancestors().nth(3)?.join(CUDA_LIBRARY);
        let built = out.join(CUDA_LIBRARY);
        let include = cuda_include(libtorch);
        let headers = libtorch.join("include/c10/cuda/CUDACachingAllocator.h").exists();
        let (Some(include), true) = (include, headers) else {
            println!(
                "cargo:warning=no CUDA headers: {CUDA_LIBRARY} is left out, GPU memory will not be reported"
            );
            let _ = fs::remove_file(&placed);
            return None;
        };
        let mut command = compiler.get_compiler().to_command();
        command.arg("-isystem").arg(include);
        command.args(["-shared", "-fvisibility=hidden", "-fvisibility-inlines-hidden"]).args(CUDA);
        command.arg("-o").arg(&built);
        match command.spawn() {
            Ok(child) => Some(CudaLibrary { command, child, built, placed }),
            Err(error) => {
                println!("cargo:warning={CUDA_LIBRARY} is left out: {error} ({command:?})");
                None
            }
        }
    }

    impl CudaLibrary {
        fn finish(mut self) {
            let problem = match self.child.wait() {
                Ok(status) if status.success() => {
                    place(&self.built, &self.placed).err().map(|e| e.to_string())
                }
                Ok(status) => Some(format!("the compiler ended with {status}")),
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem {
                println!("cargo:warning={CUDA_LIBRARY} is left out: {problem} ({:?})", self.command);
                let _ = fs::remove_file(&self.placed);
            }
        }
    }

    /// Copies by rename, so that a process that has the old library open keeps it whole.
    fn place(built: &Path, placed: &Path) -> std::io::Result<()> {
        let temporary = placed.with_extension(format!("so.{}", std::process::id()));
        fs::copy(built, &temporary)?;
        fs::rename(&temporary, placed)
    }
}
