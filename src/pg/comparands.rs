//! Comparands in the trees of a statement: literals, parameters and texts that are compared with a card number.
//!
//! They take the vault of the column that they are compared with. Literals do when they are parsed, while the
//! transaction lasts that made them; parameters and texts when the statement is planned, by a function around them
//! that leaves the comparison to the index. In a finished plan, what is known by then becomes a card number made for
//! comparison only: it is hashed once instead of once a scan, and `EXPLAIN` and auto_explain have nothing but a mask
//! to print.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::binder::Binder;
use crate::pg::call::Call;
use crate::pg::catalog;
use crate::pg::compat::{expression_tree_walker, query_tree_walker};
use crate::pg::plan::{self, for_each_node};

/// Marks a call of ours. Card numbers have no collation: a call that a user writes never has one.
pub const OURS: pg_sys::Oid = pg_sys::C_COLLATION_OID;

/// How values are made; each takes what is at hand and the number of a vault. None: it stays as it is.
pub struct Make {
    /// The vault of columns without one, where nothing needs to be bound.
    pub default: i32,
    /// A comparand from text; None where it cannot be made now: then the comparison says so when it is run.
    pub of_text: fn(&[u8], i32) -> Option<Vec<u8>>,
    /// A comparand from a card number of no vault.
    pub of_pan: fn(&[u8], i32) -> Option<Vec<u8>>,
    /// The same for a literal that is found in a query tree.
    pub of_kept: fn(&[u8], i32) -> Option<Vec<u8>>,
    /// The same for a literal that is parsed.
    pub of_literal: fn(&[u8], i32) -> Option<Vec<u8>>,
    /// A literal in the vault that it is cast to.
    pub moved: fn(&[u8], i32) -> Option<Vec<u8>>,
}

/// How far the statement is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Just parsed.
    Parsed,
    /// About to be planned.
    Planning,
    /// The same, its parameters hold stored values.
    PlanningTexts,
    /// Planned.
    Planned,
}

/// The query that a statement which was just parsed is about: itself, or what EXPLAIN, CREATE TABLE AS and DECLARE hold;
/// None for other utility statements.
pub fn subject(query: *mut pg_sys::Query) -> Option<*mut pg_sys::Query> {
    // SAFETY: a valid query tree; the tags say what the nodes are.
    unsafe {
        let statement = (*query).utilityStmt;
        if statement.is_null() {
            return Some(query);
        }
        let inner = match (*statement).type_ {
            NodeTag::T_ExplainStmt => (*statement.cast::<pg_sys::ExplainStmt>()).query,
            NodeTag::T_CreateTableAsStmt => (*statement.cast::<pg_sys::CreateTableAsStmt>()).query,
            NodeTag::T_DeclareCursorStmt => (*statement.cast::<pg_sys::DeclareCursorStmt>()).query,
            _ => return None,
        };
        let is_query = !inner.is_null() && (*inner).type_ == NodeTag::T_Query;
        if is_query { subject(inner.cast()) } else { None }
    }
}

/// Binds the literals of a query that was just parsed.
pub fn bind_literals(query: *mut pg_sys::Query, make: &Make) {
    bind(query, make, Stage::Parsed);
}

/// Binds parameters and texts of a query that is about to be planned; the planner may scribble on it, and so may we.
/// `only_texts`: its parameters hold stored values.
pub fn bind_parameters(query: *mut pg_sys::Query, make: &Make, only_texts: bool) {
    bind(query, make, if only_texts { Stage::PlanningTexts } else { Stage::Planning });
}

fn bind(query: *mut pg_sys::Query, make: &Make, stage: Stage) {
    let Some(catalog) = catalog::get() else { return };
    let binder = Binder { catalog: &catalog, make, stage };
    // SAFETY: a valid query tree that may be changed.
    unsafe { visit(query.cast(), (&raw const binder).cast_mut().cast()) };
}

/// Seals what a finished plan compares with, in its memory context.
pub fn seal(plan: *mut pg_sys::PlannedStmt, make: &Make) {
    let Some(catalog) = catalog::get() else { return };
    let binder = Binder { catalog: &catalog, make, stage: Stage::Planned };
    // SAFETY: a valid plan that nobody else sees yet.
    unsafe {
        for_each_node(plan, &mut |node| {
            for expression in plan::expressions(node) {
                visit(expression, (&raw const binder).cast_mut().cast());
            }
            false
        });
    }
}

/// Whether a call of `pci.comparand` is one that we put into a plan.
pub fn is_ours(call: &Call) -> bool {
    let expression = call.expression();
    // SAFETY: null or a node.
    unsafe {
        !expression.is_null()
            && (*expression).type_ == NodeTag::T_FuncExpr
            && (*expression.cast::<pg_sys::FuncExpr>()).funccollid == OURS
    }
}

/// # Safety
/// Called by PostgreSQL's tree walkers with a node that may be changed and our `Binder`.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: by contract; the tag says what the node is. The walkers have no frame with a destructor.
    #[allow(ffi_unwind_calls, reason = "no value with a destructor is alive")]
    unsafe {
        let binder = &*context.cast::<Binder<'_>>();
        match (*node).type_ {
            NodeTag::T_Query => return query_tree_walker(node.cast(), Some(visit), context, 0),
            NodeTag::T_OpExpr | NodeTag::T_DistinctExpr | NodeTag::T_NullIfExpr => {
                let expr = node.cast::<pg_sys::OpExpr>();
                if binder.bind_operands((*expr).opno, (*expr).args)
                    && let Some(operator) = binder.catalog.operator_of_pans((*expr).opno)
                {
                    (*expr).opno = operator;
                    (*expr).opfuncid = pg_sys::get_opcode(operator);
                }
            }
            NodeTag::T_ScalarArrayOpExpr => {
                let expr = node.cast::<pg_sys::ScalarArrayOpExpr>();
                if binder.bind_operands((*expr).opno, (*expr).args)
                    && let Some(operator) = binder.catalog.operator_of_pans((*expr).opno)
                {
                    (*expr).opno = operator;
                    (*expr).opfuncid = pg_sys::get_opcode(operator);
                }
            }
            NodeTag::T_RowCompareExpr => binder.bind_row(node.cast()),
            NodeTag::T_FuncExpr if binder.stage == Stage::Parsed => binder.move_literal(node.cast()),
            _ => {}
        }
        expression_tree_walker(node, Some(visit), context)
    }
}
