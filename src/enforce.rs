//! Where hooks become decisions.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;

use crate::access::{conflicts, ddl, indexing, roles, search, storing, tables};
use crate::audit;
use crate::error::Result;
use crate::pan::{comparand, hashed, output};
use crate::pg::activity::{self, Kind};
use crate::pg::local::Local;
use crate::pg::statement::{self, Utility};
use crate::pg::{
    audited, catalog, comparands, ddl as pg_ddl, glance, query, relation, session, table_keys, walk_plan,
};
use audited::Stamp;
use walk_plan::Vaults;

/// Whether this statement is none of ours, as far as can be told by looking: then no hook does anything but call the
/// next one.
pub fn is_bystander() -> bool {
    catalog::is_known_absent()
}

/// Whether a plan that starts needs nothing of us, as far as can be told by looking. Never raises: for the hook, whose work
/// it spares most statements.
pub fn passes(desc: *mut pg_sys::QueryDesc, flags: i32) -> bool {
    let is_none_of_ours = is_bystander()
        || catalog::is_known_present()
            && LEARNT.get() == who()
            && !activity::has_started()
            && !query::writes(desc)
            && !statement::is_foreign_key(desc, flags)
            && !walk_plan::is_marked(query::plan(desc));
    is_none_of_ours && !crate::auth::is_restricted() && audit::passes(desc)
}

/// Whether a plan that ends needs nothing of us, likewise.
pub fn is_over(desc: *mut pg_sys::QueryDesc) -> bool {
    let is_over = !audit::is_recording() && !activity::has_started() && !conflicts::is_writing();
    if is_over {
        audit::is_not_starting(desc);
        crate::auth::query_ends();
    }
    is_over
}

/// Whether the session has parse and plan trees printed into the log.
pub fn prints_trees() -> bool {
    pg_ddl::prints_trees() && !is_bystander()
}

/// What is known of a query before it is planned.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Look {
    sight: Sight,
    /// The vaults that it compares in, in a database with several.
    vaults: Vaults,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Sight {
    /// It has nothing to do with card numbers, nor has what may be inlined.
    Clear,
    /// It compares none; what is inlined might.
    Open,
    /// It compares card numbers.
    Compares,
}

impl Look {
    /// Nothing to do with card numbers.
    pub const CLEAR: Self = Self { sight: Sight::Clear, vaults: Vaults::NONE };

    /// Whether there is nothing more to do.
    pub fn is_clear(self) -> bool {
        self.sight == Sight::Clear
    }
}

/// Before a query is planned: planning runs functions and shows estimates, so it is too late after.
/// PostgreSQL's own foreign-key queries are judged when they start.
pub fn before_planning(query: *mut pg_sys::Query) -> Look {
    if catalog::is_absent() {
        return Look::CLEAR;
    }
    if prints_trees() {
        ddl::keep_trees_out_of_logs();
    }
    if !glance::may_matter(query) {
        return Look::CLEAR;
    }
    let compared = or_raise(search::compared(query));
    // An expression of a procedural language may run without being started.
    let judged_later =
        query::reads_tables(query) && (statement::may_be_foreign_key() || output::is_storing());
    if let Some(vaults) = &compared
        && !judged_later
    {
        or_raise(search::require_on(vaults));
    }
    if compared.is_some() {
        // Those of a foreign-key statement hold what is stored.
        comparands::bind_parameters(query, &comparand::MAKE, statement::may_be_foreign_key());
    }
    let sight = if compared.is_some() { Sight::Compares } else { Sight::Open };
    Look { sight, vaults: Vaults::new(&compared.unwrap_or_default()) }
}

/// After it was planned: what was inlined shows only now; and the plan remembers that it compares.
pub fn after_planning(plan: *mut pg_sys::PlannedStmt, look: Look) {
    let compares = look.sight == Sight::Compares;
    let inlined = !compares && walk_plan::plan_compares(plan);
    let mut vaults = look.vaults.get();
    if inlined {
        if or_raise(search::is_plural()) {
            vaults = search::of_operands(&walk_plan::vaults_compared(plan));
        }
        if !statement::may_be_foreign_key() && !output::is_storing() {
            or_raise(search::require_on(&vaults));
        }
    }
    if compares || inlined {
        walk_plan::mark(plan);
        walk_plan::mark_vaults(plan, &vaults);
        comparands::seal(plan, &comparand::MAKE);
    }
}

