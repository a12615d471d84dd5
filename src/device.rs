//! `--device` names → burn devices; what is compiled in and what is present.

use burn::tensor::Device;

use crate::{Error, Result};

/// A backend this software can be built with.
#[derive(Debug)]
pub struct BackendInfo {
    /// Its name on the command line and its cargo feature.
    pub name: &'static str,
    /// What it runs on.
    pub what: &'static str,
    /// Whether this binary has it.
    pub compiled: bool,
}

/// All backends, the fastest first.
pub const BACKENDS: [BackendInfo; 7] = [
    BackendInfo { name: "cuda", what: "NVIDIA GPUs", compiled: cfg!(feature = "cuda") },
    BackendInfo { name: "rocm", what: "AMD GPUs", compiled: cfg!(feature = "rocm") },
    BackendInfo { name: "metal", what: "Apple GPUs", compiled: cfg!(feature = "metal") },
    BackendInfo { name: "vulkan", what: "GPUs through Vulkan", compiled: cfg!(feature = "vulkan") },
    BackendInfo { name: "wgpu", what: "GPUs through WebGPU", compiled: cfg!(feature = "wgpu") },
    BackendInfo { name: "tch", what: "the CPU through libtorch", compiled: cfg!(feature = "tch") },
    BackendInfo { name: "flex", what: "the CPU, pure Rust", compiled: cfg!(feature = "flex") },
];

/// The device called `name` (`flex`, `cuda`, `cuda:1`, …); without a name the fastest that is
/// compiled in and present.
///
/// # Errors
/// If the name is unknown, or its backend is not compiled in; the message has the cargo command.
pub fn open(name: Option<&str>) -> Result<Device> {
    let name = match name {
        Some(name) => name,
        None => BACKENDS
            .iter()
            .find(|backend| backend.compiled && present(backend.name))
            .ok_or_else(|| {
                Error::usage(
                    "no backend is compiled in; build with `cargo build --release --features flex`",
                )
            })?
            .name,
    };
    let (backend, index) = name.split_once(':').unwrap_or((name, "0"));
    let index: usize = index.parse().map_err(|_| {
        Error::usage(format!("--device {name}: expected a number after the colon, found `{index}`"))
    })?;
    let Some(info) = BACKENDS.iter().find(|info| info.name == backend) else {
        let known: Vec<&str> = BACKENDS.iter().map(|info| info.name).collect();
        return Err(Error::usage(format!(
            "--device {name}: expected one of {}, found `{backend}`",
            known.join(", ")
        )));
    };
    if !info.compiled {
        return Err(Error::usage(format!(
            "--device {name}: this binary has no `{backend}`; build it with `cargo build --release --features {backend}`"
        )));
    }
    if !present(backend) {
        return Err(Error::usage(format!(
            "--device {name}: no driver for {} was found on this machine",
            info.what
        )));
    }
    Ok(create(backend, index))
}

/// Whether a backend's driver is there, as far as can be told without starting it.
pub fn present(backend: &str) -> bool {
    match backend {
        // Asking the backend itself would panic in a dependency.
        "cuda" => ["/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg"]
            .iter()
            .any(|file| std::path::Path::new(file).exists()),
        "rocm" => std::path::Path::new("/dev/kfd").exists(),
        "metal" => cfg!(target_os = "macos"),
        _ => true,
    }
}

#[allow(unused_variables, reason = "what is used depends on the features")]
fn create(backend: &str, index: usize) -> Device {
    match backend {
        #[cfg(feature = "cuda")]
        "cuda" => Device::cuda(index),
        #[cfg(feature = "rocm")]
        "rocm" => Device::rocm(index),
        #[cfg(feature = "metal")]
        "metal" => Device::metal(Default::default()),
        #[cfg(feature = "vulkan")]
        "vulkan" => Device::vulkan(Default::default()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::wgpu(Default::default()),
        #[cfg(feature = "tch")]
        "tch" => Device::libtorch(),
        _ => Device::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_backend_is_named_with_the_command_that_adds_it() {
        let Some(missing) = BACKENDS.iter().find(|backend| !backend.compiled) else { return };
        let message = open(Some(missing.name)).unwrap_err().to_string();
        assert!(message.contains(&format!("--features {}", missing.name)), "{message}");
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let message = open(Some("gpu")).unwrap_err().to_string();
        assert!(message.contains("cuda") && message.contains("flex"), "{message}");
    }
}
