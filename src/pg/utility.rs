//! What a utility statement is called, and what it is about.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::audited::text;
use crate::pg::nodes::list;

/// The name of a utility statement, such as `CREATE TABLE`.
pub fn name(node: *mut pg_sys::Node) -> &'static [u8] {
    // SAFETY: a valid parse tree; the names are static.
    unsafe { CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(node))).to_bytes() }
}

/// The names that a utility statement has for what it is about, where no object is there yet to be asked.
pub fn objects(node: *mut pg_sys::Node, mut f: impl FnMut(String)) {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_CreateStmt => f(range((*node.cast::<pg_sys::CreateStmt>()).relation)),
            NodeTag::T_ViewStmt => f(range((*node.cast::<pg_sys::ViewStmt>()).view)),
            NodeTag::T_CreateTableAsStmt => {
                let into = (*node.cast::<pg_sys::CreateTableAsStmt>()).into;
                if let Some(into) = into.as_ref() {
                    f(range(into.rel));
                }
            }
            NodeTag::T_TruncateStmt => {
                list((*node.cast::<pg_sys::TruncateStmt>()).relations).for_each(|one| f(range(one.cast())));
            }
            NodeTag::T_CopyStmt => {
                let copy = &*node.cast::<pg_sys::CopyStmt>();
                if !copy.filename.is_null() {
                    let kind = if copy.is_program { "program" } else { "file" };
                    f(format!("{kind} {}", text(copy.filename)));
                }
            }
            NodeTag::T_CreateRoleStmt => f(role((*node.cast::<pg_sys::CreateRoleStmt>()).role)),
            NodeTag::T_AlterRoleStmt => f(spec((*node.cast::<pg_sys::AlterRoleStmt>()).role)),
            NodeTag::T_AlterRoleSetStmt => {
                let alter = &*node.cast::<pg_sys::AlterRoleSetStmt>();
                f(spec(alter.role));
                if let Some(set) = alter.setstmt.as_ref() {
                    f(setting(set));
                }
            }
            NodeTag::T_DropRoleStmt => {
                list((*node.cast::<pg_sys::DropRoleStmt>()).roles).for_each(|one| f(spec(one.cast())));
            }
            NodeTag::T_GrantRoleStmt => {
                let grant = &*node.cast::<pg_sys::GrantRoleStmt>();
                list(grant.granted_roles)
                    .for_each(|one| f(role((*one.cast::<pg_sys::AccessPriv>()).priv_name)));
                list(grant.grantee_roles).for_each(|one| f(spec(one.cast())));
            }
            NodeTag::T_GrantStmt => {
                let grant = &*node.cast::<pg_sys::GrantStmt>();
                if grant.objtype == pg_sys::ObjectType::OBJECT_TABLE
                    && grant.targtype == pg_sys::GrantTargetType::ACL_TARGET_OBJECT
                {
                    list(grant.objects).for_each(|one| f(range(one.cast())));
                }
                list(grant.grantees).for_each(|one| f(spec(one.cast())));
            }
            NodeTag::T_VariableSetStmt => f(setting(&*node.cast())),
            NodeTag::T_AlterSystemStmt => {
                if let Some(set) = (*node.cast::<pg_sys::AlterSystemStmt>()).setstmt.as_ref() {
                    f(setting(set));
                }
            }
            NodeTag::T_LoadStmt => {
                f(format!("library {}", text((*node.cast::<pg_sys::LoadStmt>()).filename)))
            }
            NodeTag::T_TransactionStmt => {
                f(format!("transaction {}", text((*node.cast::<pg_sys::TransactionStmt>()).gid)));
            }
            _ => {}
        }
    }
}

/// Whether it sets a label by which more is recorded, or less; without a provider's name it may.
pub fn labels_for_audit(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        (*node).type_ == NodeTag::T_SecLabelStmt
            && matches!(text((*node.cast::<pg_sys::SecLabelStmt>()).provider).as_str(), "" | "pgpci_audit")
    }
}

/// The setting that a SET statement is about, if it is one.
pub fn setting_set(node: *mut pg_sys::Node) -> Option<String> {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        ((*node).type_ == NodeTag::T_VariableSetStmt)
            .then(|| text((*node.cast::<pg_sys::VariableSetStmt>()).name))
    }
}

fn setting(set: &pg_sys::VariableSetStmt) -> String {
    format!("setting {}", if set.name.is_null() { "ALL".into() } else { text(set.name) })
}

fn role(name: *const c_char) -> String {
    format!("role {}", text(name))
}

/// # Safety
/// `role` is null or a valid RoleSpec.
unsafe fn spec(spec: *mut pg_sys::RoleSpec) -> String {
    use pg_sys::RoleSpecType as R;
    // SAFETY: by contract.
    let Some(spec) = (unsafe { spec.as_ref() }) else { return "role ALL".into() };
    match spec.roletype {
        R::ROLESPEC_CSTRING => role(spec.rolename),
        R::ROLESPEC_PUBLIC => "role PUBLIC".into(),
        R::ROLESPEC_SESSION_USER => "role SESSION_USER".into(),
        _ => "role CURRENT_USER".into(),
    }
}

/// # Safety
/// `range` is null or a valid RangeVar.
unsafe fn range(range: *mut pg_sys::RangeVar) -> String {
    // SAFETY: by contract.
    let Some(range) = (unsafe { range.as_ref() }) else { return String::new() };
    if range.schemaname.is_null() {
        text(range.relname)
    } else {
        format!("{}.{}", text(range.schemaname), text(range.relname))
    }
}
