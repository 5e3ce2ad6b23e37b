//! Compiles the `.proto` files without a system `protoc`, or checks that this was done before.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    #[cfg(feature = "generate")]
    compile_services()?;
    #[cfg(feature = "messages")]
    compile_messages()?;
    #[cfg(not(feature = "messages"))]
    look_for_messages();
    Ok(())
}

/// Everything, with clients and servers, and the descriptors for the server's reflection.
#[cfg(feature = "generate")]
fn compile_services() -> Result<(), Box<dyn Error>> {
    let files = ["log", "ingest", "query", "admin", "model", "alert"]
        .map(|name| format!("logweir/v1/{name}.proto"));
    println!("cargo::rerun-if-changed=logweir");
    let public = protox::Compiler::new(["."])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(&files)?
        .encode_file_descriptor_set();
    std::fs::write(out_dir()?.join("descriptors.binpb"), public)?;
    let all = files.into_iter().chain(["logweir/queue/v1/envelope.proto".to_owned()]);
    tonic_prost_build::configure().compile_fds(protox::compile(all, ["."])?)?;
    Ok(())
}

/// What a client library needs, and packages carry.
#[cfg(feature = "messages")]
fn compile_messages() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=logweir");
    let messages = out_dir()?.join("messages");
    std::fs::create_dir_all(&messages)?;
    let files = ["logweir/v1/log.proto", "logweir/v1/ingest.proto"];
    prost_build::Config::new().out_dir(messages).compile_fds(protox::compile(files, ["."])?)?;
    Ok(())
}

#[cfg(feature = "messages")]
fn out_dir() -> Result<std::path::PathBuf, Box<dyn Error>> {
    Ok(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?.into())
}

#[cfg(not(feature = "messages"))]
fn look_for_messages() {
    const GENERATED: &str = "src/generated/logweir.v1.rs";
    println!("cargo::rerun-if-changed={GENERATED}");
    if !std::path::Path::new(GENERATED).exists() {
        println!(
            "cargo::error={GENERATED} is missing: run sdk-rust/package.sh once, which makes it"
        );
    }
}
