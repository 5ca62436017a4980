//! Every hook of PostgreSQL that pgpci uses: pointers and one-line calls, no logic.
//!
//! A hook that surrounds execution is a plain frame: our part runs first in a guarded function, then the next
//! hook (or PostgreSQL's own function) is called without a guard, so that its errors pass unchanged.
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int};

use pgrx::{pg_guard, pg_sys};

use crate::enforce;
use crate::pg::{harmless, relation};

unsafe extern "C-unwind" {
    // pgrx's own declarations go through its guard, which loses fields of errors.
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        params: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
    fn standard_ExecutorStart(desc: *mut pg_sys::QueryDesc, flags: c_int);
    fn standard_ExecutorEnd(desc: *mut pg_sys::QueryDesc);
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

static mut NEXT_PLANNER: pg_sys::planner_hook_type = None;
static mut NEXT_START: pg_sys::ExecutorStart_hook_type = None;
static mut NEXT_END: pg_sys::ExecutorEnd_hook_type = None;
static mut NEXT_UTILITY: pg_sys::ProcessUtility_hook_type = None;
static mut NEXT_PERMS: pg_sys::ExecutorCheckPerms_hook_type = None;
static mut NEXT_OBJECT: pg_sys::object_access_hook_type = None;
static mut NEXT_PARSE: pg_sys::post_parse_analyze_hook_type = None;
static mut NEXT_INFO: pg_sys::get_relation_info_hook_type = None;

/// Installs all hooks; called once, while the library is preloaded.
pub fn install() {
    // SAFETY: single-threaded, in the postmaster.
    unsafe {
        NEXT_PLANNER = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner);
        NEXT_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        NEXT_END = pg_sys::ExecutorEnd_hook;
        pg_sys::ExecutorEnd_hook = Some(executor_end);
        NEXT_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
        NEXT_PERMS = pg_sys::ExecutorCheckPerms_hook;
        pg_sys::ExecutorCheckPerms_hook = Some(check_perms);
        NEXT_OBJECT = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(object_access);
        NEXT_PARSE = pg_sys::post_parse_analyze_hook;
        pg_sys::post_parse_analyze_hook = Some(post_parse);
        NEXT_INFO = pg_sys::get_relation_info_hook;
        pg_sys::get_relation_info_hook = Some(relation_info);
        pg_sys::RegisterXactCallback(Some(transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction), std::ptr::null_mut());
    }
}

unsafe extern "C-unwind" fn planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        let look = if enforce::is_bystander() { enforce::Look::Clear } else { planner_own(query) };
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        let plan = match NEXT_PLANNER {
            Some(next) => next(query, text, options, params),
            None => standard_planner(query, text, options, params),
        };
        if look != enforce::Look::Clear {
            planned_own(plan, look);
        }
        plan
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn planner_own(query: *mut pg_sys::Query) -> enforce::Look {
    enforce::before_planning(query)
}

#[pg_guard]
unsafe extern "C-unwind" fn planned_own(plan: *mut pg_sys::PlannedStmt, look: enforce::Look) {
    enforce::after_planning(plan, look)
}

