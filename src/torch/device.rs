//! Devices and libtorch's global settings: what the file system and the loader know comes in, a `tch::Device` goes out.
//!
//! The binary is linked against the CPU libraries alone. CUDA registers itself when `libtorch_cuda.so` is opened, and
//! that must come before the first question to libtorch, which remembers the answer: so `choose` comes first in every
//! process that computes. What needs CUDA symbols is in `libtickets_cuda.so` (cuda_memory.cpp, cuda_graph.cpp), opened
//! after it.
//!
//! Invariant: once a question about CUDA has been answered, the answer stays for the life of the process.
//!
//! Source: libtorch 2.11.0, `ATen/Context.h` and `c10/cuda/CUDACachingAllocator.h`.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Cuda, Device, Kind, Tensor};
use thiserror::Error;

use super::foreign;
pub use super::foreign::{CudaDevice, CudaMemory};
use crate::exit::{Code, Failure};
use crate::manifest::DeviceChoice;

/// The variable that cuBLAS wants for products that come out the same each time, and its value. cuBLAS reads it from
/// the environment of the process, so whoever starts a worker sets it.
pub const CUBLAS_WORKSPACE: (&str, &str) = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8");

/// Blocks of memory whose pages are kept when they are freed, and how much of them, in bytes.
const BLOCK: i32 = 128 << 20;
const SLACK: i32 = 1 << 30;

/// Why a device, or a setting of libtorch, is not to be had.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// There is no `libtorch_cuda.so` on the loader's path, or one of the libraries that it needs is missing.
    #[error("CUDA is not usable: libtorch_cuda.so cannot be opened ({message})")]
    NoCudaLibrary {
        /// What the loader said.
        message: String,
    },
    /// There is no NVIDIA driver.
    #[error("CUDA is not usable: there is no NVIDIA driver ({message})")]
    NoDriver {
        /// What the loader said about `libcuda.so.1`.
        message: String,
    },
    /// The libraries and the driver are there, but no GPU answers.
    #[error("CUDA is not usable: no GPU answers ({message})")]
    NoGpu {
        /// What libtorch said.
        message: String,
    },
    /// cuBLAS would be free to choose algorithms that differ from call to call.
    #[error("{} is {found}, which lets cuBLAS sum in any order", CUBLAS_WORKSPACE.0)]
    Workspace {
        /// The value found, or "not set".
        found: String,
    },
    /// libtorch refused a setting.
    #[error("libtorch refused to {what}: {message}")]
    Setting {
        /// What was asked for.
        what: &'static str,
        /// What libtorch said.
        message: String,
    },
}

impl DeviceError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NoCudaLibrary { .. } => {
                "`pip install torch==2.11.0` and `make build` again (it finds the torch of python3), or put the \
                 `torch/lib` folder of such an install on LD_LIBRARY_PATH; device = \"cpu\" needs none of it"
            }
            Self::NoDriver { .. } => {
                "install the NVIDIA driver (in a container: pass the GPU in), or use device = \"cpu\""
            }
            Self::NoGpu { .. } => {
                "does `nvidia-smi` list a GPU, is the driver new enough for CUDA 13, and does CUDA_VISIBLE_DEVICES \
                 hide it? device = \"cpu\" goes without"
            }
            Self::Workspace { .. } => {
                return Some(format!("set {}={} in the environment", CUBLAS_WORKSPACE.0, CUBLAS_WORKSPACE.1));
            }
            Self::Setting { .. } => return None,
        };
        Some(text.to_owned())
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let hint = error.hint();
        Self::new(Code::Environment, error, hint)
    }
}

// --- Opening CUDA --------------------------------------------------------------------------------------------------

/// Opens `libtorch_cuda.so`, so that CUDA registers itself with libtorch. It is looked for on `LD_LIBRARY_PATH`, then
/// in the folder of the libtorch that the program was built against. Later calls repeat the first answer.
///
/// Must come before the first question to libtorch: `choose` sees to that.
///
/// # Errors
/// `NoCudaLibrary` when the loader does not find it or something that it needs.
pub fn open_cuda() -> Result<(), DeviceError> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    let opened = OPENED.get_or_init(|| foreign::open_for_all("libtorch_cuda.so"));
    opened.clone().map_err(|message| DeviceError::NoCudaLibrary { message })
}

/// Whether an NVIDIA driver is there; cheap, and without a word to libtorch.
///
/// # Errors
/// `NoDriver` when its library cannot be opened.
pub fn find_driver() -> Result<(), DeviceError> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| foreign::open_apart("libcuda.so.1"));
    found.clone().map_err(|message| DeviceError::NoDriver { message })
}

