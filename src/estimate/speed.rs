//! How fast a device is, before anything has been measured on it.

use crate::manifest::Dtype;

use super::cost::Cost;

/// Rates of a device. A [`super::Correction`] says by how much measured runs differ from them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Whether it is a GPU, where operations are begun while earlier ones run.
    pub cuda: bool,
    /// Operations of matrix products per second, float32.
    pub flops: f64,
    /// The same in bfloat16.
    pub flops_bfloat16: f64,
    /// Bytes per second of memory traffic.
    pub bytes: f64,
    /// Seconds to begin one operation.
    pub call: f64,
    /// Bytes per second of the disk, written to last.
    pub disk: f64,
    /// Seconds to start a worker and load libtorch.
    pub startup: f64,
}

impl Speed {
    /// A device of ordinary speed.
    ///
    /// - CPU, per thread: 50 GFLOP/s, 8 GB/s, 3 microseconds per operation; threads count by their power of 0.85 for
    ///   products and of 0.6 for traffic. Chosen on the runs of `manifests/quickstart.toml`, one thread
    ///   each, between a processor of 2017 and one with AVX-512.
    /// - CUDA: of an H100 at about a third of its peak, 20 TFLOP/s in float32 (TF32 is off), 250 in bfloat16, 1.5 TB/s, 10
    ///   microseconds per operation. Not measured yet.
    pub fn nominal(cuda: bool, threads: u32) -> Self {
        if cuda {
            return Self {
                cuda,
                flops: 2e13,
                flops_bfloat16: 2.5e14,
                bytes: 1.5e12,
                call: 1e-5,
                disk: 1e9,
                startup: 8.0,
            };
        }
        let threads = f64::from(threads.max(1));
        let flops = 5e10 * threads.powf(0.85);
        Self {
            cuda,
            flops,
            flops_bfloat16: flops,
            bytes: 8e9 * threads.powf(0.6),
            call: 3e-6,
            disk: 5e8,
            startup: 0.5,
        }
    }

    /// Seconds that a cost takes: products, then traffic, then operations. A GPU begins operations while others run, so
    /// that only the slower of the two counts.
    pub fn seconds(&self, cost: Cost, dtype: Dtype) -> f64 {
        let rate = match dtype {
            Dtype::Float32 => self.flops,
            Dtype::Bfloat16 => self.flops_bfloat16,
        };
        let (work, calls) = (cost.flops / rate + cost.bytes / self.bytes, cost.calls * self.call);
        if self.cuda { work.max(calls) } else { work + calls }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_add_on_a_cpu_and_overlap_on_a_gpu() {
        let speed = Speed {
            cuda: false,
            flops: 10.0,
            flops_bfloat16: 20.0,
            bytes: 5.0,
            call: 0.5,
            disk: 1.0,
            startup: 0.0,
        };
        let cost = Cost { flops: 40.0, bytes: 10.0, calls: 2.0 };
        assert_eq!(speed.seconds(cost, Dtype::Float32), 4.0 + 2.0 + 1.0);
        assert_eq!(speed.seconds(cost, Dtype::Bfloat16), 2.0 + 2.0 + 1.0);
        let cuda = Speed { cuda: true, ..speed };
        assert_eq!(cuda.seconds(cost, Dtype::Float32), 6.0);
        assert_eq!(cuda.seconds(Cost { calls: 20.0, ..cost }, Dtype::Float32), 10.0);
    }

    #[test]
    fn threads_help_and_never_as_much_as_their_number() {
        let (one, four) = (Speed::nominal(false, 1), Speed::nominal(false, 4));
        assert!(four.flops > 2.0 * one.flops && four.flops < 4.0 * one.flops);
        assert!(four.bytes > one.bytes && four.bytes < 4.0 * one.bytes);
        assert_eq!(Speed::nominal(false, 0), one);
    }
}
