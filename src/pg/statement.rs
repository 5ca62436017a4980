//! What kind of statement it is.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::nodes::{list, list_of};

/// Utility statements that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Utility {
    /// Nothing to note.
    Other,
    /// COPY TO: values leave.
    Exports,
    /// The dump's cursor is declared: values will leave.
    Dumps,
    /// COPY FROM: values that it reads are kept.
    Copies,
    /// DDL: values that it reads are kept.
    Stores,
    /// ANALYZE.
    Analyzes,
}

/// Classifies a utility statement.
pub fn classify(node: *mut pg_sys::Node, dump_cursor: &[u8]) -> Utility {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_CopyStmt if (*node.cast::<pg_sys::CopyStmt>()).is_from => Utility::Copies,
            NodeTag::T_CopyStmt => Utility::Exports,
            // Its rows are printed after the FETCH itself is over: from here to the end of the transaction.
            NodeTag::T_DeclareCursorStmt => {
                let portal = (*node.cast::<pg_sys::DeclareCursorStmt>()).portalname;
                let dumps = !portal.is_null() && CStr::from_ptr(portal).to_bytes() == dump_cursor;
                if dumps { Utility::Dumps } else { Utility::Other }
            }
            NodeTag::T_VacuumStmt => Utility::Analyzes,
            NodeTag::T_AlterTableStmt
            | NodeTag::T_CreateStmt
            | NodeTag::T_CreateTableAsStmt
            | NodeTag::T_RefreshMatViewStmt
            | NodeTag::T_ViewStmt
            | NodeTag::T_RuleStmt
            | NodeTag::T_CreatePolicyStmt
            | NodeTag::T_AlterPolicyStmt
            | NodeTag::T_CreateTrigStmt
            | NodeTag::T_CreateDomainStmt
            | NodeTag::T_AlterDomainStmt
            | NodeTag::T_CreateFunctionStmt
            | NodeTag::T_IndexStmt => Utility::Stores,
            _ => Utility::Other,
        }
    }
}

/// Whether the executor was started by PostgreSQL's foreign-key machinery: of all statements that go through SPI it
/// alone asks that triggers wait for the outer statement. A function in SQL that hands out its rows one at a time asks
/// for that, too, but has another destination.
pub fn is_foreign_key(desc: *mut pg_sys::QueryDesc, flags: i32) -> bool {
    // SAFETY: a valid descriptor.
    let by_spi = unsafe { (*desc).dest.as_ref().is_some_and(|d| d.mydest == pg_sys::CommandDest::DestSPI) };
    by_spi && flags & pg_sys::EXEC_FLAG_SKIP_TRIGGERS as i32 != 0
}

/// Whether a query may be one of the foreign-key machinery, before it starts.
pub fn may_be_foreign_key() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::InNoForceRLSOperation() }
}

/// The roles whose members, name, attributes or existence a utility statement changes.
pub fn roles_changed(node: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_GrantRoleStmt => list((*node.cast::<pg_sys::GrantRoleStmt>()).granted_roles)
                .filter_map(|role| role_named((*role.cast::<pg_sys::AccessPriv>()).priv_name))
                .collect(),
            // CREATE ROLE … IN ROLE
            NodeTag::T_CreateRoleStmt => list((*node.cast::<pg_sys::CreateRoleStmt>()).options)
                .map(|option| option.cast::<pg_sys::DefElem>())
                .filter(|option| CStr::from_ptr((**option).defname).to_bytes() == b"addroleto")
                .flat_map(|option| list_of((*option).arg).filter_map(|role| role_of(role.cast())))
                .collect(),
            NodeTag::T_AlterRoleStmt => role_of((*node.cast::<pg_sys::AlterRoleStmt>()).role)
                .filter(|_| changes_more_than_itself(node))
                .into_iter()
                .collect(),
            NodeTag::T_RenameStmt => {
                let rename = node.cast::<pg_sys::RenameStmt>();
                let is_role = (*rename).renameType == pg_sys::ObjectType::OBJECT_ROLE;
                is_role.then(|| role_named((*rename).subname)).flatten().into_iter().collect()
            }
            NodeTag::T_DropRoleStmt => list((*node.cast::<pg_sys::DropRoleStmt>()).roles)
                .filter_map(|role| role_of(role.cast()))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The roles that a utility statement gives members to.
pub fn roles_joined(node: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        let joins = match (*node).type_ {
            NodeTag::T_GrantRoleStmt => (*node.cast::<pg_sys::GrantRoleStmt>()).is_grant,
            NodeTag::T_CreateRoleStmt => true,
            NodeTag::T_AlterRoleStmt => list((*node.cast::<pg_sys::AlterRoleStmt>()).options).any(|option| {
                CStr::from_ptr((*option.cast::<pg_sys::DefElem>()).defname).to_bytes() == b"rolemembers"
            }),
            _ => false,
        };
        if joins { roles_changed(node) } else { Vec::new() }
    }
}

