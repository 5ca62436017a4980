//! Where a card number that is written comes from: the expression, and the nodes of the plan below it.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::varlena_bytes;
use crate::pg::nodes::list;
use crate::pg::typed::Statement;
use crate::pg::{catalog, compat, constants};

/// Where an expression's value goes, and what its variables are.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The column itself, as each of the tables has it: by the table's place in the range table. What a variable for it
    /// holds stays where it is.
    pub(super) same: &'a [(i32, i32)],
    /// The node whose rows the expression is over.
    pub(super) below: *mut pg_sys::Plan,
    /// What inner variables are, where no join is below.
    pub(super) inner: Inner,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    /// Nothing special.
    None,
    /// Values that were judged already: those that INSERT proposed.
    Proposed,
    /// The rows of `Place::below`: those that MERGE takes its values from.
    Source,
}

impl Statement<'_> {
    /// # Safety
    /// `node` is a valid expression over the rows of `place.below`.
    pub(super) unsafe fn expression(&self, node: *mut pg_sys::Node, place: Place<'_>) -> bool {
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
            // What puts several into one value does not put what was typed beside what is there.
            let stays = if catalog::is_pan(pg_sys::exprType(node)) { place.same } else { &[] };
            let within = Place { same: stays, ..place };
            let parts = |nodes: *mut pg_sys::List| list(nodes).all(|node| self.expression(node, within));
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
                NodeTag::T_ArrayExpr => parts((*node.cast::<pg_sys::ArrayExpr>()).elements),
                NodeTag::T_CaseExpr => {
                    let case = &*node.cast::<pg_sys::CaseExpr>();
                    same(case.defresult.cast())
                        && list(case.args).all(|when| same((*when.cast::<pg_sys::CaseWhen>()).result.cast()))
                }
                NodeTag::T_RowExpr => parts((*node.cast::<pg_sys::RowExpr>()).args),
                NodeTag::T_SubscriptingRef => {
                    let part = &*node.cast::<pg_sys::SubscriptingRef>();
                    self.expression(part.refexpr.cast(), within)
                        && self.expression(part.refassgnexpr.cast(), within)
                }
                // PostgreSQL's functions and ours make of text, or of what they are given.
                NodeTag::T_FuncExpr => {
                    let call = &*node.cast::<pg_sys::FuncExpr>();
                    let is_known = call.funcid.to_u32() < pg_sys::FirstNormalObjectId
                        || self.catalog.is_ours(call.funcid);
                    is_known && parts(call.args)
                }
                NodeTag::T_Var => self.variable(&*node.cast(), place),
                // What a document gives comes from text, as above.
                _ => compat::json_defaults(node).is_some_and(|defaults| defaults.into_iter().all(same)),
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
            match place.inner {
                Inner::Proposed if var.varno == pg_sys::INNER_VAR => return true,
                Inner::Source if var.varno == pg_sys::INNER_VAR && var.varattno > 0 => {
                    return self.output(place.below, var.varattno as usize - 1, place);
                }
                _ => {}
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
                // What a document gives comes from text; a default is an expression.
                NodeTag::T_TableFuncScan => {
                    let scan = &*node.cast::<pg_sys::TableFuncScan>();
                    is_scan(&scan.scan)
                        && compat::table_function_columns(scan.tablefunc).into_iter().all(|columns| {
                            let value = list(columns).nth(attribute);
                            value.is_none_or(|value| self.expression(value, place.at(node)))
                        })
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
                | NodeTag::T_Memoize
                | NodeTag::T_Hash
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
        Self { below, inner: Inner::None, ..self }
    }
}

/// # Safety
/// `node` is a valid expression.
unsafe fn holds_pan(node: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract.
    let type_oid = unsafe { pg_sys::exprType(node) };
    catalog::contains_pan(type_oid) || type_oid == pg_sys::RECORDOID || type_oid == pg_sys::RECORDARRAYOID
}
