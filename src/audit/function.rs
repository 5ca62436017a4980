//! Functions that are events by themselves, for everybody: they read files, large objects, raw pages or what a slot
//! decodes, reach other servers, or steer this one. And the fast path, which calls a function without a statement.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::{scope, statement};
use crate::pg::local::Local;
use crate::pg::{called, session};

/// By name in pg_catalog.
const OF_POSTGRESQL: [&str; 34] = [
    "lo_export",
    "lo_get",
    "lo_import",
    "lo_put",
    "loread",
    "pg_backup_start",
    "pg_backup_stop",
    "pg_cancel_backend",
    "pg_copy_logical_replication_slot",
    "pg_copy_physical_replication_slot",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_create_restore_point",
    "pg_drop_replication_slot",
    "pg_file_write",
    "pg_logical_emit_message",
    "pg_logical_slot_get_binary_changes",
    "pg_logical_slot_get_changes",
    "pg_logical_slot_peek_binary_changes",
    "pg_logical_slot_peek_changes",
    "pg_ls_dir",
    "pg_promote",
    "pg_read_binary_file",
    "pg_read_file",
    "pg_reload_conf",
    "pg_replication_slot_advance",
    "pg_rotate_logfile",
    "pg_start_backup",
    "pg_stat_file",
    "pg_stop_backup",
    "pg_switch_wal",
    "pg_terminate_backend",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
];
/// By how their names begin, anywhere: dblink, pageinspect.
const OF_EXTENSIONS: [&str; 6] =
    ["dblink", "get_raw_page", "heap_page_item", "bt_page_items", "tuple_data_split", "pg_read_server"];

// Whether a function is one of them; functions hardly ever change their names.
static KNOWN: Local<RefCell<FxHashMap<pg_sys::Oid, bool>>> =
    Local::new(RefCell::new(FxHashMap::with_hasher(FxBuildHasher)));
static LAST_CALL: Local<Cell<i64>> = Local::new(Cell::new(0));

/// Whether a function that is about to be called may be an event. Only looks, and never raises: every function of
/// every statement comes by here.
pub fn may_be_listed(function: pg_sys::Oid) -> bool {
    let known = KNOWN.try_borrow().ok().and_then(|map| map.get(&function).copied());
    known != Some(false) || called::is_fast_path()
}

/// A function is about to be called.
pub fn calls(function: pg_sys::Oid) {
    if !session::can_read_catalog() || session::in_any_extension_script() {
        return;
    }
    let is_listed = KNOWN.with_borrow(|map| map.get(&function).copied()).unwrap_or_else(|| {
        let found = called::name(function).is_some_and(|(schema, name)| is_listed(&schema, &name));
        KNOWN.with_borrow_mut(|map| map.insert(function, found));
        found
    });
    // One call a message: what that function calls is its own matter.
    if called::is_fast_path() && LAST_CALL.replace(session::statement_start()) != session::statement_start() {
        if is_listed || scope::is_watched() {
            statement::fast_path(&object(function));
        }
    } else if is_listed {
        statement::calls(&object(function));
    }
}

fn is_listed(schema: &str, name: &str) -> bool {
    schema == "pg_catalog" && OF_POSTGRESQL.binary_search(&name).is_ok()
        || OF_EXTENSIONS.iter().any(|it| name.starts_with(it))
}

fn object(function: pg_sys::Oid) -> String {
    let (schema, name) = called::name(function).unwrap_or_default();
    format!("function {schema}.{name}")
}
