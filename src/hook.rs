//! Every hook of PostgreSQL that pgpci uses: pointers and one-line calls, no logic.
//!
//! A hook that surrounds execution is a plain frame: our part runs first in a guarded function, then the next
//! hook (or PostgreSQL's own function) is called without a guard, so that its errors pass unchanged.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_int};

use pgrx::{pg_guard, pg_sys};

use crate::pg::log::Message;
use crate::pg::relation;
use crate::{audit, auth, enforce};

unsafe extern "C-unwind" {
    // pgrx's own declarations go through its guard, which loses fields of errors.
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        params: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
    fn standard_ExecutorStart(desc: *mut pg_sys::QueryDesc, flags: c_int);
    #[cfg(not(feature = "pg18"))]
    fn standard_ExecutorRun(
        desc: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
        once: bool,
    );
    #[cfg(feature = "pg18")]
    fn standard_ExecutorRun(desc: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64);
    fn standard_ExecutorFinish(desc: *mut pg_sys::QueryDesc);
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
static mut NEXT_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut NEXT_FINISH: pg_sys::ExecutorFinish_hook_type = None;
static mut NEXT_AUTHENTICATION: pg_sys::libpq::ClientAuthentication_hook_type = None;
static mut NEXT_LOG: pg_sys::emit_log_hook_type = None;
static mut NEXT_END: pg_sys::ExecutorEnd_hook_type = None;
static mut NEXT_UTILITY: pg_sys::ProcessUtility_hook_type = None;
static mut NEXT_PERMS: pg_sys::ExecutorCheckPerms_hook_type = None;
static mut NEXT_OBJECT: pg_sys::object_access_hook_type = None;
static mut NEXT_PARSE: pg_sys::post_parse_analyze_hook_type = None;
static mut NEXT_PASSWORD: pg_sys::check_password_hook_type = None;
static mut NEXT_INFO: pg_sys::get_relation_info_hook_type = None;

/// Installs all hooks; called once, while the library is preloaded.
pub fn install() {
    // SAFETY: single-threaded, in the postmaster.
    unsafe {
        NEXT_PLANNER = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner);
        NEXT_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        NEXT_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(executor_run);
        NEXT_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
        NEXT_AUTHENTICATION = pg_sys::libpq::ClientAuthentication_hook;
        pg_sys::libpq::ClientAuthentication_hook = Some(authentication);
        NEXT_LOG = pg_sys::emit_log_hook;
        pg_sys::emit_log_hook = Some(emit_log);
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
        NEXT_PASSWORD = pg_sys::check_password_hook;
        pg_sys::check_password_hook = Some(check_password);
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
        if auth::is_restricted() {
            restricted_own();
        }
        let look = if enforce::is_bystander() { enforce::Look::CLEAR } else { planner_own(query) };
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        let plan = match NEXT_PLANNER {
            Some(next) => next(query, text, options, params),
            None => standard_planner(query, text, options, params),
        };
        if !look.is_clear() {
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
        if !enforce::passes(desc, flags) {
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
    auth::refuse_restricted();
    audit::starts(desc, flags);
    if !enforce::is_bystander() {
        enforce::start(desc, flags)
    }
}

// 18 dropped the last argument of the standard function and of the hook.
#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn executor_run(
    desc: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        let depth = enforce::runs(desc);
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        match NEXT_RUN {
            Some(next) => next(desc, direction, count, once),
            None => standard_ExecutorRun(desc, direction, count, once),
        }
        enforce::stops(depth);
        if audit::is_recording() {
            ran_own(desc);
        }
    }
}

#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn executor_run(
    desc: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        let depth = enforce::runs(desc);
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        match NEXT_RUN {
            Some(next) => next(desc, direction, count),
            None => standard_ExecutorRun(desc, direction, count),
        }
        enforce::stops(depth);
        if audit::is_recording() {
            ran_own(desc);
        }
    }
}

