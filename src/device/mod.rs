//! `--device` names → burn devices; which are compiled in, which are present, and what is missing.
//!
//! A name is a backend and the number of one of its devices: `flex`, `cuda`, `cuda:1`, `wgpu:0`. Several
//! names, with commas between, train together ([`open_all`]). `remote:HOST:PORT` is a device that another
//! process serves.
//!
//! Invariant: for every name the result is a device, or an error that says what is missing. Dependencies that
//! would panic are called behind a guard.

mod found;
#[cfg(feature = "remote")]
pub mod remote;

pub(crate) use found::has_own_memory;
pub use found::{Found, found};

use burn::tensor::{Device, Tensor};

use crate::{Error, Result, panics};

/// A backend this software can be built with.
#[derive(Debug)]
pub struct BackendInfo {
    /// Its name on the command line and its cargo feature.
    pub name: &'static str,
    /// What it runs on.
    pub what: &'static str,
    /// Whether this binary has it.
    pub compiled: bool,
    /// What it needs on the machine.
    pub needs: &'static str,
}

/// All backends, the fastest first; `remote` runs on what another process has.
#[rustfmt::skip] // a table
pub const BACKENDS: [BackendInfo; 8] = [
    BackendInfo { name: "cuda", what: "NVIDIA GPUs", compiled: cfg!(feature = "cuda"),
        needs: "an NVIDIA GPU with its driver (`nvidia-smi` lists both), and in a container `--gpus all`" },
    BackendInfo { name: "rocm", what: "AMD GPUs", compiled: cfg!(feature = "rocm"),
        needs: "an AMD GPU with the ROCm runtime (`rocminfo` lists both)" },
    BackendInfo { name: "metal", what: "Apple GPUs", compiled: cfg!(feature = "metal"),
        needs: "macOS on a machine with a Metal GPU" },
    BackendInfo { name: "vulkan", what: "GPUs through Vulkan", compiled: cfg!(feature = "vulkan"),
        needs: "a Vulkan driver (`vulkaninfo --summary` lists them)" },
    BackendInfo { name: "wgpu", what: "GPUs through WebGPU", compiled: cfg!(feature = "wgpu"),
        needs: "a Vulkan, Metal or DirectX 12 driver (`vulkaninfo --summary` lists the first)" },
    BackendInfo { name: "flex", what: "the CPU, pure Rust", compiled: cfg!(feature = "flex"),
        needs: "nothing" },
    BackendInfo { name: "tch", what: "the CPU through libtorch", compiled: cfg!(feature = "tch"),
        needs: "libtorch 2.9, which the program was linked with" },
    BackendInfo { name: "remote", what: "devices of other processes", compiled: cfg!(feature = "remote"),
        needs: "a server: `exalign serve-device` there, `--device remote:HOST:PORT` here" },
];

/// The device called `name`: `flex`, `cuda`, `cuda:1`, …
///
/// # Errors
/// If the name is unknown, its backend is not compiled in (the message has the cargo command) or
/// no such device is present (the message has what is needed).
pub fn open(name: &str) -> Result<Device> {
    let (backend, number) = name.split_once(':').unwrap_or((name, "0"));
    let info = compiled(backend, name)?;
    #[cfg(feature = "remote")]
    if backend == "remote" {
        return remote::connect(number);
    }
    let number: usize = number.parse().map_err(|_| {
        Error::usage(format!(
            "--device {name}: expected a number after the colon, found `{number}`"
        ))
    })?;
    let refuse = |problem: String| Error::usage(format!("--device {name}: {problem}"));
    let devices = present(info.name).map_err(refuse)?;
    let Some(device) = devices.get(number) else {
        return Err(refuse(match devices.len() {
            0 => format!("no device was found on this machine; {backend} needs {}", info.needs),
            1 => format!("expected 0, the only {backend} device here, found {number}"),
            count => format!(
                "expected a number below {count}, the {backend} devices here, found {number}"
            ),
        }));
    };
    try_out(device).map_err(refuse)?;
    Ok(device.clone())
}

