//! Where hooks become decisions.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

use crate::access::search::{self, ForeignKeyCheck};
use crate::access::{conflicts, copying, ddl, roles, storing, tables};
use crate::audit;
use crate::error::Result;
use crate::pan::{compare_text, output};
use crate::pg::statement::{self, Utility};
use crate::pg::{
    audited, caller, catalog, comparands, ddl as pg_ddl, flow, glance, query, relation, session, walk,
    walk_plan,
};

/// What is known of a query before it is planned.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Look {
    /// It has nothing to do with card numbers, nor has what may be inlined.
    Clear,
    /// It compares none; what is inlined might.
    Open,
    /// It copies stored card numbers, and compares none.
    Copies,
    /// It compares card numbers.
    Compares,
    /// Both.
    CopiesAndCompares,
}

/// Before a query is planned: planning runs functions and shows estimates, so it is too late after.
/// PostgreSQL's own foreign-key queries are judged when they start.
pub fn before_planning(query: *mut pg_sys::Query) -> Look {
    if is_foreign() {
        return Look::Clear;
    }
    ddl::keep_trees_out_of_logs();
    if !glance::may_matter(query) {
        return Look::Clear;
    }
    // An expression of a procedural language may run without being started.
    let judged_later =
        query::reads_tables(query) && (statement::may_be_foreign_key() || output::is_storing());
    let compares = match judged_later {
        true => walk::query_compares(query),
        false => or_raise(search::check_query(query)),
    };
    match (compares, flow::copies_stored(query)) {
        (true, true) => Look::CopiesAndCompares,
        (true, false) => Look::Compares,
        (false, true) => Look::Copies,
        (false, false) => Look::Open,
    }
}

/// After it was planned: what was inlined shows only now; and the plan remembers that it compares.
pub fn after_planning(plan: *mut pg_sys::PlannedStmt, look: Look) {
    if look == Look::Clear {
        return;
    }
    let compares = matches!(look, Look::Compares | Look::CopiesAndCompares);
    if matches!(look, Look::Copies | Look::CopiesAndCompares) {
        walk_plan::mark_copies(plan);
    }
    let inlined = !compares && walk_plan::plan_compares(plan);
    if inlined && !statement::may_be_foreign_key() && !output::is_storing() {
        or_raise(search::require());
    }
    if compares || inlined {
        walk_plan::mark(plan);
        comparands::seal(plan, compare_text::sealed_comparand);
    }
}

/// A plan starts, at every execution.
pub fn start(desc: *mut pg_sys::QueryDesc, flags: i32) {
    if is_foreign() || session::is_parallel_worker() {
        return;
    }
    let plan = query::plan(desc);
    let kind = match (statement::is_foreign_key(desc, flags), query::operation(desc)) {
        (false, _) => ForeignKeyCheck::None,
        (true, pg_sys::CmdType::CMD_SELECT) => ForeignKeyCheck::Read,
        (true, _) => ForeignKeyCheck::Write,
    };
    search::query_starts(desc as usize, kind);
    learn_export();
    if kind != ForeignKeyCheck::None {
        return;
    }
    if walk_plan::is_marked(plan) {
        or_raise(search::require());
    }
    or_raise(storing::check(desc));
    or_raise(copying::check(desc));
    or_raise(conflicts::start(desc));
}

/// A plan ends.
pub fn end(desc: *mut pg_sys::QueryDesc) {
    search::query_ends(desc as usize);
    conflicts::end(desc);
}

/// A utility statement begins; what is returned goes to `utility_ends` if it succeeds.
pub fn utility_begins(node: *mut pg_sys::Node) -> u8 {
    // Roles belong to the cluster: in every database.
    if session::can_read_catalog() {
        or_raise(roles::check_statement(node));
    }
    if is_foreign() {
        return Utility::Other as u8;
    }
    for relation in statement::relations_changed(node) {
        or_raise(tables::check_write(relation));
    }
    or_raise(ddl::check_statement(node));
    pg_ddl::set_dropping_extension(pg_ddl::drops_extension(node));
    if pg_ddl::refreshes(node) {
        REFRESHING.set(true);
    }
    let kind = statement::classify(node, output::DUMP_CURSOR);
    match kind {
        Utility::Exports => output::exporting(true),
        Utility::Stores => output::storing(true),
        Utility::Dumps => output::dumping(true),
        Utility::Analyzes => caller::analyzing(true),
        Utility::Other => {}
    }
    kind as u8
}

/// A utility statement has succeeded.
pub fn utility_ends(kind: u8, node: *mut pg_sys::Node) {
    if !is_foreign() {
        or_raise(ddl::check_partition_key(node));
    }
    pg_ddl::set_dropping_extension(false);
    if pg_ddl::refreshes(node) {
        REFRESHING.set(false);
    }
    match kind {
        k if k == Utility::Exports as u8 => output::exporting(false),
        k if k == Utility::Stores as u8 => {
            output::storing(false);
            conflicts::end_copy();
        }
        k if k == Utility::Analyzes as u8 => caller::analyzing(false),
        _ => {}
    }
}

/// A function of PostgreSQL's that compares whole rows by their bytes is about to be called, perhaps by an expression
/// that no plan shows.
pub fn image_function_runs() {
    if !is_foreign() && !REFRESHING.get() && session::has_client() {
        or_raise(search::require());
    }
}