unsafe extern "C-unwind" fn executor_finish(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        let depth = enforce::finishes(desc);
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        match NEXT_FINISH {
            Some(next) => next(desc),
            None => standard_ExecutorFinish(desc),
        }
        enforce::stops(depth);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn ran_own(desc: *mut pg_sys::QueryDesc) {
    audit::ran(desc)
}

unsafe extern "C-unwind" fn authentication(port: *mut pg_sys::libpq::be::Port, status: c_int) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        authentication_own(status);
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        if let Some(next) = NEXT_AUTHENTICATION {
            next(port, status);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn authentication_own(status: c_int) {
    audit::authenticated(status);
    auth::authenticated(status)
}

unsafe extern "C-unwind" fn emit_log(data: *mut pg_sys::ErrorData) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        log_own(data);
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        if let Some(next) = NEXT_LOG {
            next(data);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn log_own(data: *mut pg_sys::ErrorData) {
    // SAFETY: PostgreSQL's own, which waits for us.
    if let Some(message) = unsafe { Message::new(data) } {
        audit::logged(message)
    }
}

unsafe extern "C-unwind" fn executor_end(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        if !enforce::is_over(desc) {
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
    enforce::end(desc);
    auth::query_ends();
    audit::ends(desc)
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
        let passes = enforce::passes_utility((*statement).utilityStmt);
        let begun = if passes { Begun::NOTHING } else { utility_own(statement, text, context) };
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
        if !passes {
            utility_done(begun, statement, completion);
        }
    }
}

/// What is told of a utility statement when it succeeds.
#[derive(Clone, Copy)]
#[repr(C)]
struct Begun {
    ours: enforce::Begun,
    frame: usize,
}

impl Begun {
    const NOTHING: Self = Self { ours: enforce::Begun::NOTHING, frame: 0 };
}

#[pg_guard]
unsafe extern "C-unwind" fn utility_own(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    context: pg_sys::ProcessUtilityContext::Type,
) -> Begun {
    // SAFETY: a utility statement.
    let node = unsafe { (*statement).utilityStmt };
    let frame = audit::utility_starts(statement, node, text, context);
    auth::statement_begins(node);
    Begun { ours: enforce::utility_begins(node), frame }
}

#[pg_guard]
unsafe extern "C-unwind" fn utility_done(
    begun: Begun,
    statement: *mut pg_sys::PlannedStmt,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: a utility statement, and what it says of itself or null.
    let (node, rows) = unsafe {
        ((*statement).utilityStmt, completion.as_ref().map(|it| it.nprocessed).filter(|it| *it > 0))
    };
    enforce::utility_ends(begun.ours, node);
    auth::statement_ends(node);
    audit::utility_ends(begun.frame, rows)
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
        // Every function of every statement comes by here: those cost one look.
        if access != pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE {
            object_own(access, class, object, column, arg);
        } else {
            if auth::is_restricted() {
                restricted_own();
            }
            if audit::may_be_listed(object) {
                function_own(object);
            }
        }
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        if let Some(next) = NEXT_OBJECT {
            next(access, class, object, column, arg);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn function_own(function: pg_sys::Oid) {
    audit::calls(function);
    // By the fast path nothing else tells of it.
    auth::query_ends()
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
        text_own();
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        if let Some(next) = NEXT_PARSE {
            next(state, query, jumble);
        }
        if !enforce::is_bystander() {
            parsed_own(query);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn text_own() {
    audit::client_text()
}

#[pg_guard]
unsafe extern "C-unwind" fn parsed_own(query: *mut pg_sys::Query) {
    enforce::parsed(query)
}

#[cfg(feature = "pg15")]
unsafe extern "C-unwind" fn check_perms(range_table: *mut pg_sys::List, raise: bool) -> bool {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        if !enforce::permits(range_table) {
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
        if !enforce::permits(permissions) {
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

#[pg_guard]
unsafe extern "C-unwind" fn restricted_own() {
    auth::refuse_restricted()
}

unsafe extern "C-unwind" fn check_password(
    role: *const c_char,
    password: *const c_char,
    kind: pg_sys::PasswordType::Type,
    until: pg_sys::Datum,
    is_forever: bool,
) {
    // SAFETY: plain old frame: only Copy values live across the calls.
    unsafe {
        password_own(role, password, kind);
        #[allow(ffi_unwind_calls, reason = "plain old frame; an error must pass unchanged")]
        if let Some(next) = NEXT_PASSWORD {
            next(role, password, kind, until, is_forever);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn password_own(
    role: *const c_char,
    password: *const c_char,
    kind: pg_sys::PasswordType::Type,
) {
    // SAFETY: PostgreSQL passes C strings.
    let (role, password) = unsafe { (CStr::from_ptr(role), CStr::from_ptr(password)) };
    auth::check_password(role, password, kind != pg_sys::PasswordType::PASSWORD_TYPE_PLAINTEXT)
}

unsafe extern "C-unwind" fn transaction(event: pg_sys::XactEvent::Type, _arg: *mut core::ffi::c_void) {
    // SAFETY: the same event.
    unsafe { transaction_own(event) }
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