/// The devices of a list such as `cuda:0,cuda:1`, on which one training runs together.
///
/// # Errors
/// Those of [`open`]; a list that names the same GPU twice.
pub fn open_all(list: &str) -> Result<Vec<Device>> {
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    for (i, name) in names.iter().enumerate() {
        let is_cpu = matches!(*name, "flex" | "tch");
        if !is_cpu && names[..i].contains(name) {
            return Err(Error::usage(format!(
                "--device {list}: expected different devices, found {name} twice; its second half would \
                 wait for its first"
            )));
        }
    }
    names.into_iter().map(open).collect()
}

/// The entry of `backend`, asked for by the device name `name`.
fn compiled(backend: &str, name: &str) -> Result<&'static BackendInfo> {
    let Some(info) = BACKENDS.iter().find(|info| info.name == backend) else {
        let known: Vec<&str> = BACKENDS.iter().map(|info| info.name).collect();
        return Err(Error::usage(format!(
            "--device {name}: expected one of {}, found `{backend}`",
            known.join(", ")
        )));
    };
    if info.compiled {
        Ok(info)
    } else {
        Err(Error::usage(format!(
            "--device {name}: this binary has no `{backend}`; build it with `cargo build --release --features {backend}`"
        )))
    }
}

/// The name of the fastest device that is there; a GPU emulated by the CPU only where nothing else
/// is.
///
/// # Errors
/// If there is none.
pub fn fastest() -> Result<String> {
    let compiled = || BACKENDS.iter().filter(|info| info.compiled && info.name != "remote");
    let named = |info: &BackendInfo| {
        let devices = present(info.name).unwrap_or_default().into_iter().enumerate();
        let name = info.name;
        devices.map(move |(number, device)| match number {
            0 => (name.to_owned(), device),
            _ => (format!("{name}:{number}"), device),
        })
    };
    let all: Vec<(String, Device)> = compiled().flat_map(named).collect();
    let hardware = all.iter().find(|(_, device)| !found::is_emulated(device));
    if let Some((name, _)) = hardware.or(all.first()) {
        return Ok(name.clone());
    }
    let problem = match compiled().map(|info| info.name).collect::<Vec<_>>().as_slice() {
        [] => "no backend is compiled in".to_owned(),
        names => format!("no device was found for {}", names.join(", ")),
    };
    Err(Error::usage(format!("{problem}; `cargo build --release --features flex` runs on any CPU")))
}

/// The devices of a backend on this machine, in the order of their numbers; none where it is not
/// compiled in.
///
/// # Errors
/// What is missing where there is a device that cannot be used.
pub fn present(backend: &str) -> Result<Vec<Device>, String> {
    let devices = guarded(|| list(backend))?;
    if backend == "cuda" && !devices.is_empty() {
        found::libdevice()?;
    }
    Ok(devices)
}

fn list(backend: &str) -> Vec<Device> {
    #[allow(unused_imports, reason = "what is used depends on the features")]
    use burn::tensor::DeviceType;
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => Device::enumerate(DeviceType::Cuda).into_iter().collect(),
        #[cfg(feature = "rocm")]
        "rocm" => Device::enumerate(DeviceType::Rocm).into_iter().collect(),
        #[cfg(feature = "metal")]
        "metal" => Device::enumerate(DeviceType::Metal).into_iter().collect(),
        #[cfg(feature = "vulkan")]
        "vulkan" => Device::enumerate(DeviceType::Vulkan).into_iter().collect(),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::enumerate(DeviceType::Wgpu).into_iter().collect(),
        #[cfg(feature = "tch")]
        #[allow(deprecated, reason = "burn 0.22 has it, and its successor is another crate")]
        "tch" => vec![Device::libtorch()],
        #[cfg(feature = "flex")]
        "flex" => vec![Device::flex()],
        _ => Vec::new(),
    }
}

