//! Whether the card numbers that a statement writes were typed in it, or stay where they are.
//!
//! Only what is listed here counts: literals, parameters that hold what was typed, casts from text, and PostgreSQL's own
//! functions of those; followed through the nodes of the plan to where they stand.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::varlena_bytes;
use crate::pg::catalog::{self, Catalog};
use crate::pg::constants;
use crate::pg::nodes::{integers, list};
use crate::pg::plan::for_each_node;
use crate::pg::relation;

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

struct Statement<'a> {
    catalog: &'a Catalog,
    plan: *mut pg_sys::PlannedStmt,
    write: &'a pg_sys::ModifyTable,
    /// Each table that it writes: its place in the range table, and itself.
    tables: &'a [(i32, pg_sys::Oid)],
    known: Known,
    /// What is left of `MAX_STEPS`.
    steps: Cell<u32>,
}

/// Where an expression's value goes, and what its variables are.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The column itself, as each of the tables has it: by the table's place in the range table. What a variable for it
    /// holds stays where it is.
    same: &'a [(i32, i32)],
    /// The node whose rows the expression is over.
    below: *mut pg_sys::Plan,
    /// Whether inner variables are values that were judged already: those that INSERT proposed.
    proposed: bool,
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
                    let place = Place { same: &[], below, proposed: false };
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
                            let place = Place { same: &same, below, proposed: false };
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
                    let place = Place { same: &[(first, column)], below, proposed: true };
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
            let nothing = std::ptr::null_mut();
            let mut values = entries(action.targetList).map(|entry| (*entry).expr.cast());
            match action.commandType {
                C::CMD_INSERT => {
                    let place = Place { same: &[], below: nothing, proposed: false };
                    values.all(|value| self.expression(value, place))
                }
                C::CMD_UPDATE => {
                    self.leaves_keys(table, action.updateColnos)
                        && integers(action.updateColnos).zip(values).all(|(column, value)| {
                            let place = Place { same: &[(number, column)], below: nothing, proposed: false };
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
            relation::leads_to_pan_key(table, column)
                || (!self.known.cascades && relation::shares_key_with_pan(table, column))
        })
    }

    /// # Safety
    /// `node` is a valid expression over the rows of `place.below`.
    unsafe fn expression(&self, node: *mut pg_sys::Node, place: Place<'_>) -> bool {
        // SAFETY: by contract; the tag says what the node is.
        unsafe {
            if node.is_null() || !holds_pan(node) {
                return true;
            }
            // A column that is named twice at each of many levels would be followed for ever.
            self.steps.set(self.steps.get().saturating_sub(1));
            if self.steps.get() == 0 {
                return false;
            }
            let same = |node: *mut pg_sys::Node| self.expression(node, place);
            let all = |nodes: *mut pg_sys::List| list(nodes).all(|node| self.expression(node, place));
            match (*node).type_ {
                NodeTag::T_Const => self.known.parameters && self.constant(&*node.cast()),
                NodeTag::T_Param => {
                    let kind = (*node.cast::<pg_sys::Param>()).paramkind;
                    kind == pg_sys::ParamKind::PARAM_EXTERN && self.known.parameters
                }
                NodeTag::T_RelabelType => same((*node.cast::<pg_sys::RelabelType>()).arg.cast()),
                NodeTag::T_CoerceToDomain => same((*node.cast::<pg_sys::CoerceToDomain>()).arg.cast()),
                NodeTag::T_ArrayCoerceExpr => same((*node.cast::<pg_sys::ArrayCoerceExpr>()).arg.cast()),
                // From text: what a stored card number gives as text is a mask.
                NodeTag::T_CoerceViaIO => !holds_pan((*node.cast::<pg_sys::CoerceViaIO>()).arg.cast()),
                NodeTag::T_CoalesceExpr => all((*node.cast::<pg_sys::CoalesceExpr>()).args),
                NodeTag::T_ArrayExpr => all((*node.cast::<pg_sys::ArrayExpr>()).elements),
                NodeTag::T_CaseExpr => {
                    let case = &*node.cast::<pg_sys::CaseExpr>();
                    same(case.defresult.cast())
                        && list(case.args).all(|when| same((*when.cast::<pg_sys::CaseWhen>()).result.cast()))
                }
                NodeTag::T_RowExpr => all((*node.cast::<pg_sys::RowExpr>()).args),
                NodeTag::T_SubscriptingRef => {
                    let part = &*node.cast::<pg_sys::SubscriptingRef>();
                    same(part.refexpr.cast()) && same(part.refassgnexpr.cast())
                }
                // PostgreSQL's functions and ours make of text, or of what they are given.
                NodeTag::T_FuncExpr => {
                    let call = &*node.cast::<pg_sys::FuncExpr>();
                    let is_known = call.funcid.to_u32() < pg_sys::FirstNormalObjectId
                        || self.catalog.is_ours(call.funcid);
                    is_known && all(call.args)
                }
                NodeTag::T_Var => self.variable(&*node.cast(), place),
                _ => false,
            }
        }
    }

    /// A literal, or a parameter that a custom plan replaced: both have a place in the text. What the planner has worked
    /// out by calling a function has none, and may come from anywhere.
    ///
    /// # Safety
    /// `constant` is valid.
    unsafe fn constant(&self, constant: &pg_sys::Const) -> bool {
        if constant.constisnull || constant.location >= 0 {
            return true;
        }
        let (pan, is_typed) = (self.catalog.pan, self.known.is_typed);
        // SAFETY: by contract; the type says what the value is.
        unsafe {
            if constant.consttype == pan {
                return is_typed(varlena_bytes(constant.constvalue));
            }
            pg_sys::get_element_type(constant.consttype) == pan
                && constants::elements(constant.constvalue, pan).into_iter().all(is_typed)
        }
    }

    /// # Safety
    /// `var` is over the rows of `place.below`.
    unsafe fn variable(&self, var: &pg_sys::Var, place: Place<'_>) -> bool {
        // SAFETY: by contract.
        unsafe {
            if place.proposed && var.varno == pg_sys::INNER_VAR {
                return true;
            }
            place.same.contains(&(var.varno, i32::from(var.varattno))) || self.column(place.below, var, place)
        }
    }

    /// Whether a variable, as a plan node has it, is typed where it comes from.
    ///
    /// # Safety
    /// `node` is null or a valid plan node.
    unsafe fn column(&self, node: *mut pg_sys::Plan, var: &pg_sys::Var, place: Place<'_>) -> bool {
        if node.is_null() || var.varattno < 1 {
            return false;
        }
        // SAFETY: by contract; the tag says what the node is, and scans name their place in the range table.
        unsafe {
            pg_sys::check_stack_depth();
            let attribute = var.varattno as usize - 1;
            let of = |below: *mut pg_sys::Plan| self.output(below, attribute, place);
            let is_scan = |scan: &pg_sys::Scan| var.varno == scan.scanrelid as i32;
            match (*node.cast::<pg_sys::Node>()).type_ {
                NodeTag::T_ValuesScan => {
                    let scan = &*node.cast::<pg_sys::ValuesScan>();
                    let value = |row: *mut pg_sys::Node| list(row.cast()).nth(attribute);
                    is_scan(&scan.scan)
                        && list(scan.values_lists)
                            .all(|row| value(row).is_some_and(|value| self.expression(value, place.at(node))))
                }
                NodeTag::T_SubqueryScan => {
                    let scan = &*node.cast::<pg_sys::SubqueryScan>();
                    is_scan(&scan.scan) && of(scan.subplan)
                }
                NodeTag::T_CteScan => {
                    let scan = &*node.cast::<pg_sys::CteScan>();
                    let below = list((*self.plan).subplans).nth(scan.ctePlanId as usize - 1);
                    is_scan(&scan.scan) && below.is_some_and(|below| of(below.cast()))
                }
                NodeTag::T_FunctionScan => {
                    let scan = &*node.cast::<pg_sys::FunctionScan>();
                    is_scan(&scan.scan)
                        && list(scan.functions).all(|function| {
                            let function = &*function.cast::<pg_sys::RangeTblFunction>();
                            self.expression(function.funcexpr, place.at(node))
                        })
                }
                NodeTag::T_Append => {
                    list((*node.cast::<pg_sys::Append>()).appendplans).all(|below| of(below.cast()))
                }
                NodeTag::T_NestLoop | NodeTag::T_HashJoin | NodeTag::T_MergeJoin => match var.varno {
                    pg_sys::OUTER_VAR => of((*node).lefttree),
                    pg_sys::INNER_VAR => of((*node).righttree),
                    _ => false,
                },
                NodeTag::T_Result
                | NodeTag::T_ProjectSet
                | NodeTag::T_Limit
                | NodeTag::T_Sort
                | NodeTag::T_IncrementalSort
                | NodeTag::T_Material
                | NodeTag::T_Gather
                | NodeTag::T_LockRows => var.varno == pg_sys::OUTER_VAR && of((*node).lefttree),
                _ => false,
            }
        }
    }

    /// Whether a column that a plan node gives is typed.
    ///
    /// # Safety
    /// `node` is null or a valid plan node.
    unsafe fn output(&self, node: *mut pg_sys::Plan, attribute: usize, place: Place<'_>) -> bool {
        // SAFETY: by contract.
        unsafe {
            if node.is_null() {
                return false;
            }
            let entry = list((*node).targetlist).nth(attribute);
            entry.is_some_and(|entry| {
                self.expression((*entry.cast::<pg_sys::TargetEntry>()).expr.cast(), place.at(node))
            })
        }
    }
}

impl Place<'_> {
    /// An expression that a node further down works out. Each row of the table that is written comes from below once: its
    /// columns are the same there.
    fn at(self, below: *mut pg_sys::Plan) -> Self {
        Self { below, proposed: false, ..self }
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

/// # Safety
/// `node` is a valid expression.
unsafe fn holds_pan(node: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract.
    let type_oid = unsafe { pg_sys::exprType(node) };
    catalog::contains_pan(type_oid) || type_oid == pg_sys::RECORDOID || type_oid == pg_sys::RECORDARRAYOID
}
