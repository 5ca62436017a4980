//! A query that is being executed.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::varlena_bytes;
use crate::pg::nodes::{integers, list, oids};
use crate::pg::plan::for_each_node;
use crate::pg::{catalog, constants, table_keys};

/// The relations that it writes, and the tables whose partitions they are: a row may move to any of those.
pub fn targets(desc: *mut pg_sys::QueryDesc) -> Vec<pg_sys::Oid> {
    // SAFETY: a valid descriptor; resultRelations are indexes into the range table, from 1.
    unsafe {
        let plan = (*desc).plannedstmt;
        let mut numbers: Vec<i32> = integers((*plan).resultRelations).collect();
        if numbers.is_empty() {
            return Vec::new();
        }
        for_each_node(plan, &mut |node| {
            if (*node.cast::<pg_sys::Node>()).type_ == NodeTag::T_ModifyTable {
                numbers.push((*node.cast::<pg_sys::ModifyTable>()).rootRelation as i32);
            }
            false
        });
        numbers
            .into_iter()
            .filter_map(|number| list((*plan).rtable).nth(usize::try_from(number - 1).ok()?))
            .map(|entry| (*entry.cast::<pg_sys::RangeTblEntry>()).relid)
            .collect()
    }
}

/// Whether it writes to tables only for which `f` holds; a result that becomes a table is none of those.
pub fn writes_only(desc: *mut pg_sys::QueryDesc, mut f: impl FnMut(pg_sys::Oid) -> bool) -> bool {
    use pg_sys::CommandDest as D;
    // SAFETY: a valid descriptor; resultRelations are indexes into the range table, from 1.
    unsafe {
        let plan = (*desc).plannedstmt;
        let entry = |number: i32| list((*plan).rtable).nth(usize::try_from(number - 1).ok()?);
        (*desc).dest.as_ref().is_none_or(|d| !matches!(d.mydest, D::DestIntoRel | D::DestTransientRel))
            && !(*plan).resultRelations.is_null()
            && integers((*plan).resultRelations)
                .all(|number| entry(number).is_some_and(|it| f((*it.cast::<pg_sys::RangeTblEntry>()).relid)))
    }
}

/// Whether its result becomes a table that may hold several card numbers in one value.
pub fn makes_containers(desc: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: a valid descriptor; a target list is one of expressions.
    unsafe {
        let becomes_table = (*desc).dest.as_ref().is_some_and(|d| {
            matches!(d.mydest, pg_sys::CommandDest::DestIntoRel | pg_sys::CommandDest::DestTransientRel)
        });
        becomes_table
            && list((*(*(*desc).plannedstmt).planTree).targetlist).any(|entry| {
                let entry = &*entry.cast::<pg_sys::TargetEntry>();
                !entry.resjunk && catalog::is_container(pg_sys::exprType(entry.expr.cast()))
            })
    }
}

/// Whether it deletes and does nothing else.
pub fn only_deletes(desc: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: a valid descriptor.
    unsafe { (*desc).operation == pg_sys::CmdType::CMD_DELETE && !(*(*desc).plannedstmt).hasModifyingCTE }
}

/// Calls `f` with each card number that its parameters hold: the stored bytes, or None for a row, which is not looked
/// into.
pub fn for_each_parameter_with_pan(desc: *mut pg_sys::QueryDesc, mut f: impl FnMut(Option<&[u8]>)) {
    // SAFETY: a valid descriptor. A procedural language hands its variables over one by one, as they are asked for.
    unsafe {
        let (params, Some(catalog)) = ((*desc).params, catalog::get()) else { return };
        if params.is_null() {
            return;
        }
        for i in 0..(*params).numParams as usize {
            let mut place = pg_sys::ParamExternData::default();
            let param = match (*params).paramFetch {
                Some(fetch) => {
                    let (number, place) = (i as i32 + 1, &raw mut place);
                    #[allow(ffi_unwind_calls, reason = "guarded")]
                    pg_sys::ffi::pg_guard_ffi_boundary(|| fetch(params, number, true, place))
                }
                None => (*params).params.as_mut_ptr().add(i),
            };
            let param = &*param;
            if param.isnull || !(catalog::contains_pan(param.ptype) || is_record(param.ptype)) {
                continue;
            }
            if param.ptype == catalog.pan {
                f(Some(varlena_bytes(param.value)));
            } else if pg_sys::get_element_type(param.ptype) == catalog.pan {
                constants::elements(param.value, catalog.pan).into_iter().for_each(|value| f(Some(value)));
            } else {
                f(None);
            }
        }
    }
}

fn is_record(type_oid: pg_sys::Oid) -> bool {
    type_oid == pg_sys::RECORDOID || type_oid == pg_sys::RECORDARRAYOID
}

/// Whether it reads tables, or anything else that its FROM names; else it may be a bare expression.
pub fn reads_tables(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a valid query tree.
    unsafe { !(*query).rtable.is_null() }
}

/// Has the executor count what ON CONFLICT meets, wherever in the plan it stands.
pub fn count_conflicts(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: before ExecutorStart, which reads the options; the tag says what a node is.
    unsafe {
        let meets = for_each_node((*desc).plannedstmt, &mut |node| {
            (*node.cast::<pg_sys::Node>()).type_ == NodeTag::T_ModifyTable && meets_pan(&*node.cast())
        });
        if meets {
            (*desc).instrument_options |= pg_sys::InstrumentOption::INSTRUMENT_ROWS as i32;
        }
    }
}

/// Whether ON CONFLICT may meet card numbers: where it names no index, or one over them.
///
/// # Safety
/// `write` is valid.
unsafe fn meets_pan(write: &pg_sys::ModifyTable) -> bool {
    // SAFETY: by contract; the list is one of OIDs.
    write.onConflictAction != pg_sys::OnConflictAction::ONCONFLICT_NONE
        && (write.arbiterIndexes.is_null()
            || unsafe { oids(write.arbiterIndexes) }.any(table_keys::is_index_over_pan))
}

/// What ON CONFLICT has met so far.
pub fn conflicts(desc: *mut pg_sys::QueryDesc) -> u64 {
    // SAFETY: between ExecutorStart and ExecutorEnd; the tag says what a node is.
    unsafe {
        let count = |state: *mut pg_sys::PlanState| {
            let is_write = !state.is_null()
                && (*state.cast::<pg_sys::Node>()).type_ == NodeTag::T_ModifyTableState
                && meets_pan(&*(*state).plan.cast());
            let instrument = if is_write { (*state).instrument } else { std::ptr::null_mut() };
            if instrument.is_null() { 0 } else { (*instrument).ntuples2 as u64 }
        };
        let estate = (*desc).estate;
        let below: u64 = match estate.is_null() {
            true => 0,
            false => list((*estate).es_auxmodifytables)
                .map(|state| state.cast())
                // The list has the outermost one, too, where there are several.
                .filter(|state| *state != (*desc).planstate)
                .map(count)
                .sum(),
        };
        count((*desc).planstate) + below
    }
}

/// How many rows a query has given or changed.
pub fn processed(desc: *mut pg_sys::QueryDesc) -> u64 {
    // SAFETY: before ExecutorEnd.
    unsafe { if (*desc).estate.is_null() { 0 } else { (*(*desc).estate).es_processed } }
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
