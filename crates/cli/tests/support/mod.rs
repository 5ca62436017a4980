//! A real `pgpci keyd` on one end of a socket pair, and what the broker would do on the other.
#![allow(dead_code)] // each test program uses a part of it

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pgpci_core::key::{Context, KeyId, Purpose};
use pgpci_core::wire::{Decoder, Failure, Op, Outcome, Request, Response, encode};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(40);

pub fn pgpci() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pgpci"))
}

pub fn context() -> Context {
    Context { installation: [9; 16], vault: 1, key_id: KeyId(42), purpose: Purpose::Data }
}

pub fn generate() -> Op {
    Op::Generate { provider: "local".to_string(), kek: "local".to_string(), context: context() }
}

pub fn unwrap(wrapped: &[u8]) -> Op {
    Op::Unwrap {
        provider: "local".to_string(),
        kek: "local".to_string(),
        context: context(),
        wrapped: wrapped.to_vec(),
    }
}

pub struct Keyd {
    pub child: Child,
    pub socket: UnixStream,
    pub decoder: Decoder,
}

impl Keyd {
    pub fn start(key_file: Option<&Path>) -> Keyd {
        let mut command = pgpci();
        command.arg("keyd");
        if let Some(path) = key_file {
            command.arg("--local-key-file").arg(path);
        }
        Keyd::spawn(command)
    }

    /// Starts `pgpci keyd` by a command of the test's own.
    pub fn spawn(mut command: Command) -> Keyd {
        let (socket, theirs) = UnixStream::pair().expect("a socket pair");
        socket.set_read_timeout(Some(LIMIT)).expect("a time limit");
        socket.set_write_timeout(Some(LIMIT)).expect("a time limit");
        let child = command
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pgpci keyd");
        Keyd { child, socket, decoder: Decoder::default() }
    }

    pub fn send(&mut self, id: u64, op: Op) {
        let mut frame = Vec::new();
        encode(&Request { id, op }, &mut frame).expect("a frame");
        self.socket.write_all(&frame).expect("sent");
    }

    pub fn receive(&mut self) -> Response {
        let mut bytes = [0; 1000];
        loop {
            if let Some(response) = self.decoder.next::<Response>().expect("a frame") {
                return response;
            }
            let len = match self.socket.read(&mut bytes) {
                // A stop of the whole process ends a read that has a time limit.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("an answer in time"),
            };
            assert_ne!(len, 0, "keyd closed the socket");
            self.decoder.push(&bytes[..len]);
        }
    }

    pub fn ask(&mut self, op: Op) -> Response {
        self.send(1, op);
        self.receive()
    }

    /// The answer, which must be no failure.
    pub fn get(&mut self, op: Op) -> Outcome {
        self.ask(op).result.expect("an outcome")
    }

    /// The failure, which must be the answer.
    pub fn refusal(&mut self, op: Op) -> Failure {
        self.ask(op).result.expect_err("a failure")
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status();
        assert!(status.expect("kill").success());
    }

    /// Closes our end, and waits for the exit code and what was written to stdout and stderr.
    pub fn close(self) -> (Option<i32>, String) {
        let Keyd { child, socket, .. } = self;
        drop(socket);
        ended(child)
    }

    /// Keeps our end open until the process has ended by itself.
    pub fn end(self) -> (Option<i32>, String) {
        let Keyd { child, socket, .. } = self;
        let ended = ended(child);
        drop(socket);
        ended
    }
}

pub fn ended(mut child: Child) -> (Option<i32>, String) {
    let status = wait(&mut child);
    let mut said = String::new();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut stdout = stdout.expect("a pipe");
    let mut stderr = stderr.expect("a pipe");
    stdout.read_to_string(&mut said).expect("stdout");
    assert_eq!(said, "", "stdout");
    stderr.read_to_string(&mut said).expect("stderr");
    (status.code(), said)
}

pub fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("wait") {
            return status;
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("keyd did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
