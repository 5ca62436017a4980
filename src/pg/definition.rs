//! What a definition comes to, judged by the catalog's row of it, which the running command has just written: by types
//! and analysed expressions, whatever the statement was called or whichever names it used.

use pgrx::pg_sys;

use crate::pg::definition_row::{
    AMOP, AMPROC, ATTRDEF, CAST, CONSTRAINT, FUNCTION, INDEX, INHERITS, OPCLASS, OPFAMILY, PARTITIONED,
    POLICY, Place, RELATION, REWRITE, STATISTICS, TRIGGER, TYPE, column_holds_pan, find, is_ours, numbers,
};
use crate::pg::nodes::list;
use crate::pg::stored_tree::{Seen, may_be_pan};
use crate::pg::table::{self, Column, Key, Row};
use crate::pg::{catalog, ddl, relation};

/// What is found.
#[derive(Clone, Copy, Default)]
pub struct Verdict {
    /// It belongs to a table, an operator family or the schema of ours.
    pub ours: bool,
    /// It is a function in C or of PostgreSQL's internal code, or among PostgreSQL's own.
    pub foreign_code: bool,
    /// It is a cast, an operator class or a part of an operator family of card numbers.
    pub operates_on_pan: bool,
    /// It keeps, orders or compares card numbers.
    pub compares: bool,
    /// It holds a card number.
    pub constant: bool,
}

const INTERNAL_AND_C: [u32; 2] = [12, 13];

/// An object was made. `column` is what the hook got: 0, or the number of a column of `object`, a table. `is_internal`:
/// it is made again from one that is there.
pub fn created(class: u32, object: pg_sys::Oid, column: i32, is_internal: bool) -> Verdict {
    let catalog = [RELATION, FUNCTION, TYPE, CAST, OPCLASS, OPFAMILY, AMOP, AMPROC]
        .into_iter()
        .chain([CONSTRAINT, REWRITE, TRIGGER, POLICY, STATISTICS])
        .find(|(catalog, _)| *catalog == class);
    match catalog {
        _ if class == ATTRDEF.0 => default(object, column as i16),
        // VACUUM FULL, CLUSTER and REINDEX make ours anew.
        Some(RELATION) if column == 0 && is_internal => index(object, true),
        Some(RELATION) if column == 0 => index(object, false).merge(by_row(RELATION, object)),
        Some(RELATION) | None => Verdict::default(),
        Some(catalog) => by_row(catalog, object),
    }
}

/// An object was altered: what may turn out differently than when it was made.
pub fn altered(class: u32, object: pg_sys::Oid) -> Verdict {
    match [TYPE, POLICY, FUNCTION, RELATION].into_iter().find(|(catalog, _)| *catalog == class) {
        Some(catalog) => by_row(catalog, object),
        // A new name of a constraint compares nothing.
        None if class == CONSTRAINT.0 && !is_renamed(object) => by_row(CONSTRAINT, object),
        None => Verdict::default(),
    }
}

/// Whether an object belongs to a table or an operator family of ours.
pub fn is_part_of_ours(class: u32, object: pg_sys::Oid) -> bool {
    [AMOP, AMPROC, OPCLASS, OPFAMILY, CONSTRAINT, REWRITE, TRIGGER, POLICY]
        .into_iter()
        .find(|(catalog, _)| *catalog == class)
        .is_some_and(|catalog| find(catalog, object, true, |row| is_ours(catalog, row)) == Some(true))
}

/// A table was made, or became a partition: by what its rows are routed, and what becomes of them.
pub fn partitioned(table: pg_sys::Oid) -> Verdict {
    let mut verdict = Verdict::default();
    let mut seen = Seen::default();
    let key = find(PARTITIONED, table, false, |row| {
        (row.named::<i8>("partstrat"), numbers(row, "partattrs"), row.tree("partexprs"))
    });
    if let Some((strategy, columns, expressions)) = key {
        let by_hash = strategy == Some(b'h' as i8);
        verdict.compares = !by_hash && columns.into_iter().any(|column| column_holds_pan(table, column));
        // SAFETY: a list of analysed expressions, or null.
        unsafe {
            seen.look(expressions);
            verdict.compares |= list(expressions.cast()).any(|expression| may_be_pan(expression));
        }
    }
    let bound = find(RELATION, table, false, |row| row.tree("relpartbound")).unwrap_or(std::ptr::null_mut());
    // SAFETY: null, or what PostgreSQL keeps there.
    unsafe { seen.look_at_bound(bound) };
    verdict.with(seen)
}

