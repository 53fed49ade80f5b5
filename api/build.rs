//! Compiles the protobuf files without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "objects", "control", "stream", "node", "dispatch", "ca", "raft", "backup",
    ]
    .map(|name| format!("proto/clusterd/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .skip_debug(["clusterd.v1.BlobData"])
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
