//! The C side: opening shared libraries for good, and safe calls to shim.cpp and cuda_memory.cpp.
//!
//! Names and plain numbers come in; values, or what the other side said, go out. Invariant: this is the only file with
//! unsafe code, and no C++ exception crosses into it, since every C function catches its own.
#![expect(unsafe_code, reason = "opens shared libraries and calls the C functions of the shim")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

use super::TorchError;

/// The library with what needs symbols of libtorch_cuda, built from cuda_memory.cpp and cuda_graph.cpp.
const CUDA_LIBRARY: &str = "libtickets_cuda.so";

// --- Libraries -----------------------------------------------------------------------------------------------------

/// Opens a library; the text of an error is the loader's own.
fn open(name: &str, flags: c_int) -> Result<Library, String> {
    // SAFETY: the libraries named here are libtorch's, the driver's and our own; their initialisers run once, as they
    // would at the start of the process.
    unsafe { Library::open(Some(name), flags) }.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_else(|| error.to_string())
    })
}

/// Opens a library for good and makes its symbols, and those of what it needs, known to libraries opened later. It is
/// never closed, since libtorch keeps pointers into it.
pub(super) fn open_for_all(name: &str) -> Result<(), String> {
    open(name, RTLD_NOW | RTLD_GLOBAL).map(std::mem::forget)
}

/// Opens a library for good and keeps its symbols to itself.
pub(super) fn open_apart(name: &str) -> Result<(), String> {
    open(name, RTLD_NOW | RTLD_LOCAL).map(std::mem::forget)
}

// --- shim.cpp, linked in -------------------------------------------------------------------------------------------

unsafe extern "C" {
    fn tickets_free(message: *mut c_char);
    fn tickets_set_deterministic(on: c_int) -> *mut c_char;
    fn tickets_set_full_precision() -> *mut c_char;
    fn tickets_settings(bits: *mut c_int) -> *mut c_char;
    fn tickets_build_text() -> *mut c_char;
    fn tickets_keep_pages(block: c_int, slack: c_int);
}

/// Takes over a text that the C side made; null is `None`.
fn take_text(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the C side returns null or a string from malloc that ends in a zero byte; it is freed once, here.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        tickets_free(text);
        Some(copy)
    }
}

fn checked(text: *mut c_char) -> Result<(), String> {
    take_text(text).map_or(Ok(()), Err)
}

/// Deterministic algorithms, or an error where there is none.
pub(super) fn set_deterministic(on: bool) -> Result<(), String> {
    // SAFETY: takes a plain number.
    checked(unsafe { tickets_set_deterministic(c_int::from(on)) })
}

/// TF32 and reduced-precision sums off.
pub(super) fn set_full_precision() -> Result<(), String> {
    // SAFETY: takes nothing.
    checked(unsafe { tickets_set_full_precision() })
}

/// Pages that are freed are kept for what comes next: blocks up to `block` bytes, and `slack` bytes beyond what is in use.
pub(super) fn keep_pages(block: i32, slack: i32) {
    // SAFETY: takes plain numbers.
    unsafe { tickets_keep_pages(block, slack) }
}

/// The settings as bits, in the order that shim.cpp states.
pub(super) fn settings() -> Result<c_int, String> {
    let mut bits: c_int = 0;
    // SAFETY: the pointer is to a live integer.
    checked(unsafe { tickets_settings(&raw mut bits) })?;
    Ok(bits)
}

/// libtorch's description of itself.
pub(super) fn build_text() -> String {
    // SAFETY: takes nothing.
    take_text(unsafe { tickets_build_text() }).unwrap_or_default()
}

// --- meter.cpp, linked in ------------------------------------------------------------------------------------------

unsafe extern "C" {
    fn tickets_count_cpu_bytes() -> *mut c_char;
    fn tickets_cpu_bytes(now: *mut i64, most: *mut i64);
    fn tickets_reset_cpu_peak();
    fn tickets_profile_start() -> *mut c_char;
    fn tickets_profile_stop() -> *mut c_char;
}

/// From now on the bytes of CPU tensors that this thread makes and drops are counted.
pub(super) fn count_cpu_bytes() -> Result<(), String> {
    // SAFETY: takes nothing.
    checked(unsafe { tickets_count_cpu_bytes() })
}