/// An object was altered or emptied, or is dropped.
pub fn object_changes(class: pg_sys::Oid, object: pg_sys::Oid, drops: bool) {
    if session::can_read_catalog() {
        audit::object(class, object);
    }
    if !is_foreign() && session::can_read_catalog() {
        or_raise(ddl::object_changes(class, object, drops));
    }
}

/// After a query was parsed: what would print it is off before it does.
pub fn parsed() {
    if !is_foreign() {
        ddl::keep_trees_out_of_logs();
    }
}

/// The relations of a statement and what it does with them.
pub fn permissions(list: *mut pg_sys::List) {
    audit::permissions(list);
    relation::for_each_written(list, |written| {
        if audited::holds_pan(written) {
            audit::protect();
        }
        or_raise(tables::check_catalog_write(written, !is_foreign()));
        or_raise(tables::check_write(written));
        // COPY has no plan to start; all else that writes has.
        if output::is_storing() {
            or_raise(conflicts::start_copy(written));
        }
    });
}

/// The indexes that the planner may use: for a user who may not compare, none whose order would tell.
pub fn relation_info(info: *mut pg_sys::RelOptInfo) {
    if relation::has_pan_index(info) && search::require_quietly().is_err() {
        relation::forbid_index_order(info);
    }
}

/// How deep statements are nested that change what output and checks do.
#[derive(Clone, Copy)]
struct Depth {
    output: (u32, u32),
    analyzing: u32,
    running: usize,
}

thread_local! {
    static SUBTRANSACTIONS: RefCell<Vec<(pg_sys::SubTransactionId, Depth)>> = const { RefCell::new(Vec::new()) };
    static FOREIGN: Cell<(u64, bool)> = const { Cell::new((0, false)) };
    // REFRESH MATERIALIZED VIEW CONCURRENTLY compares rows; what it copies is judged otherwise.
    static REFRESHING: Cell<bool> = const { Cell::new(false) };
}

/// A transaction ends.
pub fn transaction(event: pg_sys::XactEvent::Type) {
    use pg_sys::XactEvent as E;
    let aborts = event == E::XACT_EVENT_ABORT;
    audit::transaction(event);
    if aborts || matches!(event, E::XACT_EVENT_COMMIT | E::XACT_EVENT_PREPARE) {
        conflicts::transaction_ends(aborts);
        search::keep_running(0);
        crate::key::nonce::transaction_ends();
        crate::key::transaction_ends(aborts);
        output::dumping(false);
        SUBTRANSACTIONS.with_borrow_mut(Vec::clear);
    }
    // A utility statement may commit while it runs (VACUUM): only a failure cuts it off.
    if aborts {
        output::set_depth((0, 0));
        caller::set_analyzing_depth(0);
        pg_ddl::set_dropping_extension(false);
        REFRESHING.set(false);
        tables::reset();
    }
    // A walsender decodes later, when nothing can be read: it learns now what its user may do.
    if event == E::XACT_EVENT_PRE_COMMIT && session::is_walsender() && session::can_read_catalog() {
        let _ = search::learn_export();
    }
}

/// A subtransaction begins or ends: statements that its failure cuts off are over.
pub fn subtransaction(event: pg_sys::SubXactEvent::Type, id: pg_sys::SubTransactionId) {
    use pg_sys::SubXactEvent as E;
    match event {
        E::SUBXACT_EVENT_START_SUB => {
            let depth = Depth {
                output: output::depth(),
                analyzing: caller::analyzing_depth(),
                running: search::running(),
            };
            SUBTRANSACTIONS.with_borrow_mut(|s| s.push((id, depth)));
        }
        E::SUBXACT_EVENT_ABORT_SUB => {
            audit::subtransaction_aborts();
            conflicts::subtransaction_aborts();
            if let Some(depth) = leave(id) {
                search::keep_running(depth.running);
                output::set_depth(depth.output);
                caller::set_analyzing_depth(depth.analyzing);
            }
        }
        E::SUBXACT_EVENT_COMMIT_SUB => {
            conflicts::subtransaction_commits();
            leave(id);
        }
        _ => {}
    }
}

fn leave(id: pg_sys::SubTransactionId) -> Option<Depth> {
    SUBTRANSACTIONS.with_borrow_mut(|s| {
        let at = s.iter().rposition(|(i, _)| *i == id)?;
        let depth = s[at].1;
        s.truncate(at);
        Some(depth)
    })
}

/// What a slot function decodes is printed when nothing can be read any more: the session learns before, once
/// after each change, whether its user may export.
fn learn_export() {
    thread_local! { static LEARNT: Cell<u64> = const { Cell::new(0) } }
    let generation = catalog::generation();
    if LEARNT.replace(generation) != generation {
        let _ = search::learn_export();
    }
}

/// Whether pgpci is not in this database: nothing to enforce, and every statement pays only this look.
fn is_foreign() -> bool {
    let generation = catalog::generation();
    let (known, foreign) = FOREIGN.get();
    if known == generation {
        return foreign;
    }
    if !session::can_read_catalog() {
        return true;
    }
    let foreign = catalog::get().is_none();
    FOREIGN.set((catalog::generation(), foreign));
    foreign
}

fn or_raise<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => error.raise(),
    }
}
