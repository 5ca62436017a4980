//! A call of a function as a trigger.

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::pg_sys::NodeTag;

use crate::pg::call::{Call, Value};

/// What a trigger of a table was called for.
#[derive(Clone)]
pub struct Trigger {
    /// The table.
    pub table: pg_sys::Oid,
    /// Whether a row is about to be inserted.
    pub inserts: bool,
    /// The columns that an update changes: name, old and new value, as text.
    pub updated: Vec<[String; 3]>,
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
            let updates = event == pg_sys::TRIGGER_EVENT_UPDATE && !data.tg_newtuple.is_null();
            Some(Self {
                table: (*data.tg_relation).rd_id,
                inserts: event == pg_sys::TRIGGER_EVENT_INSERT,
                updated: if updates { differences(data) } else { Vec::new() },
                go_on: pg_sys::Datum::from(row),
            })
        }
    }
}

/// # Safety
/// The trigger fires for an updated row.
unsafe fn differences(data: &pg_sys::TriggerData) -> Vec<[String; 3]> {
    // SAFETY: by contract; columns count from 1, and what is returned is a palloc'd string or null.
    unsafe {
        let columns = (*data.tg_relation).rd_att;
        let text = |text: *mut core::ffi::c_char| match text.is_null() {
            true => String::new(),
            false => CStr::from_ptr(text).to_string_lossy().into_owned(),
        };
        (1..=(*columns).natts)
            .map(|column| {
                let value = |row| text(pg_sys::SPI_getvalue(row, columns, column));
                let name = text(pg_sys::SPI_fname(columns, column));
                [name, value(data.tg_trigtuple), value(data.tg_newtuple)]
            })
            .filter(|[_, old, new]| old != new)
            .collect()
    }
}
