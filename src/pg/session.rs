//! Who is calling, where, and when.

use std::ffi::{CStr, CString};
use std::path::PathBuf;

use pgrx::pg_sys;

use crate::pg::compat;

// PostgreSQL's functions that only read a variable and never raise, asked at every value or statement: called without
// pgrx's guard, which would set up a place to jump to each time.
unsafe extern "C" {
    fn GetAuthenticatedUserId() -> pg_sys::Oid;
    fn GetUserId() -> pg_sys::Oid;
    fn GetCurrentTransactionNestLevel() -> core::ffi::c_int;
    fn GetCurrentTimestamp() -> pg_sys::TimestampTz;
    fn GetCurrentStatementStartTimestamp() -> pg_sys::TimestampTz;
    fn GetTopFullTransactionIdIfAny() -> pg_sys::FullTransactionId;
    fn GetDatabaseEncoding() -> core::ffi::c_int;
    fn HistoricSnapshotActive() -> bool;
    fn IsTransactionState() -> bool;
    fn pg_trigger_depth(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
}

/// The role that authenticated: SET ROLE, SET SESSION AUTHORIZATION and SECURITY DEFINER do not change it.
pub fn user() -> pg_sys::Oid {
    // SAFETY: reads a backend-local variable.
    unsafe { GetAuthenticatedUserId() }
}

/// The user whose rights the running code has: the owner in a SECURITY DEFINER function.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a backend-local variable.
    unsafe { GetUserId() }
}

/// Whether a client is on the other side, here or (in a parallel worker) of the leader.
pub fn has_client() -> bool {
    // SAFETY: reads backend-local variables.
    unsafe { !pg_sys::MyProcPort.is_null() || pg_sys::ParallelWorkerNumber >= 0 }
}

/// Whether there is a role of this number.
pub fn role_exists(role: pg_sys::Oid) -> bool {
    // SAFETY: noerr.
    unsafe { !pg_sys::GetUserNameFromId(role, true).is_null() }
}

/// The name of a role, or its number where it is gone or catalogs cannot be read.
pub fn role_name(role: pg_sys::Oid) -> String {
    if !in_transaction() {
        return role.to_u32().to_string();
    }
    // SAFETY: noerr; the result is a palloc'd string or null.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            role.to_u32().to_string()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}

/// The role of this name, if there is one.
pub fn role(name: &str) -> Option<pg_sys::Oid> {
    role_by_name(name.as_bytes())
}

/// The same by a name in whatever encoding: the catalog has it as it was typed.
pub fn role_by_name(name: &[u8]) -> Option<pg_sys::Oid> {
    let name = CString::new(name).ok()?;
    // SAFETY: missing_ok.
    let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Membership that was granted by name: a superuser is not a member of everything here.
pub fn is_member(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { compat::is_member(member, role) }
}

/// How deep the running transaction is nested: 1 for none but itself.
pub fn nesting() -> i32 {
    // SAFETY: reads a backend-local variable.
    unsafe { GetCurrentTransactionNestLevel() }
}

/// How many triggers' functions are running, one inside the other.
pub fn trigger_depth() -> i32 {
    // SAFETY: takes no arguments, looks at nothing of the call, and only reads a backend-local variable.
    unsafe { pg_trigger_depth(std::ptr::null_mut()) }.value() as i32
}

/// The name of this backend's database; empty where it has none.
pub fn database_name() -> String {
    // SAFETY: called where the syscache can be read; the result is a palloc'd string or null.
    unsafe {
        let name = pg_sys::get_database_name(database());
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// The number of the database's encoding, if that is neither UTF-8 nor none at all.
pub fn foreign_encoding() -> Option<u64> {
    // SAFETY: reads a backend-local variable.
    let encoding = unsafe { GetDatabaseEncoding() };
    let is_foreign = !matches!(encoding as u32, pg_sys::pg_enc::PG_UTF8 | pg_sys::pg_enc::PG_SQL_ASCII);
    is_foreign.then_some(encoding as u64)
}

/// The number of the running transaction, with its epoch; 0 if it has none.
pub fn full_xid() -> u64 {
    // SAFETY: reads backend-local variables.
    unsafe { GetTopFullTransactionIdIfAny().value }
}

/// The server's version, as `SHOW server_version` has it.
pub fn server_version() -> String {
    crate::pg::settings::value(c"server_version")
}

/// Whether there is a postmaster, and this is a process of its: not in single-user mode.
pub fn has_postmaster() -> bool {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::IsUnderPostmaster }
}

/// Whether this process takes part in shared memory as one that can wait.
pub fn has_process() -> bool {
    // SAFETY: reads a process-local variable.
    unsafe { !pg_sys::MyProc.is_null() }
}

/// The database of this backend, or InvalidOid.
pub fn database() -> pg_sys::Oid {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::MyDatabaseId }
}

/// The system identifier of this cluster: shared by a primary and its standbys, new after initdb.
pub fn system_identifier() -> u64 {
    // SAFETY: reads the control file's copy.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// Now, in microseconds of PostgreSQL's epoch.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { GetCurrentTimestamp() }
}

/// When the client's statement began, in the same unit.
pub fn statement_start() -> i64 {
    // SAFETY: reads a backend-local variable.
    unsafe { GetCurrentStatementStartTimestamp() }
}

/// A moment as text that casts to timestamptz; nothing for 0.
pub fn iso_time(microseconds: i64) -> String {
    if microseconds == 0 {
        return String::new();
    }
    // SAFETY: a static, NUL-terminated buffer.
    unsafe {
        let text = pg_sys::timestamptz_to_str(microseconds);
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

/// The minute of the day that a moment is in, in a time zone; None where there is no such zone.
pub fn minute_of_day(microseconds: i64, zone: &str) -> Option<u16> {
    // Seconds from 1970 to PostgreSQL's epoch.
    const EPOCH: i64 = 946_684_800;
    let zone = CString::new(zone).ok()?;
    let seconds: pg_sys::pg_time_t = microseconds.div_euclid(1_000_000) + EPOCH;
    // SAFETY: null where there is no such zone; the result is a static structure or null.
    unsafe {
        let zone = pg_sys::pg_tzset(zone.as_ptr());
        if zone.is_null() {
            return None;
        }
        let time = pg_sys::pg_localtime(&seconds, zone).as_ref()?;
        u16::try_from(time.tm_hour * 60 + time.tm_min).ok()
    }
}

/// Whether a replication client is on the other side.
pub fn is_walsender() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::am_walsender }
}

/// Has replication commands logged in this session; true if they were not by themselves.
pub fn log_replication_commands() -> bool {
    // SAFETY: a setting of that name; nothing that a role, a database or a client sets is stronger.
    unsafe {
        let were_not = !pg_sys::log_replication_commands;
        pg_sys::SetConfigOption(
            c"log_replication_commands".as_ptr(),
            c"on".as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
        were_not
    }
}

/// Whether changes are being decoded here: by a walsender or by a slot function.
pub fn is_decoding() -> bool {
    // SAFETY: reads backend-local variables.
    unsafe { !pg_sys::MyReplicationSlot.is_null() }
}

/// Whether catalogs are read as of a past moment: nothing of ours can be read then.
pub fn in_historic_snapshot() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { HistoricSnapshotActive() }
}

/// Whether this is a worker of somebody else's parallel query.
pub fn is_parallel_worker() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

/// Whether a transaction is open, so that catalogs can be read.
pub fn in_transaction() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { IsTransactionState() }
}

/// Whether this backend may serve a session here: connected, in a transaction, in a database.
pub fn can_read_catalog() -> bool {
    in_transaction() && database() != pg_sys::InvalidOid && !in_historic_snapshot()
}

/// Whether a relation is a system catalog.
pub fn is_catalog(relation: pg_sys::Oid) -> bool {
    namespace_of(relation).to_u32() == pg_sys::PG_CATALOG_NAMESPACE
}

/// The schema of a relation; InvalidOid where there is no such relation.
pub fn namespace_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_rel_namespace(relation) }
}

