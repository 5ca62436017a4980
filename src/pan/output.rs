//! When a card number leaves in its sealed form instead of its mask: in COPY TO, in pg_dump's cursor, where
//! changes are decoded or replicated, and where the session asks for it. Under the capability `export`.

use std::cell::Cell;

use crate::guc::{self, PanOutput};
use crate::pg::local::Local;
use crate::pg::session;

static EXPORTING: Local<Cell<u32>> = Local::new(Cell::new(0));
static DUMPING: Local<Cell<bool>> = Local::new(Cell::new(false));
static STORING: Local<Cell<u32>> = Local::new(Cell::new(0));

/// The cursor that pg_dump --inserts reads tables through.
pub const DUMP_CURSOR: &[u8] = b"_pg_dump_cursor";

/// Whether values leave sealed now.
pub fn is_sealed() -> bool {
    EXPORTING.get() > 0
        || DUMPING.get()
        || guc::PAN_OUTPUT.get() == PanOutput::Sealed
        || session::is_walsender()
        || session::is_decoding()
}

/// Whether a utility statement runs that keeps what it reads (COPY FROM, DDL): no value for comparison only.
pub fn is_storing() -> bool {
    STORING.get() > 0
}

/// pg_dump's cursor is declared, or its transaction is over.
pub fn dumping(begins: bool) {
    DUMPING.set(begins);
}

/// A COPY TO begins or ends.
pub fn exporting(begins: bool) {
    EXPORTING.set(if begins { EXPORTING.get() + 1 } else { EXPORTING.get().saturating_sub(1) });
}

/// A COPY FROM or DDL begins or ends.
pub fn storing(begins: bool) {
    STORING.set(if begins { STORING.get() + 1 } else { STORING.get().saturating_sub(1) });
}

/// How deep both are, to be restored when a subtransaction's failure cuts statements off.
pub fn depth() -> (u32, u32) {
    (EXPORTING.get(), STORING.get())
}

/// Back to a depth.
pub fn set_depth(depth: (u32, u32)) {
    EXPORTING.set(depth.0);
    STORING.set(depth.1);
}
