//! A call of a function as a trigger.

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::{Call, Value};

/// What a trigger of a table was called for.
#[derive(Clone, Copy)]
pub struct Trigger {
    /// The table.
    pub table: pg_sys::Oid,
    /// Whether a row is about to be inserted.
    pub inserts: bool,
    /// What lets the write go on as it is.
    pub go_on: Value,
}

impl Trigger {
    /// None where the function was not called as a trigger.
    pub fn of(call: &Call) -> Option<Self> {
        let context = call.context();
        // SAFETY: null or a valid node; the tag says what it is. Which rows there are depends on the event.
        unsafe {
            if context.is_null() || (*context).type_ != NodeTag::T_TriggerData {
                return None;
            }
            let data = &*context.cast::<pg_sys::TriggerData>();
            let event = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
            let row =
                if event == pg_sys::TRIGGER_EVENT_UPDATE { data.tg_newtuple } else { data.tg_trigtuple };
            Some(Self {
                table: (*data.tg_relation).rd_id,
                inserts: event == pg_sys::TRIGGER_EVENT_INSERT,
                go_on: pg_sys::Datum::from(row),
            })
        }
    }
}
