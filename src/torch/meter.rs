//! Memory and operators of this process as they were used: for `bench`, and for the memory that a run reports.

use tch::Device;

use super::{TorchError, device, foreign};

/// The most memory that was used since the last reset, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// In tensors: as libtorch's allocators count, without what they keep for later. On a GPU without `libtickets_cuda.so` unknown.
    pub tensors: Option<u64>,
    /// Resident pages of the process, where the kernel says; on a GPU what its allocator held, kept blocks included.
    pub resident: Option<u64>,
}

/// Counts the memory of one device.
#[derive(Clone, Copy, Debug)]
pub struct Meter(Device);

impl Meter {
    /// Starts to count. Tensors of the CPU that were made before are not in it, so it comes before the model.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn new(device: Device) -> Result<Self, TorchError> {
        if !device.is_cuda() {
            foreign::count_cpu_bytes().map_err(|message| TorchError::Op { message })?;
        }
        Ok(Self(device))
    }

    /// Starts the peaks anew.
    pub fn reset(self) {
        if self.0.is_cuda() {
            device::reset_cuda_peak();
        } else {
            foreign::reset_cpu_peak();
            reset_resident();
        }
    }

    /// The most since the last reset.
    pub fn peak(self) -> Peak {
        if self.0.is_cuda() {
            let memory = device::cuda_memory();
            return Peak {
                tensors: memory.map(|memory| memory.allocated_peak),
                resident: memory.map(|memory| memory.reserved_peak),
            };
        }
        Peak { tensors: Some(foreign::cpu_bytes().1.max(0) as u64), resident: device::host_peak_bytes() }
    }
}

/// Has the kernel start the peak of resident memory anew; where it does not, the peak stays that of the whole process.
fn reset_resident() {
    let Ok(file) =
        rustix::fs::open("/proc/self/clear_refs", rustix::fs::OFlags::WRONLY, rustix::fs::Mode::empty())
    else {
        return;
    };
    // Not a file of the user's: a switch of the kernel (proc(5): 5 resets the peak).
    let _ = rustix::io::write(&file, b"5");
}

/// An operator of libtorch.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// As libtorch calls it.
    pub name: String,
    /// How often it was called.
    pub calls: u64,
    /// Time in it and in no operator that it called, in seconds.
    pub seconds: f64,
}

/// Times the operators that `body` calls; the longest come first.
///
/// # Errors
/// When libtorch refuses, or as `body`.
pub fn operators<T>(body: impl FnOnce() -> Result<T, TorchError>) -> Result<(T, Vec<Operator>), TorchError> {
    foreign::start_profile().map_err(|message| TorchError::Op { message })?;
    let result = body();
    let text = foreign::stop_profile();
    let row = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let (seconds, calls) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Operator { name: parts.next()?.to_owned(), calls, seconds })
    };
    Ok((result?, text.lines().filter_map(row).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn the_peak_is_that_of_what_lived_together() {
        let meter = Meter::new(Device::Cpu).unwrap();
        let zeros = |mib: i64| Tensor::zeros([mib << 18], (Kind::Float, Device::Cpu));
        let peak = || meter.peak().tensors.unwrap();
        let first = zeros(8);
        meter.reset();
        let before = peak();
        drop(zeros(16));
        drop(zeros(4));
        assert_eq!(peak() - before, 16 << 20);
        meter.reset();
        assert_eq!(peak(), before);
        drop(first);
        meter.reset();
        assert_eq!(before - peak(), 8 << 20);
    }

    #[test]
    fn operators_are_counted_by_name() {
        // One that no test beside this calls: operators of all threads are counted.
        let ((), found) = operators(|| {
            let ones = Tensor::f_ones([64, 64], (Kind::Float, Device::Cpu))?;
            for _ in 0..3 {
                let _ = ones.f_hypot(&ones)?;
            }
            Ok(())
        })
        .unwrap();
        let hypot = found.iter().find(|row| row.name == "aten::hypot").unwrap();
        assert!(hypot.calls == 3 && hypot.seconds > 0.0, "{found:?}");
        assert!(found.windows(2).all(|pair| pair[0].seconds >= pair[1].seconds));
    }
}
