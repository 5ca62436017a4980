//! What differs between PostgreSQL 15, 16, 17 and 18.

use std::ffi::CStr;

use pgrx::pg_sys;

#[cfg(not(feature = "pg15"))]
unsafe extern "C-unwind" {
    // Not in pg_sys.
    fn errcode(sqlstate: core::ffi::c_int) -> core::ffi::c_int;
    fn errmsg_internal(format: *const core::ffi::c_char, ...) -> core::ffi::c_int;
    fn errhint(format: *const core::ffi::c_char, ...) -> core::ffi::c_int;
}

/// Whether an index scan may jump from one value of a leading column to the next. How often it did is counted and
/// shown (EXPLAIN ANALYZE, pg_stat_user_indexes), which tells how many different values there are.
pub const SKIPS_LEADING_COLUMNS: bool = cfg!(feature = "pg18");

/// Column `i` of a row descriptor.
///
/// # Safety
/// `descriptor` is valid and has more than `i` columns.
pub unsafe fn attribute(descriptor: pg_sys::TupleDesc, i: usize) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: by contract; 18 moved the attributes behind an array of compact ones.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return (*descriptor).attrs.as_ptr().add(i);
        #[cfg(feature = "pg18")]
        return (*descriptor)
            .compact_attrs
            .as_ptr()
            .add((*descriptor).natts as usize)
            .cast::<pg_sys::FormData_pg_attribute>()
            .add(i);
    }
}

/// What PostgreSQL's tree walkers call for each node.
pub type Walker = Option<unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut core::ffi::c_void) -> bool>;

unsafe extern "C-unwind" {
    /// PostgreSQL's own, without pgrx's guard: for walkers that are plain old frames.
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    pub fn query_tree_walker(
        query: *mut pg_sys::Query,
        walker: Walker,
        context: *mut core::ffi::c_void,
        flags: core::ffi::c_int,
    ) -> bool;

    /// See `query_tree_walker`.
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    pub fn expression_tree_walker(
        node: *mut pg_sys::Node,
        walker: Walker,
        context: *mut core::ffi::c_void,
    ) -> bool;
}

/// The expressions behind the columns of XMLTABLE or JSON_TABLE, a list each: their defaults, and what looks into the
/// document, which is an expression in JSON only.
///
/// # Safety
/// `table` is valid.
pub unsafe fn table_function_columns(table: *mut pg_sys::TableFunc) -> [*mut pg_sys::List; 2] {
    // SAFETY: by contract.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return [(*table).coldefexprs, std::ptr::null_mut()];
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        return [(*table).coldefexprs, (*table).colvalexprs];
    }
}

/// What JSON_VALUE and its like give where the document has nothing, or what is wrong; None for other expressions.
/// 17 brought them.
///
/// # Safety
/// `node` is a valid expression.
pub unsafe fn json_defaults(node: *mut pg_sys::Node) -> Option<[*mut pg_sys::Node; 2]> {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = node;
        None
    }
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_JsonExpr {
            return None;
        }
        let json = &*node.cast::<pg_sys::JsonExpr>();
        let value =
            |behavior: *mut pg_sys::JsonBehavior| behavior.as_ref().map_or(std::ptr::null_mut(), |b| b.expr);
        Some([value(json.on_empty), value(json.on_error)])
    }
}

/// The relation and the permissions of an entry of the list that ExecutorCheckPerms_hook gets: a range table entry
/// until 15, a structure of its own since.
///
/// # Safety
/// `node` is an element of that list.
pub unsafe fn permission(node: *mut pg_sys::Node) -> (pg_sys::Oid, pg_sys::AclMode) {
    // SAFETY: by contract.
    unsafe {
        #[cfg(feature = "pg15")]
        let entry = &*node.cast::<pg_sys::RangeTblEntry>();
        #[cfg(not(feature = "pg15"))]
        let entry = &*node.cast::<pg_sys::RTEPermissionInfo>();
        (entry.relid, entry.requiredPerms)
    }
}

/// The relation of such an entry that something is done with, and the columns that are read, inserted and updated.
///
/// # Safety
/// As above.
pub unsafe fn permission_columns(
    node: *mut pg_sys::Node,
) -> Option<(pg_sys::Oid, [*mut pg_sys::Bitmapset; 3])> {
    // SAFETY: by contract.
    unsafe {
        #[cfg(feature = "pg15")]
        let entry = &*node.cast::<pg_sys::RangeTblEntry>();
        #[cfg(not(feature = "pg15"))]
        let entry = &*node.cast::<pg_sys::RTEPermissionInfo>();
        (entry.relid != pg_sys::InvalidOid && entry.requiredPerms != 0)
            .then_some((entry.relid, [entry.selectedCols, entry.insertedCols, entry.updatedCols]))
    }
}

/// The privileges that such an entry needs.
///
/// # Safety
/// `node` is a valid entry.
pub unsafe fn permission_bits(node: *mut pg_sys::Node) -> pg_sys::AclMode {
    // SAFETY: by contract.
    unsafe {
        #[cfg(feature = "pg15")]
        return (*node.cast::<pg_sys::RangeTblEntry>()).requiredPerms;
        #[cfg(not(feature = "pg15"))]
        return (*node.cast::<pg_sys::RTEPermissionInfo>()).requiredPerms;
    }
}

