//! Prints the code of the messages that a client library needs, as packages carry it.

fn main() {
    print!("{}", include_str!(concat!(env!("OUT_DIR"), "/messages/logweir.v1.rs")));
}