/// Asks for a GPU step by step, and says which step failed.
///
/// # Errors
/// `NoDriver`, `NoCudaLibrary` or `NoGpu`: the first step that failed.
pub fn probe_cuda() -> Result<(), DeviceError> {
    // The driver comes first: opening libtorch_cuda.so takes a second or more, and is in vain without one.
    find_driver()?;
    open_cuda()?;
    if Cuda::device_count() > 0 {
        return Ok(());
    }
    // The count alone does not say why it is 0; the first use does.
    let message = match Tensor::f_zeros([1], (Kind::Float, Device::Cuda(0))) {
        Ok(_) => "the device count is 0".to_owned(),
        Err(error) => first_line(&error.to_string()),
    };
    Err(DeviceError::NoGpu { message })
}

/// The device of this process. Call it before anything else of libtorch.
///
/// `Auto` takes the first GPU if there is one that works, else the CPU.
///
/// # Errors
/// For `Cuda`, what `probe_cuda` found. When a GPU is taken, `Workspace` if cuBLAS is not set up to repeat itself.
pub fn choose(choice: DeviceChoice) -> Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Cpu => return Ok(Device::Cpu),
        DeviceChoice::Auto if probe_cuda().is_err() => return Ok(Device::Cpu),
        DeviceChoice::Auto => {}
        DeviceChoice::Cuda => probe_cuda()?,
    }
    let found = std::env::var(CUBLAS_WORKSPACE.0).unwrap_or_else(|_| "not set".to_owned());
    if found != CUBLAS_WORKSPACE.1 && found != ":16:8" {
        return Err(DeviceError::Workspace { found });
    }
    IN_USE.store(true, Ordering::Relaxed);
    Ok(Device::Cuda(0))
}

/// Whether a process started with this choice would take a GPU. For the process that only starts others: it needs no
/// setting of cuBLAS, and its own `cuda_memory` stays `None`.
pub fn would_use_cuda(choice: DeviceChoice) -> bool {
    choice != DeviceChoice::Cpu && probe_cuda().is_ok()
}

/// Whether `choose` has taken a GPU: a process that works on the CPU never opens CUDA for the sake of its figures.
static IN_USE: AtomicBool = AtomicBool::new(false);

// --- Settings of libtorch ------------------------------------------------------------------------------------------

/// Makes libtorch repeat itself bit for bit, or fail where it cannot: deterministic algorithms on, TF32 and reduced
/// precision sums off, no kernels chosen by the clock. For the CPU too, where an accumulating `index_put` would
/// otherwise add in any order.
///
/// # Errors
/// `Setting` when libtorch refuses.
pub fn set_deterministic() -> Result<(), DeviceError> {
    accepted("use deterministic algorithms", foreign::set_deterministic(true))?;
    accepted("switch TF32 off", foreign::set_full_precision())
}

/// Keeps the pages that a step frees for the next one: new ones cost about a twentieth of a step on the CPU.
pub fn keep_pages() {
    foreign::keep_pages(BLOCK, SLACK);
}

fn accepted<T>(what: &'static str, answer: Result<T, String>) -> Result<T, DeviceError> {
    answer.map_err(|message| DeviceError::Setting { what, message: first_line(&message) })
}

/// The settings as libtorch holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent switches of libtorch")]
pub struct Settings {
    /// Deterministic algorithms, an error where there is none.
    pub deterministic: bool,
    /// TF32 in matrix products.
    pub tf32_matmul: bool,
    /// TF32 in cuDNN.
    pub tf32_cudnn: bool,
    /// cuDNN picks kernels by the clock.
    pub benchmark: bool,
}

/// Reads the settings back.
///
/// # Errors
/// `Setting` when libtorch refuses.
pub fn settings() -> Result<Settings, DeviceError> {
    let bits = accepted("state its settings", foreign::settings())?;
    Ok(Settings {
        deterministic: bits & 1 != 0,
        tf32_matmul: bits & 2 != 0,
        tf32_cudnn: bits & 4 != 0,
        benchmark: bits & 8 != 0,
    })
}

// --- What is loaded, and what it uses ------------------------------------------------------------------------------

/// The libtorch that this process has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// Its version, such as `2.11.0`.
    pub version: String,
    /// The vector instructions that it uses on this processor, such as `AVX512`.
    pub cpu_capability: String,
    /// The folder that `libtorch_cpu.so` was loaded from.
    pub folder: Option<PathBuf>,
}

/// Describes the libtorch that this process has loaded. It asks libtorch about CUDA, so `choose` or `open_cuda` comes
/// before it.
pub fn libtorch() -> Libtorch {
    let text = foreign::build_text();
    let after = |mark: &str| {
        let rest = &text[text.find(mark)? + mark.len()..];
        rest.split([',', '\n']).next().map(|value| value.trim().to_owned())
    };
    Libtorch {
        version: after("TORCH_VERSION=").unwrap_or_else(|| "unknown".to_owned()),
        cpu_capability: after("CPU capability: ").unwrap_or_else(|| "unknown".to_owned()),
        folder: loaded_from("libtorch_cpu.so"),
    }
}

