//! Measures the peak performance of an adapter: how fast it multiplies in registers, and how fast it copies memory.

use super::device::Device;
use super::kernel::{EntryPoint, Kernel, Kernels, READ_WRITE, params, slot};
use super::shaders;
use crate::error::{Error, Result};
use serde::Serialize;
use web_time::Instant;
use wgpu::BufferUsages;

/// The best of several measurements.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Peak {
    /// Billions of f32 operations per second; a multiply-add is two operations.
    pub gflops: f64,
    /// Gigabytes per second of a copy; bytes that are read and bytes that are written both count.
    pub copy_gb_s: f64,
}

params! {
    /// The `Params` of `peak.wgsl`.
    Params {
        rounds: u32,
        count: u32,
        factor: f32,
        summand: f32,
    }
}

const fn entry(name: &'static str) -> EntryPoint {
    EntryPoint { name, shader: &shaders::PEAK, bindings: READ_WRITE, per_workgroup: THREADS as usize }
}

static MULTIPLY: EntryPoint = entry("multiply");
static COPY: EntryPoint = entry("copy");

/// The number of bytes that are copied: more than caches hold, and no more than every device can bind.
const BYTES: u64 = 128 << 20;
/// The number of workgroups of the multiplication: several for every core of any GPU.
const GROUPS: u32 = 4096;
const THREADS: u32 = 256;
/// The number of multiply-adds of a thread in each round.
const CHAINS: f64 = 32.0;
/// The shortest time of a submit, in seconds, for which its overhead is negligible.
const MIN_SECONDS: f64 = 0.02;

/// The number of vectors of four with which each kernel is checked before it is measured.
const CHECKED: usize = 4 * THREADS as usize;
/// The number of rounds of multiply-adds in the check.
const ROUNDS: u32 = 3;
const FACTOR: f32 = 0.999;
const SUMMAND: f32 = 0.001;

/// Measures an adapter, which takes about a second. Fails with [`Error::Gpu`] if the kernels compute wrong values.
pub async fn measure(device: &Device, kernels: &Kernels) -> Result<Peak> {
    let (made, errors) = device.scoped(|| {
        let buffer = || device.buffer("peak", BYTES, BufferUsages::STORAGE);
        (kernels.get(device, &MULTIPLY), kernels.get(device, &COPY), buffer(), buffer())
    });
    let (multiply, copy, from, to) = &made;
    errors.result().await?;
    check(device, multiply, copy).await?;
    let count = (BYTES / 16) as u32;
    // The seconds of one dispatch: the shortest of several submits, each with enough dispatches to last
    // [`MIN_SECONDS`].
    let time = async |kernel: &Kernel, rounds: u32, grid: [u32; 3]| {
        let params = Params { rounds, count, factor: FACTOR, summand: SUMMAND };
        let uniforms = device.filled("peak", &slot(&params), BufferUsages::UNIFORM);
        let bound = kernel.bind(device, &uniforms, 0, &[from, to]);
        let run = async |dispatches: u32| {
            let start = Instant::now();
            let ((), errors) = device.scoped(|| {
                let mut encoder = device.encoder();
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                (0..dispatches).for_each(|_| kernel.dispatch_unread(&mut pass, &bound, grid));
                drop(pass);
                device.submit(encoder);
            });
            device.finished().await?;
            errors.result().await?;
            Ok::<_, Error>(start.elapsed().as_secs_f64())
        };
        let mut dispatches = 1;
        let mut shortest = run(1).await?;
        while shortest < MIN_SECONDS && dispatches < 1 << 12 {
            dispatches *= 2;
            shortest = run(dispatches).await?;
        }
        for _ in 0..4 {
            shortest = shortest.min(run(dispatches).await?);
        }
        Ok::<_, Error>(shortest / f64::from(dispatches))
    };
    // Enough rounds for the start and the end of a dispatch to be negligible.
    let rounds = 512;
    let multiplied = time(multiply, rounds, [GROUPS, 1, 1]).await?;
    let copied = time(copy, 0, copy.grid(count as usize)).await?;
    [from, to].into_iter().for_each(wgpu::Buffer::destroy);
    let flops = f64::from(GROUPS) * f64::from(THREADS) * f64::from(rounds) * CHAINS * 2.0;
    Ok(Peak { gflops: flops / multiplied / 1e9, copy_gb_s: 2.0 * BYTES as f64 / copied / 1e9 })
}

/// Runs both kernels on few values, and compares the results with the expected values.
async fn check(device: &Device, multiply: &Kernel, copy: &Kernel) -> Result<()> {
    let input: Vec<f32> = (0..CHECKED * 4).map(|i| i as f32).collect();
    let from = device.filled("peak", &input, BufferUsages::STORAGE);
    let params = Params { rounds: ROUNDS, count: CHECKED as u32, factor: FACTOR, summand: SUMMAND };
    let uniforms = device.filled("peak", &slot(&params), BufferUsages::UNIFORM);
    let run = async |kernel: &Kernel| {
        let (to, errors) = device.scoped(|| {
            let to = device.buffer("peak", CHECKED as u64 * 16, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            let bound = kernel.bind(device, &uniforms, 0, &[&from, &to]);
            let mut encoder = device.encoder();
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            kernel.dispatch(&mut pass, &bound, kernel.grid(CHECKED));
            drop(pass);
            device.submit(encoder);
            to
        });
        let values = device.values(&to).await;
        errors.result().await?;
        values
    };
    let (multiplied, copied) = (run(multiply).await?, run(copy).await?);
    let wrong = |what: &str| Err(Error::Gpu(format!("it {what} wrongly: how fast it is says nothing")));
    let chain = |first: usize| (0..ROUNDS).fold(first as f32, |value, _| value.mul_add(FACTOR, SUMMAND));
    let right = |(i, &value): (usize, &f32)| {
        let expected: f32 = (0..8).map(|at| chain(i / 4 + at)).sum();
        (value - expected).abs() <= 1e-5 * expected
    };
    if multiplied.len() != input.len() || !multiplied.iter().enumerate().all(right) {
        return wrong("multiplies");
    }
    if copied != input { wrong("copies") } else { Ok(()) }
}