/// The list of such entries of a plan.
///
/// # Safety
/// `plan` is valid.
pub unsafe fn permissions(plan: *mut pg_sys::PlannedStmt) -> *mut pg_sys::List {
    // SAFETY: by contract.
    unsafe {
        #[cfg(feature = "pg15")]
        return (*plan).rtable;
        #[cfg(not(feature = "pg15"))]
        return (*plan).permInfos;
    }
}

/// The operators by which a set operation finds equal rows: renamed in 18, when it learnt to merge.
///
/// # Safety
/// `node` is a valid plan node.
pub unsafe fn set_operators(node: *mut pg_sys::SetOp) -> *mut pg_sys::Oid {
    // SAFETY: by contract.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return (*node).dupOperators;
        #[cfg(feature = "pg18")]
        return (*node).cmpOperators;
    }
}

/// What a query is grouped by, where its target list shows only a column: since 18, a table entry holds the
/// expressions.
///
/// # Safety
/// `entry` is a valid range table entry.
pub unsafe fn grouped_by(entry: *mut pg_sys::RangeTblEntry) -> *mut pg_sys::List {
    #[cfg(not(feature = "pg18"))]
    {
        let _ = entry;
        std::ptr::null_mut()
    }
    // SAFETY: by contract; null in entries of other kinds.
    #[cfg(feature = "pg18")]
    unsafe {
        (*entry).groupexprs
    }
}

/// Whether somebody granted `member` the use of `role`, by name, directly or through other roles; superusers are no
/// exception. Since 16 whoever creates a role is made its member with ADMIN OPTION alone, which is no such grant.
///
/// # Safety
/// Called where the syscache can be read.
pub unsafe fn is_member(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: by contract.
    if member == role || !unsafe { pg_sys::is_member_of_role_nosuper(member, role) } {
        return member == role;
    }
    #[cfg(feature = "pg15")]
    return true;
    #[cfg(not(feature = "pg15"))]
    {
        let mut reached = vec![member];
        let mut next = 0;
        while let Some(of) = reached.get(next).copied() {
            // SAFETY: by contract.
            for usable in unsafe { usable_memberships(of) } {
                if usable == role {
                    return true;
                }
                if !reached.contains(&usable) {
                    reached.push(usable);
                }
            }
            next += 1;
        }
        false
    }
}

/// The roles that a role is a direct member of and may inherit from or change to.
#[cfg(not(feature = "pg15"))]
unsafe fn usable_memberships(member: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // A row of pg_auth_members (pg_auth_members.h), which pgrx does not bind.
    #[repr(C)]
    struct Membership {
        oid: pg_sys::Oid,
        role: pg_sys::Oid,
        member: pg_sys::Oid,
        grantor: pg_sys::Oid,
        admin: bool,
        inherit: bool,
        set: bool,
    }
    // SAFETY: by the caller; the list is released, and its tuples live until then.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::AUTHMEMMEMROLE as i32;
        let none = pg_sys::Datum::from(0usize);
        let list = pg_sys::SearchSysCacheList(cache, 1, pg_sys::Datum::from(member), none, none);
        let roles = (0..(*list).n_members as usize)
            .map(|i| &raw mut (**(*list).members.as_ptr().add(i)).tuple)
            .map(|tuple| &*pg_sys::GETSTRUCT(tuple).cast::<Membership>())
            .filter(|membership| membership.inherit || membership.set)
            .map(|membership| membership.role)
            .collect();
        pg_sys::ReleaseCatCacheList(list);
        roles
    }
}

/// Whether the running code may alter a table as its owner.
///
/// # Safety
/// Called where the syscache can be read.
pub unsafe fn owns_relation(relation: pg_sys::Oid) -> bool {
    // SAFETY: by contract.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(relation, pg_sys::GetUserId());
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, pg_sys::GetUserId());
    }
}

/// Hands an error about an input value to the caller of the input function, if it asked for that (COPY … ON_ERROR,
/// pg_input_is_valid): since 16. True if it did; else the error is to be raised.
///
/// # Safety
/// `context` is the context node of a function call, or null.
pub unsafe fn save_error(
    context: *mut pg_sys::Node,
    sqlstate: i32,
    message: &CStr,
    hint: Option<&CStr>,
) -> bool {
    #[cfg(feature = "pg15")]
    {
        let _ = (context, sqlstate, message, hint);
        false
    }
    // SAFETY: by contract; PostgreSQL's own protocol of errsave().
    #[cfg(not(feature = "pg15"))]
    #[allow(ffi_unwind_calls, reason = "plain old frame")]
    unsafe {
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_ErrorSaveContext {
            return false;
        }
        if pg_sys::errsave_start(context, std::ptr::null()) {
            errcode(sqlstate);
            errmsg_internal(c"%s".as_ptr(), message.as_ptr());
            if let Some(hint) = hint {
                errhint(c"%s".as_ptr(), hint.as_ptr());
            }
            pg_sys::errsave_finish(context, c"pgpci".as_ptr(), 0, c"pgpci".as_ptr());
        }
        true
    }
}
