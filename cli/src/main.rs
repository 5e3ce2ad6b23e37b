//! The `logweir` binary. What it does stands in the library beside it.

use std::process::ExitCode;

// It gives back what it frees. Batches are made on one thread and dropped on another, and the
// system's allocator keeps what they once took in an arena for each thread.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    logweir::command::main()
}
