//! Has the linker set functions of ours before some of librdkafka's, in the programs of this package: see
//! `src/kafka/native/decompress.rs`.

/// The functions of librdkafka.
const WRAPPED: [&str; 6] = [
    "rd_gz_decompress",
    "rd_kafka_zstd_decompress",
    "rd_kafka_lz4_decompress",
    "rd_kafka_snappy_uncompressed_length",
    "rd_kafka_snappy_java_uncompress",
    "rd_kafka_buf_new_shadow",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    if is_linux && std::env::var_os("CARGO_FEATURE_KAFKA").is_some() {
        for function in WRAPPED {
            println!("cargo::rustc-link-arg-bins=-Wl,--wrap={function}");
        }
    }
}
