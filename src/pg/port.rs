//! The client on the other side, as the server knows it before any catalog can be read.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pgrx::pg_sys;

use crate::pg::local::Local;

/// The beginning of PostgreSQL's Port, up to what the authentication found out (libpq-be.h). Nothing in it depends on
/// how the server was built. pgrx's own is wrong in 17.
#[repr(C)]
struct Port {
    sock: pg_sys::pgsocket,
    noblock: bool,
    proto: pg_sys::ProtocolVersion,
    laddr: pg_sys::SockAddr,
    raddr: pg_sys::SockAddr,
    remote_host: *mut c_char,
    remote_hostname: *mut c_char,
    remote_hostname_resolv: c_int,
    remote_hostname_errcode: c_int,
    remote_port: *mut c_char,
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    can_accept_connections: core::ffi::c_uint,
    #[cfg(feature = "pg18")]
    local_host: [c_char; 64],
    database_name: *mut c_char,
    user_name: *mut c_char,
    cmdline_options: *mut c_char,
    guc_options: *mut pg_sys::List,
    application_name: *mut c_char,
    hba: *mut HbaLine,
    // From 16 on it is elsewhere, and GetSystemUser has it.
    #[cfg(feature = "pg15")]
    authn_id: *const c_char,
}

#[cfg(any(feature = "pg15", feature = "pg16"))]
const OFFSETS: [usize; 3] = [328, 336, 368];
#[cfg(feature = "pg17")]
const OFFSETS: [usize; 3] = [320, 328, 360];
#[cfg(feature = "pg18")]
const OFFSETS: [usize; 3] = [384, 392, 424];
#[cfg(target_arch = "x86_64")]
const _: () = {
    assert!(offset_of!(Port, database_name) == OFFSETS[0]);
    assert!(offset_of!(Port, user_name) == OFFSETS[1]);
    assert!(offset_of!(Port, hba) == OFFSETS[2]);
};

/// The beginning of the line of pg_hba.conf that let the client in (hba.h). Nothing in it depends on how the server was
/// built.
#[repr(C)]
struct HbaLine {
    #[cfg(not(feature = "pg15"))]
    source_file: *mut c_char,
    line_number: c_int,
    raw_line: *mut c_char,
    connection_type: core::ffi::c_uint,
    databases: *mut pg_sys::List,
    roles: *mut pg_sys::List,
    address: libc::sockaddr_storage,
    address_len: c_int,
    mask: libc::sockaddr_storage,
    mask_len: c_int,
    compares: core::ffi::c_uint,
    hostname: *mut c_char,
    method: core::ffi::c_uint,
}

/// `password`, `md5` and `scram-sha-256` of PostgreSQL's UserAuth.
const PASSWORD_METHODS: std::ops::RangeInclusive<core::ffi::c_uint> = 4..=6;

/// Whether the client proves who it is with a password that the server keeps.
pub fn method_is_password() -> bool {
    // SAFETY: the structures live as long as the session.
    unsafe {
        let hba = pg_sys::MyProcPort.cast::<Port>().as_ref().and_then(|port| port.hba.as_ref());
        hba.is_some_and(|hba| PASSWORD_METHODS.contains(&hba.method))
    }
}

/// Whether the connection is encrypted by TLS.
pub fn has_tls() -> bool {
    type Version = unsafe extern "C" fn(*mut c_void) -> *const c_char;
    // SAFETY: the function's type in libpq-be.h; it only reads the structure, and answers null without TLS.
    ask_port(c"be_tls_get_version", |function| unsafe {
        !std::mem::transmute::<*mut c_void, Version>(function)(pg_sys::MyProcPort.cast()).is_null()
    })
}

/// Whether what the client sends can be read on its way: it comes over a network, encrypted neither by TLS nor by GSSAPI.
pub fn can_be_overheard() -> bool {
    type Encrypts = unsafe extern "C" fn(*mut c_void) -> bool;
    let is_here = |client: Client| {
        client.host == LOCAL || client.address.is_some_and(|address| address.to_canonical().is_loopback())
    };
    with_client(is_here) == Some(false)
        && !has_tls()
        // SAFETY: as above.
        && !ask_port(c"be_gssapi_get_enc", |function| unsafe {
            std::mem::transmute::<*mut c_void, Encrypts>(function)(pg_sys::MyProcPort.cast())
        })
}

