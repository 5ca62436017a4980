//! A proxy in front of moto for what moto does not do: it refuses, delays, garbles and cuts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request instead of being answered by moto.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// HTTP status, AWS's error code, message.
    Error(u16, &'static str, &'static str),
    /// Answered after this time.
    Slow(Duration),
    /// Status 200, and a body that is not KMS's.
    Garbage(&'static str),
    /// The connection is reset.
    Reset,
}

/// One request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Such as `Decrypt`.
    pub operation: String,
    /// JSON.
    pub body: String,
    /// The region it was signed for.
    pub region: String,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    faults: Vec<(Fault, usize)>,
    only: Option<&'static [&'static str]>,
}

/// A running proxy; its thread ends with the process.
pub struct Proxy {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Forwards to `upstream`, `http://HOST:PORT`.
    pub fn start(upstream: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let upstream = upstream.trim_start_matches("http://").to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (upstream, state) = (upstream.clone(), shared.clone());
                // A client that gives up is no failure of the proxy.
                std::thread::spawn(move || drop(serve(client, &upstream, &state)));
            }
        });
        Proxy { url, state }
    }

    /// The next `times` requests meet `fault`.
    pub fn inject(&self, fault: Fault, times: usize) {
        self.lock().faults.push((fault, times));
    }

    /// Refuses every operation that is not one of these.
    pub fn allow_only(&self, operations: &'static [&'static str]) {
        self.lock().only = Some(operations);
    }

    /// The requests since the last call.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.lock().seen)
    }

    /// Their operations.
    pub fn take_operations(&self) -> Vec<String> {
        self.take_seen().into_iter().map(|seen| seen.operation).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread panicked")
    }
}

impl State {
    fn fault(&mut self, operation: &str) -> Option<Fault> {
        if self.only.is_some_and(|only| !only.contains(&operation)) {
            return Some(Fault::Error(400, "AccessDeniedException", "not allowed"));
        }
        let (fault, times) = self.faults.first_mut()?;
        let fault = *fault;
        *times -= 1;
        if *times == 0 {
            self.faults.remove(0);
        }
        Some(fault)
    }
}

fn serve(client: TcpStream, upstream: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    let (mut length, mut operation, mut region) = (0, String::new(), String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            break;
        }
        let (name, value) = line.trim_end().split_once(':').unwrap_or((line.trim_end(), ""));
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = value.parse().unwrap_or(0),
            ("x-amz-target", value) => operation = value.rsplit('.').next().unwrap_or_default().to_string(),
            ("authorization", value) => region = value.split('/').nth(2).unwrap_or_default().to_string(),
            ("connection", _) => continue,
            _ => {}
        }
        head.extend_from_slice(line.as_bytes());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let fault = {
        let mut state = state.lock().expect("no thread panicked");
        let body = String::from_utf8_lossy(&body).into_owned();
        state.seen.push(Seen { operation: operation.clone(), body, region });
        state.fault(&operation)
    };
    match fault {
        Some(Fault::Error(status, code, message)) => {
            let body = format!(r#"{{"__type":"{code}","message":"{message}"}}"#);
            return answer(client, status, &body);
        }
        Some(Fault::Garbage(body)) => return answer(client, 200, body),
        Some(Fault::Reset) => {
            // Closing with a time of 0 to linger resets instead of ending.
            let linger = Some(Duration::ZERO);
            return Ok(rustix::net::sockopt::set_socket_linger(&client, linger)?);
        }
        Some(Fault::Slow(time)) => std::thread::sleep(time),
        None => {}
    }
    let mut upstream = TcpStream::connect(upstream)?;
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    head.extend_from_slice(&body);
    upstream.write_all(&head)?;
    std::io::copy(&mut upstream, &mut &client)?;
    client.shutdown(Shutdown::Both)
}

fn answer(mut client: TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status} x\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
