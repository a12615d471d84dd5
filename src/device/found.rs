//! A device: its name, its memory, the floats it computes in.

use burn::tensor::{DType, Device};

use super::{BackendInfo, guarded, present};

/// A device that is present.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What `--device` calls it.
    pub name: String,
    /// What it calls itself.
    pub model: String,
    /// Its memory in bytes, where it tells.
    pub memory: Option<u64>,
    /// The floats it computes in: `f32`, `bf16`, `f16`.
    pub floats: Vec<&'static str>,
}

/// The devices of a backend on this machine, opened one by one to be asked.
///
/// # Errors
/// What is missing where there is a device that cannot be used.
pub fn found(backend: &BackendInfo) -> Result<Vec<Found>, String> {
    let devices = present(backend.name)?;
    let several = devices.len() > 1;
    let ask = |(number, device): (usize, Device)| {
        guarded(|| Found {
            name: if several {
                format!("{}:{number}", backend.name)
            } else {
                backend.name.to_owned()
            },
            model: model(&device),
            memory: memory(&device),
            floats: floats(&device),
        })
    };
    devices.into_iter().enumerate().map(ask).collect()
}

fn floats(device: &Device) -> Vec<&'static str> {
    [("f32", DType::F32), ("bf16", DType::BF16), ("f16", DType::F16)]
        .into_iter()
        .filter(|(_, dtype)| device.supports_dtype(*dtype))
        .map(|(name, _)| name)
        .collect()
}

/// Whether a device is the CPU playing a GPU.
#[allow(unused_variables, reason = "only WebGPU and Vulkan have such devices")]
pub(super) fn is_emulated(device: &Device) -> bool {
    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
    {
        use burn::backend::{CubeDevice, DispatchDevice, WgpuDeviceKind};
        matches!(
            device.as_dispatch(),
            DispatchDevice::Cube(CubeDevice::Wgpu(device)) if device.kind == WgpuDeviceKind::Cpu
        )
    }
    #[cfg(not(any(feature = "wgpu", feature = "vulkan", feature = "metal")))]
    false
}

/// The file that CUDA kernels take exp, log and tanh from.
#[cfg(feature = "cuda")]
pub(super) fn libdevice() -> Result<(), String> {
    let given = std::env::var_os("CUDA_PATH").map(std::path::PathBuf::from);
    let roots = match given {
        Some(root) => vec![root],
        None => ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"].map(Into::into).to_vec(),
    };
    if roots.iter().any(|root| root.join("nvvm/libdevice/libdevice.10.bc").is_file()) {
        return Ok(());
    }
    let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    Err(format!(
        "expected nvvm/libdevice/libdevice.10.bc under {}, found none; install the CUDA toolkit (or the \
         Python package nvidia-cuda-nvcc-cu12) and let CUDA_PATH name its folder",
        roots.join(", ")
    ))
}

#[cfg(not(feature = "cuda"))]
pub(super) fn libdevice() -> Result<(), String> {
    Ok(())
}

#[cfg(feature = "gpu")]
mod card {
    use burn::tensor::{Device, PciAddress};

    /// What a graphics card calls itself.
    pub fn name(device: &Device) -> Option<String> {
        device.identity().map(|identity| identity.name)
    }

    /// The memory of a graphics card.
    pub fn memory(device: &Device) -> Option<u64> {
        let address = device.identity()?.physical?.pci_address?;
        of_nvidia(address).or_else(|| of_amd(address))
    }

    #[cfg(feature = "cuda")]
    fn of_nvidia(address: PciAddress) -> Option<u64> {
        let library = nvml_wrapper::Nvml::init().ok()?;
        let card = library.device_by_pci_bus_id(address.to_string()).ok()?;
        Some(card.memory_info().ok()?.total)
    }

    #[cfg(not(feature = "cuda"))]
    fn of_nvidia(_: PciAddress) -> Option<u64> {
        None
    }

    fn of_amd(address: PciAddress) -> Option<u64> {
        let file = format!("/sys/bus/pci/devices/{address}/mem_info_vram_total");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    }
}

#[cfg(not(feature = "gpu"))]
mod card {
    use burn::tensor::Device;

    pub fn name(_: &Device) -> Option<String> {
        None
    }

    pub fn memory(_: &Device) -> Option<u64> {
        None
    }
}

fn model(device: &Device) -> String {
    card::name(device).unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let name = cpu_name().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        format!("{name}, {cores} threads")
    })
}

/// Whether a device computes in a memory that is not the machine's.
pub(crate) fn has_own_memory(device: &Device) -> bool {
    let is_remote = cfg!(feature = "remote") && format!("{device:?}").contains("Remote");
    is_remote || (card::name(device).is_some() && !is_emulated(device))
}

/// A card's own memory; the machine's for what runs on the CPU.
fn memory(device: &Device) -> Option<u64> {
    if card::name(device).is_some() && !is_emulated(device) {
        return card::memory(device);
    }
    let total = linux("/proc/meminfo", "MemTotal")?;
    Some(total.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn cpu_name() -> Option<String> {
    linux("/proc/cpuinfo", "model name")
}

/// What a Linux system says of itself on the first line `name: value` of one of its files; other
/// systems have none.
fn linux(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use crate::device::{BACKENDS, found};

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_is_found_with_its_memory_and_all_three_floats() {
        let flex = BACKENDS.iter().find(|it| it.name == "flex").unwrap();
        let [cpu] = found(flex).unwrap().try_into().unwrap();
        assert_eq!(cpu.name, "flex");
        assert_eq!(cpu.floats, ["f32", "bf16", "f16"]);
        if cfg!(target_os = "linux") {
            assert!(cpu.memory.is_some_and(|bytes| bytes > 1 << 28), "{cpu:?}");
        }
    }
}
