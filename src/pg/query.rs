//! A query that is being executed.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

/// The relations that it inserts into or updates.
pub fn targets(desc: *mut pg_sys::QueryDesc) -> Vec<pg_sys::Oid> {
    // SAFETY: a valid descriptor; resultRelations are indexes into the range table, from 1.
    unsafe {
        let plan = (*desc).plannedstmt;
        let relations = (*plan).resultRelations;
        let only_deletes = (*desc).operation == pg_sys::CmdType::CMD_DELETE && !(*plan).hasModifyingCTE;
        if relations.is_null() || only_deletes {
            return Vec::new();
        }
        (0..(*relations).length as usize)
            .map(|i| (*(*relations).elements.add(i)).int_value as usize - 1)
            .map(|i| (*(*(*plan).rtable).elements.add(i)).ptr_value.cast::<pg_sys::RangeTblEntry>())
            .map(|entry| (*entry).relid)
            .collect()
    }
}

/// Has the executor count what ON CONFLICT meets.
pub fn count_conflicts(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: before ExecutorStart, which reads the options.
    unsafe {
        let top = (*(*desc).plannedstmt).planTree;
        if (*top.cast::<pg_sys::Node>()).type_ == NodeTag::T_ModifyTable
            && (*top.cast::<pg_sys::ModifyTable>()).onConflictAction
                != pg_sys::OnConflictAction::ONCONFLICT_NONE
        {
            (*desc).instrument_options |= pg_sys::InstrumentOption::INSTRUMENT_ROWS as i32;
        }
    }
}

/// What ON CONFLICT met; None where only a CTE writes.
pub fn conflicts(desc: *mut pg_sys::QueryDesc) -> Option<u64> {
    // SAFETY: before ExecutorEnd frees the state.
    unsafe {
        let state = (*desc).planstate;
        if state.is_null() || (*state.cast::<pg_sys::Node>()).type_ != NodeTag::T_ModifyTableState {
            return None;
        }
        let instrument = (*state).instrument;
        Some(if instrument.is_null() { 0 } else { (*instrument).ntuples2 as u64 })
    }
}

/// Its plan.
pub fn plan(desc: *mut pg_sys::QueryDesc) -> *mut pg_sys::PlannedStmt {
    // SAFETY: a valid descriptor.
    unsafe { (*desc).plannedstmt }
}

/// SELECT, INSERT, ….
pub fn operation(desc: *mut pg_sys::QueryDesc) -> pg_sys::CmdType::Type {
    // SAFETY: a valid descriptor.
    unsafe { (*desc).operation }
}

/// Whether it writes to a table: by its kind, by a CTE, or because its result becomes one.
pub fn writes(desc: *mut pg_sys::QueryDesc) -> bool {
    use pg_sys::CommandDest as D;
    // SAFETY: a valid descriptor.
    unsafe {
        (*desc).operation != pg_sys::CmdType::CMD_SELECT
            || (*(*desc).plannedstmt).hasModifyingCTE
            || (*desc).dest.as_ref().is_some_and(|d| matches!(d.mydest, D::DestIntoRel | D::DestTransientRel))
    }
}
