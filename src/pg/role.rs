//! Roles as the catalog has them, and statements about them.

use std::ffi::CStr;

use pgrx::pg_sys::NodeTag;
use pgrx::{Spi, pg_sys};

use crate::error::{Error, Result};
use crate::pg::nodes::list;
use crate::pg::session;
use crate::pg::statement::{role_named, role_of};
use crate::pg::table::{self, Column, Key};

/// A role.
pub struct Role {
    /// Its name.
    pub name: String,
    /// What is stored of its password.
    pub password: Option<String>,
    /// Until when the password counts, in microseconds of PostgreSQL's epoch.
    pub valid_until: Option<i64>,
}

/// The role, as the running command has left it.
pub fn read(role: pg_sys::Oid) -> Option<Role> {
    let columns = &[(pg_sys::Anum_pg_authid_oid as i16, Column::Oid(role))];
    let key = Key { catalog: pg_sys::AuthIdRelationId.to_u32(), index: pg_sys::AuthIdOidIndexId, columns };
    table::find(&key, false, |row| Role {
        name: session::role_name(role),
        password: row.named("rolpassword"),
        valid_until: row.named::<pgrx::datum::TimestampWithTimeZone>("rolvaliduntil").map(i64::from),
    })
}

/// The roles that may log in.
pub fn all() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    table::scan(pg_sys::AuthIdRelationId, |row| {
        if row.named("rolcanlogin") == Some(true)
            && let Some(role) = row.named("oid")
        {
            found.push(role);
        }
    });
    found
}

/// A statement about one role.
pub enum Statement {
    /// CREATE ROLE, USER or GROUP with this name, in whatever encoding.
    Creates(Vec<u8>),
    /// ALTER ROLE or USER.
    Alters {
        /// The role.
        role: pg_sys::Oid,
        /// Whether it sets the password, to something, and does nothing else.
        only_password: bool,
    },
    /// ALTER ROLE … RENAME.
    Renames(pg_sys::Oid),
}

/// Whether it is of those kinds of statement.
pub fn is_about_roles(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree.
    let tag = unsafe { (*node).type_ };
    matches!(tag, NodeTag::T_CreateRoleStmt | NodeTag::T_AlterRoleStmt | NodeTag::T_RenameStmt)
}

/// What a utility statement does with a role, if it does.
pub fn statement(node: *mut pg_sys::Node) -> Option<Statement> {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_CreateRoleStmt => {
                let name = (*node.cast::<pg_sys::CreateRoleStmt>()).role;
                Some(Statement::Creates(CStr::from_ptr(name).to_bytes().to_vec()))
            }
            NodeTag::T_AlterRoleStmt => {
                let alter = &*node.cast::<pg_sys::AlterRoleStmt>();
                let only_password = list(alter.options)
                    .map(|it| &*it.cast::<pg_sys::DefElem>())
                    .all(|it| CStr::from_ptr(it.defname).to_bytes() == b"password" && !it.arg.is_null());
                Some(Statement::Alters { role: role_of(alter.role)?, only_password })
            }
            NodeTag::T_RenameStmt => {
                let rename = &*node.cast::<pg_sys::RenameStmt>();
                let is_role = rename.renameType == pg_sys::ObjectType::OBJECT_ROLE;
                Some(Statement::Renames(role_named(rename.subname).filter(|_| is_role)?))
            }
            _ => None,
        }
    }
}

/// Whether whoever must change the password first may run it: it ends or begins a transaction, or is what drivers send
/// when they connect.
pub fn is_harmless(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a valid parse tree; the tag says what the node is.
    unsafe {
        match (*node).type_ {
            NodeTag::T_TransactionStmt => {
                use pg_sys::TransactionStmtKind as K;
                // What was prepared does more than end one's own transaction.
                !matches!(
                    (*node.cast::<pg_sys::TransactionStmt>()).kind,
                    K::TRANS_STMT_PREPARE | K::TRANS_STMT_COMMIT_PREPARED | K::TRANS_STMT_ROLLBACK_PREPARED
                )
            }
            NodeTag::T_VariableShowStmt | NodeTag::T_DiscardStmt | NodeTag::T_DeallocateStmt => true,
            NodeTag::T_VariableSetStmt => {
                let name = (*node.cast::<pg_sys::VariableSetStmt>()).name;
                !name.is_null()
                    && !["role", "session_authorization"]
                        .iter()
                        .any(|it| CStr::from_ptr(name).to_bytes().eq_ignore_ascii_case(it.as_bytes()))
            }
            _ => false,
        }
    }
}

/// Whether what runs is the client's statement, rather than what the server does before the first one.
pub fn is_clients() -> bool {
    // SAFETY: reads backend-local variables; a call by the fast-path protocol has no text, and no portal.
    unsafe { !pg_sys::debug_query_string.is_null() || pg_sys::ActivePortal.is_null() }
}

/// Whether a role may not set its own password: before PostgreSQL 16, one with REPLICATION, unless it is a superuser.
pub fn cannot_change_itself(role: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups.
    cfg!(feature = "pg15") && unsafe { pg_sys::has_rolreplication(role) && !pg_sys::superuser_arg(role) }
}

/// Whether the session stores passwords as MD5.
pub fn stores_md5() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::Password_encryption == pg_sys::PasswordType::PASSWORD_TYPE_MD5 as i32 }
}

/// How many iterations the session stores SCRAM verifiers with, where that can be set.
pub fn scram_iterations() -> Option<u32> {
    // SAFETY: missing_ok.
    unsafe {
        let text = pg_sys::GetConfigOption(c"scram_iterations".as_ptr(), true, false);
        if text.is_null() { None } else { CStr::from_ptr(text).to_str().ok()?.parse().ok() }
    }
}

/// Sets VALID UNTIL of a role, whatever the encoding of its name.
pub fn set_valid_until(role: pg_sys::Oid, until: &str) -> Result<()> {
    // SAFETY: the name is a C string or null, and the statement ends with a zero; connected while it runs.
    let done = unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() {
            return Ok(());
        }
        let name = CStr::from_ptr(pg_sys::quote_identifier(name)).to_bytes();
        let statement = [b"ALTER ROLE ", name, b" VALID UNTIL '", until.as_bytes(), b"'\0"].concat();
        Spi::connect(|_| pg_sys::SPI_execute(statement.as_ptr().cast(), false, 0))
    };
    if done == pg_sys::SPI_OK_UTILITY as i32 { Ok(()) } else { Err(Error::state("the role was not altered")) }
}

/// Makes what the running command did visible to what follows.
pub fn command_counter_increment() {
    // SAFETY: inside a transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
}
