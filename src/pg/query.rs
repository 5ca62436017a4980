//! A query that is being executed.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::varlena_bytes;
use crate::pg::{catalog, compat};

/// The relations that it writes.
pub fn targets(desc: *mut pg_sys::QueryDesc) -> Vec<pg_sys::Oid> {
    // SAFETY: a valid descriptor; resultRelations are indexes into the range table, from 1.
    unsafe {
        let plan = (*desc).plannedstmt;
        let relations = (*plan).resultRelations;
        if relations.is_null() {
            return Vec::new();
        }
        (0..(*relations).length as usize)
            .map(|i| (*(*relations).elements.add(i)).int_value as usize - 1)
            .map(|i| (*(*(*plan).rtable).elements.add(i)).ptr_value.cast::<pg_sys::RangeTblEntry>())
            .map(|entry| (*entry).relid)
            .collect()
    }
}

/// Whether it deletes and does nothing else.
pub fn only_deletes(desc: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: a valid descriptor.
    unsafe { (*desc).operation == pg_sys::CmdType::CMD_DELETE && !(*(*desc).plannedstmt).hasModifyingCTE }
}

/// Whether it writes card numbers into their columns: any INSERT, MERGE or CTE may, an UPDATE that sets such a column
/// does. An UPDATE of other columns only keeps what the row has.
pub fn sets_pan(desc: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: a valid descriptor.
    unsafe {
        let plan = (*desc).plannedstmt;
        if only_deletes(desc) {
            return false;
        }
        if (*desc).operation != pg_sys::CmdType::CMD_UPDATE || (*plan).hasModifyingCTE {
            return true;
        }
        compat::updated_columns(plan).any(|(relation, columns)| {
            let mut bit = -1;
            std::iter::from_fn(|| {
                bit = pg_sys::bms_next_member(columns, bit);
                (bit >= 0).then_some(bit + pg_sys::FirstLowInvalidHeapAttributeNumber)
            })
            .any(|column| catalog::contains_pan(pg_sys::get_atttype(relation, column as i16)))
        })
    }
}

/// Calls `f` with each card number among its parameters.
pub fn for_each_pan_parameter(desc: *mut pg_sys::QueryDesc, mut f: impl FnMut(&[u8])) {
    // SAFETY: a valid descriptor; parameters of SPI queries are all there.
    unsafe {
        let (params, Some(catalog)) = ((*desc).params, catalog::get()) else { return };
        if params.is_null() {
            return;
        }
        for i in 0..(*params).numParams as usize {
            let param = &*(*params).params.as_ptr().add(i);
            if !param.isnull && param.ptype == catalog.pan {
                f(varlena_bytes(param.value));
            }
        }
    }
}

/// Whether a foreign-key query looks for the referenced row of a new one: PostgreSQL writes the parameter last in it,
/// and first in those that look for rows that refer to an old one.
pub fn looks_for_referenced(desc: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: the text of a query is a C string, or null.
    unsafe {
        let text = (*desc).sourceText;
        !text.is_null() && !std::ffi::CStr::from_ptr(text).to_bytes().windows(9).any(|w| w == b" WHERE $1")
    }
}

/// Whether it reads tables, or anything else that its FROM names; else it may be a bare expression.
pub fn reads_tables(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a valid query tree.
    unsafe { !(*query).rtable.is_null() }
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
