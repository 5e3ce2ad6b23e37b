//! Compiles the `.proto` files without a system `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["log", "ingest", "query", "admin", "model", "alert"]
        .map(|name| format!("logweir/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=logweir");
    let public = protox::compile(&files, ["."])?;
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out_dir.join("descriptors.binpb"), public.encode_to_vec())?;
    let all = files.into_iter().chain(["logweir/queue/v1/envelope.proto".to_owned()]);
    tonic_prost_build::configure().compile_fds(protox::compile(all, ["."])?)?;
    Ok(())
}