/// Bytes in counted CPU tensors now, and the most since the last reset.
pub(super) fn cpu_bytes() -> (i64, i64) {
    let (mut now, mut most) = (0, 0);
    // SAFETY: both pointers are to live integers.
    unsafe { tickets_cpu_bytes(&raw mut now, &raw mut most) };
    (now, most)
}

/// Starts the most bytes anew.
pub(super) fn reset_cpu_peak() {
    // SAFETY: takes nothing.
    unsafe { tickets_reset_cpu_peak() }
}

/// Times operators from now on.
pub(super) fn start_profile() -> Result<(), String> {
    // SAFETY: takes nothing; no other thread of this program uses libtorch.
    checked(unsafe { tickets_profile_start() })
}

/// Ends the timing: lines of seconds, calls and name.
pub(super) fn stop_profile() -> String {
    // SAFETY: as above.
    take_text(unsafe { tickets_profile_stop() }).unwrap_or_default()
}

// --- libtickets_cuda.so, opened after libtorch_cuda.so --------------------------------------------------------------

/// Bytes of GPU memory, as the caching allocator counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CudaMemory {
    /// In tensors now.
    pub allocated: u64,
    /// The most in tensors since the start or the last reset.
    pub allocated_peak: u64,
    /// Held by the allocator now, free blocks included.
    pub reserved: u64,
    /// The most held since the start or the last reset.
    pub reserved_peak: u64,
}

#[repr(C)]
struct RawDevice {
    name: [c_char; 256],
    total_memory: u64,
    capability_major: i32,
    capability_minor: i32,
    multiprocessors: i32,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaDevice {
    /// As the driver names it.
    pub name: String,
    /// All of its memory, in bytes.
    pub total_memory: u64,
    /// Compute capability, such as (9, 0).
    pub capability: (i32, i32),
    /// Streaming multiprocessors.
    pub multiprocessors: i32,
}

/// The functions of `libtickets_cuda.so`.
pub(super) struct CudaLibrary {
    memory: unsafe extern "C" fn(c_int, *mut CudaMemory) -> *mut c_char,
    reset_peak: unsafe extern "C" fn(c_int) -> *mut c_char,
    device: unsafe extern "C" fn(c_int, *mut RawDevice) -> *mut c_char,
    graphs: Graphs,
}

/// Those of cuda_graph.cpp.
struct Graphs {
    own_stream: unsafe extern "C" fn(c_int) -> *mut c_char,
    begin: unsafe extern "C" fn(*mut *mut c_void) -> *mut c_char,
    end: unsafe extern "C" fn(*mut c_void) -> *mut c_char,
    replay: unsafe extern "C" fn(*mut c_void) -> *mut c_char,
    drop: unsafe extern "C" fn(*mut c_void),
}

/// The library, opened at the first call; later calls repeat the answer. Call it after libtorch_cuda.so was opened.
pub(super) fn cuda_library() -> Result<&'static CudaLibrary, &'static str> {
    static LIBRARY: OnceLock<Result<CudaLibrary, String>> = OnceLock::new();
    LIBRARY.get_or_init(open_cuda_library).as_ref().map_err(String::as_str)
}

/// Where it may be: beside the program, one folder up (test programs are in `deps/`), or wherever the loader looks.
fn open_cuda_library() -> Result<CudaLibrary, String> {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.ancestors().skip(1).take(2).map(|folder| folder.join(CUDA_LIBRARY));
    let there = beside.filter(|path| path.exists()).find_map(|path| path.to_str().map(str::to_owned));
    let path = there.unwrap_or_else(|| CUDA_LIBRARY.to_owned());
    let library = open(&path, RTLD_NOW | RTLD_LOCAL)?;
    // SAFETY: cuda_memory.cpp and cuda_graph.cpp declare these functions with these types.
    let found = unsafe {
        (
            library.get(b"tickets_cuda_memory\0").map(|symbol| *symbol),
            library.get(b"tickets_cuda_reset_peak\0").map(|symbol| *symbol),
            library.get(b"tickets_cuda_device\0").map(|symbol| *symbol),
            library.get(b"tickets_cuda_own_stream\0").map(|symbol| *symbol),
            library.get(b"tickets_cuda_graph_begin\0").map(|symbol| *symbol),
            library.get(b"tickets_cuda_graph_end\0").map(|symbol| *symbol),
            library.get(b"tickets_cuda_graph_replay\0").map(|symbol| *symbol),
            library.get(b"tickets_cuda_graph_drop\0").map(|symbol| *symbol),
        )
    };
    let (Ok(memory), Ok(reset_peak), Ok(device), Ok(own_stream), Ok(begin), Ok(end), Ok(replay), Ok(drop)) =
        found
    else {
        return Err(format!("{path} is of another version: it lacks a function"));
    };
    std::mem::forget(library);
    Ok(CudaLibrary { memory, reset_peak, device, graphs: Graphs { own_stream, begin, end, replay, drop } })
}

impl CudaLibrary {
    /// GPU memory of a device.
    pub(super) fn memory(&self, device: c_int) -> Result<CudaMemory, String> {
        let mut memory = CudaMemory::default();
        // SAFETY: the pointer is to a live value of the layout that cuda_memory.cpp fills.
        checked(unsafe { (self.memory)(device, &raw mut memory) })?;
        Ok(memory)
    }

