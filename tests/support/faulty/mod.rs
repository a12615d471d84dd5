//! The program with a disk that fails, is full, or loses power: see `library.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use rand::Rng;
use rand_chacha::ChaCha12Rng;

use super::skipped::or_skip;

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing; every operation is listed.
    None,
    /// It fails with this error.
    Error(&'static str),
    /// The process is killed before it.
    Kill,
    /// The power goes before it.
    PowerCut,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "log",
            Self::Error(name) => name,
            Self::Kill => "kill",
            Self::PowerCut => "cut",
        }
    }
}

const SOURCE: &str = include_str!("library.rs");

/// The library to preload, built once; none where there is no such thing, and the test is listed as skipped.
pub fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let hash = blake3::hash(SOURCE.as_bytes()).to_hex();
        let library = folder.join(format!("libfaulty-{}.so", &hash[..16]));
        if library.exists() {
            return Some(library);
        }
        let source = folder.join(format!("libfaulty-{}.rs", std::process::id()));
        let made = source.with_extension("so");
        fs::write(&source, SOURCE).unwrap();
        let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
        let rustc = if rustc.exists() { rustc } else { PathBuf::from("rustc") };
        let status = Command::new(rustc)
            .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-o"])
            .args([&made, &source])
            .status()
            .unwrap();
        assert!(status.success());
        fs::remove_file(source).unwrap();
        fs::rename(made, &library).unwrap();
        Some(library)
    });
    or_skip(built.as_deref(), "files are made to fail by a preloaded library, on Linux with glibc")
}

/// A folder that the program works in, beside what is known of its disk.
pub struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// With a copy of the files in `from`.
    pub fn with(from: &Path) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        copy(from, &disk.root());
        fs::create_dir(disk.state()).unwrap();
        disk
    }

    /// Where the program works.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Runs `exalign` with these arguments; the fault happens to the operation of number `at`.
    pub fn exalign(&self, arguments: &str, fault: Fault, at: usize) -> Output {
        if fault == Fault::PowerCut {
            keep(&self.root(), &self.state());
        }
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("exalign"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.root())
            .env("EXALIGN_CACHE", self.root().join("cache"))
            .env_remove("RUST_LOG")
            .env("FAULTY_ROOT", self.root())
            .env("FAULTY_HOW", fault.name())
            .env("FAULTY_AT", at.to_string())
            .env("FAULTY_STATE", self.state())
            .env("LD_PRELOAD", library().unwrap());
        command.output().unwrap()
    }

    /// The operations that were listed.
    pub fn operations(&self) -> Vec<String> {
        let log = fs::read_to_string(self.state().join("log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    /// What may be on the disk after the power cut: of every folder the names, and of every file the
    /// content, that have reached it for certain, or those of before the cut.
    pub fn start_again(&self, random: &mut ChaCha12Rng) {
        let now = inodes(&self.root());
        let before = self.folder.path().join("before");
        fs::rename(self.root(), &before).unwrap();
        let now = now.into_iter().map(|(inode, path)| (inode, before.join(path))).collect();
        let rebuild = Rebuild { state: &self.state(), now: &now };
        let root = fs::metadata(&before).unwrap().ino();
        rebuild.folder(root, &self.root(), random);
        fs::remove_dir_all(before).unwrap();
    }
}

struct Rebuild<'a> {
    state: &'a Path,
    /// Paths of what there was when the power went, by inode.
    now: &'a BTreeMap<u64, PathBuf>,
}

impl Rebuild<'_> {
    fn folder(&self, inode: u64, to: &Path, random: &mut ChaCha12Rng) {
        fs::create_dir(to).unwrap();
        let certain = fs::read_to_string(self.state.join(format!("d{inode}"))).unwrap_or_default();
        let names = match self.now.get(&inode) {
            Some(path) if random.random() => listed(path),
            _ => certain,
        };
        for line in names.lines() {
            let (place, name) = line.split_once(' ').unwrap();
            let (kind, inode) = place.split_at(1);
            let (inode, to) = (inode.parse().unwrap(), to.join(name));
            match kind {
                "d" => self.folder(inode, &to, random),
                _ => fs::write(to, self.file(inode, random)).unwrap(),
            }
        }
    }

    fn file(&self, inode: u64, random: &mut ChaCha12Rng) -> Vec<u8> {
        let certain = fs::read(self.state.join(format!("f{inode}"))).unwrap_or_default();
        match self.now.get(&inode) {
            Some(path) if random.random() => {
                let mut bytes = fs::read(path).unwrap();
                // What was written since may be there in part.
                if bytes != certain && random.random() {
                    bytes.truncate(random.random_range(0..=bytes.len()));
                }
                bytes
            }
            _ => certain,
        }
    }
}

/// The names in a folder, as the library lists them.
fn listed(folder: &Path) -> String {
    let mut names = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let found = entry.metadata().unwrap();
        let kind = if found.is_dir() { "d" } else { "f" };
        names += &format!("{kind}{} {}\n", found.ino(), entry.file_name().to_str().unwrap());
    }
    names
}

/// Takes everything in `folder` as being on the disk.
fn keep(folder: &Path, state: &Path) {
    let of = |kind: &str, path: &Path| {
        state.join(format!("{kind}{}", fs::metadata(path).unwrap().ino()))
    };
    fs::write(of("d", folder), listed(folder)).unwrap();
    for path in entries(folder) {
        match path.is_dir() {
            true => keep(&path, state),
            false => drop(fs::copy(&path, of("f", &path)).unwrap()),
        }
    }
}

/// The paths in `root`, from it on, by inode.
fn inodes(root: &Path) -> BTreeMap<u64, PathBuf> {
    fn walk(root: &Path, folder: &Path, into: &mut BTreeMap<u64, PathBuf>) {
        let own = folder.strip_prefix(root).unwrap().to_owned();
        into.insert(fs::metadata(folder).unwrap().ino(), own);
        for path in entries(folder) {
            match path.is_dir() {
                true => walk(root, &path, into),
                false => {
                    let own = path.strip_prefix(root).unwrap().to_owned();
                    into.insert(fs::metadata(&path).unwrap().ino(), own);
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for path in entries(from) {
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, to).unwrap()),
        }
    }
}
