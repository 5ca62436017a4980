//! The only home of unsafe beside hook.rs: PostgreSQL as safe functions. Knows no domain.
#![allow(unsafe_code)]

pub mod analyze;
pub mod call;
pub mod catalog;
pub mod compat;
pub mod counters;
pub mod ddl;
pub mod exports;
pub mod helper;
pub mod label;
pub mod mailbox;
pub mod query;
pub mod region;
pub mod relation;
pub mod report;
pub mod session;
pub mod slice;
pub mod statement;
pub mod table;
pub mod walk;
pub mod walk_plan;
pub mod worker;