/// A plan starts, at every execution.
pub fn start(desc: *mut pg_sys::QueryDesc, flags: i32) {
    if catalog::is_absent() || session::is_parallel_worker() {
        return;
    }
    let plan = query::plan(desc);
    learn_export();
    let kind = match (statement::is_foreign_key(desc, flags), query::operation(desc)) {
        (true, pg_sys::CmdType::CMD_SELECT) => or_raise(indexing::start_read(desc)),
        (true, _) => {
            or_raise(conflicts::start(desc));
            or_raise(indexing::start_cascade(desc))
        }
        (false, _) => {
            let marked = walk_plan::is_marked(plan);
            if marked {
                or_raise(search::require_on(&walk_plan::marked_vaults(plan)));
            }
            match query::writes(desc) {
                // Nearly all: nothing that they write is a card number, or is compared with one.
                true if query::writes_only(desc, is_plain) => Kind::OtherWrite,
                true => start_write(desc),
                false if marked => Kind::Compares,
                false => Kind::Query,
            }
        }
    };
    if kind != Kind::Query || activity::has_started() {
        activity::starts(desc as usize, kind);
    }
}

fn start_write(desc: *mut pg_sys::QueryDesc) -> Kind {
    or_raise(hashed::check(desc));
    or_raise(storing::check(desc));
    or_raise(conflicts::start(desc));
    or_raise(indexing::start(desc))
}

/// A plan is run; what is returned goes to `stops`.
pub fn runs(desc: *mut pg_sys::QueryDesc) -> usize {
    if is_bystander() { NOWHERE } else { activity::enter_query(desc as usize) }
}

/// A plan is finished, likewise: triggers run then, if it writes.
pub fn finishes(desc: *mut pg_sys::QueryDesc) -> usize {
    if activity::has_started() { runs(desc) } else { NOWHERE }
}

/// It is not run any more, for now.
pub fn stops(depth: usize) {
    activity::leave(depth);
}

/// A plan ends.
pub fn end(desc: *mut pg_sys::QueryDesc) {
    if !activity::has_started() {
        return conflicts::end(desc);
    }
    let kind = activity::started(desc as usize);
    activity::ends(desc as usize);
    conflicts::end(desc);
    if kind == Some(Kind::ForeignKeyRead) && query::processed(desc) == 0 && indexing::is_about_typed(desc) {
        or_raise(conflicts::missed());
    }
}

/// Whether a utility statement needs nothing of us: it begins or ends a transaction or a savepoint, which is only noted
/// while it runs. Only looks, and never raises.
pub fn passes_utility(node: *mut pg_sys::Node) -> bool {
    let passes =
        statement::bounds_transaction(node) && !crate::auth::is_restricted() && audit::passes_utility();
    if passes {
        crate::auth::query_ends();
    }
    passes
}

/// A utility statement begins; what is returned goes to `utility_ends` if it succeeds.
pub fn utility_begins(node: *mut pg_sys::Node) -> Begun {
    // Roles belong to the cluster: in every database.
    if session::can_read_catalog() {
        or_raise(roles::check_statement(node));
    }
    if catalog::is_absent() {
        return Begun::NOTHING;
    }
    for relation in statement::relations_changed(node) {
        or_raise(tables::check_write(relation));
    }
    or_raise(ddl::check_statement(node));
    pg_ddl::set_dropping_extension(pg_ddl::drops_extension(node));
    let kind = statement::classify(node, output::DUMP_CURSOR);
    match kind {
        Utility::Exports => output::exporting(true),
        Utility::Copies | Utility::Stores => output::storing(true),
        Utility::Dumps => output::dumping(true),
        Utility::Analyzes | Utility::Other => {}
    }
    let running = match kind {
        Utility::Copies => indexing::kind_of_copy(),
        Utility::Analyzes => Kind::Vacuum,
        _ => Kind::Utility,
    };
    Begun { kind, depth: activity::enter_statement(running, pg_ddl::tag(node)) }
}

/// A utility statement that has begun.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Begun {
    kind: Utility,
    depth: usize,
}

impl Begun {
    /// None has.
    pub const NOTHING: Self = Self { kind: Utility::Other, depth: NOWHERE };
}

/// A depth that nothing was entered at.
const NOWHERE: usize = usize::MAX;

/// A utility statement has succeeded.
pub fn utility_ends(begun: Begun, node: *mut pg_sys::Node) {
    activity::leave(begun.depth);
    if pg_ddl::dropping_extension() {
        ddl::extension_ends();
    }
    pg_ddl::set_dropping_extension(false);
    if !catalog::is_absent() {
        or_raise(ddl::check_done(node));
    }
    match begun.kind {
        Utility::Exports => output::exporting(false),
        Utility::Copies | Utility::Stores => {
            output::storing(false);
            conflicts::end_copy();
        }
        _ => {}
    }
}

/// An object was made.
pub fn object_created(class: pg_sys::Oid, object: pg_sys::Oid, column: i32, is_internal: bool) {
    if session::can_read_catalog() && !is_internal {
        audit::object(class, object);
    }
    if !catalog::is_absent() && session::can_read_catalog() {
        or_raise(ddl::object_created(class, object, column, is_internal));
    }
}

/// An object was altered or emptied, or is dropped.
pub fn object_changes(class: pg_sys::Oid, object: pg_sys::Oid, drops: bool) {
    if session::can_read_catalog() {
        audit::object(class, object);
    }
    if !catalog::is_absent() && session::can_read_catalog() {
        or_raise(ddl::object_changes(class, object, drops));
    }
}

