#!/usr/bin/env python3
"""Finds or makes the libtorch 2.11.0 folder that `tickets` is built against, and prints its path.

Only the path goes to standard output; everything else goes to standard error. In this order:

1. `LIBTORCH`, when set: checked, then used as it is. A folder that does not fit is an error, never passed over.
2. The torch 2.11.0 of this python3, when installed (found without importing it). `TICKETS_LIBTORCH=download`
   leaves it aside.
3. The CPU flavour in the cache folder: `libtorch-2.11.0-cpu` under `TICKETS_CACHE`, else `XDG_CACHE_HOME/tickets`,
   else `~/.cache/tickets`. When it is not there it is made: three wheels are downloaded with pip, verified by
   SHA-256, and what is needed is unpacked into a temporary folder that is renamed into place as the last act.

A wheel that is complete is used again; one that is not is removed and fetched anew. Killed at any moment, the next
call goes on; two calls at once wait for each other. The wheels are deleted at the end unless `TICKETS_KEEP_WHEELS=1`.

    libtorch.py             print the folder, making it if need be; afterwards try what --cuda-include does
    libtorch.py --check     print the folder if there is one that fits; make nothing, exit 1 if there is none
    libtorch.py --check D   check the folder D
    libtorch.py --cuda-include
                            print a folder with the headers of the CUDA runtime for our own CUDA library, making
                            it if need be (2.4 MB to download); no GPU and no CUDA toolkit is needed

Needs Python 3.8 and, for the download, pip.
"""

import os
import sys

if sys.version_info < (3, 8):
    sys.exit("error: scripts/libtorch.py needs Python 3.8 or newer, this is %d.%d" % sys.version_info[:2])

import contextlib
import json
import re
import shutil
import stat
import time
from pathlib import Path

VERSION = "2.11.0"
FOLDER = f"libtorch-{VERSION}-cpu"
CUDA_FOLDER = "cuda-include-13.0"
RECORD = "tickets-libtorch.json"
LINKER_SCRIPT = "INPUT(-ltorch_cpu)\n"
UNPACKED_BYTES = 560_000_000


class Failure(Exception):
    """A message for the user: what went wrong, then what to do."""


class Wheel:
    """One wheel of a package registry, and which of its files are wanted where."""

    def __init__(self, project, version, sha256, size, platform, files, folders=()):
        self.project, self.version, self.sha256, self.size, self.platform = project, version, sha256, size, platform
        # Exact member name -> path below the libtorch folder.
        self.files = files
        # (prefix of member names, suffixes or None for all, path below the libtorch folder)
        self.folders = folders

    @property
    def pattern(self):
        return f"{self.project.replace('-', '_')}-{self.version}-*.whl"

    def target(self, member):
        """Where a member of the wheel belongs, or None when it is not wanted."""
        if member in self.files:
            return self.files[member]
        for prefix, suffixes, where in self.folders:
            if member.startswith(prefix) and not member.endswith("/"):
                if suffixes is None or member.endswith(suffixes):
                    return where + member[len(prefix):]
        return None


# Version 13.0 of the CUDA runtime and of CUPTI is what torch 2.11.0 asks for: its CPU library is linked against
# both, though it calls neither on a machine without a GPU.
CPU_WHEELS = [
    Wheel(
        "torch",
        VERSION,
        "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
        530_712_279,
        "manylinux_2_28_x86_64",
        {
            "torch/lib/libtorch_cpu.so": "lib/libtorch_cpu.so",
            "torch/lib/libc10.so": "lib/libc10.so",
            "torch/lib/libgomp.so.1": "lib/libgomp.so.1",
        },
        [
            ("torch/include/", None, "include/"),
            (f"torch-{VERSION}.dist-info/licenses/", None, "licenses/torch/"),
        ],
    ),
    Wheel(
        "nvidia-cuda-runtime",
        "13.0.96",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        2_243_632,
        "manylinux2014_x86_64",
        {"nvidia/cu13/lib/libcudart.so.13": "lib/libcudart.so.13"},
        [("nvidia_cuda_runtime-13.0.96.dist-info/licenses/", None, "licenses/cuda-runtime/")],
    ),
    Wheel(
        "nvidia-cuda-cupti",
        "13.0.85",
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        10_715_597,
        "manylinux_2_25_x86_64",
        {"nvidia/cu13/lib/libcupti.so.13": "lib/libcupti.so.13"},
        [("nvidia_cuda_cupti-13.0.85.dist-info/licenses/", None, "licenses/cuda-cupti/")],
    ),
]

