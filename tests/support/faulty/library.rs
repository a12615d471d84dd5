//! A library to preload: file operations below one folder are counted, and one of them fails, or is the
//! last before the process is killed or the power goes.
//!
//! Built by the tests that need it with `rustc`, so it knows nothing but std. What it does is told by
//! environment variables:
//!
//! - `FAULTY_ROOT`: the folder; relative paths are taken to be in it.
//! - `FAULTY_HOW`: `log`, an error's name (`ENOSPC`, `EIO`, `EACCES`), `kill`, or `cut` (the power).
//! - `FAULTY_AT`: the operation that it happens to, counted from 1.
//! - `FAULTY_STATE`: a folder outside of the root. `log` writes a line for every operation into `log`
//!   there. `cut` keeps what has reached the disk: the content of a file of inode N as `fN` when the
//!   file is synced, the names in a folder as `dN` when the folder is.

use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char, c_int, c_long, c_uint, c_void};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const O_WRONLY: c_int = 1;
const O_RDWR: c_int = 2;
const O_CREAT: c_int = 0o100;
const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;
const SIGKILL: c_int = 9;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
    fn kill(process: c_int, signal: c_int) -> c_int;
    fn getpid() -> c_int;
}

struct Plan {
    root: PathBuf,
    how: String,
    at: u64,
    state: PathBuf,
}

/// None where nothing was asked for.
fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(|| {
        let variable = |name: &str| std::env::var(name).ok();
        Some(Plan {
            root: variable("FAULTY_ROOT")?.into(),
            how: variable("FAULTY_HOW")?,
            at: variable("FAULTY_AT").and_then(|it| it.parse().ok()).unwrap_or(u64::MAX),
            state: variable("FAULTY_STATE")?.into(),
        })
    })
    .as_ref()
}

thread_local! {
    /// Whether this thread is in here already: what is done here is not counted.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

static OPERATIONS: AtomicU64 = AtomicU64::new(0);
static FILES: [AtomicBool; 4096] = [const { AtomicBool::new(false) }; 4096];

/// Does `work` unless this thread is in here already.
fn outside<T>(work: impl FnOnce(&'static Plan) -> T) -> Option<T> {
    let inside = INSIDE.try_with(|it| it.replace(true)).unwrap_or(true);
    if inside {
        return None;
    }
    let result = plan().map(work);
    INSIDE.with(|it| it.set(false));
    result
}

fn under_root(plan: &Plan, path: *const c_char) -> Option<PathBuf> {
    // SAFETY: callers hand over what they were handed as a path.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    match path.is_absolute() {
        true => path.starts_with(&plan.root).then(|| path.to_owned()),
        false => Some(plan.root.join(path)),
    }
}

fn is_tracked(fd: c_int) -> bool {
    usize::try_from(fd).ok().and_then(|it| FILES.get(it)).is_some_and(|it| it.load(Ordering::SeqCst))
}

fn track(fd: c_int, tracked: bool) {
    if let Some(slot) = usize::try_from(fd).ok().and_then(|it| FILES.get(it)) {
        slot.store(tracked, Ordering::SeqCst);
    }
}

/// Counts an operation. True: it is to fail, and errno is set.
fn fails(plan: &Plan, what: &str) -> bool {
    let number = OPERATIONS.fetch_add(1, Ordering::SeqCst) + 1;
    if plan.how == "log" {
        let log = std::fs::File::options().create(true).append(true).open(plan.state.join("log"));
        let _ = log.and_then(|mut it| writeln!(it, "{number} {what}"));
    }
    if number != plan.at {
        return false;
    }
    let errno = match plan.how.as_str() {
        "ENOSPC" => 28,
        "EIO" => 5,
        "EACCES" => 13,
        "kill" | "cut" => {
            // SAFETY: a signal to this process, which does not come back from it.
            unsafe { kill(getpid(), SIGKILL) };
            loop {
                std::thread::park();
            }
        }
        _ => return false,
    };
    // SAFETY: the place of this thread's errno.
    unsafe { *__errno_location() = errno };
    true
}

/// The function that is stood in front of.
macro_rules! original {
    ($name:ident, fn($($of:ty),*) -> $result:ty) => {{
        static FOUND: OnceLock<usize> = OnceLock::new();
        let found = *FOUND.get_or_init(|| {
            let name = concat!(stringify!($name), "\0");
            // SAFETY: a symbol's name, ended by a zero.
            unsafe { dlsym(RTLD_NEXT, name.as_ptr().cast()) as usize }
        });
        // SAFETY: the C library's function of this name has this type.
        unsafe { std::mem::transmute::<usize, unsafe extern "C" fn($($of),*) -> $result>(found) }
    }};
}

/// What is newly made has nothing on the disk, whatever had its inode before.
fn forget(plan: &Plan, path: &Path) {
    if plan.how == "cut"
        && let Ok(found) = std::fs::symlink_metadata(path)
    {
        for kind in ["f", "d"] {
            let _ = std::fs::remove_file(plan.state.join(format!("{kind}{}", found.ino())));
        }
    }
}

/// Notes what has reached the disk.
fn synced(plan: &Plan, fd: c_int) {
    if plan.how != "cut" {
        return;
    }
    let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
    let Ok(found) = std::fs::metadata(&path) else { return };
    if !found.is_dir() {
        let _ = std::fs::copy(&path, plan.state.join(format!("f{}", found.ino())));
        return;
    }
    let mut names = String::new();
    for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
        let Ok(it) = entry.metadata() else { continue };
        let kind = if it.is_dir() { "d" } else { "f" };
        let _ = writeln!(names, "{kind}{} {}", it.ino(), entry.file_name().to_string_lossy());
    }
    let _ = std::fs::write(plan.state.join(format!("d{}", found.ino())), names);
}

