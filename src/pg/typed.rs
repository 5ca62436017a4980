//! Whether the card numbers that a statement writes were typed in it, or stay where they are.
//!
//! Only what is listed here counts: literals, parameters that hold what was typed, casts from text, and PostgreSQL's own
//! functions of those; followed through the nodes of the plan to where they stand (`typed_value`).

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog::{self, Catalog};
use crate::pg::nodes::{integers, list};
use crate::pg::plan::for_each_node;
use crate::pg::table_keys;
use crate::pg::typed_value::{Inner, Place};

/// Expressions that are looked at, at most.
const MAX_STEPS: u32 = 100_000;

/// What is known of a statement beside its plan.
#[derive(Clone, Copy)]
pub struct Known {
    /// Whether the parameters that it was given are typed.
    pub parameters: bool,
    /// Whether it is PostgreSQL's own, for a foreign key.
    pub cascades: bool,
    /// Whether a card number that is found in the plan is.
    pub is_typed: fn(&[u8]) -> bool,
}

/// Whether all that the plan writes to tables is.
pub fn writes_typed(plan: *mut pg_sys::PlannedStmt, known: Known) -> bool {
    let Some(catalog) = catalog::get() else { return false };
    // SAFETY: a valid plan, read only; the tag says what the node is. ModifyTable names the tables by their place in
    // the range table, from 1.
    unsafe {
        !for_each_node(plan, &mut |node| {
            (*node.cast::<pg_sys::Node>()).type_ == NodeTag::T_ModifyTable && {
                let write = &*node.cast::<pg_sys::ModifyTable>();
                let tables = integers(write.resultRelations).map(|number| {
                    let entry = list((*plan).rtable).nth(number as usize - 1);
                    let entry = entry.map(|e| (*e.cast::<pg_sys::RangeTblEntry>()).relid);
                    (number, entry.unwrap_or(pg_sys::InvalidOid))
                });
                let tables: Vec<_> = tables.collect();
                let steps = Cell::new(MAX_STEPS);
                !Statement { catalog: &catalog, plan, write, tables: &tables, known, steps }.is_typed()
            }
        })
    }
}

/// What is written, and by what.
pub(super) struct Statement<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) plan: *mut pg_sys::PlannedStmt,
    write: &'a pg_sys::ModifyTable,
    /// Each table that it writes: its place in the range table, and itself.
    tables: &'a [(i32, pg_sys::Oid)],
    pub(super) known: Known,
    /// What is left of `MAX_STEPS`.
    pub(super) steps: Cell<u32>,
}

impl Statement<'_> {
    /// # Safety
    /// The plan node is valid.
    unsafe fn is_typed(&self) -> bool {
        use pg_sys::CmdType as C;
        // SAFETY: by contract.
        unsafe {
            let below = self.write.plan.lefttree;
            let Some(&(first, _)) = self.tables.first() else { return false };
            let values = match self.write.operation {
                C::CMD_INSERT => {
                    let place = Place { same: &[], below, inner: Inner::None };
                    entries((*below).targetlist).all(|entry| self.expression((*entry).expr.cast(), place))
                }
                C::CMD_UPDATE => {
                    let columns: Vec<*mut pg_sys::List> =
                        list(self.write.updateColnosLists).map(|columns| columns.cast()).collect();
                    let leaves_keys =
                        self.tables.iter().zip(&columns).all(|(t, c)| self.leaves_keys(t.1, *c));
                    leaves_keys
                        && entries((*below).targetlist).enumerate().all(|(i, entry)| {
                            let same = self.tables.iter().zip(&columns);
                            let same: Vec<_> =
                                same.filter_map(|(t, c)| Some((t.0, integers(*c).nth(i)?))).collect();
                            let place = Place { same: &same, below, inner: Inner::None };
                            self.expression((*entry).expr.cast(), place)
                        })
                }
                C::CMD_DELETE => true,
                C::CMD_MERGE => {
                    list(self.write.mergeActionLists).zip(self.tables).all(|(actions, &(number, table))| {
                        list(actions.cast()).all(|action| self.action(&*action.cast(), number, table))
                    })
                }
                _ => false,
            };
            let columns = self.write.onConflictCols;
            let conflict = self.tables.iter().all(|&(_, table)| self.leaves_keys(table, columns))
                && integers(columns).zip(entries(self.write.onConflictSet)).all(|(column, entry)| {
                    let place = Place { same: &[(first, column)], below, inner: Inner::Proposed };
                    self.expression((*entry).expr.cast(), place)
                });
            values && conflict
        }
    }

    /// # Safety
    /// All are valid.
    unsafe fn action(&self, action: &pg_sys::MergeAction, number: i32, table: pg_sys::Oid) -> bool {
        use pg_sys::CmdType as C;
        // SAFETY: by contract.
        unsafe {
            let below = self.write.plan.lefttree;
            let mut values = entries(action.targetList).map(|entry| (*entry).expr.cast());
            match action.commandType {
                C::CMD_INSERT => {
                    let place = Place { same: &[], below, inner: Inner::Source };
                    values.all(|value| self.expression(value, place))
                }
                C::CMD_UPDATE => {
                    self.leaves_keys(table, action.updateColnos)
                        && integers(action.updateColnos).zip(values).all(|(column, value)| {
                            let place = Place { same: &[(number, column)], below, inner: Inner::Source };
                            self.expression(value, place)
                        })
                }
                _ => true,
            }
        }
    }

    /// Whether no column is written that decides, together with a card number, what is referred to or in which
    /// partition: a stored card number would be compared anew. PostgreSQL's own cascade takes both from a row that is
    /// there. Nor one that takes the row from a partition that compares nothing to one that may.
    ///
    /// # Safety
    /// `columns` is a list of column numbers.
    unsafe fn leaves_keys(&self, table: pg_sys::Oid, columns: *mut pg_sys::List) -> bool {
        // SAFETY: by contract.
        let mut written = unsafe { integers(columns) };
        !written.any(|column| {
            table_keys::leads_to_pan_key(table, column)
                || (!self.known.cascades && table_keys::shares_key_with_pan(table, column))
        })
    }
}

/// The entries of a target list that are of the table, in order.
///
/// # Safety
/// `targets` is a target list.
unsafe fn entries(targets: *mut pg_sys::List) -> impl Iterator<Item = *mut pg_sys::TargetEntry> {
    // SAFETY: by contract.
    unsafe { list(targets).map(|entry| entry.cast::<pg_sys::TargetEntry>()).filter(|e| !(**e).resjunk) }
}