/// Whether a table has a parent, or has had children.
pub fn is_inherited(table: pg_sys::Oid) -> bool {
    find(RELATION, table, false, |row| row.named::<bool>("relhassubclass")) == Some(Some(true))
        || find(INHERITS, table, false, |_| ()).is_some()
}

impl Verdict {
    fn merge(self, other: Self) -> Self {
        Self {
            ours: self.ours || other.ours,
            foreign_code: self.foreign_code || other.foreign_code,
            operates_on_pan: self.operates_on_pan || other.operates_on_pan,
            compares: self.compares || other.compares,
            constant: self.constant || other.constant,
        }
    }

    fn with(mut self, seen: Seen) -> Self {
        self.compares |= seen.pan;
        self.constant |= seen.constant;
        self
    }
}

/// What the row says of an object that has an OID of its own.
fn by_row(catalog: Place, object: pg_sys::Oid) -> Verdict {
    find(catalog, object, false, |row| match catalog {
        _ if is_ours(catalog, row) => Verdict { ours: true, ..Verdict::default() },
        FUNCTION => function(row),
        TYPE => Verdict::default().with(look(row, &["typdefaultbin"])),
        CAST => operates(row, &["castsource", "casttarget"]),
        OPCLASS => operates(row, &["opcintype", "opckeytype"]),
        AMOP => operates(row, &["amoplefttype", "amoprighttype"]),
        AMPROC => operates(row, &["amproclefttype", "amprocrighttype"]),
        CONSTRAINT => constraint(row),
        REWRITE => rule(row),
        TRIGGER => trigger(row),
        POLICY => Verdict::default().with(look(row, &["polqual", "polwithcheck"])),
        STATISTICS => statistics(row),
        _ => Verdict::default(),
    })
    .unwrap_or_default()
}

fn operates(row: &Row, types: &[&str]) -> Verdict {
    let operates_on_pan = types.iter().filter_map(|column| row.named(column)).any(catalog::contains_pan);
    Verdict { operates_on_pan, ..Verdict::default() }
}

fn function(row: &Row) -> Verdict {
    let namespace = row.named::<pg_sys::Oid>("pronamespace").unwrap_or_default();
    let language = row.named::<pg_sys::Oid>("prolang").unwrap_or_default();
    Verdict {
        foreign_code: INTERNAL_AND_C.contains(&language.to_u32())
            || namespace.to_u32() == pg_sys::PG_CATALOG_NAMESPACE,
        constant: look(row, &["prosqlbody", "proargdefaults"]).constant,
        ..Verdict::default()
    }
}

/// The default of a column, or what it is generated as.
fn default(table: pg_sys::Oid, column: i16) -> Verdict {
    let columns = [(2, Column::Oid(table)), (3, Column::Number(column))];
    let key = Key { catalog: ATTRDEF.0, index: ATTRDEF.1, columns: &columns };
    table::find(&key, false, |row| {
        Verdict { ours: is_ours(ATTRDEF, row), ..Verdict::default() }.with(look(row, &["adbin"]))
    })
    .unwrap_or_default()
}

/// A unique or foreign key over card numbers that are there, one that is judged later than the write, where it is not
/// counted, or a check. What a table has from its parent was judged there.
fn constraint(row: &Row) -> Verdict {
    let kind = row.named::<i8>("contype").unwrap_or_default() as u8;
    let table = row.named::<pg_sys::Oid>("conrelid").unwrap_or_default();
    let referred = row.named::<pg_sys::Oid>("confrelid").unwrap_or_default();
    let is_of_a_parent = row.named::<pg_sys::Oid>("conparentid").unwrap_or_default() != pg_sys::InvalidOid;
    let is_its_own = row.named("conislocal").unwrap_or(true) || table == pg_sys::InvalidOid;
    let over_pan = || {
        numbers(row, "conkey").into_iter().any(|column| column_holds_pan(table, column))
            || numbers(row, "confkey").into_iter().any(|column| column_holds_pan(referred, column))
    };
    let verdict = Verdict {
        compares: match kind {
            b'f' => {
                let is_deferrable = row.named("condeferrable") == Some(true) && !is_of_a_parent;
                over_pan() && (is_deferrable || !relation::is_empty(table))
            }
            b'u' | b'p' | b'x' => row.named("condeferrable") == Some(true) && !is_of_a_parent && over_pan(),
            _ => false,
        },
        ..Verdict::default()
    };
    if is_its_own { verdict.with(look(row, &["conbin"])) } else { verdict }
}

fn is_renamed(constraint: pg_sys::Oid) -> bool {
    let name = |before| {
        find(CONSTRAINT, constraint, before, |row| row.named::<&core::ffi::CStr>("conname").map(Into::into))
    };
    let (old, new): (Option<Option<std::ffi::CString>>, _) = (name(true), name(false));
    old != new
}