/// Asks one of PostgreSQL's functions, which is there if it was built with what that is about, about the connection.
fn ask_port(name: &CStr, ask: impl FnOnce(*mut c_void) -> bool) -> bool {
    // SAFETY: a look-up by name; reads a backend-local variable.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    !function.is_null() && has_client() && ask(function)
}

/// What stands for the address of the local socket.
pub const LOCAL: &[u8] = b"[local]";

/// What is known of a client; empty where it is not.
#[derive(Clone, Copy, Default)]
pub struct Client<'a> {
    /// Its address in digits, or `[local]`: never a name, which is whatever the address's owner says.
    pub host: &'a [u8],
    /// The same; None for the local socket, and where it is not known.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// The role that it asked for.
    pub user: &'a [u8],
    /// The database that it asked for.
    pub database: &'a [u8],
    /// The identity that the authentication method established.
    pub identity: &'a [u8],
}

/// Whether a client is on the other side.
pub fn has_client() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { !pg_sys::MyProcPort.is_null() }
}

/// Calls `f` with the client on the other side, if there is one. Takes no lock and allocates nothing.
pub fn with_client<T>(f: impl FnOnce(Client) -> T) -> Option<T> {
    // SAFETY: the structure lives as long as the session; its texts are C strings or null.
    unsafe {
        let port = pg_sys::MyProcPort.cast::<Port>().as_ref()?;
        let text =
            |text: *const c_char| if text.is_null() { &[][..] } else { CStr::from_ptr(text).to_bytes() };
        #[cfg(feature = "pg15")]
        let identity = text(port.authn_id);
        #[cfg(not(feature = "pg15"))]
        let identity = {
            // "method:identity"
            let whole = text(pg_sys::GetSystemUser());
            whole.iter().position(|byte| *byte == b':').map_or(whole, |at| &whole[at + 1..])
        };
        let number = std::str::from_utf8(text(port.remote_port)).ok().and_then(|it| it.parse().ok());
        let address = address(&port.raddr);
        let mut digits = [0; 64];
        let host = match address {
            Some(address) => {
                let room = digits.len();
                let mut rest = &mut digits[..];
                // 45 bytes are the longest.
                let _ = write!(rest, "{address}");
                let used = room - rest.len();
                &digits[..used]
            }
            None if c_int::from(port.raddr.addr.ss_family) == libc::AF_UNIX => LOCAL,
            None => &[],
        };
        Some(f(Client {
            host,
            address,
            port: number.unwrap_or(0),
            user: text(port.user_name),
            database: text(port.database_name),
            identity,
        }))
    }
}

fn address(client: &pg_sys::SockAddr) -> Option<IpAddr> {
    // SAFETY: storage that is large enough for, and aligned as, the address of the family that it names.
    unsafe {
        match c_int::from(client.addr.ss_family) {
            libc::AF_INET => {
                let it = &*(&raw const client.addr).cast::<libc::sockaddr_in>();
                Some(Ipv4Addr::from_bits(u32::from_be(it.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let it = &*(&raw const client.addr).cast::<libc::sockaddr_in6>();
                Some(Ipv6Addr::from(it.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// `application_name` as it is set now.
pub fn with_application_name<T>(f: impl FnOnce(&[u8]) -> T) -> Option<T> {
    // SAFETY: a setting's C string, or null before settings are read.
    unsafe {
        let name = pg_sys::application_name;
        (!name.is_null() && *name != 0).then(|| f(CStr::from_ptr(name).to_bytes()))
    }
}

/// Calls `f` with `application_name`, in place, where it is another than last time; if that changed it, everybody who
/// looks sees it so. Most calls cost a comparison.
pub fn redact_application_name(f: impl FnOnce(&mut [u8]) -> bool) {
    static SEEN: Local<Cell<usize>> = Local::new(Cell::new(0));
    // SAFETY: a setting's own C string, or null; its length stays. The report copies it and takes no lock.
    unsafe {
        let name = pg_sys::application_name;
        if SEEN.replace(name as usize) == name as usize || name.is_null() {
            return;
        }
        let len = CStr::from_ptr(name).to_bytes().len();
        if f(std::slice::from_raw_parts_mut(name.cast(), len)) {
            pg_sys::pgstat_report_appname(name);
        }
    }
}

/// When the session began, in seconds of 1970, and its process: what %c of log_line_prefix prints.
pub fn session_id() -> (i64, i32) {
    // SAFETY: reads process-local variables.
    unsafe { (pg_sys::MyStartTime, pg_sys::MyProcPid) }
}