fn opened(path: *const c_char, flags: c_int, original: impl FnOnce() -> c_int) -> c_int {
    let writes = flags & (O_WRONLY | O_RDWR | O_CREAT) != 0;
    let place = outside(|plan| {
        let path = under_root(plan, path)?;
        let fails = writes && fails(plan, &format!("open {}", path.display()));
        let is_new = flags & O_CREAT != 0 && !path.exists();
        Some((fails, is_new, path))
    });
    let Some(Some((fails, is_new, path))) = place else { return original() };
    if fails {
        return -1;
    }
    let fd = original();
    if fd >= 0 {
        track(fd, true);
        if is_new {
            outside(|plan| forget(plan, &path));
        }
    }
    fd
}

macro_rules! opening {
    ($($name:ident),*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
            let call = original!($name, fn(*const c_char, c_int, c_uint) -> c_int);
            opened(path, flags, || unsafe { call(path, flags, mode) })
        }
    )*};
}
opening!(open, open64);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    track(fd, false);
    let call = original!(close, fn(c_int) -> c_int);
    unsafe { call(fd) }
}

/// An operation on an open file.
fn on_file<T>(fd: c_int, what: &str, failed: T, original: impl FnOnce() -> T) -> T {
    let fails = is_tracked(fd) && outside(|plan| fails(plan, &format!("{what} {fd}"))) == Some(true);
    if fails { failed } else { original() }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize {
    let call = original!(write, fn(c_int, *const c_void, usize) -> isize);
    on_file(fd, "write", -1, || unsafe { call(fd, bytes, count) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const c_void, count: c_int) -> isize {
    let call = original!(writev, fn(c_int, *const c_void, c_int) -> isize);
    on_file(fd, "writev", -1, || unsafe { call(fd, parts, count) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: usize, at: c_long) -> isize {
    let call = original!(pwrite64, fn(c_int, *const c_void, usize, c_long) -> isize);
    on_file(fd, "pwrite", -1, || unsafe { call(fd, bytes, count, at) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: c_long) -> c_int {
    let call = original!(ftruncate64, fn(c_int, c_long) -> c_int);
    on_file(fd, "truncate", -1, || unsafe { call(fd, length) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_at: *mut c_long,
    to: c_int,
    to_at: *mut c_long,
    count: usize,
    flags: c_uint,
) -> isize {
    let call = original!(
        copy_file_range,
        fn(c_int, *mut c_long, c_int, *mut c_long, usize, c_uint) -> isize
    );
    on_file(to, "copy", -1, || unsafe { call(from, from_at, to, to_at, count, flags) })
}

macro_rules! syncing {
    ($($name:ident),*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(fd: c_int) -> c_int {
            let call = original!($name, fn(c_int) -> c_int);
            let result = on_file(fd, "sync", -1, || unsafe { call(fd) });
            if result == 0 && is_tracked(fd) {
                outside(|plan| synced(plan, fd));
            }
            result
        }
    )*};
}
syncing!(fsync, fdatasync);

/// An operation on a path.
fn on_path(path: *const c_char, what: &str, original: impl FnOnce() -> c_int) -> c_int {
    let fails = outside(|plan| {
        under_root(plan, path).is_some_and(|path| fails(plan, &format!("{what} {}", path.display())))
    });
    if fails == Some(true) { -1 } else { original() }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let call = original!(rename, fn(*const c_char, *const c_char) -> c_int);
    on_path(to, "rename to", || unsafe { call(from, to) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let call = original!(unlink, fn(*const c_char) -> c_int);
    on_path(path, "remove", || unsafe { call(path) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    let call = original!(rmdir, fn(*const c_char) -> c_int);
    on_path(path, "remove folder", || unsafe { call(path) })
}

/// Removing a folder with all that is in it names files by their folder's number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    let call = original!(unlinkat, fn(c_int, *const c_char, c_int) -> c_int);
    on_path(path, "remove", || unsafe { call(folder, path, flags) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    let call = original!(mkdir, fn(*const c_char, c_uint) -> c_int);
    let result = on_path(path, "make folder", || unsafe { call(path, mode) });
    if result == 0 {
        outside(|plan| under_root(plan, path).map(|path| forget(plan, &path)));
    }
    result
}