/// A rule has other sessions copy what they write; a view's is a query like any other.
fn rule(row: &Row) -> Verdict {
    let table = row.named::<pg_sys::Oid>("ev_class").unwrap_or_default();
    Verdict {
        compares: row.named::<i8>("ev_type") != Some(b'1' as i8) && ddl::holds_pan(table),
        constant: look(row, &["ev_qual", "ev_action"]).constant,
        ..Verdict::default()
    }
}

/// A trigger before the write may put a stored number into another row; a condition is judged where no plan shows it;
/// one at the end of the transaction runs when the write is over.
fn trigger(row: &Row) -> Verdict {
    let table = row.named::<pg_sys::Oid>("tgrelid").unwrap_or_default();
    let kind = row.named::<i16>("tgtype").unwrap_or_default() as u32;
    let is_internal = row.named("tgisinternal") == Some(true);
    let is_of_a_parent = row.named::<pg_sys::Oid>("tgparentid").unwrap_or_default() != pg_sys::InvalidOid;
    let before_row = pg_sys::TRIGGER_TYPE_BEFORE | pg_sys::TRIGGER_TYPE_ROW;
    let changes = pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE;
    let may_change = kind & before_row == before_row && kind & changes != 0;
    if is_internal || is_of_a_parent {
        return Verdict::default();
    }
    let is_deferrable = row.named("tgdeferrable") == Some(true);
    let compares = (may_change || is_deferrable) && ddl::holds_pan(table);
    Verdict { compares, ..Verdict::default() }.with(look(row, &["tgqual"]))
}

fn statistics(row: &Row) -> Verdict {
    let table = row.named::<pg_sys::Oid>("stxrelid").unwrap_or_default();
    let expressions = row.tree("stxexprs");
    let mut seen = Seen::default();
    // SAFETY: a list of analysed expressions, or null.
    let over_pan = unsafe {
        seen.look(expressions);
        list(expressions.cast()).any(|expression| may_be_pan(expression))
    };
    Verdict {
        compares: over_pan
            || numbers(row, "stxkeys").into_iter().any(|column| column_holds_pan(table, column)),
        ..Verdict::default()
    }
    .with(seen)
}

/// An index, if the relation is one: over expressions, or over card numbers that are there. How big it gets tells which
/// of those are equal: by what a hash bucket takes, and by what a B-tree keeps to tell its pages apart.
fn index(object: pg_sys::Oid, is_internal: bool) -> Verdict {
    let row = find(INDEX, object, false, |row| {
        let flag = |name| row.named::<bool>(name) == Some(true);
        let keys = row.named::<i16>("indnkeyatts").unwrap_or_default() as usize;
        let columns: Vec<i16> = numbers(row, "indkey").into_iter().take(keys).collect();
        let trees = (row.tree("indexprs"), row.tree("indpred"));
        // REINDEX CONCURRENTLY makes one again that is there.
        let is_copy = is_internal && !flag("indisvalid");
        let table = row.named::<pg_sys::Oid>("indrelid").unwrap_or_default();
        (table, is_copy, flag("indisready"), columns, trees)
    });
    let Some((table, is_copy, is_ready, columns, (expressions, predicate))) = row else {
        return Verdict::default();
    };
    let ours = !is_copy && catalog::get().is_some_and(|catalog| catalog.is_protected_table(table));
    let is_partition =
        find(RELATION, object, false, |row| row.named::<bool>("relispartition")).flatten() == Some(true);
    let mut seen = Seen::default();
    // SAFETY: lists of analysed expressions, or null.
    let expression_of_pan = unsafe {
        seen.look(expressions);
        seen.look(predicate);
        list(expressions.cast()).any(|expression| may_be_pan(expression))
    };
    let over_pan = expression_of_pan || columns.into_iter().any(|column| column_holds_pan(table, column));
    // Made concurrently, it finds what was written meanwhile, where nothing was compared yet.
    let may_hold = || !is_ready || !relation::is_empty(table);
    let compares_stored = over_pan && !is_copy && may_hold();
    let verdict = Verdict { ours, compares: compares_stored, ..Verdict::default() };
    if is_copy || is_partition {
        return verdict;
    }
    Verdict { compares: compares_stored || expression_of_pan, ..verdict }.with(seen)
}

/// What is seen in the trees of some columns.
fn look(row: &Row, columns: &[&str]) -> Seen {
    let mut seen = Seen::default();
    for column in columns {
        // SAFETY: PostgreSQL keeps analysed expressions and queries there.
        unsafe { seen.look(row.tree(column)) };
    }
    seen
}