/// ALTER GROUP … ADD USER changes members, LOGIN makes a duty a person. A password, a time limit or a setting of
/// an application's role is its administrator's matter.
///
/// # Safety
/// `node` is an AlterRoleStmt.
unsafe fn changes_more_than_itself(node: *mut pg_sys::Node) -> bool {
    // SAFETY: by contract.
    unsafe {
        list((*node.cast::<pg_sys::AlterRoleStmt>()).options).any(|option| {
            let name = CStr::from_ptr((*option.cast::<pg_sys::DefElem>()).defname).to_bytes();
            matches!(name, b"rolemembers" | b"canlogin" | b"superuser" | b"bypassrls")
        })
    }
}

/// The role whose password an ALTER ROLE sets.
pub fn password_of(node: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        if (*node).type_ != NodeTag::T_AlterRoleStmt {
            return None;
        }
        let alter = node.cast::<pg_sys::AlterRoleStmt>();
        let sets = list((*alter).options).any(|option| {
            CStr::from_ptr((*option.cast::<pg_sys::DefElem>()).defname).to_bytes() == b"password"
        });
        role_of((*alter).role).filter(|_| sets)
    }
}

/// # Safety
/// `role` is null or a valid RoleSpec.
pub(super) unsafe fn role_of(role: *mut pg_sys::RoleSpec) -> Option<pg_sys::Oid> {
    // SAFETY: by contract.
    unsafe {
        // PUBLIC is no role, and asking for it raises whatever is missing_ok.
        let is_none = role.is_null() || (*role).roletype == pg_sys::RoleSpecType::ROLESPEC_PUBLIC;
        let oid = if is_none { pg_sys::InvalidOid } else { pg_sys::get_rolespec_oid(role, true) };
        (oid != pg_sys::InvalidOid).then_some(oid)
    }
}

/// # Safety
/// `name` is null or a C string.
pub(super) unsafe fn role_named(name: *mut core::ffi::c_char) -> Option<pg_sys::Oid> {
    // SAFETY: by contract.
    unsafe {
        let oid = if name.is_null() { pg_sys::InvalidOid } else { pg_sys::get_role_oid(name, true) };
        (oid != pg_sys::InvalidOid).then_some(oid)
    }
}

/// The relation that a statement puts a trigger, rule or policy on, alters or empties.
pub fn relations_changed(node: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        let relation = match (*node).type_ {
            NodeTag::T_CreateTrigStmt => (*node.cast::<pg_sys::CreateTrigStmt>()).relation,
            NodeTag::T_RuleStmt => (*node.cast::<pg_sys::RuleStmt>()).relation,
            NodeTag::T_CreatePolicyStmt => (*node.cast::<pg_sys::CreatePolicyStmt>()).table,
            NodeTag::T_AlterTableStmt => (*node.cast::<pg_sys::AlterTableStmt>()).relation,
            NodeTag::T_IndexStmt => (*node.cast::<pg_sys::IndexStmt>()).relation,
            NodeTag::T_RenameStmt => (*node.cast::<pg_sys::RenameStmt>()).relation,
            NodeTag::T_TruncateStmt => {
                let relations = list((*node.cast::<pg_sys::TruncateStmt>()).relations);
                return relations.filter_map(|relation| relation_of(relation)).collect();
            }
            _ => return Vec::new(),
        };
        relation_of(relation.cast()).into_iter().collect()
    }
}

/// The relation that a node of a parse tree names: None where it is no name of a relation (a join, a subquery, a
/// function in FROM), or there is none of this name.
///
/// # Safety
/// `node` is null or a valid node of a parse tree.
pub unsafe fn relation_of(node: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    // SAFETY: by contract; the tag says what the node is. No lock, missing_ok.
    let oid = unsafe {
        if node.is_null() || (*node).type_ != NodeTag::T_RangeVar {
            return None;
        }
        pg_sys::RangeVarGetRelidExtended(
            node.cast(),
            pg_sys::NoLock as i32,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            std::ptr::null_mut(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// What kind of node it is.
pub fn tag(node: *mut pg_sys::Node) -> NodeTag {
    // SAFETY: a valid parse tree.
    unsafe { (*node).type_ }
}

/// Whether a transaction statement is one of two-phase commit.
pub fn is_two_phase(node: *mut pg_sys::Node) -> bool {
    use pg_sys::TransactionStmtKind as K;
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        (*node).type_ == NodeTag::T_TransactionStmt
            && matches!(
                (*node.cast::<pg_sys::TransactionStmt>()).kind,
                K::TRANS_STMT_PREPARE | K::TRANS_STMT_COMMIT_PREPARED | K::TRANS_STMT_ROLLBACK_PREPARED
            )
    }
}

/// Whether it begins or ends a transaction or a savepoint, and no more than that.
pub fn bounds_transaction(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree.
    let is_about_transaction = unsafe { (*node).type_ == NodeTag::T_TransactionStmt };
    is_about_transaction && !is_two_phase(node)
}

/// The table that a COPY statement names.
pub fn copied(node: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        if (*node).type_ != NodeTag::T_CopyStmt {
            return None;
        }
        relation_of((*node.cast::<pg_sys::CopyStmt>()).relation.cast())
    }
}
