//! The addresses of brokers to begin with, for a client that is there already.

use std::ffi::CString;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};

/// Adds brokers by their addresses, with commas between, where the client does not know them. Returns how many it did not know.
pub(in crate::kafka) fn add_brokers<C: ClientContext>(client: &Client<C>, addresses: &str) -> i32 {
    let Ok(addresses) = CString::new(addresses) else { return 0 };
    // SAFETY: the client is alive as long as `client` is, and the library copies the text.
    #[expect(unsafe_code, reason = "the library's safe interface takes addresses only as a client is made")]
    unsafe {
        native::rd_kafka_brokers_add(client.native_ptr(), addresses.as_ptr())
    }
}
