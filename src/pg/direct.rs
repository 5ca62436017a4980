//! Whether a function is called by the client's own statement, `SELECT pci.f(…)`, and by nothing else: what a view, a
//! trigger or another function does with the rights of whoever uses it is not what that person asked for.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::Call;
use crate::pg::nodes::{list, string};
use crate::pg::{catalog, session};

/// The name of the function that is called.
pub fn function_name(call: &Call) -> String {
    let flinfo = call.flinfo();
    // SAFETY: a syscache look-up; the name is palloc'd or null.
    unsafe {
        let name =
            if flinfo.is_null() { std::ptr::null_mut() } else { pg_sys::get_func_name((*flinfo).fn_oid) };
        if name.is_null() { String::new() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Whether the client's statement is nothing but this call: as it was written, so that no function that PostgreSQL puts
/// in line hides behind it, and as it is executed.
pub fn is_clients_own(call: &Call) -> bool {
    // SAFETY: the portal that runs, its text, and its plan live as long as the statement.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() || !session::has_client() || session::is_parallel_worker() {
            return false;
        }
        // What a procedural language opens has a name, and so has a cursor.
        let is_unnamed = !(*portal).name.is_null() && *(*portal).name == 0;
        let desc = (*portal).queryDesc;
        if !is_unnamed || desc.is_null() || call.expression().is_null() {
            return false;
        }
        let plan = (*desc).plannedstmt;
        is_the_result(plan, call.expression())
            && is_written(CStr::from_ptr((*portal).sourceText), (*plan).stmt_location, &function_name(call))
    }
}

/// Whether the plan does nothing but work out this expression, for its one column.
///
/// # Safety
/// `plan` is valid.
unsafe fn is_the_result(plan: *mut pg_sys::PlannedStmt, expression: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract.
    unsafe {
        let tree = (*plan).planTree;
        if (*plan).commandType != pg_sys::CmdType::CMD_SELECT
            || (*tree.cast::<pg_sys::Node>()).type_ != NodeTag::T_Result
            || !(*tree).lefttree.is_null()
        {
            return false;
        }
        let columns: Vec<_> = list((*tree).targetlist).collect();
        let [column] = columns[..] else { return false };
        (*column.cast::<pg_sys::TargetEntry>()).expr.cast::<pg_sys::Node>() == expression
    }
}

/// Whether the statement that begins here in a text is `SELECT pci.name(…)` and no more.
///
/// # Safety
/// The text was parsed before.
unsafe fn is_written(text: &CStr, location: i32, name: &str) -> bool {
    // SAFETY: by contract; tags say what nodes are.
    unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statement = list(statements)
            .map(|statement| statement.cast::<pg_sys::RawStmt>())
            .find(|statement| (**statement).stmt_location == location);
        let Some(select) = statement.map(|statement| (*statement).stmt) else { return false };
        if (*select).type_ != NodeTag::T_SelectStmt {
            return false;
        }
        let select = &*select.cast::<pg_sys::SelectStmt>();
        let is_bare = select.fromClause.is_null()
            && select.intoClause.is_null()
            && select.withClause.is_null()
            && select.whereClause.is_null()
            && select.op == pg_sys::SetOperation::SETOP_NONE;
        let columns: Vec<_> = list(select.targetList).collect();
        let [column] = columns[..] else { return false };
        let value = (*column.cast::<pg_sys::ResTarget>()).val;
        if !is_bare || value.is_null() || (*value).type_ != NodeTag::T_FuncCall {
            return false;
        }
        let names: Vec<_> =
            list((*value.cast::<pg_sys::FuncCall>()).funcname).map(|part| string(part)).collect();
        let written = [catalog::SCHEMA, name].map(str::as_bytes);
        names.len() == 2
            && names.iter().zip(written).all(|(part, is)| part.is_some_and(|p| p.to_bytes() == is))
    }
}