# The headers that our own CUDA library is compiled with. A pip-installed torch lacks the `crt` ones.
CUDA_WHEELS = [
    Wheel(
        "nvidia-cuda-runtime",
        "13.0.96",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        2_243_632,
        "manylinux2014_x86_64",
        {"nvidia/cu13/include/cuda_runtime_api.h": "include/cuda_runtime_api.h"},
        [
            ("nvidia/cu13/include/", None, "include/"),
            ("nvidia_cuda_runtime-13.0.96.dist-info/licenses/", None, "licenses/cuda-runtime/"),
        ],
    ),
    Wheel(
        "nvidia-cuda-crt",
        "13.0.88",
        "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
        134_086,
        "manylinux2014_x86_64",
        {"nvidia/cu13/include/crt/host_defines.h": "include/crt/host_defines.h"},
        [
            ("nvidia/cu13/include/", None, "include/"),
            ("nvidia_cuda_crt-13.0.88.dist-info/licenses/", None, "licenses/cuda-crt/"),
        ],
    ),
]


def say(message):
    print(message, file=sys.stderr, flush=True)


def expand(path):
    return Path(os.path.abspath(os.path.expanduser(path)))


def cache_folder():
    if os.environ.get("TICKETS_CACHE"):
        return expand(os.environ["TICKETS_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return expand(os.environ["XDG_CACHE_HOME"]) / "tickets"
    return expand("~/.cache") / "tickets"


# --- Checking a folder -----------------------------------------------------------------------------------------


def version_of(folder):
    """The libtorch version that a folder states, or None."""
    try:
        return (folder / "build-version").read_text().strip()
    except OSError:
        pass
    for header in ("include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"):
        try:
            text = (folder / header).read_text(errors="replace")
        except OSError:
            continue
        parts = [re.search(rf"define TORCH_VERSION_{part} (\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
        if all(parts):
            return ".".join(part.group(1) for part in parts)
    return None


def problem_with(folder):
    """Why a folder cannot be built against, or None when it can."""
    if not folder.is_dir():
        return "there is no such folder"
    for needed in ("lib/libtorch_cpu.so", "lib/libc10.so", "lib/libtorch.so", "include/ATen/Context.h"):
        if not (folder / needed).is_file():
            return f"it has no {needed}"
    version = version_of(folder)
    if version is None:
        return "its version is not to be found (no build-version, no include/torch/headeronly/version.h)"
    if version.split("+")[0] != VERSION:
        return f"it is libtorch {version}, {VERSION} is needed"
    # A folder of ours lists its libraries with their sizes, so that a truncated one is noticed at once.
    try:
        record = json.loads((folder / RECORD).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"its {RECORD} cannot be read ({error})"
    for name, size in record.get("libraries", {}).items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            return f"it has no {name}"
        if found != size:
            return f"{name} has {found} bytes, {size} were written"
    return None


def cuda_problem_with(folder):
    for needed in ("include/cuda_runtime_api.h", "include/crt/host_defines.h", RECORD):
        if not (folder / needed).is_file():
            return f"it has no {needed}"
    return None


def from_environment():
    value = os.environ.get("LIBTORCH")
    if not value:
        return None
    folder = expand(value)
    problem = problem_with(folder)
    if problem:
        raise Failure(
            f"LIBTORCH is set to {value}, but {problem}\n"
            f"hint: point LIBTORCH at a libtorch {VERSION} folder, or `unset LIBTORCH` to have one found or made"
        )
    return folder


def from_python():
    if os.environ.get("TICKETS_LIBTORCH") == "download":
        return None
    from importlib import metadata

    try:
        found = metadata.distribution("torch")
    except metadata.PackageNotFoundError:
        return None
    version = found.version or ""
    folder = expand(str(found.locate_file("torch")))
    if version.split("+")[0] != VERSION:
        say(f"note: the torch {version} of this python3 is not used, {VERSION} is needed")
        return None
    problem = problem_with(folder)
    if problem:
        say(f"note: the torch {version} of this python3 ({folder}) is not used: {problem}")
        return None
    return folder


# --- Making the CPU flavour ------------------------------------------------------------------------------------


def digest_of(path):
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_platform():
    import platform

    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise Failure(
            f"the ready-made libtorch is for Linux on x86-64, this is {platform.system()} on {platform.machine()}\n"
            f"hint: install libtorch {VERSION} by other means and set LIBTORCH to its folder"
        )
    name, version = platform.libc_ver()
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    if name == "glibc" and numbers and numbers < [2, 28]:
        raise Failure(
            f"the ready-made libtorch needs glibc 2.28 or newer, this is {version}\n"
            "hint: use a newer system, or set LIBTORCH to a libtorch that was built for this one"
        )


def check_space(cache, needed):
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise Failure(
            f"the disk of {cache} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed "
            "while libtorch is unpacked (0.6 GB stay)\n"
            "hint: free some space, or set TICKETS_CACHE to a folder on another disk"
        )


def find_pip():
    """The command that runs pip: of this python3, else the one on PATH."""
    import subprocess

    own = [sys.executable or "python3", "-m", "pip"]
    candidates = [own] + [[name] for name in ("pip3", "pip") if shutil.which(name)]
    for command in candidates:
        ran = subprocess.run(command + ["--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if ran.returncode == 0:
            return command
    raise Failure(
        "pip is needed to download libtorch, and this python3 has none\n"
        "hint: install it (`apt install python3-pip`, or `python3 -m ensurepip`), or set LIBTORCH to a "
        f"libtorch {VERSION} folder"
    )


def pip_download(pip, wheel, folder):
    """Downloads one wheel into a folder; returns its path."""
    import shlex
    import subprocess

    requirements = folder / "requirements.txt"
    # With its digest named, pip itself prefers the right file where an index offers several builds of one version.
    requirements.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = pip + ["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "--abi", "none"]
    command += ["--platform", wheel.platform, "--dest", str(folder), "--requirement", str(requirements)]
    # pip's own temporary files stay in our folder: /tmp may be small, and what a kill leaves is cleaned up here.
    environment = dict(os.environ, TMPDIR=str(folder), PIP_REQUIRE_VIRTUALENV="0")
    ran = subprocess.run(command, stdout=sys.stderr, env=environment, stdin=subprocess.DEVNULL)
    found = sorted(folder.glob(wheel.pattern))
    if ran.returncode != 0 or len(found) != 1:
        again = f"pip download --no-deps {wheel.project}=={wheel.version}"
        raise Failure(
            f"pip could not download {wheel.project} {wheel.version} (exit {ran.returncode}; its message is above)\n"
            f"  the command was: {' '.join(shlex.quote(part) for part in command)}\n"
            f"hint: is there a network, and does `{again}` work? Behind a mirror set PIP_INDEX_URL. Then run the "
            "same command again: what is complete is kept.\n"
            f"hint: or get libtorch {VERSION} by other means and set LIBTORCH to its folder"
        )
    return found[0]


def complete_wheel(wheel, wheels):
    """The verified wheel of an earlier call, or None; one that is not what it should be is removed."""
    for path in sorted(wheels.glob(wheel.pattern)):
        if path.stat().st_size == wheel.size and digest_of(path) == wheel.sha256:
            return path
        say(f"{path.name} is incomplete or damaged: removed, to be downloaded again")
        path.unlink()
    return None


def fetch(wheel, wheels, pip):
    """Downloads a wheel and moves it into the wheels folder once its digest is right."""
    say(f"downloading {wheel.project} {wheel.version} ({wheel.size / 1e6:.0f} MB)")
    folder = wheels / f".tmp-{os.getpid()}-{time.time_ns()}"
    folder.mkdir()
    try:
        path = pip_download(pip, wheel, folder)
        digest = digest_of(path)
        if digest != wheel.sha256:
            raise Failure(
                f"the downloaded {path.name} is not the expected file: SHA-256 {digest}, expected {wheel.sha256}\n"
                "hint: the index behind pip serves another build; set PIP_INDEX_URL to one with the original wheels, "
                f"or set LIBTORCH to a libtorch {VERSION} folder"
            )
        final = wheels / path.name
        os.replace(path, final)
        return final
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_synced(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def unpack(wheel, path, folder):
    """Writes the wanted members of a wheel below a folder; returns the libraries with their sizes."""
    import zipfile

    libraries, made = {}, set()
    missing = set(wheel.files)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            where = wheel.target(member.filename)
            if where is None:
                continue
            if ".." in Path(where).parts or os.path.isabs(where):
                raise Failure(f"{path.name} names a file outside its folder: {member.filename}")
            target = folder / where
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            with archive.open(member) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
                if where.startswith("lib/"):
                    out.flush()
                    os.fsync(out.fileno())
                    libraries[where] = member.file_size
            missing.discard(member.filename)
    if missing:
        raise Failure(f"{path.name} lacks {', '.join(sorted(missing))}")
    return libraries


def assemble(paths, folder, complete):
    """Unpacks all wheels into a new folder, adds what no wheel has, and writes the record as the last file."""
    folder.mkdir()
    libraries = {}
    for wheel, path in paths:
        libraries.update(unpack(wheel, path, folder))
    for name in libraries:
        (folder / name).chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH | 0o111)
    if complete:
        complete(folder)
    record = {
        "libraries": dict(sorted(libraries.items())),
        "wheels": [{"name": path.name, "sha256": wheel.sha256} for wheel, path in paths],
    }
    write_synced(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def complete_cpu_flavour(folder):
    # libtorch.so of the wheel pulls the CUDA libraries in. The linker needs only a name: torch-sys asks for -ltorch.
    (folder / "lib/libtorch.so").write_text(LINKER_SCRIPT)
    (folder / "build-version").write_text(f"{VERSION}+cpu\n")


@contextlib.contextmanager
def locked(path):
    """Holds a lock file while others wait. The system frees the lock when the process ends, however it ends."""
    import fcntl

    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is setting up libtorch: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # A file system without locks: unique names and the final rename keep two at once from harm.
            pass
        yield


def remove_leftovers(cache, name, wheels):
    """Removes what a killed call left. The caller holds the lock, so nothing of this is in use."""
    for pattern, folder in ((f"{name}.tmp-*", cache), (f"{name}.broken-*", cache), (".tmp-*", wheels)):
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def make(cache, name, contents, problem_with, unpacked_bytes, complete=None):
    """Makes the folder `name` of the cache from wheels, unless it is there and without a problem."""
    check_platform()
    final, wheels = cache / name, cache / f"{name}.wheels"
    try:
        wheels.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(
            f"the cache folder {cache} cannot be made ({error.strerror})\n"
            "hint: set TICKETS_CACHE to a folder that you can write to"
        ) from None
    with locked(cache / f"{name}.lock"):
        if problem_with(final) is not None:
            make_locked(cache, name, contents, problem_with, unpacked_bytes, complete)
        if os.environ.get("TICKETS_KEEP_WHEELS") != "1":
            shutil.rmtree(wheels, ignore_errors=True)
    return final


def make_locked(cache, name, contents, problem_with, unpacked_bytes, complete):
    final, wheels = cache / name, cache / f"{name}.wheels"
    say(f"setting up {final}")
    wheels.mkdir(exist_ok=True)  # The process that held the lock before may have removed it.
    remove_leftovers(cache, name, wheels)
    have = {wheel.project: complete_wheel(wheel, wheels) for wheel in contents}
    lacking = [wheel for wheel in contents if have[wheel.project] is None]
    # pip holds a wheel twice for a moment; afterwards the wheels and the unpacked files are there side by side.
    largest = max((wheel.size for wheel in lacking), default=0)
    check_space(cache, sum(wheel.size for wheel in lacking) + max(largest, unpacked_bytes))
    if lacking:
        pip = find_pip()
        for wheel in lacking:
            have[wheel.project] = fetch(wheel, wheels, pip)
    temporary = cache / f"{name}.tmp-{os.getpid()}-{time.time_ns()}"
    say("unpacking")
    try:
        assemble([(wheel, have[wheel.project]) for wheel in contents], temporary, complete)
        problem = problem_with(temporary)
        if problem:
            raise Failure(f"the unpacked {name} does not fit: {problem}")
        put_in_place(temporary, final, problem_with)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(temporary, final, problem_with):
    if final.exists():
        broken = final.with_name(f"{final.name}.broken-{os.getpid()}-{time.time_ns()}")
        os.rename(final, broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        os.rename(temporary, final)
    except OSError:
        # Without file locks another process may have been first; what it made is as good.
        if problem_with(final) is not None:
            raise


# --- The program -----------------------------------------------------------------------------------------------


def find(may_make):
    """The folder to use; None when it would have to be made and may not."""
    found = from_environment() or from_python()
    if found:
        return found
    cache = cache_folder()
    final = cache / FOLDER
    problem = problem_with(final)
    if problem is None:
        return final
    if final.exists():
        say(f"{final} cannot be used: {problem}")
    if not may_make:
        return None
    return make(cache, FOLDER, CPU_WHEELS, problem_with, UNPACKED_BYTES, complete_cpu_flavour)


def cuda_include():
    cache = cache_folder()
    final = cache / CUDA_FOLDER
    if cuda_problem_with(final) is not None:
        make(cache, CUDA_FOLDER, CUDA_WHEELS, cuda_problem_with, 10_000_000)
    return final / "include"


def try_cuda_include():
    """Makes the CUDA headers where possible. Without them all works but the memory figures of a GPU, so a failure
    is a note; and it is remembered for a day, so that a machine without a network is not slowed down each time."""
    cache = cache_folder()
    if cuda_problem_with(cache / CUDA_FOLDER) is None:
        return
    stamp = cache / f"{CUDA_FOLDER}.failed"
    with contextlib.suppress(OSError):
        if time.time() - stamp.stat().st_mtime < 86_400:
            return
    try:
        cuda_include()
    except (Failure, OSError) as error:
        say(f"note: no headers for the CUDA part, it is left out: {error}")
        say("note: `python3 scripts/libtorch.py --cuda-include` tries again at once")
        with contextlib.suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            stamp.touch()
    else:
        with contextlib.suppress(OSError):
            stamp.unlink()


def check(arguments):
    if len(arguments) > 1:
        raise Failure("--check takes at most one folder")
    if arguments:
        folder = expand(arguments[0])
        problem = problem_with(folder)
        if problem:
            raise Failure(f"{folder} cannot be used as libtorch {VERSION}: {problem}")
    else:
        folder = find(may_make=False)
        if folder is None:
            raise Failure(f"no libtorch {VERSION} yet\nhint: `make build` sets it up, or python3 scripts/libtorch.py")
    print(folder)


def main(arguments):
    try:
        if arguments and arguments[0] in ("-h", "--help"):
            print(__doc__)
        elif arguments and arguments[0] == "--check":
            check(arguments[1:])
        elif arguments == ["--cuda-include"]:
            print(cuda_include())
        elif arguments:
            raise Failure(f"unknown argument {arguments[0]}; see --help")
        else:
            folder = find(may_make=True)
            try_cuda_include()
            print(folder)
    except Failure as failure:
        say(f"error: {failure}")
        return 1
    except OSError as error:
        say(f"error: {error}")
        if error.errno == 28:
            say("hint: the disk is full; free some space, or set TICKETS_CACHE to a folder on another disk")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from what is complete")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