/// After a query was parsed: what would print it is off before it does; its literals take the vaults of their columns.
pub fn parsed(query: *mut pg_sys::Query) {
    if catalog::is_absent() {
        return;
    }
    if prints_trees() {
        ddl::keep_trees_out_of_logs();
    }
    // In this order: what has nothing to do with card numbers may have to run before any snapshot is taken.
    if let Some(query) = comparands::subject(query)
        && glance::may_matter(query)
        && session::can_read_catalog()
        && search::is_plural().unwrap_or(false)
    {
        comparands::bind_literals(query, &comparand::MAKE);
    }
}

/// Whether a statement's permissions are none of ours: it writes to plain tables at most, and no utility statement is
/// recorded. Only looks.
pub fn permits(list: *mut pg_sys::List) -> bool {
    let mut is_plain = true;
    relation::for_each_written(list, |written| {
        is_plain &= is_plain_if_known(written) && !output::is_storing()
    });
    is_plain && !audit::is_recording_utility()
}

// Tables to which whoever may can write: at a place that the number tells.
static PLAIN: Local<[Cell<Stamp>; 64]> = Local::new([const { Cell::new(Stamp::NONE) }; 64]);

fn plain(table: pg_sys::Oid) -> &'static Cell<Stamp> {
    &PLAIN[table.to_u32() as usize % PLAIN.len()]
}

fn is_plain_if_known(table: pg_sys::Oid) -> bool {
    plain(table).get() == Stamp::of(table)
}

/// Whether nothing of a table, which is locked, is a card number or compared with one. If it is neither ours nor
/// PostgreSQL's either, writes to it need no closer look from then on.
fn is_plain(table: pg_sys::Oid) -> bool {
    if is_plain_if_known(table) {
        return true;
    }
    let is_without_pan = !audited::holds_pan(table) && table_keys::are_without_pan(table);
    let is_a_users = || {
        table.to_u32() >= pg_sys::FirstNormalObjectId
            && catalog::get().is_some_and(|catalog| !catalog.is_protected_table(table))
    };
    if is_without_pan && is_a_users() {
        plain(table).set(Stamp::of(table));
    }
    is_without_pan
}

/// The relations of a statement and what it does with them.
pub fn permissions(list: *mut pg_sys::List) {
    audit::permissions(list);
    relation::for_each_written(list, |written| {
        if audited::holds_pan(written) {
            audit::protect();
        }
        or_raise(tables::check_catalog_write(written, !catalog::is_absent()));
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
    running: usize,
    dropping: bool,
}

static SUBTRANSACTIONS: Local<RefCell<Vec<(pg_sys::SubTransactionId, Depth)>>> =
    Local::new(RefCell::new(Vec::new()));

/// A transaction ends.
pub fn transaction(event: pg_sys::XactEvent::Type) {
    use pg_sys::XactEvent as E;
    let aborts = event == E::XACT_EVENT_ABORT;
    audit::transaction(event);
    crate::auth::transaction(event);
    // Nothing of ours is open.
    if is_bystander() && !aborts {
        return;
    }
    if aborts || matches!(event, E::XACT_EVENT_COMMIT | E::XACT_EVENT_PREPARE) {
        conflicts::transaction_ends(aborts);
        activity::transaction_ends(aborts);
        crate::key::nonce::transaction_ends();
        hashed::transaction_ends();
        crate::key::transaction_ends(aborts);
        output::dumping(false);
        SUBTRANSACTIONS.with_borrow_mut(Vec::clear);
    }
    // A utility statement may commit while it runs (VACUUM): only a failure cuts it off.
    if aborts {
        output::set_depth((0, 0));
        pg_ddl::set_dropping_extension(false);
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
                running: activity::depth(),
                dropping: pg_ddl::dropping_extension(),
            };
            SUBTRANSACTIONS.with_borrow_mut(|s| s.push((id, depth)));
        }
        E::SUBXACT_EVENT_ABORT_SUB => {
            audit::subtransaction_aborts();
            conflicts::subtransaction_aborts();
            if let Some(depth) = leave(id) {
                activity::leave(depth.running);
                output::set_depth(depth.output);
                pg_ddl::set_dropping_extension(depth.dropping);
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

// As which user, of which generation, the session has learnt that.
static LEARNT: Local<Cell<(u64, u32)>> = Local::new(Cell::new((0, 0)));

fn who() -> (u64, u32) {
    (catalog::generation(), session::current_user().to_u32())
}

/// What a slot function decodes is printed when nothing can be read any more: the session learns before, once
/// after each change, whether its user may export. Nobody else decodes.
fn learn_export() {
    let who = who();
    if LEARNT.replace(who) != who && session::may_decode() {
        let _ = search::learn_export();
    }
}

fn or_raise<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => error.raise(),
    }
}