/// The folder from which this process has loaded a library, as the kernel lists it.
pub fn loaded_from(library: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.find('/').map(|start| PathBuf::from(&line[start..])));
    path.filter(|path| path.file_name().is_some_and(|name| name == library))
        .find_map(|path| path.parent().map(PathBuf::from))
}

/// The model of this machine's processor: libtorch chooses its kernels by it, so sums differ between two of them.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

/// The most memory that this process has had resident, in bytes; `None` where the kernel does not say.
pub fn host_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn cuda_library() -> Result<&'static foreign::CudaLibrary, String> {
    open_cuda().map_err(|error| error.to_string())?;
    foreign::cuda_library().map_err(str::to_owned)
}

/// Why the figures of GPU memory are not to be had; `None` when they are. Opens CUDA.
pub fn cuda_library_problem() -> Option<String> {
    cuda_library().err()
}

/// GPU memory of this process; `None` when `choose` has not taken a GPU, or there is no `libtickets_cuda.so`.
pub fn cuda_memory() -> Option<CudaMemory> {
    if !IN_USE.load(Ordering::Relaxed) {
        return None;
    }
    cuda_library().ok()?.memory(0).ok()
}

/// Starts the peaks of `cuda_memory` anew. Nothing happens where that gives `None`.
pub fn reset_cuda_peak() {
    if IN_USE.load(Ordering::Relaxed)
        && let Ok(library) = cuda_library()
    {
        // It refuses before the first tensor is on the GPU; the peak is 0 then.
        let _ = library.reset_peak(0);
    }
}

/// How many GPUs there are. Opens CUDA.
pub fn cuda_count() -> usize {
    if probe_cuda().is_ok() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 }
}

/// Describes a GPU; `None` when there is none by that number, or no `libtickets_cuda.so`. Opens CUDA.
pub fn cuda_device(index: usize) -> Option<CudaDevice> {
    if index >= cuda_count() {
        return None;
    }
    cuda_library().ok()?.device(i32::try_from(index).ok()?).ok()
}

/// Exceptions of libtorch carry a stack trace below their first line.
fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deterministic_means_no_tf32_and_no_benchmark() {
        set_deterministic().unwrap();
        let expected =
            Settings { deterministic: true, tf32_matmul: false, tf32_cudnn: false, benchmark: false };
        assert_eq!(settings().unwrap(), expected);
    }

    #[test]
    fn an_operation_without_a_deterministic_form_is_an_error_that_says_so() {
        set_deterministic().unwrap();
        let mut target = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        let (index, source) = (Tensor::from_slice(&[0i64, 0]), Tensor::from_slice(&[1.0f32, 2.0]));
        let error = target.f_put_(&index, &source, false).unwrap_err().to_string();
        assert!(error.contains("does not have a deterministic implementation"), "{error}");
    }

    #[test]
    fn the_loaded_libtorch_is_the_one_this_was_written_for() {
        let found = libtorch();
        assert_eq!(found.version, "2.11.0");
        assert!(found.folder.unwrap().join("libtorch_cpu.so").exists());
        assert_ne!(found.cpu_capability, "unknown");
    }

    #[test]
    fn the_peak_covers_what_was_touched() {
        let bytes = 64 << 20;
        let block = vec![1u8; bytes];
        std::hint::black_box(&block);
        assert!(host_peak_bytes().unwrap() >= bytes as u64);
    }

    #[test]
    fn the_cpu_is_always_there_and_auto_never_fails_without_a_gpu() {
        assert_eq!(choose(DeviceChoice::Cpu).unwrap(), Device::Cpu);
        if probe_cuda().is_err() {
            assert_eq!(choose(DeviceChoice::Auto).unwrap(), Device::Cpu);
        }
    }

    #[test]
    fn cuda_that_is_absent_is_an_error_with_advice() {
        if let Err(error) = probe_cuda() {
            let asked = choose(DeviceChoice::Cuda).unwrap_err();
            assert_eq!(asked.to_string(), error.to_string());
            assert!(asked.to_string().starts_with("CUDA is not usable: "));
            assert!(asked.hint().unwrap().contains("device = \"cpu\""));
            assert_eq!(Failure::from(asked).code, Code::Environment);
            assert_eq!(cuda_memory(), None);
        }
    }

    #[test]
    fn a_message_is_cut_at_the_stack_trace() {
        assert_eq!(first_line("\n  Found no driver.\nException raised from f at x.cpp"), "Found no driver.");
        assert_eq!(first_line(""), "");
    }
}