/// Whether this process applies what logical replication brings.
pub fn is_applying() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::IsLogicalWorker() }
}

/// Whether PostgreSQL is running the script of an extension, anybody's.
pub fn in_any_extension_script() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::creating_extension }
}

/// Whether pg_upgrade has started the server.
pub fn is_upgrading() -> bool {
    // SAFETY: reads a variable that is set at the start.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Whether the user whose rights count may have changes decoded.
pub fn may_decode() -> bool {
    let user = current_user();
    // SAFETY: a syscache look-up.
    is_superuser(user) || in_transaction() && unsafe { pg_sys::has_rolreplication(user) }
}

/// Whether a role is a superuser.
pub fn is_superuser(role: pg_sys::Oid) -> bool {
    // SAFETY: remembers its last answer, else a syscache look-up.
    in_transaction() && unsafe { pg_sys::superuser_arg(role) }
}

/// The name of the user whose rights count, if that is not the one who authenticated.
pub fn other_current_user() -> Option<String> {
    let current = current_user();
    (current != user()).then(|| role_name(current))
}

/// Whether PostgreSQL is running our own script: CREATE or ALTER EXTENSION pgpci.
pub fn in_extension_script() -> bool {
    // SAFETY: reads backend-local variables; missing_ok.
    unsafe {
        pg_sys::creating_extension
            && pg_sys::CurrentExtensionObject == pg_sys::get_extension_oid(c"pgpci".as_ptr(), true)
    }
}

/// The data directory.
pub fn data_directory() -> PathBuf {
    // SAFETY: set before libraries are preloaded.
    unsafe { PathBuf::from(CStr::from_ptr(pg_sys::DataDir).to_string_lossy().into_owned()) }
}

/// The directory of the postgres program.
pub fn program_directory() -> PathBuf {
    // SAFETY: a static, NUL-terminated buffer.
    let path = unsafe { CStr::from_ptr((&raw const pg_sys::my_exec_path).cast()) };
    let path = PathBuf::from(path.to_string_lossy().into_owned());
    path.parent().map(PathBuf::from).unwrap_or_default()
}

/// Raises what a cancel or terminate asked for.
pub fn check_interrupts() {
    pgrx::check_for_interrupts!();
}

/// Waits for the latch of this backend, at most `milliseconds`; interrupts raise.
pub fn wait(milliseconds: i64) {
    // SAFETY: MyLatch is set in every backend; exits on postmaster death.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_interrupts();
}

/// Whether the postmaster is loading shared_preload_libraries.
pub fn is_preloading() -> bool {
    // SAFETY: reads a process-local variable.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Settings of ours that are not defined are misspelt: from now on they are refused.
pub fn refuse_other_settings() {
    // SAFETY: the name is static.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"pgpci".as_ptr()) };
}

/// A backtrace in an error's detail goes to the client: there is none, whatever the environment says.
pub fn keep_backtraces_out_of_errors() {
    // SAFETY: the postmaster is single-threaded.
    unsafe { std::env::set_var("RUST_BACKTRACE", "0") };
}
