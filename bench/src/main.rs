//! The whole path, measured.
mod process;

fn main() {
    let _ = process::folder_bytes;
}
