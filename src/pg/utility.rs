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
                let is_table = grant.objtype == pg_sys::ObjectType::OBJECT_TABLE
                    && grant.targtype == pg_sys::GrantTargetType::ACL_TARGET_OBJECT;
                let kind = match grant.targtype {
                    pg_sys::GrantTargetType::ACL_TARGET_ALL_IN_SCHEMA => "all in schema",
                    _ => kind(grant.objtype),
                };
                list(grant.objects)
                    .for_each(|one| f(if is_table { named(one) } else { format!("{kind} {}", named(one)) }));
                list(grant.grantees).for_each(|one| f(spec(one.cast())));
            }
            NodeTag::T_CommentStmt => {
                let comment = &*node.cast::<pg_sys::CommentStmt>();
                f(format!("{} {}", kind(comment.objtype), named(comment.object)));
            }
            NodeTag::T_SecLabelStmt => {
                let label = &*node.cast::<pg_sys::SecLabelStmt>();
                f(format!("{} {}", kind(label.objtype), named(label.object)));
            }
            NodeTag::T_CreateFunctionStmt => {
                f(format!("function {}", names((*node.cast::<pg_sys::CreateFunctionStmt>()).funcname)));
            }
            NodeTag::T_CreateSchemaStmt => {
                let name = text((*node.cast::<pg_sys::CreateSchemaStmt>()).schemaname);
                f(format!("schema {name}"));
            }
            NodeTag::T_IndexStmt => {
                let index = &*node.cast::<pg_sys::IndexStmt>();
                f(range(index.relation));
                if !index.idxname.is_null() {
                    f(format!("index {}", text(index.idxname)));
                }
            }
            NodeTag::T_CreateSeqStmt => f(range((*node.cast::<pg_sys::CreateSeqStmt>()).sequence)),
            NodeTag::T_RefreshMatViewStmt => f(range((*node.cast::<pg_sys::RefreshMatViewStmt>()).relation)),
            NodeTag::T_CompositeTypeStmt => f(range((*node.cast::<pg_sys::CompositeTypeStmt>()).typevar)),
            NodeTag::T_CreateEnumStmt => {
                f(format!("type {}", names((*node.cast::<pg_sys::CreateEnumStmt>()).typeName)));
            }
            NodeTag::T_CreateDomainStmt => {
                f(format!("type {}", names((*node.cast::<pg_sys::CreateDomainStmt>()).domainname)));
            }
            NodeTag::T_CreatePolicyStmt => {
                let policy = &*node.cast::<pg_sys::CreatePolicyStmt>();
                f(format!("policy {} on {}", text(policy.policy_name), range(policy.table)));
            }
            NodeTag::T_CreatedbStmt => f(database((*node.cast::<pg_sys::CreatedbStmt>()).dbname)),
            NodeTag::T_AlterDatabaseStmt => f(database((*node.cast::<pg_sys::AlterDatabaseStmt>()).dbname)),
            NodeTag::T_AlterDatabaseSetStmt => {
                let alter = &*node.cast::<pg_sys::AlterDatabaseSetStmt>();
                f(database(alter.dbname));
                if let Some(set) = alter.setstmt.as_ref() {
                    f(setting(set));
                }
            }
            NodeTag::T_CreateEventTrigStmt => {
                f(format!("event trigger {}", text((*node.cast::<pg_sys::CreateEventTrigStmt>()).trigname)));
            }
            NodeTag::T_CreateForeignServerStmt => {
                f(format!("server {}", text((*node.cast::<pg_sys::CreateForeignServerStmt>()).servername)));
            }
            NodeTag::T_CreateSubscriptionStmt => {
                f(format!("subscription {}", text((*node.cast::<pg_sys::CreateSubscriptionStmt>()).subname)));
            }
            NodeTag::T_VacuumStmt => {
                list((*node.cast::<pg_sys::VacuumStmt>()).rels)
                    .for_each(|one| f(range((*one.cast::<pg_sys::VacuumRelation>()).relation)));
            }
            NodeTag::T_DropStmt => {
                let drop = &*node.cast::<pg_sys::DropStmt>();
                list(drop.objects).for_each(|one| f(format!("{} {}", kind(drop.removeType), named(one))));
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

fn database(name: *const c_char) -> String {
    format!("database {}", text(name))
}

/// What a kind of object is called, where it matters to whoever reads the trail.
fn kind(kind: pg_sys::ObjectType::Type) -> &'static str {
    use pg_sys::ObjectType as O;
    match kind {
        O::OBJECT_TABLE => "table",
        O::OBJECT_COLUMN => "column",
        O::OBJECT_VIEW => "view",
        O::OBJECT_MATVIEW => "materialized view",
        O::OBJECT_INDEX => "index",
        O::OBJECT_SEQUENCE => "sequence",
        O::OBJECT_FUNCTION | O::OBJECT_PROCEDURE | O::OBJECT_ROUTINE => "function",
        O::OBJECT_TYPE | O::OBJECT_DOMAIN => "type",
        O::OBJECT_SCHEMA => "schema",
        O::OBJECT_DATABASE => "database",
        O::OBJECT_ROLE => "role",
        O::OBJECT_TRIGGER => "trigger",
        O::OBJECT_POLICY => "policy",
        O::OBJECT_EXTENSION => "extension",
        O::OBJECT_PUBLICATION => "publication",
        O::OBJECT_FOREIGN_SERVER => "server",
        _ => "object",
    }
}

/// The name in a node of a parse tree, whatever form that has.
///
/// # Safety
/// `node` is null or a valid node.
unsafe fn named(node: *mut pg_sys::Node) -> String {
    // SAFETY: by contract; the tag says what the node is.
    unsafe {
        match node.as_ref().map(|node| node.type_) {
            Some(NodeTag::T_List) => names(node.cast()),
            Some(NodeTag::T_String) => text((*node.cast::<pg_sys::String>()).sval),
            Some(NodeTag::T_RangeVar) => range(node.cast()),
            Some(NodeTag::T_ObjectWithArgs) => names((*node.cast::<pg_sys::ObjectWithArgs>()).objname),
            Some(NodeTag::T_TypeName) => names((*node.cast::<pg_sys::TypeName>()).names),
            _ => String::new(),
        }
    }
}

/// A qualified name.
///
/// # Safety
/// A valid list of nodes, or null.
unsafe fn names(parts: *mut pg_sys::List) -> String {
    // SAFETY: by contract.
    unsafe { list(parts).map(|part| named(part)).collect::<Vec<_>>().join(".") }
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
