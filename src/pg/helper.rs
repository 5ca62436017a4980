//! The helper process `pgpci keyd`: started by the broker on a socketpair, without shared memory.
//! It may crash or be killed; the server does not notice.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pgpci_core::wire::{self, Decoder, Request, Response};

/// How the helper is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The `pgpci` command.
    pub command: PathBuf,
    /// Its options and their values, as the settings have them.
    pub options: Vec<(&'static str, OsString)>,
}

/// A running helper.
pub struct Helper {
    child: Child,
    socket: UnixStream,
    decoder: Decoder,
    /// What it was started with.
    pub config: Config,
}

impl Helper {
    /// Starts it.
    pub fn start(config: Config) -> std::io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&config.command);
        command
            .arg("keyd")
            .args(config.options.iter().flat_map(|(option, value)| [OsStr::new(option), value]))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        set_apart(&mut command);
        let child = command.spawn()?;
        socket.set_nonblocking(true)?;
        Ok(Self { child, socket, decoder: Decoder::default(), config })
    }

    /// The socket, to wait for answers.
    pub fn descriptor(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// The helper's process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request; false if the helper is gone or stuck.
    pub fn send(&mut self, request: &Request) -> bool {
        let mut frame = Vec::new();
        // Requests are far smaller than the socket's buffer: one that does not fit at once means a stuck helper.
        wire::encode(request, &mut frame).is_ok() && self.socket.write_all(&frame).is_ok()
    }

    /// Answers that have arrived; None if the helper is gone or talks nonsense.
    pub fn receive(&mut self) -> Option<Vec<Response>> {
        let mut buffer = zeroize_on_drop::Buffer::default();
        let mut responses = Vec::new();
        loop {
            match self.socket.read(&mut buffer.0) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&buffer.0[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        while let Some(response) = self.decoder.next::<Response>().ok()? {
            responses.push(response);
        }
        Some(responses)
    }
}

/// Nothing of the server's open files reaches the process, and it dies with the one that started it.
fn set_apart(command: &mut Command) {
    // SAFETY: only async-signal-safe system calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let close = libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if close != 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            Ok(())
        });
    }
}

/// Starts a shell command, to which something will be written.
pub fn shell(command: &OsStr) -> std::io::Result<Child> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    set_apart(&mut shell);
    shell.spawn()
}

/// Starts a command that has time: whatever else the machine does goes first.
pub fn run_aside(command: &Path, arguments: &[&OsStr]) -> std::io::Result<Child> {
    let mut command = Command::new(command);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    set_apart(&mut command);
    // SAFETY: async-signal-safe system calls. Where one fails the command runs as others do.
    unsafe {
        command.pre_exec(|| {
            libc::setpriority(libc::PRIO_PROCESS, 0, 19);
            // Where Linux schedules by session, priorities count within one only: in a session of its own, which yields.
            if libc::setsid() != -1 {
                let group = libc::open(c"/proc/self/autogroup".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                if group != -1 {
                    libc::write(group, c"19".as_ptr().cast(), 2);
                    libc::close(group);
                }
            }
            Ok(())
        });
    }
    command.spawn()
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

mod zeroize_on_drop {
    /// A read buffer that keys pass through.
    pub struct Buffer(pub [u8; 4096]);

    impl Default for Buffer {
        fn default() -> Self {
            Self([0; 4096])
        }
    }

    impl Drop for Buffer {
        fn drop(&mut self) {
            for byte in &mut self.0 {
                // SAFETY: a valid place; volatile, so that the store is not optimised away.
                unsafe { std::ptr::write_volatile(byte, 0) };
            }
        }
    }
}
