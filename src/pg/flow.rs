//! Where the card numbers that a query writes come from: made by the statement itself, or stored already.
//! What is not known to be made counts as stored.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::catalog;
use crate::pg::nodes::list;

/// Whether the query writes a card number that is stored already, other than where it is; or, for one that only reads,
/// whether it returns any (CREATE TABLE AS writes what it returns).
pub fn copies_stored(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a valid query tree, read only.
    unsafe {
        let source = Source { query, outer: None };
        source.copies(true)
            || ctes(query).any(|cte| Source { query: cte, outer: Some(&source) }.copies(false))
    }
}

/// # Safety
/// `query` is valid.
unsafe fn ctes(query: *mut pg_sys::Query) -> impl Iterator<Item = *mut pg_sys::Query> {
    // SAFETY: by contract; after analysis a CTE holds a query.
    unsafe {
        list((*query).cteList)
            .map(|cte| (*cte.cast::<pg_sys::CommonTableExpr>()).ctequery.cast::<pg_sys::Query>())
    }
}

/// A query whose expressions are looked at, in those around it.
struct Source<'a> {
    query: *mut pg_sys::Query,
    outer: Option<&'a Source<'a>>,
}

impl Source<'_> {
    /// # Safety
    /// The query is valid.
    unsafe fn copies(&self, is_top: bool) -> bool {
        use pg_sys::CmdType as C;
        // SAFETY: by contract; the tag says what a node is.
        unsafe {
            let query = &*self.query;
            let entries = |targets: *mut pg_sys::List| {
                list(targets).any(|entry| {
                    let entry = entry.cast::<pg_sys::TargetEntry>();
                    !(*entry).resjunk && !self.is_made((*entry).expr.cast(), Some((*entry).resno))
                })
            };
            let conflict = query.onConflict;
            match query.commandType {
                C::CMD_SELECT => is_top && entries(query.targetList),
                C::CMD_INSERT => {
                    entries(query.targetList) || (!conflict.is_null() && entries((*conflict).onConflictSet))
                }
                C::CMD_UPDATE => entries(query.targetList),
                C::CMD_MERGE => list(query.mergeActionList)
                    .any(|action| entries((*action.cast::<pg_sys::MergeAction>()).targetList)),
                _ => false,
            }
        }
    }

    /// Whether an expression gives no card number, or one that the statement makes. `column`: the column it is
    /// written to.
    ///
    /// # Safety
    /// `node` is null or an expression of the query.
    unsafe fn is_made(&self, node: *mut pg_sys::Node, column: Option<i16>) -> bool {
        // SAFETY: by contract; the tag says what the node is.
        unsafe {
            if node.is_null() || !may_hold_pan(node) {
                return true;
            }
            let all = |nodes: *mut pg_sys::List| list(nodes).all(|n| self.is_made(n, None));
            match (*node).type_ {
                // A constant was typed; what a parameter holds is looked at when the statement starts.
                NodeTag::T_Const | NodeTag::T_Param | NodeTag::T_SetToDefault | NodeTag::T_CaseTestExpr => {
                    true
                }
                NodeTag::T_Var => self.var_is_made(node.cast(), column),
                NodeTag::T_RelabelType => {
                    self.is_made((*node.cast::<pg_sys::RelabelType>()).arg.cast(), column)
                }
                NodeTag::T_CoerceToDomain => {
                    self.is_made((*node.cast::<pg_sys::CoerceToDomain>()).arg.cast(), column)
                }
                NodeTag::T_ArrayCoerceExpr => {
                    self.is_made((*node.cast::<pg_sys::ArrayCoerceExpr>()).arg.cast(), None)
                }
                // From text, whose card numbers are masks.
                NodeTag::T_CoerceViaIO => true,
                NodeTag::T_CoalesceExpr => all((*node.cast::<pg_sys::CoalesceExpr>()).args),
                NodeTag::T_ArrayExpr => all((*node.cast::<pg_sys::ArrayExpr>()).elements),
                NodeTag::T_RowExpr => all((*node.cast::<pg_sys::RowExpr>()).args),
                NodeTag::T_CaseExpr => {
                    let case = node.cast::<pg_sys::CaseExpr>();
                    self.is_made((*case).defresult.cast(), None)
                        && list((*case).args)
                            .all(|when| self.is_made((*when.cast::<pg_sys::CaseWhen>()).result.cast(), None))
                }
                // Ours, and those PostgreSQL has: they make of their arguments what they are given.
                NodeTag::T_FuncExpr => {
                    let call = node.cast::<pg_sys::FuncExpr>();
                    is_known((*call).funcid) && list((*call).args).all(|arg| self.is_made(arg, column))
                }
                NodeTag::T_SubLink => {
                    let link = node.cast::<pg_sys::SubLink>();
                    (*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK
                        && self.column_is_made((*link).subselect.cast(), 1)
                }
                _ => false,
            }
        }
    }

    /// # Safety
    /// `var` is a variable of the query.
    unsafe fn var_is_made(&self, var: *mut pg_sys::Var, column: Option<i16>) -> bool {
        // SAFETY: by contract; varno is an index into the range table, from 1.
        unsafe {
            let query = &*self.query;
            let number = (*var).varno;
            if (*var).varlevelsup != 0 || number < 1 || (*var).varattno < 1 {
                return false;
            }
            let is_excluded = !query.onConflict.is_null() && (*query.onConflict).exclRelIndex == number;
            let stays = query.resultRelation == number && column == Some((*var).varattno);
            if is_excluded || stays {
                return true;
            }
            let Some(entry) = list(query.rtable).nth(number as usize - 1) else { return false };
            let entry = &*entry.cast::<pg_sys::RangeTblEntry>();
            let attribute = (*var).varattno as usize;
            let nth = |nodes: *mut pg_sys::List| list(nodes).nth(attribute - 1);
            match entry.rtekind {
                pg_sys::RTEKind::RTE_SUBQUERY => self.column_is_made(entry.subquery, attribute),
                pg_sys::RTEKind::RTE_JOIN => {
                    nth(entry.joinaliasvars).is_some_and(|alias| self.is_made(alias, None))
                }
                pg_sys::RTEKind::RTE_VALUES => list(entry.values_lists)
                    .all(|row| nth(row.cast()).is_some_and(|value| self.is_made(value, None))),
                pg_sys::RTEKind::RTE_FUNCTION => list(entry.functions).all(|function| {
                    self.is_made((*function.cast::<pg_sys::RangeTblFunction>()).funcexpr, None)
                }),
                pg_sys::RTEKind::RTE_TABLEFUNC => true,
                pg_sys::RTEKind::RTE_CTE if !entry.self_reference => {
                    let mut home = Some(self);
                    for _ in 0..entry.ctelevelsup {
                        home = home.and_then(|source| source.outer);
                    }
                    let Some(home) = home else { return false };
                    let name = std::ffi::CStr::from_ptr(entry.ctename);
                    list((*home.query).cteList)
                        .map(|cte| &*cte.cast::<pg_sys::CommonTableExpr>())
                        .filter(|cte| std::ffi::CStr::from_ptr(cte.ctename) == name)
                        .all(|cte| home.column_is_made(cte.ctequery.cast(), attribute))
                }
                _ => false,
            }
        }
    }

    /// Whether a column that a query below this one returns is made in it.
    ///
    /// # Safety
    /// `query` is a valid query.
    unsafe fn column_is_made(&self, query: *mut pg_sys::Query, column: usize) -> bool {
        // SAFETY: by contract.
        unsafe {
            if query.is_null() || (*query).commandType != pg_sys::CmdType::CMD_SELECT {
                return false;
            }
            let below = Source { query, outer: Some(self) };
            // A set operation's own list names its first branch only.
            if !(*query).setOperations.is_null() {
                return list((*query).rtable)
                    .map(|entry| &*entry.cast::<pg_sys::RangeTblEntry>())
                    .filter(|entry| entry.rtekind == pg_sys::RTEKind::RTE_SUBQUERY)
                    .all(|entry| below.column_is_made(entry.subquery, column));
            }
            let Some(entry) = list((*query).targetList).nth(column - 1) else { return false };
            below.is_made((*entry.cast::<pg_sys::TargetEntry>()).expr.cast(), None)
        }
    }
}

/// Whether an expression gives card numbers, or an anonymous row that could hold some.
///
/// # Safety
/// `node` is a valid expression.
unsafe fn may_hold_pan(node: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract.
    let type_oid = unsafe { pg_sys::exprType(node) };
    catalog::contains_pan(type_oid) || type_oid == pg_sys::RECORDOID || type_oid == pg_sys::RECORDARRAYOID
}

/// Whether a function is PostgreSQL's own, or in our schema, where nobody else puts any.
fn is_known(function: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    function.to_u32() < pg_sys::FirstNormalObjectId
        || catalog::get().is_some_and(|c| unsafe { pg_sys::get_func_namespace(function) } == c.namespace)
}
