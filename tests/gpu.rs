//! What needs a GPU: `make test-gpu`, where the absence of one fails. `make test` runs the same tests and says loudly
//! that it skips them when there is none.
#![cfg(feature = "torch")]

use tch::{Device, Kind, Tensor};
use tickets::manifest::DeviceChoice;
use tickets::torch::device;

/// The GPU, or `None` after a loud line. With `TICKETS_REQUIRE_CUDA=1` its absence fails the test.
fn gpu(test: &str) -> Option<Device> {
    match device::choose(DeviceChoice::Cuda) {
        Ok(found) => Some(found),
        Err(error) if std::env::var("TICKETS_REQUIRE_CUDA").is_ok_and(|value| value == "1") => {
            panic!("{error}\nhint: {}", error.hint().unwrap_or_default())
        }
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            None
        }
    }
}

/// Values in [-1, 1) that a simple rule gives, the same on every device.
fn values(rows: i64, columns: i64) -> Tensor {
    let numbers: Vec<f32> =
        (0..rows * columns).map(|i| ((i * 7919 + 13) % 2000) as f32 / 1000.0 - 1.0).collect();
    Tensor::from_slice(&numbers).view([rows, columns])
}

/// The largest absolute difference of two tensors, wherever they live.
fn distance(left: &Tensor, right: &Tensor) -> f64 {
    let difference = left.to_device(Device::Cpu).to_kind(Kind::Double)
        - right.to_device(Device::Cpu).to_kind(Kind::Double);
    difference.abs().max().double_value(&[])
}

#[test]
fn opening_libtorch_cuda_registers_it_and_our_own_cuda_library_fits() {
    if let Err(error) = device::open_cuda() {
        assert!(std::env::var("TICKETS_REQUIRE_CUDA").is_err(), "{error}");
        eprintln!("SKIPPED opening libtorch_cuda: {error}");
        return;
    }
    // This needs no GPU, only the libraries: an unregistered CUDA would say that the operator does not exist for it.
    if let Err(error) = Tensor::f_zeros([1], (Kind::Float, Device::Cuda(0))) {
        let text = error.to_string().lines().next().unwrap_or_default().to_owned();
        eprintln!("no GPU: {text}");
        assert!(text.contains("driver") || text.contains("GPU") || text.contains("CUDA error"), "{text}");
    }
    assert_eq!(device::cuda_library_problem(), None);
}

#[test]
fn products_agree_with_the_cpu_to_float32() {
    let Some(cuda) = gpu("products") else { return };
    device::set_deterministic().unwrap();
    let (left, right) = (values(96, 512), values(512, 64));
    let on_cpu = left.to_kind(Kind::Double).matmul(&right.to_kind(Kind::Double));
    let on_gpu = left.to_device(cuda).matmul(&right.to_device(cuda));
    // 512 products of at most 1 and their sum: float32 is within 512 * 2^-24 = 3e-5 of the exact value, TF32 (10 bits
    // of mantissa) would be off by about sqrt(512) * 2^-11 = 1e-2.
    let off = distance(&on_cpu, &on_gpu);
    assert!(off < 2e-4, "off by {off}");
}

#[test]
fn sums_over_repeated_indices_repeat_to_the_bit() {
    let Some(cuda) = gpu("repeated indices") else { return };
    device::set_deterministic().unwrap();
    let source = values(4096, 16).to_device(cuda);
    let rows: Vec<i64> = (0..4096).map(|i| i % 7).collect();
    let index = Tensor::from_slice(&rows).to_device(cuda);
    let sum = || Tensor::zeros([7, 16], (Kind::Float, cuda)).index_add(0, &index, &source);
    let first = sum();
    for _ in 0..20 {
        assert!(first.equal(&sum()));
    }
}

#[test]
fn cumulative_sums_are_allowed_and_repeat_to_the_bit() {
    // The sampler draws by them. Earlier libtorch versions refused them under deterministic algorithms.
    let Some(cuda) = gpu("cumulative sums") else { return };
    device::set_deterministic().unwrap();
    for rows in [1, 64] {
        let mass = values(rows, 150_000).to_device(cuda).softmax(-1, Kind::Double);
        let first = mass.f_cumsum(-1, Kind::Double).unwrap();
        for _ in 0..20 {
            assert!(first.equal(&mass.f_cumsum(-1, Kind::Double).unwrap()));
        }
    }
}

#[test]
fn memory_of_the_gpu_is_counted() {
    let Some(cuda) = gpu("memory") else { return };
    let keep = Tensor::zeros([1 << 20], (Kind::Float, cuda));
    device::reset_cuda_peak();
    let before = device::cuda_memory().expect("libtickets_cuda.so is beside the test program");
    drop(Tensor::zeros([4 << 20], (Kind::Float, cuda)));
    let after = device::cuda_memory().expect("as before");
    assert!(before.allocated >= 4 << 20);
    assert!(after.allocated_peak >= before.allocated + (16 << 20));
    assert!(after.reserved_peak >= after.allocated_peak);
    drop(keep);
    let found = device::cuda_device(0).expect("there is a first GPU");
    assert!(!found.name.is_empty() && found.total_memory > 1 << 30, "{found:?}");
}
