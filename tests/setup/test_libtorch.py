"""Tests of scripts/libtorch.py: small made-up wheels, no network. `python3 -m unittest discover -s tests/setup`."""

import contextlib
import hashlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
import zipfile
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "libtorch.py"
VERSION_HEADER = "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR {}\n#define TORCH_VERSION_PATCH 0\n"
TORCH = "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl"


def load():
    """A fresh copy of the script as a module, so that what one test patches stays there."""
    spec = importlib.util.spec_from_file_location("libtorch_under_test", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_wheel(folder, name, files):
    """A wheel that pip accepts."""
    project, version = name.split("-")[:2]
    info = f"{project}-{version}.dist-info"
    files = dict(files)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
    tag = name[: -len(".whl")].split("-", 2)[2]
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n"
    files[f"{info}/licenses/LICENSE"] = f"licence of {project}\n"
    files[f"{info}/RECORD"] = ""
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in files.items():
            archive.writestr(zipfile.ZipInfo(member), text)
    return path


class Setup(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="tickets set-up ")  # with a space, on purpose
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.cache = self.folder / "the cache"
        self.index = self.folder / "index"
        self.index.mkdir()
        self.libtorch = load()
        self.make_index()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        for name in ("LIBTORCH", "TICKETS_KEEP_WHEELS", "XDG_CACHE_HOME"):
            environment.pop(name, None)
        environment.update(
            TICKETS_CACHE=str(self.cache),
            TICKETS_LIBTORCH="download",
            PIP_NO_INDEX="1",
            PIP_FIND_LINKS=self.index.as_uri(),
            PIP_CONFIG_FILE=os.devnull,
        )
        patch = mock.patch.dict(os.environ, environment, clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        self.downloads = []

    def make_index(self):
        """Small wheels with the members that the real ones have, and the script told of their digests."""
        contents = {
            "torch": {
                "torch/lib/libtorch_cpu.so": "cpu" * 1000,
                "torch/lib/libc10.so": "c10",
                "torch/lib/libgomp.so.1": "gomp",
                "torch/lib/libtorch_cuda.so": "not wanted",
                "torch/nn/module.py": "not wanted",
                "torch/include/ATen/Context.h": "context",
                "torch/include/torch/headeronly/version.h": VERSION_HEADER.format(11),
            },
            "nvidia-cuda-runtime": {
                "nvidia/cu13/lib/libcudart.so.13": "cudart",
                "nvidia/cu13/lib/libcudart_static.a": "not wanted",
                "nvidia/cu13/include/cuda_runtime_api.h": "api",
            },
            "nvidia-cuda-cupti": {"nvidia/cu13/lib/libcupti.so.13": "cupti"},
            "nvidia-cuda-crt": {"nvidia/cu13/include/crt/host_defines.h": "crt"},
        }
        for wheel in self.libtorch.CPU_WHEELS + self.libtorch.CUDA_WHEELS:
            tag = "cp312-cp312" if wheel.project == "torch" else "py3-none"
            name = f"{wheel.project.replace('-', '_')}-{wheel.version}-{tag}-{wheel.platform}.whl"
            path = write_wheel(self.index, name, contents[wheel.project])
            wheel.size = path.stat().st_size
            wheel.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def copy_instead_of_pip(self):
        """Replaces pip where the test is not about it: pip takes a second to start."""

        def download(_pip, wheel, folder):
            self.downloads.append(wheel.project)
            (source,) = self.index.glob(wheel.pattern)
            target = folder / source.name
            target.write_bytes(source.read_bytes())
            return target

        self.libtorch.pip_download = download
        self.libtorch.find_pip = lambda: ["pip"]

    def call(self, *arguments):
        """(exit code, standard output, standard error)"""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = self.libtorch.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    @property
    def made(self):
        return self.cache / "libtorch-2.11.0-cpu"

    def fake_libtorch(self, minor=11):
        folder = self.folder / f"by hand {minor}"
        for name in ("libtorch_cpu.so", "libc10.so", "libtorch.so"):
            (folder / "lib").mkdir(parents=True, exist_ok=True)
            (folder / "lib" / name).write_text("x")
        for name, text in (("ATen/Context.h", "x"), ("torch/headeronly/version.h", VERSION_HEADER.format(minor))):
            path = folder / "include" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder


class Download(Setup):
    def test_with_pip_it_makes_the_folder_with_what_is_needed_and_nothing_else(self):
        code, out, err = self.call_with_real_pip()
        self.assertEqual((code, out), (0, f"{self.made}\n"), err)
        files = {str(path.relative_to(self.made)) for path in self.made.rglob("*") if path.is_file()}
        expected = {
            "build-version",
            "tickets-libtorch.json",
            "include/ATen/Context.h",
            "include/torch/headeronly/version.h",
            "licenses/torch/LICENSE",
            "licenses/cuda-runtime/LICENSE",
            "licenses/cuda-cupti/LICENSE",
        }
        names = "libtorch_cpu.so libc10.so libgomp.so.1 libcudart.so.13 libcupti.so.13 libtorch.so"
        expected |= {f"lib/{name}" for name in names.split()}
        self.assertEqual(files, expected)
        self.assertEqual((self.made / "lib/libtorch.so").read_text(), "INPUT(-ltorch_cpu)\n")
        self.assertEqual((self.made / "build-version").read_text(), "2.11.0+cpu\n")
        self.assertTrue(os.access(self.made / "lib/libtorch_cpu.so", os.X_OK))
        headers = self.cache / "cuda-include-13.0/include"
        self.assertEqual((headers / "crt/host_defines.h").read_text(), "crt")
        self.assertEqual((headers / "cuda_runtime_api.h").read_text(), "api")
        # No wheels and no temporary folders stay.
        left = {path.name for path in self.cache.iterdir() if path.is_dir()}
        self.assertEqual(left, {"libtorch-2.11.0-cpu", "cuda-include-13.0"})

    def call_with_real_pip(self):
        # pip writes to the real standard error, which the redirection above does not cover.
        run = subprocess.run

        def quiet(command, **options):
            if options.get("stdout") is not None and options["stdout"] != subprocess.DEVNULL:
                options.update(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return run(command, **options)

        with mock.patch.object(subprocess, "run", quiet):
            return self.call()

    def test_a_failed_download_says_what_failed_and_what_to_do_and_keeps_what_is_complete(self):
        (wheel,) = self.index.glob("nvidia_cuda_cupti-*.whl")
        wheel.rename(self.folder / "away")
        code, out, err = self.call_with_real_pip()
        self.assertEqual((code, out), (1, ""))
        for part in ("could not download nvidia-cuda-cupti 13.0.85", "the command was: ", "PIP_INDEX_URL", "LIBTORCH"):
            self.assertIn(part, err)
        self.assertFalse(self.made.exists())
        (self.folder / "away").rename(wheel)
        self.copy_instead_of_pip()
        code, out, err = self.call()
        self.assertEqual((code, out), (0, f"{self.made}\n"), err)
        self.assertEqual(self.downloads[0], "nvidia-cuda-cupti", "the wheels that were complete are used again")

    def test_a_second_call_downloads_nothing_and_is_quiet(self):
        self.copy_instead_of_pip()
        self.call()
        self.downloads.clear()
        self.assertEqual(self.call(), (0, f"{self.made}\n", ""))
        self.assertEqual(self.downloads, [])

    def test_complete_wheels_are_used_again_and_others_are_fetched_anew(self):
        self.copy_instead_of_pip()
        wheels = self.cache / "libtorch-2.11.0-cpu.wheels"
        wheels.mkdir(parents=True)
        for path in self.index.glob("*.whl"):
            if "crt" not in path.name:
                (wheels / path.name).write_bytes(path.read_bytes())
        torch = wheels / TORCH
        torch.write_bytes(torch.read_bytes()[:-100])  # cut short
        (cupti,) = wheels.glob("nvidia_cuda_cupti-*")
        damaged = bytearray(cupti.read_bytes())
        damaged[50] ^= 1  # of the right size
        cupti.write_bytes(damaged)
        code, _, err = self.call()
        self.assertEqual(code, 0, err)
        self.assertEqual(self.downloads[:2], ["torch", "nvidia-cuda-cupti"])
        self.assertIn(f"{TORCH} is incomplete or damaged", err)
        self.assertIn(f"{cupti.name} is incomplete or damaged", err)

    def test_a_wheel_with_another_digest_is_refused(self):
        self.copy_instead_of_pip()
        self.libtorch.CPU_WHEELS[0].sha256 = "0" * 64
        code, out, err = self.call()
        self.assertEqual((code, out), (1, ""))
        self.assertIn("is not the expected file", err)
        self.assertFalse(self.made.exists())

    def test_wheels_are_kept_when_asked_for(self):
        self.copy_instead_of_pip()
        os.environ["TICKETS_KEEP_WHEELS"] = "1"
        self.call()
        self.assertTrue((self.cache / "libtorch-2.11.0-cpu.wheels" / TORCH).exists())

    def test_a_truncated_library_is_noticed_and_the_folder_made_anew(self):
        self.copy_instead_of_pip()
        self.call()
        (self.made / "lib/libtorch_cpu.so").write_text("short")
        code, _, err = self.call("--check")
        self.assertEqual(code, 1)
        self.assertIn("lib/libtorch_cpu.so has 5 bytes, 3000 were written", err)
        self.assertEqual(self.call()[0], 0)
        self.assertEqual((self.made / "lib/libtorch_cpu.so").stat().st_size, 3000)

    def test_a_disk_too_full_is_said_before_anything_is_downloaded(self):
        self.copy_instead_of_pip()
        usage = mock.Mock(free=500_000_000)
        with mock.patch.object(self.libtorch.shutil, "disk_usage", lambda _: usage):
            code, _, err = self.call()
        self.assertEqual((code, self.downloads), (1, []))
        self.assertIn("0.5 GB free, 0.6 GB are needed", err)
        self.assertIn("TICKETS_CACHE", err)

    def test_the_real_wheels_need_about_a_gigabyte(self):
        real = load()
        needed = sum(wheel.size for wheel in real.CPU_WHEELS) + real.UNPACKED_BYTES
        self.assertTrue(1.0e9 < needed < 1.2e9, needed)

    def test_a_cache_that_cannot_be_made_is_an_error_with_advice(self):
        self.copy_instead_of_pip()
        (self.folder / "file").write_text("")
        os.environ["TICKETS_CACHE"] = str(self.folder / "file" / "cache")
        code, _, err = self.call()
        self.assertEqual(code, 1)
        self.assertIn("cannot be made", err)
        self.assertIn("TICKETS_CACHE", err)

    def test_another_platform_is_told_so(self):
        import platform

        with mock.patch.object(platform, "machine", lambda: "aarch64"):
            code, _, err = self.call()
        self.assertEqual(code, 1)
        self.assertIn("Linux on x86-64", err)

    def test_no_pip_is_told_so(self):
        self.libtorch.shutil = mock.Mock(wraps=self.libtorch.shutil, which=lambda _: None)
        with mock.patch.object(subprocess, "run", lambda *_, **__: mock.Mock(returncode=1)):
            code, _, err = self.call()
        self.assertEqual(code, 1)
        self.assertIn("pip is needed", err)

    def test_headers_that_cannot_be_had_are_a_note_and_not_tried_again_today(self):
        self.copy_instead_of_pip()
        download = self.libtorch.pip_download

        def no_crt(pip, wheel, folder):
            if wheel.project == "nvidia-cuda-crt":
                self.downloads.append(wheel.project)
                raise self.libtorch.Failure("no network")
            return download(pip, wheel, folder)

        self.libtorch.pip_download = no_crt
        code, out, err = self.call()
        self.assertEqual((code, out), (0, f"{self.made}\n"))
        self.assertIn("note: no headers for the CUDA part", err)
        self.downloads.clear()
        self.assertEqual(self.call(), (0, f"{self.made}\n", ""))
        self.assertEqual(self.downloads, [])
        self.libtorch.pip_download = download
        code, out, _ = self.call("--cuda-include")
        self.assertEqual((code, out), (0, f"{self.cache / 'cuda-include-13.0/include'}\n"))


class Existing(Setup):
    def test_libtorch_of_the_environment_is_used(self):
        self.libtorch.try_cuda_include = lambda: None
        folder = self.fake_libtorch()
        os.environ["LIBTORCH"] = str(folder)
        self.assertEqual(self.call(), (0, f"{folder}\n", ""))
        self.assertEqual(self.call("--check"), (0, f"{folder}\n", ""))
        self.assertFalse(self.cache.exists())

    def test_libtorch_of_the_environment_that_does_not_fit_is_an_error(self):
        wrong = self.fake_libtorch(minor=6)
        incomplete = self.fake_libtorch()
        (incomplete / "lib/libtorch_cpu.so").unlink()
        cases = {
            str(self.folder / "nothing"): "there is no such folder",
            str(wrong): "it is libtorch 2.6.0, 2.11.0 is needed",
            str(incomplete): "it has no lib/libtorch_cpu.so",
        }
        for value, problem in cases.items():
            os.environ["LIBTORCH"] = value
            code, out, err = self.call()
            self.assertEqual((code, out), (1, ""))
            self.assertIn(f"LIBTORCH is set to {value}, but {problem}", err)
            self.assertIn("unset LIBTORCH", err)

    def test_build_version_comes_first(self):
        folder = self.fake_libtorch(minor=6)
        (folder / "build-version").write_text("2.11.0+cu130\n")
        self.assertIsNone(self.libtorch.problem_with(folder))

    def with_python_torch(self, version, folder):
        from importlib import metadata

        found = mock.Mock(version=version, locate_file=lambda _: folder)
        return mock.patch.object(metadata, "distribution", lambda _: found)

    def test_the_torch_of_this_python_is_used_unless_the_download_is_asked_for(self):
        self.copy_instead_of_pip()
        folder = self.fake_libtorch()
        with self.with_python_torch("2.11.0+cu130", folder):
            self.assertEqual(self.call()[1], f"{self.made}\n")
            del os.environ["TICKETS_LIBTORCH"]
            self.assertEqual(self.call(), (0, f"{folder}\n", ""))

    def test_another_torch_of_this_python_is_passed_over_with_a_note(self):
        self.copy_instead_of_pip()
        self.call()
        del os.environ["TICKETS_LIBTORCH"]
        with self.with_python_torch("2.6.0", self.fake_libtorch(minor=6)):
            code, out, err = self.call()
        self.assertEqual((code, out), (0, f"{self.made}\n"))
        self.assertIn("the torch 2.6.0 of this python3 is not used, 2.11.0 is needed", err)

    def test_check_makes_nothing(self):
        code, out, err = self.call("--check")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("no libtorch 2.11.0 yet", err)
        self.assertFalse(self.cache.exists())
        code, _, err = self.call("--check", str(self.folder / "nothing"))
        self.assertEqual(code, 1)
        self.assertIn("there is no such folder", err)

    def test_an_unknown_argument_is_an_error(self):
        self.assertEqual(self.call("--chek")[0], 1)


class Interrupted(Setup):
    DRIVER = """
        import importlib.util, shutil, sys, time
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("libtorch", {script!r})
        libtorch = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(libtorch)
        for wheel, (size, sha256) in zip(libtorch.CPU_WHEELS + libtorch.CUDA_WHEELS, {digests!r}):
            wheel.size, wheel.sha256 = size, sha256
        def download(pip, wheel, folder):
            print("downloading", wheel.project, flush=True)
            time.sleep({pause})
            source, = Path({index!r}).glob(wheel.pattern)
            return Path(shutil.copy(source, folder))
        unpack = libtorch.unpack
        def slow_unpack(*arguments):
            libraries = unpack(*arguments)
            print("unpacked", flush=True)
            time.sleep({pause})
            return libraries
        libtorch.pip_download, libtorch.unpack, libtorch.find_pip = download, slow_unpack, lambda: None
        sys.exit(libtorch.main([]))
    """

    def start(self, pause):
        digests = [(wheel.size, wheel.sha256) for wheel in self.libtorch.CPU_WHEELS + self.libtorch.CUDA_WHEELS]
        program = textwrap.dedent(self.DRIVER).format(
            script=str(SCRIPT), index=str(self.index), digests=digests, pause=pause
        )
        options = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        process = subprocess.Popen([sys.executable, "-c", program], **options)
        self.addCleanup(process.stdout.close)
        return process

    def test_killed_at_any_moment_the_next_call_finishes_and_nothing_is_left_over(self):
        for moment in ("downloading torch", "downloading nvidia-cuda-cupti", "unpacked"):
            with self.subTest(moment):
                process = self.start(pause=30)
                if moment != "downloading torch":
                    # Only the moment asked for is slow: what comes before is there already.
                    process.kill()
                    process.wait()
                    process = self.start_with_wheels(moment)
                for line in process.stdout:
                    if line.startswith(moment):
                        break
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.assertFalse(self.made.exists())
        last = self.start(pause=0)
        output = last.communicate(timeout=60)[0]
        self.assertEqual(last.returncode, 0, output)
        self.assertIsNone(self.libtorch.problem_with(self.made))
        left = {path.name for path in self.cache.iterdir() if path.is_dir()}
        self.assertEqual(left, {"libtorch-2.11.0-cpu", "cuda-include-13.0"})

    def start_with_wheels(self, moment):
        wheels = self.cache / "libtorch-2.11.0-cpu.wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        for wheel in self.libtorch.CPU_WHEELS:
            if moment == "unpacked" or wheel.project != "nvidia-cuda-cupti":
                (source,) = self.index.glob(wheel.pattern)
                (wheels / source.name).write_bytes(source.read_bytes())
        return self.start(pause=30)

    def test_two_at_once_make_it_once(self):
        first = self.start(pause=0.3)
        for line in first.stdout:
            if line.startswith("downloading"):
                break
        second = self.start(pause=0.3)
        outputs = [first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]]
        self.assertEqual((first.returncode, second.returncode), (0, 0), outputs)
        self.assertIn("another process is setting up libtorch: waiting for it", outputs[1])
        self.assertNotIn("downloading torch", outputs[1])
        self.assertTrue(all(output.rstrip().endswith(str(self.made)) for output in outputs), outputs)


class Speed(Setup):
    def test_it_is_quick_when_everything_is_there(self):
        folder = self.fake_libtorch()
        os.environ["LIBTORCH"] = str(folder)
        headers = self.cache / "cuda-include-13.0"
        for name in ("include/cuda_runtime_api.h", "include/crt/host_defines.h", "tickets-libtorch.json"):
            (headers / name).parent.mkdir(parents=True, exist_ok=True)
            (headers / name).write_text("{}")
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, str(SCRIPT)], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - start)
        # Measured 0.05 s; the bound leaves room for a slow, busy machine and still notices an `import torch`.
        self.assertLess(min(times), 1.0)


if __name__ == "__main__":
    unittest.main()
