//! What kind of statement it is.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

/// Utility statements that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Utility {
    /// Nothing to note.
    Other,
    /// COPY TO, or a fetch from the dump's cursor: values leave.
    Exports,
    /// COPY FROM or DDL: values that it reads are kept.
    Stores,
    /// ANALYZE.
    Analyzes,
}

/// Classifies a utility statement.
pub fn classify(node: *mut pg_sys::Node, dump_cursor: &[u8]) -> Utility {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_CopyStmt if (*node.cast::<pg_sys::CopyStmt>()).is_from => Utility::Stores,
            NodeTag::T_CopyStmt => Utility::Exports,
            NodeTag::T_FetchStmt => {
                let portal = (*node.cast::<pg_sys::FetchStmt>()).portalname;
                let dumps = !portal.is_null() && CStr::from_ptr(portal).to_bytes() == dump_cursor;
                if dumps { Utility::Exports } else { Utility::Other }
            }
            NodeTag::T_VacuumStmt => Utility::Analyzes,
            NodeTag::T_AlterTableStmt
            | NodeTag::T_CreateStmt
            | NodeTag::T_CreateTableAsStmt
            | NodeTag::T_RefreshMatViewStmt
            | NodeTag::T_ViewStmt
            | NodeTag::T_RuleStmt
            | NodeTag::T_CreatePolicyStmt
            | NodeTag::T_AlterPolicyStmt
            | NodeTag::T_CreateTrigStmt
            | NodeTag::T_CreateDomainStmt
            | NodeTag::T_AlterDomainStmt
            | NodeTag::T_CreateFunctionStmt
            | NodeTag::T_IndexStmt => Utility::Stores,
            _ => Utility::Other,
        }
    }
}

/// Whether the executor was started by PostgreSQL's foreign-key machinery: it alone asks that triggers wait
/// for the outer statement; no SQL can.
pub fn is_foreign_key(flags: i32) -> bool {
    flags & pg_sys::EXEC_FLAG_SKIP_TRIGGERS as i32 != 0
}

/// Whether a query may be one of the foreign-key machinery, before it starts.
pub fn may_be_foreign_key() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::InNoForceRLSOperation() }
}
