//! From bytes in files to acknowledged batches, once or for as long as the files grow.
//!
//! In the order in which a byte meets them: [`read`] finds files, cuts lines and has
//! [`logweir_parse`] join them; [`record`] makes a record of what that reads in a log; [`feed`]
//! gathers records into batches of one service; [`journal`] notes a *group* of batches before any of it is sent; [`deliver`] sends
//! groups in order, several batches in flight, and forgets a group once all of it is acknowledged.
//! [`registry`] keeps the journals of all runs, and with them what is known of every file;
//! [`pipeline`] runs all of it.
//!
//! Killed between any two steps, the next run sends the noted batches again, byte for byte and
//! under the same ids, so that the server knows them. Only [`read`], [`journal`] and [`registry`]
//! touch the disk.

pub mod deliver;
mod error;
pub mod event;
pub mod feed;
pub mod journal;
pub mod pipeline;
pub mod preview;
pub mod read;
pub mod record;
pub mod registry;

pub use self::{
    error::Error,
    event::Event,
    pipeline::{Control, Inputs, Notify, Shipment, Shipped},
};
