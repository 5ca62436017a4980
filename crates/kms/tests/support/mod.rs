//! Services that tests run against: what is real, and a proxy for what goes wrong.
#![allow(dead_code)] // each test program uses a part of it

pub mod moto;
pub mod proxy;
