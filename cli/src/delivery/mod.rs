//! From records to acknowledged batches.
//!
//! `feed` takes what the reader reads; `batch` gathers records into batches of one service; a *group* of batches is what one step notes in
//! the `journal` before any of it is sent; `pipeline` sends groups in order, several batches in
//! flight, and forgets a group once all of it is acknowledged. Killed between any two steps, the next
//! run sends the noted batches again, byte for byte and under the same ids, so that the server knows
//! them.

pub mod batch;
pub mod feed;
pub mod journal;
pub mod pipeline;
