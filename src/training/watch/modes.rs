//! The modes of the terminal that keys are read from.

#[cfg(not(unix))]
pub use elsewhere::{Modes, keep_signals, modes, set_modes};
#[cfg(unix)]
pub use unix::{Modes, keep_signals, modes, set_modes};

#[cfg(unix)]
mod unix {
    use std::io::{self, IsTerminal};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::time::{Duration, Instant};

    pub use rustix::termios::Termios as Modes;
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

    /// The longest wait for raw mode, and between two looks.
    const PATIENCE: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(10);

    /// Calls `with` with the terminal that keys are read from: standard input, or the controlling one.
    fn with_terminal<T>(
        with: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let input = io::stdin();
        if input.is_terminal() {
            return Ok(with(input.as_fd())?);
        }
        let terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty")?;
        Ok(with(terminal.as_fd())?)
    }

    pub fn modes() -> io::Result<Modes> {
        with_terminal(|terminal| tcgetattr(terminal))
    }

    pub fn set_modes(modes: &Modes) -> io::Result<()> {
        with_terminal(|terminal| tcsetattr(terminal, OptionalActions::Now, modes))
    }

    /// Waits until another thread has the terminal in raw mode, and turns Ctrl-C into a signal again. The
    /// keys that suspend or kill a program stay keys: with them nobody would leave the screen.
    pub fn keep_signals() -> io::Result<()> {
        let started = Instant::now();
        let mut raw = loop {
            let found = modes()?;
            if !found.local_modes.contains(LocalModes::ICANON) {
                break found;
            }
            if started.elapsed() > PATIENCE {
                return Err(io::Error::other("it does not take raw mode"));
            }
            std::thread::sleep(PAUSE);
        };
        raw.local_modes.insert(LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VSUSP] = 0;
        raw.special_codes[SpecialCodeIndex::VQUIT] = 0;
        set_modes(&raw)
    }
}

/// Without modes that can be kept: burn's thread restores the terminal, and its menu ends the training.
#[cfg(not(unix))]
mod elsewhere {
    use std::io;

    pub struct Modes;

    pub fn modes() -> io::Result<Modes> {
        Ok(Modes)
    }

    pub fn set_modes(_: &Modes) -> io::Result<()> {
        Ok(())
    }

    pub fn keep_signals() -> io::Result<()> {
        Ok(())
    }
}