    /// This thread's work goes to a stream of its own from now on.
    pub(super) fn own_stream(&self, device: c_int) -> Result<(), String> {
        // SAFETY: takes a plain number.
        checked(unsafe { (self.graphs.own_stream)(device) })
    }

    /// Starts the peaks anew.
    pub(super) fn reset_peak(&self, device: c_int) -> Result<(), String> {
        // SAFETY: takes a plain number.
        checked(unsafe { (self.reset_peak)(device) })
    }

    /// Describes a device.
    pub(super) fn device(&self, index: c_int) -> Result<CudaDevice, String> {
        let mut raw = RawDevice {
            name: [0; 256],
            total_memory: 0,
            capability_major: 0,
            capability_minor: 0,
            multiprocessors: 0,
        };
        // SAFETY: the pointer is to a live value of the layout that cuda_memory.cpp fills.
        checked(unsafe { (self.device)(index, &raw mut raw) })?;
        // SAFETY: the C side leaves the last byte of the name zero.
        let name = unsafe { CStr::from_ptr(raw.name.as_ptr()) }.to_string_lossy().into_owned();
        Ok(CudaDevice {
            name,
            total_memory: raw.total_memory,
            capability: (raw.capability_major, raw.capability_minor),
            multiprocessors: raw.multiprocessors,
        })
    }
}

/// Work of a GPU that was recorded, to be told to it again at once.
pub(super) struct CudaGraph {
    graph: *mut c_void,
    library: &'static CudaLibrary,
}

impl CudaGraph {
    /// Records what `body` would do; nothing of it is done. This thread must have a stream of its own.
    pub(super) fn record(body: impl FnOnce() -> Result<(), TorchError>) -> Result<Self, TorchError> {
        let refused = |message: String| TorchError::Op { message: format!("record a CUDA graph: {message}") };
        let library = cuda_library().map_err(|message| refused(message.to_owned()))?;
        let mut graph = std::ptr::null_mut();
        // SAFETY: the pointer is to a live pointer, which is set when there is no message.
        checked(unsafe { (library.graphs.begin)(&raw mut graph) }).map_err(refused)?;
        let recorded = Self { graph, library };
        let told = body();
        // SAFETY: the graph was begun, and is ended once, whatever came of the body.
        let ended = checked(unsafe { (library.graphs.end)(graph) });
        // A recording that was not ended leaves the allocator as it is during one: this process can do no more. So this is told first, and
        // in words that no one takes for a lack of memory.
        if ended.is_err() {
            let message = "a CUDA graph could not be ended: set `exec.cuda_graphs` = false";
            return Err(TorchError::Op { message: message.into() });
        }
        told?;
        Ok(recorded)
    }

    /// Does all of it.
    pub(super) fn replay(&self) -> Result<(), TorchError> {
        // SAFETY: the graph was recorded and lives.
        let answer = checked(unsafe { (self.library.graphs.replay)(self.graph) });
        answer.map_err(|message| TorchError::Op { message: format!("replay a CUDA graph: {message}") })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: it is dropped once.
        unsafe { (self.library.graphs.drop)(self.graph) }
    }
}
