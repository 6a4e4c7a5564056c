//! Compiles the .proto files with protox, so that no protoc is needed, and leaves the encoded
//! descriptor set in OUT_DIR for gRPC reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let files = protox::compile(["ringway/v1/cache.proto"], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .boxed(".ringway.v1.Request.condition")
        .compile_fds(files)?;
    println!("cargo::rerun-if-changed=ringway");
    Ok(())
}
