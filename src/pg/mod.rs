//! The only home of unsafe beside hook.rs: PostgreSQL as safe functions. Knows no domain.
#![allow(unsafe_code)]

pub mod analyze;
pub mod call;
pub mod caller;
pub mod catalog;
pub mod comparands;
pub mod compat;
pub mod constants;
pub mod constraints;
pub mod counters;
pub mod ddl;
pub mod delivery;
pub mod exports;
pub mod flow;
pub mod functions;
pub mod glance;
pub mod harmless;
pub mod helper;
pub mod label;
pub mod mailbox;
pub mod mentions;
pub mod nodes;
pub mod operand;
pub mod partition;
pub mod plan;
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
