//! Compiles `proto/*.proto` with protox, so that neither `protoc` nor generated files are needed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["remote.proto", "remote_v2.proto", "metrics.proto", "alertmanager.proto", "trace.proto"];
    for file in files {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
