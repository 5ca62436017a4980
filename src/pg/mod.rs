//! The only home of unsafe beside hook.rs: PostgreSQL as safe functions. Knows no domain.
#![allow(unsafe_code)]

pub mod analyze;
pub mod call;
pub mod caller;
pub mod catalog;
pub mod comparands;
pub mod compat;
pub mod counters;
pub mod ddl;
pub mod definition;
pub mod delivery;
pub mod direct;
pub mod exports;
pub mod flow;
pub mod glance;
pub mod harmless;
pub mod helper;
pub mod label;
pub mod mailbox;
pub mod nodes;
pub mod partition;
pub mod plan;
pub mod query;
pub mod region;
pub mod relation;
pub mod report;
pub mod session;
pub mod slice;
pub mod statement;
pub mod stored_tree;
pub mod table;
pub mod trigger;
pub mod using;
pub mod walk;
pub mod walk_plan;
pub mod worker;