unsafe extern "C-unwind" fn executor_start(desc: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        if !enforce::is_bystander() {
            start_own(desc, flags);
        }
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        match NEXT_START {
            Some(next) => next(desc, flags),
            None => standard_ExecutorStart(desc, flags),
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn start_own(desc: *mut pg_sys::QueryDesc, flags: c_int) {
    enforce::start(desc, flags)
}

unsafe extern "C-unwind" fn executor_end(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        if enforce::has_open() {
            end_own(desc);
        }
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        match NEXT_END {
            Some(next) => next(desc),
            None => standard_ExecutorEnd(desc),
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn end_own(desc: *mut pg_sys::QueryDesc) {
    enforce::end(desc)
}

#[allow(clippy::too_many_arguments, reason = "PostgreSQL's signature")]
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        let kind = utility_own(statement);
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        match NEXT_UTILITY {
            Some(next) => {
                next(statement, text, read_only_tree, context, params, environment, dest, completion)
            }
            None => standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                params,
                environment,
                dest,
                completion,
            ),
        }
        utility_done(kind, statement);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn utility_own(statement: *mut pg_sys::PlannedStmt) -> u8 {
    // SAFETY: a utility statement.
    unsafe { enforce::utility_begins((*statement).utilityStmt) }
}

#[pg_guard]
unsafe extern "C-unwind" fn utility_done(kind: u8, statement: *mut pg_sys::PlannedStmt) {
    // SAFETY: a utility statement.
    unsafe { enforce::utility_ends(kind, (*statement).utilityStmt) }
}

unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    column: c_int,
    arg: *mut core::ffi::c_void,
) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        // Every function of every statement comes by here: those cost two comparisons.
        if access != pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE || harmless::compares_images(object) {
            object_own(access, class, object, column, arg);
        }
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        if let Some(next) = NEXT_OBJECT {
            next(access, class, object, column, arg);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn object_own(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    column: c_int,
    arg: *mut core::ffi::c_void,
) {
    use pg_sys::ObjectAccessType as T;
    match access {
        // SAFETY: PostgreSQL passes this structure with this kind of access, or null.
        T::OAT_POST_ALTER if unsafe { is_internal(arg) } => {}
        T::OAT_POST_CREATE => {
            // SAFETY: as above.
            let is_internal = unsafe { is_internal_creation(arg) };
            enforce::object_created(class, object, column, is_internal)
        }
        T::OAT_POST_ALTER | T::OAT_TRUNCATE => enforce::object_changes(class, object, false),
        // SAFETY: as above.
        T::OAT_DROP if unsafe { is_internal_drop(arg) } => {}
        T::OAT_DROP => enforce::object_changes(class, object, true),
        T::OAT_FUNCTION_EXECUTE => enforce::image_function_runs(),
        _ => {}
    }
}

unsafe fn is_internal(arg: *mut core::ffi::c_void) -> bool {
    // SAFETY: by the caller.
    unsafe { arg.cast::<pg_sys::ObjectAccessPostAlter>().as_ref().is_some_and(|alter| alter.is_internal) }
}

/// What VACUUM FULL or REINDEX made and needs no more.
unsafe fn is_internal_drop(arg: *mut core::ffi::c_void) -> bool {
    // SAFETY: by the caller.
    let flags = unsafe { arg.cast::<pg_sys::ObjectAccessDrop>().as_ref() }.map_or(0, |drop| drop.dropflags);
    flags & pg_sys::PERFORM_DELETION_INTERNAL as c_int != 0
}

unsafe fn is_internal_creation(arg: *mut core::ffi::c_void) -> bool {
    // SAFETY: by the caller.
    unsafe { arg.cast::<pg_sys::ObjectAccessPostCreate>().as_ref().is_some_and(|create| create.is_internal) }
}

unsafe extern "C-unwind" fn post_parse(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        if let Some(next) = NEXT_PARSE {
            next(state, query, jumble);
        }
        if enforce::prints_trees() {
            parsed_own();
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn parsed_own() {
    enforce::parsed()
}

#[cfg(feature = "pg15")]
unsafe extern "C-unwind" fn check_perms(range_table: *mut pg_sys::List, raise: bool) -> bool {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        if relation::any_written(range_table) {
            perms_own(range_table);
        }
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        match NEXT_PERMS {
            Some(next) => next(range_table, raise),
            None => true,
        }
    }
}

#[cfg(not(feature = "pg15"))]
unsafe extern "C-unwind" fn check_perms(
    range_table: *mut pg_sys::List,
    permissions: *mut pg_sys::List,
    raise: bool,
) -> bool {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        if relation::any_written(permissions) {
            perms_own(permissions);
        }
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        match NEXT_PERMS {
            Some(next) => next(range_table, permissions, raise),
            None => true,
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn perms_own(permissions: *mut pg_sys::List) {
    enforce::permissions(permissions)
}

unsafe extern "C-unwind" fn relation_info(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    is_parent: bool,
    info: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        if relation::may_have_pan_index(info) {
            info_own(info);
        }
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        if let Some(next) = NEXT_INFO {
            next(root, relation, is_parent, info);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn info_own(info: *mut pg_sys::RelOptInfo) {
    enforce::relation_info(info)
}

unsafe extern "C-unwind" fn transaction(event: pg_sys::XactEvent::Type, _arg: *mut core::ffi::c_void) {
    // A transaction that wrote nothing of anybody's comes by here three times.
    if !enforce::is_bystander() || event == pg_sys::XactEvent::XACT_EVENT_ABORT {
        // SAFETY: the same event.
        unsafe { transaction_own(event) }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_own(event: pg_sys::XactEvent::Type) {
    enforce::transaction(event)
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction(
    event: pg_sys::SubXactEvent::Type,
    id: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut core::ffi::c_void,
) {
    enforce::subtransaction(event, id)
}