/// Computes something small: a driver that is there but does not work says so now.
fn try_out(device: &Device) -> Result<(), String> {
    let sum = guarded(|| (Tensor::<1>::ones([2], device) * 2.0).sum().try_into_scalar::<f32>())?;
    match sum {
        Ok(4.0) => Ok(()),
        Ok(other) => Err(format!("the device says that 2 + 2 = {other}; its driver is broken")),
        Err(error) => Err(format!("the device cannot be used: {}", one_line(&error.to_string()))),
    }
}

/// Whether the CPU kernels of this crate run on `device`: they do on burn's Flex backend.
#[cfg(feature = "flex")]
pub fn has_kernels(device: &Device) -> bool {
    *device == Device::flex()
}

/// Whether the CPU kernels of this crate run on `device`: on none in a build without Flex.
#[cfg(not(feature = "flex"))]
pub fn has_kernels(_: &Device) -> bool {
    false
}

/// Bytes of shared memory that a cube of the kernels of GPUs has at most.
#[cfg(feature = "gpu-kernels")]
pub const GPU_SHARED_MEMORY: usize = 24 << 10;

/// Whether the kernels of GPUs of this crate run on `device`: they do where planes (warps, subgroups) have one size and
/// add up their units' numbers, and where a cube has the shared memory they use.
#[cfg(feature = "gpu-kernels")]
pub fn has_gpu_kernels(device: &Device) -> bool {
    use burn::backend::DispatchDevice;

    let device = device.clone().inner();
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => cube_has_gpu_kernels(device),
        _ => false,
    }
}

/// As [`has_gpu_kernels`], of a device of the runtime of GPUs.
#[cfg(feature = "gpu-kernels")]
pub fn cube_has_gpu_kernels(device: &burn::backend::CubeDevice) -> bool {
    use std::sync::{Mutex, PoisonError};

    use burn::backend::CubeDevice;
    use cubecl::features::Plane;

    static KNOWN: Mutex<Vec<(CubeDevice, bool)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, answer)) = known.iter().find(|(other, _)| other == device) {
        return *answer;
    }
    let client = device.client();
    let (hardware, features) = (&client.properties().hardware, &client.properties().features);
    let answer = features.plane.contains(Plane::Ops)
        && hardware.plane_size_min == hardware.plane_size_max
        && hardware.max_shared_memory_size >= GPU_SHARED_MEMORY;
    known.push((device.clone(), answer));
    answer
}

/// Runs what may panic in a driver, on any of its threads.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    panics::quietly_on_all_threads(work)
        .map_err(|panic| format!("the driver could not be started: {}", one_line(&panic)))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> String {
        open(name).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_backend_is_named_with_the_command_that_adds_it() {
        for missing in BACKENDS.iter().filter(|backend| !backend.compiled) {
            let name = match missing.name {
                "remote" => "remote:127.0.0.1:1",
                name => name,
            };
            let message = refusal(name);
            assert!(message.contains(&format!("--features {}", missing.name)), "{message}");
        }
    }

    #[test]
    fn a_backend_without_a_device_says_what_it_needs_and_does_not_panic() {
        for backend in BACKENDS.iter().filter(|it| it.compiled && it.name != "remote") {
            match present(backend.name) {
                Ok(devices) if devices.is_empty() => {
                    let message = refusal(backend.name);
                    assert!(message.contains(backend.needs), "{message}");
                }
                _ => drop(open(backend.name)),
            }
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = refusal("gpu");
        assert!(message.contains("cuda") && message.contains("flex"), "{message}");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn a_number_beyond_the_devices_and_a_wrong_number_are_refused() {
        insta::assert_snapshot!(refusal("flex:1"), @"--device flex:1: expected 0, the only flex device here, found 1");
        insta::assert_snapshot!(refusal("flex:one"), @"--device flex:one: expected a number after the colon, found `one`");
    }

    #[test]
    fn a_panic_becomes_a_message_on_one_line() {
        let message = guarded(|| -> () { panic!("no\n  driver") }).unwrap_err();
        assert_eq!(message, "the driver could not be started: no driver");
    }
}
